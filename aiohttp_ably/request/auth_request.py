"""What a client asks of the auth server, in the spec's terms (RSA8c), whatever dialect its SDK speaks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
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

if TYPE_CHECKING:
    from ..stores.signed_grant import Grant

MAX_BODY = 128 * 1024
"""The most that an Ably SDK sends or accepts, in bytes."""
GRANT_HEADER = istr("Ably-Grant")
REAUTHORIZE_HEADER = istr("Ably-Reauthorize")
_CAPABILITY_HEADER = istr("Ably-Capability")
_CLIENT_ID_HEADER = istr("X-Ably-ClientId")
_PREFER = istr("Prefer")

_HANDLING = re.compile(r"(?:^|[,;\s])handling\s*=\s*\"?(strict|lenient)\b", re.IGNORECASE)
_FORM = "application/x-www-form-urlencoded"
_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(slots=True)
class AuthRequest:
    """One request for a token, or one handler's use of what a client may do.

    The client's part is `asked`, `drop`, `ttl` (ms), `requested_client_id`, `strict` and `params`; nothing in
    it is trusted. The server's part is `client_id`, as `identify` gave it, `keys` and `now` (seconds since
    the epoch). `set_cookie` and `set_header` collect what goes back with the response.
    """

    request: web.Request | None = field(default=None, repr=False)
    requested: Capability = NOTHING
    drop: tuple[str, ...] = ()
    ttl: int | None = None
    requested_client_id: str | None = None
    strict: bool | None = None
    wants_jwt: bool = False
    sent: Params | None = field(default=None, repr=False)

    client_id: str | None = None
    keys: KeyRing = field(default=None, repr=False)  # type: ignore[assignment]  # known once identified
    now: float = 0.0

    grant: Grant | None = field(default=None, repr=False)
    carried_by_token: bool = False
    token_claims: Mapping[str, object] | None = field(default=None, repr=False)
    session_changed: bool = False
    reply: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)

    @property
    def params(self) -> Mapping[str, object]:
        """All that the client sent in query and body, by name; of what came several times, the last."""
        return {name: values[-1] for name, values in (self.sent or {}).items()}

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the request; none where this is not of one."""
        return self.request.headers if self.request is not None else _NONE

    @property
    def cookies(self) -> Mapping[str, str]:
        """Its cookies."""
        return self.request.cookies if self.request is not None else _NONE

    @property
    def key(self) -> ApiKey:
        """The key that signs for this request."""
        return self.keys.newest

    @classmethod
    def read(cls, request: web.Request, body: bytes) -> AuthRequest:
        """Read what `request` asks: query and `body` merged, the body over the query.

        Raises BadRequest for what is malformed.
        """
        auth = cls(request)
        params = read_query(request.rel_url)
        if body:
            params |= _in_body(request.headers.get(hdrs.CONTENT_TYPE, ""), body)
        auth.ask(params)
        return auth

    def ask(self, params: Params) -> None:
        """Take `params` for what the client asks, beside the headers already here."""
        headers = self.headers
        self.sent = params
        if _CAPABILITY_HEADER in headers and last(params, "capability") in ABSENT:
            params = params | {"capability": [_header_capability(headers[_CAPABILITY_HEADER])]}
        self.requested = read_capability(params)
        if "drop" in params:
            self.drop = read_drop(params)
        if self.drop and (both := sorted(set(self.drop) & set(self.requested))):
            raise BadRequest(
                f"{both[0][:100]!r} is asked for and dropped in one request; send one of the two"
            )
        if "ttl" in params:
            self.ttl = read_ttl(params, seconds=_counts_in_seconds(params, headers))
        self.requested_client_id = read_client_id(params, headers.get(_CLIENT_ID_HEADER))
        if (prefer := headers.get(_PREFER)) and (match := _HANDLING.search(prefer)):
            self.strict = match[1].lower() == "strict"
        if accept := headers.get(hdrs.ACCEPT):
            self.wants_jwt = "application/jwt" in accept and "application/json" not in accept

    def set_cookie(self, name: str, text: str) -> None:
        """Send a cookie back: `text` is its whole Set-Cookie header."""
        self.reply["Set-Cookie", name] = text

    def set_header(self, name: str, value: str) -> None:
        """Send a header back."""
        self.reply[name, ""] = value


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


async def received_body(request: web.Request) -> bytes:
    """The body of `request`; raises BadRequest when it did not arrive whole, and TooLarge over 128 KiB."""
    received = bytearray()
    try:
        if (request.content_length or 0) > MAX_BODY:
            raise _too_large()
        if request.content.at_eof():  # somebody has read it before us
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


def _too_large() -> TooLarge:
    return TooLarge(f"the body is over {MAX_BODY} bytes; ask for fewer resources at once")


def _header_capability(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("Ably-Capability is not percent-encoded UTF-8") from None


def _counts_in_seconds(params: Params, headers: Mapping[str, str]) -> bool:
    """Whether the SDK counts in seconds: ably-ruby, or ably-cocoa, which on GET sends its `format` too."""
    agent = headers.get("Ably-Agent") or headers.get(hdrs.USER_AGENT, "")
    return agent.startswith(("Ruby", "ably-ruby", "ably-cocoa")) or last(params, "format") in (
        "json",
        "msgpack",
    )
