"""The realtime protocol's constants, and its two encodings: JSON and msgpack."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Any

import msgpack

from ..capability import strict_json as _json
from .failure import Failure

MAX_MESSAGE_SIZE = 65_536
MAX_FRAME_SIZE = 524_288

Item = dict[str, Any]
"""A message or presence message, by its names on the wire."""


class Action(IntEnum):
    """What a protocol message is (TR2)."""

    HEARTBEAT = 0
    ACK = 1
    NACK = 2
    CONNECTED = 4
    DISCONNECT = 5
    DISCONNECTED = 6
    CLOSE = 7
    CLOSED = 8
    ERROR = 9
    ATTACH = 10
    ATTACHED = 11
    DETACH = 12
    DETACHED = 13
    PRESENCE = 14
    MESSAGE = 15
    SYNC = 16
    AUTH = 17


class Flag(IntFlag):
    """Flags of a protocol message, the channel modes among them (TR3)."""

    HAS_PRESENCE = 1 << 0
    HAS_BACKLOG = 1 << 1
    RESUMED = 1 << 2
    ATTACH_RESUME = 1 << 5
    PRESENCE = 1 << 16
    PUBLISH = 1 << 17
    SUBSCRIBE = 1 << 18
    PRESENCE_SUBSCRIBE = 1 << 19
    ANNOTATION_PUBLISH = 1 << 21
    ANNOTATION_SUBSCRIBE = 1 << 22
    OBJECT_SUBSCRIBE = 1 << 24
    OBJECT_PUBLISH = 1 << 25


MODES: Mapping[Flag, str] = {
    Flag.PRESENCE: "presence",
    Flag.PUBLISH: "publish",
    Flag.SUBSCRIBE: "subscribe",
    Flag.PRESENCE_SUBSCRIBE: "subscribe",
    Flag.ANNOTATION_PUBLISH: "annotation-publish",
    Flag.ANNOTATION_SUBSCRIBE: "annotation-subscribe",
    Flag.OBJECT_SUBSCRIBE: "object-subscribe",
    Flag.OBJECT_PUBLISH: "object-publish",
}
"""The modes of an attachment, each with the operation it takes."""

ALL_MODES = Flag(sum(MODES))
DEFAULT_MODES = Flag.PRESENCE | Flag.PUBLISH | Flag.SUBSCRIBE | Flag.PRESENCE_SUBSCRIBE


class Frame:
    """A protocol message on its way out, encoded at most once in each format. Absent members are left out."""

    __slots__ = ("_json", "_msgpack", "message")

    def __init__(self, action: Action, /, **members: object) -> None:
        self.message: dict[str, Any] = {"action": int(action)}
        self.message.update((name, value) for name, value in members.items() if value is not None)
        self._json: bytes | None = None
        self._msgpack: bytes | None = None

    def encoded(self, *, binary: bool) -> bytes:
        """The frame's bytes: msgpack when `binary`, else the UTF-8 of JSON."""
        if binary:
            if self._msgpack is None:
                self._msgpack = packb(self.message)
            return self._msgpack
        if self._json is None:
            message = self.message
            for name in ("messages", "presence"):
                if name in message:
                    message = message | {name: [for_json(item) for item in message[name]]}
            self._json = _json.dumps(message).encode()
        return self._json


def decode(data: bytes | str) -> dict[str, Any]:
    """The protocol message of a frame: JSON when it is text. Raises Failure when it is not one."""
    message = loads(data) if isinstance(data, str) else unpackb(data, old_strings=False)
    if not isinstance(message, dict) or not isinstance(message.get("action"), int):
        raise Failure(40000, 400, "a protocol message is an object with an action")
    return message


def loads(data: bytes | str) -> Any:
    """The value of JSON text. Raises Failure when it is not JSON."""
    try:
        return _json.loads(data)
    except ValueError as error:
        raise Failure(40000, 400, f"not JSON: {error}") from None


def unpackb(data: bytes, *, old_strings: bool = True) -> Any:
    """The value of msgpack. Raises Failure when it is not msgpack.

    `old_strings` lets bytes stand in strings, as ably-python's REST client packs them.
    """
    errors = "surrogateescape" if old_strings else "strict"
    try:
        return msgpack.unpackb(data, raw=False, unicode_errors=errors)
    except (ValueError, msgpack.UnpackException) as error:
        raise Failure(40000, 400, f"not msgpack: {type(error).__name__}") from None


def packb(value: object) -> bytes:
    """`value` as msgpack."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def for_json(item: Item) -> Item:
    """`item` with its data in a form JSON can hold: bytes become base64, which its encoding tells."""
    data = item.get("data")
    if not isinstance(data, bytes):
        return item
    encoding = item.get("encoding")
    return item | {
        "data": base64.b64encode(data).decode(),
        "encoding": f"{encoding}/base64" if encoding else "base64",
    }


def read_items(value: object, *, action: bool = False) -> list[Item]:
    """The messages (or, with `action`, presence messages) of a request, without members nobody knows.

    Raises Failure 40009 when they are too large together and 40000 when they are malformed.
    """
    items = value if isinstance(value, list) else [value]
    read = [_read_item(item, action) for item in items]
    if not read:
        raise Failure(40000, 400, "there is no message in the request")
    size = sum(map(size_of, read))
    if size > MAX_MESSAGE_SIZE:
        raise Failure(40009, 400, f"messages of {size} bytes are over the limit of {MAX_MESSAGE_SIZE}")
    return read


def size_of(item: Item) -> int:
    """The size of a message as it counts for the limit: name, client id, data and extras (TO3l8)."""
    size = len(item.get("name", "")) + len(item.get("clientId", ""))
    data = item.get("data", b"")
    size += len(data if isinstance(data, bytes) else data.encode())
    return size + len(_json.dumps(item["extras"]).encode()) if "extras" in item else size


def _read_item(value: object, action: bool) -> Item:
    if not isinstance(value, Mapping):
        raise Failure(40000, 400, "a message is an object such as {'name': 'greeting', 'data': 'hello'}")
    item: Item = {}
    for name in ("id", "name", "clientId", "encoding"):
        text = value.get(name)
        if text is not None:
            if not isinstance(text, str) or not _is_sendable(text):
                raise Failure(40012 if name == "clientId" else 40000, 400, f"{name} of a message is not text")
            if text or name == "clientId":
                item[name] = text
    if (extras := value.get("extras")) is not None:
        if not isinstance(extras, Mapping):
            raise Failure(40000, 400, "extras of a message must be an object")
        _as_json(extras)
        item["extras"] = extras
    data = value.get("data")
    if isinstance(data, str) and not _is_sendable(data):
        # Bytes that came in an old-spec msgpack string, which cannot tell them from text.
        data = data.encode("utf-8", "surrogateescape")
    elif data is not None and not isinstance(data, (str, bytes)):
        encoding = item.get("encoding")
        data, item["encoding"] = _as_json(data), f"{encoding}/json" if encoding else "json"
    if data is not None:
        item["data"] = data
    if action:
        if not isinstance(value.get("action"), int):
            raise Failure(40000, 400, "a presence message needs an action")
        item["action"] = value["action"]
    return item


def _as_json(value: object) -> str:
    """`value` as JSON text, when every peer can read it in either format."""
    try:
        text = _json.dumps(value)
        _json.loads(text.encode())
        packb(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise Failure(40000, 400, f"data and extras must be what JSON can hold: {error}") from None
    return text


def _is_sendable(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
