"""Channels: their attachments, their messages of the last two minutes, and their presence members."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol

from .clock import Clock
from .wire import Action, Failure, Flag, Frame, Item, size_of

MESSAGE_TTL = 120_000
"""Milliseconds for which messages are kept, for history and for clients that resume."""
MAX_KEPT_BYTES = 64 * 1024 * 1024
"""The size of the messages that an app keeps at most; the oldest are removed first."""
MAX_CHANNELS = 50_000
"""The number of channels above which an app removes its unused channels at once."""
MAX_MEMBERS = 1_000
_OVERHEAD = 1_300  # the memory that a message takes beside its content, in bytes
_FIXTURE = "fixture"


class PresenceAction(IntEnum):
    """The action of a presence message (TP2)."""

    ABSENT = 0
    PRESENT = 1
    ENTER = 2
    LEAVE = 3
    UPDATE = 4


class Presence:
    """The presence members of a channel: one for each connection and client id, at most 1,000."""

    __slots__ = ("_members",)

    def __init__(self) -> None:
        self._members: dict[tuple[str, str], Item] = {}

    def apply(self, item: Item) -> Item:
        """Apply ENTER, UPDATE or LEAVE, and return the presence message to send to the subscribers.

        Raises Failure 91003 when the channel has 1,000 members, 40000 for another action.
        """
        member = (item["connectionId"], item["clientId"])
        action = item["action"]
        if action == PresenceAction.LEAVE:
            left = self._members.pop(member, {})
            return {name: left[name] for name in ("data", "encoding") if name in left} | item
        if action not in (PresenceAction.ENTER, PresenceAction.UPDATE, PresenceAction.PRESENT):
            raise Failure(40000, 400, f"a client cannot send presence action {action}")
        if member not in self._members and len(self._members) >= MAX_MEMBERS:
            raise Failure(91003, 400, f"the channel has its maximum of {MAX_MEMBERS} members")
        self._members[member] = item | {"action": int(PresenceAction.PRESENT)}
        return item

    def leave(self, connection_id: str, timestamp: int) -> list[Item]:
        """Remove all members of a connection, and return the LEAVE messages to send to the subscribers."""
        left = [member for member in self._members if member[0] == connection_id]
        changes = {"action": int(PresenceAction.LEAVE), "timestamp": timestamp}
        # An id of the connection would be compared with that of its ENTER, and ignored as not newer (RTP2b).
        return [
            self._members.pop(member) | changes | {"id": f"left-{timestamp}:0:{number}"}
            for number, member in enumerate(left)
        ]

    def present(self) -> list[Item]:
        """All members, as messages with the action PRESENT."""
        return list(self._members.values())

    def preload(self, members: Iterable[Mapping[str, Any]]) -> None:
        """Add members that belong to no connection."""
        for number, member in enumerate(members):
            client_id = str(member.get("clientId"))
            item: Item = {
                "id": f"{_FIXTURE}:0:{number}",
                "action": int(PresenceAction.PRESENT),
                "clientId": client_id,
                "connectionId": _FIXTURE,
                "timestamp": 0,
            }
            self._members[_FIXTURE, client_id] = item | {
                name: member[name] for name in ("data", "encoding") if member.get(name) is not None
            }

    def __contains__(self, connection_id: str) -> bool:
        return any(member[0] == connection_id for member in self._members)

    def __len__(self) -> int:
        return len(self._members)


class Subscriber(Protocol):
    """The part of a connection that a channel uses."""

    @property
    def id(self) -> str:
        """The connection id."""

    @property
    def echo(self) -> bool:
        """Whether the connection receives its own messages."""

    def send(self, frame: Frame) -> None:
        """Send a protocol message to the client."""


class Attachment:
    """The attachment of a connection to a channel, with its `requested` and `granted` modes."""

    __slots__ = ("channel", "granted", "params", "requested", "subscriber")

    def __init__(
        self, channel: Channel, subscriber: Subscriber, requested: Flag, granted: Flag, params: dict[str, str]
    ) -> None:
        self.channel: Channel = channel
        self.subscriber: Subscriber = subscriber
        self.requested: Flag = requested
        self.granted: Flag = granted
        self.params: dict[str, str] = params


@dataclass(frozen=True)
class Batch:
    """Messages that were published together, in one protocol message or one HTTP request."""

    id: str
    serial: str
    timestamp: int
    messages: Sequence[Item]
    connection_id: str | None = None
    ids: tuple[str, ...] = ()
    size: int = field(default=0, compare=False)

    def frame(self, channel: str) -> Frame:
        """The protocol message with these messages, for a channel of that name."""
        return Frame(
            Action.MESSAGE,
            channel=channel,
            id=self.id,
            connectionId=self.connection_id,
            timestamp=self.timestamp,
            channelSerial=self.serial,
            messages=self.messages,
        )

    @property
    def serials(self) -> list[str]:
        """The serials of the messages."""
        return [message["serial"] for message in self.messages]


class Channel:
    """A channel. `serial` is the serial of its newest message; serials are ordered as strings."""

    def __init__(self, name: str, channels: Channels) -> None:
        self.name = name
        self.attached: dict[str, Attachment] = {}
        self.presence: Presence = Presence()
        self.serial: str = channels.next_serial()
        self.floor: str = self.serial
        self.last_used: int = channels.now()
        self._channels = channels
        self._batches: deque[Batch] = deque()
        self._by_ids: dict[tuple[str, ...], Batch] = {}

    def publish(self, items: Sequence[Item], *, base_id: str, connection_id: str | None = None) -> Batch:
        """Send messages to the subscribers, and keep them for two minutes.

        A message without an id is given one that starts with `base_id`. When all messages have ids and
        messages with these ids are still kept, nothing is sent and the earlier batch is returned.
        """
        ids = tuple(item.get("id", "") for item in items)
        if all(ids) and (earlier := self._by_ids.get(ids)):
            return earlier
        now, serial = self._channels.now(), self._channels.next_serial()
        messages: list[Item] = []
        for number, item in enumerate(items):
            own: Item = {
                "id": f"{base_id}:{number}",
                "timestamp": now,
                "serial": f"{serial}:{number:03}",
                "action": 0,
                "version": {"serial": f"{serial}:{number:03}", "timestamp": now},
            }
            if connection_id is not None:
                own["connectionId"] = connection_id
            messages.append(own | item)
        size = sum(size_of(item) + _OVERHEAD for item in items)
        batch = Batch(base_id, serial, now, messages, connection_id, ids if all(ids) else (), size)
        self.serial = serial
        self.last_used = now
        self._batches.append(batch)
        if batch.ids:
            self._by_ids[batch.ids] = batch
        self._channels.keep(self, batch)
        sender = self.attached.get(connection_id or "")
        without = connection_id if sender and not sender.subscriber.echo else None
        self._fan_out(batch.frame(self.name), Flag.SUBSCRIBE, without)
        return batch

    def send_presence(
        self, items: Sequence[Item], *, connection_id: str, batch_id: str | None = None
    ) -> None:
        """Send presence messages to the subscribers."""
        if items:
            frame = Frame(
                Action.PRESENCE,
                channel=self.name,
                id=batch_id,
                connectionId=connection_id,
                timestamp=items[0]["timestamp"],
                channelSerial=self.serial,
                presence=items,
            )
            self._fan_out(frame, Flag.PRESENCE_SUBSCRIBE)

    def after(self, serial: str) -> list[Batch]:
        """The kept messages that were published after `serial`, oldest first."""
        self._channels.trim()
        newer: list[Batch] = []
        for batch in reversed(self._batches):
            if batch.serial <= serial:
                break
            newer.append(batch)
        return newer[::-1]

    def continues(self, serial: str) -> bool:
        """Whether all messages that were published after `serial` are still kept."""
        self._channels.trim()
        return serial.endswith(self._channels.epoch) and self.floor <= serial <= self.serial

    def kept(self) -> Iterator[Item]:
        """The kept messages, newest first."""
        self._channels.trim()
        for batch in reversed(self._batches):
            yield from reversed(batch.messages)

    def latest(self, count: int) -> list[Batch]:
        """The newest batches that together have at least `count` messages, oldest first."""
        self._channels.trim()
        batches: list[Batch] = []
        for batch in reversed(self._batches):
            if count <= 0:
                break
            count -= len(batch.messages)
            batches.append(batch)
        return batches[::-1]

    def occupancy(self) -> dict[str, int]:
        """The occupancy metrics of the channel."""
        granted = [attachment.granted for attachment in self.attached.values()]
        return {
            "connections": len(granted),
            "publishers": sum(Flag.PUBLISH in modes for modes in granted),
            "subscribers": sum(Flag.SUBSCRIBE in modes for modes in granted),
            "presenceConnections": sum(Flag.PRESENCE in modes for modes in granted),
            "presenceSubscribers": sum(Flag.PRESENCE_SUBSCRIBE in modes for modes in granted),
            "presenceMembers": len(self.presence),
        }

    @property
    def is_idle(self) -> bool:
        """Whether the channel has no attachments, members or messages."""
        return not (self.attached or self.presence or self._batches)

    def remove_oldest(self) -> None:
        """Remove the oldest batch. A client that has not received it cannot resume without loss."""
        batch = self._batches.popleft()
        self.floor = batch.serial
        if batch.ids:
            self._by_ids.pop(batch.ids, None)

    def _fan_out(self, frame: Frame, mode: Flag, without: str | None = None) -> None:
        for attachment in list(self.attached.values()):
            if mode in attachment.granted and attachment.subscriber.id != without:
                attachment.subscriber.send(frame)


class Channels:
    """The channels of an app by name. Old messages and unused channels are removed."""

    def __init__(self, clock: Clock, epoch: str) -> None:
        self.epoch: str = f"@{epoch}"
        self._clock = clock
        self._channels: dict[str, Channel] = {}
        self._kept: deque[tuple[Channel, Batch]] = deque()
        self._bytes = 0
        self._last_tick = 0
        self._last_removal = clock.now()

    def now(self) -> int:
        """The time in milliseconds since the epoch."""
        return self._clock.now()

    def next_serial(self) -> str:
        """A serial that is higher than all earlier ones."""
        self._last_tick = max(self.now() * 1000, self._last_tick + 1)
        return f"{self._last_tick:017}{self.epoch}"

    def get(self, name: str) -> Channel:
        """The channel of that name. Raises Failure 40010 when a channel cannot have that name."""
        channel = self._channels.get(name)
        if channel is None:
            checked_name(name)
            self._remove_idle()
            channel = self._channels[name] = Channel(name, self)
        channel.last_used = self.now()
        return channel

    def find(self, name: str) -> Channel | None:
        """The channel of that name if it has been used and was not removed since."""
        return self._channels.get(name)

    def keep(self, channel: Channel, batch: Batch) -> None:
        """Keep a batch of `channel`."""
        self._kept.append((channel, batch))
        self._bytes += batch.size
        self.trim()

    def trim(self) -> None:
        """Remove the messages that are older than two minutes, and the oldest ones above MAX_KEPT_BYTES."""
        oldest = self.now() - MESSAGE_TTL
        while self._kept and (self._bytes > MAX_KEPT_BYTES or self._kept[0][1].timestamp <= oldest):
            channel, batch = self._kept.popleft()
            self._bytes -= batch.size
            channel.remove_oldest()

    def _remove_idle(self) -> None:
        now = self.now()
        full = len(self._channels) >= MAX_CHANNELS
        if not full and now - self._last_removal < MESSAGE_TTL:
            return
        self.trim()
        self._last_removal = now
        for channel in list(self._channels.values()):
            if channel.is_idle and (full or now - channel.last_used > MESSAGE_TTL):
                del self._channels[channel.name]


def checked_name(name: str) -> str:
    """Return `name`. Raises Failure 40010 when a channel cannot have that name."""
    if not name or name[0] in ":[" or not name.isprintable():
        raise Failure(
            40010,
            400,
            f"invalid channel name {name[:100]!r}: it must not be empty, start with ':' or '[', or contain"
            " a line break",
        )
    return name
