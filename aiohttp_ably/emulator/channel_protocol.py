"""The protocol messages about a channel: ATTACH, DETACH, SYNC, MESSAGE and PRESENCE."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from .channels import Attachment, Batch, Channel, checked_name
from .clock import Clock
from .connection import Connection, channel_error, denied, granted_modes
from .credentials import sender
from .journal import Journal
from .unverified import NOT_ATTACHED
from .wire import ALL_MODES, DEFAULT_MODES, MODES, Action, Failure, Flag, Frame, read_items

_ECHOED_PARAMS = ("modes", "rewind", "delta", "occupancy")
_REWIND = re.compile(r"(?P<count>[0-9]{1,4})(?P<unit>[sm]?)")
_MAX_REWIND = 100
_SYNC_PAGE = 100


class ChannelProtocol:
    """Handlers of the protocol messages about a channel."""

    def __init__(self, clock: Clock, journal: Journal) -> None:
        self._clock = clock
        self._journal = journal

    def attach(self, connection: Connection, message: dict[str, Any]) -> None:
        """ATTACH: grant the requested modes that are allowed, and send what the client has missed."""
        name = _channel_name(message)
        try:
            channel_name = checked_name(name)
            params = _params(message)
            requested = _requested_modes(message, params)
            granted = granted_modes(connection.access, channel_name, requested)
            if not granted:
                raise denied(connection.access, channel_name)
        except Failure as failure:
            connection.detach(name)
            connection.send(channel_error(name, failure))
            self._refused(connection, "attach", name, failure)
            return
        channel = connection.access.app.channels.get(channel_name)
        attachment = Attachment(channel, connection, requested, granted, _echoed(params))
        connection.attach(attachment)
        self._journal.record(
            "attached",
            channel=name,
            client=connection.client_id,
            connection=connection.id,
            modes=",".join(mode.name or "" for mode in MODES if mode in granted).lower(),
        )
        self._send_attached(connection, attachment, message, params)

    def detach(self, connection: Connection, message: dict[str, Any]) -> None:
        """DETACH, which also succeeds when the channel is not attached."""
        name = _channel_name(message)
        connection.detach(name)
        connection.send(Frame(Action.DETACHED, channel=name))

    def sync(self, connection: Connection, message: dict[str, Any]) -> None:
        """SYNC: send the presence members again."""
        attachment = connection.attachments.get(_channel_name(message))
        if attachment is not None and Flag.PRESENCE_SUBSCRIBE in attachment.granted:
            self._send_members(connection, attachment.channel)

    def publish(self, connection: Connection, message: dict[str, Any]) -> None:
        """MESSAGE: publish and send ACK, or send NACK."""

        def publish_messages(name: str, base_id: str) -> list[str]:
            connection.access.require("publish", name)
            attachment = connection.attachments.get(name)
            if attachment is not None and Flag.PUBLISH not in attachment.granted:
                raise Failure(40160, 401, f"{name!r} was attached without the mode publish")
            items = read_items(message.get("messages"))
            for item in items:
                if (client_id := sender(connection.client_id, item.get("clientId"))) is not None:
                    item["clientId"] = client_id
            channel = connection.access.app.channels.get(name)
            return channel.publish(items, base_id=base_id, connection_id=connection.id).serials

        self._acknowledge(connection, message, "publish", publish_messages)

    def presence(self, connection: Connection, message: dict[str, Any]) -> None:
        """PRESENCE: apply ENTER, UPDATE or LEAVE and send ACK, or send NACK."""

        def update_members(name: str, base_id: str) -> list[str]:
            connection.access.require("presence", name)
            attachment = connection.attachments.get(name)
            if attachment is None:
                raise Failure(
                    *NOT_ATTACHED, f"channel {name!r} must be attached before its presence set can be entered"
                )
            if Flag.PRESENCE not in attachment.granted:
                raise Failure(40160, 401, f"{name!r} was attached without the mode presence")
            items = read_items(message.get("presence"), action=True)
            now = self._clock.now()
            for number, item in enumerate(items):
                client_id = sender(connection.client_id, item.get("clientId"))
                if client_id is None:
                    raise Failure(40012, 400, "presence requires a client id, and the connection has none")
                item |= {
                    "id": f"{base_id}:{number}",
                    "clientId": client_id,
                    "connectionId": connection.id,
                    "timestamp": now,
                }
            channel = attachment.channel
            changed = [channel.presence.apply(item) for item in items]
            channel.send_presence(changed, connection_id=connection.id, batch_id=base_id)
            return []

        self._acknowledge(connection, message, "presence", update_members)

    def _acknowledge(
        self,
        connection: Connection,
        message: dict[str, Any],
        operation: str,
        act: Callable[[str, str], list[str]],
    ) -> None:
        serial = message.get("msgSerial")
        if isinstance(serial, bool) or not isinstance(serial, int):
            raise Failure(40000, 400, f"a message to {operation} needs a whole number as its msgSerial")
        name = _channel_name(message)
        try:
            serials = act(checked_name(name), f"{connection.id}:{serial}")
        except Failure as failure:
            connection.send(Frame(Action.NACK, msgSerial=serial, count=1, error=failure.info))
            self._refused(connection, operation, name, failure)
        else:
            result = [{"serials": serials}] if serials else None
            connection.send(Frame(Action.ACK, msgSerial=serial, count=1, res=result))

    def _send_attached(
        self, connection: Connection, attachment: Attachment, message: dict[str, Any], params: dict[str, str]
    ) -> None:
        """Send ATTACHED, the presence members, and the messages that the client has missed."""
        channel, granted = attachment.channel, attachment.granted
        flags, serial, missed = granted, channel.serial, list[Batch]()
        since = message.get("channelSerial")
        if isinstance(since, str) and since:
            if channel.continues(since):
                flags |= Flag.RESUMED
                missed = channel.after(since)
                # A client that is disconnected before it has all of them attaches again with this serial.
                serial = since
        elif not _flags(message) & Flag.ATTACH_RESUME and "rewind" in params:
            missed = self._rewind(channel, params["rewind"])
        if Flag.SUBSCRIBE not in granted:
            missed, serial = [], channel.serial
        if Flag.PRESENCE_SUBSCRIBE in granted and channel.presence:
            flags |= Flag.HAS_PRESENCE
        if missed:
            flags |= Flag.HAS_BACKLOG
        connection.send(
            Frame(
                Action.ATTACHED,
                channel=channel.name,
                flags=int(flags),
                channelSerial=serial,
                params=attachment.params or None,
            )
        )
        if Flag.HAS_PRESENCE in flags:
            self._send_members(connection, channel)
        for batch in missed:
            if connection.echo or batch.connection_id != connection.id:
                connection.send(batch.frame(channel.name))

    def _send_members(self, connection: Connection, channel: Channel) -> None:
        members = channel.presence.present()
        sequence = f"{connection.id}{self._clock.now()}"
        for start in range(0, max(len(members), 1), _SYNC_PAGE):
            end = start + _SYNC_PAGE
            cursor = str(end) if end < len(members) else ""
            connection.send(
                Frame(
                    Action.SYNC,
                    channel=channel.name,
                    channelSerial=f"{sequence}:{cursor}",
                    presence=members[start:end],
                )
            )

    def _rewind(self, channel: Channel, text: str) -> list[Batch]:
        match = _REWIND.fullmatch(text)
        if match is None:
            return []
        count = int(match["count"])
        if match["unit"]:
            oldest = self._clock.now() - count * (1_000 if match["unit"] == "s" else 60_000)
            return [batch for batch in channel.latest(_MAX_REWIND) if batch.timestamp >= oldest]
        count = min(count, _MAX_REWIND)
        batches = channel.latest(count)
        surplus = sum(len(batch.messages) for batch in batches) - count
        if surplus > 0:
            batches[0] = dataclasses.replace(batches[0], messages=batches[0].messages[surplus:])
        return batches

    def _refused(self, connection: Connection, operation: str, channel: str, failure: Failure) -> None:
        self._journal.record(
            "refused",
            request=f"{operation} {channel[:200]}",
            client=connection.client_id,
            connection=connection.id,
            code=failure.code,
            why=failure.message,
        )


def _channel_name(message: dict[str, Any]) -> str:
    name = message.get("channel", "")
    if not isinstance(name, str):
        raise Failure(40010, 400, "channel must be a string")
    return name


def _flags(message: dict[str, Any]) -> Flag:
    flags = message.get("flags")
    if flags is None:
        return Flag(0)
    if isinstance(flags, bool) or not isinstance(flags, int) or not 0 <= flags < 1 << 53:
        raise Failure(40000, 400, "flags must be a whole number")
    return Flag(flags & sum(Flag))


def _params(message: dict[str, Any]) -> dict[str, str]:
    params = message.get("params") or {}
    if not isinstance(params, dict):
        raise Failure(40000, 400, "params of an attach must be an object")
    return {str(name): str(value) for name, value in params.items()}


def _echoed(params: dict[str, str]) -> dict[str, str]:
    return {name: params[name] for name in _ECHOED_PARAMS if name in params}


def _requested_modes(message: dict[str, Any], params: dict[str, str]) -> Flag:
    """The modes in `params`, or else in the flags, or else the default ones."""
    if "modes" in params:
        names = {name.strip().upper() for name in params["modes"].split(",")}
        return Flag(sum(mode for mode in MODES if mode.name in names))
    return _flags(message) & ALL_MODES or DEFAULT_MODES
