"""The calls that wait for a new token, and which of them one auth request can serve."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..capability import NOTHING, Capability


@dataclass(eq=False)
class Call:
    """One `need`, `drop` or `reauthorize`; `done` is settled when its new token is in effect.

    `forced`: get a new token even if the present one allows `requested`.
    """

    requested: Capability = NOTHING
    released: tuple[str, ...] = ()
    forced: bool = False
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def succeed(self) -> None:
        """Return to the caller, unless the call was cancelled."""
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        """Raise `error` for the caller, unless the call was cancelled."""
        if not self.done.done():
            self.done.set_exception(error)


def fail_all(calls: Iterable[Call], error: Exception) -> None:
    """Raise `error` for all callers."""
    for call in calls:
        call.fail(error)


def next_batch(calls: Sequence[Call]) -> list[Call]:
    """The first of `calls` that one auth request can serve.

    They end before a call that releases a resource which an earlier one requests, or requests one which an
    earlier one releases: in one request the order would be lost.
    """
    batch: list[Call] = []
    requested: set[str] = set()
    released: set[str] = set()
    for call in calls:
        if requested.intersection(call.released) or released.intersection(call.requested):
            break
        requested.update(call.requested)
        released.update(call.released)
        batch.append(call)
    return batch
