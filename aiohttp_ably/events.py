"""Events: aiohttp signals and a log line for the outcome of each auth request."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from aiosignal import Signal

from ._callbacks import timeout
from .capability import NOTHING, Capability
from .errors import AuthError
from .request import AuthRequest

log: logging.Logger = logging.getLogger(__name__)

_RECEIVER_TIMEOUT = 1.0


@dataclass(frozen=True)
class AuthEvent:
    """The outcome of an auth request: a token, or an error.

    Attributes:
        auth: the request; None when it could not be read. Its `client_id` is None when it failed before the
            client was identified.
        seconds: the duration of the request.
        capability: the capability of the token; empty when none was issued.
        denied: the requested part that the token does not carry.
        refusal: the error that was answered; None when a token was issued.
    """

    auth: AuthRequest | None
    seconds: float
    capability: Capability = NOTHING
    denied: Capability = NOTHING
    refusal: AuthError | None = None


class Events:
    """The signals of an auth server.

    A receiver that fails is logged, and one that hangs is cancelled after a second: neither changes the
    answer to the client.
    """

    def __init__(self) -> None:
        self.on_issue: Signal[AuthEvent] = Signal(self)
        self.on_deny: Signal[AuthEvent] = Signal(self)
        self.on_error: Signal[AuthEvent] = Signal(self)

    def freeze(self) -> None:
        """Accept no more receivers. Called when the app starts."""
        for signal in (self.on_issue, self.on_deny, self.on_error):
            signal.freeze()

    async def issued(
        self, auth: AuthRequest, capability: Capability, denied: Capability, seconds: float
    ) -> None:
        """A token with `capability` was issued; `denied` is the requested part that it does not carry."""
        is_logged = log.isEnabledFor(logging.INFO)
        if not (self.on_issue or self.on_deny or is_logged):
            return
        event = AuthEvent(auth, seconds, capability, denied)
        if is_logged:
            log.info("issued to %r", auth.client_id, extra=_extra(event))
        await _send(self.on_issue, event)
        if denied:
            await _send(self.on_deny, event)

    async def refused(self, auth: AuthRequest | None, refusal: AuthError, seconds: float) -> None:
        """The request was answered with an error."""
        event = AuthEvent(auth, seconds, refusal=refusal)
        message = "refused (%d, %d): %s"
        log.info(message, refusal.status, refusal.code, refusal.message, extra=_extra(event))
        await _send(self.on_error if refusal.status >= 500 else self.on_deny, event)


async def _send(signal: Signal[AuthEvent], event: AuthEvent) -> None:
    if not signal:
        return
    try:
        async with timeout(_RECEIVER_TIMEOUT):
            await signal.send(event)
    except asyncio.TimeoutError:
        log.error("a receiver of events took longer than %g s", _RECEIVER_TIMEOUT)
    except Exception:
        log.exception("a receiver of events failed")


def _extra(event: AuthEvent) -> dict[str, object]:
    """The members of `event` for log handlers that write structured logs."""
    extra: dict[str, object] = {
        "ably_client_id": event.auth and event.auth.client_id,
        "ably_seconds": round(event.seconds, 6),
        "ably_capability": event.capability.text,
        "ably_denied": event.denied.text,
    }
    if event.refusal is not None:
        extra |= {"ably_code": event.refusal.code, "ably_status": event.refusal.status}
    return extra
