"""Capability: Ably's rules of matching, containment, union, difference and intersection."""

from __future__ import annotations

import copy
import json
import operator
import pickle
from types import MappingProxyType
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_ably import Capability, InvalidCapability, ServerDetermined, requires
from aiohttp_ably.capability import NOTHING, OPERATIONS, is_plain, without_params
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
    ("a last star is at least one segment", "foo:*", "foo", False),
    ("a star alone is any channel", "*", "foo:bar", True),
    ("an interior star is one segment", "foo:*:baz", "foo:bar:baz", True),
    ("an interior star is not two", "foo:*:baz", "foo:bar:bar:baz", False),
    ("a star in a segment is a star", "foo*", "foobar", False),
    ("a star in a segment matches itself", "foo*", "foo*", True),
    ("a star does not match metachannels", "*", "[meta]log", False),
    ("a star does not match queues", "*", "[queue]appid-name", False),
    ("a star of the metachannels matches one", "[meta]*", "[meta]log", True),
    ("a star of the metachannels does not match channels", "[meta]*", "log", False),
    ("everything includes channels", "[*]*", "foo", True),
    ("everything includes metachannels", "[*]*", "[meta]log", True),
    ("params of the requested channel do not count", "foo", "[?rewind=1]foo", True),
    ("params of the granted channel do not count", "[?rewind=1]foo", "foo", True),
    ("params of a metachannel", "[meta]log", "[meta?rewind=1]log", True),
]

INTERSECTIONS = [
    (
        "star in the requested capability",
        {"c2": ["publish", "subscribe"]},
        {"c2": ["*"]},
        {"c2": ["publish", "subscribe"]},
    ),
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
        "everything requested",
        {"room:*": ["*"], "lobby": ["subscribe"]},
        {"*": ["*"]},
        {"room:*": ["*"], "lobby": ["subscribe"]},
    ),
    (
        "everything requested, with metachannels",
        {"room:*": ["*"], "lobby": ["subscribe"]},
        {"[*]*": ["subscribe"]},
        {"room:*": ["subscribe"], "lobby": ["subscribe"]},
    ),
    ("only metachannels", {"room:*": ["*"], "lobby": ["subscribe"]}, {"[meta]*": ["subscribe"]}, {}),
    ("the namespace without a name", {"room:*": ["*"]}, {"room": ["publish"]}, {}),
    ("the key has all rights", {"[*]*": ["*"]}, {"foo": ["publish"]}, {"foo": ["publish"]}),
    ("stars that cross", {"a:*": ["*"]}, {"*:b": ["publish"]}, {"a:b": ["publish"]}),
    ("a star against more segments", {"a:*": ["*"]}, {"*:b:*": ["publish"]}, {"a:b:*": ["publish"]}),
]

MALFORMED = [
    ("not JSON", "nonsense", "not JSON"),
    ("a list", "[]", "object"),
    ("a string", '"chat"', "object"),
    ("a duplicate resource", '{"a":["publish"],"a":["subscribe"]}', "duplicate key 'a'"),
    ("no operations", '{"a":[]}', "list of operations"),
    ("null", '{"a":null}', "list of operations"),
    ("a number", '{"a":[1]}', "not a string"),
    ("a misspelt operation", '{"a":["publsh"]}', "did you mean 'publish'"),
    ("star and another", '{"a":["*","publish"]}', "alone"),
    ("a lone surrogate", '{"\\ud800":["publish"]}', "surrogates"),
    ("a lone surrogate in capitals", '{"\\uD800":["publish"]}', "surrogates"),
    ("the second of two resources twice", '{"a":["*"],"b":["*"],"b":["*"]}', "duplicate key 'b'"),
    ("not a number", '{"a":NaN}', "NaN"),
    ("nested too deeply", "[" * 100_000, "deeply"),
    ("bytes that are not UTF-8", b"\xff", "utf-8"),
    ("too many resources", json.dumps({str(n): ["publish"] for n in range(1001)}), "at most 1000"),
]


