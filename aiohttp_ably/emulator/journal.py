"""The journal of the emulator: events and issued tokens, kept for tests and written to the log."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from .clock import Clock
from .credentials import Access

LOG = logging.getLogger("aiohttp_ably.emulator")
MAX_EVENTS = 10_000


@dataclass(frozen=True)
class Event:
    """Something that happened in the emulator, such as `connected` or `token issued`.

    `time` is in milliseconds since the epoch.
    """

    time: int
    kind: str
    details: Mapping[str, object]

    def __str__(self) -> str:
        details = "  ".join(f"{name}={_shown(value)}" for name, value in self.details.items())
        return f"{self.kind:<16} {details}".rstrip()


@dataclass(frozen=True)
class IssuedToken:
    """A token that was issued for a TokenRequest.

    `request` is the TokenRequest without its mac, `details` the TokenDetails without the token.
    """

    request: Mapping[str, object]
    details: Mapping[str, object]


class Journal:
    """The last 10,000 events and the last 10,000 issued tokens, oldest first. It contains no credentials."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self.token_requests: deque[IssuedToken] = deque(maxlen=MAX_EVENTS)

    def record(self, kind: str, /, **details: object) -> None:
        """Record an event. Details that are None are left out."""
        present = {name: value for name, value in details.items() if value is not None}
        event = Event(self._clock.now(), kind, present)
        self.events.append(event)
        LOG.info("%s", event)

    def token_issued(
        self, request: Mapping[str, object], details: Mapping[str, object], access: Access
    ) -> None:
        """Record that a token with `details` was issued for the TokenRequest `request`."""
        self.token_requests.append(
            IssuedToken(
                {name: value for name, value in request.items() if name != "mac"},
                {name: value for name, value in details.items() if name != "token"},
            )
        )
        self.record(
            "token issued", client=access.client_id, key=access.key.name, capability=details["capability"]
        )


def _shown(value: object) -> str:
    text = str(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 400 else f"{text[:400]}…"
