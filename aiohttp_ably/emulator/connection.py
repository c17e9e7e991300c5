"""A realtime connection: whose it is, what it may do, where it is attached. It outlives its transports."""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable

from ..capability import Capability
from .apps import random_name
from .channels import Attachment
from .clock import Clock, Timer
from .failure import Failure
from .grant import ANYBODY, Grant
from .transport import Transport
from .unverified import LATE_PROMPT_FROM, PRESENCE_GRACE, STAYS_ANONYMOUS
from .wire import MAX_FRAME_SIZE, MAX_MESSAGE_SIZE, MODES, Action, Flag, Frame

STATE_TTL = 120_000
"""Milliseconds for which a dropped connection can be resumed."""
MAX_IDLE = 15_000
"""Milliseconds after which a client may take silence for a dead connection."""
PROMPT_BEFORE = 30_000
_INBOUND_RATE = 250
_KEYS_KEPT = 8


class Connection:
    """A connection with its credential, attachments and timers.

    `on_expired` is called when the credential's time is over.
    """

    def __init__(
        self,
        clock: Clock,
        grant: Grant,
        client_id: str | None,
        *,
        on_expired: Callable[[Connection], None],
    ) -> None:
        self.id = random_name(10)
        self.client_id = client_id
        self.grant = grant
        self.echo = True
        self.remains_present_for = PRESENCE_GRACE
        self.attachments: dict[str, Attachment] = {}
        self.transport: Transport | None = None
        self.forgetting: Timer | None = None
        self._clock = clock
        self._on_expired = on_expired
        self._keys: deque[str] = deque(maxlen=_KEYS_KEPT)
        self._timers: list[Timer] = []

    @property
    def capability(self) -> Capability:
        """What its present credential allows."""
        return self.grant.capability

    @property
    def channels(self) -> dict[str, Flag]:
        """The channels it is attached to, each with the modes it has."""
        return {name: attachment.granted for name, attachment in self.attachments.items()}

    @property
    def is_connected(self) -> bool:
        """Whether it has a transport now."""
        return self.transport is not None

    def send(self, frame: Frame) -> None:
        """Send a frame if there is a transport; what is lost without one is fetched again on attach."""
        if self.transport is not None:
            self.transport.send(frame)

    def new_key(self) -> None:
        """Make another connection key, for a new transport."""
        self._keys.append(f"{self.id}!{random_name(16)}")

    def has_key(self, key: str) -> bool:
        """Whether `key` is one of the last eight connection keys."""
        return any(hmac.compare_digest(key.encode(), one.encode()) for one in self._keys)

    def connected(self, failure: Failure | None = None) -> Frame:
        """The CONNECTED message; `failure` tells why this is not the connection that was asked for."""
        details: dict[str, object] = {
            "connectionKey": self._keys[-1],
            "maxMessageSize": MAX_MESSAGE_SIZE,
            "maxFrameSize": MAX_FRAME_SIZE,
            "maxInboundRate": _INBOUND_RATE,
            "connectionStateTtl": STATE_TTL,
            "maxIdleInterval": MAX_IDLE,
            "serverId": "aiohttp-ably-emulator",
        }
        if self.client_id is not None:
            details["clientId"] = self.client_id
        return Frame(
            Action.CONNECTED,
            connectionId=self.id,
            connectionDetails=details,
            error=failure and failure.info,
        )

    def check(self, grant: Grant) -> None:
        """Raise Failure 40102 when `grant` is of another app or client than this connection's."""
        if grant.app is not self.grant.app:
            raise Failure(40102, 401, "the token is of another application than the connection's")
        free = (ANYBODY,) if STAYS_ANONYMOUS else (ANYBODY, None)
        if grant.client_id not in (ANYBODY, self.client_id) and self.client_id not in free:
            raise Failure(
                40102,
                401,
                f"mismatched client id: the token is for {grant.client_id!r}, the connection is"
                f" {self.client_id!r}; a connection keeps its client id",
            )

    def adopt(self, grant: Grant) -> None:
        """Go on with another credential, and bring every attachment to what it allows.

        A channel that is no longer allowed fails; one whose modes change is told so.
        """
        self.grant = grant
        if grant.client_id != ANYBODY:
            self.client_id = grant.client_id
        self.watch_expiry()
        for name, attachment in list(self.attachments.items()):
            granted = granted_modes(grant, name, attachment.wanted)
            if not granted:
                self.detach(name)
                self.send(channel_error(name, denied(grant, name)))
            elif granted != attachment.granted:
                attachment.granted = granted
                self.send(
                    Frame(
                        Action.ATTACHED,
                        channel=name,
                        flags=int(granted | Flag.RESUMED),
                        channelSerial=attachment.channel.serial,
                        params=attachment.params or None,
                    )
                )

    def watch_expiry(self) -> None:
        """Prompt for a new credential before the end of this one, and tell when it has come."""
        self.stop_watching()
        expires = self.grant.expires
        if expires is None:
            return
        now = self._clock.now()
        left = expires - now
        self._timers.append(self._clock.call_at(expires, lambda: self._on_expired(self)))
        if left > PROMPT_BEFORE + 1_000:
            self._timers.append(self._clock.call_at(expires - PROMPT_BEFORE, self.prompt))
        elif left >= LATE_PROMPT_FROM:
            # At once would be answered with a token as short, and so on without end.
            self._timers.append(self._clock.call_at(now + left / 2, self.prompt))

    def stop_watching(self) -> None:
        """Forget about the end of the credential."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def prompt(self) -> None:
        """Ask the client for a new credential."""
        self.send(Frame(Action.AUTH))

    def attach(self, attachment: Attachment) -> None:
        """Take a place on a channel."""
        self.attachments[attachment.channel.name] = attachment
        attachment.channel.attached[self.id] = attachment

    def detach(self, name: str, *, leave: bool = True) -> None:
        """Give up the place on a channel; unless `leave` is False, its members leave."""
        attachment = self.attachments.pop(name, None)
        if attachment is not None:
            attachment.channel.attached.pop(self.id, None)
            if leave:
                gone = attachment.channel.presence.leave(self.id, self._clock.now())
                attachment.channel.tell_presence(gone, connection_id=self.id)

    def __repr__(self) -> str:
        return f"Connection({self.id!r}, client_id={self.client_id!r}, channels={list(self.attachments)})"


def granted_modes(grant: Grant, channel: str, wanted: Flag) -> Flag:
    """The modes of `wanted` that `grant` allows on `channel`."""
    operations = grant.capability.operations(channel)
    granted = Flag(0)
    for mode, operation in MODES.items():
        if mode in wanted and ("*" in operations or operation in operations):
            granted |= mode
    return granted


def denied(grant: Grant, channel: str) -> Failure:
    """Why no mode of an attach is allowed."""
    return Failure(40160, 401, f"channel {channel[:200]!r} is not permitted: the credential allows {grant}")


def channel_error(channel: str, failure: Failure) -> Frame:
    """The message that makes a channel fail."""
    return Frame(Action.ERROR, channel=channel, error=failure.info)
