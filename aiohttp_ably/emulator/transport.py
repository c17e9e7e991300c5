"""One websocket of a client: frames go out in order, and a peer that does not read is cut off."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from aiohttp import WSMsgType, web

from .wire import Action, Frame

MAX_WAITING = 2 * 1024 * 1024
"""Bytes that may wait for a slow reader, besides what the socket holds."""
CLOSE_TIMEOUT = 5.0
"""Seconds after which a connection that should close is cut."""
_HEARTBEAT = Frame(Action.HEARTBEAT)
_PING = b""


class Transport:
    """A websocket with a bounded queue. `on_slow` is called when a slow reader has been cut off.

    A client that wants no heartbeats is `silent`: it is pinged instead, and a late pong does not matter.
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
        """Send a frame once the peer has taken the earlier ones. Nothing is sent after `close`."""
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

    def beat(self) -> None:
        """Show that the connection lives."""
        if not self._silent:
            self.send(_HEARTBEAT)
        elif not self._queue:
            self._queue.append(_PING)
            self._write_soon()

    def close(self) -> None:
        """Close when everything is sent, or cut the connection when that takes too long."""
        if not self._closing:
            self._closing = True
            self._write_soon()
            self._deadline = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self.abort)

    def abort(self) -> None:
        """Cut the connection now."""
        self._closing = True
        self._queue.clear()
        if (transport := self._request.transport) is not None:
            transport.abort()

    async def finished(self) -> None:
        """Wait until nothing is being sent any more."""
        if self._writer is not None:
            await asyncio.wait((self._writer,))

    def _write_soon(self) -> None:
        # An idle connection has no task of its own.
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
