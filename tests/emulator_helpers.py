"""A client for the REST and realtime interfaces of the emulator, and credentials to send with it."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgpack

from aiohttp_ably import ApiKey, Capability
from aiohttp_ably.emulator import Emulator
from aiohttp_ably.emulator.wire import Action, Flag
from aiohttp_ably.tokens import sign_jwt, token_request_mac

KEY = "app1.key1:secret-of-the-first-key"
NAME = "app1.key1"
REVOCABLE_KEY = "app1.revocable:secret-of-the-revocable-key"
NARROW_KEY = "app1.narrow:secret-of-the-narrow-key"
MODES = Flag.PRESENCE | Flag.PUBLISH | Flag.SUBSCRIBE | Flag.PRESENCE_SUBSCRIBE
TIMEOUT = 5.0


def signed(emulator: Emulator, key: str = KEY, **changes: Any) -> dict[str, Any]:
    """A signed TokenRequest of `key`. `changes` replace its members before it is signed; `...` leaves one out."""
    api_key = ApiKey(key)
    request = {
        "keyName": api_key.name,
        "timestamp": emulator.clock.now(),
        "nonce": secrets.token_hex(16),
        "capability": '{"*":["*"]}',
    } | changes
    request = {name: value for name, value in request.items() if value is not ...}
    names = {"ttl": "ttl", "capability": "capability", "timestamp": "timestamp", "nonce": "nonce"}
    fields: dict[str, Any] = {name: request.get(member) for name, member in names.items()}
    mac = token_request_mac(api_key, client_id=request.get("clientId"), **fields)
    return {"mac": mac} | request


def jwt_of(emulator: Emulator, capability: Any, *, ttl: float = 3600, key: str = KEY, **options: Any) -> str:
    """An Ably JWT that is issued now and expires after `ttl` seconds."""
    now = emulator.clock.now() // 1000
    options.setdefault("client_id", None)
    return sign_jwt(ApiKey(key), capability=Capability(capability), issued=now, expires=now + ttl, **options)


def basic(key: str = KEY) -> dict[str, str]:
    """The header with an API key."""
    return {"Authorization": "Basic " + base64.b64encode(key.encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    """The header with a token."""
    return {"Authorization": "Bearer " + base64.b64encode(token.encode()).decode()}


async def call(
    emulator: Emulator, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Send a request; returns the status and the JSON body, or None when the body is empty."""
    async with (
        aiohttp.ClientSession() as client,
        client.request(method, emulator.url + path, json=body, headers=headers) as response,
    ):
        text = await response.text()
        return response.status, json.loads(text) if text else None


async def issue(emulator: Emulator, key: str = KEY, **changes: Any) -> dict[str, Any]:
    """The TokenDetails that the emulator issues for a TokenRequest."""
    name = ApiKey(key).name
    status, details = await call(
        emulator, "POST", f"/keys/{name}/requestToken", signed(emulator, key, **changes)
    )
    assert status == 201, details
    assert isinstance(details, dict)
    return details


async def code_of(
    emulator: Emulator, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, int]:
    """Send a request that is refused; returns the Ably error code and the HTTP status."""
    status, answer = await call(emulator, method, path, body, headers)
    assert set(answer["error"]) == {"message", "code", "statusCode", "href"}
    assert answer["error"]["statusCode"] == status
    return answer["error"]["code"], status


class Peer:
    """The client of a realtime connection. `connected` is the CONNECTED message that it was sent."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, *, binary: bool) -> None:
        self.socket = socket
        self.binary = binary
        self.connected: dict[str, Any] = {}

    async def send(self, action: int, **members: Any) -> None:
        """Send a protocol message."""
        message = {"action": int(action)} | members
        if self.binary:
            await self.socket.send_bytes(msgpack.packb(message))
        else:
            await self.socket.send_str(json.dumps(message))

    async def next(self) -> dict[str, Any]:
        """The next protocol message that is not a heartbeat. Fails when the websocket is closed instead."""
        while True:
            frame = await self.socket.receive(TIMEOUT)
            if frame.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                raise AssertionError(f"closed: {frame}")
            assert (frame.type == aiohttp.WSMsgType.BINARY) == self.binary
            message = msgpack.unpackb(frame.data) if self.binary else json.loads(frame.data)
            assert None not in message.values()
            assert "" not in message.values()
            if message != {"action": Action.HEARTBEAT}:
                return dict(message)

    async def expect(self, action: int) -> dict[str, Any]:
        """The next protocol message, which must have that action."""
        message = await self.next()
        assert message["action"] == action, message
        return message

    async def request(self, action: int, answer: int, **members: Any) -> dict[str, Any]:
        """Send a protocol message; returns the next one received, which must have the action `answer`."""
        await self.send(action, **members)
        return await self.expect(answer)

    async def attach(self, channel: str, **members: Any) -> dict[str, Any]:
        """Attach a channel; returns the ATTACHED message."""
        return await self.request(Action.ATTACH, Action.ATTACHED, channel=channel, **members)

    async def publish(self, channel: str, *messages: dict[str, Any], serial: int = 0) -> None:
        """Send messages, without waiting for ACK or NACK."""
        await self.send(Action.MESSAGE, channel=channel, msgSerial=serial, messages=list(messages))

    async def is_quiet(self) -> bool:
        """Whether the server sends nothing before it answers a heartbeat."""
        return await self.request(Action.HEARTBEAT, Action.HEARTBEAT, id="quiet") == {
            "action": 0,
            "id": "quiet",
        }

    async def is_closed(self) -> bool:
        """Whether the server closes the websocket without another message."""
        frame = await self.socket.receive(TIMEOUT)
        return frame.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING)


@asynccontextmanager
async def opened(emulator: Emulator, *, binary: bool = False, **query: str) -> AsyncIterator[Peer]:
    """A websocket to the emulator. `query` is added to its URL."""
    params = {"v": "3", **({"format": "msgpack"} if binary else {}), **query}
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(f"{emulator.url}/", params=params) as socket,
    ):
        yield Peer(socket, binary=binary)


@asynccontextmanager
async def connected(
    emulator: Emulator, capability: Any = None, *, client_id: str | None = None, **query: Any
) -> AsyncIterator[Peer]:
    """A connection with a JWT for `capability`, by default `{"*":"*"}`.

    A `key`, `access_token` or `accessToken` in `query` replaces the JWT.
    """
    if not {"key", "access_token", "accessToken"} & query.keys():
        query["access_token"] = jwt_of(emulator, capability or {"*": "*"}, client_id=client_id)
    async with opened(emulator, **query) as peer:
        peer.connected = await peer.expect(Action.CONNECTED)
        yield peer


async def eventually(check: Callable[[], object]) -> None:
    """Wait until `check()` is true."""

    async def wait() -> None:
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.002)

    await asyncio.wait_for(wait(), TIMEOUT)
