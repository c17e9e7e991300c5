"""Presence in the emulator: enter, update and leave, and what subscribers receive."""

from typing import Any

import pytest
from emulator_helpers import KEY, Peer, connected, eventually

from aiohttp_ably.emulator import Emulator, ManualClock
from aiohttp_ably.emulator.channels import MAX_MEMBERS, PresenceAction
from aiohttp_ably.emulator.wire import Action, Flag


async def act(peer: Peer, action: PresenceAction, serial: int = 0, **members: Any) -> None:
    presence = [{"action": int(action), **members}]
    await peer.send(Action.PRESENCE, channel="room", msgSerial=serial, presence=presence)


async def entered(peer: Peer, serial: int = 0, **members: Any) -> None:
    await act(peer, PresenceAction.ENTER, serial, **members)
    await peer.expect(Action.PRESENCE)
    await peer.expect(Action.ACK)


async def test_subscribers_receive_enter_update_and_leave(
    emulator: Emulator, clock: ManualClock, binary: bool
) -> None:
    async with (
        connected(emulator, client_id="alice", binary=binary) as alice,
        connected(emulator, {"room": "subscribe"}, binary=not binary) as other,
    ):
        await alice.attach("room")
        await other.attach("room")
        steps = [
            (PresenceAction.ENTER, {"data": "here"}, "here"),
            (PresenceAction.UPDATE, {"data": "there"}, "there"),
            (PresenceAction.LEAVE, {}, "there"),
        ]
        for serial, (action, sent, received) in enumerate(steps):
            await act(alice, action, serial, **sent)
            message = await other.expect(Action.PRESENCE)
            assert message == await alice.expect(Action.PRESENCE)
            assert await alice.expect(Action.ACK) == {"action": 1, "msgSerial": serial, "count": 1}
            connection_id = alice.connected["connectionId"]
            assert message["presence"] == [
                {
                    "id": f"{connection_id}:{serial}:0",
                    "action": action,
                    "clientId": "alice",
                    "connectionId": connection_id,
                    "timestamp": clock.now(),
                    "data": received,
                }
            ]


async def test_a_client_that_attaches_receives_the_members(emulator: Emulator) -> None:
    async with connected(emulator, key=KEY) as peer, connected(emulator) as late:
        await peer.attach("room")
        names = [f"member-{number}" for number in range(150)]
        for serial, name in enumerate(names):
            await entered(peer, serial, clientId=name)
        attached = await late.attach("room")
        assert Flag.HAS_PRESENCE in Flag(attached["flags"])
        for _ in range(2):
            pages = [await late.expect(Action.SYNC) for _ in range(2)]
            sequences = [page["channelSerial"].partition(":") for page in pages]
            assert sequences[0][0] == sequences[1][0]
            assert (sequences[0][2], sequences[1][2]) == ("100", "")
            members = [member for page in pages for member in page["presence"]]
            assert [member["clientId"] for member in members] == names
            assert {member["action"] for member in members} == {PresenceAction.PRESENT}
            await late.send(Action.SYNC, channel="room")


@pytest.mark.parametrize(
    ("capability", "client_id", "members", "code"),
    [
        pytest.param({"room": ["subscribe"]}, "alice", {}, 40160, id="without the operation presence"),
        pytest.param({"room": ["*"]}, None, {}, 40012, id="anonymous"),
        pytest.param({"room": ["*"]}, "*", {}, 40012, id="wildcard names no client id"),
        pytest.param({"room": ["*"]}, "*", {"clientId": "*"}, 40012, id="wildcard names *"),
        pytest.param({"room": ["*"]}, "alice", {"clientId": "bob"}, 40012, id="another client"),
        pytest.param({"room": ["*"]}, "alice", {"action": 0}, 40000, id="action ABSENT"),
        pytest.param({"room": ["*"]}, "alice", {"action": "enter"}, 40000, id="action is not a number"),
    ],
)
async def test_a_refused_presence_message_is_answered_with_nack(
    emulator: Emulator, capability: Any, client_id: str | None, members: dict[str, Any], code: int
) -> None:
    async with connected(emulator, capability, client_id=client_id) as peer:
        await peer.attach("room")
        presence = [{"action": int(PresenceAction.ENTER)} | members]
        nack = await peer.request(
            Action.PRESENCE, Action.NACK, channel="room", msgSerial=0, presence=presence
        )
        assert nack["error"]["code"] == code


