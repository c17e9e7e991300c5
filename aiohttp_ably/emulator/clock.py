"""Time for the emulator: the machine's, or one that a test drives by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A scheduled call that has not happened."""

    def cancel(self) -> None:
        """Do not make the call."""


class Clock(Protocol):
    """What the time is, and calls that happen when it has come. All in milliseconds since the epoch."""

    def now(self) -> int:
        """The time."""

    def call_at(self, when: float, call: Callable[[], object]) -> Timer:
        """Make `call` at `when`, in the running event loop."""


class SystemClock:
    """The time of the machine."""

    def now(self) -> int:
        """The time in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def call_at(self, when: float, call: Callable[[], object]) -> Timer:
        """Make `call` at `when`, in the running event loop."""
        delay = when / 1000 - time.time()
        return asyncio.get_running_loop().call_later(max(delay, 0), call)


class ManualClock:
    """Time that stands still until `advance` moves it, for tests that would have to wait.

    It starts at `start`, in seconds since the epoch: by default at the machine's time, as clients sign
    with that.
    """

    def __init__(self, start: float | None = None) -> None:
        self._now = round((time.time() if start is None else start) * 1000)
        self._order = itertools.count()
        self._timers: list[tuple[float, int, _ManualTimer]] = []

    def now(self) -> int:
        """The time in milliseconds since the epoch."""
        return self._now

    def call_at(self, when: float, call: Callable[[], object]) -> Timer:
        """Make `call` once the time is `when`."""
        timer = _ManualTimer(call)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        """Move on by `seconds`, making the calls that fall due on the way, each at its time."""
        end = self._now + round(seconds * 1000)
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            if timer.call is not None:
                self._now = max(self._now, round(when))
                timer.call()
                await asyncio.sleep(0)
        self._now = end
        await asyncio.sleep(0)


class _ManualTimer:
    __slots__ = ("call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None