@pytest.mark.parametrize(
    ("granted", "channel", "expected"), [row[1:] for row in MATCHES], ids=[row[0] for row in MATCHES]
)
def test_resource_matches_as_at_ably(granted: str, channel: str, expected: bool) -> None:
    capability = Capability({granted: "publish"})
    assert capability.allows("publish", channel) is expected
    assert not capability.allows("subscribe", channel)


@pytest.mark.parametrize(
    ("key", "requested", "expected"),
    [row[1:] for row in INTERSECTIONS],
    ids=[row[0] for row in INTERSECTIONS],
)
def test_intersection_is_the_one_that_ably_computes(key: dict, requested: dict, expected: dict) -> None:
    assert Capability(requested) & Capability(key) == Capability(expected)
    assert Capability(key) & Capability(requested) == Capability(expected)


@pytest.mark.parametrize(
    ("text", "message"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED]
)
def test_malformed_capability_is_refused_with_the_reason(text: str | bytes, message: str) -> None:
    with pytest.raises(InvalidCapability, match=message):
        Capability.parse(text)


def test_single_operation_needs_no_list() -> None:
    assert Capability.parse('{"a":"*"}') == Capability({"a": ["*"]})


def test_text_is_sorted_compact_and_keeps_non_ascii_characters() -> None:
    capability = Capability({"é:1": ["subscribe", "publish"], "a": ("*", "publish")})
    assert capability.text == str(capability) == '{"a":["*"],"é:1":["publish","subscribe"]}'
    assert repr(capability) == f"Capability({capability.text})"


@pytest.mark.parametrize(
    "use",
    [
        Capability,
        lambda wrong: ServerDetermined(lambda auth: {}, base=wrong),
        lambda wrong: requires("a", *wrong["a"]),
    ],
    ids=["a capability", "a base", "a guard"],
)
def test_unknown_operation_in_code_warns_with_the_nearest_known_one_and_its_line(use: Any) -> None:
    message = "'subscrbe' on 'a'; did you mean 'subscribe'"
    with pytest.warns(UnknownOperationWarning, match=message) as caught:
        use({"a": ["subscrbe"]})
    assert [one.filename for one in caught] == [__file__]


@pytest.mark.filterwarnings("ignore::aiohttp_ably.errors.UnknownOperationWarning")
def test_unknown_operation_in_code_is_kept() -> None:
    assert Capability({"a": ["publish", "new-at-ably"]}).to_dict() == {"a": ["new-at-ably", "publish"]}
    assert Capability({"a": ["new-at-ably", "*"]}).to_dict() == {"a": ["*"]}


