"""The credentials of a request, and what they allow to whom."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from aiohttp import hdrs, web

from ..capability import Capability
from .apps import App, Key
from .wire import Failure

WILDCARD = "*"
"""The client id of a credential that may be used with any client id."""


@dataclass(frozen=True)
class Credentials:
    """What a request presents: a token, an API key with its secret, or neither.

    `client_id` is the client id that the request names beside them.
    """

    token: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    client_id: str | None = None

    @classmethod
    def of(cls, request: web.Request) -> Credentials:
        """The credentials in the Authorization header, or else in the query.

        Raises Failure 40101 when the header is malformed, 40012 when X-Ably-ClientId is.
        """
        query = request.query
        client_id = query.get("clientId")
        if encoded := request.headers.get("X-Ably-ClientId"):
            client_id = _base64(encoded)
            if client_id is None:
                raise Failure(40012, 400, "the X-Ably-ClientId header must be base64")
        scheme, _, value = request.headers.get(hdrs.AUTHORIZATION, "").strip().partition(" ")
        if scheme.lower() == "bearer":
            return cls(_bearer(value.strip()), None, client_id)
        if scheme.lower() == "basic":
            if (key := _base64(value.strip())) is None:
                raise Failure(40101, 401, "the Basic credentials must be the base64 of keyName:secret")
            return cls(None, key, client_id)
        if scheme:
            raise Failure(40101, 401, "the Authorization header must be Bearer or Basic")
        token = query.get("access_token") or query.get("accessToken")
        return cls(token, None if token else query.get("key"), client_id)

    def __bool__(self) -> bool:
        return self.token is not None or self.key is not None


@dataclass(frozen=True)
class Access:
    """What a verified key, token or JWT allows.

    `client_id` is None for an anonymous client and `*` for any client id. `issued` and `expires` are in
    milliseconds since the epoch, and None for an API key.
    """

    key: Key
    capability: Capability
    client_id: str | None
    issued: int | None = None
    expires: float | None = None
    revocation_key: str | None = None

    @property
    def app(self) -> App:
        """The app of the key."""
        return self.key.app

    @property
    def is_token(self) -> bool:
        """Whether this is the access of a token, and not of an API key."""
        return self.issued is not None

    def require(self, operation: str, resource: str) -> None:
        """Raise Failure 40160 unless `operation` is allowed on `resource`."""
        if not self.capability.allows(operation, resource):
            raise Failure(
                40160,
                401,
                f"{operation} on {resource[:200]!r} is not permitted: the credential allows {self}",
            )

    def identity(self, requested: str | None) -> str | None:
        """The client id of a client that has this access and names the client id `requested` (RSA15).

        None is an anonymous client, `*` a client that may use any client id. Raises Failure 40102 when the
        credential is for another client id.
        """
        if requested is None:
            return self.client_id
        if self.client_id == WILDCARD and requested:
            return requested
        if requested != self.client_id:
            actual = "has no client id" if self.client_id is None else f"is for {self.client_id!r}"
            raise Failure(
                40102,
                401,
                f"mismatched client id: the request names {requested[:200]!r}, the credential {actual}",
            )
        return requested

    def __str__(self) -> str:
        text = self.capability.text
        return text if len(text) <= 300 else f"{text[:300]}…"


def sender(identity: str | None, named: object) -> str | None:
    """The client id to put into a message that a client with `identity` sends.

    `named` is the client id in the message, None when it has none. Raises Failure 40012 when the client may
    not use it.
    """
    if named is None:
        return None if identity == WILDCARD else identity
    if not isinstance(named, str) or named in ("", WILDCARD):
        raise Failure(40012, 400, f"client id {named!r:.100} is not allowed in a message")
    if identity not in (WILDCARD, named):
        actual = "is anonymous" if identity is None else f"is {identity!r}"
        raise Failure(
            40012, 400, f"mismatched client id: the message names {named[:200]!r}, the client {actual}"
        )
    return named


def _bearer(value: str) -> str:
    """A token is sent in base64. A JWT may be sent as it is: base64 contains no dots."""
    return value if "." in value else _base64(value) or value


def _base64(value: str) -> str | None:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
