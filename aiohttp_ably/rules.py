"""ChannelRules: authorization for people who think in channels."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from ._callbacks import asynchronous
from .capability import ALL, Capability, Operations
from .request import AuthRequest

Rule = Callable[..., Operations | Awaitable[Operations]]
R = TypeVar("R", bound=Rule)

_PLACEHOLDER = re.compile(r"\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<rest>\*)?\}")


class ChannelPattern:
    """`chat:{room}`: a resource with placeholders for whole segments.

    `{name}` is exactly one segment that is not empty, `{name*}` at the end is one or more. Raises ValueError
    for any other use of braces.
    """

    def __init__(self, text: str) -> None:
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
                raise ValueError(f"{text!r}: {segment} stands for all the rest, so it must be last")
            if match["name"] in self.names:
                raise ValueError(f"{text!r}: {match['name']!r} stands there twice")
            self.names.append(match["name"])
            parts.append(f"(?P<{match['name']}>{'.+' if match['rest'] else '[^:]+'})")
        self._match = re.compile(":".join(parts), re.DOTALL).fullmatch

    def match(self, channel: str) -> dict[str, str] | None:
        """The placeholders' values in `channel`; None where it does not match."""
        match = self._match(channel)
        return match.groupdict() if match else None

    def fill(self, values: Mapping[str, str]) -> str:
        """The resource this pattern names for `values`; raises KeyError for a placeholder without one."""
        return _PLACEHOLDER.sub(lambda match: values[match["name"]], self.text)


class _Registered(NamedTuple):
    pattern: ChannelPattern
    rule: Callable[..., Awaitable[Operations]]


class ChannelRules:
    """An `authorize` made of one rule for each kind of channel; the first that matches decides.

    A rule gets the AuthRequest and the values of its placeholders, and returns the operations this client may
    have there: one, several, or none. Where no rule matches, all is denied.
    """

    def __init__(self) -> None:
        self._rules: list[_Registered] = []

    def channel(self, pattern: str) -> Callable[[R], R]:
        """Register the decorated function for channels like `chat:{room}`.

        Raises ValueError for a malformed pattern or one registered before, and TypeError when the function
        does not take the placeholders as arguments.
        """
        parsed = ChannelPattern(pattern)
        if any(known.pattern.text == pattern for known in self._rules):
            raise ValueError(f"{pattern!r} has a rule already, and only the first would be asked")

        def register(rule: R) -> R:
            arguments: dict[str, Any] = dict.fromkeys(parsed.names, "")
            try:
                inspect.signature(rule).bind(None, **arguments)
            except TypeError as error:
                wanted = ", ".join(["auth", *parsed.names])
                raise TypeError(f"the rule for {pattern!r} must take ({wanted}): {error}") from None
            self._rules.append(_Registered(parsed, asynchronous(rule)))
            return rule

        return register

    async def __call__(self, auth: AuthRequest, requested: Capability) -> Capability:
        """The part of `asked` that the rules allow."""
        allowed = {resource: await self._allowed(auth, resource) for resource in requested}
        return Capability(allowed) & requested

    async def _allowed(self, auth: AuthRequest, resource: str) -> Operations:
        for pattern, rule in self._rules:
            values = pattern.match(resource)
            if values is not None:
                operations = await rule(auth, **values)
                if operations is None or isinstance(operations, bool):
                    raise TypeError(
                        f"the rule for {pattern.text!r} returned {operations!r}; return the operations"
                        f" allowed there: a list, [{ALL!r}] for all of them, [] for none"
                    )
                return operations
        return ()
