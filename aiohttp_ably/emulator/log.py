"""What happened in the emulator: kept for tests to look at, and told to whoever watches."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from .clock import Clock
from .grant import Grant

LOG = logging.getLogger("aiohttp_ably.emulator")
KEPT = 10_000


@dataclass(frozen=True)
class Event:
    """Something that happened, at `time` in milliseconds since the epoch."""

    time: int
    what: str
    details: Mapping[str, object]

    def __str__(self) -> str:
        details = "  ".join(f"{name}={_text(value)}" for name, value in self.details.items())
        return f"{self.what:<16} {details}".rstrip()


@dataclass(frozen=True)
class IssuedToken:
    """A token that was issued: for which TokenRequest, and what it allows. Without the token itself."""

    request: Mapping[str, object]
    details: Mapping[str, object]


class Journal:
    """The last 10,000 events and token requests, oldest first. No credential is ever among them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.events: deque[Event] = deque(maxlen=KEPT)
        self.token_requests: deque[IssuedToken] = deque(maxlen=KEPT)

    def record(self, what: str, /, **details: object) -> None:
        """Record what happened. Details that are None are left out."""
        told = {name: value for name, value in details.items() if value is not None}
        event = Event(self._clock.now(), what, told)
        self.events.append(event)
        LOG.info("%s", event)

    def token_issued(
        self, request: Mapping[str, object], details: Mapping[str, object], grant: Grant
    ) -> None:
        """Record that a token was issued."""
        shown = {name: value for name, value in request.items() if name != "mac"}
        told = {name: value for name, value in details.items() if name != "token"}
        self.token_requests.append(IssuedToken(shown, told))
        self.record(
            "token issued", client=grant.client_id, key=grant.key.name, capability=details["capability"]
        )


def _text(value: object) -> str:
    text = str(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 400 else f"{text[:400]}…"
