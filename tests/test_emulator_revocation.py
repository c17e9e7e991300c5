"""Revocation of tokens: its rules, its response, and its effect on connections."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from emulator_helpers import (
    KEY,
    REVOCABLE_KEY,
    basic,
    bearer,
    call,
    code_of,
    connected,
    issue,
    jwt_of,
    opened,
)

from aiohttp_ably import ApiKey
from aiohttp_ably.emulator import Emulator, ManualClock
from aiohttp_ably.emulator.wire import Action

PATH = "/keys/app1.revocable/revokeTokens"
MESSAGES = "/channels/room/messages"
ALICE = {"targets": ["clientId:alice"]}
HOUR = 3_600_000


@pytest.fixture
async def emulator(clock: ManualClock) -> AsyncIterator[Emulator]:
    async with Emulator([ApiKey(REVOCABLE_KEY, revocable=True), ApiKey(KEY)], clock=clock) as emulator:
        yield emulator


async def is_revoked(emulator: Emulator, token: str) -> bool:
    status, answer = await call(emulator, "GET", MESSAGES, headers=bearer(token))
    if status == 200:
        return False
    assert (answer["error"]["code"], status) == (40141, 401)
    return True


async def test_tokens_of_a_client_are_revoked(emulator: Emulator, clock: ManualClock) -> None:
    alice, bob = [(await issue(emulator, REVOCABLE_KEY, clientId=name))["token"] for name in ("alice", "bob")]
    status, answer = await call(emulator, "POST", PATH, ALICE, basic(REVOCABLE_KEY))
    now = clock.now()
    assert status == 201
    assert answer == {
        "successCount": 1,
        "failureCount": 0,
        "results": [{"target": "clientId:alice", "issuedBefore": now, "appliesAt": now}],
    }
    assert await is_revoked(emulator, alice)
    assert not await is_revoked(emulator, bob)
    await clock.advance(0.001)
    assert not await is_revoked(emulator, (await issue(emulator, REVOCABLE_KEY, clientId="alice"))["token"])


async def test_a_target_is_a_client_id_a_revocation_key_or_a_channel(emulator: Emulator) -> None:
    tokens = {
        "clientId:alice": jwt_of(emulator, {"*": "*"}, key=REVOCABLE_KEY, client_id="alice"),
        "revocationKey:group": jwt_of(emulator, {"*": "*"}, key=REVOCABLE_KEY, revocation_key="group"),
        "channel:room:*": jwt_of(emulator, {"room:*": "*", "room": "*"}, key=REVOCABLE_KEY),
        "none": jwt_of(emulator, {"room:1": "*", "room": "*"}, key=REVOCABLE_KEY),
    }
    for target in tokens:
        if target != "none":
            await call(emulator, "POST", PATH, {"targets": [target]}, basic(REVOCABLE_KEY))
        revoked = [name for name, token in tokens.items() if await is_revoked(emulator, token)]
        expected = list(tokens) if target == "none" else list(tokens)[: list(tokens).index(target) + 1]
        assert revoked == [name for name in expected if name != "none"]


async def test_only_tokens_issued_before_issued_before_are_revoked(
    emulator: Emulator, clock: ManualClock
) -> None:
    old = (await issue(emulator, REVOCABLE_KEY, clientId="alice"))["token"]
    before = clock.now()
    await clock.advance(60)
    new = (await issue(emulator, REVOCABLE_KEY, clientId="alice"))["token"]
    _, answer = await call(emulator, "POST", PATH, ALICE | {"issuedBefore": before}, basic(REVOCABLE_KEY))
    assert answer["results"][0]["issuedBefore"] == before
    assert await is_revoked(emulator, old)
    assert not await is_revoked(emulator, new)


async def test_a_malformed_target_does_not_fail_the_others(emulator: Emulator) -> None:
    token = (await issue(emulator, REVOCABLE_KEY, clientId="alice"))["token"]
    targets = ["nonsense:x", "clientId:alice", "clientId:", 7]
    status, answer = await call(emulator, "POST", PATH, {"targets": targets}, basic(REVOCABLE_KEY))
    assert (status, answer["successCount"], answer["failureCount"]) == (201, 1, 3)
    assert [result["target"] for result in answer["results"]] == targets
    assert [result.get("error", {}).get("statusCode") for result in answer["results"]] == [
        400,
        None,
        400,
        400,
    ]
    assert await is_revoked(emulator, token)


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        pytest.param(ALICE, basic(KEY), (40133, 401), id="another key"),
        pytest.param({"targets": []}, basic(REVOCABLE_KEY), (40003, 400), id="no targets"),
        pytest.param({}, basic(REVOCABLE_KEY), (40003, 400), id="no list"),
        pytest.param([], basic(REVOCABLE_KEY), (40003, 400), id="no object"),
        pytest.param({"targets": ["clientId:a"] * 101}, basic(REVOCABLE_KEY), (40003, 400), id="101 targets"),
        pytest.param(
            ALICE | {"issuedBefore": "now"}, basic(REVOCABLE_KEY), (40003, 400), id="issuedBefore no number"
        ),
    ],
)
async def test_a_malformed_revocation_is_refused(
    emulator: Emulator, body: Any, headers: dict[str, str], expected: tuple[int, int]
) -> None:
    assert await code_of(emulator, "POST", PATH, body, headers) == expected


@pytest.mark.parametrize("offset", [1, -HOUR - 1])
async def test_issued_before_must_be_within_the_last_hour(
    emulator: Emulator, clock: ManualClock, offset: int
) -> None:
    body = ALICE | {"issuedBefore": clock.now() + offset}
    assert await code_of(emulator, "POST", PATH, body, basic(REVOCABLE_KEY)) == (40003, 400)


async def test_a_token_cannot_revoke_tokens(emulator: Emulator) -> None:
    headers = bearer(jwt_of(emulator, {"*": "*"}, key=REVOCABLE_KEY))
    assert await code_of(emulator, "POST", PATH, ALICE, headers) == (40162, 401)


async def test_tokens_of_a_key_that_is_not_revocable_cannot_be_revoked(emulator: Emulator) -> None:
    path = "/keys/app1.key1/revokeTokens"
    assert await code_of(emulator, "POST", path, ALICE, basic(KEY)) == (40163, 401)


async def test_a_connection_is_disconnected_at_once(emulator: Emulator) -> None:
    token = jwt_of(emulator, {"*": "*"}, key=REVOCABLE_KEY, client_id="alice")
    async with (
        connected(emulator, access_token=token) as alice,
        connected(emulator, key=REVOCABLE_KEY) as other,
    ):
        await call(emulator, "POST", PATH, ALICE, basic(REVOCABLE_KEY))
        message = await alice.expect(Action.DISCONNECTED)
        assert (message["error"]["code"], message["error"]["statusCode"]) == (40141, 401)
        assert await alice.is_closed()
        assert await other.is_quiet()


async def test_a_margin_sends_auth_now_and_disconnects_afterwards(
    emulator: Emulator, clock: ManualClock
) -> None:
    token = jwt_of(emulator, {"*": "*"}, key=REVOCABLE_KEY, client_id="alice")
    async with (
        connected(emulator, access_token=token) as stays,
        connected(emulator, access_token=token) as renews,
    ):
        body = ALICE | {"allowReauthMargin": True}
        _, answer = await call(emulator, "POST", PATH, body, basic(REVOCABLE_KEY))
        assert answer["results"][0]["appliesAt"] > clock.now() + 30_000
        await stays.expect(Action.AUTH)
        await renews.expect(Action.AUTH)
        assert not await is_revoked(emulator, token)
        await clock.advance(29)
        new = jwt_of(emulator, {"*": "*"}, key=REVOCABLE_KEY, client_id="alice")
        await renews.request(Action.AUTH, Action.CONNECTED, auth={"accessToken": new})
        assert await stays.is_quiet()
        await clock.advance(1.002)
        assert (await stays.expect(Action.DISCONNECTED))["error"]["code"] == 40141
        assert await is_revoked(emulator, token)
        assert await renews.is_quiet()


async def test_a_revoked_token_cannot_reconnect(emulator: Emulator) -> None:
    token = jwt_of(emulator, {"*": "*"}, key=REVOCABLE_KEY, client_id="alice")
    async with connected(emulator, access_token=token) as peer:
        key = peer.connected["connectionDetails"]["connectionKey"]
        await call(emulator, "POST", PATH, ALICE, basic(REVOCABLE_KEY))
        await peer.expect(Action.DISCONNECTED)
    async with opened(emulator, access_token=token, resume=key) as peer:
        assert (await peer.expect(Action.ERROR))["error"]["code"] == 40141
