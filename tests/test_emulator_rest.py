"""The REST interface of the emulator: routes, formats, pages, CORS, and apps for test runs."""

import base64
import re
from typing import Any

import aiohttp
import msgpack
import pytest
from emulator_helpers import KEY, basic, bearer, call, code_of, connected, issue, jwt_of
from yarl import URL

from aiohttp_ably.emulator import Emulator, ManualClock
from aiohttp_ably.emulator.wire import Action

PATH = "/channels/room/messages"


async def test_time_is_that_of_the_clock(emulator: Emulator) -> None:
    assert await call(emulator, "GET", "/time") == (200, [emulator.clock.now()])


async def test_the_connectivity_check_succeeds(emulator: Emulator) -> None:
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{emulator.url}/is-the-internet-up.txt") as response,
    ):
        assert await response.text() == "yes"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nothing"),
        ("POST", "/time"),
        ("GET", "/channels"),
        ("PUT", PATH),
        ("GET", "/apps"),
    ],
)
async def test_an_unknown_route_is_not_found(emulator: Emulator, method: str, path: str) -> None:
    assert await code_of(emulator, method, path) == (40400, 404)


async def test_an_error_is_also_in_headers(emulator: Emulator) -> None:
    async with aiohttp.ClientSession() as client, client.get(emulator.url + PATH) as response:
        assert response.headers["Content-Type"] == "application/json"
        error = (await response.json())["error"]
        assert response.headers["X-Ably-ErrorCode"] == str(error["code"]) == "40101"
        assert response.headers["X-Ably-ErrorMessage"] == error["message"]
        assert error["href"] == "https://help.ably.io/error/40101"


async def test_a_page_of_another_origin_can_read_responses(emulator: Emulator) -> None:
    async with aiohttp.ClientSession() as client:
        for path in ("/time", PATH, "/nothing"):
            async with client.get(emulator.url + path, headers={"Origin": "http://page.example"}) as response:
                headers = response.headers
                assert headers["Access-Control-Allow-Origin"] == "http://page.example"
                assert headers["Access-Control-Allow-Credentials"] == "true"
                assert headers["Vary"] == "Origin"
                exposed = headers["Access-Control-Expose-Headers"]
                assert exposed == "Link,X-Ably-ErrorCode,X-Ably-ErrorMessage"
        requested = {
            "Origin": "http://page.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "ably-agent,authorization,x-ably-version",
        }
        async with client.options(emulator.url + PATH, headers=requested) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == "http://page.example"
            assert (
                response.headers["Access-Control-Allow-Headers"]
                == requested["Access-Control-Request-Headers"]
            )
            assert "POST" in response.headers["Access-Control-Allow-Methods"]
            assert int(response.headers["Access-Control-Max-Age"]) > 0


async def test_one_message_or_a_list_is_published(emulator: Emulator) -> None:
    status, one = await call(emulator, "POST", PATH, {"name": "a", "data": "x"}, basic())
    assert (status, one["channel"], len(one["serials"])) == (201, "room", 1)
    _, two = await call(emulator, "POST", PATH, [{"name": "b"}, {"name": "c", "data": {"k": [1]}}], basic())
    _, messages = await call(emulator, "GET", PATH, headers=basic())
    assert [message["name"] for message in messages] == ["c", "b", "a"]
    assert [message["serial"] for message in messages] == [*reversed(two["serials"]), *one["serials"]]
    assert messages[0] | {"data": '{"k":[1]}', "encoding": "json"} == messages[0]
    assert {message["timestamp"] for message in messages} == {emulator.clock.now()}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([], 40000),
        ("text", 40000),
        ({"name": 7}, 40000),
        ({"extras": "x"}, 40000),
        ({"extras": {"n": 2**70}}, 40000),
        ({"name": "\ud800"}, 40000),
        ({"data": "x" * 65_537}, 40009),
        ([{"data": "x" * 40_000}, {"data": "x" * 40_000}], 40009),
    ],
    ids=str,
)
async def test_malformed_messages_are_refused(emulator: Emulator, body: Any, code: int) -> None:
    assert await code_of(emulator, "POST", PATH, body, basic()) == (code, 400)
    assert (await call(emulator, "GET", PATH, headers=basic()))[1] == []


