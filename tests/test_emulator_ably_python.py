"""ably-python with the emulator, REST and realtime."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from ably import AblyRest
from ably.realtime.realtime import AblyRealtime
from ably.util.exceptions import AblyException
from aiohttp.test_utils import TestServer
from emulator_auth_app import make_auth_app

from aiohttp_ably.emulator import Certificate, Emulator, ManualClock
from aiohttp_ably.testing import client_options, realtime_client

TIMEOUT = 8


@pytest.fixture
async def auth_url(emulator: Emulator) -> AsyncIterator[str]:
    async with TestServer(make_auth_app(emulator)) as server:
        yield str(server.make_url("/auth"))


async def reach(target: Any, state: str) -> Any:
    """Wait until a connection or channel has a state."""
    if target.state != state:
        return await asyncio.wait_for(target.once_async(state), TIMEOUT)
    return None


async def authorize(client: AblyRealtime, **params: str) -> None:
    options = client.auth.auth_options.auth_options
    params = options["auth_params"] | params
    await asyncio.wait_for(client.auth.authorize(None, dict(options, auth_params=params)), TIMEOUT)


def subscribe(channel: Any) -> tuple[Any, "asyncio.Queue[Any]"]:
    queue: asyncio.Queue[Any] = asyncio.Queue()
    return channel.subscribe(queue.put_nowait), queue


@pytest.mark.parametrize(("kind", "user"), [("request", "alice"), ("details", "alice"), ("jwt", "")])
async def test_a_realtime_client_connects_upgrades_downgrades_and_renews(
    emulator: Emulator, auth_url: str, clock: ManualClock, binary: bool, kind: str, user: str
) -> None:
    params = {"kind": kind, "user": user, "rooms": "chat:1"}
    client = realtime_client(emulator, auth_url=auth_url, auth_params=params, use_binary_protocol=binary)
    try:
        await reach(client.connection, "connected")
        connection_id = client.connection.connection_manager.connection_id
        states: list[str] = []
        client.connection.on(lambda change: states.append(str(change.current.value)))
        first = client.channels.get("chat:1")
        await first.attach()
        subscribing, queue = subscribe(first)
        await subscribing
        await first.publish("greeting", {"hello": "world"})
        message = await asyncio.wait_for(queue.get(), TIMEOUT)
        assert (message.data, message.client_id) == ({"hello": "world"}, user or None)

        second = client.channels.get("chat:2")
        with pytest.raises(AblyException) as denied:
            await second.attach()
        assert (denied.value.code, second.state) == (40160, "failed")
        with pytest.raises(AblyException) as denied:
            await client.channels.get("chat:3").publish("n", "d")
        assert denied.value.code == 40160
        response = await client.request("GET", "/channels/chat:2/messages", "2")
        assert (response.status_code, int(response.error_code)) == (401, 40160)

        await authorize(client, rooms="chat:1,chat:2")
        await second.attach()
        assert (first.state, second.state, set(states)) == ("attached", "attached", {"connected"})

        await authorize(client, rooms="chat:1")
        await reach(second, "failed")
        assert second.error_reason.code == 40160
        await reach(first, "attached")
        assert client.connection.connection_manager.connection_id == connection_id
        assert set(states) == {"connected"}

        states.clear()
        await authorize(client, life="5000")
        disconnected = asyncio.ensure_future(reach(client.connection, "disconnected"))
        await clock.advance(5)
        assert (await disconnected).reason.code == 40142
        await reach(client.connection, "connected")
        assert client.connection.connection_manager.connection_id == connection_id
        await reach(first, "attached")
        await first.publish("again", "after renewal")
        while (await asyncio.wait_for(queue.get(), TIMEOUT)).name != "again":
            pass
    finally:
        await client.close()
    assert not emulator.connections


async def test_two_clients_exchange_messages_and_presence(emulator: Emulator, auth_url: str) -> None:
    def client(user: str, binary: bool) -> AblyRealtime:
        params = {"kind": "request", "user": user, "rooms": "room"}
        return realtime_client(emulator, auth_url=auth_url, auth_params=params, use_binary_protocol=binary)

    alice, bob = client("alice", True), client("bob", False)
    try:
        rooms = [one.channels.get("room") for one in (alice, bob)]
        queues: list[asyncio.Queue[Any]] = []
        for one, room in zip((alice, bob), rooms, strict=True):
            await reach(one.connection, "connected")
            await room.attach()
            subscribing, queue = subscribe(room)
            await subscribing
            queues.append(queue)
        await rooms[0].publish("text", "from alice")
        await rooms[1].publish("bytes", b"\x00from bob")
        for queue in queues:
            messages = [await asyncio.wait_for(queue.get(), TIMEOUT) for _ in range(2)]
            assert [
                (one.client_id, bytes(one.data) if one.name == "bytes" else one.data) for one in messages
            ] == [
                ("alice", "from alice"),
                ("bob", b"\x00from bob"),
            ]
        present: asyncio.Queue[Any] = asyncio.Queue()
        await rooms[1].presence.subscribe(present.put_nowait)
        await rooms[0].presence.enter("online")
        await rooms[0].presence.update("away")
        await rooms[0].presence.leave()
        seen = [await asyncio.wait_for(present.get(), TIMEOUT) for _ in range(3)]
        assert [(one.client_id, int(one.action), one.data) for one in seen][:2] == [
            ("alice", 2, "online"),
            ("alice", 4, "away"),
        ]
        assert int(seen[2].action) == 3
        await rooms[0].presence.subscribe(present.put_nowait)
        await rooms[1].presence.enter("here")
        await asyncio.wait_for(present.get(), TIMEOUT)
        await asyncio.wait_for(present.get(), TIMEOUT)
        assert [one.client_id for one in await rooms[0].presence.get()] == ["bob"]
        await bob.close()
        left = await asyncio.wait_for(present.get(), TIMEOUT)
        assert (left.client_id, int(left.action), await rooms[0].presence.get()) == ("bob", 3, [])
    finally:
        await alice.close()
        await bob.close()


async def test_a_rest_client_with_a_key_uses_tls(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, binary: bool
) -> None:
    certificate = Certificate()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.write(tmp_path / "ca.pem")))
    async with Emulator(tls=certificate.context()) as emulator:
        options = client_options(emulator, sdk="python", tls=True)
        async with AblyRest(key=emulator.key, use_binary_protocol=binary, **options) as client:
            channel = client.channels.get("room")
            await channel.publish("text", "hello")
            await channel.publish("bytes", b"\x00\xff")
            page = await channel.history(limit=1)
            assert bytes(page.items[0].data) == b"\x00\xff"
            page = await page.next()
            assert (page.items[0].data, page.has_next()) == ("hello", False)
            assert (await channel.status()).status.is_active is True
            assert abs(await client.time() - emulator.clock.now()) < 5_000
            details = await client.auth.request_token({"client_id": "alice", "ttl": 60_000})
            assert (details.client_id, details.expires - details.issued) == ("alice", 60_000)
        realtime = realtime_client(emulator, tls=True, key=emulator.key)
        await reach(realtime.connection, "connected")
        await realtime.close()
