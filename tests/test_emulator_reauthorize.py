"""A connection is reauthorized with another token, or its token expires."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from emulator_helpers import KEY, MODES, Peer, connected, issue, jwt_of

from aiohttp_ably.emulator import Emulator, ManualClock
from aiohttp_ably.emulator.wire import Action, Flag

OTHER_APP = "app2.key1:secret-of-another-app"


@pytest.fixture
async def emulator(clock: ManualClock) -> AsyncIterator[Emulator]:
    async with Emulator([KEY, OTHER_APP], clock=clock) as emulator:
        yield emulator


async def reauthorize(peer: Peer, token: str) -> dict[str, Any]:
    return await peer.request(Action.AUTH, Action.CONNECTED, auth={"accessToken": token})


async def test_more_capability_keeps_the_connection(emulator: Emulator, binary: bool) -> None:
    async with connected(emulator, {"a": "*"}, client_id="alice", binary=binary) as peer:
        await peer.attach("a")
        await peer.request(Action.ATTACH, Action.ERROR, channel="b")
        message = await reauthorize(peer, jwt_of(emulator, {"a": "*", "b": "*"}, client_id="alice"))
        assert message["connectionId"] == peer.connected["connectionId"]
        assert message["connectionDetails"] == peer.connected["connectionDetails"]
        assert Flag((await peer.attach("b"))["flags"]) == MODES


async def test_less_capability_fails_only_the_channels_that_are_lost(emulator: Emulator) -> None:
    async with connected(emulator, {"a": "*", "b": "*", "c": "*"}) as peer:
        for name in "abc":
            await peer.attach(name)
        token = jwt_of(emulator, {"a": "*", "c": "subscribe"})
        lost = await peer.request(Action.AUTH, Action.ERROR, auth={"accessToken": token})
        assert (lost["channel"], lost["error"]["code"], lost["error"]["statusCode"]) == ("b", 40160, 401)
        changed = await peer.expect(Action.ATTACHED)
        assert changed["channel"] == "c"
        assert Flag(changed["flags"]) == Flag.SUBSCRIBE | Flag.PRESENCE_SUBSCRIBE | Flag.RESUMED
        await peer.expect(Action.CONNECTED)
        connection = emulator.connections[peer.connected["connectionId"]]
        assert connection.channels == {"a": MODES, "c": Flag.SUBSCRIBE | Flag.PRESENCE_SUBSCRIBE}
        assert connection.capability.text == '{"a":["*"],"c":["subscribe"]}'


async def test_an_upgraded_client_publishes_without_attaching_again(emulator: Emulator) -> None:
    async with connected(emulator, {"a": "subscribe"}) as peer:
        await peer.attach("a")
        await peer.publish("a", {"name": "n"})
        await peer.expect(Action.NACK)
        token = jwt_of(emulator, {"a": ["publish", "subscribe"]})
        await peer.request(Action.AUTH, Action.ATTACHED, auth={"accessToken": token})
        await peer.expect(Action.CONNECTED)
        await peer.publish("a", {"name": "n"}, serial=1)
        await peer.expect(Action.MESSAGE)
        await peer.expect(Action.ACK)


async def test_a_mode_that_was_not_requested_is_not_granted_later(emulator: Emulator) -> None:
    async with connected(emulator, {"a": "subscribe"}) as peer:
        await peer.attach("a", flags=int(Flag.SUBSCRIBE))
        await reauthorize(peer, jwt_of(emulator, {"a": "*"}))
        await peer.publish("a", {"name": "n"})
        await peer.expect(Action.NACK)


@pytest.mark.parametrize(
    ("token", "code", "action"),
    [
        pytest.param("other app", 40102, Action.ERROR, id="another app"),
        pytest.param("bob", 40102, Action.ERROR, id="another client"),
        pytest.param("anonymous", 40102, Action.ERROR, id="no client id"),
        pytest.param("garbage", 40101, Action.ERROR, id="not a token"),
        pytest.param("a.b.c.d", 40005, Action.ERROR, id="too many dots"),
        pytest.param("a.b.c", 40144, Action.ERROR, id="malformed JWT"),
        pytest.param(None, 40101, Action.ERROR, id="no accessToken"),
        pytest.param("expired", 40142, Action.DISCONNECTED, id="expired"),
        pytest.param("app1." + "x" * 64, 40143, Action.DISCONNECTED, id="unrecognised"),
    ],
)
async def test_a_refused_token_disconnects_or_fails_the_connection(
    emulator: Emulator, token: str | None, code: int, action: Action
) -> None:
    made = {
        "other app": jwt_of(emulator, {"*": "*"}, key=OTHER_APP, client_id="alice"),
        "bob": jwt_of(emulator, {"*": "*"}, client_id="bob"),
        "anonymous": jwt_of(emulator, {"*": "*"}),
        "expired": jwt_of(emulator, {"*": "*"}, client_id="alice", ttl=0),
    }
    async with connected(emulator, client_id="alice") as peer:
        message = await peer.request(
            Action.AUTH, action, auth={"accessToken": made.get(token, token)} if token else {}
        )
        assert message["error"]["code"] == code
        assert "channel" not in message
        assert await peer.is_closed()
    resumable = peer.connected["connectionId"] in emulator.connections
    assert resumable == (action == Action.DISCONNECTED)


async def test_a_wildcard_token_keeps_the_client_id(emulator: Emulator) -> None:
    async with connected(emulator, client_id="alice") as peer:
        message = await reauthorize(peer, jwt_of(emulator, {"*": "*"}, client_id="*"))
        assert message["connectionDetails"]["clientId"] == "alice"


async def test_an_anonymous_connection_stays_anonymous(emulator: Emulator) -> None:
    async with connected(emulator) as peer:
        token = jwt_of(emulator, {"*": "*"}, client_id="alice")
        message = await peer.request(Action.AUTH, Action.ERROR, auth={"accessToken": token})
        assert message["error"]["code"] == 40102


async def test_a_connection_with_a_key_continues_with_a_token(emulator: Emulator) -> None:
    async with connected(emulator, key=KEY) as peer:
        message = await reauthorize(peer, jwt_of(emulator, {"*": "*"}, client_id="alice"))
        assert message["connectionDetails"]["clientId"] == "alice"


class TestExpiry:
    @pytest.mark.parametrize(
        ("ttl", "auth_after"),
        [
            pytest.param(60_000, 30.0, id="30 s before the end"),
            pytest.param(31_001, 1.001, id="just over 31 s"),
            pytest.param(31_000, 15.5, id="31 s: at half"),
            pytest.param(20_000, 10.0, id="20 s: at half"),
            pytest.param(5_500, 2.75, id="5.5 s: at half"),
            pytest.param(5_499, None, id="less: no AUTH"),
        ],
    )
    async def test_a_client_is_sent_auth_before_its_token_expires_and_disconnected_then(
        self, emulator: Emulator, clock: ManualClock, ttl: int, auth_after: float | None
    ) -> None:
        details = await issue(emulator, ttl=ttl)
        async with connected(emulator, access_token=details["token"]) as peer:
            waited = 0.0
            if auth_after is not None:
                await clock.advance(auth_after - 0.001)
                assert await peer.is_quiet()
                await clock.advance(0.001)
                assert await peer.expect(Action.AUTH) == {"action": 17}
                waited = auth_after
            await clock.advance(ttl / 1000 - waited - 0.001)
            assert await peer.is_quiet()
            await clock.advance(0.001)
            message = await peer.expect(Action.DISCONNECTED)
            assert message["connectionId"] == peer.connected["connectionId"]
            assert (message["error"]["code"], message["error"]["statusCode"]) == (40142, 401)
            assert await peer.is_closed()

    async def test_a_new_token_has_its_own_expiry(self, emulator: Emulator, clock: ManualClock) -> None:
        async with connected(emulator, access_token=(await issue(emulator, ttl=60_000))["token"]) as peer:
            await clock.advance(30)
            await peer.expect(Action.AUTH)
            await reauthorize(peer, (await issue(emulator, ttl=60_000))["token"])
            await clock.advance(29.999)
            assert await peer.is_quiet()
            await clock.advance(0.001)
            await peer.expect(Action.AUTH)
            await clock.advance(30)
            await peer.expect(Action.DISCONNECTED)

    async def test_a_key_does_not_expire(self, emulator: Emulator, clock: ManualClock) -> None:
        async with connected(emulator, key=KEY) as peer:
            await clock.advance(24 * 3600)
            assert await peer.is_quiet()

    async def test_a_disconnected_client_resumes_with_a_new_token(
        self, emulator: Emulator, clock: ManualClock
    ) -> None:
        async with connected(emulator, access_token=(await issue(emulator, ttl=1000))["token"]) as peer:
            serial = (await peer.attach("a"))["channelSerial"]
            await clock.advance(1)
            await peer.expect(Action.DISCONNECTED)
        key = peer.connected["connectionDetails"]["connectionKey"]
        async with connected(emulator, resume=key) as again:
            assert again.connected["connectionId"] == peer.connected["connectionId"]
            attached = await again.attach("a", channelSerial=serial, flags=int(Flag.ATTACH_RESUME))
            assert Flag(attached["flags"]) == MODES | Flag.RESUMED
