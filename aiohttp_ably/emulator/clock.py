"""Time in the emulator: a clock, a clock for tests, and a mapping whose entries expire."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""


class Clock(Protocol):
    """The time, and calls at a given time, in milliseconds since the epoch."""

    def now(self) -> int:
        """The time in milliseconds since the epoch."""

    def call_at(self, when: float, call: Callable[[], object]) -> Timer:
        """Schedule `call` for the time `when`, in the running event loop."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> int:
        """The time in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def call_at(self, when: float, call: Callable[[], object]) -> Timer:
        """Schedule `call` for the time `when`, in the running event loop."""
        delay = when / 1000 - time.time()
        return asyncio.get_running_loop().call_later(max(delay, 0), call)


class ManualClock:
    """A clock for tests: the time changes only when `advance` is called.

    `start` is in seconds since the epoch. The default is the time of the machine, as clients sign with that.
    """

    def __init__(self, start: float | None = None) -> None:
        self._now = round((time.time() if start is None else start) * 1000)
        self._order = itertools.count()
        self._timers: list[tuple[float, int, _ManualTimer]] = []

    def now(self) -> int:
        """The time in milliseconds since the epoch."""
        return self._now

    def call_at(self, when: float, call: Callable[[], object]) -> Timer:
        """Schedule `call` for the time `when`."""
        timer = _ManualTimer(call)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        """Advance the time by `seconds`. Scheduled calls are made in order, each at its time."""
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


class Expiring(Generic[K, V]):
    """A mapping of at most `limit` entries, each of which is removed when its time has come.

    When there are more, the entries that would expire first are removed early.
    """

    def __init__(self, clock: Clock, *, limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._entries: dict[K, V] = {}
        self._deadlines: list[tuple[float, int, K]] = []
        self._order = itertools.count()

    def put(self, name: K, value: V, *, until: float) -> None:
        """Keep `value` until the time `until`, in milliseconds since the epoch. A name is put only once."""
        self._remove_expired()
        self._entries[name] = value
        heapq.heappush(self._deadlines, (until, next(self._order), name))
        while len(self._entries) > self._limit:
            self._entries.pop(heapq.heappop(self._deadlines)[2], None)

    def get(self, name: K) -> V | None:
        """The value of `name`, or None when it has expired or was never put."""
        self._remove_expired()
        return self._entries.get(name)

    def values(self) -> Iterator[V]:
        """The values that have not expired."""
        self._remove_expired()
        return iter(self._entries.values())

    def _remove_expired(self) -> None:
        now = self._clock.now()
        while self._deadlines and self._deadlines[0][0] <= now:
            self._entries.pop(heapq.heappop(self._deadlines)[2], None)

    def __contains__(self, name: K) -> bool:
        return self.get(name) is not None

    def __len__(self) -> int:
        self._remove_expired()
        return len(self._entries)
