"""ChannelRules: an `authorize` made of one rule for each kind of channel."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from ._callbacks import as_async
from .capability import ALL, Capability, Operations
from .request import AuthRequest

Rule = Callable[..., Operations | Awaitable[Operations]]
R = TypeVar("R", bound=Rule)

_PLACEHOLDER = re.compile(r"\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<rest>\*)?\}")


class ChannelPattern:
    """A resource with placeholders for whole segments, such as `chat:{room}`.

    `{name}` is exactly one segment that is not empty, `{name*}` at the end is one or more. Raises TypeError
    when `text` is not a string, and ValueError for any other use of braces.
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a channel pattern is a string such as 'chat:{{room}}', got {text!r}")
        self.text = text
        self.names: list[str] = []
        segments = text.split(":")
        parts: list[str] = []
        for position, segment in enumerate(segments):
            match = _PLACEHOLDER.fullmatch(segment)
            if match is None:
                if "{" in segment or "}" in segment:
                    raise ValueError(f"{text!r}: a placeholder such as {{room}} must be a whole segment")
                parts.append(re.escape(segment))
                continue
            if match["rest"] and position != len(segments) - 1:
                raise ValueError(f"{text!r}: {segment} matches all the rest, so it must be the last segment")
            if match["name"] in self.names:
                raise ValueError(f"{text!r} has the placeholder {match['name']!r} twice")
            self.names.append(match["name"])
            parts.append(f"(?P<{match['name']}>{'.+' if match['rest'] else '[^:]+'})")
        self._match = re.compile(":".join(parts), re.DOTALL).fullmatch

    def match(self, channel: str) -> dict[str, str] | None:
        """The values of the placeholders in `channel`; None when it does not match."""
        match = self._match(channel)
        return match.groupdict() if match else None

    def fill(self, values: Mapping[str, str]) -> str:
        """The pattern with `values` in place of its placeholders; raises KeyError when one is missing."""
        return _PLACEHOLDER.sub(lambda match: values[match["name"]], self.text)

    def shadows(self, other: ChannelPattern) -> bool:
        """Whether this pattern matches every channel that `other` matches."""
        theirs = other.text.split(":")
        for position, segment in enumerate(self.text.split(":")):
            rest = theirs[position:]
            if not rest:
                return False
            placeholder, their_placeholder = (_PLACEHOLDER.fullmatch(one) for one in (segment, rest[0]))
            if placeholder and placeholder["rest"]:
                return rest != [""]
            if their_placeholder and their_placeholder["rest"]:
                return False  # it may match more segments
            if segment != rest[0] and not (placeholder and rest[0]):
                return False  # a placeholder matches no empty segment
        return self.text.count(":") == other.text.count(":")


class _Registered(NamedTuple):
    pattern: ChannelPattern
    rule: Callable[..., Awaitable[Operations]]


class ChannelRules:
    """An `authorize` made of one rule for each kind of channel. The first rule that matches decides.

    A rule is a sync or async function. It gets the AuthRequest and the values of its placeholders by name,
    and returns the operations that the client may have on the channel: a list, `["*"]` for all of them, or
    `[]` for none. A channel that no rule matches is denied.
    """

    def __init__(self) -> None:
        self._rules: list[_Registered] = []

    def channel(self, pattern: str) -> Callable[[R], R]:
        """Register the decorated function for the channels that `pattern` matches, such as `chat:{room}`.

        Raises ValueError for a malformed pattern, or when a rule registered before matches all of its
        channels; and TypeError when the function does not take the placeholders as arguments.
        """
        if callable(pattern):
            raise TypeError('write @rules.channel("chat:{room}"): the decorator needs a pattern')
        parsed = ChannelPattern(pattern)
        for known in self._rules:
            if known.pattern.shadows(parsed):
                raise ValueError(
                    f"the rule for {pattern!r} would never be used: the rule for {known.pattern.text!r} comes"
                    " first and matches the same channels; register the more specific rule first"
                )

        def register(rule: R) -> R:
            arguments: dict[str, Any] = dict.fromkeys(parsed.names, "")
            try:
                inspect.signature(rule).bind(None, **arguments)
            except TypeError as error:
                wanted = ", ".join(["auth", *parsed.names])
                raise TypeError(f"the rule for {pattern!r} must take ({wanted}): {error}") from None
            self._rules.append(_Registered(parsed, as_async(rule)))
            return rule

        return register

    async def __call__(self, auth: AuthRequest, requested: Capability) -> Capability:
        """The part of `requested` that the rules allow."""
        allowed = {resource: await self._allowed(auth, resource) for resource in requested}
        return Capability(allowed) & requested

    async def _allowed(self, auth: AuthRequest, resource: str) -> Operations:
        for pattern, rule in self._rules:
            values = pattern.match(resource)
            if values is not None:
                operations = await rule(auth, **values)
                if operations is None or isinstance(operations, bool):
                    raise TypeError(
                        f"the rule for {pattern.text!r} returned {operations!r}; return a list of the allowed"
                        f" operations, [{ALL!r}] for all of them, [] for none"
                    )
                return operations
        return ()
