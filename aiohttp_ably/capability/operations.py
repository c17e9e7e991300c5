"""The operations of a capability: those that Ably knows, how they are read, and how two sets combine."""

from __future__ import annotations

import difflib
import sys
import warnings
from functools import lru_cache

from ..errors import InvalidCapability
from . import strict_json as _json

ALL = "*"
OPERATIONS = frozenset(
    (
        "*",
        "publish",
        "subscribe",
        "presence",
        "history",
        "stats",
        "channel-metadata",
        "push-subscribe",
        "push-admin",
        "privileged-headers",
        "object-subscribe",
        "object-publish",
        "annotation-subscribe",
        "annotation-publish",
        "message-update-own",
        "message-update-any",
        "message-delete-own",
        "message-delete-any",
    )
)
ALL_OF_THEM = frozenset((ALL,))
EXAMPLE = '{"chat:1":["publish","subscribe"]}'


class UnknownOperationWarning(UserWarning):
    """An operation that Ably does not know stands in a capability of your own code."""


def nearest(operation: str) -> str:
    """A hint that names the known operation nearest to `operation`, or all of them."""
    near = difflib.get_close_matches(operation, OPERATIONS, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(OPERATIONS))}"


def from_wire(resource: str, named: object) -> frozenset[str]:
    """The operations that a client names for `resource`; raises InvalidCapability where Ably would refuse."""
    operations = [named] if isinstance(named, str) else named
    if not is_text(resource) or not isinstance(operations, (list, tuple, set)) or not operations:
        raise InvalidCapability(
            f"capability of {str(resource)[:100]!r} must be a list of operations such as {EXAMPLE}"
        )
    for operation in operations:
        if not isinstance(operation, str):
            raise InvalidCapability(f"an operation on {resource[:100]!r} is not text; expected {EXAMPLE}")
        if operation not in OPERATIONS:
            raise InvalidCapability(f"unknown operation {operation[:100]!r}; {nearest(operation[:100])}")
    if ALL in operations and len(set(operations)) > 1:
        raise InvalidCapability(f"operation '*' on {resource[:100]!r} must stand alone")
    return frozenset(operations)


@lru_cache(maxsize=1024)
def known(names: tuple[str, ...]) -> frozenset[str]:
    """The set of operations that `names` comes to; raises LookupError where Ably does not know them all.

    Remembered, so that the many resources that allow the same share one set, and its hash.
    """
    if not OPERATIONS.issuperset(names):
        raise LookupError
    return _set_of(names)


def is_text(value: object) -> bool:
    """Whether `value` is text that can be sent: a lone surrogate cannot."""
    try:
        return isinstance(value, str) and (value.isascii() or bool(value.encode()))
    except UnicodeEncodeError:
        return False


def check_text(resource: object) -> None:
    """Raise TypeError for a name of a resource that cannot be sent."""
    if not is_text(resource):
        raise TypeError(f"a resource is named by text in UTF-8, got {resource!r}")


def questioned(names: tuple[str, ...], resource: str) -> frozenset[str]:
    """As `known`, but what Ably does not know is warned of; raises TypeError where not all is text."""
    unknown = set(names) - OPERATIONS
    if not all(isinstance(one, str) for one in unknown):
        raise TypeError(f"operations are text, got {list(names)!r} on {resource!r}")
    for operation in sorted(unknown):
        warnings.warn(
            f"unknown operation {operation!r} on {resource!r}; {nearest(operation)}",
            UnknownOperationWarning,
            stacklevel=_callers_level(),
        )
    return _set_of(names)


def _set_of(names: tuple[str, ...]) -> frozenset[str]:
    return ALL_OF_THEM if ALL in names else frozenset(names)


def _callers_level() -> int:
    """The `stacklevel` that is the first line outside this package, for who called this."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] == __package__.partition(".")[0]:
        frame, level = frame.f_back, level + 1
    return level


@lru_cache(maxsize=1024)
def text_of(operations: frozenset[str]) -> str:
    """Their JSON, sorted."""
    return _json.dumps(sorted(operations))


def join(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """What is in either."""
    return ALL_OF_THEM if ALL in one or ALL in other else one | other


def meet(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """What is in both."""
    if ALL in one:
        return ALL_OF_THEM if ALL in other else other
    return one if ALL in other else one & other
