"""AuthRequest: one request for a token, in the terms of Ably's spec (RSA8c)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from aiohttp import ClientPayloadError, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import istr

from ..capability import NOTHING, Capability
from ..errors import BadRequest, TooLarge
from ..keys import ApiKey, KeyRing
from .dialects import (
    ABSENT,
    Params,
    last,
    read_capability,
    read_client_id,
    read_drop,
    read_form,
    read_json,
    read_query,
    read_ttl,
)

MAX_BODY = 128 * 1024
"""The longest body that an Ably SDK sends, in bytes."""
GRANT_HEADER = istr("Ably-Grant")
"""Carries a grant that the client keeps, in both directions."""
REAUTHORIZE_HEADER = istr("Ably-Reauthorize")
"""Tells a client helper to fetch a new token."""

_CAPABILITY_HEADER = istr("Ably-Capability")
_CLIENT_ID_HEADER = istr("X-Ably-ClientId")
_PREFER = istr("Prefer")
_HANDLING = re.compile(r"(?:^|[,;\s])handling\s*=\s*\"?(strict|lenient)\b", re.IGNORECASE)
_FORM = "application/x-www-form-urlencoded"
_NO_HEADERS: Mapping[str, Any] = MappingProxyType({})

Claims = Callable[[Capability], Mapping[str, object]]
"""Returns the JWT claims that belong to a token of the given capability."""


@dataclass(slots=True)
class AuthRequest:
    """One request for a token, or one handler's use of what a client was granted.

    Attributes:
        request: the aiohttp request; None when the app changes a client's grant by client id.
        requested: the capability that the client requests. Not trusted, like all that the client sends.
        drop: the resources that the client releases.
        ttl: the requested lifetime of the token in milliseconds, None when the client sends none.
        requested_client_id: the client id that the client claims, None when it claims none.
        strict: True when the client wants an error for a denied capability (`Prefer: handling=strict`),
            False when it wants a token without it (`handling=lenient`), None when it does not say.
        wants_jwt: whether the client accepts a bare JWT and no JSON.
        client_id: the client id that `identify` returned, None when the client is not signed in.
        keys: the Ably API keys of this request, newest first.
        now: the time in seconds since the epoch, by Ably's clock as far as it is known.
        waits_for: the part whose answer is awaited, such as "authorize". Errors and the log name it.
        session_changed: set by a store whose changes are saved only with a response that the handler returns.
        claims_for: set by a store that travels in the token: returns the claims which it needs there.
        store_state: for the store: what it loaded or wrote during this request.
    """

    request: web.Request | None = field(default=None, repr=False)
    requested: Capability = NOTHING
    drop: tuple[str, ...] = ()
    ttl: int | None = None
    requested_client_id: str | None = None
    strict: bool | None = None
    wants_jwt: bool = False
    sent: Params = field(default_factory=dict, repr=False)

    client_id: str | None = None
    keys: KeyRing = field(default=None, repr=False)  # type: ignore[assignment]  # set before anything uses it
    now: float = 0.0
    waits_for: str = field(default="identify", repr=False)

    session_changed: bool = field(default=False, repr=False)
    claims_for: Claims | None = field(default=None, repr=False)
    store_state: Any = field(default=None, repr=False)
    reply: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)

    @property
    def params(self) -> Mapping[str, object]:
        """All that the client sent in query and body, by name. Of a repeated name the last value counts."""
        return {name: values[-1] for name, values in self.sent.items()}

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the request; empty when there is no request."""
        return self.request.headers if self.request is not None else _NO_HEADERS

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies of the request; empty when there is no request."""
        return self.request.cookies if self.request is not None else _NO_HEADERS

    @property
    def key(self) -> ApiKey:
        """The API key that signs for this request."""
        return self.keys.newest

    @classmethod
    def read(cls, request: web.Request, body: bytes) -> AuthRequest:
        """Read query, `body` and headers of `request`. A param in the body replaces the same in the query.

        Raises BadRequest when something is malformed.
        """
        params = read_query(request.rel_url)
        if body:
            params |= _in_body(request.headers.get(hdrs.CONTENT_TYPE, ""), body)
        auth = cls(request, sent=params)
        headers = request.headers
        if _CAPABILITY_HEADER in headers and last(params, "capability") in ABSENT:
            params = params | {"capability": [_header_capability(headers[_CAPABILITY_HEADER])]}
        auth.requested = read_capability(params)
        if "drop" in params:
            auth.drop = read_drop(params)
        if auth.drop and (both := sorted(set(auth.drop) & set(auth.requested))):
            raise BadRequest(
                f"{both[0][:100]!r} is requested and dropped in one request; send one of the two"
            )
        if "ttl" in params:
            auth.ttl = read_ttl(params, seconds=_counts_in_seconds(params, headers))
        auth.requested_client_id = read_client_id(params, headers.get(_CLIENT_ID_HEADER))
        if (prefer := headers.get(_PREFER)) and (match := _HANDLING.search(prefer)):
            auth.strict = match[1].lower() == "strict"
        if accept := headers.get(hdrs.ACCEPT):
            auth.wants_jwt = "application/jwt" in accept and "application/json" not in accept
        return auth

    def set_cookie(self, name: str, text: str) -> None:
        """Send a cookie with the response. `text` is the whole value of its Set-Cookie header."""
        self.reply["Set-Cookie", name] = text

    def set_header(self, name: str, value: str) -> None:
        """Send a header with the response."""
        self.reply[name, ""] = value


async def received_body(request: web.Request) -> bytes:
    """The body of `request`, of 128 KiB at most.

    Raises BadRequest when it did not arrive whole, and TooLarge when it is longer.
    """
    received = bytearray()
    try:
        if (request.content_length or 0) > MAX_BODY:
            raise _too_large()
        if request.content.at_eof():  # a middleware has read it already
            received += await request.read()
        else:
            async for chunk in request.content.iter_any():
                received += chunk
                if len(received) > MAX_BODY:
                    break
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None
    except (ClientPayloadError, HttpProcessingError, web.RequestPayloadError):
        raise BadRequest("the body did not arrive whole, or is not encoded as its headers say") from None
    if len(received) > MAX_BODY:
        raise _too_large()
    return bytes(received)


def _in_body(content_type: str, body: bytes) -> Params:
    """The params in a POST body: a form or JSON, in UTF-8."""
    kind, _, rest = content_type.partition(";")
    kind = kind.strip().lower()
    charset = re.search(r"charset\s*=\s*\"?([^\s\";]+)", rest, re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise BadRequest(f"charset {charset[1][:50]!r} is not accepted; send UTF-8")
    if kind == _FORM:
        return read_form(body)
    if kind == "application/json":
        return read_json(body)
    raise BadRequest(f"a body of type {kind[:100]!r} is not accepted; send {_FORM} or application/json")


def _too_large() -> TooLarge:
    return TooLarge(f"the body is over {MAX_BODY} bytes; request fewer resources at once")


def _header_capability(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("Ably-Capability is not percent-encoded UTF-8") from None


def _counts_in_seconds(params: Params, headers: Mapping[str, str]) -> bool:
    """Whether the SDK sends `ttl` in seconds: ably-ruby, and ably-cocoa, which also sends `format` on GET."""
    agent = headers.get("Ably-Agent") or headers.get(hdrs.USER_AGENT, "")
    return agent.startswith(("Ruby", "ably-ruby", "ably-cocoa")) or last(params, "format") in (
        "json",
        "msgpack",
    )
