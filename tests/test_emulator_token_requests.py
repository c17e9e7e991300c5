"""The emulator checks TokenRequests by Ably's rules and in Ably's order, and responds with TokenDetails."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgpack
import pytest
from emulator_helpers import (
    KEY,
    NAME,
    NARROW_KEY,
    REVOCABLE_KEY,
    basic,
    bearer,
    call,
    code_of,
    issue,
    jwt_of,
    signed,
)

from aiohttp_ably import ApiKey
from aiohttp_ably.emulator import Emulator, ManualClock

HOUR = 3_600_000
NARROW_TEXT = '{ "room:*": ["subscribe", "publish"], "lobby":"subscribe" }'
PATH = f"/keys/{NAME}/requestToken"


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    keys = {KEY: None, ApiKey(REVOCABLE_KEY, revocable=True): None, NARROW_KEY: NARROW_TEXT}
    async with Emulator(keys, clock=ManualClock()) as emulator:
        yield emulator


async def test_a_token_request_is_answered_with_token_details(emulator: Emulator) -> None:
    details = await issue(emulator, ttl=60_000, clientId="alice", capability='{"b":["subscribe"],"a":["*"]}')
    assert re.fullmatch(r"app1\.[A-Za-z0-9_-]{64}", details.pop("token"))
    now = emulator.clock.now()
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
        pytest.param({"mac": 7}, (40101, 401), id="mac is not a string"),
        pytest.param({"mac": None}, (40101, 401), id="no mac and no credentials"),
        pytest.param({"keyName": "app1.other"}, (40001, 400), id="keyName of another key"),
        pytest.param({"keyName": ...}, (40001, 400), id="no keyName"),
        pytest.param({"timestamp": ...}, (40003, 400), id="no timestamp"),
        pytest.param({"timestamp": "soon"}, (40003, 400), id="timestamp is not a number"),
        pytest.param({"nonce": "fifteen letters"}, (40003, 400), id="short nonce"),
        pytest.param({"nonce": ...}, (40003, 400), id="no nonce"),
        pytest.param({"ttl": -1}, (40003, 400), id="negative ttl"),
        pytest.param({"ttl": 24 * HOUR + 1}, (40003, 400), id="ttl over a day"),
        pytest.param({"ttl": "an hour"}, (40003, 400), id="ttl is not a number"),
        pytest.param({"ttl": 1.5}, (40003, 400), id="fractional ttl"),
        pytest.param({"ttl": "1.5"}, (40003, 400), id="fractional ttl as a string"),
        pytest.param({"ttl": True}, (40003, 400), id="boolean ttl"),
        pytest.param({"clientId": ""}, (40012, 400), id="empty clientId"),
        pytest.param({"clientId": 7}, (40012, 400), id="clientId is not a string"),
        pytest.param({"capability": "channel"}, (40000, 400), id="capability is not JSON"),
        pytest.param({"capability": '["a"]'}, (40000, 400), id="capability is not an object"),
        pytest.param({"capability": '{"a":[]}'}, (40000, 400), id="no operations"),
        pytest.param({"capability": '{"a":["fly"]}'}, (40000, 400), id="unknown operation"),
        pytest.param({"capability": '{"a":["*","publish"]}'}, (40000, 400), id="all and another"),
        pytest.param({"capability": "{}"}, (40160, 401), id="empty capability"),
    ],
)
async def test_each_broken_rule_has_its_code(
    emulator: Emulator, changes: dict[str, Any], expected: tuple[int, int]
) -> None:
    request = signed(emulator, **changes)
    if "mac" in changes:
        request["mac"] = changes["mac"]
    assert await code_of(emulator, "POST", PATH, request) == expected


@pytest.mark.parametrize("seconds", [-121, 121])
async def test_a_timestamp_over_two_minutes_off_is_refused(emulator: Emulator, seconds: int) -> None:
    request = signed(emulator, timestamp=emulator.clock.now() + seconds * 1000)
    assert await code_of(emulator, "POST", PATH, request) == (40104, 401)


@pytest.mark.parametrize("seconds", [-120, 120])
async def test_a_timestamp_up_to_two_minutes_off_is_accepted(emulator: Emulator, seconds: int) -> None:
    await issue(emulator, timestamp=emulator.clock.now() + seconds * 1000)


@pytest.mark.parametrize("path", ["/keys/app1.none/requestToken", "/keys/none.key/requestToken"])
async def test_a_key_that_does_not_exist_is_not_found(emulator: Emulator, path: str) -> None:
    assert await code_of(emulator, "POST", path, signed(emulator)) == (40400, 404)


async def test_a_ttl_over_an_hour_is_refused_on_a_revocable_key(emulator: Emulator) -> None:
    path = "/keys/app1.revocable/requestToken"
    await issue(emulator, REVOCABLE_KEY, ttl=HOUR)
    request = signed(emulator, REVOCABLE_KEY, ttl=HOUR + 1)
    assert await code_of(emulator, "POST", path, request) == (40003, 400)


@pytest.mark.parametrize(
    ("ttl", "life"),
    [(..., HOUR), (None, HOUR), (0, HOUR), (1, 1), (100, 100), ("5000", 5000), (24 * HOUR,) * 2],
)
async def test_a_token_lives_for_its_ttl(emulator: Emulator, ttl: Any, life: int) -> None:
    details = await issue(emulator, ttl=ttl)
    assert details["expires"] - details["issued"] == life


async def test_a_token_request_is_used_once(emulator: Emulator) -> None:
    request = signed(emulator)
    assert (await call(emulator, "POST", PATH, request))[0] == 201
    assert await code_of(emulator, "POST", PATH, request) == (40105, 401)


async def test_a_nonce_can_be_used_again_with_another_timestamp(emulator: Emulator) -> None:
    await issue(emulator, nonce="sixteen letters!")
    await issue(emulator, nonce="sixteen letters!", timestamp=emulator.clock.now() + 1)


async def test_a_refused_request_does_not_use_up_its_nonce(emulator: Emulator) -> None:
    request = signed(emulator, ttl=-1, nonce="sixteen letters!")
    assert (await call(emulator, "POST", PATH, request))[0] == 400
    await issue(emulator, nonce="sixteen letters!")


async def test_a_timestamp_can_be_a_string(emulator: Emulator) -> None:
    await issue(emulator, timestamp=str(emulator.clock.now()))


async def test_a_wildcard_client_id_gives_a_wildcard_token(emulator: Emulator) -> None:
    assert (await issue(emulator, clientId="*"))["clientId"] == "*"


async def test_no_client_id_gives_an_anonymous_token(emulator: Emulator) -> None:
    assert "clientId" not in await issue(emulator)


async def test_without_a_capability_the_details_have_that_of_the_key_unchanged(emulator: Emulator) -> None:
    assert (await issue(emulator, NARROW_KEY, capability=...))["capability"] == NARROW_TEXT


async def test_a_capability_is_limited_to_that_of_the_key(emulator: Emulator) -> None:
    details = await issue(
        emulator, NARROW_KEY, capability='{"room:1":["*"],"lobby":["publish","subscribe"],"x":"*"}'
    )
    assert details["capability"] == '{"lobby":["subscribe"],"room:1":["publish","subscribe"]}'


@pytest.mark.parametrize(
    "requested", ['{"lobby":["publish"]}', '{"elsewhere":["subscribe"]}', '{"[meta]*":"*"}']
)
async def test_a_capability_with_nothing_in_common_is_refused(emulator: Emulator, requested: str) -> None:
    request = signed(emulator, NARROW_KEY, capability=requested)
    assert await code_of(emulator, "POST", "/keys/app1.narrow/requestToken", request) == (40160, 401)


async def test_an_authorization_header_is_ignored_with_a_mac(emulator: Emulator) -> None:
    status, _ = await call(emulator, "POST", PATH, signed(emulator), {"Authorization": "Basic !"})
    assert status == 201


async def test_credentials_of_the_key_replace_a_mac(emulator: Emulator) -> None:
    request = {"keyName": NAME, "timestamp": emulator.clock.now()}
    status, details = await call(emulator, "POST", PATH, request, basic())
    assert (status, details["capability"]) == (201, '{"*":["*"]}')
    assert await code_of(emulator, "POST", PATH, request, basic(NARROW_KEY)) == (40101, 401)


async def test_a_token_requested_with_a_token_has_no_more_rights(emulator: Emulator) -> None:
    headers = bearer(jwt_of(emulator, {"room": "subscribe"}, client_id="alice"))
    request = {"keyName": NAME, "timestamp": emulator.clock.now()}
    _, details = await call(emulator, "POST", PATH, request, headers)
    assert (details["capability"], details["clientId"]) == ('{"room":["subscribe"]}', "alice")
    assert await code_of(emulator, "POST", PATH, request | {"clientId": "bob"}, headers) == (40102, 401)


async def test_rules_are_checked_in_order(emulator: Emulator) -> None:
    """Each request breaks one rule and all later rules."""
    broken: dict[str, Any] = {"capability": '{"a":["fly"]}', "timestamp": 0, "nonce": "short"}
    steps = [
        (signed(emulator, **broken) | {"mac": "x"}, 40101),
        (signed(emulator, **broken, clientId="", ttl=-1), 40012),
        (signed(emulator, **broken, ttl=-1), 40003),
        (signed(emulator, **broken), 40000),
        (signed(emulator, **broken | {"capability": '{"a":["*"]}'}), 40104),
        (signed(emulator, nonce="short"), 40003),
    ]
    assert [(await code_of(emulator, "POST", PATH, request))[0] for request, _ in steps] == [
        code for _, code in steps
    ]


async def test_msgpack_is_answered_with_msgpack_and_errors_with_json(emulator: Emulator) -> None:
    headers = {"Content-Type": "application/x-msgpack", "Accept": "application/x-msgpack"}
    request = signed(emulator, ttl=60_000)
    # JavaScript packs large numbers as floats.
    packed = msgpack.packb(request | {"timestamp": float(request["timestamp"])})
    async with aiohttp.ClientSession() as client:
        async with client.post(emulator.url + PATH, data=packed, headers=headers) as response:
            assert (response.status, response.headers["Content-Type"]) == (201, "application/x-msgpack")
            assert msgpack.unpackb(await response.read())["keyName"] == NAME
        async with client.post(emulator.url + PATH, data=packed, headers=headers) as response:
            assert response.headers["Content-Type"] == "application/json"
            assert json.loads(await response.read())["error"]["code"] == 40105


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a":1,"a":2}', b"\xff"])
async def test_a_body_that_is_not_an_object_is_malformed(emulator: Emulator, body: bytes) -> None:
    async with (
        aiohttp.ClientSession() as client,
        client.post(emulator.url + PATH, data=body) as response,
    ):
        assert (response.status, (await response.json())["error"]["code"]) == (400, 40000)


async def test_issued_tokens_are_recorded_without_the_token(emulator: Emulator) -> None:
    details = await issue(emulator, clientId="alice")
    issued = emulator.token_requests[-1]
    assert issued.request["clientId"] == issued.details["clientId"] == "alice"
    assert details["token"] not in repr(emulator.token_requests) + repr(list(emulator.events))
