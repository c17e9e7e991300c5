"""Helpers for tests of your own auth endpoint, without pytest: client options, and what a token allows.

    from aiohttp_ably.testing import assert_allows

    async with Emulator() as emulator:
        ...  # start your app with key=emulator.key
        async with client.get("/ably/auth?channel=chat:1") as response:
            answer = await response.json()
        assert_allows(answer, {"chat:1": ["publish"]}, client_id="alice", emulator=emulator)

With pytest, the fixture `ably_emulator` is such an emulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Literal

import jwt

from .capability import Capability, Operations, strict_json
from .emulator import Emulator
from .emulator.wire import Failure
from .errors import InvalidCredential
from .keys import KeyRing
from .tokens import CAPABILITY_CLAIM, CLIENT_ID_CLAIM, verify_token_request

if TYPE_CHECKING:
    from ably.realtime.realtime import AblyRealtime

__all__ = ["TokenContent", "assert_allows", "client_options", "decode_token", "realtime_client"]

_DEFAULT_TTL = 3_600_000


def client_options(
    emulator: Emulator, *, sdk: Literal["js", "python"] = "js", tls: bool = False, **options: Any
) -> dict[str, Any]:
    """Client options with which an Ably SDK connects to `emulator` and to no other host.

    Args:
        emulator: the emulator, which must be started.
        sdk: "js" for ably-js, whose options are JSON; "python" for the REST client of ably-python. Its
            realtime client ignores the port: create that with `realtime_client`.
        tls: whether to connect with TLS. The emulator must have been created with `tls=`.
        options: further client options, which replace these.
    """
    port = "tls_port" if sdk == "python" else "tlsPort"
    defaults: dict[str, Any] = {"endpoint": emulator.host, "tls": tls}
    defaults[port if tls else "port"] = emulator.tls_port if tls else emulator.port
    check = f"{emulator.tls_url if tls else emulator.url}/is-the-internet-up.txt"
    if sdk == "python":
        defaults["connectivity_check_url"] = check
    else:
        defaults["connectivityCheckUrl"] = check
        defaults["wsConnectivityCheckUrl"] = "ws" + check.removeprefix("http")
        defaults["disableConnectivityCheck"] = True
    return defaults | options


def realtime_client(emulator: Emulator, *, tls: bool = False, **options: Any) -> AblyRealtime:
    """An ably-python realtime client that connects to `emulator`. Close it with `await client.close()`.

    Args:
        emulator: the emulator, which must be started.
        tls: whether to connect with TLS. The emulator must have been created with `tls=`.
        options: client options of ably-python, such as `auth_url`. With `auto_connect=False` the client does
            not connect before you call `connect()`.
    """
    from ably.realtime.realtime import AblyRealtime

    connect = options.pop("auto_connect", True)
    client = AblyRealtime(**client_options(emulator, sdk="python", tls=tls, auto_connect=False, **options))
    # ably-python builds the URL of the websocket from the host alone.
    client.options.get_host = lambda: f"{emulator.host}:{emulator.tls_port if tls else emulator.port}"
    if connect:
        client.connect()
    return client


@dataclass(frozen=True)
class TokenContent:
    """What a TokenRequest, a JWT or a token contains.

    `issued` and `expires` are in milliseconds since the epoch. `capability` is None when a TokenRequest or a
    JWT has none and was decoded without the emulator: its token has the capability of the key.
    """

    kind: Literal["token request", "jwt", "token"]
    key_name: str
    capability: Capability | None
    client_id: str | None
    issued: int
    expires: int


def decode_token(answer: Any, emulator: Emulator | None = None) -> TokenContent:
    """Decode the response of an auth endpoint.

    Args:
        answer: a TokenRequest, TokenDetails, a JWT or a token of the emulator: as a dict, as JSON, as the
            token itself, or as an object of ably-python.
        emulator: the emulator that verifies `answer` as Ably does, and limits the `capability` to that of the
            key. Without it, `answer` is not verified, and a token of the emulator cannot be decoded.

    Raises:
        ValueError: `answer` is not one of these, or does not verify.
    """
    if hasattr(answer, "to_dict"):
        answer = answer.to_dict()
    if isinstance(answer, str) and answer.startswith("{"):
        answer = strict_json.loads(answer)
    if isinstance(answer, Mapping) and isinstance(answer.get("token"), str):
        answer = answer["token"]
    if isinstance(answer, Mapping) and "keyName" in answer:
        return _token_request(answer, emulator)
    if isinstance(answer, str):
        return _verified_token(answer, emulator) if emulator is not None else _unverified_jwt(answer)
    raise ValueError(f"neither a TokenRequest, TokenDetails nor a token: {type(answer).__name__}")


def assert_allows(
    answer: Any,
    allowed: Mapping[str, Operations],
    *,
    client_id: str | EllipsisType | None = ...,
    only: bool = False,
    emulator: Emulator | None = None,
) -> TokenContent:
    """Assert what the response of an auth endpoint allows; returns the decoded response.

    Args:
        answer: the response, as for `decode_token`.
        allowed: a capability, all of which must be allowed.
        client_id: the client id that the token must have, or None for a token without one. With `...`, which
            is the default, it is not compared.
        only: whether nothing else may be allowed.
        emulator: the emulator that verifies the response, as for `decode_token`.

    Raises:
        AssertionError: the response does not allow this. The message says what it allows.
        ValueError: `answer` cannot be decoded, or does not verify.
    """
    content = decode_token(answer, emulator)
    expected, actual = Capability(allowed), content.capability
    if actual is None:
        raise AssertionError("the token has no capability of its own: it allows all that its key does")
    if not actual.covers(expected):
        raise AssertionError(f"not allowed: {expected - actual}; the token allows {actual}")
    if only and not expected.covers(actual):
        raise AssertionError(f"allowed besides: {actual - expected}")
    if client_id is not ... and content.client_id != client_id:
        raise AssertionError(f"the token is for client id {content.client_id!r}, not {client_id!r}")
    return content


def _token_request(request: Mapping[str, Any], emulator: Emulator | None) -> TokenContent:
    text = request.get("capability")
    capability = Capability.parse(text) if text else None
    if emulator is not None:
        try:
            key = emulator.apps.key(str(request["keyName"]))
            verify_token_request(request, KeyRing([key.api_key]))
        except (Failure, InvalidCredential) as error:
            raise ValueError(error.message) from None
        capability = key.capability if capability is None else key.capability & capability
    timestamp, ttl = int(request["timestamp"]), int(request.get("ttl") or _DEFAULT_TTL)
    name, client_id = str(request["keyName"]), request.get("clientId")
    return TokenContent("token request", name, capability, client_id, timestamp, timestamp + ttl)


def _verified_token(token: str, emulator: Emulator) -> TokenContent:
    try:
        access = emulator.verifier.token(token)
    except Failure as failure:
        raise ValueError(failure.message) from None
    return TokenContent(
        "jwt" if token.count(".") == 2 else "token",
        access.key.name,
        access.capability,
        access.client_id,
        int(access.issued or 0),
        int(access.expires or 0),
    )


def _unverified_jwt(token: str) -> TokenContent:
    if token.count(".") != 2:
        raise ValueError("only the emulator knows what its token allows: pass emulator=")
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