@pytest.mark.parametrize("name", ["%3Aa", "%5Bmeta%5Da", "a%0Ab"])
async def test_an_invalid_channel_name_is_refused(emulator: Emulator, name: str) -> None:
    assert await code_of(emulator, "POST", f"/channels/{name}/messages", {}, basic()) == (40010, 400)


async def test_a_channel_name_is_one_encoded_segment_of_the_path(emulator: Emulator) -> None:
    path = "/channels/a%2Fb%3Fc%25:%C3%A9/messages"
    async with aiohttp.ClientSession() as client:
        url = URL(emulator.url + path, encoded=True)
        async with client.post(url, json={"name": "n"}, headers=basic()) as response:
            assert (await response.json())["channel"] == "a/b?c%:é"


async def test_messages_with_known_ids_are_not_delivered_again(emulator: Emulator) -> None:
    messages = [{"id": "x:0", "name": "a"}, {"id": "x:1", "name": "b"}]
    async with connected(emulator, key=KEY) as peer:
        await peer.attach("room")
        _, first = await call(emulator, "POST", PATH, messages, basic())
        _, again = await call(emulator, "POST", PATH, messages, basic())
        assert again == first
        delivered = await peer.expect(Action.MESSAGE)
        assert [message["id"] for message in delivered["messages"]] == ["x:0", "x:1"]
        assert await peer.is_quiet()
    assert len((await call(emulator, "GET", PATH, headers=basic()))[1]) == 2


async def test_bytes_are_published_and_read_in_both_formats(emulator: Emulator) -> None:
    packed = {"Content-Type": "application/x-msgpack", "Accept": "application/x-msgpack"} | basic()
    data = b"\x00\xffbytes"
    async with aiohttp.ClientSession() as client:
        # ably-python packs bytes as strings, as in the old msgpack specification.
        for body in (msgpack.packb({"data": data}), msgpack.packb({"data": data}, use_bin_type=False)):
            async with client.post(emulator.url + PATH, data=body, headers=packed) as response:
                assert response.status == 201
        async with client.get(emulator.url + PATH, headers=packed) as response:
            messages = msgpack.unpackb(await response.read())
            assert [message["data"] for message in messages] == [data, data]
    _, messages = await call(emulator, "GET", PATH, headers=basic())
    assert [base64.b64decode(message["data"]) for message in messages] == [data, data]
    assert {message["encoding"] for message in messages} == {"base64"}


@pytest.mark.parametrize(
    "message", [{"extras": {"k": b"bytes"}}, {"data": {"k": b"bytes"}}, {"data": [float("nan")]}], ids=str
)
async def test_values_that_json_cannot_represent_are_refused(emulator: Emulator, message: Any) -> None:
    headers = {"Content-Type": "application/x-msgpack"} | basic()
    async with (
        aiohttp.ClientSession() as client,
        client.post(emulator.url + PATH, data=msgpack.packb(message), headers=headers) as response,
    ):
        assert (response.status, (await response.json())["error"]["code"]) == (400, 40000)


def links(response: aiohttp.ClientResponse) -> dict[str, str]:
    found = [
        re.fullmatch(r'<\./(\w+\?[^,>]+)>; rel="(\w+)"', link) for link in response.headers.getall("Link")
    ]
    return {match[2]: match[1] for match in found if match}


