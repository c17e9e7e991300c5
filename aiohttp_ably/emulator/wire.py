"""The wire format: errors, protocol messages and their constants, encoded as JSON or msgpack."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Any

import msgpack

from ..capability import strict_json
from ..errors import AuthError

MAX_MESSAGE_SIZE = 65_536
MAX_FRAME_SIZE = 524_288
_HELP = "https://help.ably.io/error/"

Item = dict[str, Any]
"""A message or a presence message, with its names on the wire."""


class Failure(Exception):
    """An error that the emulator reports to a client: an Ably error code, its HTTP status and a message."""

    def __init__(self, code: int, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message

    @classmethod
    def of(cls, error: AuthError) -> Failure:
        """The Failure with the code, status and message of `error`."""
        return cls(error.code, error.status, error.message)

    @property
    def info(self) -> dict[str, object]:
        """The ErrorInfo of this failure (TI1)."""
        return {
            "message": self.message,
            "code": self.code,
            "statusCode": self.status,
            "href": f"{_HELP}{self.code}",
        }

    def __repr__(self) -> str:
        return f"Failure({self.code}, {self.status}, {self.message!r})"


class Action(IntEnum):
    """The action of a protocol message (TR2)."""

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
    """The flags of a protocol message, which include the channel modes (TR3)."""

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
"""The channel modes, each with the operation that it requires."""

ALL_MODES = Flag(sum(MODES))
DEFAULT_MODES = Flag.PRESENCE | Flag.PUBLISH | Flag.SUBSCRIBE | Flag.PRESENCE_SUBSCRIBE


class Frame:
    """A protocol message to send, encoded at most once in each format. Members that are None are left out."""

    __slots__ = ("_json", "_msgpack", "message")

    def __init__(self, action: Action, /, **members: object) -> None:
        self.message: dict[str, Any] = {"action": int(action)}
        self.message.update((name, value) for name, value in members.items() if value is not None)
        self._json: bytes | None = None
        self._msgpack: bytes | None = None

    def encoded(self, *, binary: bool) -> bytes:
        """The protocol message as msgpack when `binary` is True, else as JSON in UTF-8."""
        if binary:
            if self._msgpack is None:
                self._msgpack = packb(self.message)
            return self._msgpack
        if self._json is None:
            message = self.message
            for name in ("messages", "presence"):
                if name in message:
                    message = message | {name: [for_json(item) for item in message[name]]}
            self._json = strict_json.dumps(message).encode()
        return self._json


def decode(data: bytes | str) -> dict[str, Any]:
    """The protocol message in a websocket frame: a str is JSON, bytes are msgpack.

    Raises Failure 40000 when it is malformed.
    """
    message = loads(data) if isinstance(data, str) else unpackb(data, old_strings=False)
    if not isinstance(message, dict) or not isinstance(message.get("action"), int):
        raise Failure(40000, 400, "a protocol message must be an object with a numeric action")
    return message


def loads(data: bytes | str) -> Any:
    """Decode JSON. Raises Failure 40000 when it is malformed."""
    try:
        return strict_json.loads(data)
    except ValueError as error:
        raise Failure(40000, 400, f"not JSON: {error}") from None


def unpackb(data: bytes, *, old_strings: bool = True) -> Any:
    """Decode msgpack. Raises Failure 40000 when it is malformed.

    `old_strings` accepts bytes in a msgpack string, which is how ably-python's REST client packs them.
    """
    errors = "surrogateescape" if old_strings else "strict"
    try:
        return msgpack.unpackb(data, raw=False, unicode_errors=errors)
    except (ValueError, msgpack.UnpackException) as error:
        raise Failure(40000, 400, f"not msgpack: {type(error).__name__}") from None


def packb(value: object) -> bytes:
    """Encode `value` as msgpack."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def for_json(item: Item) -> Item:
    """`item` with binary data encoded as base64, and that appended to its `encoding`."""
    data = item.get("data")
    if not isinstance(data, bytes):
        return item
    encoding = item.get("encoding")
    return item | {
        "data": base64.b64encode(data).decode(),
        "encoding": f"{encoding}/base64" if encoding else "base64",
    }


def read_items(value: object, *, action: bool = False) -> list[Item]:
    """The messages in a request, or with `action` the presence messages. Unknown members are left out.

    Raises Failure 40009 when they are too large together, 40000 when one of them is malformed.
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
    """The size of a message that is compared with the limit: name, client id, data and extras (TO3l8)."""
    size = len(item.get("name", "")) + len(item.get("clientId", ""))
    data = item.get("data", b"")
    size += len(data if isinstance(data, bytes) else data.encode())
    return size + len(strict_json.dumps(item["extras"]).encode()) if "extras" in item else size


def _read_item(value: object, action: bool) -> Item:
    if not isinstance(value, Mapping):
        raise Failure(40000, 400, "a message must be an object such as {'name': 'greeting', 'data': 'hello'}")
    item: Item = {}
    for name in ("id", "name", "clientId", "encoding"):
        text = value.get(name)
        if text is not None:
            if not isinstance(text, str) or not _is_unicode(text):
                raise Failure(
                    40012 if name == "clientId" else 40000, 400, f"{name} of a message must be a string"
                )
            if text or name == "clientId":
                item[name] = text
    if (extras := value.get("extras")) is not None:
        if not isinstance(extras, Mapping):
            raise Failure(40000, 400, "extras of a message must be an object")
        _as_json(extras)
        item["extras"] = extras
    data = value.get("data")
    if isinstance(data, str) and not _is_unicode(data):
        # Bytes in a msgpack string of the old specification, which has no type of its own for them.
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
    """`value` as JSON. Raises Failure 40000 unless both JSON and msgpack can represent it."""
    try:
        text = strict_json.dumps(value)
        strict_json.loads(text.encode())
        packb(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise Failure(40000, 400, f"data and extras must be representable in JSON: {error}") from None
    return text


def _is_unicode(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
