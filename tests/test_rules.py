"""ChannelRules: which rule decides about a channel, and which requested operations it allows."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_ably import AuthRequest, Capability, ChannelRules
from aiohttp_ably.rules import ChannelPattern

ALICE = AuthRequest(client_id="alice")

MATCHES = [
    ("a plain name", "lobby", "lobby", {}),
    ("another name", "lobby", "lobby2", None),
    ("one segment", "chat:{room}", "chat:1", {"room": "1"}),
    ("not two segments", "chat:{room}", "chat:1:2", None),
    ("not an empty segment", "chat:{room}", "chat:", None),
    ("not without the segment", "chat:{room}", "chat", None),
    ("two placeholders", "{org}:chat:{room}", "acme:chat:1", {"org": "acme", "room": "1"}),
    ("the rest is one segment", "docs:{path*}", "docs:a", {"path": "a"}),
    ("the rest is several segments", "docs:{path*}", "docs:a:b:c", {"path": "a:b:c"}),
    ("the rest is at least one segment", "docs:{path*}", "docs:", None),
    ("the rest may have empty segments", "docs:{path*}", "docs::a:", {"path": ":a:"}),
    ("line breaks in a segment", "chat:{room}", "chat:a\nb", {"room": "a\nb"}),
    ("line breaks in the rest", "docs:{path*}", "docs:a\n:b", {"path": "a\n:b"}),
    ("a name with _ and digits", "chat:{room_2}", "chat:1", {"room_2": "1"}),
    ("an empty segment of the pattern", "a::{b}", "a::c", {"b": "c"}),
    ("a placeholder alone", "{name}", "lobby", {"name": "lobby"}),
    ("a dot is a dot", "a.c", "abc", None),
    ("any characters in a segment", "chat:{room}", "chat:räume {*}", {"room": "räume {*}"}),
]
MALFORMED = [
    "chat-{room}",
    "chat:{room",
    "chat:room}",
    "chat:{}",
    "chat:{1}",
    "{path*}:chat",
    "{a}:{a}",
    "{a b}",
]


@pytest.mark.parametrize(
    ("pattern", "channel", "values"), [row[1:] for row in MATCHES], ids=[row[0] for row in MATCHES]
)
def test_pattern_matches_whole_segments(pattern: str, channel: str, values: dict[str, str] | None) -> None:
    assert ChannelPattern(pattern).match(channel) == values


@pytest.mark.parametrize("pattern", MALFORMED)
def test_malformed_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(pattern))):
        ChannelRules().channel(pattern)


@given(
    st.lists(
        st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"]), min_size=1), min_size=1
    )
)
def test_filled_pattern_matches_with_the_same_values(values: list[str]) -> None:
    names = [f"name{number}" for number in range(len(values))]
    pattern = ChannelPattern(":".join(["chat", *(f"{{{name}}}" for name in names)]))
    filled = dict(zip(names, values, strict=True))
    assert pattern.match(pattern.fill(filled)) == filled


async def test_first_rule_that_matches_decides() -> None:
    rules = ChannelRules()
    rules.channel("chat:staff")(lambda auth: [])
    rules.channel("chat:{room}")(lambda auth, room: ["subscribe"])
    requested = Capability({"chat:staff": "subscribe", "chat:1": "subscribe"})
    assert await rules(ALICE, requested) == Capability({"chat:1": "subscribe"})


ANSWERS = [
    ("a list", ["publish", "subscribe"], ["publish"], ["publish"]),
    ("one operation", "publish", ["publish", "history"], ["publish"]),
    ("star is returned", ["*"], ["publish", "history"], ["publish", "history"]),
    ("star is requested", ["publish", "subscribe"], ["*"], ["publish", "subscribe"]),
    ("an empty list", [], ["*"], []),
]


@pytest.mark.parametrize(
    ("answer", "requested", "allowed"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS]
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_allowed_is_what_is_requested_and_returned_by_the_rule(
    is_async: bool, answer: Any, requested: list[str], allowed: list[str]
) -> None:
    rules = ChannelRules()

    async def later(auth: AuthRequest, room: str) -> Any:
        return answer

    rules.channel("chat:{room}")(later if is_async else lambda auth, room: answer)
    assert await rules(ALICE, Capability({"chat:1": requested})) == Capability({"chat:1": allowed})


async def test_channel_without_a_rule_is_denied() -> None:
    assert await ChannelRules()(ALICE, Capability({"lobby": "subscribe"})) == Capability()


async def test_rule_gets_the_request_and_its_placeholders() -> None:
    seen: list[tuple[str | None, str, str]] = []
    rules = ChannelRules()

    @rules.channel("{org}:{path*}")
    def rule(auth: AuthRequest, org: str, path: str) -> list[str]:
        seen.append((auth.client_id, org, path))
        return []

    await rules(ALICE, Capability({"acme:a:b": "publish"}))
    assert seen == [("alice", "acme", "a:b")]


@pytest.mark.parametrize("answer", [None, True, False])
async def test_rule_that_returns_no_operations_is_an_error(answer: Any) -> None:
    rules = ChannelRules()
    rules.channel("lobby")(lambda auth: answer)
    with pytest.raises(TypeError, match="return a list of the allowed operations"):
        await rules(ALICE, Capability({"lobby": "subscribe"}))


def test_rule_without_its_placeholders_as_arguments_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must take \(auth, room\)"):
        ChannelRules().channel("chat:{room}")(lambda auth: [])


@pytest.mark.parametrize("wrong", [5, None, ["chat:{room}"], b"chat"])
def test_pattern_that_is_not_a_string_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"a channel pattern is a string such as 'chat:\{room\}', got "):
        ChannelRules().channel(wrong)


def test_decorator_without_a_pattern_names_the_cure() -> None:
    rules = ChannelRules()
    with pytest.raises(TypeError, match=r'write @rules\.channel\("chat:\{room\}"\)'):

        @rules.channel  # type: ignore[arg-type]
        async def chat(auth: AuthRequest, room: str) -> list[str]:
            raise AssertionError


def test_decorator_returns_the_rule_itself() -> None:
    def rule(auth: AuthRequest, room: str) -> list[str]:
        raise AssertionError

    assert ChannelRules().channel("chat:{room}")(rule) is rule


SHADOWS = [
    ("lobby", "lobby", True),
    ("lobby", "lobby2", False),
    ("chat:{room}", "chat:{id}", True),
    ("chat:{room}", "chat:staff", True),
    ("chat:staff", "chat:{room}", False),
    ("chat:{room}", "chat:{room}:{thread}", False),
    ("chat:{room}:{thread}", "chat:{room}", False),
    ("chat:{room}", "chat:{path*}", False),
    ("chat:{path*}", "chat:{room}", True),
    ("chat:{path*}", "chat:{other*}", True),
    ("chat:{path*}", "chat:a:{b}:{rest*}", True),
    ("chat:a:{path*}", "chat:{rest*}", False),
    ("chat:{path*}", "chat", False),
    ("chat:{path*}", "chat:", False),
    ("{path*}", "chat:{room}", True),
    ("{path*}", "chat:", True),
    ("{path*}", "", False),
    ("{org}:chat", "{team}:{room}", False),
    ("{team}:{room}", "{org}:chat", True),
    ("{a}:{b}", "x:{rest*}", False),
    ("chat:{room}", "chat:", False),
    ("chat:", "chat:", True),
    ("{a}:x", ":x", False),
    ("chat:{a}:x", "chat::x", False),
    ("chat:{a*}", "chat::x", True),
    ("chat::{a}", "chat::x", True),
    ("", "", True),
]


@pytest.mark.parametrize(("first", "second", "expected"), SHADOWS)
def test_pattern_shadows_another_when_it_matches_all_of_its_channels(
    first: str, second: str, expected: bool
) -> None:
    assert ChannelPattern(first).shadows(ChannelPattern(second)) is expected


SEGMENT = st.sampled_from(["a", "b", "", "{%}"])


def pattern_of(segments: list[str], has_rest: bool) -> ChannelPattern:
    named = [segment.replace("%", f"name{number}") for number, segment in enumerate(segments)]
    return ChannelPattern(":".join([*named, "{rest*}"] if has_rest else named))


patterns = st.builds(pattern_of, st.lists(SEGMENT, min_size=1, max_size=3), st.booleans())


@given(patterns, patterns, st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=6))
def test_shadowing_pattern_matches_every_channel_of_the_other(
    first: ChannelPattern, second: ChannelPattern, segments: list[str]
) -> None:
    channel = ":".join(segments)
    if first.shadows(second) and second.match(channel) is not None:
        assert first.match(channel) is not None


@given(patterns, patterns)
def test_pattern_that_does_not_shadow_leaves_the_other_a_channel(
    first: ChannelPattern, second: ChannelPattern
) -> None:
    channels = (":".join(one) for size in range(1, 6) for one in product(("a", "b", "c", ""), repeat=size))
    if not first.shadows(second):
        assert any(first.match(channel) is None and second.match(channel) is not None for channel in channels)


@pytest.mark.parametrize(("first", "second", "is_refused"), SHADOWS)
def test_rule_that_an_earlier_one_shadows_is_refused(first: str, second: str, is_refused: bool) -> None:
    rules = ChannelRules()
    rules.channel(first)(lambda auth, **values: [])
    if is_refused:
        message = f"the rule for {second!r} would never be used: the rule for {first!r} comes first"
        with pytest.raises(ValueError, match=re.escape(message)):
            rules.channel(second)
    else:
        rules.channel(second)
