"""Fixtures and helpers for people who test their own auth endpoint.

    from aiohttp_ably.pytest_plugin import assert_allows, realtime_client

    async def test_members_may_publish(aiohttp_client, ably_emulator):
        client = await aiohttp_client(make_app(key=ably_emulator.key))
        answer = await (await client.get("/ably/auth?channel=chat:1")).json()
        assert_allows(answer, {"chat:1": ["publish"]}, client_id="alice", emulator=ably_emulator)

pytest loads this module wherever the package is installed, so it imports nothing before it is needed.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import pytest

if TYPE_CHECKING:
    from ably.realtime.realtime import AblyRealtime

    from .capability import Capability, Operations
    from .emulator import Emulator

_ANY = object()
_F = TypeVar("_F", bound=Callable[..., object])


def _async_fixture(function: _F) -> _F:
    fixture: Any = pytest.fixture
    with contextlib.suppress(ImportError):
        fixture = importlib.import_module("pytest_asyncio").fixture
    return cast(_F, fixture(function))


@_async_fixture
async def ably_emulator() -> AsyncIterator[Emulator]:
    """A running emulator with one key, `ably_emulator.key`, that may do everything."""
    from .emulator import Emulator

    async with Emulator() as emulator:
        yield emulator


def client_options(
    emulator: Emulator, *, sdk: Literal["js", "python"] = "js", tls: bool = False, **options: Any
) -> dict[str, Any]:
    """Client options with which an Ably SDK talks to `emulator` and to nothing else; `options` are added.

    For ably-js they can go through JSON. For ably-python they do for REST; its realtime client ignores the
    port, so make that with `realtime_client`.
    """
    port = "tls_port" if sdk == "python" else "tlsPort"
    ours: dict[str, Any] = {"endpoint": emulator.host, "tls": tls}
    ours[port if tls else "port"] = emulator.tls_port if tls else emulator.port
    check = f"{emulator.tls_url if tls else emulator.url}/is-the-internet-up.txt"
    if sdk == "python":
        ours["connectivity_check_url"] = check
    else:
        ours["connectivityCheckUrl"] = check
        ours["wsConnectivityCheckUrl"] = "ws" + check.removeprefix("http")
        ours["disableConnectivityCheck"] = True
    return ours | options


def realtime_client(emulator: Emulator, *, tls: bool = False, **options: Any) -> AblyRealtime:
    """A connecting ably-python realtime client of `emulator`; close it with `await client.close()`.

    `options` are client options such as `auth_url`; with `auto_connect=False` call `connect()` yourself.
    """
    from ably.realtime.realtime import AblyRealtime

    connect = options.pop("auto_connect", True)
    ours = client_options(emulator, sdk="python", tls=tls, auto_connect=False, **options)
    client = AblyRealtime(**ours)
    # The SDK builds the websocket's URL from the host alone.
    client.options.get_host = lambda: f"{emulator.host}:{emulator.tls_port if tls else emulator.port}"
    if connect:
        client.connect()
    return client


@dataclass(frozen=True)
class TokenContent:
    """What a token, or a request for one, says. Times in milliseconds since the epoch.

    `capability` is None where the token takes that of its key, which only the emulator knows.
    """

    kind: Literal["token request", "jwt", "token"]
    key_name: str
    capability: Capability | None
    client_id: str | None
    issued: int
    expires: int


def decode_token(answer: Any, emulator: Emulator | None = None) -> TokenContent:
    """What an auth endpoint's `answer` allows, and for whom.

    `answer` is a TokenRequest, TokenDetails, a JWT or a token of the emulator: text, JSON text, a dict, or an
    object of the Ably SDK. With `emulator` it is verified as Ably would, and `capability` is what remains of
    it within its key's. Raises ValueError when it is none of these, or does not verify.
    """
    from .capability import strict_json as _json

    if hasattr(answer, "to_dict"):
        answer = answer.to_dict()
    if isinstance(answer, str) and answer.startswith("{"):
        answer = _json.loads(answer)
    if isinstance(answer, Mapping) and isinstance(answer.get("token"), str):
        answer = answer["token"]
    if isinstance(answer, Mapping) and "keyName" in answer:
        return _token_request(answer, emulator)
    if isinstance(answer, str):
        return _verified(answer, emulator) if emulator is not None else _jwt(answer)
    raise ValueError(f"neither a TokenRequest, TokenDetails nor a token: {type(answer).__name__}")


def assert_allows(
    answer: Any,
    allowed: Mapping[str, Operations],
    *,
    client_id: Any = _ANY,
    only: bool = False,
    emulator: Emulator | None = None,
) -> TokenContent:
    """Assert that an auth endpoint's `answer` allows all of `allowed`; with `only`, nothing else.

    `client_id` is whose it must be, None for nobody's. Returns what `decode_token` makes of the answer.
    """
    from .capability import Capability

    content = decode_token(answer, emulator)
    wanted, held = Capability(allowed), content.capability
    assert held is not None, "the token has no capability of its own: it allows all that its key does"  # noqa: S101
    assert held.covers(wanted), f"not allowed: {wanted - held}; the token allows {held}"  # noqa: S101
    if only:
        assert wanted.covers(held), f"allowed besides: {held - wanted}"  # noqa: S101
    if client_id is not _ANY:
        assert content.client_id == client_id, f"the token is of client id {content.client_id!r}"  # noqa: S101
    return content


def _token_request(request: Mapping[str, Any], emulator: Emulator | None) -> TokenContent:
    from .capability import Capability
    from .emulator.wire import Failure
    from .errors import InvalidCredential
    from .keys import KeyRing
    from .tokens import verify_token_request

    text = request.get("capability")
    capability = Capability.parse(text) if text else None
    if emulator is not None:
        try:
            key = emulator.apps.key(str(request["keyName"]))
            verify_token_request(request, KeyRing([key.api_key]))
        except (Failure, InvalidCredential) as error:
            raise ValueError(error.message) from None
        capability = key.capability if capability is None else key.capability & capability
    timestamp, ttl = int(request["timestamp"]), int(request.get("ttl") or 3_600_000)
    name, client_id = str(request["keyName"]), request.get("clientId")
    return TokenContent("token request", name, capability, client_id, timestamp, timestamp + ttl)


def _verified(token: str, emulator: Emulator) -> TokenContent:
    from .emulator.wire import Failure

    try:
        grant = emulator.verifier.token(token)
    except Failure as failure:
        raise ValueError(failure.message) from None
    return TokenContent(
        "jwt" if token.count(".") == 2 else "token",
        grant.key.name,
        grant.capability,
        grant.client_id,
        int(grant.issued or 0),
        int(grant.expires or 0),
    )


def _jwt(token: str) -> TokenContent:
    import jwt

    from .capability import Capability
    from .tokens import CAPABILITY_CLAIM, CLIENT_ID_CLAIM

    if token.count(".") != 2:
        raise ValueError("what this token allows is known to the emulator that issued it: give emulator=")
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
        text = claims.get(CAPABILITY_CLAIM)
        return TokenContent(
            "jwt",
            str(header["kid"]),
            Capability.parse(text) if text else None,
            claims.get(CLIENT_ID_CLAIM),
            int(claims["iat"] * 1000),
            int(claims["exp"] * 1000),
        )
    except (jwt.InvalidTokenError, KeyError, TypeError) as error:
        raise ValueError(f"not an Ably JWT: {type(error).__name__}: {error}") from None
