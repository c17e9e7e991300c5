"""The sandbox checks a TokenRequest by Ably's rules, in Ably's order, and answers TokenDetails."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgpack
import pytest
from sandbox_helpers import KEY, NAME, basic, bearer, call, code_of, issue, jwt_of, signed

from aiohttp_ably import ApiKey
from aiohttp_ably.sandbox import ManualClock, Sandbox

HOUR = 3_600_000
REVOCABLE = "app1.revocable:secret-of-the-revocable-key"
NARROW = "app1.narrow:secret-of-the-narrow-key"
NARROW_TEXT = '{ "room:*": ["subscribe", "publish"], "lobby":"subscribe" }'
PATH = f"/keys/{NAME}/requestToken"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    keys = {KEY: None, ApiKey(REVOCABLE, revocable=True): None, NARROW: NARROW_TEXT}
    async with Sandbox(keys, clock=ManualClock()) as sandbox:
        yield sandbox


async def test_a_token_request_becomes_a_token(sandbox: Sandbox) -> None:
    details = await issue(sandbox, ttl=60_000, clientId="alice", capability='{"b":["subscribe"],"a":["*"]}')
    assert re.fullmatch(r"app1\.[A-Za-z0-9_-]{64}", details.pop("token"))
    now = sandbox.clock.now()
    assert details == {
        "keyName": NAME,
        "issued": now,
        "expires": now + 60_000,
        "capability": '{"a":["*"],"b":["subscribe"]}',
        "clientId": "alice",
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"mac": "bm90IHRoZSBtYWM="}, (40101, 401), id="bad mac"),
        pytest.param({"mac": 7}, (40101, 401), id="mac is no text"),
        pytest.param({"mac": None}, (40101, 401), id="no mac and no credentials"),
        pytest.param({"keyName": "app1.other"}, (40001, 400), id="keyName of another key"),
        pytest.param({"keyName": ...}, (40001, 400), id="no keyName"),
        pytest.param({"timestamp": ...}, (40003, 400), id="no timestamp"),
        pytest.param({"timestamp": "soon"}, (40003, 400), id="timestamp is no number"),
        pytest.param({"nonce": "fifteen letters"}, (40003, 400), id="short nonce"),
        pytest.param({"nonce": ...}, (40003, 400), id="no nonce"),
        pytest.param({"ttl": -1}, (40003, 400), id="negative ttl"),
        pytest.param({"ttl": 24 * HOUR + 1}, (40003, 400), id="ttl over a day"),
        pytest.param({"ttl": "an hour"}, (40003, 400), id="ttl is no number"),
        pytest.param({"ttl": 1.5}, (40003, 400), id="fractional ttl"),
        pytest.param({"ttl": "1.5"}, (40003, 400), id="fractional ttl as text"),
        pytest.param({"ttl": True}, (40003, 400), id="boolean ttl"),
        pytest.param({"clientId": ""}, (40012, 400), id="empty clientId"),
        pytest.param({"clientId": 7}, (40012, 400), id="clientId is no text"),
        pytest.param({"capability": "channel"}, (40000, 400), id="capability is not JSON"),
        pytest.param({"capability": '["a"]'}, (40000, 400), id="capability is no object"),
        pytest.param({"capability": '{"a":[]}'}, (40000, 400), id="no operations"),
        pytest.param({"capability": '{"a":["fly"]}'}, (40000, 400), id="unknown operation"),
        pytest.param({"capability": '{"a":["*","publish"]}'}, (40000, 400), id="all and another"),
        pytest.param({"capability": "{}"}, (40160, 401), id="empty capability"),
    ],
)
async def test_a_broken_rule_has_its_code(
    sandbox: Sandbox, changes: dict[str, Any], expected: tuple[int, int]
) -> None:
    request = signed(sandbox, **changes)
    if "mac" in changes:
        request["mac"] = changes["mac"]
    assert await code_of(sandbox, "POST", PATH, request) == expected


@pytest.mark.parametrize("seconds", [-121, 121])
async def test_a_timestamp_over_two_minutes_off_is_refused(sandbox: Sandbox, seconds: int) -> None:
    request = signed(sandbox, timestamp=sandbox.clock.now() + seconds * 1000)
    assert await code_of(sandbox, "POST", PATH, request) == (40104, 401)


@pytest.mark.parametrize("seconds", [-120, 120])
async def test_a_timestamp_up_to_two_minutes_off_passes(sandbox: Sandbox, seconds: int) -> None:
    await issue(sandbox, timestamp=sandbox.clock.now() + seconds * 1000)


@pytest.mark.parametrize("path", ["/keys/app1.none/requestToken", "/keys/none.key/requestToken"])
async def test_a_key_that_does_not_exist_is_not_found(sandbox: Sandbox, path: str) -> None:
    assert await code_of(sandbox, "POST", path, signed(sandbox)) == (40400, 404)


async def test_a_ttl_over_an_hour_is_refused_on_a_revocable_key(sandbox: Sandbox) -> None:
    path = "/keys/app1.revocable/requestToken"
    await issue(sandbox, REVOCABLE, ttl=HOUR)
    request = signed(sandbox, REVOCABLE, ttl=HOUR + 1)
    assert await code_of(sandbox, "POST", path, request) == (40003, 400)


@pytest.mark.parametrize(
    ("ttl", "life"),
    [(..., HOUR), (None, HOUR), (0, HOUR), (1, 1), (100, 100), ("5000", 5000), (24 * HOUR,) * 2],
)
async def test_a_ttl_is_honoured_to_the_millisecond(sandbox: Sandbox, ttl: Any, life: int) -> None:
    details = await issue(sandbox, ttl=ttl)
    assert details["expires"] - details["issued"] == life


async def test_a_token_request_is_used_once(sandbox: Sandbox) -> None:
    request = signed(sandbox)
    assert (await call(sandbox, "POST", PATH, request))[0] == 201
    assert await code_of(sandbox, "POST", PATH, request) == (40105, 401)


async def test_a_nonce_may_return_with_another_timestamp(sandbox: Sandbox) -> None:
    await issue(sandbox, nonce="sixteen letters!")
    await issue(sandbox, nonce="sixteen letters!", timestamp=sandbox.clock.now() + 1)


async def test_a_refused_request_does_not_use_up_its_nonce(sandbox: Sandbox) -> None:
    request = signed(sandbox, ttl=-1, nonce="sixteen letters!")
    assert (await call(sandbox, "POST", PATH, request))[0] == 400
    await issue(sandbox, nonce="sixteen letters!")


async def test_a_timestamp_may_be_text(sandbox: Sandbox) -> None:
    await issue(sandbox, timestamp=str(sandbox.clock.now()))


async def test_a_wildcard_client_id_makes_a_wildcard_token(sandbox: Sandbox) -> None:
    assert (await issue(sandbox, clientId="*"))["clientId"] == "*"


async def test_no_client_id_makes_an_anonymous_token(sandbox: Sandbox) -> None:
    assert "clientId" not in await issue(sandbox)


async def test_without_a_capability_the_keys_own_text_is_told(sandbox: Sandbox) -> None:
    assert (await issue(sandbox, NARROW, capability=...))["capability"] == NARROW_TEXT


async def test_a_capability_is_narrowed_to_the_keys(sandbox: Sandbox) -> None:
    details = await issue(
        sandbox, NARROW, capability='{"room:1":["*"],"lobby":["publish","subscribe"],"x":"*"}'
    )
    assert details["capability"] == '{"lobby":["subscribe"],"room:1":["publish","subscribe"]}'


@pytest.mark.parametrize("asked", ['{"lobby":["publish"]}', '{"elsewhere":["subscribe"]}', '{"[meta]*":"*"}'])
async def test_a_capability_with_nothing_in_common_is_refused(sandbox: Sandbox, asked: str) -> None:
    request = signed(sandbox, NARROW, capability=asked)
    assert await code_of(sandbox, "POST", "/keys/app1.narrow/requestToken", request) == (40160, 401)


async def test_an_authorization_header_does_not_matter_beside_a_mac(sandbox: Sandbox) -> None:
    status, _ = await call(sandbox, "POST", PATH, signed(sandbox), {"Authorization": "Basic !"})
    assert status == 201


async def test_the_keys_own_credentials_stand_in_for_a_mac(sandbox: Sandbox) -> None:
    request = {"keyName": NAME, "timestamp": sandbox.clock.now()}
    status, details = await call(sandbox, "POST", PATH, request, basic())
    assert (status, details["capability"]) == (201, '{"*":["*"]}')
    assert await code_of(sandbox, "POST", PATH, request, basic(NARROW)) == (40101, 401)


async def test_a_token_gets_no_more_than_it_has(sandbox: Sandbox) -> None:
    headers = bearer(jwt_of(sandbox, {"room": "subscribe"}, client_id="alice"))
    request = {"keyName": NAME, "timestamp": sandbox.clock.now()}
    _, details = await call(sandbox, "POST", PATH, request, headers)
    assert (details["capability"], details["clientId"]) == ('{"room":["subscribe"]}', "alice")
    assert await code_of(sandbox, "POST", PATH, request | {"clientId": "bob"}, headers) == (40102, 401)


async def test_rules_are_checked_in_order(sandbox: Sandbox) -> None:
    """Each request breaks a rule and all later ones."""
    broken: dict[str, Any] = {"capability": '{"a":["fly"]}', "timestamp": 0, "nonce": "short"}
    steps = [
        (signed(sandbox, **broken) | {"mac": "x"}, 40101),
        (signed(sandbox, **broken, clientId="", ttl=-1), 40012),
        (signed(sandbox, **broken, ttl=-1), 40003),
        (signed(sandbox, **broken), 40000),
        (signed(sandbox, **broken | {"capability": '{"a":["*"]}'}), 40104),
        (signed(sandbox, nonce="short"), 40003),
    ]
    assert [(await code_of(sandbox, "POST", PATH, request))[0] for request, _ in steps] == [
        code for _, code in steps
    ]


async def test_msgpack_is_answered_with_msgpack_and_errors_with_json(sandbox: Sandbox) -> None:
    headers = {"Content-Type": "application/x-msgpack", "Accept": "application/x-msgpack"}
    request = signed(sandbox, ttl=60_000)
    # JavaScript tells large numbers as floats.
    packed = msgpack.packb(request | {"timestamp": float(request["timestamp"])})
    async with aiohttp.ClientSession() as client:
        async with client.post(sandbox.url + PATH, data=packed, headers=headers) as response:
            assert (response.status, response.headers["Content-Type"]) == (201, "application/x-msgpack")
            assert msgpack.unpackb(await response.read())["keyName"] == NAME
        async with client.post(sandbox.url + PATH, data=packed, headers=headers) as response:
            assert response.headers["Content-Type"] == "application/json"
            assert json.loads(await response.read())["error"]["code"] == 40105


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a":1,"a":2}', b"\xff"])
async def test_a_body_that_is_no_object_is_malformed(sandbox: Sandbox, body: bytes) -> None:
    async with (
        aiohttp.ClientSession() as client,
        client.post(sandbox.url + PATH, data=body) as response,
    ):
        assert (response.status, (await response.json())["error"]["code"]) == (400, 40000)


async def test_what_was_issued_can_be_looked_at(sandbox: Sandbox) -> None:
    details = await issue(sandbox, clientId="alice")
    issued = sandbox.token_requests[-1]
    assert issued.request["clientId"] == issued.details["clientId"] == "alice"
    assert details["token"] not in repr(sandbox.token_requests) + repr(list(sandbox.events))
