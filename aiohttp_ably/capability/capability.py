"""The capability of a token: immutable, with the set algebra that the Ably service applies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, final

from ..errors import InvalidCapability
from . import strict_json
from .operations import (
    ALL,
    EVERY_OPERATION,
    EXAMPLE,
    from_code,
    from_wire,
    is_string,
    known,
    text_of,
)
from .resources import Index, Resource, is_plain, without_params

MAX_RESOURCES = 1000
"""The most resources that a capability from outside may name."""

_NONE: frozenset[str] = frozenset()

Operations = str | Iterable[str]
"""One operation, or several: what the app's own code may write for a resource."""


@final
class Capability(Mapping[str, frozenset[str]]):
    """Which operations are allowed on which resources; immutable and hashable.

    A resource is a channel name or a pattern. Its segments are split at `:`. A segment `*` stands for exactly
    one segment, and for one or more at the end. `[meta]…` and `[queue]…` are other namespaces, and `[*]*`
    covers everything. The operation `*` is every operation.

    A capability is a mapping of resource to operations, and equals the mapping it was made of. It is false
    when it allows nothing.

    Args:
        resources: maps each resource to one operation or several. A resource with no operation allows
            nothing and is left out. An operation unknown to Ably warns with UnknownOperationWarning. For a
            capability from outside use `Capability.parse`.

    Raises:
        TypeError: a resource or operation is not a string, or `resources` is not a mapping.
    """

    __slots__ = ("_index", "_operations", "_text", "_with_base")

    _operations: dict[str, frozenset[str]]
    _text: str | None
    _index: Index | Literal[False] | None
    _with_base: tuple[Capability, Capability] | None

    def __new__(cls, resources: Mapping[str, Operations] | None = None, /) -> Capability:
        if type(resources) is Capability:
            return resources
        if resources is None:
            return NOTHING
        if not isinstance(resources, (dict, Mapping)):
            raise TypeError(
                f"a capability is a mapping of resource to operations, such as {EXAMPLE}; got {resources!r}"
            )
        checked: dict[str, frozenset[str]] = {}
        for resource, named in resources.items():
            if not (type(resource) is str and resource.isascii()) and not is_string(resource):
                raise TypeError(f"a resource is a string that UTF-8 can encode, got {resource!r}")
            try:
                names = (named,) if isinstance(named, str) else tuple(named)
            except TypeError:
                raise TypeError(
                    f"the operations on {resource!r} are a list such as ['subscribe'], or '*' for all of"
                    f" them; got {named!r}"
                ) from None
            try:
                operations = known(names)
            except (LookupError, TypeError):
                operations = from_code(names, resource)  # warns or raises
            if operations:
                checked[resource] = operations
        return _capability(checked)

    @classmethod
    def parse(cls, value: str | bytes | Mapping[str, object], *, limit: int = MAX_RESOURCES) -> Capability:
        """Read a capability from outside, as strictly as Ably does (RSA9f, TK2b).

        Args:
            value: JSON, or the object that it was parsed to. A single operation may stand without its list.
            limit: the most resources that `value` may name.

        Raises:
            InvalidCapability: duplicate keys, no or unknown operations, `*` beside others, too many
                resources, or anything that is not a capability.
        """
        if isinstance(value, (str, bytes)):
            try:
                value = strict_json.loads(value)
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
        """Canonical JSON: resources and operations sorted, compact, non-ASCII kept. Computed once."""
        if self._text is None:
            allowed = self._operations
            members = [f"{strict_json.quoted(name)}:{text_of(allowed[name])}" for name in sorted(allowed)]
            self._text = "{" + ",".join(members) + "}"
        return self._text

    def to_dict(self) -> dict[str, list[str]]:
        """The capability as an object for JSON, resources and operations sorted."""
        return {resource: sorted(self._operations[resource]) for resource in sorted(self._operations)}

    @classmethod
    def from_dict(cls, members: object) -> Capability:
        """Read what `to_dict` returned. Operations are not checked again.

        Raises InvalidCapability when `members` is not an object of lists of strings.
        """
        try:
            if isinstance(members, dict) and {*map(type, members.values())} <= {list}:
                return _capability(
                    {resource: frozenset(named) for resource, named in members.items() if named}
                )
        except TypeError:  # an operation that is a list
            pass
        raise InvalidCapability("a stored capability is an object of lists of operations")

    def operations(self, resource: str) -> frozenset[str]:
        """The operations allowed on everything that `resource` names; `{"*"}` when every operation is."""
        name = without_params(resource) if resource.startswith("[") else resource
        exact = self._operations.get(name, _NONE)
        patterns = self._patterns()
        return exact | patterns.find(resource) if patterns is not None else exact

    def has_patterns(self) -> bool:
        """Whether any resource is something else than the plain name of one channel."""
        return self._patterns() is not None

    def _patterns(self) -> Index | None:
        if self._index is False:
            self._index = None
            if any(map(_may_be_pattern, self._operations)):
                self._index = Index.of(self._operations)
        return self._index

    def allows(self, operation: str, resource: str) -> bool:
        """Whether `operation` is allowed on `resource`: a channel, or everything that a pattern names."""
        operations = self.operations(resource)
        return operation in operations or ALL in operations

    def covers(self, other: Capability) -> bool:
        """Whether everything that `other` allows is allowed here too."""
        return not other - self

    def missing_from(self, granted: Capability) -> Capability:
        """The part of this requested capability that `granted` does not allow.

        A requested `*` means "all that I may have here", so any operation on the resource satisfies it.
        """
        return _capability(
            {
                name: operations
                for name, operations in (self - granted)._operations.items()
                if ALL not in operations or not granted.operations(name)
            }
        )

    def plain(self) -> Capability:
        """The part that names single channels: without patterns, other namespaces and unusual names."""
        kept = {name: allowed for name, allowed in self._operations.items() if is_plain(name)}
        return self if len(kept) == len(self._operations) else _capability(kept)

    def without(self, *resources: str) -> Capability:
        """The capability that is left when `resources`, and all that they cover, are released.

        Raises InvalidCapability when a capability cannot express the rest: `room:1` released from `room:*`.
        """
        if not resources:
            return self
        released = _capability(dict.fromkeys(resources, EVERY_OPERATION))
        left: dict[str, frozenset[str]] = {}
        for name, operations in self._operations.items():
            # Only a pattern can be released in part: a plain name is covered or it is not.
            if _may_be_pattern(name) and (resource := Resource.parse(name)).is_pattern:
                is_released = _is_released(resource, resources)
            else:
                is_released = bool(released.operations(name))
            if not is_released:
                left[name] = operations
        return self if len(left) == len(self._operations) else _capability(left)

    def with_base(self, base: Capability) -> Capability:
        """`base | self`. The last result is remembered: a grant is joined to the same base every time."""
        if not base._operations:
            return self
        if not self._operations:
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
                merged[resource] = _union(self._operations[resource], other._operations[resource])
            if merged == self._operations:
                return self
        return _capability(merged)

    def __sub__(self, other: Capability) -> Capability:
        """What is allowed here and not there. `*` without some operations stays `*`."""
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
        """What both allow, as Ably computes a token's capability from that of its key."""
        if type(other) is not Capability:
            return NotImplemented
        if not other.has_patterns() and (other is self or not (other - self)._operations):
            return other
        both: dict[str, frozenset[str]] = {}

        def put(resource: str, operations: frozenset[str]) -> None:
            if operations:
                both[resource] = _union(both.get(resource, _NONE), operations)

        patterns: tuple[list[Resource], list[Resource]] = ([], [])
        for side, (ours, theirs) in enumerate(((self, other), (other, self))):
            for name, operations in ours._operations.items():
                if _may_be_pattern(name) and (resource := Resource.parse(name)).is_pattern:
                    patterns[side].append(resource)
                else:
                    put(name, _intersection(operations, theirs.operations(name)))
        for mine in patterns[0]:
            for theirs_ in patterns[1]:
                if common := mine & theirs_:
                    put(common.text, _intersection(self[mine.text], other[theirs_.text]))
        return _capability(both)

    def __getitem__(self, resource: str) -> frozenset[str]:
        return self._operations[resource]

    def __iter__(self) -> Iterator[str]:
        return iter(self._operations)

    def __len__(self) -> int:
        return len(self._operations)

    def __bool__(self) -> bool:
        return bool(self._operations)

    def __eq__(self, other: object) -> bool:
        if type(other) is Capability:
            return self._operations == other._operations
        if not isinstance(other, Mapping):
            return NotImplemented
        try:
            return self._operations == {name: _as_set(named) for name, named in other.items() if named}
        except TypeError:  # its values are not operations
            return False

    def __reduce__(self) -> tuple[object, ...]:
        return Capability.from_dict, (self.to_dict(),)

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Capability({self.text})"


