"""The limits of the emulator: messages, channels, connections, nonces, and clients that do not read."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from emulator_helpers import KEY, basic, call, connected, eventually, jwt_of, signed

from aiohttp_ably.emulator import Emulator, ManualClock, channels, realtime, tokens
from aiohttp_ably.emulator import connection as connection_module
from aiohttp_ably.emulator.clock import Expiring
from aiohttp_ably.emulator.connection import Connection
from aiohttp_ably.emulator.wire import Action

PATH = "/channels/room/messages"


@asynccontextmanager
async def stopped_reader(emulator: Emulator, **query: str) -> AsyncIterator[Connection]:
    """The connection of a client that attaches the channel `room` and then reads nothing more."""
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(f"{emulator.url}/", params=query, max_msg_size=0) as socket,
    ):
        connection_id = (await socket.receive_json())["connectionId"]
        await socket.send_json({"action": Action.ATTACH, "channel": "room"})
        await socket.receive_json()
        assert socket._response.connection is not None
        transport = socket._response.connection.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        yield emulator.connections[connection_id]
        transport.abort()


async def test_a_slow_reader_is_disconnected_and_other_readers_are_not(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "MAX_WAITING", 256 * 1024)
    async with connected(emulator) as reader:
        await reader.attach("room")
        async with stopped_reader(emulator, key=KEY, echo="false") as connection:
            sent = 0
            while connection.is_connected:
                await call(emulator, "POST", PATH, {"data": "x" * 60_000}, basic())
                await reader.expect(Action.MESSAGE)
                sent += 1
                assert sent < 500, "the slow reader was not disconnected"
        assert any(event.kind == "cut off" for event in emulator.events)
        assert await reader.is_quiet()


async def test_a_client_that_does_not_read_is_closed_when_its_token_expires(
    emulator: Emulator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.05)
    token = jwt_of(emulator, {"*": "*"}, ttl=5)
    async with stopped_reader(emulator, access_token=token) as connection:
        transport = connection.transport
        assert transport is not None
        while transport._waiting < 500_000:
            await call(emulator, "POST", PATH, {"data": "x" * 60_000}, basic())
        await clock.advance(5)
        await eventually(lambda: transport not in emulator._realtime._transports)


async def test_the_oldest_messages_of_an_app_are_removed_first(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "MAX_KEPT_BYTES", 20_000)
    for name in ("old", "room"):
        for number in range(3):
            body = {"name": str(number), "data": "x" * 5_000}
            await call(emulator, "POST", f"/channels/{name}/messages", body, basic())
    kept = [
        message["name"]
        for name in ("old", "room")
        for message in (await call(emulator, "GET", f"/channels/{name}/messages", headers=basic()))[1]
    ]
    assert kept == ["2", "1", "0"]


async def test_unused_channels_are_removed(
    emulator: Emulator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    app_channels = emulator.apps["app1"].channels
    async with connected(emulator) as peer:
        await peer.attach("used")
        await call(emulator, "POST", PATH, {"name": "n"}, basic())
        await clock.advance(300)
        app_channels.get("another")
        assert (app_channels.find("used") is not None, app_channels.find("room")) == (True, None)
        monkeypatch.setattr(channels, "MAX_CHANNELS", 2)
        app_channels.get("one more")
        assert app_channels.find("another") is None


async def test_the_number_of_dropped_connections_is_limited(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realtime, "_MAX_DROPPED", 2)
    ids = []
    for _ in range(3):
        async with connected(emulator) as peer:
            ids.append(peer.connected["connectionId"])
        await eventually(
            lambda: ids[-1] in emulator.connections and not emulator.connections[ids[-1]].is_connected
        )
    assert list(emulator.connections) == ids[1:]


async def test_nonces_are_removed_when_their_timestamp_is_too_old(
    emulator: Emulator, clock: ManualClock
) -> None:
    for _ in range(3):
        path, request = "/keys/app1.key1/requestToken", signed(emulator)
        assert (await call(emulator, "POST", path, request))[0] == 201
        assert len(emulator._tokens._nonces) == 1
        await clock.advance(2 * tokens.MAX_CLOCK_SKEW / 1000)


def test_an_expiring_mapping_removes_expired_and_excess_entries() -> None:
    clock = ManualClock(0)
    kept: Expiring[str, int] = Expiring(clock, limit=2)
    kept.put("a", 1, until=3)
    kept.put("b", 2, until=1)
    kept.put("c", 3, until=2)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, None, 3)
    clock._now = 2
    assert list(kept.values()) == [1]
    assert ("a" in kept, "c" in kept, len(kept)) == (True, False, 1)


async def test_a_frame_over_the_limit_ends_the_connection(emulator: Emulator) -> None:
    async with connected(emulator) as peer:
        await peer.socket.send_str("x" * 600_000)
        assert await peer.is_closed()


async def test_a_body_over_the_limit_is_refused(emulator: Emulator) -> None:
    body = io.BytesIO(b'{"data":"' + b"x" * 3_000_000 + b'"}')
    async with (
        aiohttp.ClientSession() as client,
        client.post(emulator.url + PATH, data=body, headers=basic()) as response,
    ):
        assert (response.status, (await response.json())["error"]["code"]) == (413, 40009)