@pytest.mark.parametrize("path", [PATH, "/channels/room/history"])
@pytest.mark.parametrize("direction", ["backwards", "forwards"])
async def test_history_comes_in_pages(emulator: Emulator, path: str, direction: str) -> None:
    await call(emulator, "POST", PATH, [{"name": str(number)} for number in range(5)], basic())
    seen: list[list[str]] = []
    async with aiohttp.ClientSession(headers=basic()) as client:
        target = f"{path}?limit=2&direction={direction}"
        while True:
            async with client.get(emulator.url + target) as response:
                seen.append([message["name"] for message in await response.json()])
                found = links(response)
            if "next" not in found:
                break
            target = f"{path.rpartition('/')[0]}/{found['next']}"
        assert set(found) == {"first", "current"}
        async with client.get(f"{emulator.url}{path.rpartition('/')[0]}/{found['first']}") as response:
            assert [message["name"] for message in await response.json()] == seen[0]
    expected = (
        [["4", "3"], ["2", "1"], ["0"]] if direction == "backwards" else [["0", "1"], ["2", "3"], ["4"]]
    )
    assert seen == expected


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "start=2&end=1", "direction=up", "start=yesterday"]
)
async def test_malformed_history_parameters_are_refused(emulator: Emulator, query: str) -> None:
    assert await code_of(emulator, "GET", f"{PATH}?{query}", headers=basic()) == (40003, 400)


async def test_history_is_limited_by_time_and_serial(emulator: Emulator) -> None:
    assert isinstance(emulator.clock, ManualClock)
    serials, times = [], []
    for name in "abc":
        await emulator.clock.advance(1)
        times.append(emulator.clock.now())
        _, answer = await call(emulator, "POST", PATH, {"name": name}, basic())
        serials.append(answer["serials"][0].rpartition(":")[0])
    for query, expected in [
        (f"start={times[1]}", "cb"),
        (f"end={times[1]}", "ba"),
        (f"start={times[1]}&end={times[1]}", "b"),
        (f"from_serial={serials[1]}", "ba"),
    ]:
        _, messages = await call(emulator, "GET", f"{PATH}?{query}", headers=basic())
        assert "".join(message["name"] for message in messages) == expected


async def test_messages_are_removed_after_two_minutes(emulator: Emulator) -> None:
    assert isinstance(emulator.clock, ManualClock)
    await call(emulator, "POST", PATH, {"name": "a"}, basic())
    await emulator.clock.advance(119)
    assert len((await call(emulator, "GET", PATH, headers=basic()))[1]) == 1
    await emulator.clock.advance(1)
    assert (await call(emulator, "GET", PATH, headers=basic()))[1] == []


async def test_presence_is_listed(emulator: Emulator) -> None:
    async with connected(emulator, key=KEY) as peer:
        await peer.attach("room")
        for serial, name in enumerate(("alice", "bob")):
            members = [{"action": 2, "clientId": name, "data": f"of {name}"}]
            await peer.send(Action.PRESENCE, channel="room", msgSerial=serial, presence=members)
            await peer.expect(Action.PRESENCE)
            await peer.expect(Action.ACK)
        path = "/channels/room/presence"
        _, members = await call(emulator, "GET", path, headers=basic())
        assert {(one["clientId"], one["data"], one["action"]) for one in members} == {
            ("alice", "of alice", 1),
            ("bob", "of bob", 1),
        }
        _, members = await call(emulator, "GET", f"{path}?clientId=bob", headers=basic())
        assert [one["clientId"] for one in members] == ["bob"]
        _, members = await call(emulator, "GET", f"{path}?connectionId=none", headers=basic())
        assert members == []
        async with aiohttp.ClientSession(headers=basic()) as client:
            async with client.get(f"{emulator.url}{path}?limit=1") as response:
                [first], following = await response.json(), links(response)["next"]
            async with client.get(f"{emulator.url}/channels/room/{following}") as response:
                [second] = await response.json()
        assert {first["clientId"], second["clientId"]} == {"alice", "bob"}


async def test_the_status_of_a_channel_has_its_occupancy(emulator: Emulator) -> None:
    async with connected(emulator, {"room": ["subscribe"]}) as one, connected(emulator) as two:
        await one.attach("room")
        await two.attach("room")
        _, details = await call(emulator, "GET", "/channels/room", headers=basic())
    assert details == {
        "channelId": "room",
        "status": {
            "isActive": True,
            "occupancy": {
                "metrics": {
                    "connections": 2,
                    "publishers": 1,
                    "subscribers": 2,
                    "presenceConnections": 1,
                    "presenceSubscribers": 2,
                    "presenceMembers": 0,
                }
            },
        },
    }


