"""The realtime protocol of the emulator: connect, resume, attach, publish, close."""

import asyncio
import base64
import json
import logging
import socket
import struct
from typing import Any

import aiohttp
import msgpack
import pytest
from emulator_helpers import (
    KEY,
    MODES,
    Peer,
    basic,
    call,
    connected,
    eventually,
    jwt_of,
    opened,
)

from aiohttp_ably.emulator import Emulator, ManualClock
from aiohttp_ably.emulator.wire import Action, Flag


class TestConnecting:
    async def test_connected_has_all_details_that_an_sdk_needs(
        self, emulator: Emulator, binary: bool
    ) -> None:
        async with connected(emulator, client_id="alice", binary=binary) as peer:
            details = dict(peer.connected["connectionDetails"])
            assert set(peer.connected) == {"action", "connectionId", "connectionDetails"}
            assert details.pop("connectionKey").startswith(f"{peer.connected['connectionId']}!")
            assert details.pop("serverId")
            assert details.pop("maxInboundRate") > 0
            assert details == {
                "clientId": "alice",
                "maxMessageSize": 65536,
                "maxFrameSize": 524288,
                "connectionStateTtl": 120000,
                "maxIdleInterval": 15000,
            }
            connection = emulator.connections[peer.connected["connectionId"]]
            assert (connection.client_id, connection.is_connected) == ("alice", True)

    async def test_an_anonymous_connection_has_no_client_id(self, emulator: Emulator) -> None:
        async with connected(emulator) as peer:
            assert "clientId" not in peer.connected["connectionDetails"]

    @pytest.mark.parametrize(
        ("query", "code"), [({}, 40101), ({"key": "nonsense"}, 40101), ({"key": KEY, "v": "1"}, 40000)]
    )
    async def test_a_refused_connection_is_sent_an_error(
        self, emulator: Emulator, query: dict[str, str], code: int, binary: bool
    ) -> None:
        async with opened(emulator, binary=binary, **query) as peer:
            message = await peer.expect(Action.ERROR)
            assert message["error"]["code"] == code
            assert set(message) == {"action", "error"}
            assert await peer.is_closed()
        assert not emulator.connections

    async def test_a_malformed_frame_ends_the_connection(self, emulator: Emulator) -> None:
        for frame in (
            "{",
            "[]",
            '{"action":"ten"}',
            '{"action":15,"channel":"a"}',
            '{"action":10,"channel":7}',
        ):
            async with connected(emulator) as peer:
                await peer.socket.send_str(frame)
                assert "error" in await peer.expect(Action.ERROR)
                assert await peer.is_closed()

    @pytest.mark.parametrize("frame", [b"\xc1", b"\x93", msgpack.packb({"action": 10, "channel": b"a"})])
    async def test_a_malformed_binary_frame_ends_the_connection(
        self, emulator: Emulator, frame: bytes
    ) -> None:
        async with connected(emulator, binary=True) as peer:
            await peer.socket.send_bytes(frame)
            assert (await peer.expect(Action.ERROR))["error"]["statusCode"] == 400
            assert await peer.is_closed()

    async def test_heartbeats_are_sent_at_half_the_idle_interval(
        self, emulator: Emulator, clock: ManualClock
    ) -> None:
        async with connected(emulator) as peer, connected(emulator, heartbeats="false") as silent:
            await clock.advance(15.0)
            for _ in range(2):
                assert json.loads((await peer.socket.receive()).data) == {"action": 0}
            await silent.send(Action.HEARTBEAT, id="mine")
            assert json.loads((await silent.socket.receive()).data) == {"action": 0, "id": "mine"}

    async def test_a_client_without_heartbeats_is_pinged(
        self, emulator: Emulator, clock: ManualClock
    ) -> None:
        url = f"{emulator.url}/?key={KEY}&heartbeats=false"
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(url, autoping=False) as silent,
        ):
            await silent.receive()
            await clock.advance(7.5)
            assert (await silent.receive(5)).type == aiohttp.WSMsgType.PING

    async def test_a_heartbeat_is_answered_with_its_id(self, emulator: Emulator, binary: bool) -> None:
        async with connected(emulator, binary=binary) as peer:
            answer = await peer.request(Action.HEARTBEAT, Action.HEARTBEAT, id="x")
            assert answer == {"action": 0, "id": "x"}

    async def test_close_ends_the_connection(self, emulator: Emulator) -> None:
        async with connected(emulator) as peer:
            await peer.request(Action.CLOSE, Action.CLOSED)
            assert await peer.is_closed()
        assert not emulator.connections

    async def test_an_abandoned_handshake_leaves_no_connection(
        self, emulator: Emulator, caplog: pytest.LogCaptureFixture
    ) -> None:
        handshake = (
            f"GET /?key={KEY} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()
        for how in ("reset", "closed"):
            _, writer = await asyncio.open_connection(emulator.host, emulator.port)
            if how == "reset":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.write(handshake)
            writer.close()
            async with connected(emulator) as peer:
                assert await peer.is_quiet()
        await eventually(lambda: not any(one.is_connected for one in emulator.connections.values()))
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    async def test_closing_the_emulator_closes_connections(self) -> None:
        async with Emulator(KEY) as emulator, aiohttp.ClientSession() as client:
            socket = await client.ws_connect(f"{emulator.url}/?key={KEY}")
            await socket.receive()
            await emulator.close()
            assert (await socket.receive(5)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


class TestResuming:
    async def test_a_dropped_connection_is_resumed_with_its_id(
        self, emulator: Emulator, clock: ManualClock
    ) -> None:
        async with connected(emulator, client_id="alice") as first:
            pass
        await eventually(lambda: not emulator.connections[first.connected["connectionId"]].is_connected)
        await clock.advance(119)
        key = first.connected["connectionDetails"]["connectionKey"]
        for name in ("resume", "recover"):
            async with connected(emulator, client_id="alice", **{name: key}) as peer:
                assert peer.connected["connectionId"] == first.connected["connectionId"]
                assert "error" not in peer.connected
                assert peer.connected["connectionDetails"]["connectionKey"] != key

    async def test_a_connected_connection_moves_to_the_new_websocket(self, emulator: Emulator) -> None:
        async with connected(emulator) as first:
            await first.attach("room")
            key = first.connected["connectionDetails"]["connectionKey"]
            async with connected(emulator, resume=key) as second:
                assert second.connected["connectionId"] == first.connected["connectionId"]
                assert await first.is_closed()
                await call(emulator, "POST", "/channels/room/messages", {"name": "n"}, basic())
                assert await second.is_quiet()

    @pytest.mark.parametrize("seconds", [120, 3600])
    async def test_an_old_connection_is_replaced_by_a_new_one(
        self, emulator: Emulator, clock: ManualClock, seconds: int
    ) -> None:
        async with connected(emulator) as first:
            pass
        await eventually(lambda: not emulator.connections[first.connected["connectionId"]].is_connected)
        await clock.advance(seconds)
        assert not emulator.connections
        key = first.connected["connectionDetails"]["connectionKey"]
        async with connected(emulator, resume=key) as peer:
            assert peer.connected["connectionId"] != first.connected["connectionId"]
            assert (peer.connected["error"]["code"], peer.connected["error"]["statusCode"]) == (80008, 400)

    async def test_a_closed_connection_is_replaced_by_a_new_one(self, emulator: Emulator) -> None:
        async with connected(emulator) as first:
            await first.request(Action.CLOSE, Action.CLOSED)
        key = first.connected["connectionDetails"]["connectionKey"]
        async with connected(emulator, recover=key) as peer:
            assert peer.connected["error"]["code"] == 80008

    @pytest.mark.parametrize("guess", ["nobody!key", "nonsense", "{}!guessed"])
    async def test_an_unknown_connection_key_gets_a_new_connection(
        self, emulator: Emulator, guess: str
    ) -> None:
        async with connected(emulator) as first:
            key = guess.format(first.connected["connectionId"])
            async with connected(emulator, resume=key) as peer:
                assert peer.connected["connectionId"] != first.connected["connectionId"]
                assert (peer.connected["error"]["code"], peer.connected["error"]["statusCode"]) == (
                    80018,
                    400,
                )

    async def test_the_connection_of_another_client_is_not_resumed(self, emulator: Emulator) -> None:
        async with connected(emulator, client_id="alice") as first:
            key = first.connected["connectionDetails"]["connectionKey"]
            token = jwt_of(emulator, {"*": "*"}, client_id="bob")
            async with opened(emulator, access_token=token, resume=key) as peer:
                assert (await peer.expect(Action.ERROR))["error"]["code"] == 40102


class TestAttaching:
    @pytest.mark.parametrize(
        ("operations", "requested", "granted"),
        [
            pytest.param(["*"], {}, MODES, id="all"),
            pytest.param(["publish"], {}, Flag.PUBLISH, id="publish"),
            pytest.param(["subscribe"], {}, Flag.SUBSCRIBE | Flag.PRESENCE_SUBSCRIBE, id="subscribe"),
            pytest.param(["presence"], {}, Flag.PRESENCE, id="presence"),
            pytest.param(["*"], {"flags": int(Flag.SUBSCRIBE)}, Flag.SUBSCRIBE, id="by flag"),
            pytest.param(
                ["publish"],
                {"flags": int(Flag.SUBSCRIBE | Flag.PUBLISH)},
                Flag.PUBLISH,
                id="flags, not all allowed",
            ),
            pytest.param(
                ["*"],
                {"params": {"modes": "publish,presence_subscribe"}, "flags": int(Flag.SUBSCRIBE)},
                Flag.PUBLISH | Flag.PRESENCE_SUBSCRIBE,
                id="by name, before flags",
            ),
            pytest.param(
                ["*"],
                {"flags": int(Flag.ANNOTATION_PUBLISH | Flag.OBJECT_SUBSCRIBE)},
                Flag.ANNOTATION_PUBLISH | Flag.OBJECT_SUBSCRIBE,
                id="annotations and objects",
            ),
        ],
    )
    async def test_modes_are_granted_when_requested_and_allowed(
        self,
        emulator: Emulator,
        operations: list[str],
        requested: dict[str, Any],
        granted: Flag,
        binary: bool,
    ) -> None:
        async with connected(emulator, {"room": operations}, binary=binary) as peer:
            attached = await peer.attach("room", **requested)
            assert Flag(attached["flags"]) == granted
            assert attached["channelSerial"]
            assert emulator.connections[peer.connected["connectionId"]].channels == {"room": granted}

    @pytest.mark.parametrize(
        ("capability", "requested"),
        [
            ({"other": "*"}, {}),
            ({"room": "publish"}, {"flags": int(Flag.SUBSCRIBE)}),
            ({"room": "history"}, {}),
            ({"room": "*"}, {"params": {"modes": "none_such"}}),
        ],
    )
    async def test_an_attach_without_an_allowed_mode_is_denied(
        self, emulator: Emulator, capability: dict[str, str], requested: dict[str, Any]
    ) -> None:
        async with connected(emulator, capability) as peer:
            message = await peer.request(Action.ATTACH, Action.ERROR, channel="room", **requested)
            assert message["channel"] == "room"
            assert (message["error"]["code"], message["error"]["statusCode"]) == (40160, 401)
            assert await peer.is_quiet()

    @pytest.mark.parametrize("name", ["", ":a", "[a]b", "a\nb"])
    async def test_an_invalid_name_fails_the_channel_only(self, emulator: Emulator, name: str) -> None:
        async with connected(emulator) as peer:
            await peer.send(Action.ATTACH, channel=name)
            message = json.loads((await peer.socket.receive()).data)
            assert (message["channel"], message["error"]["code"]) == (name, 40010)
            assert await peer.is_quiet()

    async def test_known_params_are_returned(self, emulator: Emulator) -> None:
        params = {"rewind": "1", "delta": "vcdiff", "modes": "subscribe", "mine": "x"}
        async with connected(emulator) as peer:
            attached = await peer.attach("room", params=params)
            del params["mine"]
            assert attached["params"] == params
            assert "params" not in await peer.attach("room")

    async def test_every_attach_is_answered_with_attached(self, emulator: Emulator) -> None:
        async with connected(emulator) as peer:
            assert await peer.attach("room") == await peer.attach("room")

    async def test_missed_messages_are_sent_after_attached(self, emulator: Emulator) -> None:
        async with connected(emulator) as peer:
            serial = (await peer.attach("room"))["channelSerial"]
            await peer.request(Action.DETACH, Action.DETACHED, channel="room")
            for name in "abc":
                await call(emulator, "POST", "/channels/room/messages", {"name": name}, basic())
            attached = await peer.attach("room", channelSerial=serial)
            assert Flag.RESUMED in Flag(attached["flags"])
            messages = [await peer.expect(Action.MESSAGE) for _ in "abc"]
            assert [message["messages"][0]["name"] for message in messages] == ["a", "b", "c"]
            serials = [attached["channelSerial"], *(message["channelSerial"] for message in messages)]
            assert serials == sorted(set(serials))
            attached = await peer.attach("room", channelSerial=serials[-1])
            assert (attached["channelSerial"], Flag.RESUMED in Flag(attached["flags"])) == (serials[-1], True)
            assert await peer.is_quiet()

    async def test_lost_continuity_is_reported(self, emulator: Emulator, clock: ManualClock) -> None:
        async with connected(emulator) as peer:
            serial = (await peer.attach("room"))["channelSerial"]
            await peer.request(Action.DETACH, Action.DETACHED, channel="room")
            await call(emulator, "POST", "/channels/room/messages", {"name": "n"}, basic())
            await clock.advance(121)
            for lost in (serial, "nonsense"):
                attached = await peer.attach("room", channelSerial=lost)
                assert Flag.RESUMED not in Flag(attached["flags"])
            assert await peer.is_quiet()

    @pytest.mark.parametrize(
        ("requested", "seen"),
        [
            ({"params": {"rewind": "2"}}, "cd"),
            ({"params": {"rewind": "100"}}, "abcd"),
            ({"params": {"rewind": "15s"}}, "bcd"),
            ({"params": {"rewind": "nonsense"}}, ""),
            ({"params": {"rewind": "2"}, "flags": int(Flag.ATTACH_RESUME)}, ""),
            ({}, ""),
        ],
        ids=str,
    )
    async def test_rewind_sends_earlier_messages(
        self, emulator: Emulator, clock: ManualClock, requested: dict[str, Any], seen: str
    ) -> None:
        for names in ("a", "bcd"):
            body = [{"name": name} for name in names]
            await call(emulator, "POST", "/channels/room/messages", body, basic())
            await clock.advance(10)
        async with connected(emulator) as peer:
            attached = await peer.attach("room", **requested)
            assert (Flag.HAS_BACKLOG in Flag(attached["flags"])) == bool(seen)
            names = ""
            while len(names) < len(seen):
                message = await peer.expect(Action.MESSAGE)
                names += "".join(one["name"] for one in message["messages"])
            assert names == seen
            assert await peer.is_quiet()

    async def test_rewind_is_ignored_with_a_channel_serial(self, emulator: Emulator) -> None:
        async with connected(emulator) as peer:
            await call(emulator, "POST", "/channels/room/messages", {"name": "n"}, basic())
            serial = (await peer.attach("room"))["channelSerial"]
            await peer.attach("room", channelSerial=serial, params={"rewind": "1"})
            assert await peer.is_quiet()

    async def test_detach_is_answered_even_when_not_attached(self, emulator: Emulator) -> None:
        async with connected(emulator) as peer:
            assert await peer.request(Action.DETACH, Action.DETACHED, channel="room") == {
                "action": 13,
                "channel": "room",
            }
            await peer.attach("room")
            await peer.request(Action.DETACH, Action.DETACHED, channel="room")
            await call(emulator, "POST", "/channels/room/messages", {"name": "n"}, basic())
            assert await peer.is_quiet()


async def exchange(
    sender: Peer, receiver: Peer, *messages: dict[str, Any], serial: int = 0
) -> dict[str, Any]:
    """Publish messages; returns the MESSAGE that `receiver` is sent."""
    await sender.publish("room", *messages, serial=serial)
    await sender.expect(Action.ACK)
    return await receiver.expect(Action.MESSAGE)


class TestPublishing:
    async def test_a_message_reaches_subscribers_with_all_its_members(
        self, emulator: Emulator, clock: ManualClock, binary: bool
    ) -> None:
        async with (
            connected(emulator, client_id="alice", binary=binary) as alice,
            connected(emulator, binary=not binary) as other,
        ):
            attached = await other.attach("room")
            extras = {"headers": {"k": "v"}}
            sent = {"name": "n", "data": "text", "extras": extras, "size": 7, "mine": 1, "timestamp": 5}
            await alice.publish("room", sent, {"data": "second"}, serial=3)
            ack = await alice.expect(Action.ACK)
            message = await other.expect(Action.MESSAGE)
        connection_id, serial = alice.connected["connectionId"], message["channelSerial"]
        assert serial > attached["channelSerial"]
        own = {"connectionId": connection_id, "timestamp": clock.now(), "action": 0, "clientId": "alice"}
        messages = [
            own
            | {
                "id": f"{connection_id}:3:{number}",
                "serial": f"{serial}:00{number}",
                "version": {"serial": f"{serial}:00{number}", "timestamp": clock.now()},
            }
            for number in range(2)
        ]
        assert message == {
            "action": 15,
            "channel": "room",
            "id": f"{connection_id}:3",
            "connectionId": connection_id,
            "timestamp": clock.now(),
            "channelSerial": serial,
            "messages": [
                messages[0] | {"name": "n", "data": "text", "extras": extras},
                messages[1] | {"data": "second"},
            ],
        }
        serials = [one["serial"] for one in messages]
        assert ack == {"action": 1, "msgSerial": 3, "count": 1, "res": [{"serials": serials}]}

    async def test_bytes_reach_a_json_client_as_base64(self, emulator: Emulator) -> None:
        async with connected(emulator, binary=True) as sender, connected(emulator) as reader:
            await reader.attach("room")
            message = await exchange(
                sender, reader, {"data": b"\x00\xff"}, {"data": b"z", "encoding": "cipher"}
            )
            first, second = message["messages"]
            assert (first["data"], first["encoding"]) == (base64.b64encode(b"\x00\xff").decode(), "base64")
            assert second["encoding"] == "cipher/base64"

    async def test_a_sender_receives_its_own_messages_unless_echo_is_false(self, emulator: Emulator) -> None:
        async with connected(emulator) as echoed, connected(emulator, echo="false") as quiet:
            for peer in (echoed, quiet):
                await peer.attach("room")
            await exchange(quiet, echoed, {"name": "n"})
            assert await quiet.is_quiet()
            await echoed.publish("room", {"name": "n"})
            assert (await echoed.expect(Action.MESSAGE))["messages"][0]["name"] == "n"
            await echoed.expect(Action.ACK)
            assert (await quiet.expect(Action.MESSAGE))["connectionId"] == echoed.connected["connectionId"]

    async def test_publishing_does_not_require_an_attachment(self, emulator: Emulator) -> None:
        async with connected(emulator, {"room": "publish"}) as peer:
            await peer.publish("room", {"name": "n"})
            await peer.expect(Action.ACK)

    @pytest.mark.parametrize(
        ("capability", "message", "code"),
        [
            ({"room": "subscribe"}, {"name": "n"}, 40160),
            ({"other": "*"}, {"name": "n"}, 40160),
            ({"room": "*"}, {"clientId": "somebody"}, 40012),
            ({"room": "*"}, {"clientId": "*"}, 40012),
            ({"room": "*"}, {"clientId": ""}, 40012),
            ({"room": "*"}, {"data": "x" * 65_537}, 40009),
            ({"room": "*"}, {"name": 7}, 40000),
        ],
        ids=[
            "no publish",
            "another channel",
            "another client",
            "wildcard",
            "empty client id",
            "too large",
            "bad name",
        ],
    )
    async def test_a_refused_message_is_answered_with_nack(
        self, emulator: Emulator, capability: dict[str, str], message: dict[str, Any], code: int, binary: bool
    ) -> None:
        async with connected(emulator, capability, binary=binary) as peer:
            await peer.publish("room", message, serial=4)
            nack = await peer.expect(Action.NACK)
            assert (nack["msgSerial"], nack["count"], nack["error"]["code"]) == (4, 1, code)
            assert await peer.is_quiet()

    async def test_publishing_on_an_attached_channel_requires_the_mode_publish(
        self, emulator: Emulator
    ) -> None:
        async with connected(emulator) as peer:
            await peer.attach("room", flags=int(Flag.SUBSCRIBE))
            await peer.publish("room", {"name": "n"})
            assert (await peer.expect(Action.NACK))["error"]["code"] == 40160

    async def test_a_client_that_may_not_subscribe_receives_no_messages(self, emulator: Emulator) -> None:
        async with connected(emulator, {"room": "publish"}) as peer:
            await peer.attach("room")
            await call(emulator, "POST", "/channels/room/messages", {"name": "n"}, basic())
            assert await peer.is_quiet()

    async def test_a_message_with_a_known_id_is_delivered_once(self, emulator: Emulator) -> None:
        async with connected(emulator) as sender, connected(emulator) as reader:
            await reader.attach("room")
            message = await exchange(sender, reader, {"id": "mine:0", "name": "n"})
            assert message["messages"][0]["id"] == "mine:0"
            await sender.publish("room", {"id": "mine:0", "name": "n"}, serial=1)
            assert (await sender.expect(Action.ACK))["res"] == [
                {"serials": [message["messages"][0]["serial"]]}
            ]
            assert await reader.is_quiet()
