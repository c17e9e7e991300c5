"""Tokens of the emulator: issued for a TokenRequest (RSA8, RSA9), and revoked."""

from __future__ import annotations

import itertools
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..capability import Capability
from ..errors import AuthError
from ..keys import KeyRing
from ..tokens import MAX_REVOCABLE_TTL, MAX_TTL, verify_token_request
from .apps import Key
from .clock import Clock, Expiring
from .credentials import Access
from .unverified import (
    BAD_CLIENT_ID,
    BAD_REVOCATION,
    BAD_TARGET,
    BAD_TIMESTAMP,
    BAD_TTL,
    EMPTY_CAPABILITY,
    KEY_NAME_MISMATCH,
    NOT_REVOCABLE,
    SHORT_NONCE,
)
from .wire import Failure

MAX_CLOCK_SKEW = 120_000
"""The difference in milliseconds that is allowed between the timestamp of a TokenRequest and the time."""
DEFAULT_TTL = 3_600_000
MIN_NONCE = 16
REAUTH_MARGIN = 30_000
"""Milliseconds for which a connection may fetch a new token after a revocation with `allowReauthMargin`."""
MAX_TARGETS = 100
_KEPT_AFTER_EXPIRY = 600_000
_MAX_TOKENS = 200_000
_MAX_TOKEN_AGE = 3_600_000  # of a revocable key
_REVOCATION_KEPT = 2 * _MAX_TOKEN_AGE + REAUTH_MARGIN
_MAX_REVOCATIONS = 100_000
_TARGET_TYPES = ("clientId", "revocationKey", "channel")
_NUMBER = re.compile(r"-?[0-9]{1,15}")


class TokenService:
    """Issues tokens for TokenRequests. It keeps them until ten minutes after they expire, at most 200,000."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens: Expiring[str, Access] = Expiring(clock, limit=_MAX_TOKENS)
        self._nonces: Expiring[tuple[str, int, str], bool] = Expiring(clock, limit=_MAX_TOKENS)

    def request(self, key: Key, body: object, presented: Access | None) -> tuple[dict[str, object], Access]:
        """Issue a token of `key` for a TokenRequest; returns the TokenDetails and what the token allows.

        `presented` is the access of the credentials of the HTTP request, None when it has none. It is
        required when the TokenRequest has no mac. Raises Failure for the first rule that is broken.
        """
        if not isinstance(body, Mapping):
            raise Failure(40000, 400, "a TokenRequest must be an object")
        request = {name: _whole(value) for name, value in body.items()}
        if request.get("keyName") != key.name:
            raise Failure(
                *KEY_NAME_MISMATCH, f"the keyName of the TokenRequest must be {key.name}, as in the URL"
            )
        limit = self._verify_sender(key, request, presented)
        client_id = _client_id(request.get("clientId"))
        ttl = _ttl(request.get("ttl"), key)
        requested = _capability(request.get("capability"))
        self._check_freshness(key, request)
        if limit is not None:
            client_id = limit.identity(client_id)
        capability, text = _allowed(key, requested, limit)
        issued = self._clock.now()
        access = Access(key, capability, client_id, issued, issued + ttl)
        token = f"{key.app.id}.{secrets.token_urlsafe(48)}"
        self._tokens.put(token, access, until=issued + ttl + _KEPT_AFTER_EXPIRY)
        details: dict[str, object] = {
            "token": token,
            "keyName": key.name,
            "issued": issued,
            "expires": issued + ttl,
            "capability": text,
        }
        if client_id is not None:
            details["clientId"] = client_id
        return details, access

    def find(self, token: str) -> Access | None:
        """What a token allows that was issued here, or None when it is not known."""
        return self._tokens.get(token)

    def _verify_sender(self, key: Key, request: dict[str, Any], presented: Access | None) -> Access | None:
        """Check the mac, or else the credentials.

        Returns the access of the token that was presented, which limits the new token, or None.
        """
        if request.get("mac") is not None:
            try:
                verify_token_request(request, KeyRing([key.api_key]))
            except AuthError as error:
                raise Failure.of(error) from None
            return None
        if presented is None:
            raise Failure(40101, 401, "a TokenRequest without a mac requires credentials of its key")
        if presented.key is not key:
            raise Failure(40101, 401, f"the credentials are not of key {key.name}")
        return presented if presented.is_token else None

    def _check_freshness(self, key: Key, request: dict[str, Any]) -> None:
        timestamp = _number(request.get("timestamp"))
        if timestamp is None:
            raise Failure(*BAD_TIMESTAMP, "timestamp must be a number of milliseconds since the epoch")
        now = self._clock.now()
        if abs(now - timestamp) > MAX_CLOCK_SKEW:
            raise Failure(
                40104,
                401,
                f"timestamp is {(timestamp - now) / 1000:+.0f} s from the time; up to 2 minutes are allowed",
            )
        nonce = request.get("nonce")
        if nonce is None and request.get("mac") is None:
            return
        if not isinstance(nonce, str) or len(nonce) < MIN_NONCE:
            raise Failure(*SHORT_NONCE, f"nonce must be a string of at least {MIN_NONCE} characters")
        used = (key.name, timestamp, nonce)
        if used in self._nonces:
            raise Failure(40105, 401, "nonce value replayed: a TokenRequest can be used once")
        self._nonces.put(used, True, until=now + 2 * MAX_CLOCK_SKEW)


def _allowed(key: Key, requested: Capability | None, limit: Access | None) -> tuple[Capability, str]:
    capability = key.capability if limit is None else key.capability & limit.capability
    if requested is None:
        return capability, key.capability_text if limit is None else capability.text
    allowed = capability & requested
    if not allowed:
        raise Failure(40160, 401, f"nothing of {requested.text[:300]} is allowed by {capability.text[:300]}")
    return allowed, allowed.text


def _client_id(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise Failure(*BAD_CLIENT_ID, f"clientId must be a string, got {type(value).__name__}")
    if not value:
        raise Failure(40012, 400, "clientId must not be empty; leave it out for an anonymous token")
    return value


def _capability(value: object) -> Capability | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise Failure(40000, 400, f"capability must be a string of JSON, got {type(value).__name__}")
    try:
        capability = Capability.parse(value)
    except AuthError as error:
        raise Failure.of(error) from None
    if not capability:
        raise Failure(
            *EMPTY_CAPABILITY,
            "the requested capability is empty; leave it out to get the capability of the key",
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
    """`value` as an int, or None when it is not a whole number. Some SDKs send numbers as strings."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _whole(value: Any) -> Any:
    """`value`, as an int when it is a whole float.

    JavaScript packs large whole numbers as floats, but computes the mac with the whole number.
    """
    whole = isinstance(value, float) and math.isfinite(value) and value.is_integer()
    return int(value) if whole else value


