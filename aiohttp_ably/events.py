"""Seeing what becomes of each request: signals as aiohttp has them, and a line in the log with its parts."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from aiosignal import Signal

from ._callbacks import timeout
from .capability import NOTHING, Capability
from .errors import AuthError
from .request import AuthRequest
from .strategies import Decision

log = logging.getLogger(__name__)

_PATIENCE = 1.0


@dataclass(frozen=True)
class AuthEvent:
    """What became of a request: a token with `capability`, less what was `denied`, or a `refusal`.

    `auth` is None where the request could not be read, and `auth.client_id` where it was not yet known whose
    it is. `seconds` is how long it took.
    """

    auth: AuthRequest | None
    seconds: float
    capability: Capability = NOTHING
    denied: Capability = NOTHING
    refusal: AuthError | None = None


class Events:
    """The signals of an auth server. A receiver that fails is logged; one that hangs has a second."""

    def __init__(self) -> None:
        self.on_issue: Signal[AuthEvent] = Signal(self)
        self.on_deny: Signal[AuthEvent] = Signal(self)
        self.on_error: Signal[AuthEvent] = Signal(self)

    def freeze(self) -> None:
        """Take no more receivers: the app starts."""
        for signal in (self.on_issue, self.on_deny, self.on_error):
            signal.freeze()

    def are_watched(self) -> bool:
        """Whether anybody looks at the tokens that are issued."""
        return bool(self.on_issue or self.on_deny) or log.isEnabledFor(logging.INFO)

    async def issued(self, auth: AuthRequest, decision: Decision, seconds: float) -> None:
        """A token was issued; and something denied, where not all that was asked is in it."""
        event = AuthEvent(auth, seconds, decision.capability, decision.denied)
        if log.isEnabledFor(logging.INFO):
            log.info("issued to %r", auth.client_id, extra=_extra(event))
        await _send(self.on_issue, event)
        if event.denied:
            await _send(self.on_deny, event)

    async def refused(self, auth: AuthRequest | None, refusal: AuthError, seconds: float) -> None:
        """The request was refused, or could not be answered."""
        event = AuthEvent(auth, seconds, refusal=refusal)
        message = "refused (%d, %d): %s"
        log.info(message, refusal.status, refusal.code, refusal.message, extra=_extra(event))
        await _send(self.on_error if refusal.status >= 500 else self.on_deny, event)


async def _send(signal: Signal[AuthEvent], event: AuthEvent) -> None:
    if not signal:
        return
    try:
        async with timeout(_PATIENCE):
            await signal.send(event)
    except asyncio.TimeoutError:
        log.error("a receiver took longer than %g s", _PATIENCE)
    except Exception:
        log.exception("a receiver failed")


def _extra(event: AuthEvent) -> dict[str, object]:
    """The parts of `event` for handlers that write structured logs."""
    extra: dict[str, object] = {
        "ably_client_id": event.auth and event.auth.client_id,
        "ably_seconds": round(event.seconds, 6),
        "ably_capability": event.capability.text,
        "ably_denied": event.denied.text,
    }
    if event.refusal is not None:
        extra |= {"ably_code": event.refusal.code, "ably_status": event.refusal.status}
    return extra
