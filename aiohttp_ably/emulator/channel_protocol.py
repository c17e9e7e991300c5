"""What a connection does on channels: attach, detach, publish, and be present."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from .channels import Attachment, Batch, Channel, checked_name
from .clock import Clock
from .connection import Connection, channel_error, denied, granted_modes
from .failure import Failure
from .grant import sender
from .log import Journal
from .unverified import NOT_ATTACHED
from .wire import ALL_MODES, DEFAULT_MODES, MODES, Action, Flag, Frame, read_items

_ECHOED_PARAMS = ("modes", "rewind", "delta", "occupancy")
_REWIND = re.compile(r"(?P<count>[0-9]{1,4})(?P<unit>[sm]?)")
_MAX_REWIND = 100
_SYNC_PAGE = 100


class ChannelProtocol:
    """Handlers of the protocol messages that are about a channel."""

    def __init__(self, clock: Clock, journal: Journal) -> None:
        self._clock = clock
        self._journal = journal

    def attach(self, connection: Connection, message: dict[str, Any]) -> None:
        """ATTACH: grant what the credential allows of the modes asked for, and say what happened since."""
        name = _channel_name(message)
        try:
            channel_name = checked_name(name)
            params = _params(message)
            wanted = _wanted(message, params)
            granted = granted_modes(connection.grant, channel_name, wanted)
            if not granted:
                raise denied(connection.grant, channel_name)
        except Failure as failure:
            connection.detach(name)
            connection.send(channel_error(name, failure))
            self._refused(connection, "attach", name, failure)
            return
        channel = connection.grant.app.channels.get(channel_name)
        attachment = Attachment(channel, connection, wanted, granted, _echoed(params))
        connection.attach(attachment)
        self._journal.record(
            "attached",
            channel=name,
            client=connection.client_id,
            connection=connection.id,
            modes=",".join(mode.name or "" for mode in MODES if mode in granted).lower(),
        )
        self._welcome(connection, attachment, message, params)

    def detach(self, connection: Connection, message: dict[str, Any]) -> None:
        """DETACH, which succeeds also where nothing was attached."""
        name = _channel_name(message)
        connection.detach(name)
        connection.send(Frame(Action.DETACHED, channel=name))

    def sync(self, connection: Connection, message: dict[str, Any]) -> None:
        """SYNC: tell again who is present."""
        attachment = connection.attachments.get(_channel_name(message))
        if attachment is not None and Flag.PRESENCE_SUBSCRIBE in attachment.granted:
            self._send_members(connection, attachment.channel)

    def publish(self, connection: Connection, message: dict[str, Any]) -> None:
        """MESSAGE: deliver and ACK, or NACK."""

        def deliver(name: str, base_id: str) -> list[str]:
            connection.grant.require("publish", name)
            attachment = connection.attachments.get(name)
            if attachment is not None and Flag.PUBLISH not in attachment.granted:
                raise Failure(40160, 401, f"{name!r} was attached without the mode publish")
            items = read_items(message.get("messages"))
            for item in items:
                if (client_id := sender(connection.client_id, item.get("clientId"))) is not None:
                    item["clientId"] = client_id
            channel = connection.grant.app.channels.get(name)
            return channel.publish(items, base_id=base_id, connection_id=connection.id).serials

        self._acknowledge(connection, message, "publish", deliver)

    def presence(self, connection: Connection, message: dict[str, Any]) -> None:
        """PRESENCE: let members enter, update or leave and ACK, or NACK."""

        def enter(name: str, base_id: str) -> list[str]:
            connection.grant.require("presence", name)
            attachment = connection.attachments.get(name)
            if attachment is None:
                raise Failure(*NOT_ATTACHED, f"attach to {name!r} before being present there")
            if Flag.PRESENCE not in attachment.granted:
                raise Failure(40160, 401, f"{name!r} was attached without the mode presence")
            items = read_items(message.get("presence"), action=True)
            now = self._clock.now()
            for number, item in enumerate(items):
                client_id = sender(connection.client_id, item.get("clientId"))
                if client_id is None:
                    raise Failure(40012, 400, "presence needs a client id, and the connection has none")
                item |= {
                    "id": f"{base_id}:{number}",
                    "clientId": client_id,
                    "connectionId": connection.id,
                    "timestamp": now,
                }
            channel = attachment.channel
            changed = [channel.presence.apply(item) for item in items]
            channel.tell_presence(changed, connection_id=connection.id, batch_id=base_id)
            return []

        self._acknowledge(connection, message, "presence", enter)

    def _acknowledge(
        self,
        connection: Connection,
        message: dict[str, Any],
        what: str,
        act: Callable[[str, str], list[str]],
    ) -> None:
        serial = message.get("msgSerial")
        if isinstance(serial, bool) or not isinstance(serial, int):
            raise Failure(40000, 400, f"a message to {what} needs a whole number as its msgSerial")
        name = _channel_name(message)
        try:
            serials = act(checked_name(name), f"{connection.id}:{serial}")
        except Failure as failure:
            connection.send(Frame(Action.NACK, msgSerial=serial, count=1, error=failure.info))
            self._refused(connection, what, name, failure)
        else:
            result = [{"serials": serials}] if serials else None
            connection.send(Frame(Action.ACK, msgSerial=serial, count=1, res=result))

    def _welcome(
        self, connection: Connection, attachment: Attachment, message: dict[str, Any], params: dict[str, str]
    ) -> None:
        """ATTACHED, then who is present, then the messages the client has not seen."""
        channel, granted = attachment.channel, attachment.granted
        flags, serial, missed = granted, channel.serial, list[Batch]()
        since = message.get("channelSerial")
        if isinstance(since, str) and since:
            if channel.continues(since):
                flags |= Flag.RESUMED
                missed = channel.after(since)
                # Where the client stands: if it drops again before it has all, it asks from here.
                serial = since
        elif not _flags(message) & Flag.ATTACH_RESUME and "rewind" in params:
            missed = self._rewound(channel, params["rewind"])
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

    def _rewound(self, channel: Channel, text: str) -> list[Batch]:
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

    def _refused(self, connection: Connection, what: str, channel: str, failure: Failure) -> None:
        self._journal.record(
            "refused",
            request=f"{what} {channel[:200]}",
            client=connection.client_id,
            connection=connection.id,
            code=failure.code,
            why=failure.message,
        )


def _channel_name(message: dict[str, Any]) -> str:
    name = message.get("channel", "")
    if not isinstance(name, str):
        raise Failure(40010, 400, "channel must be text")
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


def _wanted(message: dict[str, Any], params: dict[str, str]) -> Flag:
    """The modes asked for: by name, else by flag, else those that are usual."""
    if "modes" in params:
        names = {name.strip().upper() for name in params["modes"].split(",")}
        return Flag(sum(mode for mode in MODES if mode.name in names))
    return _flags(message) & ALL_MODES or DEFAULT_MODES