async def test_stats_require_an_operation_on_all_resources(emulator: Emulator) -> None:
    for capability, allowed in [
        ({"*": ["stats"]}, True),
        ({"[*]*": ["*"]}, True),
        ({"room": ["stats"]}, False),
    ]:
        emulator.add_key("app1.stats:secret", capability)
        headers = basic("app1.stats:secret")
        if allowed:
            assert await call(emulator, "GET", "/stats", headers=headers) == (200, [])
        else:
            assert await code_of(emulator, "GET", "/stats", headers=headers) == (40160, 401)
    assert (await call(emulator, "POST", "/stats", [], basic()))[0] == 201


class TestApps:
    """Apps that a test suite creates."""

    async def test_an_app_is_created_with_keys_and_members(self, emulator: Emulator) -> None:
        spec = {
            "keys": [{}, {"capability": '{ "a":["publish"] }'}, {"revocableTokens": True}],
            "namespaces": [{"id": "persisted", "persisted": True}],
            "channels": [{"name": "persisted:p", "presence": [{"clientId": "alice", "data": "true"}]}],
        }
        status, app = await call(emulator, "POST", "/apps", spec)
        assert status == 201
        assert app["namespaces"] == spec["namespaces"]
        assert (app["endpoint"], app["port"], app["tls"]) == (emulator.host, emulator.port, False)
        assert [key["capability"] for key in app["keys"]] == [
            '{"*":["*"]}',
            '{ "a":["publish"] }',
            '{"*":["*"]}',
        ]
        assert [key["revocableTokens"] for key in app["keys"]] == [False, False, True]
        key = app["keys"][0]
        assert key["keyName"] == f"{app['appId']}.{key['id']}"
        assert key["keyStr"] == f"{key['keyName']}:{key['keySecret']}"
        assert key["value"] == key["keySecret"]
        _, members = await call(
            emulator, "GET", "/channels/persisted:p/presence", headers=basic(key["keyStr"])
        )
        assert [(one["clientId"], one["data"]) for one in members] == [("alice", "true")]

    async def test_deleting_an_app_ends_its_connections_and_tokens(self, emulator: Emulator) -> None:
        _, app = await call(emulator, "POST", "/apps", {"keys": [{}]})
        key = app["keys"][0]["keyStr"]
        token = (await issue(emulator, key))["token"]
        async with connected(emulator, key=key) as peer, connected(emulator, key=KEY) as other:
            assert await call(emulator, "DELETE", f"/apps/{app['appId']}", headers=basic(key)) == (204, None)
            assert (await peer.expect(Action.ERROR))["error"]["code"] == 40400
            assert await peer.is_closed()
            assert await other.is_quiet()
        assert await code_of(emulator, "GET", PATH, headers=basic(key)) == (40101, 401)
        assert await code_of(emulator, "GET", PATH, headers=bearer(token)) == (40101, 401)

    async def test_an_app_is_only_deleted_with_its_own_key(self, emulator: Emulator) -> None:
        _, app = await call(emulator, "POST", "/apps", {})
        path = f"/apps/{app['appId']}"
        token = jwt_of(emulator, {"*": "*"}, key=app["keys"][0]["keyStr"])
        assert await code_of(emulator, "DELETE", path, headers=basic()) == (40101, 401)
        assert await code_of(emulator, "DELETE", path, headers=bearer(token)) == (40101, 401)

    @pytest.mark.parametrize(
        "spec",
        [[], {"keys": {}}, {"keys": [1]}, {"keys": [{"capability": "x"}]}, {"channels": [{"presence": [1]}]}],
        ids=str,
    )
    async def test_a_malformed_app_is_not_created(self, emulator: Emulator, spec: Any) -> None:
        assert (await code_of(emulator, "POST", "/apps", spec))[1] == 400
        assert list(emulator.apps) == ["app1"]
