"""Resource names: their segments, what two of them have in common, and an index of patterns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

WILDCARD = "*"


_UNUSUAL = re.compile(r"[\[:]|.*[\x00-\x1f\x7f-\x9f]", re.DOTALL)


def is_plain(text: str) -> bool:
    """Whether `text` is the usual name of one channel.

    False for a wildcard segment, a leading `[` or `:`, an empty name, or a control character.
    """
    return bool(text) and not _UNUSUAL.match(text) and WILDCARD not in text.split(":")


def without_params(text: str) -> str:
    """The resource without channel params: `name` of `[?rewind=1]name`."""
    if not text.startswith("["):
        return text
    qualifier, closed, name = text[1:].partition("]")
    namespace, question, _ = qualifier.partition("?")
    if not closed or not question:
        return text
    return f"[{namespace}]{name}" if namespace else name


class Resource(NamedTuple):
    """A channel name or pattern in parts: the `[qualifier]` in front, then the segments between colons."""

    text: str
    qualifier: str
    segments: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Resource:
        """Split `text`. Channel params are not part of the name."""
        return _parse(text)

    @property
    def names(self) -> tuple[str, tuple[str, ...]]:
        """The name without channel params: two spellings of one resource have the same."""
        return self.qualifier, self.segments

    @property
    def is_pattern(self) -> bool:
        """Whether this is something else than the plain name of one channel."""
        return bool(self.qualifier) or WILDCARD in self.segments or self.text.startswith("[")

    def __and__(self, other: Resource) -> Resource | None:
        """The resource that both cover; None when they have nothing in common."""
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
    """A node of the index.

    `ends` are the operations of the pattern that ends here, `rest` those of a pattern whose last `*` starts
    here, and `follows` the nodes of the next segment.
    """

    __slots__ = ("ends", "follows", "rest")

    def __init__(self) -> None:
        self.ends: frozenset[str] = frozenset()
        self.rest: frozenset[str] = frozenset()
        self.follows: dict[str, _Node] = {}


class Index:
    """A tree of patterns by segment, which finds the operations on a resource without scanning them all.

    Plain names are not in it: a dict finds them.
    """

    __slots__ = ("_roots",)

    def __init__(self) -> None:
        self._roots: dict[str, _Node] = {}

    @classmethod
    def of(cls, operations: Mapping[str, frozenset[str]]) -> Index | None:
        """The index of `operations`; None when there is no pattern among them."""
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
        """The operations allowed on everything that `text` names. Only a `*` covers a `*`."""
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
