"""Where a request carries its credentials, and what they are."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from aiohttp import hdrs, web

from .failure import Failure


@dataclass(frozen=True)
class Credentials:
    """What a request presents: a token, a whole key, or neither; and who it says it is."""

    token: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    client_id: str | None = None

    @classmethod
    def of(cls, request: web.Request) -> Credentials:
        """Read the Authorization header, then the query. Raises Failure 40101 when they cannot be read."""
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


def _bearer(value: str) -> str:
    """A token stands in base64; a JWT may stand as it is, which the dots in it tell."""
    return value if "." in value else _base64(value) or value


def _base64(value: str) -> str | None:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