def test_unknown_operation_without_a_near_one_lists_the_known_ones() -> None:
    with pytest.raises(
        InvalidCapability, match=r"unknown operation 'zzzz'; known are \*, annotation-publish, .*subscribe"
    ):
        Capability.parse({"a": ["zzzz"]})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"a": [1]}, r"operations are strings, got \[1\] on 'a'"),
        ({"a": ["publish", None]}, r"operations are strings, got \['publish', None\] on 'a'"),
        ({"a": [["publish"]]}, r"operations are strings, got \[\['publish'\]\] on 'a'"),
        ({"a": True}, r"the operations on 'a' are a list such as .* got True"),
        ({"a": None}, r"the operations on 'a' are a list such as .* got None"),
        ({1: ["publish"]}, "a resource is a string that UTF-8 can encode, got 1"),
        ({"\ud800": ["publish"]}, "a resource is a string that UTF-8 can encode"),
        (["a"], r"a capability is a mapping of resource to operations, such as .* got \['a'\]"),
        ("a", "a capability is a mapping of resource to operations, such as .* got 'a'"),
    ],
)
def test_resources_and_operations_in_code_are_strings(wrong: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Capability(wrong)  # type: ignore[arg-type]


def test_resource_without_operations_is_left_out() -> None:
    for empty in ([], (), set(), iter(())):
        assert list(Capability({"a": empty, "b": "publish"})) == ["b"]


def test_capability_is_immutable_and_hashable() -> None:
    one, other = Capability({"a": "publish", "b": "*"}), Capability({"b": ["*"], "a": ["publish"]})
    assert one == other
    assert hash(one) == hash(other)
    assert one != Capability()
    assert one != {"a": ["publish"]}
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(TypeError, match="does not support item assignment"):
        one["a"] = frozenset()  # type: ignore[index]


@given(capabilities, capabilities)
def test_there_is_one_empty_capability_object(one: Capability, other: Capability) -> None:
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


def test_difference_leaves_out_only_what_the_other_allows() -> None:
    one = Capability({"a": "publish", "b": ["publish", "subscribe"], "c": "*", "d": "history"})
    other = Capability({"a": ["publish", "history"], "b": "publish", "c": "publish"})
    assert one - other == Capability({"b": "subscribe", "c": "*", "d": "history"})
    assert one - one == NOTHING


@pytest.mark.parametrize(("name", "channel"), [("a", "a"), ("a:*", "a:b")])
def test_resources_that_differ_only_in_params_allow_together(name: str, channel: str) -> None:
    granted = Capability({f"[?rewind={n}]{name}": one for n, one in enumerate(("publish", "subscribe"))})
    assert (granted | Capability({"b:*": "history"})).operations(channel) == {"publish", "subscribe"}


def test_unknown_operation_without_a_list_is_kept() -> None:
    with pytest.warns(UnknownOperationWarning, match="unknown operation 'publsh' on 'a'"):
        assert Capability({"a": "publsh"}).to_dict() == {"a": ["publsh"]}


def test_resource_that_utf8_cannot_encode_is_refused() -> None:
    with pytest.raises(InvalidCapability, match="must be a list of operations"):
        Capability.parse({"\ud800": ["publish"]})


@given(capabilities, st.lists(capabilities, max_size=3))
def test_with_base_is_the_union_with_the_base(granted: Capability, bases: list[Capability]) -> None:
    for base in [*bases, *bases]:
        assert granted.with_base(base) == base | granted
        assert granted.with_base(base).text == (base | granted).text


def test_pattern_cannot_be_released_in_part() -> None:
    granted = Capability({"room:*": "*", "room:1": "publish", "lobby": "subscribe"})
    with pytest.raises(InvalidCapability, match=r"'room:1' cannot be released from 'room:\*'"):
        granted.without("room:1")
    assert granted.without("room:*") == Capability({"lobby": "subscribe"})
    assert granted.without("elsewhere") == granted
    assert granted.without("*") == Capability()


def test_missing_from_is_the_part_that_is_not_granted() -> None:
    granted = Capability({"a": "publish", "b:*": "*"})
    assert not Capability({"a": "publish", "b:1": ["publish", "history"], "b:2": "*"}).missing_from(granted)
    assert not Capability({"a": "*"}).missing_from(granted), (
        "a requested star means all that the client may have"
    )
    requested = Capability({"a": ["publish", "subscribe"], "c": "*", "b": "publish"})
    assert requested.missing_from(granted) == Capability({"a": "subscribe", "c": "*", "b": "publish"})


def test_only_single_channels_are_plain() -> None:
    unusual = ["chat:*", "*", "*:a", "[meta]log", "[?rewind=1]a", ":a", "", "a\nb", "a\x7f", "a\x85"]
    plain = ["a", "chat:1", "foo*", "é:b", "a::b"]
    assert list(Capability(dict.fromkeys(unusual + plain, "publish")).plain()) == plain


def test_one_of_a_thousand_patterns_is_found() -> None:
    many = Capability({f"ns{n}:*:log": "publish" for n in range(1000)})
    assert many.allows("publish", "ns999:x:log")
    assert not many.allows("publish", "ns999:x:other")


@pytest.mark.parametrize("limit", [1, 1000])
def test_parse_accepts_the_limit_of_resources_and_not_one_more(limit: int) -> None:
    most = {str(n): ["publish"] for n in range(limit)}
    assert len(Capability.parse(most, limit=limit)) == limit
    assert limit != 1000 or len(Capability.parse(most)) == limit
    with pytest.raises(InvalidCapability, match=f"names {limit + 1} resources; at most {limit} are accepted"):
        Capability.parse({**most, "one more": ["publish"]}, limit=limit)


def test_parse_accepts_every_operation_of_ably_and_star_twice() -> None:
    documented = {
        *("publish", "subscribe", "presence", "history", "stats", "channel-metadata", "push-subscribe"),
        *("push-admin", "privileged-headers", "object-subscribe", "object-publish", "annotation-subscribe"),
        *("annotation-publish", "message-update-own", "message-update-any", "message-delete-own"),
        "message-delete-any",
    }
    assert documented | {"*"} == OPERATIONS
    assert Capability.parse({"a": sorted(documented)}) == {"a": documented}
    assert Capability.parse({"a": ["*", "*"]}) == {"a": "*"}


@pytest.mark.parametrize("members", [5, [], "a", {"a": "publish"}, {"a": [["publish"]]}, {"a": None}])
def test_from_dict_reads_objects_of_lists_only(members: object) -> None:
    with pytest.raises(InvalidCapability, match="an object of lists of operations"):
        Capability.from_dict(members)


def test_from_dict_leaves_empty_lists_out() -> None:
    assert Capability.from_dict({"a": [], "b": ["publish"]}).to_dict() == {"b": ["publish"]}
    assert Capability.from_dict({"a": []}) is NOTHING


EQUAL = [
    ("a string", {"a": "publish"}, {"a": "publish"}),
    ("a list", {"a": "publish"}, {"a": ["publish"]}),
    ("a tuple", {"a": "publish"}, {"a": ("publish",)}),
    ("a set", {"a": "publish"}, {"a": {"publish"}}),
    ("a frozenset", {"a": "publish"}, {"a": frozenset({"publish"})}),
    ("another order", {"a": ["publish", "history"]}, {"a": ["history", "publish"]}),
    ("an operation twice", {"a": "publish"}, {"a": ["publish", "publish"]}),
    ("star beside others", {"a": ["*", "publish"]}, {"a": ["publish", "*"]}),
    ("star absorbs others", {"a": "*"}, {"a": ["publish", "*"]}),
    ("a resource without operations", {"a": "publish"}, {"a": "publish", "b": []}),
    ("nothing", {}, {}),
    ("nothing but a resource without operations", {}, {"a": [], "b": ()}),
    ("a mapping of another type", {"a": "publish"}, MappingProxyType({"a": ["publish"]})),
]
UNEQUAL: list[tuple[str, dict[str, Any], object]] = [
    ("another operation", {"a": "publish"}, {"a": "subscribe"}),
    ("fewer operations", {"a": ["publish", "subscribe"]}, {"a": "publish"}),
    ("more operations", {"a": "publish"}, {"a": ["publish", "subscribe"]}),
    ("star", {"a": "publish"}, {"a": "*"}),
    ("another resource", {"a": "publish"}, {"b": "publish"}),
    ("more resources", {"a": "publish"}, {"a": "publish", "b": "publish"}),
    ("nothing", {"a": "publish"}, {}),
    ("a string in place of its list of letters", {"a": ["*"]}, {"a": "**"}),
    ("values that are not operations", {"a": "publish"}, {"a": True}),
    ("values that cannot be hashed", {"a": "publish"}, {"a": [["publish"]]}),
    ("its own JSON", {"a": "publish"}, '{"a":["publish"]}'),
    ("its items", {"a": "publish"}, [("a", ["publish"])]),
    ("None", {}, None),
    ("an empty list", {}, []),
    ("zero", {}, 0),
]


@pytest.mark.parametrize(("made_of", "other"), [row[1:] for row in EQUAL], ids=[row[0] for row in EQUAL])
def test_capability_equals_the_mapping_it_was_made_of(made_of: Any, other: Any) -> None:
    capability = Capability(made_of)
    assert capability == other
    assert other == capability
    assert capability == Capability(other)
    assert hash(capability) == hash(Capability(other))


@pytest.mark.parametrize(("made_of", "other"), [row[1:] for row in UNEQUAL], ids=[row[0] for row in UNEQUAL])
def test_capability_differs_from_everything_else(made_of: Any, other: object) -> None:
    capability = Capability(made_of)
    assert capability != other
    assert other != capability


def test_capability_leaves_the_comparison_with_other_types_to_them() -> None:
    assert Capability({"a": "publish"}) == ANY


def test_capability_is_false_when_it_allows_nothing() -> None:
    for empty in (Capability(), Capability(None), Capability({}), Capability({"a": []})):
        assert empty is NOTHING
        assert not empty
        assert (len(empty), list(empty), empty.text, str(empty)) == (0, [], "{}", "{}")
    assert Capability({"a": "publish"})


@pytest.mark.parametrize("symbol", ["|", "-", "&"])
def test_capabilities_combine_with_capabilities_only(symbol: str) -> None:
    functions = {"|": operator.or_, "-": operator.sub, "&": operator.and_}
    for other in ({"a": ["publish"]}, None, {"a"}):
        with pytest.raises(TypeError, match="unsupported operand"):
            functions[symbol](Capability({"a": "publish"}), other)


def test_union_difference_and_intersection_of_operations() -> None:
    one = Capability({"a": ["publish", "history"], "b": "*", "c": "publish"})
    other = Capability({"a": ["publish", "subscribe"], "b": "publish", "d": "*"})
    assert one | other == {
        "a": ["publish", "history", "subscribe"], "b": "*", "c": "publish", "d": "*"
    }  # fmt: skip
    assert one - other == {"a": "history", "b": "*", "c": "publish"}
    assert other - one == {"a": "subscribe", "d": "*"}
    assert one & other == other & one == {"a": "publish", "b": "publish"}


def test_operations_are_those_of_the_name_and_of_every_pattern() -> None:
    capability = Capability({"a:1": "publish", "a:*": "history", "*": "presence", "[*]*": "stats"})
    assert capability.operations("a:1") == {"publish", "history", "presence", "stats"}
    assert capability.operations("a:2") == {"history", "presence", "stats"}
    assert capability.operations("a:*") == {"history", "presence", "stats"}
    assert capability.operations("[meta]a:1") == {"stats"}
    assert Capability({"a:1": "publish"}).operations("a:2") == frozenset()


@pytest.mark.parametrize(
    ("resource", "is_pattern"),
    [
        ("a", False),
        ("a*", False),
        ("a:b*", False),
        ("*", True),
        ("a:*", True),
        ("*:a", True),
        ("[meta]a", True),
    ],
)
def test_has_patterns_is_true_for_everything_but_plain_names(resource: str, is_pattern: bool) -> None:
    assert Capability({"b": "publish", resource: "publish"}).has_patterns() is is_pattern


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
def test_intersection_is_covered_by_both(one: Capability, other: Capability) -> None:
    both = one & other
    assert one.covers(both)
    assert other.covers(both)
    assert both == other & one


@given(capabilities, capabilities, operations, channels)
def test_intersection_allows_what_both_allow(
    one: Capability, other: Capability, operation: str, channel: str
) -> None:
    assert (one & other).allows(operation, channel) == (
        one.allows(operation, channel) and other.allows(operation, channel)
    )


@given(capabilities, capabilities, operations, channels)
def test_union_allows_what_either_allows(
    one: Capability, other: Capability, operation: str, channel: str
) -> None:
    union = one | other
    assert union.covers(one)
    assert union.covers(other)
    assert union.allows(operation, channel) == (
        one.allows(operation, channel) or other.allows(operation, channel)
    )


@given(capabilities, capabilities)
def test_difference_and_the_other_make_up_the_union(one: Capability, other: Capability) -> None:
    left = one - other
    assert one.covers(left)
    assert (other | left).covers(one)
    assert bool(left) != other.covers(one)


PARAMS = [
    ("[?rewind=1]a", "a"),
    ("[?]a", "a"),
    ("[meta?rewind=1]log", "[meta]log"),
    ("[meta]log", "[meta]log"),
    ("[]a", "[]a"),
    ("[meta", "[meta"),
    ("[a?b", "[a?b"),
    ("[a]b?c", "[a]b?c"),
    ("a[?b]c", "a[?b]c"),
    ("a?b]c", "a?b]c"),
]


@pytest.mark.parametrize(("resource", "expected"), PARAMS)
def test_params_are_taken_from_the_front_of_a_resource(resource: str, expected: str) -> None:
    assert without_params(resource) == expected


@pytest.mark.parametrize("prefix", ["a]b", "a[b", "[a?b", "[a", "]a", "a?b]c"])
def test_brackets_that_are_not_a_qualifier_are_part_of_the_name(prefix: str) -> None:
    capability = Capability({f"{prefix}:*": "publish"})
    assert capability.allows("publish", f"{prefix}:1")
    assert not capability.allows("publish", "b:1")
    assert not capability.allows("publish", "c:1")
    assert capability & Capability({"*": "*"}) == capability


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", False), (":a", False), ("[a", False), ("a:*", False), ("*:a", False), ("a:*:b", False),
        ("a\x00", False), ("a\x1f", False), ("a\x20", True), ("a\x7e", True), ("a\x7f", False),
        ("a\x9f", False), ("a\xa0", True), ("a:", True), ("a*", True), ("a[", True), ("é", True),
    ],
)  # fmt: skip
def test_plain_name_is_the_usual_name_of_one_channel(name: str, expected: bool) -> None:
    assert is_plain(name) is expected


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ("a:*", "a:*", "a:*"), ("a:*", "*:*", "a:*"), ("*", "a:*:b", "a:*:b"), ("*:b", "a:*", "a:b"),
        ("*:*", "*", "*:*"), ("a:*:c", "a:b:*", "a:b:c"), ("[meta]*", "[*]*", "[meta]*"),
        ("[*]a:*", "[meta]*:b", "[meta]a:b"), ("a:*", "b:*", None), ("*:a", "*:b", None),
        ("*:a:*", "b:*", "b:a:*"), ("*:a", "*:*:a", None), ("[meta]*", "*", None),
    ],
)  # fmt: skip
def test_patterns_have_the_intersection_in_common(one: str, other: str, common: str | None) -> None:
    expected = {} if common is None else {common: ["publish"]}
    assert Capability({one: "publish"}) & Capability({other: "publish"}) == expected
    assert Capability({other: "publish"}) & Capability({one: "publish"}) == expected


