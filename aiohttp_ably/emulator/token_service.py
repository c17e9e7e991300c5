"""Exchanges a TokenRequest for a token, by the rules Ably checks it with (RSA8, RSA9)."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping
from typing import Any

from ..capability import Capability
from ..errors import AuthError
from ..keys import KeyRing
from ..tokens import MAX_REVOCABLE_TTL, MAX_TTL, verify_token_request
from .apps import Key
from .clock import Clock
from .expiring import Expiring
from .failure import Failure
from .grant import Grant
from .unverified import (
    BAD_TIMESTAMP,
    BAD_TTL,
    CLIENT_ID_NOT_TEXT,
    KEY_NAME_MISMATCH,
    NOTHING_ASKED,
    SHORT_NONCE,
)

WINDOW = 120_000
"""How far, in milliseconds, the timestamp of a TokenRequest may be from the time."""
DEFAULT_TTL = 3_600_000
MIN_NONCE = 16
_REMEMBERED = 600_000
_LIMIT = 200_000
_NUMBER = re.compile(r"-?[0-9]{1,15}")


class TokenService:
    """Issues tokens, and knows those it issued: until ten minutes after their end, at most 200,000."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens: Expiring[str, Grant] = Expiring(clock, limit=_LIMIT)
        self._nonces: Expiring[tuple[str, int, str], bool] = Expiring(clock, limit=_LIMIT)

    def request(self, key: Key, body: object, presented: Grant | None) -> tuple[dict[str, object], Grant]:
        """The TokenDetails for a TokenRequest to `key`, and what they allow.

        `presented` is what the request's own credentials allow: without a mac they are what counts.
        Raises Failure by the first rule that is broken.
        """
        if not isinstance(body, Mapping):
            raise Failure(40000, 400, "a TokenRequest is an object")
        request = {name: _whole(value) for name, value in body.items()}
        if request.get("keyName") != key.name:
            raise Failure(*KEY_NAME_MISMATCH, f"the request's keyName is not {key.name}, which its URL names")
        limit = self._verify_sender(key, request, presented)
        client_id = _client_id(request.get("clientId"))
        ttl = _ttl(request.get("ttl"), key)
        requested = _capability(request.get("capability"))
        self._check_freshness(key, request)
        if limit is not None:
            client_id = limit.identity(client_id)
        capability, text = _granted(key, requested, limit)
        issued = self._clock.now()
        grant = Grant(key, capability, client_id, issued, issued + ttl)
        token = f"{key.app.id}.{secrets.token_urlsafe(48)}"
        self._tokens.put(token, grant, until=issued + ttl + _REMEMBERED)
        details: dict[str, object] = {
            "token": token,
            "keyName": key.name,
            "issued": issued,
            "expires": issued + ttl,
            "capability": text,
        }
        if client_id is not None:
            details["clientId"] = client_id
        return details, grant

    def find(self, token: str) -> Grant | None:
        """What a token allows that was issued here."""
        return self._tokens.get(token)

    def _verify_sender(self, key: Key, request: dict[str, Any], presented: Grant | None) -> Grant | None:
        """Who may send this: whoever has the secret. Returns the token that limits it, if one does."""
        if request.get("mac") is not None:
            try:
                verify_token_request(request, KeyRing([key.api_key]))
            except AuthError as error:
                raise Failure.of(error) from None
            return None
        if presented is None:
            raise Failure(40101, 401, "a TokenRequest without a mac needs the key's own credentials")
        if presented.key is not key:
            raise Failure(40101, 401, f"the credentials are not those of key {key.name}")
        return presented if presented.is_token else None

    def _check_freshness(self, key: Key, request: dict[str, Any]) -> None:
        timestamp = _number(request.get("timestamp"))
        if timestamp is None:
            raise Failure(*BAD_TIMESTAMP, "timestamp must be a number of milliseconds since the epoch")
        now = self._clock.now()
        if abs(now - timestamp) > WINDOW:
            raise Failure(
                40104,
                401,
                f"timestamp is {(timestamp - now) / 1000:+.0f} s from the time; 2 minutes are let pass",
            )
        nonce = request.get("nonce")
        if nonce is None and request.get("mac") is None:
            return
        if not isinstance(nonce, str) or len(nonce) < MIN_NONCE:
            raise Failure(*SHORT_NONCE, f"nonce must be text of at least {MIN_NONCE} characters")
        used = (key.name, timestamp, nonce)
        if used in self._nonces:
            raise Failure(40105, 401, "nonce value replayed: a TokenRequest can be used once")
        self._nonces.put(used, True, until=now + 2 * WINDOW)


def _granted(key: Key, requested: Capability | None, limit: Grant | None) -> tuple[Capability, str]:
    capability = key.capability if limit is None else key.capability & limit.capability
    if requested is None:
        return capability, key.capability_text if limit is None else capability.text
    both = capability & requested
    if not both:
        raise Failure(
            40160, 401, f"nothing of {requested.text[:300]} is within the key's {capability.text[:300]}"
        )
    return both, both.text


def _client_id(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise Failure(*CLIENT_ID_NOT_TEXT, f"clientId must be text, got {type(value).__name__}")
    if not value:
        raise Failure(40012, 400, "clientId must not be empty; leave it out for an anonymous token")
    return value


def _capability(value: object) -> Capability | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise Failure(40000, 400, f"capability must be JSON text, got {type(value).__name__}")
    try:
        capability = Capability.parse(value)
    except AuthError as error:
        raise Failure.of(error) from None
    if not capability:
        raise Failure(
            *NOTHING_ASKED, "the capability asked for is empty; leave it out for all the key allows"
        )
    return capability


def _ttl(value: object, key: Key) -> int:
    if value is None:
        return DEFAULT_TTL
    ttl = _number(value)
    if ttl is None:
        raise Failure(*BAD_TTL, f"ttl must be a whole number of milliseconds, got {value!r:.50}")
    most = MAX_REVOCABLE_TTL if key.revocable else MAX_TTL
    if not 0 <= ttl <= most:
        raise Failure(40003, 400, f"ttl must be from 0 to {most} ms for this key, got {ttl}")
    return ttl or DEFAULT_TTL


def _number(value: object) -> int | None:
    """A whole number, which some SDKs send as text."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _whole(value: Any) -> Any:
    """msgpack of JavaScript tells large whole numbers as floats; the mac was computed over the number."""
    whole = isinstance(value, float) and math.isfinite(value) and value.is_integer()
    return int(value) if whole else value
