"""The realtime interface: connections from the websocket's opening to their end."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from aiohttp import WSMsgType, hdrs, web

from .channel_protocol import ChannelProtocol
from .clock import Clock
from .connection import MAX_IDLE, STATE_TTL, Connection
from .credentials import Credentials
from .expiring import Expiring
from .failure import Failure
from .log import LOG, Journal
from .presented import Verifier
from .revocation import Revocation
from .transport import Transport
from .unverified import APP_DELETED, BAD_VERSION, CONNECTION_ENDED, PRESENCE_GRACE
from .wire import MAX_FRAME_SIZE, Action, Frame, decode

_NUMBER = re.compile(r"[0-9]{1,9}")
_RENEWABLE = (40141, 40142, 40143)
_CLOSE_TIMEOUT = 2.0
_ENDED_KEPT = 24 * 3_600_000
_MAX_ENDED = 20_000
_MAX_DROPPED = 20_000


class Realtime:
    """All connections, and what is done with their protocol messages."""

    def __init__(self, clock: Clock, verifier: Verifier, journal: Journal, *, basic_over_http: bool) -> None:
        self.connections: dict[str, Connection] = {}
        self._clock = clock
        self._verifier = verifier
        self._journal = journal
        self._basic_over_http = basic_over_http
        self._channels = ChannelProtocol(clock, journal)
        self._dropped: dict[str, Connection] = {}
        self._ended: Expiring[str, bool] = Expiring(clock, limit=_MAX_ENDED)
        self._transports: set[Transport] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """`GET /` with an upgrade: the websocket of a connection, until it closes."""
        if request.headers.get(hdrs.UPGRADE, "").lower() != "websocket":
            raise Failure(40400, 404, "there is only a websocket here: connect with an Ably SDK")
        socket = web.WebSocketResponse(timeout=_CLOSE_TIMEOUT, max_msg_size=MAX_FRAME_SIZE, compress=False)
        try:
            await socket.prepare(request)
        except ConnectionResetError:
            # The client gave up meanwhile. A websocket that was never prepared cannot be returned.
            return web.Response()
        connection: Connection | None = None

        def on_slow() -> None:
            whose = connection and connection.client_id
            self._journal.record("cut off", client=whose, why="it does not read what it is sent")

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
            self._beat(connection, transport)
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
            LOG.exception("the emulator failed on a protocol message")
            if connection is not None:
                self._fail(connection, Failure(50000, 500, "the emulator failed; see its log"))
        finally:
            if connection is not None and connection.transport is transport:
                self._drop(connection)
            transport.close()
            await transport.finished()
            self._transports.discard(transport)
        return socket

    def enforce(self, revocation: Revocation) -> None:
        """Let a revocation reach the live connections: now, or after its margin, with a prompt before."""
        if revocation.applies_at <= self._clock.now():
            self._cut(revocation)
            return
        for connection in self._live(revocation):
            connection.prompt()
        self._clock.call_at(revocation.applies_at, lambda: self._cut(revocation))

    def end_app(self, app_id: str) -> None:
        """End the connections of a deleted app."""
        for connection in list(self.connections.values()):
            if connection.grant.app.id == app_id:
                self._fail(connection, Failure(*APP_DELETED, f"application {app_id} was deleted"))

    async def close(self) -> None:
        """Close every transport, and forget every connection."""
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
        credentials = Credentials.of(request)
        if credentials.key is not None and not (self._basic_over_http or request.secure):
            raise Failure(40103, 401, "a key is not sent over plain HTTP; use TLS, or a token")
        grant, client_id = self._verifier.identify(credentials)
        wanted = request.query.get("resume") or request.query.get("recover")
        connection, failure = self._find(wanted, grant.app.id) if wanted else (None, None)
        if connection is not None and client_id != connection.client_id:
            raise Failure(40102, 401, "the connection to resume is another client's")
        resumed = connection is not None
        if connection is None:
            connection = Connection(self._clock, grant, client_id, on_expired=self._expired)
            self.connections[connection.id] = connection
        self._take_over(connection, transport)
        connection.echo = request.query.get("echo") != "false"
        connection.remains_present_for = _grace(request.query.get("remainPresentFor"))
        connection.grant = grant
        connection.new_key()
        connection.send(connection.connected(failure))
        connection.watch_expiry()
        self._journal.record(
            "resumed" if resumed else "connected",
            client=client_id,
            connection=connection.id,
            key=grant.key.name,
            capability=str(grant),
            note=failure and failure.message,
        )
        return connection

    def _find(self, key: str, app_id: str) -> tuple[Connection | None, Failure | None]:
        """The connection of a connection key, or why it cannot be resumed."""
        connection_id = key.partition("!")[0]
        connection = self.connections.get(connection_id)
        if connection and connection.has_key(key) and connection.grant.app.id == app_id:
            return connection, None
        if connection is None and connection_id in self._ended:
            return None, Failure(
                *CONNECTION_ENDED, "unable to recover connection: it was closed or is too old"
            )
        return None, Failure(80018, 400, "unable to recover connection: no such connection")

    def _take_over(self, connection: Connection, transport: Transport) -> None:
        """Make `transport` the connection's, in place of an earlier one."""
        earlier, connection.transport = connection.transport, transport
        if earlier is not None:
            earlier.close()
            self._forget_attachments(connection)
        self._dropped.pop(connection.id, None)
        if connection.forgetting is not None:
            connection.forgetting.cancel()
            connection.forgetting = None

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
        """AUTH: go on with the new token, or say why not in the form that makes an SDK do the right thing."""
        auth = message.get("auth")
        token = auth.get("accessToken") if isinstance(auth, dict) else None
        try:
            if not isinstance(token, str):
                raise Failure(40101, 401, "an AUTH message needs auth.accessToken")
            grant = self._verifier.token(token)
            connection.check(grant)
        except Failure as failure:
            if failure.code in _RENEWABLE:
                self._disconnect(connection, failure)
            else:
                self._fail(connection, failure)
            return
        connection.adopt(grant)
        connection.send(connection.connected())
        self._journal.record(
            "reauthorized", client=connection.client_id, connection=connection.id, capability=str(grant)
        )

    def _expired(self, connection: Connection) -> None:
        if connection.is_connected:
            self._disconnect(connection, Failure(40142, 401, "token expired"))

    def _disconnect(self, connection: Connection, failure: Failure) -> None:
        """Send a client away that can come back with a new credential, and resume."""
        frame = Frame(Action.DISCONNECTED, connectionId=connection.id, error=failure.info)
        self._refuse(connection, failure, frame)
        self._drop(connection)

    def _fail(self, connection: Connection, failure: Failure) -> None:
        """End a connection for good."""
        self._refuse(connection, failure, Frame(Action.ERROR, error=failure.info))
        self._end(connection)

    def _refuse(self, connection: Connection, failure: Failure, frame: Frame) -> None:
        connection.send(frame)
        self._journal.record(
            "disconnected",
            client=connection.client_id,
            connection=connection.id,
            code=failure.code,
            why=failure.message,
        )

    def _drop(self, connection: Connection) -> None:
        """The transport is gone, or goes: the client has two minutes to come back."""
        transport, connection.transport = connection.transport, None
        if transport is not None:
            transport.close()
        connection.stop_watching()
        self._forget_attachments(connection)
        now = self._clock.now()
        self._dropped[connection.id] = connection
        connection.forgetting = self._clock.call_at(now + STATE_TTL, lambda: self._end(connection))
        if len(self._dropped) > _MAX_DROPPED:
            self._end(next(iter(self._dropped.values())))

    def _forget_attachments(self, connection: Connection) -> None:
        """Clients attach again; until then their members stay present for a while."""
        present = [
            one.channel for one in connection.attachments.values() if connection.id in one.channel.presence
        ]
        for name in list(connection.attachments):
            connection.detach(name, leave=False)

        def leave() -> None:
            for channel in present:
                if channel.name not in connection.attachments:
                    gone = channel.presence.leave(connection.id, self._clock.now())
                    channel.tell_presence(gone, connection_id=connection.id)

        if present:
            self._clock.call_at(self._clock.now() + connection.remains_present_for, leave)

    def _end(self, connection: Connection) -> None:
        """The connection is over, and cannot be resumed."""
        if self.connections.pop(connection.id, None) is None:
            return
        connection.stop_watching()
        for name in list(connection.attachments):
            connection.detach(name)
        if connection.forgetting is not None:
            connection.forgetting.cancel()
        self._dropped.pop(connection.id, None)
        self._ended.put(connection.id, True, until=self._clock.now() + _ENDED_KEPT)
        transport, connection.transport = connection.transport, None
        if transport is not None:
            transport.close()

    def _beat(self, connection: Connection, transport: Transport) -> None:
        """Send heartbeats for as long as the transport is the connection's."""

        def beat() -> None:
            if connection.transport is transport:
                transport.beat()
                self._clock.call_at(self._clock.now() + MAX_IDLE / 2, beat)

        self._clock.call_at(self._clock.now() + MAX_IDLE / 2, beat)

    def _cut(self, revocation: Revocation) -> None:
        for connection in self._live(revocation):
            self._disconnect(connection, Failure(40141, 401, "token revoked"))

    def _live(self, revocation: Revocation) -> list[Connection]:
        """The connections with a transport whose credential a revocation names."""
        return [one for one in self.connections.values() if one.is_connected and revocation.names(one.grant)]


def _grace(text: str | None) -> int:
    """For how many milliseconds members of a dropped connection stay, which a client may choose."""
    return min(int(text), STATE_TTL) if text and _NUMBER.fullmatch(text) else PRESENCE_GRACE
