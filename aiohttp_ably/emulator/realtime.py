"""All realtime connections: connect, resume, reauthorize, disconnect."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from aiohttp import WSMsgType, hdrs, web

from .channel_protocol import ChannelProtocol
from .clock import Clock, Expiring
from .connection import MAX_IDLE, STATE_TTL, Connection, Transport
from .journal import LOG, Journal
from .tokens import Revocation
from .unverified import APP_DELETED, BAD_VERSION, CONNECTION_ENDED, PRESENCE_GRACE
from .verifier import Verifier
from .wire import MAX_FRAME_SIZE, Action, Failure, Frame, decode

_NUMBER = re.compile(r"[0-9]{1,9}")
_RENEWABLE = (40141, 40142, 40143)
_CLOSE_TIMEOUT = 2.0
_ENDED_KEPT = 24 * 3_600_000
_MAX_ENDED = 20_000
_MAX_DROPPED = 20_000


class Realtime:
    """The realtime interface: the connections, by id, and the handling of their protocol messages."""

    def __init__(self, clock: Clock, verifier: Verifier, journal: Journal) -> None:
        self.connections: dict[str, Connection] = {}
        self._clock = clock
        self._verifier = verifier
        self._journal = journal
        self._channels = ChannelProtocol(clock, journal)
        self._dropped: dict[str, Connection] = {}
        self._ended: Expiring[str, bool] = Expiring(clock, limit=_MAX_ENDED)
        self._transports: set[Transport] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """`GET /` with an upgrade to websocket: serve a connection until the websocket closes."""
        if request.headers.get(hdrs.UPGRADE, "").lower() != "websocket":
            raise Failure(40400, 404, "this route is a websocket; connect with an Ably SDK")
        socket = web.WebSocketResponse(timeout=_CLOSE_TIMEOUT, max_msg_size=MAX_FRAME_SIZE, compress=False)
        try:
            await socket.prepare(request)
        except ConnectionResetError:
            # The client disconnected. A websocket that was not prepared cannot be returned.
            return web.Response()
        connection: Connection | None = None

        def on_slow() -> None:
            client_id = connection and connection.client_id
            self._journal.record("cut off", client=client_id, why="it does not read what it is sent")

        transport = Transport(
            request,
            socket,
            binary=request.query.get("format") == "msgpack",
            silent=request.query.get("heartbeats") == "false",
            on_slow=on_slow,
        )
        self._transports.add(transport)
        try:
            connection = self._connect(request, transport)
            self._schedule_heartbeats(connection, transport)
            async for frame in socket:
                if frame.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    self._receive(connection, decode(frame.data))
                if connection.transport is not transport:
                    break
        except Failure as failure:
            if connection is None:
                self._journal.record("refused", request="connect", code=failure.code, why=failure.message)
                transport.send(Frame(Action.ERROR, error=failure.info))
            else:
                self._fail(connection, failure)
        except Exception:
            LOG.exception("internal error of the emulator in a protocol message")
            if connection is not None:
                self._fail(connection, Failure(50000, 500, "internal error of the emulator; see its log"))
        finally:
            if connection is not None and connection.transport is transport:
                self._drop(connection)
            transport.close()
            await transport.finished()
            self._transports.discard(transport)
        return socket

    def enforce(self, revocation: Revocation) -> None:
        """Disconnect the connections whose tokens are revoked.

        With a margin for reauthorization, they are sent AUTH now and disconnected after the margin.
        """
        if revocation.applies_at <= self._clock.now():
            self._disconnect_revoked(revocation)
            return
        for connection in self._revoked_connections(revocation):
            connection.send_auth()
        self._clock.call_at(revocation.applies_at, lambda: self._disconnect_revoked(revocation))

    def end_app(self, app_id: str) -> None:
        """Fail the connections of a deleted app."""
        for connection in list(self.connections.values()):
            if connection.access.app.id == app_id:
                self._fail(connection, Failure(*APP_DELETED, f"application {app_id} was deleted"))

    async def close(self) -> None:
        """Close all websockets and end all connections."""
        for connection in list(self.connections.values()):
            self._end(connection)
        transports = list(self._transports)
        for transport in transports:
            transport.close()
        if transports:
            closing = [asyncio.ensure_future(transport.finished()) for transport in transports]
            await asyncio.wait(closing, timeout=_CLOSE_TIMEOUT)
            for transport in transports:
                transport.abort()

    def _connect(self, request: web.Request, transport: Transport) -> Connection:
        version = request.query.get("v", "2")
        if not _NUMBER.fullmatch(version) or int(version) < 2:
            raise Failure(
                *BAD_VERSION, f"protocol version {version[:20]!r} is not supported: v must be 2 or more"
            )
        access, client_id = self._verifier.authenticate(request)
        resume_key = request.query.get("resume") or request.query.get("recover")
        connection, failure = self._find(resume_key, access.app.id) if resume_key else (None, None)
        if connection is not None and client_id != connection.client_id:
            raise Failure(40102, 401, "the connection to resume has another client id")
        resumed = connection is not None
        if connection is None:
            connection = Connection(self._clock, access, client_id, on_expired=self._expired)
            self.connections[connection.id] = connection
        self._set_transport(connection, transport)
        connection.echo = request.query.get("echo") != "false"
        connection.presence_grace = _presence_grace(request.query.get("remainPresentFor"))
        connection.access = access
        connection.new_key()
        connection.send(connection.connected(failure))
        connection.schedule_expiry()
        self._journal.record(
            "resumed" if resumed else "connected",
            client=client_id,
            connection=connection.id,
            key=access.key.name,
            capability=str(access),
            note=failure and failure.message,
        )
        return connection

    def _find(self, key: str, app_id: str) -> tuple[Connection | None, Failure | None]:
        """The connection with that connection key, or the Failure that says why it cannot be resumed."""
        connection_id = key.partition("!")[0]
        connection = self.connections.get(connection_id)
        if connection and connection.has_key(key) and connection.access.app.id == app_id:
            return connection, None
        if connection is None and connection_id in self._ended:
            return None, Failure(
                *CONNECTION_ENDED, "unable to recover connection: it was closed or is too old"
            )
        return None, Failure(80018, 400, "unable to recover connection: no such connection")

    def _set_transport(self, connection: Connection, transport: Transport) -> None:
        """Set the transport of a connection, and close the one it had."""
        earlier, connection.transport = connection.transport, transport
        if earlier is not None:
            earlier.close()
            self._remove_attachments(connection)
        self._dropped.pop(connection.id, None)
        if connection.end_timer is not None:
            connection.end_timer.cancel()
            connection.end_timer = None

    def _receive(self, connection: Connection, message: dict[str, Any]) -> None:
        action = message["action"]
        if action == Action.HEARTBEAT:
            connection.send(Frame(Action.HEARTBEAT, id=message.get("id")))
        elif action == Action.ATTACH:
            self._channels.attach(connection, message)
        elif action == Action.DETACH:
            self._channels.detach(connection, message)
        elif action == Action.MESSAGE:
            self._channels.publish(connection, message)
        elif action == Action.PRESENCE:
            self._channels.presence(connection, message)
        elif action == Action.SYNC:
            self._channels.sync(connection, message)
        elif action == Action.AUTH:
            self._reauthorize(connection, message)
        elif action == Action.CLOSE:
            connection.send(Frame(Action.CLOSED))
            self._journal.record("closed", client=connection.client_id, connection=connection.id)
            self._end(connection)
        elif action == Action.DISCONNECT:
            self._drop(connection)

    def _reauthorize(self, connection: Connection, message: dict[str, Any]) -> None:
        """AUTH: reauthorize the connection with the new token.

        When the token is refused but a new one may help, the client is disconnected and can resume; otherwise
        the connection fails.
        """
        auth = message.get("auth")
        token = auth.get("accessToken") if isinstance(auth, dict) else None
        try:
            if not isinstance(token, str):
                raise Failure(40101, 401, "an AUTH message must have a string auth.accessToken")
            access = self._verifier.token(token)
            connection.check(access)
        except Failure as failure:
            if failure.code in _RENEWABLE:
                self._disconnect(connection, failure)
            else:
                self._fail(connection, failure)
            return
        connection.reauthorize(access)
        connection.send(connection.connected())
        self._journal.record(
            "reauthorized", client=connection.client_id, connection=connection.id, capability=str(access)
        )

    def _expired(self, connection: Connection) -> None:
        if connection.is_connected:
            self._disconnect(connection, Failure(40142, 401, "token expired"))

    def _disconnect(self, connection: Connection, failure: Failure) -> None:
        """Send DISCONNECTED. The client can resume the connection with a new token."""
        frame = Frame(Action.DISCONNECTED, connectionId=connection.id, error=failure.info)
        self._send_failure(connection, failure, frame)
        self._drop(connection)

    def _fail(self, connection: Connection, failure: Failure) -> None:
        """Send ERROR and end the connection, which cannot be resumed."""
        self._send_failure(connection, failure, Frame(Action.ERROR, error=failure.info))
        self._end(connection)

    def _send_failure(self, connection: Connection, failure: Failure, frame: Frame) -> None:
        connection.send(frame)
        self._journal.record(
            "disconnected",
            client=connection.client_id,
            connection=connection.id,
            code=failure.code,
            why=failure.message,
        )

    def _drop(self, connection: Connection) -> None:
        """Release the transport of a connection. The client can resume it for two minutes."""
        transport, connection.transport = connection.transport, None
        if transport is not None:
            transport.close()
        connection.cancel_expiry()
        self._remove_attachments(connection)
        now = self._clock.now()
        self._dropped[connection.id] = connection
        connection.end_timer = self._clock.call_at(now + STATE_TTL, lambda: self._end(connection))
        if len(self._dropped) > _MAX_DROPPED:
            self._end(next(iter(self._dropped.values())))

    def _remove_attachments(self, connection: Connection) -> None:
        """Detach from all channels. The presence members of the connection leave after its presence grace.

        A client that resumes attaches again, and its members stay.
        """
        channels = [attachment.channel for attachment in connection.attachments.values()]
        present = [channel for channel in channels if connection.id in channel.presence]
        for name in list(connection.attachments):
            connection.detach(name, leave=False)

        def leave() -> None:
            for channel in present:
                if channel.name not in connection.attachments:
                    left = channel.presence.leave(connection.id, self._clock.now())
                    channel.send_presence(left, connection_id=connection.id)

        if present:
            self._clock.call_at(self._clock.now() + connection.presence_grace, leave)

    def _end(self, connection: Connection) -> None:
        """End a connection, so that it cannot be resumed."""
        if self.connections.pop(connection.id, None) is None:
            return
        connection.cancel_expiry()
        for name in list(connection.attachments):
            connection.detach(name)
        if connection.end_timer is not None:
            connection.end_timer.cancel()
        self._dropped.pop(connection.id, None)
        self._ended.put(connection.id, True, until=self._clock.now() + _ENDED_KEPT)
        transport, connection.transport = connection.transport, None
        if transport is not None:
            transport.close()

    def _schedule_heartbeats(self, connection: Connection, transport: Transport) -> None:
        """Send heartbeats as long as the connection uses this transport."""

        def heartbeat() -> None:
            if connection.transport is transport:
                transport.heartbeat()
                self._clock.call_at(self._clock.now() + MAX_IDLE / 2, heartbeat)

        self._clock.call_at(self._clock.now() + MAX_IDLE / 2, heartbeat)

    def _disconnect_revoked(self, revocation: Revocation) -> None:
        for connection in self._revoked_connections(revocation):
            self._disconnect(connection, Failure(40141, 401, "token revoked"))

    def _revoked_connections(self, revocation: Revocation) -> list[Connection]:
        """The connections with a websocket whose token is revoked."""
        connected = [connection for connection in self.connections.values() if connection.is_connected]
        return [connection for connection in connected if revocation.applies_to(connection.access)]


def _presence_grace(text: str | None) -> int:
    """The presence grace that a client requests with `remainPresentFor`, or the default."""
    return min(int(text), STATE_TTL) if text and _NUMBER.fullmatch(text) else PRESENCE_GRACE
