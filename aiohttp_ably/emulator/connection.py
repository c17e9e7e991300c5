"""A realtime connection, with its access and its attachments, and the websocket that it uses at present."""

from __future__ import annotations

import asyncio
import hmac
from collections import deque
from collections.abc import Callable

from aiohttp import WSMsgType, web

from ..capability import Capability
from .apps import random_name
from .channels import Attachment
from .clock import Clock, Timer
from .credentials import WILDCARD, Access
from .unverified import MIN_LIFETIME_FOR_AUTH, PRESENCE_GRACE, STAYS_ANONYMOUS
from .wire import MAX_FRAME_SIZE, MAX_MESSAGE_SIZE, MODES, Action, Failure, Flag, Frame

MAX_WAITING = 2 * 1024 * 1024
"""Bytes that may wait in the queue of a websocket, beside those in the socket's own buffer."""
CLOSE_TIMEOUT = 5.0
"""Seconds after which a websocket that does not close is aborted."""
STATE_TTL = 120_000
"""Milliseconds for which a dropped connection can be resumed."""
MAX_IDLE = 15_000
"""Milliseconds without a message after which a client may disconnect."""
AUTH_BEFORE_EXPIRY = 30_000
"""Milliseconds before the expiry of a credential at which the client is sent AUTH."""
_INBOUND_RATE = 250
_KEYS_KEPT = 8
_HEARTBEAT = Frame(Action.HEARTBEAT)
_PING = b""


class Transport:
    """A websocket with a bounded queue, which is aborted when a slow reader lets the queue fill up.

    `on_slow` is called after that. `silent` is for a client that requests no heartbeats: it is sent websocket
    pings instead, and no pong is required.
    """

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        *,
        binary: bool,
        silent: bool,
        on_slow: Callable[[], None],
    ) -> None:
        self.binary = binary
        self._silent = silent
        self._request = request
        self._socket = socket
        self._on_slow = on_slow
        self._queue: deque[bytes] = deque()
        self._waiting = 0
        self._closing = False
        self._writer: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def send(self, frame: Frame) -> None:
        """Put a protocol message into the queue. After `close` it is ignored."""
        if self._closing:
            return
        data = frame.encoded(binary=self.binary)
        self._waiting += len(data)
        if self._waiting > MAX_WAITING:
            self.abort()
            self._on_slow()
            return
        self._queue.append(data)
        self._write_soon()

    def heartbeat(self) -> None:
        """Send a heartbeat, or a ping to a silent client."""
        if not self._silent:
            self.send(_HEARTBEAT)
        elif not self._queue:
            self._queue.append(_PING)
            self._write_soon()

    def close(self) -> None:
        """Close the websocket when the queue is sent, or abort it after CLOSE_TIMEOUT."""
        if not self._closing:
            self._closing = True
            self._write_soon()
            self._deadline = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self.abort)

    def abort(self) -> None:
        """Close the socket at once, without sending the queue."""
        self._closing = True
        self._queue.clear()
        if (transport := self._request.transport) is not None:
            transport.abort()

    async def finished(self) -> None:
        """Wait until the queue is sent."""
        if self._writer is not None:
            await asyncio.wait((self._writer,))

    def _write_soon(self) -> None:
        # The task ends with the queue: an idle connection takes less memory without one.
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        kind = WSMsgType.BINARY if self.binary else WSMsgType.TEXT
        try:
            while self._queue:
                data = self._queue.popleft()
                await self._socket.send_frame(data, WSMsgType.PING if data is _PING else kind)
                self._waiting -= len(data)
            if self._closing:
                await self._socket.close()
        except ConnectionError:
            self.abort()
        if self._deadline is not None:
            self._deadline.cancel()