def _capability(operations: dict[str, frozenset[str]]) -> Capability:
    """A Capability of operations that are checked already."""
    if not operations:
        return NOTHING
    self = object.__new__(Capability)
    self._operations = operations
    self._text = None
    self._index = False  # not made yet
    self._with_base = None
    return self


CapabilityLike = Capability | Mapping[str, Operations]
"""What the app's own code may give for a capability: one, or a mapping of resource to operations."""

NOTHING = object.__new__(Capability)
NOTHING._operations, NOTHING._text, NOTHING._index, NOTHING._with_base = {}, "{}", None, None
"""The capability that allows nothing."""


def _union(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """The operations in either set; `*` absorbs all others."""
    return EVERY_OPERATION if ALL in one or ALL in other else one | other


def _intersection(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """The operations in both sets; `*` stands for every operation."""
    if ALL in one:
        return other
    return one if ALL in other else one & other


def _may_be_pattern(name: str) -> bool:
    """A quick test: False for most names that are plain."""
    return "*" in name or name.startswith("[")


def _as_set(named: Operations) -> frozenset[str]:
    operations = frozenset((named,) if isinstance(named, str) else named)
    return EVERY_OPERATION if ALL in operations else operations


def _is_released(pattern: Resource, resources: Iterable[str]) -> bool:
    """Whether one of `resources` covers `pattern`.

    Raises InvalidCapability when they cover a part of it only, in whatever order they come.
    """
    partly = None
    for name in resources:
        common = Resource.parse(name) & pattern
        if common and common.names == pattern.names:
            return True
        if common:
            partly = name
    if partly is not None:
        raise InvalidCapability(
            f"{partly!r} cannot be released from {pattern.text!r}: a capability cannot express an exception;"
            f" drop {pattern.text!r} and request what should stay"
        )
    return False
