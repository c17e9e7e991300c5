"""Channels: who is attached, the last two minutes of messages, and who is present."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .clock import Clock
from .failure import Failure
from .presence import Presence
from .wire import Action, Flag, Frame, Item, size_of

KEPT = 120_000
"""Milliseconds for which messages are kept, for history and for clients that come back."""
MAX_KEPT_BYTES = 64 * 1024 * 1024
"""The most that is kept of an app's messages; the oldest go first."""
MAX_CHANNELS = 50_000
"""The most channels an app may have that nobody is attached to."""
_OVERHEAD = 1_300


class Subscriber(Protocol):
    """A connection, as a channel sees it."""

    @property
    def id(self) -> str:
        """The connection id."""

    @property
    def echo(self) -> bool:
        """Whether it gets its own messages."""

    def send(self, frame: Frame) -> None:
        """Send a frame when the peer is ready for it."""


class Attachment:
    """A connection's place on a channel. `wanted` are the modes it asked for, `granted` those it has."""

    __slots__ = ("channel", "granted", "params", "subscriber", "wanted")

    def __init__(
        self, channel: Channel, subscriber: Subscriber, wanted: Flag, granted: Flag, params: dict[str, str]
    ) -> None:
        self.channel = channel
        self.subscriber = subscriber
        self.wanted = wanted
        self.granted = granted
        self.params = params


@dataclass(frozen=True)
class Batch:
    """Messages published at once, as one protocol message."""

    id: str
    serial: str
    timestamp: int
    messages: Sequence[Item]
    connection_id: str | None = None
    ids: tuple[str, ...] = ()
    size: int = field(default=0, compare=False)

    def frame(self, channel: str) -> Frame:
        """The protocol message that carries this."""
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
        """The serials of its messages."""
        return [message["serial"] for message in self.messages]


class Channel:
    """A channel. `serial` is the place of its newest message; places sort as text."""

    def __init__(self, name: str, channels: Channels) -> None:
        self.name = name
        self.attached: dict[str, Attachment] = {}
        self.presence = Presence()
        self.serial = self.floor = channels.next_serial()
        self.last_used = channels.now()
        self._channels = channels
        self._batches: deque[Batch] = deque()
        self._by_ids: dict[tuple[str, ...], Batch] = {}

    def publish(self, items: Sequence[Item], *, base_id: str, connection_id: str | None = None) -> Batch:
        """Deliver `items` to all who are attached, and keep them for a while.

        `base_id` is what the ids of messages without one start with. Messages that all have an id are not
        delivered again while the same ids are kept: the earlier batch is returned.
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

    def tell_presence(
        self, items: Sequence[Item], *, connection_id: str, batch_id: str | None = None
    ) -> None:
        """Tell all who are attached what changed about who is present."""
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
        """What was published after that place, as far as it is kept."""
        self._channels.trim()
        newer: list[Batch] = []
        for batch in reversed(self._batches):
            if batch.serial <= serial:
                break
            newer.append(batch)
        return newer[::-1]

    def continues(self, serial: str) -> bool:
        """Whether everything published after that place is still kept."""
        self._channels.trim()
        return serial.endswith(self._channels.epoch) and self.floor <= serial <= self.serial

    def kept(self) -> Iterator[Item]:
        """The messages that are kept, newest first."""
        self._channels.trim()
        for batch in reversed(self._batches):
            yield from reversed(batch.messages)

    def latest(self, count: int) -> list[Batch]:
        """The newest batches, as many as hold `count` messages."""
        self._channels.trim()
        batches: list[Batch] = []
        for batch in reversed(self._batches):
            if count <= 0:
                break
            count -= len(batch.messages)
            batches.append(batch)
        return batches[::-1]

    def occupancy(self) -> dict[str, int]:
        """How many use the channel, and how."""
        granted = [attachment.granted for attachment in self.attached.values()]
        return {
            "connections": len(granted),
            "publishers": sum(Flag.PUBLISH in one for one in granted),
            "subscribers": sum(Flag.SUBSCRIBE in one for one in granted),
            "presenceConnections": sum(Flag.PRESENCE in one for one in granted),
            "presenceSubscribers": sum(Flag.PRESENCE_SUBSCRIBE in one for one in granted),
            "presenceMembers": len(self.presence),
        }

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost when the channel is forgotten."""
        return not (self.attached or self.presence or self._batches)

    def drop_oldest(self) -> None:
        """Forget the oldest batch: who has not seen it has lost something."""
        batch = self._batches.popleft()
        self.floor = batch.serial
        if batch.ids:
            self._by_ids.pop(batch.ids, None)

    def _fan_out(self, frame: Frame, mode: Flag, without: str | None = None) -> None:
        for attachment in list(self.attached.values()):
            if mode in attachment.granted and attachment.subscriber.id != without:
                attachment.subscriber.send(frame)


class Channels:
    """The channels of an app by name, and the order in which their messages are forgotten."""

    def __init__(self, clock: Clock, epoch: str) -> None:
        self.epoch = f"@{epoch}"
        self._clock = clock
        self._channels: dict[str, Channel] = {}
        self._kept: deque[tuple[Channel, Batch]] = deque()
        self._bytes = 0
        self._last_tick = 0
        self._last_swept = clock.now()

    def now(self) -> int:
        """The time in milliseconds since the epoch."""
        return self._clock.now()

    def next_serial(self) -> str:
        """A place after all earlier ones."""
        self._last_tick = max(self.now() * 1000, self._last_tick + 1)
        return f"{self._last_tick:017}{self.epoch}"

    def get(self, name: str) -> Channel:
        """The channel of that name. Raises Failure 40010 when it cannot be one's name."""
        channel = self._channels.get(name)
        if channel is None:
            checked_name(name)
            self._sweep()
            channel = self._channels[name] = Channel(name, self)
        channel.last_used = self.now()
        return channel

    def find(self, name: str) -> Channel | None:
        """The channel of that name if anything happened on it lately."""
        return self._channels.get(name)

    def keep(self, channel: Channel, batch: Batch) -> None:
        """Keep a batch until it is too old, or too much is kept."""
        self._kept.append((channel, batch))
        self._bytes += batch.size
        self.trim()

    def trim(self) -> None:
        """Forget what is too old, and the oldest of what is too much."""
        oldest = self.now() - KEPT
        while self._kept and (self._bytes > MAX_KEPT_BYTES or self._kept[0][1].timestamp <= oldest):
            channel, batch = self._kept.popleft()
            self._bytes -= batch.size
            channel.drop_oldest()

    def _sweep(self) -> None:
        now = self.now()
        full = len(self._channels) >= MAX_CHANNELS
        if not full and now - self._last_swept < KEPT:
            return
        self.trim()
        self._last_swept = now
        for channel in list(self._channels.values()):
            if channel.is_idle and (full or now - channel.last_used > KEPT):
                del self._channels[channel.name]


def checked_name(name: str) -> str:
    """`name` when a channel can have it; raises Failure 40010."""
    if not name or name[0] in ":[" or not name.isprintable():
        raise Failure(
            40010,
            400,
            f"invalid channel name {name[:100]!r}: it is empty, starts with ':' or '[', or has a line break",
        )
    return name
