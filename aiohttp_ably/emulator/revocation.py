"""Revoked tokens: which of them a revocation names, and from when on they are refused."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .apps import Key
from .clock import Clock
from .expiring import Expiring
from .failure import Failure
from .grant import Grant
from .unverified import BAD_REVOCATION, BAD_TARGET, NOT_REVOCABLE

MARGIN = 30_000
"""Milliseconds for which a connection may fetch a new token when the revocation allows it."""
MAX_TARGETS = 100
_OLDEST = 3_600_000
_KEPT = 2 * _OLDEST + MARGIN
_LIMIT = 100_000
_TYPES = ("clientId", "revocationKey", "channel")


@dataclass(frozen=True)
class Revocation:
    """Tokens of `key` for one target, issued up to a time; refused from `applies_at` on."""

    key: Key
    kind: str
    value: str
    issued_before: int
    applies_at: int

    @property
    def target(self) -> str:
        """The target as it was given."""
        return f"{self.kind}:{self.value}"

    def names(self, grant: Grant) -> bool:
        """Whether `grant` is a token this is about."""
        if grant.issued is None or grant.issued > self.issued_before or grant.key is not self.key:
            return False
        if self.kind == "clientId":
            return grant.client_id == self.value
        if self.kind == "revocationKey":
            return grant.revocation_key == self.value
        return self.value in grant.capability


class Revocations:
    """All revocations that can still matter: the tokens of a revocable key live an hour at most."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: Expiring[int, Revocation] = Expiring(clock, limit=_LIMIT)
        self._ids = itertools.count()

    def revoke(self, key: Key, body: object) -> tuple[list[Revocation], dict[str, object]]:
        """Revoke by a request for `key`: what is newly revoked, and what to answer.

        Raises Failure when the key's tokens are not revocable, or the request is outside its limits.
        """
        if not key.revocable:
            raise Failure(*NOT_REVOCABLE, f"tokens of key {key.name} are not revocable")
        if not isinstance(body, Mapping):
            raise Failure(*BAD_REVOCATION, "a revocation is an object with a list of targets")
        now = self._clock.now()
        targets = body.get("targets")
        if not isinstance(targets, list) or not 1 <= len(targets) <= MAX_TARGETS:
            raise Failure(*BAD_REVOCATION, f"targets must be a list of 1 to {MAX_TARGETS} specifiers")
        issued_before = _issued_before(body.get("issuedBefore"), now)
        # Strictly more than the margin, so that who asked for it has all of it.
        applies_at = now + MARGIN + 1 if body.get("allowReauthMargin") is True else now
        results: list[dict[str, object]] = []
        revoked: list[Revocation] = []
        for target in targets:
            kind, _, value = target.partition(":") if isinstance(target, str) else ("", "", "")
            if kind not in _TYPES or not value:
                failure = Failure(*BAD_TARGET, f"target must start with {', '.join(_TYPES)} and a colon")
                results.append({"target": target, "error": failure.info})
                continue
            revocation = Revocation(key, kind, value, issued_before, applies_at)
            self._kept.put(next(self._ids), revocation, until=now + _KEPT)
            revoked.append(revocation)
            results.append({"target": target, "issuedBefore": issued_before, "appliesAt": applies_at})
        return revoked, {
            "successCount": len(revoked),
            "failureCount": len(results) - len(revoked),
            "results": results,
        }

    def check(self, grant: Grant) -> None:
        """Raise Failure 40141 when `grant` is a token that has been revoked."""
        if not grant.key.revocable:
            return
        now = self._clock.now()
        if any(one.applies_at <= now and one.names(grant) for one in self._kept.values()):
            raise Failure(40141, 401, "token revoked")


def _issued_before(value: Any, now: int) -> int:
    if value is None:
        return now
    if isinstance(value, bool) or not isinstance(value, int) or not now - _OLDEST <= value <= now:
        raise Failure(
            *BAD_REVOCATION,
            f"issuedBefore must be a time in milliseconds within the last hour, got {value!r:.50}",
        )
    return value