async def test_presence_requires_an_attachment_with_the_mode_presence(emulator: Emulator) -> None:
    async with connected(emulator, client_id="alice") as peer:
        await act(peer, PresenceAction.ENTER)
        assert (await peer.expect(Action.NACK))["error"]["code"] == 91001
        await peer.attach("room", flags=int(Flag.SUBSCRIBE))
        await act(peer, PresenceAction.ENTER)
        assert (await peer.expect(Action.NACK))["error"]["code"] == 40160


@pytest.mark.parametrize("event", ["detach", "close"])
async def test_a_member_leaves_when_its_client_detaches_or_closes(emulator: Emulator, event: str) -> None:
    async with connected(emulator, client_id="alice") as alice, connected(emulator) as other:
        await alice.attach("room")
        await other.attach("room")
        await entered(alice)
        await other.expect(Action.PRESENCE)
        if event == "detach":
            await alice.request(Action.DETACH, Action.DETACHED, channel="room")
        else:
            await alice.request(Action.CLOSE, Action.CLOSED)
        [member] = (await other.expect(Action.PRESENCE))["presence"]
        assert (member["clientId"], member["action"]) == ("alice", PresenceAction.LEAVE)
        assert not member["id"].startswith(member["connectionId"])


@pytest.mark.parametrize(("query", "seconds"), [({}, 15.0), ({"remainPresentFor": "5000"}, 5.0)])
async def test_a_member_leaves_some_time_after_its_connection_drops(
    emulator: Emulator, clock: ManualClock, query: dict[str, str], seconds: float
) -> None:
    async with connected(emulator) as other:
        await other.attach("room")
        async with connected(emulator, client_id="alice", **query) as alice:
            await alice.attach("room")
            await entered(alice)
            await other.expect(Action.PRESENCE)
        await eventually(lambda: not emulator.connections[alice.connected["connectionId"]].is_connected)
        await clock.advance(seconds - 0.001)
        assert await other.is_quiet()
        await clock.advance(0.001)
        assert (await other.expect(Action.PRESENCE))["presence"][0]["action"] == PresenceAction.LEAVE


async def test_a_member_stays_when_its_connection_resumes(emulator: Emulator, clock: ManualClock) -> None:
    async with connected(emulator) as other:
        await other.attach("room")
        async with connected(emulator, client_id="alice") as alice:
            await alice.attach("room")
            await entered(alice)
            await other.expect(Action.PRESENCE)
        key = alice.connected["connectionDetails"]["connectionKey"]
        async with connected(emulator, client_id="alice", resume=key) as alice:
            await alice.attach("room")
            await clock.advance(60)
            assert await other.is_quiet()


async def test_the_number_of_members_is_limited(emulator: Emulator) -> None:
    async with connected(emulator, key=KEY) as peer:
        await peer.attach("room", flags=int(Flag.PRESENCE))
        members = [{"action": 2, "clientId": f"{number}"} for number in range(MAX_MEMBERS)]
        await peer.request(Action.PRESENCE, Action.ACK, channel="room", msgSerial=0, presence=members)
        one = [{"action": 2, "clientId": "one more"}]
        nack = await peer.request(Action.PRESENCE, Action.NACK, channel="room", msgSerial=1, presence=one)
        assert nack["error"]["code"] == 91003
        one = [{"action": 4, "clientId": "7", "data": "a member can be updated"}]
        await peer.request(Action.PRESENCE, Action.ACK, channel="room", msgSerial=2, presence=one)
