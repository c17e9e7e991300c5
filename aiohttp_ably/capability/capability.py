"""What a token allows: an immutable capability, under the rules the Ably service applies to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, final

from ..errors import InvalidCapability
from . import strict_json as _json
from .operations import ALL as ALL
from .operations import ALL_OF_THEM, EXAMPLE, check_text, from_wire, join, known, meet, questioned, text_of
from .operations import UnknownOperationWarning as UnknownOperationWarning
from .resources import Index, Resource, is_plain, without_params

MAX_RESOURCES = 1000

_NONE: frozenset[str] = frozenset()

Operations = str | Iterable[str]
"""One operation, or several."""


@final
class Capability(Mapping[str, frozenset[str]]):
    """Which operations are allowed on which resources; immutable and hashable.

    A resource is a channel name or a pattern: its segments are split at `:`, a segment `*` stands for one
    whole segment and, at the end, for one or more; `[meta]…` and `[queue]…` are other namespaces, and `[*]*`
    is everything. The operation `*` is every operation.

    `resources` maps each resource to one operation or several. An empty list of operations allows nothing
    and is left out. An operation unknown to Ably warns with the nearest known one; anything but text raises
    TypeError. For text from outside use `Capability.parse`.
    """

    __slots__ = ("_index", "_operations", "_text", "_with_base")

    _operations: dict[str, frozenset[str]]
    _text: str | None
    _index: Index | Literal[False] | None
    _with_base: tuple[Capability, Capability] | None

    def __new__(cls, resources: Mapping[str, Operations] | None = None, /) -> Capability:
        if type(resources) is Capability:
            return resources  # immutable, and its text and index may be at hand
        if resources is None:
            return NOTHING
        if type(resources) is not dict and not isinstance(resources, Mapping):
            raise TypeError(
                f"a capability is a mapping of resource to operations, got {type(resources).__name__}"
            )
        checked: dict[str, frozenset[str]] = {}
        for resource, named in resources.items():
            names = (named,) if isinstance(named, str) else tuple(named)
            try:
                operations = known(names)
            except LookupError:
                operations = questioned(names, resource)
            if not (type(resource) is str and resource.isascii()):
                check_text(resource)
            if operations:
                checked[resource] = operations
        return _capability(checked)

    @classmethod
    def parse(cls, value: str | bytes | Mapping[str, object], *, limit: int = MAX_RESOURCES) -> Capability:
        """Read a capability from outside, as strictly as Ably does (RSA9f, TK2b).

        `value` is JSON text or an already parsed object; a single operation may stand without its list.
        Raises InvalidCapability for anything else: duplicate keys, no or unknown operations, `*` beside
        others, or more than `limit` resources.
        """
        if isinstance(value, (str, bytes)):
            try:
                value = _json.loads(value)
            except ValueError as error:
                raise InvalidCapability(
                    f"capability is not JSON ({error}); send an object such as {EXAMPLE}"
                ) from None
        if not isinstance(value, Mapping):
            raise InvalidCapability(f"capability must be a JSON object such as {EXAMPLE}")
        if len(value) > limit:
            raise InvalidCapability(f"capability names {len(value)} resources; at most {limit} are accepted")
        return _capability({resource: from_wire(resource, named) for resource, named in value.items()})

    @property
    def text(self) -> str:
        """Canonical JSON: keys and operations sorted, compact, non-ASCII kept. Computed once."""
        if self._text is None:
            held = self._operations
            members = [f"{_json.quoted(resource)}:{text_of(held[resource])}" for resource in sorted(held)]
            self._text = "{" + ",".join(members) + "}"
        return self._text

    def to_dict(self) -> dict[str, list[str]]:
        """The same as an object for JSON, resources and operations sorted."""
        return {resource: sorted(self._operations[resource]) for resource in sorted(self._operations)}

    @classmethod
    def from_dict(cls, members: object) -> Capability:
        """What `to_dict` gave, read back; operations are not judged again.

        Raises InvalidCapability where `members` is not what `to_dict` gives.
        """
        try:
            if isinstance(members, dict) and {*map(type, members.values())} <= {list}:
                return _capability(
                    {resource: frozenset(named) for resource, named in members.items() if named}
                )
        except TypeError:  # an operation that is a list
            pass
        raise InvalidCapability("not a capability as it is kept: an object of lists of operations")

    def operations(self, resource: str) -> frozenset[str]:
        """The operations allowed on all that `resource` names (`*` among them when every one is)."""
        exact = self._operations.get(without_params(resource), _NONE)
        patterns = self._patterns()
        return exact | patterns.find(resource) if patterns is not None else exact

    def has_patterns(self) -> bool:
        """Whether any of its resources may be anything but the plain name of one channel."""
        return self._patterns() is not None

    def _patterns(self) -> Index | None:
        if self._index is False:
            self._index = Index.of(self._operations)
        return self._index

    def allows(self, operation: str, resource: str) -> bool:
        """Whether `operation` is allowed on `resource`: a channel, or everything a pattern names."""
        operations = self.operations(resource)
        return operation in operations or ALL in operations

    def covers(self, other: Capability) -> bool:
        """Whether everything `other` allows is allowed here too."""
        return other - self is NOTHING

    def missing_from(self, held: Capability) -> Capability:
        """The part of this ask that `held` lacks. `*` asks for all one may have: any operation meets it."""
        lacking = (self - held)._operations
        return _capability(
            {
                name: wanted
                for name, wanted in lacking.items()
                if ALL not in wanted or not held.operations(name)
            }
        )

    def plain(self) -> Capability:
        """The part of it that names single channels: no patterns, other namespaces, or unusual names."""
        kept = {name: allowed for name, allowed in self._operations.items() if is_plain(name)}
        return self if len(kept) == len(self._operations) else _capability(kept)

    def without(self, *resources: str) -> Capability:
        """What is left when `resources`, and all they contain, are given back.

        Raises InvalidCapability where that cannot be expressed: `room:1` out of `room:*`.
        """
        if not resources:
            return self
        given_back = _capability(dict.fromkeys(resources, ALL_OF_THEM))
        kept: dict[str, frozenset[str]] = {}
        for text, allowed in self._operations.items():
            held = Resource.parse(text)
            # Only a pattern can be cut in two; a plain name is given back whole or not at all.
            if not (_is_given_back(held, resources) if held.is_pattern else given_back.operations(text)):
                kept[text] = allowed
        return self if len(kept) == len(self._operations) else _capability(kept)

    def with_base(self, base: Capability) -> Capability:
        """`base | self`, remembered for the last `base`: what is kept is joined to the same one each time."""
        if base is NOTHING:
            return self
        if self is NOTHING:
            return base
        if self._with_base is None or self._with_base[0] is not base:
            self._with_base = (base, base | self)
        return self._with_base[1]

    def __or__(self, other: Capability) -> Capability:
        if type(other) is not Capability:
            return NotImplemented
        if not other._operations:
            return self
        if not self._operations:
            return other
        merged = self._operations | other._operations
        if len(merged) < len(self._operations) + len(other._operations):
            for resource in self._operations.keys() & other._operations.keys():
                merged[resource] = join(self._operations[resource], other._operations[resource])
            if merged == self._operations:
                return self
        return _capability(merged)

    def __sub__(self, other: Capability) -> Capability:
        """What is allowed here and not there. `*` less some operations stays `*`."""
        if type(other) is not Capability:
            return NotImplemented
        if not other._operations or not self._operations:
            return self
        left: dict[str, frozenset[str]] = {}
        for resource, operations in self._operations.items():
            if operations <= other._operations.get(resource, _NONE):
                continue
            covered = other.operations(resource)
            if ALL not in covered and not operations <= covered:
                left[resource] = operations - covered
        return _capability(left)

    def __and__(self, other: Capability) -> Capability:
        """What is allowed both here and there, as Ably computes a token's capability from its key's."""
        if type(other) is not Capability:
            return NotImplemented
        if not other.has_patterns() and (other is self or other - self is NOTHING):
            return other
        both: dict[str, frozenset[str]] = {}

        def put(resource: str, operations: frozenset[str]) -> None:
            if operations:
                both[resource] = join(both.get(resource, _NONE), operations)

        patterns: tuple[list[Resource], list[Resource]] = ([], [])
        for side, (ours, theirs) in enumerate(((self, other), (other, self))):
            for name, operations in ours._operations.items():
                resource = Resource.parse(name)
                if resource.is_pattern:
                    patterns[side].append(resource)
                else:
                    put(name, meet(operations, theirs.operations(name)))
        for mine in patterns[0]:
            for theirs_ in patterns[1]:
                if common := mine & theirs_:
                    put(common.text, meet(self[mine.text], other[theirs_.text]))
        return _capability(both)

    def __getitem__(self, resource: str) -> frozenset[str]:
        return self._operations[resource]

    def __iter__(self) -> Iterator[str]:
        return iter(self._operations)

    def __len__(self) -> int:
        return len(self._operations)

    def __eq__(self, other: object) -> bool:
        if type(other) is not Capability:
            return NotImplemented
        return self._operations == other._operations

    def __reduce__(self) -> tuple[object, ...]:
        return Capability.from_dict, (self.to_dict(),)

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Capability({self.text})"


def _capability(operations: dict[str, frozenset[str]]) -> Capability:
    """One of operations that are checked."""
    if not operations:
        return NOTHING
    self = object.__new__(Capability)
    self._operations = operations
    self._text = None
    self._index = False  # not made yet
    self._with_base = None
    return self


NOTHING = object.__new__(Capability)
NOTHING._operations, NOTHING._text, NOTHING._index, NOTHING._with_base = {}, "{}", None, None
"""The empty capability. There is only this one, so `is NOTHING` says whether one is empty."""


def _is_given_back(held: Resource, resources: Iterable[str]) -> bool:
    """Whether a pattern is in one of `resources`; raises InvalidCapability where only a part of it is."""
    for name in resources:
        common = Resource.parse(name) & held
        if common and common.names == held.names:
            return True
        if common:
            raise InvalidCapability(
                f"{name!r} cannot be taken out of {held.text!r}: a capability cannot say what it excludes;"
                f" drop {held.text!r} and ask for what should stay"
            )
    return False
