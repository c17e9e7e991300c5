"""The operations of a capability: which ones Ably knows, how they are read, and how two sets combine."""

from __future__ import annotations

import difflib
import sys
import warnings
from functools import lru_cache

from ..errors import InvalidCapability, UnknownOperationWarning
from . import strict_json

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
EVERY_OPERATION = frozenset((ALL,))
EXAMPLE = '{"chat:1":["publish","subscribe"]}'


def suggestion(operation: str) -> str:
    """A hint that names the known operation nearest to `operation`, or all known operations."""
    near = difflib.get_close_matches(operation, OPERATIONS, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(OPERATIONS))}"


def from_wire(resource: str, named: object) -> frozenset[str]:
    """The operations that a client names for `resource`.

    Raises InvalidCapability where Ably would refuse them: an empty list, an unknown operation, `*` beside
    another operation, or anything but strings.
    """
    operations = [named] if isinstance(named, str) else named
    if not is_string(resource) or not isinstance(operations, (list, tuple, set)) or not operations:
        raise InvalidCapability(
            f"capability of {str(resource)[:100]!r} must be a list of operations such as {EXAMPLE}"
        )
    for operation in operations:
        if not isinstance(operation, str):
            raise InvalidCapability(f"an operation on {resource[:100]!r} is not a string; expected {EXAMPLE}")
        if operation not in OPERATIONS:
            raise InvalidCapability(f"unknown operation {operation[:100]!r}; {suggestion(operation[:100])}")
    if ALL in operations and len(set(operations)) > 1:
        raise InvalidCapability(f"operation '*' on {resource[:100]!r} must stand alone")
    return frozenset(operations)


@lru_cache(maxsize=1024)
def known(names: tuple[str, ...]) -> frozenset[str]:
    """The set of the operations `names`; raises LookupError when Ably does not know one of them.

    The cache makes the many resources that allow the same operations share one set. It stays small: only
    known operations get into it, and a tuple of them is short.
    """
    if not OPERATIONS.issuperset(names):
        raise LookupError
    return _set_of(names)


def from_code(names: tuple[str, ...], resource: str) -> frozenset[str]:
    """The set of the operations `names` that the app's own code gives for `resource`.

    An operation unknown to Ably warns with UnknownOperationWarning, which names the nearest known one, and
    is kept. Raises TypeError for anything but strings.
    """
    if not all(isinstance(one, str) for one in names):
        raise TypeError(f"operations are strings, got {list(names)!r} on {resource!r}")
    for operation in sorted(set(names) - OPERATIONS):
        warnings.warn(
            f"unknown operation {operation!r} on {resource!r}; {suggestion(operation)}",
            UnknownOperationWarning,
            stacklevel=_callers_level(),
        )
    return _set_of(names)


def is_string(value: object) -> bool:
    """Whether `value` is a string that UTF-8 can encode: one with a lone surrogate is not."""
    try:
        return isinstance(value, str) and (value.isascii() or bool(value.encode()))
    except UnicodeEncodeError:
        return False


@lru_cache(maxsize=1024)
def text_of(operations: frozenset[str]) -> str:
    """The operations as a sorted JSON list."""
    return strict_json.dumps(sorted(operations))


def _set_of(names: tuple[str, ...]) -> frozenset[str]:
    return EVERY_OPERATION if ALL in names else frozenset(names)


def _callers_level() -> int:
    """The `stacklevel` of the first frame outside this package, so that a warning names the app's line."""
    package = __package__.partition(".")[0]
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level
