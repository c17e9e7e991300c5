"""What a presented credential is worth: a key, a token issued here, a JWT, or a JWT that carries a token."""

from __future__ import annotations

import dataclasses
import hmac
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import jwt
from jwt.utils import base64url_decode

from ..capability import Capability
from ..capability import strict_json as _json
from ..errors import InvalidCapability
from ..tokens import (
    CAPABILITY_CLAIM,
    CLIENT_ID_CLAIM,
    JWS,
    MAX_REVOCABLE_TTL,
    MAX_TTL,
    REVOCATION_KEY_CLAIM,
)
from .apps import Apps
from .clock import Clock
from .credentials import Credentials
from .failure import Failure
from .grant import ANYBODY, Grant
from .revocation import Revocations
from .token_service import TokenService
from .unverified import (
    JWT_BAD_CAPABILITY,
    JWT_ISSUED_AHEAD,
    JWT_ISSUED_LEEWAY,
    JWT_NOTHING_LEFT,
    JWT_TOO_LONG,
    OUTLIVES_EMBEDDED,
    OUTLIVES_LEEWAY,
)

EMBEDDED_CLAIM = "x-ably-token"
_OWN_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{64}")


class Verifier:
    """Tells what credentials allow, by the rules Ably judges them with."""

    def __init__(self, clock: Clock, apps: Apps, tokens: TokenService, revocations: Revocations) -> None:
        self._clock = clock
        self._apps = apps
        self._tokens = tokens
        self._revocations = revocations

    def identify(self, credentials: Credentials) -> tuple[Grant, str | None]:
        """What `credentials` allow and whose they are: a client id, None for nobody's, `*` for anybody's.

        Raises Failure when they are missing, do not verify, or are another client's.
        """
        if credentials.token is not None:
            grant = self.token(credentials.token)
        elif credentials.key is not None:
            grant = self.key(credentials.key)
        else:
            raise Failure(40101, 401, "no credentials: send a token, or a key")
        return grant, grant.identity(credentials.client_id)

    def key(self, text: str) -> Grant:
        """What the whole key `text` allows. Raises Failure 40101 when it is none of an app's."""
        name, _, secret = text.partition(":")
        try:
            key = self._apps.key(name)
        except Failure as failure:
            # SDKs' own tests tell the two apart: a key of no app, and an app without that key.
            code = 40400 if name.partition(".")[0] in self._apps else 40101
            raise Failure(code, 401, f"invalid credentials: {failure.message}") from None
        if not hmac.compare_digest(key.api_key.secret.encode(), secret.encode("utf-8", "surrogatepass")):
            raise Failure(40101, 401, f"invalid credentials: the secret is not that of key {key.name}")
        return Grant(key, key.capability, ANYBODY)

    def token(self, token: str) -> Grant:
        """What `token` allows. Raises Failure when it does not verify, is revoked, or is over its time."""
        grant = self._read(token)
        if grant.expires is not None and grant.expires <= self._clock.now():
            raise Failure(40142, 401, "token expired")
        self._revocations.check(grant)
        return grant

    def _read(self, token: str) -> Grant:
        parts = token.split(".")
        if len(parts) in (3, 5):
            header = _segment(parts[0])
            payload = _segment(parts[1]) if len(parts) == 3 else None
            for claims in (header, payload):
                inner = claims.get(EMBEDDED_CLAIM) if claims else None
                if isinstance(inner, str):
                    return self._embedded(inner, payload or {})
        if len(parts) == 3:
            return self._jwt(token)
        if len(parts) > 3:
            raise Failure(40005, 400, "invalid token: too many dots")
        return self._stored(token)

    def _stored(self, token: str) -> Grant:
        if (grant := self._tokens.find(token)) is not None:
            if self._apps.get(grant.app.id) is not grant.app:
                raise Failure(40101, 401, "invalid token: its application was deleted")
            return grant
        if _OWN_TOKEN.fullmatch(token):
            raise Failure(
                40143, 401, "token unrecognised: not one of this emulator, or forgotten in a restart"
            )
        raise Failure(40101, 401, "invalid token: neither one that Ably issues nor a JWT")

    def _embedded(self, inner: str, outer: Mapping[str, Any]) -> Grant:
        """The token inside decides; who signed the JWT around it is not Ably's to check."""
        grant = self._jwt(inner) if inner.count(".") > 1 else self._stored(inner)
        expires = _milliseconds(outer.get("exp"))
        if expires is None or grant.expires is None:
            return grant
        if expires > grant.expires + OUTLIVES_LEEWAY:
            raise Failure(*OUTLIVES_EMBEDDED, f"the JWT expires after the token in its {EMBEDDED_CLAIM}")
        return dataclasses.replace(grant, expires=min(grant.expires, expires))

    def _jwt(self, token: str) -> Grant:
        try:
            header = JWS.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise Failure(40144, 401, f"invalid JWT: {error}") from None
        if header.get("alg") != "HS256":
            raise Failure(40144, 401, f"invalid JWT: alg must be HS256, got {header.get('alg')!r:.50}")
        name = header.get("kid")
        if not isinstance(name, str) or not name:
            raise Failure(40144, 401, "invalid JWT: kid must be the name of the key, <appId>.<keyId>")
        key = self._apps.key(name)
        try:
            payload = _json.loads(JWS.decode(token, key.api_key.secret, algorithms=["HS256"]))
        except jwt.InvalidSignatureError:
            raise Failure(40144, 401, f"invalid JWT: signature verification failed for key {name}") from None
        except (jwt.InvalidTokenError, ValueError) as error:
            raise Failure(40144, 401, f"invalid JWT: {error}") from None
        if not isinstance(payload, dict):
            raise Failure(40144, 401, "invalid JWT: its payload is not an object")
        issued, expires = _time(payload, "iat"), _time(payload, "exp")
        now = self._clock.now()
        if issued > now + JWT_ISSUED_LEEWAY:
            raise Failure(*JWT_ISSUED_AHEAD, "invalid JWT: iat is in the future; check the signer's clock")
        if expires <= now:
            raise Failure(40142, 401, f"token expired: the JWT's exp was {(now - expires) / 1000:.0f} s ago")
        most = MAX_REVOCABLE_TTL if key.revocable else MAX_TTL
        if expires - issued > most:
            raise Failure(*JWT_TOO_LONG, f"the JWT lives longer than {most // 1000} s, the most for this key")
        client_id = payload.get(CLIENT_ID_CLAIM)
        if CLIENT_ID_CLAIM in payload and (not isinstance(client_id, str) or not client_id):
            raise Failure(40012, 400, f"{CLIENT_ID_CLAIM} must be text that is not empty")
        capability = key.capability
        if CAPABILITY_CLAIM in payload:
            capability = _narrowed(capability, payload[CAPABILITY_CLAIM])
        revocation_key = payload.get(REVOCATION_KEY_CLAIM)
        return Grant(
            key,
            capability,
            client_id,
            # Rounded down, so that a revocation at the very time of issue includes it.
            math.floor(issued),
            expires,
            revocation_key if isinstance(revocation_key, str) else None,
        )


def _narrowed(held: Capability, claim: object) -> Capability:
    try:
        if not isinstance(claim, str):
            raise InvalidCapability(f"it must be JSON text, got {type(claim).__name__}")
        requested = Capability.parse(claim)
    except InvalidCapability as error:
        raise Failure(*JWT_BAD_CAPABILITY, f"{CAPABILITY_CLAIM}: {error.message}") from None
    both = held & requested
    if not both:
        raise Failure(
            *JWT_NOTHING_LEFT, f"nothing of {requested.text[:300]} is within the key's {held.text[:300]}"
        )
    return both


def _segment(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(base64url_decode(text))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _time(payload: Mapping[str, Any], claim: str) -> float:
    time = _milliseconds(payload.get(claim))
    if time is None:
        raise Failure(40144, 400, f"Invalid token; {claim} must be specified, in seconds since the epoch")
    return time


def _milliseconds(seconds: object) -> float | None:
    """A time of a JWT in milliseconds, if it is one."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        return None
    return seconds * 1000
