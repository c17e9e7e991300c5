"""ChannelRules: which rule decides about a channel, and what of an ask it allows."""

from __future__ import annotations

import re
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
    ("the rest is not nothing", "docs:{path*}", "docs:", None),
    ("a placeholder alone", "{name}", "lobby", {"name": "lobby"}),
    ("no regular expression", "a.c", "abc", None),
    ("any text in a segment", "chat:{room}", "chat:räume {*}", {"room": "räume {*}"}),
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
def test_a_pattern_matches_by_whole_segments(
    pattern: str, channel: str, values: dict[str, str] | None
) -> None:
    assert ChannelPattern(pattern).match(channel) == values


@pytest.mark.parametrize("pattern", MALFORMED)
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(pattern))):
        ChannelRules().channel(pattern)


@given(
    st.lists(
        st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"]), min_size=1), min_size=1
    )
)
def test_what_fills_a_pattern_is_found_in_it_again(values: list[str]) -> None:
    names = [f"name{number}" for number in range(len(values))]
    pattern = ChannelPattern(":".join(["chat", *(f"{{{name}}}" for name in names)]))
    filled = dict(zip(names, values, strict=True))
    assert pattern.match(pattern.fill(filled)) == filled


async def test_the_first_rule_that_matches_decides() -> None:
    rules = ChannelRules()
    rules.channel("chat:staff")(lambda auth: [])
    rules.channel("chat:{room}")(lambda auth, room: ["subscribe"])
    requested = Capability({"chat:staff": "subscribe", "chat:1": "subscribe"})
    assert await rules(ALICE, requested) == Capability({"chat:1": "subscribe"})


ANSWERS = [
    ("a list", ["publish", "subscribe"], ["publish"], ["publish"]),
    ("one operation", "publish", ["publish", "history"], ["publish"]),
    ("everything", ["*"], ["publish", "history"], ["publish", "history"]),
    ("an ask for all one may have", ["publish", "subscribe"], ["*"], ["publish", "subscribe"]),
    ("nothing", [], ["*"], []),
]


@pytest.mark.parametrize(
    ("answer", "requested", "allowed"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS]
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_of_an_ask_that_is_allowed_which_the_rule_returns(
    is_async: bool, answer: Any, requested: list[str], allowed: list[str]
) -> None:
    rules = ChannelRules()

    async def later(auth: AuthRequest, room: str) -> Any:
        return answer

    rules.channel("chat:{room}")(later if is_async else lambda auth, room: answer)
    assert await rules(ALICE, Capability({"chat:1": requested})) == Capability({"chat:1": allowed})


async def test_where_no_rule_matches_all_is_denied() -> None:
    assert await ChannelRules()(ALICE, Capability({"lobby": "subscribe"})) == Capability()


async def test_a_rule_gets_the_client_and_its_placeholders() -> None:
    seen: list[tuple[str | None, str, str]] = []
    rules = ChannelRules()

    @rules.channel("{org}:{path*}")
    def rule(auth: AuthRequest, org: str, path: str) -> list[str]:
        seen.append((auth.client_id, org, path))
        return []

    await rules(ALICE, Capability({"acme:a:b": "publish"}))
    assert seen == [("alice", "acme", "a:b")]


@pytest.mark.parametrize("answer", [None, True, False])
async def test_an_answer_that_names_no_operations_is_an_error(answer: Any) -> None:
    rules = ChannelRules()
    rules.channel("lobby")(lambda auth: answer)
    with pytest.raises(TypeError, match="return a list of the allowed operations"):
        await rules(ALICE, Capability({"lobby": "subscribe"}))


def test_a_rule_takes_what_its_pattern_gives() -> None:
    with pytest.raises(TypeError, match=r"must take \(auth, room\)"):
        ChannelRules().channel("chat:{room}")(lambda auth: [])


def test_a_second_rule_for_a_pattern_is_refused() -> None:
    rules = ChannelRules()
    rules.channel("lobby")(lambda auth: [])
    with pytest.raises(ValueError, match="would never be used"):
        rules.channel("lobby")