def test_unchanged_capability_is_the_same_object() -> None:
    granted, base = Capability({"a": ["publish", "history"], "b:1": "*"}), Capability({"lobby": "subscribe"})
    other = Capability({"a": "publish"})
    assert Capability(granted) is granted
    assert granted.without() is granted.without("elsewhere", "c:*") is granted.plain() is granted
    assert (granted | NOTHING) is (NOTHING | granted) is (granted | other) is (granted - NOTHING) is granted
    assert NOTHING.with_base(base) is base
    assert granted.with_base(NOTHING) is granted
    assert granted.with_base(base) is granted.with_base(base)
    assert granted.text is granted.text


def test_released_resources_are_gone_and_their_params_do_not_count() -> None:
    granted = Capability({"a": "publish", "b": "publish", "c:1": "*", "c:2": "publish", "[meta]a": "publish"})
    assert granted.without("a", "c:*") == {"b": "publish", "[meta]a": "publish"}
    assert granted.without("[?rewind=1]a") == granted.without("a")
    assert granted.without("[*]*") is NOTHING
    patterns = Capability({"room:*": "publish", "*:b": "publish"})
    assert patterns.without("room:*", "*:b") is NOTHING
    assert patterns.without("*") is NOTHING
    with pytest.raises(InvalidCapability, match=r"'room:\*' cannot be released from '\*:b'"):
        patterns.without("room:*")


def test_mapping_of_a_capability() -> None:
    capability = Capability({"b": "publish", "a": "*"})
    assert list(capability) == ["b", "a"]
    assert len(capability) == 2
    assert capability["a"] == {"*"}
    assert capability.get("c") is None
    assert "a" in capability
    assert "c" not in capability
    assert dict(capability) == {"b": {"publish"}, "a": {"*"}}
    assert capability.to_dict() == {"a": ["*"], "b": ["publish"]}
    with pytest.raises(KeyError, match="c"):
        capability["c"]


def test_operations_may_come_from_an_iterator() -> None:
    assert Capability({"a": iter(["publish", "subscribe"])}) == {"a": ["publish", "subscribe"]}
    with pytest.warns(UnknownOperationWarning, match="did you mean 'publish'"):
        assert Capability({"a": iter(["publsh"])}) == {"a": ["publsh"]}