@dataclass(frozen=True)
class Revocation:
    """A revocation of the tokens of `key` for one target.

    It revokes tokens issued until `issued_before`; they are refused from `applies_at` on. Both are in
    milliseconds since the epoch.
    """

    key: Key
    kind: str
    value: str
    issued_before: int
    applies_at: int

    @property
    def target(self) -> str:
        """`<type>:<value>`, as in the request."""
        return f"{self.kind}:{self.value}"

    def applies_to(self, access: Access) -> bool:
        """Whether `access` is that of a revoked token."""
        if access.issued is None or access.issued > self.issued_before or access.key is not self.key:
            return False
        if self.kind == "clientId":
            return access.client_id == self.value
        if self.kind == "revocationKey":
            return access.revocation_key == self.value
        return self.value in access.capability


class Revocations:
    """The revocations of the last two hours. A token of a revocable key lives an hour at most."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: Expiring[int, Revocation] = Expiring(clock, limit=_MAX_REVOCATIONS)
        self._ids = itertools.count()

    def revoke(self, key: Key, body: object) -> tuple[list[Revocation], dict[str, object]]:
        """Revoke tokens of `key`; returns the revocations, and the body of the response.

        `body` is that of the request. Raises Failure when the tokens of the key are not revocable, or when
        the request is malformed or outside its limits.
        """
        if not key.revocable:
            raise Failure(*NOT_REVOCABLE, f"tokens of key {key.name} are not revocable")
        if not isinstance(body, Mapping):
            raise Failure(*BAD_REVOCATION, "a revocation must be an object with a list of targets")
        now = self._clock.now()
        targets = body.get("targets")
        if not isinstance(targets, list) or not 1 <= len(targets) <= MAX_TARGETS:
            raise Failure(*BAD_REVOCATION, f"targets must be a list of 1 to {MAX_TARGETS} specifiers")
        issued_before = _issued_before(body.get("issuedBefore"), now)
        # More than the margin, so that rounding does not shorten it.
        applies_at = now + REAUTH_MARGIN + 1 if body.get("allowReauthMargin") is True else now
        results: list[dict[str, object]] = []
        revoked: list[Revocation] = []
        for target in targets:
            kind, _, value = target.partition(":") if isinstance(target, str) else ("", "", "")
            if kind not in _TARGET_TYPES or not value:
                failure = Failure(
                    *BAD_TARGET, f"target must be one of {', '.join(_TARGET_TYPES)}, a colon and a value"
                )
                results.append({"target": target, "error": failure.info})
                continue
            revocation = Revocation(key, kind, value, issued_before, applies_at)
            self._kept.put(next(self._ids), revocation, until=now + _REVOCATION_KEPT)
            revoked.append(revocation)
            results.append({"target": target, "issuedBefore": issued_before, "appliesAt": applies_at})
        return revoked, {
            "successCount": len(revoked),
            "failureCount": len(results) - len(revoked),
            "results": results,
        }

    def check(self, access: Access) -> None:
        """Raise Failure 40141 when `access` is that of a revoked token."""
        if not access.key.revocable:
            return
        now = self._clock.now()
        revocations = [revocation for revocation in self._kept.values() if revocation.applies_at <= now]
        if any(revocation.applies_to(access) for revocation in revocations):
            raise Failure(40141, 401, "token revoked")


def _issued_before(value: Any, now: int) -> int:
    if value is None:
        return now
    if isinstance(value, bool) or not isinstance(value, int) or not now - _MAX_TOKEN_AGE <= value <= now:
        raise Failure(
            *BAD_REVOCATION,
            f"issuedBefore must be a time in milliseconds within the last hour, got {value!r:.50}",
        )
    return value
