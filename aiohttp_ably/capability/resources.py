"""Resource names of a capability: their segments, and an index that finds the patterns over one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

WILDCARD = "*"


_UNUSUAL = re.compile(r"[\[:]|.*[\x00-\x1f\x7f-\x9f]", re.DOTALL)


def is_plain(text: str) -> bool:
    """Whether `text` names one channel and nothing else.

    Not so a wildcard segment, a leading `[` or `:`, an empty name, or a control character.
    """
    return bool(text) and not _UNUSUAL.match(text) and WILDCARD not in text.split(":")


def without_params(text: str) -> str:
    """The name in `[?rewind=1]name`; in `[meta?rewind=1]name`, `[meta]name`."""
    if not text.startswith("["):
        return text
    qualifier, closed, name = text[1:].partition("]")
    kept, requested, _ = qualifier.partition("?")
    if not closed or not requested:
        return text
    return f"[{kept}]{name}" if kept else name


class Resource(NamedTuple):
    """A channel name or pattern, split: `[qualifier]` in front, then segments between colons."""

    text: str
    qualifier: str
    segments: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Resource:
        """Split `text`, whose parameters are not part of the name."""
        return _parse(text)

    @property
    def names(self) -> tuple[str, tuple[str, ...]]:
        """What is named, however it is written."""
        return self.qualifier, self.segments

    @property
    def is_pattern(self) -> bool:
        """Whether this may be anything but the plain name of one channel."""
        return bool(self.qualifier) or WILDCARD in self.segments or self.text.startswith("[")

    def __and__(self, other: Resource) -> Resource | None:
        """The resource that names what both name, if anything."""
        if self.qualifier == other.qualifier or other.qualifier == WILDCARD:
            qualifier = self.qualifier
        elif self.qualifier == WILDCARD:
            qualifier = other.qualifier
        else:
            return None
        short, long = sorted((self.segments, other.segments), key=len)
        if len(short) < len(long) and short[-1] != WILDCARD:
            return None
        both: list[str] = []
        last = len(short) - 1
        for position, (ours, theirs) in enumerate(zip(short, long, strict=False)):
            if ours == WILDCARD and position == last:
                both += long[last:]
            elif ours == WILDCARD:
                both.append(theirs)
            elif theirs in (WILDCARD, ours):
                both.append(ours)
            else:
                return None
        prefix = f"[{qualifier}]" if qualifier else ""
        return _parse(prefix + ":".join(both))


@lru_cache(maxsize=4096)
def _parse(text: str) -> Resource:
    qualifier, name = "", without_params(text)
    if name.startswith("[") and "]" in name:
        qualifier, _, name = name[1:].partition("]")
    return Resource(text, qualifier, tuple(name.split(":")))


class _Node:
    """A place in the index: what ends here, what a last `*` allows from here on, and what follows."""

    __slots__ = ("ends", "follows", "rest")

    def __init__(self) -> None:
        self.ends: frozenset[str] = frozenset()
        self.rest: frozenset[str] = frozenset()
        self.follows: dict[str, _Node] = {}


class Index:
    """Finds the operations that patterns give on a resource, segment by segment and not by scanning them.

    Holds the patterns only: a plain name is found by its text.
    """

    __slots__ = ("_roots",)

    def __init__(self) -> None:
        self._roots: dict[str, _Node] = {}

    @classmethod
    def of(cls, operations: Mapping[str, frozenset[str]]) -> Index | None:
        """The index of `operations`; None where no pattern is among them."""
        index = None
        for text, allowed in operations.items():
            if WILDCARD in text or text.startswith("["):
                resource = _parse(text)
                if resource.is_pattern:
                    index = index or cls()
                    index._add(resource, allowed)
        return index

    def _add(self, resource: Resource, allowed: frozenset[str]) -> None:
        node = self._roots.setdefault(resource.qualifier, _Node())
        *parents, last = resource.segments
        for segment in parents:
            node = node.follows.setdefault(segment, _Node())
        if last == WILDCARD:
            node.rest |= allowed
        else:
            node = node.follows.setdefault(last, _Node())
            node.ends |= allowed

    def find(self, text: str) -> frozenset[str]:
        """The operations allowed on everything `text` names. An asked `*` is covered by a `*` only."""
        if text.startswith("["):
            _, qualifier, segments = _parse(text)
        else:
            qualifier, segments = "", tuple(text.split(":"))
        found: list[frozenset[str]] = []
        last = len(segments) - 1
        pending = [(root, 0) for name in {qualifier, WILDCARD} if (root := self._roots.get(name))]
        while pending:
            node, position = pending.pop()
            if node.rest:
                found.append(node.rest)
            segment = segments[position]
            if position == last:
                if segment != WILDCARD and (end := node.follows.get(segment)):
                    found.append(end.ends)
                continue
            for name in {segment, WILDCARD}:
                if follower := node.follows.get(name):
                    pending.append((follower, position + 1))
        return frozenset().union(*found)
