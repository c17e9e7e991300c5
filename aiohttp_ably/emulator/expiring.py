"""A mapping that forgets: each entry at its time, and the first to go early when there are too many."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from .clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Expiring(Generic[K, V]):
    """Entries that are kept until their time (milliseconds since the epoch), at most `limit` of them."""

    def __init__(self, clock: Clock, *, limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._entries: dict[K, V] = {}
        self._deadlines: list[tuple[float, int, K]] = []
        self._order = itertools.count()

    def put(self, name: K, value: V, *, until: float) -> None:
        """Keep `value` until that time. A name is put once."""
        self._forget()
        self._entries[name] = value
        heapq.heappush(self._deadlines, (until, next(self._order), name))
        while len(self._entries) > self._limit:
            self._entries.pop(heapq.heappop(self._deadlines)[2], None)

    def get(self, name: K) -> V | None:
        """What is kept under `name`, if anything still is."""
        self._forget()
        return self._entries.get(name)

    def values(self) -> Iterator[V]:
        """Everything that is still kept."""
        self._forget()
        return iter(self._entries.values())

    def _forget(self) -> None:
        now = self._clock.now()
        while self._deadlines and self._deadlines[0][0] <= now:
            self._entries.pop(heapq.heappop(self._deadlines)[2], None)

    def __contains__(self, name: K) -> bool:
        return self.get(name) is not None

    def __len__(self) -> int:
        self._forget()
        return len(self._entries)
