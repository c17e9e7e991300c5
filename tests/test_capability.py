"""Capability: Ably's rules of matching, containment, union, difference and intersection."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_ably import Capability, InvalidCapability, ServerDetermined, requires
from aiohttp_ably.capability import NOTHING
from aiohttp_ably.errors import UnknownOperationWarning

segments = st.sampled_from(["a", "b", "foo*", "é", "*", ""])
names = st.lists(segments, min_size=1, max_size=4).map(":".join)
qualifiers = st.sampled_from(["", "", "", "[meta]", "[queue]", "[*]", "[?rewind=1]"])
resources = st.builds(str.__add__, qualifiers, names)
channels = st.builds(
    str.__add__,
    st.sampled_from(["", "", "[meta]"]),
    st.lists(st.sampled_from(["a", "b", "foo*", "é", "c"]), min_size=1, max_size=4).map(":".join),
)
some_operations = st.one_of(
    st.just(["*"]), st.lists(st.sampled_from(["publish", "subscribe", "presence"]), min_size=1, max_size=3)
)
capabilities = st.dictionaries(resources, some_operations, max_size=5).map(Capability)
operations = st.sampled_from(["publish", "subscribe", "presence", "history"])

MATCHES = [
    ("exact", "foo", "foo", True),
    ("another name", "foo", "bar", False),
    ("longer name", "foo", "foo:bar", False),
    ("a last star is one segment", "foo:*", "foo:bar", True),
    ("a last star is several segments", "foo:*", "foo:bar:baz", True),
    ("a last star is not none", "foo:*", "foo", False),
    ("a star alone is any channel", "*", "foo:bar", True),
    ("an interior star is one segment", "foo:*:baz", "foo:bar:baz", True),
    ("an interior star is not two", "foo:*:baz", "foo:bar:bar:baz", False),
    ("a star in a segment is a star", "foo*", "foobar", False),
    ("a star in a segment matches itself", "foo*", "foo*", True),
    ("a star is no metachannel", "*", "[meta]log", False),
    ("a star is no queue", "*", "[queue]appid-name", False),
    ("a star of metachannels", "[meta]*", "[meta]log", True),
    ("a star of metachannels is no channel", "[meta]*", "log", False),
    ("everything is a channel", "[*]*", "foo", True),
    ("everything is a metachannel", "[*]*", "[meta]log", True),
    ("params are not part of the name asked for", "foo", "[?rewind=1]foo", True),
    ("params are not part of the name held", "[?rewind=1]foo", "foo", True),
    ("params of a metachannel", "[meta]log", "[meta?rewind=1]log", True),
]

MEETS = [
    ("star in the ask", {"c2": ["publish", "subscribe"]}, {"c2": ["*"]}, {"c2": ["publish", "subscribe"]}),
    ("star in the key", {"c6": ["*"]}, {"c6": ["publish", "subscribe"]}, {"c6": ["publish", "subscribe"]}),
    ("all channels", {"*": ["subscribe"]}, {"can:*": ["subscribe"]}, {"can:*": ["subscribe"]}),
    ("a namespace", {"can:*": ["publish"]}, {"can:check": ["publish"]}, {"can:check": ["publish"]}),
    (
        "a part of the operations",
        {"c2": ["publish", "subscribe"]},
        {"c2": ["presence", "subscribe"], "cx": ["presence", "subscribe"]},
        {"c2": ["subscribe"]},
    ),
    (
        "everything asked",
        {"room:*": ["*"], "lobby": ["subscribe"]},
        {"*": ["*"]},
        {"room:*": ["*"], "lobby": ["subscribe"]},
    ),
    (
        "everything asked, metachannels too",
        {"room:*": ["*"], "lobby": ["subscribe"]},
        {"[*]*": ["subscribe"]},
        {"room:*": ["subscribe"], "lobby": ["subscribe"]},
    ),
    ("only metachannels", {"room:*": ["*"], "lobby": ["subscribe"]}, {"[meta]*": ["subscribe"]}, {}),
    ("the namespace without a name", {"room:*": ["*"]}, {"room": ["publish"]}, {}),
    ("the key may everything", {"[*]*": ["*"]}, {"foo": ["publish"]}, {"foo": ["publish"]}),
    ("stars that cross", {"a:*": ["*"]}, {"*:b": ["publish"]}, {"a:b": ["publish"]}),
    ("a star against more segments", {"a:*": ["*"]}, {"*:b:*": ["publish"]}, {"a:b:*": ["publish"]}),
]

UNREADABLE = [
    ("not JSON", "nonsense", "not JSON"),
    ("a list", "[]", "object"),
    ("a text", '"chat"', "object"),
    ("a duplicate resource", '{"a":["publish"],"a":["subscribe"]}', "duplicate key 'a'"),
    ("no operations", '{"a":[]}', "list of operations"),
    ("null", '{"a":null}', "list of operations"),
    ("a number", '{"a":[1]}', "not a string"),
    ("an operation misspelt", '{"a":["publsh"]}', "did you mean 'publish'"),
    ("star and another", '{"a":["*","publish"]}', "alone"),
    ("a lone surrogate", '{"\\ud800":["publish"]}', "surrogates"),
    ("not a number", '{"a":NaN}', "NaN"),
    ("nested without end", "[" * 100_000, "deeply"),
    ("bytes that are not UTF-8", b"\xff", "utf-8"),
    ("too many", json.dumps({str(n): ["publish"] for n in range(1001)}), "at most 1000"),
]


@pytest.mark.parametrize(
    ("held", "channel", "expected"), [row[1:] for row in MATCHES], ids=[r[0] for r in MATCHES]
)
def test_a_resource_matches_as_at_ably(held: str, channel: str, expected: bool) -> None:
    capability = Capability({held: "publish"})
    assert capability.allows("publish", channel) is expected
    assert not capability.allows("subscribe", channel)


@pytest.mark.parametrize(
    ("key", "requested", "expected"), [row[1:] for row in MEETS], ids=[row[0] for row in MEETS]
)
def test_an_intersection_is_the_one_of_ably(key: dict, requested: dict, expected: dict) -> None:
    assert Capability(requested) & Capability(key) == Capability(expected)
    assert Capability(key) & Capability(requested) == Capability(expected)


@pytest.mark.parametrize(
    ("text", "says"), [row[1:] for row in UNREADABLE], ids=[row[0] for row in UNREADABLE]
)
def test_what_is_no_capability_is_refused_with_what_would_be_right(text: str | bytes, says: str) -> None:
    with pytest.raises(InvalidCapability, match=says):
        Capability.parse(text)


def test_a_single_operation_may_stand_without_its_list() -> None:
    assert Capability.parse('{"a":"*"}') == Capability({"a": ["*"]})


def test_the_text_is_sorted_compact_and_keeps_what_is_not_ascii() -> None:
    capability = Capability({"é:1": ["subscribe", "publish"], "a": ("*", "publish")})
    assert capability.text == str(capability) == '{"a":["*"],"é:1":["publish","subscribe"]}'
    assert repr(capability) == f"Capability({capability.text})"


@pytest.mark.parametrize(
    "state",
    [
        Capability,
        lambda wrong: ServerDetermined(lambda auth: {}, base=wrong),
        lambda wrong: requires("a", *wrong["a"]),
    ],
    ids=["a capability", "a base", "a guard"],
)
def test_an_unknown_operation_in_code_warns_with_the_nearest_and_where_it_stands(state: Any) -> None:
    message = "'subscrbe' on 'a'; did you mean 'subscribe'"
    with pytest.warns(UnknownOperationWarning, match=message) as caught:
        state({"a": ["subscrbe"]})
    assert [one.filename for one in caught] == [__file__]


@pytest.mark.parametrize("wrong", [{"a": [1]}, {1: ["publish"]}, {"\ud800": ["publish"]}, ["a"]])
def test_what_is_not_text_is_refused_in_code(wrong: object) -> None:
    with pytest.raises(TypeError):
        Capability(wrong)  # type: ignore[arg-type]


def test_an_empty_list_of_operations_allows_nothing() -> None:
    assert not Capability({"a": []})


def test_it_is_a_value() -> None:
    one, other = Capability({"a": "publish", "b": "*"}), Capability({"b": ["*"], "a": ["publish"]})
    assert one == other
    assert hash(one) == hash(other)
    assert one != Capability()
    assert one != {"a": ["publish"]}
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(TypeError):
        one["a"] = frozenset()  # type: ignore[index]


@given(capabilities, capabilities)
def test_there_is_one_empty_capability(one: Capability, other: Capability) -> None:
    copies = (pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one))
    assert all(each == one for each in copies)
    parsed = Capability.parse(one.text)
    for result in (
        one | other,
        one - other,
        one & other,
        one.plain(),
        one.missing_from(other),
        parsed,
        *copies,
    ):
        assert (result is NOTHING) == (len(result) == 0)
    assert NOTHING.text == "{}"


@given(capabilities, st.lists(capabilities, max_size=3))
def test_what_is_joined_to_a_base_is_their_union(held: Capability, bases: list[Capability]) -> None:
    for base in [*bases, *bases]:
        assert held.with_base(base) == base | held
        assert held.with_base(base).text == (base | held).text


def test_what_contains_a_dropped_resource_cannot_be_dropped_in_part() -> None:
    held = Capability({"room:*": "*", "room:1": "publish", "lobby": "subscribe"})
    with pytest.raises(InvalidCapability, match=r"'room:1' cannot be released from 'room:\*'"):
        held.without("room:1")
    assert held.without("room:*") == Capability({"lobby": "subscribe"})
    assert held.without("elsewhere") == held
    assert held.without("*") == Capability()


def test_an_ask_is_unmet_in_what_is_lacking() -> None:
    held = Capability({"a": "publish", "b:*": "*"})
    assert not Capability({"a": "publish", "b:1": ["publish", "history"], "b:2": "*"}).missing_from(held)
    assert not Capability({"a": "*"}).missing_from(held), "star asks for all one may have"
    requested = Capability({"a": ["publish", "subscribe"], "c": "*", "b": "publish"})
    assert requested.missing_from(held) == Capability({"a": "subscribe", "c": "*", "b": "publish"})


def test_only_single_channels_are_plain() -> None:
    unusual = ["chat:*", "*", "*:a", "[meta]log", "[?rewind=1]a", ":a", "", "a\nb", "a\x7f", "a\x85"]
    plain = ["a", "chat:1", "foo*", "é:b", "a::b"]
    assert list(Capability(dict.fromkeys(unusual + plain, "publish")).plain()) == plain


def test_patterns_are_found_by_segment_however_many_there_are() -> None:
    many = Capability({f"ns{n}:*:log": "publish" for n in range(1000)})
    assert many.allows("publish", "ns999:x:log")
    assert not many.allows("publish", "ns999:x:other")


@given(capabilities)
def test_parse_reads_the_text_back(capability: Capability) -> None:
    assert Capability.parse(capability.text) == capability
    assert Capability.parse(capability.text).text == capability.text
    assert Capability.from_dict(json.loads(capability.text)) == capability


@given(capabilities, capabilities, operations, channels)
def test_covers_agrees_with_allows(one: Capability, other: Capability, operation: str, channel: str) -> None:
    if one.covers(other) and other.allows(operation, channel):
        assert one.allows(operation, channel)


@given(capabilities, capabilities)
def test_an_intersection_is_covered_by_both(one: Capability, other: Capability) -> None:
    both = one & other
    assert one.covers(both)
    assert other.covers(both)
    assert both == other & one


@given(capabilities, capabilities, operations, channels)
def test_an_intersection_allows_what_both_allow(
    one: Capability, other: Capability, operation: str, channel: str
) -> None:
    assert (one & other).allows(operation, channel) == (
        one.allows(operation, channel) and other.allows(operation, channel)
    )


@given(capabilities, capabilities, operations, channels)
def test_a_union_allows_what_either_allows(
    one: Capability, other: Capability, operation: str, channel: str
) -> None:
    union = one | other
    assert union.covers(one)
    assert union.covers(other)
    assert union.allows(operation, channel) == (
        one.allows(operation, channel) or other.allows(operation, channel)
    )


@given(capabilities, capabilities)
def test_a_difference_is_never_more_and_makes_up_the_whole(one: Capability, other: Capability) -> None:
    left = one - other
    assert one.covers(left)
    assert (other | left).covers(one)
    assert bool(left) != other.covers(one)
