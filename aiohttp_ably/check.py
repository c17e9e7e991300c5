"""`python -m aiohttp_ably check`: whether an API key, this machine and Ably go together."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .ably_api import NOT_REVOCABLE, AblyApi
from .capability import Capability
from .errors import RevocationFailed, Unavailable
from .keys import ApiKey, KeyRing

Level = Literal["ok", "warning", "failed"]

CLOCK_LIMIT = 120
"""Seconds by which the clock may be off before Ably refuses a TokenRequest (its code 40104)."""
_EVERYTHING = Capability({"*": "*"})


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, and what it is like."""

    level: Level
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.level:<8} {self.subject:<10} {self.message}"


async def check(key_text: str, options: Mapping[str, Any] | None = None) -> AsyncIterator[Finding]:
    """Look at the key `key_text`, and at Ably with it; stops where going on makes no sense.

    `options` are client options as for `setup()`. Ably is asked the time, for a token that lives a second,
    and to revoke the tokens of a group that does not exist.
    """
    try:
        key = ApiKey(key_text)
    except ValueError as error:
        yield Finding("failed", "key", str(error))
        return
    yield Finding("ok", "key", f"{key.name} has the form of a key")
    control = AblyApi(options)
    try:
        began, before = time.perf_counter(), time.time()
        try:
            offset = await control.time() - (before + time.time()) / 2
        except Unavailable as error:
            yield Finding("failed", "reach", error.message)
            return
        yield Finding("ok", "reach", f"Ably answers in {(time.perf_counter() - began) * 1000:.0f} ms")
        yield _clock(offset)
        rights = await _rights(key, control.options)
        yield rights
        if rights.level != "failed":
            yield await _revocable(key, control)
    finally:
        await control.close()


def _clock(offset: float) -> Finding:
    told = f"this machine's clock is {abs(offset):.1f} s {'behind' if offset > 0 else 'ahead of'} Ably's"
    if abs(offset) < CLOCK_LIMIT:
        return Finding("ok", "clock", told)
    return Finding(
        "warning", "clock", f"{told}: it works while setup() has clock_sync=, but set the clock right"
    )


async def _rights(key: ApiKey, options: Mapping[str, Any]) -> Finding:
    """What Ably gives a token that asks for nothing in particular: all that the key may."""
    from ably import AblyException, AblyRest

    async with AblyRest(key_name=key.name, key_secret=key.secret, **options) as rest:
        try:
            details = await rest.auth.request_token({"ttl": 1000}, query_time=True)
            capability = Capability.parse(str(details.capability))
        except AblyException as error:
            return Finding("failed", "rights", f"Ably refuses the key: {error.code} {error.message}")
        except Exception as error:
            return Finding("failed", "rights", f"Ably's answer was not understood: {type(error).__name__}")
    if capability.covers(_EVERYTHING):
        message = (
            "the key may do everything on every channel; give the one that signs for clients no more than"
            " clients need, so that a mistake in your rules cannot grant more"
        )
        return Finding("warning", "rights", message)
    return Finding("ok", "rights", f"the key may {capability.text}")


async def _revocable(key: ApiKey, control: AblyApi) -> Finding:
    nobody = f"revocationKey:aiohttp-ably-check-{secrets.token_hex(8)}"
    try:
        await control.revoke(KeyRing([key]), [nobody], margin=True)
    except RevocationFailed as error:
        if str(NOT_REVOCABLE) not in error.message:
            return Finding("failed", "revocation", error.failed[nobody])
        return Finding("warning", "revocation", error.failed[nobody])
    message = "its tokens can be revoked, and live an hour at most: ApiKey(..., revocable=True)"
    return Finding("ok", "revocation", message)
