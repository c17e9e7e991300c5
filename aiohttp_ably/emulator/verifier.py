"""Verifies credentials: an API key, a token of the emulator, a JWT, or a JWT with an embedded token."""

from __future__ import annotations

import dataclasses
import hmac
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import jwt
from aiohttp import web
from jwt.utils import base64url_decode

from ..capability import Capability, strict_json
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
from .credentials import WILDCARD, Access, Credentials
from .tokens import Revocations, TokenService
from .unverified import (
    JWT_BAD_CAPABILITY,
    JWT_ISSUED_AHEAD,
    JWT_ISSUED_LEEWAY,
    JWT_NOTHING_LEFT,
    JWT_TOO_LONG,
    OUTLIVES_EMBEDDED,
    OUTLIVES_LEEWAY,
)
from .wire import Failure

EMBEDDED_CLAIM = "x-ably-token"
_OWN_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{64}")


class Verifier:
    """Verifies credentials by Ably's rules.

    `basic_over_http` is whether API keys are accepted over plain HTTP.
    """

    def __init__(
        self,
        clock: Clock,
        apps: Apps,
        tokens: TokenService,
        revocations: Revocations,
        *,
        basic_over_http: bool,
    ) -> None:
        self._clock = clock
        self._apps = apps
        self._tokens = tokens
        self._revocations = revocations
        self._basic_over_http = basic_over_http

    def authenticate(self, request: web.Request) -> tuple[Access, str | None]:
        """What the credentials of `request` allow, and its client id: None when anonymous, `*` for any.

        Raises Failure when they are missing, do not verify, or are for another client id than the request
        names.
        """
        credentials = Credentials.of(request)
        if credentials.key is not None and not (self._basic_over_http or request.secure):
            raise Failure(40103, 401, "an API key may not be sent over plain HTTP; use TLS, or a token")
        if credentials.token is not None:
            access = self.token(credentials.token)
        elif credentials.key is not None:
            access = self.key(credentials.key)
        else:
            raise Failure(40101, 401, "no credentials: send a token or an API key")
        return access, access.identity(credentials.client_id)

    def key(self, text: str) -> Access:
        """What an API key allows. `text` includes the secret. Raises Failure when there is no such key."""
        name, _, secret = text.partition(":")
        try:
            key = self._apps.key(name)
        except Failure as failure:
            # The test suites of the SDKs expect different codes for an unknown app and an unknown key.
            code = 40400 if name.partition(".")[0] in self._apps else 40101
            raise Failure(code, 401, f"invalid credentials: {failure.message}") from None
        if not hmac.compare_digest(key.api_key.secret.encode(), secret.encode("utf-8", "surrogatepass")):
            raise Failure(40101, 401, f"invalid credentials: wrong secret for key {key.name}")
        return Access(key, key.capability, WILDCARD)

    def token(self, token: str) -> Access:
        """What a token or JWT allows. Raises Failure when it does not verify, is revoked or has expired."""
        access = self._read(token)
        if access.expires is not None and access.expires <= self._clock.now():
            raise Failure(40142, 401, "token expired")
        self._revocations.check(access)
        return access

    def _read(self, token: str) -> Access:
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

    def _stored(self, token: str) -> Access:
        if (access := self._tokens.find(token)) is not None:
            if self._apps.get(access.app.id) is not access.app:
                raise Failure(40101, 401, "invalid token: its application was deleted")
            return access
        if _OWN_TOKEN.fullmatch(token):
            raise Failure(
                40143, 401, "token unrecognised: this emulator did not issue it, or was restarted since"
            )
        raise Failure(40101, 401, "invalid token: neither an Ably token nor a JWT")

    def _embedded(self, inner: str, outer: Mapping[str, Any]) -> Access:
        """The access of the token in a JWT. Its signature is not checked: Ably does not have the key."""
        access = self._jwt(inner) if inner.count(".") > 1 else self._stored(inner)
        expires = _milliseconds(outer.get("exp"))
        if expires is None or access.expires is None:
            return access
        if expires > access.expires + OUTLIVES_LEEWAY:
            raise Failure(*OUTLIVES_EMBEDDED, f"the JWT expires after the token in its {EMBEDDED_CLAIM}")
        return dataclasses.replace(access, expires=min(access.expires, expires))

    def _jwt(self, token: str) -> Access:
        try:
            header = JWS.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise Failure(40144, 401, f"invalid JWT: {error}") from None
        if header.get("alg") != "HS256":
            raise Failure(40144, 401, f"invalid JWT: alg must be HS256, got {header.get('alg')!r:.50}")
        name = header.get("kid")
        if not isinstance(name, str) or not name:
            raise Failure(40144, 401, "invalid JWT: kid must be a key name, <appId>.<keyId>")
        key = self._apps.key(name)
        try:
            payload = strict_json.loads(JWS.decode(token, key.api_key.secret, algorithms=["HS256"]))
        except jwt.InvalidSignatureError:
            raise Failure(40144, 401, f"invalid JWT: signature verification failed for key {name}") from None
        except (jwt.InvalidTokenError, ValueError) as error:
            raise Failure(40144, 401, f"invalid JWT: {error}") from None
        if not isinstance(payload, dict):
            raise Failure(40144, 401, "invalid JWT: the payload must be an object")
        issued, expires = _time(payload, "iat"), _time(payload, "exp")
        now = self._clock.now()
        if issued > now + JWT_ISSUED_LEEWAY:
            raise Failure(
                *JWT_ISSUED_AHEAD, "invalid JWT: iat is in the future; check the clock of the signer"
            )
        if expires <= now:
            raise Failure(40142, 401, f"token expired: the JWT's exp was {(now - expires) / 1000:.0f} s ago")
        most = MAX_REVOCABLE_TTL if key.revocable else MAX_TTL
        if expires - issued > most:
            raise Failure(
                *JWT_TOO_LONG, f"the JWT is valid for longer than {most // 1000} s, the maximum of this key"
            )
        client_id = payload.get(CLIENT_ID_CLAIM)
        if CLIENT_ID_CLAIM in payload and (not isinstance(client_id, str) or not client_id):
            raise Failure(40012, 400, f"{CLIENT_ID_CLAIM} must be a string that is not empty")
        capability = key.capability
        if CAPABILITY_CLAIM in payload:
            capability = _narrowed(capability, payload[CAPABILITY_CLAIM])
        revocation_key = payload.get(REVOCATION_KEY_CLAIM)
        return Access(
            key,
            capability,
            client_id,
            # Rounded down, so that a revocation at the time of issue includes the token.
            math.floor(issued),
            expires,
            revocation_key if isinstance(revocation_key, str) else None,
        )


def _narrowed(key_capability: Capability, claim: object) -> Capability:
    try:
        if not isinstance(claim, str):
            raise InvalidCapability(f"it must be a string of JSON, got {type(claim).__name__}")
        requested = Capability.parse(claim)
    except InvalidCapability as error:
        raise Failure(*JWT_BAD_CAPABILITY, f"{CAPABILITY_CLAIM}: {error.message}") from None
    allowed = key_capability & requested
    if not allowed:
        raise Failure(
            *JWT_NOTHING_LEFT,
            f"nothing of {requested.text[:300]} is allowed by the key: {key_capability.text[:300]}",
        )
    return allowed


def _segment(text: str) -> dict[str, Any] | None:
    """The JSON object in a segment of a JWT, or None when there is none."""
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
    """A time in a JWT in milliseconds, or None when it is not a number."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        return None
    return seconds * 1000
