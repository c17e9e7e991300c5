"""Where a request for a token names its capability, and the errors for what is malformed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import MultipartWriter, web
from apps import BASE, PATH, Client, error, install, make_app, request_token, token_capability
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

import aiohttp_ably
from aiohttp_ably import AuthRequest, Capability, ClientStored
from aiohttp_ably.request import MAX_BODY
from aiohttp_ably.request.dialects import (
    read_capability,
    read_client_id,
    read_drop,
    read_form,
    read_query,
    read_ttl,
)

REQUESTED = {"chat:1": ["publish"]}
FORM = "application/x-www-form-urlencoded"


async def allow_all(auth: AuthRequest, requested: Capability) -> Capability:
    return requested


@pytest.fixture
async def client(aiohttp_client: Any) -> Client:
    return await aiohttp_client(make_app(ClientStored(allow_all, base=BASE, allow_wildcards=True)))


SOURCES = [
    ("an object in JSON", {"json": {"capability": REQUESTED}}),
    ("a string in JSON", {"json": {"capability": json.dumps(REQUESTED)}}),
    ("a content type in another case", {"data": json.dumps({"capability": REQUESTED}),
                              "headers": {"Content-Type": "Application/JSON; Charset=UTF-8"}}),
    ("another spelling of UTF-8", {"data": json.dumps({"capability": REQUESTED}),
                              "headers": {"Content-Type": "application/json; charset=utf8"}}),
    ("a form", {"data": {"capability": json.dumps(REQUESTED)}}),
    ("a query on a POST", {"params": {"capability": json.dumps(REQUESTED)}}),
    ("the body over the query", {"params": {"capability": "{}"}, "data": {"capability": json.dumps(REQUESTED)}}),
    ("the last of two values", {"data": [("capability", '{"x":["publish"]}'), ("capability", json.dumps(REQUESTED))]}),
    ("a header", {"headers": {"Ably-Capability": json.dumps(REQUESTED)}}),
    ("params over a header", {"data": {"capability": json.dumps(REQUESTED)},
                              "headers": {"Ably-Capability": '{"x":["publish"]}'}}),
    ("the repr of a Python dict", {"data": {"capability": repr(REQUESTED)}}),
    ("the repr of tuples", {"data": {"capability": "{'chat:1': ('publish',)}"}}),
    ("the repr of sets", {"data": {"capability": "{'chat:1': {'publish'}}"}}),
    ("a channel and its operations", {"data": {"channel": "chat:1", "operations": "publish"}}),
    ("a channel in JSON", {"json": {"channel": "chat:1", "operations": ["publish"]}}),
    ("gzip", {"data": gzip.compress(json.dumps({"capability": REQUESTED}).encode()),
              "headers": {"Content-Type": "application/json", "Content-Encoding": "gzip"}}),
]  # fmt: skip

MALFORMED = [
    ("capability is not JSON", {"data": {"capability": "chat"}}, "is not JSON"),
    ("capability is a number", {"json": {"capability": 5}}, "must be a JSON object"),
    ("an object that a browser made a string", {"data": {"capability": "[object Object]"}}, "JSON.stringify"),
    ("a resource twice in a repr", {"data": {"capability": "{'a': ['publish'], 'a': ['*']}"}}, "twice"),
    ("code in a repr", {"data": {"capability": "{'a': print('x')}"}}, "is not JSON"),
    ("a resource twice", {"data": {"capability": '{"a":["publish"],"a":["*"]}'}}, "duplicate key"),
    ("a member twice", {"data": '{"ttl":1,"ttl":2}', "headers": {"Content-Type": "application/json"}}, "duplicate"),
    ("invalid JSON", {"data": "{", "headers": {"Content-Type": "application/json"}}, "is not JSON"),
    ("JSON that is not an object", {"json": [1]}, "must be an object"),
    ("JSON not in UTF-8", {"data": b'"\xff"', "headers": {"Content-Type": "application/json"}}, "is not JSON"),
    ("JSON nested 60,000 times", {"data": "[" * 60000, "headers": {"Content-Type": "application/json"}}, "deeply"),
    ("a form not in UTF-8", {"data": b"capability=%ff", "headers": {"Content-Type": FORM}}, "UTF-8"),
    ("a form with raw bytes", {"data": b"capability=\xff", "headers": {"Content-Type": FORM}}, "UTF-8"),
    ("a form with too many fields", {"data": b"&" * 5000, "headers": {"Content-Type": FORM}}, "fields"),
    ("another charset", {"data": b"a=b", "headers": {"Content-Type": f"{FORM}; charset=klingon"}}, "send UTF-8"),
    ("another content type", {"data": b"a", "headers": {"Content-Type": "text/plain"}}, "application/json"),
    ("no content type", {"data": b"a", "headers": {"Content-Type": ""}}, "application/json"),
    ("another encoding than its header names", {"data": b"nonsense", "headers": {"Content-Type": FORM, "Content-Encoding": "gzip"}},
     "encoded"),
    ("a ttl that is not a number", {"data": {"ttl": "soon"}}, "milliseconds such as 3600000"),
    ("a negative ttl", {"data": {"ttl": "-1"}}, "milliseconds"),
    ("a ttl that is true", {"json": {"ttl": True}}, "milliseconds"),
    ("two client ids", {"data": {"clientId": "alice", "client_id": "bob"}}, "differ"),
    ("a client id and another in a header", {"data": {"clientId": "alice"},
     "headers": {"X-Ably-ClientId": base64.b64encode(b"bob").decode()}}, "differ"),
    ("a client id that is a number", {"json": {"clientId": 5}}, "must be a string"),
    ("a client id not in base64", {"headers": {"X-Ably-ClientId": "alice!"}}, "base64"),
    ("a header not in UTF-8", {"headers": {"Ably-Capability": "%ff"}}, "UTF-8"),
    ("a misspelt operation", {"data": {"channel": "a", "operations": "publsh"}}, "did you mean 'publish'"),
    ("a channel that is a number", {"json": {"channel": [5]}}, "list of strings"),
    ("requested and dropped", {"data": {"channel": "a", "drop": "a"}}, "one of the two"),
    ("a drop that is not a list", {"data": {"drop": '["a"'}}, "JSON list"),
    ("too many resources", {"json": {"channel": [str(n) for n in range(1001)]}}, "1000"),
    ("too many dropped resources", {"json": {"drop": [str(n) for n in range(1001)]}}, "1000"),
    ("too many resources in two params", {"json": {"channel": [str(n) for n in range(600)],
     "capability": {f"x{n}": ["publish"] for n in range(600)}}}, "1000"),
]  # fmt: skip


@pytest.mark.parametrize("options", [row[1] for row in SOURCES], ids=[row[0] for row in SOURCES])
async def test_a_requested_capability_is_read_from_every_source(
    options: dict[str, Any], client: Client
) -> None:
    headers = {"X-User": "alice", **options.get("headers", {})}
    response = await client.post(PATH, **{**options, "headers": headers})
    assert await token_capability(response) == {**BASE, **REQUESTED}


@pytest.mark.parametrize(
    ("options", "message"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED]
)
async def test_a_malformed_request_is_400_and_says_what_would_be_right(
    options: dict[str, Any], message: str, client: Client
) -> None:
    headers = {"X-User": "alice", **options.get("headers", {})}
    response = await client.post(PATH, **{**options, "headers": headers})
    assert (await error(response))[0] == 400
    assert message in (await response.json())["error"]["message"]


async def test_multipart_is_refused(client: Client) -> None:
    with MultipartWriter("form-data") as parts:
        parts.append("x", {"Content-Disposition": 'form-data; name="capability"'})
    response = await client.post(PATH, data=parts, headers={"X-User": "alice"})
    assert await error(response) == (400, 40000)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(chunked: bool, client: Client) -> None:
    body = b"capability=" + b"x" * MAX_BODY

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    data: Any = chunks() if chunked else body
    response = await client.post(PATH, data=data, headers={"X-User": "alice", "Content-Type": FORM})
    assert await error(response) == (413, 40009)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_exactly_the_limit_is_read(chunked: bool, client: Client) -> None:
    sent = {"capability": json.dumps(REQUESTED), "x": ""}
    body = json.dumps({**sent, "x": "x" * (MAX_BODY - len(json.dumps(sent)))}).encode()
    assert len(body) == MAX_BODY == 128 * 1024

    async def chunks() -> AsyncIterator[bytes]:
        yield body

    headers = {"X-User": "alice", "Content-Type": "application/json"}
    response = await client.post(PATH, data=chunks() if chunked else body, headers=headers)
    assert await token_capability(response) == {**BASE, **REQUESTED}


async def test_a_body_is_refused_when_what_comes_after_the_limit_arrives_late(client: Client) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x=" + b"x" * (MAX_BODY - 2)
        await asyncio.sleep(0.1)
        yield b"x"

    response = await client.post(PATH, data=chunks(), headers={"X-User": "alice", "Content-Type": FORM})
    assert await error(response) == (413, 40009)


async def test_a_chunked_body_without_a_length_is_read(client: Client) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"capability="
        yield quote(json.dumps(REQUESTED)).encode()

    response = await client.post(PATH, data=chunks(), headers={"X-User": "alice", "Content-Type": FORM})
    assert await token_capability(response) == {**BASE, **REQUESTED}


async def test_a_body_that_a_middleware_has_read_is_read_again(aiohttp_client: Any) -> None:
    @web.middleware
    async def reads(request: web.Request, handler: Any) -> web.StreamResponse:
        await request.read()
        return await handler(request)

    app = web.Application(middlewares=[reads])
    install(app, ClientStored(allow_all))
    client = await aiohttp_client(app)
    assert await token_capability(await request_token(client, REQUESTED, method="POST")) == REQUESTED


@pytest.mark.parametrize("text", ['{"*":["*"]}', "{}", "", "undefined", "null"])
async def test_an_empty_or_default_capability_requests_nothing(text: str, client: Client) -> None:
    assert await token_capability(await request_token(client, text)) == BASE


async def test_a_default_capability_in_json_requests_nothing(client: Client) -> None:
    headers = {"X-User": "alice"}
    response = await client.post(PATH, json={"capability": {"*": ["*"]}}, headers=headers)
    assert await token_capability(response) == BASE


async def test_authorize_gets_the_params_of_query_and_body(aiohttp_client: Any) -> None:
    params: dict[str, Any] = {}

    async def authorize(auth: AuthRequest, requested: Capability) -> Capability:
        params.update(auth.params)
        return requested

    client = await aiohttp_client(make_app(ClientStored(authorize)))
    sent = {"invitation": "7", "channel": "chat:1"}
    await client.post(f"{PATH}?team=a&channel=x", data=sent, headers={"X-User": "alice"})
    assert params == {"team": "a", **sent}


def test_a_request_of_the_app_itself_starts_empty() -> None:
    auth, key = AuthRequest(), aiohttp_ably.ApiKey("app1.key1:a-secret")
    assert (auth.requested, auth.drop, auth.ttl, auth.client_id, auth.now) == (
        Capability(),
        (),
        None,
        None,
        0.0,
    )
    assert (auth.params, auth.headers, auth.cookies, auth.reply) == ({}, {}, {}, {})
    assert (auth.wants_jwt, auth.session_changed, auth.waits_for) == (False, False, "identify")
    assert (auth.claims_for, auth.store_state, auth.keys) == (None, None, None)
    auth.keys = aiohttp_ably.KeyRing([key])
    assert auth.key is key
    for value in ("1", "2"):
        auth.set_header("X-Name", value)
        auth.set_cookie("x", f"x={value}")
    assert auth.reply == {("X-Name", ""): "2", ("Set-Cookie", "x"): "x=2"}


def test_the_repr_of_a_request_shows_what_was_requested_and_by_whom() -> None:
    auth = AuthRequest(requested=Capability(REQUESTED), client_id="alice", sent={"x": ["1"]}, now=1.5)
    assert repr(auth) == (
        'AuthRequest(requested=Capability({"chat:1":["publish"]}), drop=(), ttl=None, requested_client_id=None,'
        " strict=None, wants_jwt=False, client_id='alice', now=1.5)"
    )


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(aiohttp_ably.BadRequest, match="the query is not percent-encoded UTF-8"):
        read_query(URL("/?%ff=1", encoded=True))


def test_an_empty_param_is_kept_so_that_the_last_value_counts() -> None:
    assert read_form(b"channel=chat:1&channel=") == {"channel": ["chat:1", ""]}
    assert read_capability(read_form(b"capability=%7B%22a%22:%22publish%22%7D&capability=")) == Capability()


@pytest.mark.parametrize(
    ("params", "requested"),
    [
        ({"channel": ["a"], "operations": ["publish, subscribe"]}, {"a": ["publish", "subscribe"]}),
        ({"capability[a\nb][]": ["publish"]}, {"a\nb": ["publish"]}),
        ({"capability": [r"{'a\d': ['publish']}"]}, {r"a\d": ["publish"]}),
    ],
    ids=["operations in one string", "a nested name of two lines", "a backslash in a repr"],
)
def test_unusual_params_are_read(params: dict[str, list[object]], requested: Any) -> None:
    assert read_capability(params) == Capability(requested)


def test_the_str_of_a_timedelta_has_days_hours_minutes_and_seconds() -> None:
    lifetime = timedelta(days=2, hours=3, minutes=4, seconds=5.5)
    assert read_ttl({"ttl": [str(lifetime)]}, seconds=False) == lifetime / timedelta(milliseconds=1)


async def test_a_default_capability_does_not_replace_the_requested_channel(client: Client) -> None:
    headers = {"X-User": "alice", "Prefer": "handling=strict"}
    response = await client.get(
        PATH, params={"capability": '{"*":["*"]}', "channel": "chat:1"}, headers=headers
    )
    assert await token_capability(response) == {**BASE, "chat:1": ["*"]}


async def test_a_channel_without_operations_requests_all_operations(client: Client) -> None:
    response = await client.get(f"{PATH}?channel=chat:1&channel=[meta]log", headers={"X-User": "alice"})
    assert await token_capability(response) == {**BASE, "chat:1": ["*"], "[meta]log": ["*"]}


async def test_a_param_is_not_read_as_the_header_of_the_same_name(client: Client) -> None:
    response = await client.get(f"{PATH}?X-Ably-ClientId=bob", headers={"X-User": "alice"})
    assert await token_capability(response) == BASE


TTLS = [
    ("milliseconds", "120000", {}, 120_000),
    ("over the maximum", "999999999", {}, 86_400_000),
    ("under the minimum", "1000", {}, 60_000),
    ("zero", "0", {}, 3_600_000),
    ("the str of a timedelta", "2:00:00", {}, 7_200_000),
    ("the str of a timedelta of days", "1 day, 0:00:00", {}, 86_400_000),
    ("seconds of ably-ruby", "120", {"User-Agent": "Ruby"}, 120_000),
    ("seconds of ably-cocoa", "120.5", {"Ably-Agent": "ably-cocoa/1.3.0 iOS/17.5.0"}, 120_500),
    ("milliseconds of ably-cocoa", "3600000", {"Ably-Agent": "ably-cocoa/1.3.0"}, 3_600_000),
]


@pytest.mark.parametrize(
    ("ttl", "headers", "expected"), [row[1:] for row in TTLS], ids=[row[0] for row in TTLS]
)
async def test_a_ttl_is_read_in_the_unit_of_the_sdk_and_kept_in_bounds(
    ttl: str, headers: dict[str, str], expected: int, client: Client
) -> None:
    response = await request_token(client, params={"ttl": ttl}, headers=headers)
    assert (await response.json())["ttl"] == expected


async def test_timestamp_nonce_mac_and_key_name_of_a_client_are_ignored(client: Client) -> None:
    sent = {"timestamp": "5", "nonce": "0" * 16, "mac": "x", "keyName": "app9.key9"}
    first, second = [await (await request_token(client, params=sent)).json() for _ in range(2)]
    assert first["keyName"] == "app1.key1"
    assert first["timestamp"] > 1_700_000_000_000
    assert len(first["nonce"]) >= 16
    assert len({first["nonce"], second["nonce"], sent["nonce"]}) == 3


@pytest.mark.parametrize("sent", [{"params": {"clientId": "bob"}}, {"params": {"client_id": "bob"}},
                                  {"headers": {"X-Ably-ClientId": base64.b64encode(b"bob").decode()}},
                                  {"params": {"clientId": "*"}}])  # fmt: skip
async def test_another_client_id_is_refused(sent: dict[str, Any], client: Client) -> None:
    assert await error(await request_token(client, **sent)) == (403, 40300)


async def test_the_own_client_id_may_be_sent_in_every_param(client: Client) -> None:
    response = await request_token(
        client,
        user="alice",
        params={"clientId": "alice", "client_id": "alice"},
        headers={"X-Ably-ClientId": base64.b64encode(b"alice").decode()},
    )
    assert (await response.json())["clientId"] == "alice"


PARAMS = st.dictionaries(
    st.sampled_from(["capability", "channel", "operations", "drop", "ttl", "clientId", "client_id", "x"])
    | st.from_regex(r"capability\[.*\]\[\]", fullmatch=True)
    | st.text(max_size=5),
    st.lists(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
        | st.lists(st.text(max_size=5), max_size=3)
        | st.dictionaries(st.text(max_size=5), st.lists(st.sampled_from(["publish", "*", "x"])), max_size=3),
        min_size=1, max_size=2,
    ),
    max_size=4,
)  # fmt: skip


@given(PARAMS)
def test_any_params_are_read_or_are_a_bad_request(params: dict[str, list[object]]) -> None:
    with contextlib.suppress(aiohttp_ably.BadRequest):
        assert isinstance(read_capability(params), Capability)
    with contextlib.suppress(aiohttp_ably.BadRequest):
        assert all(isinstance(name, str) for name in read_drop(params))
    with contextlib.suppress(aiohttp_ably.BadRequest):
        assert isinstance(read_ttl(params, seconds=False), int | None)
    with contextlib.suppress(aiohttp_ably.BadRequest):
        assert isinstance(read_client_id(params, None), str | None)
