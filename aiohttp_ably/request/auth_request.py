"""AuthRequest: one request for a token, in the terms of Ably's spec (RSA8c)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from aiohttp import web
from multidict import istr

from ..capability import NOTHING, Capability
from ..keys import ApiKey, KeyRing

GRANT_HEADER = istr("Ably-Grant")
"""Carries a grant that the client keeps, in both directions."""
REAUTHORIZE_HEADER = istr("Ably-Reauthorize")
"""Tells a client helper to fetch a new token."""

Params = dict[str, list[object]]
"""The values of each param, in the order in which they were sent."""

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
        claims_for: set by a store in the token: returns the claims which it needs there.
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

    def set_cookie(self, name: str, text: str) -> None:
        """Send a cookie with the response. `text` is the whole value of its Set-Cookie header."""
        self.reply["Set-Cookie", name] = text

    def set_header(self, name: str, value: str) -> None:
        """Send a header with the response."""
        self.reply[name, ""] = value
