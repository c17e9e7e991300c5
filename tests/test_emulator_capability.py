"""The emulator intersects a requested capability with that of the key, and matches channels, as Ably does."""

import json
from typing import Any

import pytest
from emulator_helpers import KEY, call, code_of, connected, issue, signed

from aiohttp_ably import Capability
from aiohttp_ably.emulator import Emulator
from aiohttp_ably.emulator.wire import Action

ROOMS = {"room:*": ["*"], "lobby": ["subscribe"]}
TABLE = [
    pytest.param(
        {"channel2": ["publish", "subscribe"]},
        {"channel2": ["*"]},
        {"channel2": ["publish", "subscribe"]},
        id="all operations",
    ),
    pytest.param(
        {"channel6": ["*"]},
        {"channel6": ["publish", "subscribe"]},
        {"channel6": ["publish", "subscribe"]},
        id="some operations of all",
    ),
    pytest.param(
        {"*": ["subscribe"]},
        {"cansubscribe:*": ["subscribe"]},
        {"cansubscribe:*": ["subscribe"]},
        id="a pattern within all channels",
    ),
    pytest.param(
        {"canpublish:*": ["publish"]},
        {"canpublish:check": ["publish"]},
        {"canpublish:check": ["publish"]},
        id="a channel within a pattern",
    ),
    pytest.param(
        {"channel2": ["publish", "subscribe"]},
        {"channel2": ["presence", "subscribe"], "channelx": ["presence", "subscribe"]},
        {"channel2": ["subscribe"]},
        id="partly allowed",
    ),
    pytest.param(ROOMS, {"*": ["*"]}, ROOMS, id="everything"),
    pytest.param(
        ROOMS,
        {"[*]*": ["subscribe"]},
        {"lobby": ["subscribe"], "room:*": ["subscribe"]},
        id="every namespace",
    ),
    pytest.param(ROOMS, {"[meta]*": ["subscribe"]}, None, id="another namespace"),
    pytest.param(ROOMS, {"room": ["publish"]}, None, id="a pattern without its last segment"),
    pytest.param(
        {"[*]*": ["*"]}, {"foo": ["publish"]}, {"foo": ["publish"]}, id="a channel within every namespace"
    ),
    pytest.param({"a:*:c": ["*"]}, {"a:b:*": ["publish"]}, {"a:b:c": ["publish"]}, id="two patterns"),
    pytest.param({"a:*:c": ["*"]}, {"a:b:d": ["publish"]}, None, id="not within a pattern"),
    pytest.param({"foo*": ["*"]}, {"foobar": ["publish"]}, None, id="a star within a segment is literal"),
    pytest.param({"*": ["*"]}, {"[queue]q": ["subscribe"]}, None, id="channels are not queues"),
]


@pytest.mark.parametrize(("key", "requested", "granted"), TABLE)
async def test_the_requested_capability_is_intersected_with_that_of_the_key(
    key: dict[str, Any], requested: dict[str, Any], granted: dict[str, Any] | None
) -> None:
    async with Emulator({KEY: key}) as emulator:
        if granted is None:
            request = signed(emulator, capability=json.dumps(requested))
            assert await code_of(emulator, "POST", "/keys/app1.key1/requestToken", request) == (40160, 401)
        else:
            details = await issue(emulator, capability=json.dumps(requested))
            assert details["capability"] == Capability(granted).text


@pytest.mark.parametrize(
    ("pattern", "channel", "matches"),
    [
        ("*", "a", True),
        ("*", "a:b", True),
        ("a:*", "a:b", True),
        ("a:*", "a:b:c", True),
        ("a:*", "a", False),
        ("a:*", "b:a", False),
        ("*:b", "a:b", True),
        ("*:b", "a:a:b", False),
        ("a*", "ab", False),
        ("a*", "a*", True),
        ("[*]*", "a", True),
        ("[meta]*", "a", False),
        ("[queue]*", "a", False),
    ],
)
async def test_a_pattern_matches_whole_segments(pattern: str, channel: str, matches: bool) -> None:
    async with Emulator({KEY: {pattern: ["subscribe"]}}) as emulator, connected(emulator, key=KEY) as peer:
        answer = Action.ATTACHED if matches else Action.ERROR
        await peer.request(Action.ATTACH, answer, channel=channel)


@pytest.mark.parametrize(
    ("operation", "method", "path", "body"),
    [
        ("publish", "POST", "/channels/a/messages", {"name": "n"}),
        ("history", "GET", "/channels/a/messages", None),
        ("history", "GET", "/channels/a/history", None),
        ("subscribe", "GET", "/channels/a/presence", None),
        ("channel-metadata", "GET", "/channels/a", None),
    ],
)
async def test_each_route_requires_one_operation(operation: str, method: str, path: str, body: Any) -> None:
    others = sorted(
        {"publish", "subscribe", "presence", "history", "channel-metadata", "stats"} - {operation}
    )
    keys = {"app1.with:secret": {"a": [operation]}, "app1.without:secret": {"a": others, "b": ["*"]}}
    async with Emulator(keys) as emulator:
        allowed, denied = (f"{path}?key={key}" for key in keys)
        assert (await call(emulator, method, allowed, body))[0] in (200, 201)
        assert await code_of(emulator, method, denied, body) == (40160, 401)