class Connection:
    """A connection with its access, attachments and timers.

    `on_expired` is called when its credential expires.
    """

    def __init__(
        self,
        clock: Clock,
        access: Access,
        client_id: str | None,
        *,
        on_expired: Callable[[Connection], None],
    ) -> None:
        self.id: str = random_name(10)
        self.client_id = client_id
        self.access: Access = access
        self.echo = True
        self.presence_grace = PRESENCE_GRACE
        self.attachments: dict[str, Attachment] = {}
        self.transport: Transport | None = None
        self.end_timer: Timer | None = None
        self._clock = clock
        self._on_expired = on_expired
        self._keys: deque[str] = deque(maxlen=_KEYS_KEPT)
        self._timers: list[Timer] = []

    @property
    def capability(self) -> Capability:
        """The capability of its present credential."""
        return self.access.capability

    @property
    def channels(self) -> dict[str, Flag]:
        """The channels that it is attached to, each with the granted modes."""
        return {name: attachment.granted for name, attachment in self.attachments.items()}

    @property
    def is_connected(self) -> bool:
        """Whether it has a websocket now."""
        return self.transport is not None

    def send(self, frame: Frame) -> None:
        """Send a protocol message. It is lost when the connection has no websocket."""
        if self.transport is not None:
            self.transport.send(frame)

    def new_key(self) -> None:
        """Generate a connection key for a new websocket."""
        self._keys.append(f"{self.id}!{random_name(16)}")

    def has_key(self, key: str) -> bool:
        """Whether `key` is one of the last eight connection keys."""
        return any(hmac.compare_digest(key.encode(), known.encode()) for known in self._keys)

    def connected(self, failure: Failure | None = None) -> Frame:
        """The CONNECTED message. `failure` says why the connection could not be resumed."""
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

    def check(self, access: Access) -> None:
        """Raise Failure 40102 when `access` is for another app or client id than the connection."""
        if access.app is not self.access.app:
            raise Failure(40102, 401, "the token is for another application than that of the connection")
        changeable = (WILDCARD,) if STAYS_ANONYMOUS else (WILDCARD, None)
        if access.client_id not in (WILDCARD, self.client_id) and self.client_id not in changeable:
            raise Failure(
                40102,
                401,
                f"mismatched client id: the token is for {access.client_id!r}, the connection is"
                f" {self.client_id!r}; the client id of a connection cannot change",
            )

    def reauthorize(self, access: Access) -> None:
        """Replace the access, and update each attachment to what it allows.

        The client is sent ERROR for a channel that is no longer allowed, ATTACHED for one whose modes change.
        """
        self.access = access
        if access.client_id != WILDCARD:
            self.client_id = access.client_id
        self.schedule_expiry()
        for name, attachment in list(self.attachments.items()):
            granted = granted_modes(access, name, attachment.requested)
            if not granted:
                self.detach(name)
                self.send(channel_error(name, denied(access, name)))
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

    def schedule_expiry(self) -> None:
        """Schedule the AUTH message before the credential expires, and `on_expired` for when it does."""
        self.cancel_expiry()
        expires = self.access.expires
        if expires is None:
            return
        now = self._clock.now()
        left = expires - now
        self._timers.append(self._clock.call_at(expires, lambda: self._on_expired(self)))
        if left > AUTH_BEFORE_EXPIRY + 1_000:
            self._timers.append(self._clock.call_at(expires - AUTH_BEFORE_EXPIRY, self.send_auth))
        elif left >= MIN_LIFETIME_FOR_AUTH:
            # Sent at once, AUTH would be answered with a token as short, and followed by AUTH, without end.
            self._timers.append(self._clock.call_at(now + left / 2, self.send_auth))

    def cancel_expiry(self) -> None:
        """Cancel what `schedule_expiry` scheduled."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def send_auth(self) -> None:
        """Request a new token from the client (AUTH)."""
        self.send(Frame(Action.AUTH))

    def attach(self, attachment: Attachment) -> None:
        """Add an attachment to this connection and to the channel."""
        self.attachments[attachment.channel.name] = attachment
        attachment.channel.attached[self.id] = attachment

    def detach(self, name: str, *, leave: bool = True) -> None:
        """Remove the attachment to a channel, if there is one.

        The members of the connection leave too, unless `leave` is False.
        """
        attachment = self.attachments.pop(name, None)
        if attachment is not None:
            attachment.channel.attached.pop(self.id, None)
            if leave:
                left = attachment.channel.presence.leave(self.id, self._clock.now())
                attachment.channel.send_presence(left, connection_id=self.id)

    def __repr__(self) -> str:
        return f"Connection({self.id!r}, client_id={self.client_id!r}, channels={list(self.attachments)})"


def granted_modes(access: Access, channel: str, requested: Flag) -> Flag:
    """The modes among `requested` that `access` allows on `channel`."""
    operations = access.capability.operations(channel)
    granted = Flag(0)
    for mode, operation in MODES.items():
        if mode in requested and ("*" in operations or operation in operations):
            granted |= mode
    return granted


def denied(access: Access, channel: str) -> Failure:
    """The Failure for an ATTACH of which no mode is allowed."""
    return Failure(40160, 401, f"channel {channel[:200]!r} is not permitted: the credential allows {access}")


def channel_error(channel: str, failure: Failure) -> Frame:
    """The ERROR message that fails a channel and keeps the connection."""
    return Frame(Action.ERROR, channel=channel, error=failure.info)
