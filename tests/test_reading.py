"""Reading a request: every source and shorthand, and everything malformed is told what would be right."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from apps import BASE, PATH, Client, ask, error, granted, make_app
from hypothesis import given
from hypothesis import strategies as st

import aiohttp_ably
from aiohttp_ably import AuthRequest, Capability, ClientStored
from aiohttp_ably.request import MAX_BODY
from aiohttp_ably.request.dialects import read_capability, read_client_id, read_drop, read_ttl

ASKED = {"chat:1": ["publish"]}
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
async def client(aiohttp_client: Any) -> Client:
    async def whatever_is_asked(auth: AuthRequest, requested: Capability) -> Capability:
        return requested

    return await aiohttp_client(make_app(ClientStored(whatever_is_asked, base=BASE, allow_wildcards=True)))


READ = [
    ("an object in JSON", {"json": {"capability": ASKED}}),
    ("its text in JSON", {"json": {"capability": json.dumps(ASKED)}}),
    ("JSON in another case", {"data": json.dumps({"capability": ASKED}),
                              "headers": {"Content-Type": "Application/JSON; Charset=UTF-8"}}),
    ("a form", {"data": {"capability": json.dumps(ASKED)}}),
    ("a query on a POST", {"params": {"capability": json.dumps(ASKED)}}),
    ("the body over the query", {"params": {"capability": "{}"}, "data": {"capability": json.dumps(ASKED)}}),
    ("the last of several", {"data": [("capability", '{"x":["publish"]}'), ("capability", json.dumps(ASKED))]}),
    ("a header", {"headers": {"Ably-Capability": json.dumps(ASKED)}}),
    ("params over a header", {"data": {"capability": json.dumps(ASKED)},
                              "headers": {"Ably-Capability": '{"x":["publish"]}'}}),
    ("Python's repr", {"data": {"capability": repr(ASKED)}}),
    ("Python's repr of tuples", {"data": {"capability": "{'chat:1': ('publish',)}"}}),
    ("Python's repr of sets", {"data": {"capability": "{'chat:1': {'publish'}}"}}),
    ("a channel and its operations", {"data": {"channel": "chat:1", "operations": "publish"}}),
    ("a channel in JSON", {"json": {"channel": "chat:1", "operations": ["publish"]}}),
    ("gzip", {"data": gzip.compress(json.dumps({"capability": ASKED}).encode()),
              "headers": {"Content-Type": "application/json", "Content-Encoding": "gzip"}}),
]  # fmt: skip

MALFORMED = [
    ("capability is not JSON", {"data": {"capability": "chat"}}, "is not JSON"),
    ("capability is a number", {"json": {"capability": 5}}, "must be a JSON object"),
    ("an object stringified by a browser", {"data": {"capability": "[object Object]"}}, "JSON.stringify"),
    ("a resource twice in Python's repr", {"data": {"capability": "{'a': ['publish'], 'a': ['*']}"}}, "twice"),
    ("code in Python's repr", {"data": {"capability": "{'a': print('x')}"}}, "is not JSON"),
    ("a resource twice", {"data": {"capability": '{"a":["publish"],"a":["*"]}'}}, "duplicate key"),
    ("a member twice", {"data": '{"ttl":1,"ttl":2}', "headers": {"Content-Type": "application/json"}}, "duplicate"),
    ("JSON that is none", {"data": "{", "headers": {"Content-Type": "application/json"}}, "is not JSON"),
    ("JSON that is no object", {"json": [1]}, "must be an object"),
    ("JSON not in UTF-8", {"data": b'"\xff"', "headers": {"Content-Type": "application/json"}}, "is not JSON"),
    ("JSON nested without end", {"data": "[" * 60000, "headers": {"Content-Type": "application/json"}}, "deeply"),
    ("a form not in UTF-8", {"data": b"capability=%ff", "headers": {"Content-Type": FORM}}, "UTF-8"),
    ("a form with raw bytes", {"data": b"capability=\xff", "headers": {"Content-Type": FORM}}, "UTF-8"),
    ("a form of too many fields", {"data": b"&" * 5000, "headers": {"Content-Type": FORM}}, "fields"),
    ("another charset", {"data": b"a=b", "headers": {"Content-Type": f"{FORM}; charset=klingon"}}, "send UTF-8"),
    ("another type", {"data": b"a", "headers": {"Content-Type": "text/plain"}}, "application/json"),
    ("no type", {"data": b"a", "headers": {"Content-Type": ""}}, "application/json"),
    ("not the encoding it says", {"data": b"nonsense", "headers": {"Content-Type": FORM, "Content-Encoding": "gzip"}},
     "encoded"),
    ("a ttl that is no number", {"data": {"ttl": "soon"}}, "milliseconds such as 3600000"),
    ("a negative ttl", {"data": {"ttl": "-1"}}, "milliseconds"),
    ("a ttl that is true", {"json": {"ttl": True}}, "milliseconds"),
    ("two client ids", {"data": {"clientId": "alice", "client_id": "bob"}}, "differ"),
    ("a client id that is a number", {"json": {"clientId": 5}}, "must be a string"),
    ("a client id not in base64", {"headers": {"X-Ably-ClientId": "alice!"}}, "base64"),
    ("a header not in UTF-8", {"headers": {"Ably-Capability": "%ff"}}, "UTF-8"),
    ("an operation misspelt", {"data": {"channel": "a", "operations": "publsh"}}, "did you mean 'publish'"),
    ("a channel that is a number", {"json": {"channel": [5]}}, "list of strings"),
    ("asked for and dropped", {"data": {"channel": "a", "drop": "a"}}, "one of the two"),
    ("a drop that is no list", {"data": {"drop": '["a"'}}, "JSON list"),
    ("too many resources", {"json": {"channel": [str(n) for n in range(1001)]}}, "1000"),
    ("too many dropped", {"json": {"drop": [str(n) for n in range(1001)]}}, "1000"),
    ("too many resources by two ways", {"json": {"channel": [str(n) for n in range(600)],
     "capability": {f"x{n}": ["publish"] for n in range(600)}}}, "1000"),
]  # fmt: skip


@pytest.mark.parametrize("options", [row[1] for row in READ], ids=[row[0] for row in READ])
async def test_an_ask_is_read_from_every_place(options: dict[str, Any], client: Client) -> None:
    headers = {"X-User": "alice", **options.get("headers", {})}
    response = await client.post(PATH, **{**options, "headers": headers})
    assert await granted(response) == {**BASE, **ASKED}


@pytest.mark.parametrize(
    ("options", "says"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED]
)
async def test_what_is_malformed_is_told_what_would_be_right(
    options: dict[str, Any], says: str, client: Client
) -> None:
    headers = {"X-User": "alice", **options.get("headers", {})}
    response = await client.post(PATH, **{**options, "headers": headers})
    assert (await error(response))[0] == 400
    assert says in (await response.json())["error"]["message"]


async def test_multipart_is_refused(client: Client) -> None:
    import aiohttp

    with aiohttp.MultipartWriter("form-data") as parts:
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


async def test_a_chunked_body_without_a_length_is_read(client: Client) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"capability="
        yield quote(json.dumps(ASKED)).encode()

    response = await client.post(PATH, data=chunks(), headers={"X-User": "alice", "Content-Type": FORM})
    assert await granted(response) == {**BASE, **ASKED}


async def test_a_body_that_another_middleware_read_is_read_too(aiohttp_client: Any) -> None:
    from aiohttp import web
    from apps import install

    @web.middleware
    async def reads(request: web.Request, handler: Any) -> web.StreamResponse:
        await request.read()
        return await handler(request)

    async def whatever_is_asked(auth: AuthRequest, requested: Capability) -> Capability:
        return requested

    app = web.Application(middlewares=[reads])
    install(app, ClientStored(whatever_is_asked))
    client = await aiohttp_client(app)
    assert await granted(await ask(client, ASKED, method="POST")) == ASKED


@pytest.mark.parametrize("text", ['{"*":["*"]}', "{}", "", "undefined", "null"])
async def test_an_ask_for_nothing_in_particular_is_none(text: str, client: Client) -> None:
    assert await granted(await ask(client, text)) == BASE


async def test_an_ask_for_nothing_in_particular_leaves_what_is_asked_beside_it(client: Client) -> None:
    headers = {"X-User": "alice", "Prefer": "handling=strict"}
    response = await client.get(
        PATH, params={"capability": '{"*":["*"]}', "channel": "chat:1"}, headers=headers
    )
    assert await granted(response) == {**BASE, "chat:1": ["*"]}


async def test_a_channel_without_operations_asks_for_all_one_may_have(client: Client) -> None:
    response = await client.get(f"{PATH}?channel=chat:1&channel=[meta]log", headers={"X-User": "alice"})
    assert await granted(response) == {**BASE, "chat:1": ["*"], "[meta]log": ["*"]}


async def test_a_param_of_a_headers_name_is_a_param(client: Client) -> None:
    response = await client.get(f"{PATH}?X-Ably-ClientId=bob", headers={"X-User": "alice"})
    assert await granted(response) == BASE


TTLS = [
    ("milliseconds", "120000", {}, 120_000),
    ("over the most", "999999999", {}, 86_400_000),
    ("under the least", "1000", {}, 60_000),
    ("none", "0", {}, 3_600_000),
    ("Python's timedelta", "2:00:00", {}, 7_200_000),
    ("Python's timedelta of days", "1 day, 0:00:00", {}, 86_400_000),
    ("seconds of ably-ruby", "120", {"User-Agent": "Ruby"}, 120_000),
    ("seconds of ably-cocoa", "120.5", {"Ably-Agent": "ably-cocoa/1.3.0 iOS/17.5.0"}, 120_500),
    ("milliseconds of ably-cocoa", "3600000", {"Ably-Agent": "ably-cocoa/1.3.0"}, 3_600_000),
]


@pytest.mark.parametrize(
    ("ttl", "headers", "expected"), [row[1:] for row in TTLS], ids=[row[0] for row in TTLS]
)
async def test_a_ttl_is_read_in_its_unit_and_kept_in_bounds(
    ttl: str, headers: dict[str, str], expected: int, client: Client
) -> None:
    response = await ask(client, params={"ttl": ttl}, headers=headers)
    assert (await response.json())["ttl"] == expected


async def test_what_a_client_says_of_time_nonce_and_key_is_ignored(client: Client) -> None:
    said = {"timestamp": "5", "nonce": "0" * 16, "mac": "x", "keyName": "app9.key9"}
    first, second = [await (await ask(client, params=said)).json() for _ in range(2)]
    assert first["keyName"] == "app1.key1"
    assert first["timestamp"] > 1_700_000_000_000
    assert len(first["nonce"]) >= 16
    assert len({first["nonce"], second["nonce"], said["nonce"]}) == 3


@pytest.mark.parametrize("sent", [{"params": {"clientId": "bob"}}, {"params": {"client_id": "bob"}},
                                  {"headers": {"X-Ably-ClientId": base64.b64encode(b"bob").decode()}},
                                  {"params": {"clientId": "*"}}])  # fmt: skip
async def test_another_client_id_is_refused(sent: dict[str, Any], client: Client) -> None:
    assert await error(await ask(client, **sent)) == (403, 40300)


async def test_the_own_client_id_may_be_said_every_way(client: Client) -> None:
    response = await ask(
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
def test_whatever_is_sent_is_read_or_refused(params: dict[str, list[object]]) -> None:
    with contextlib.suppress(aiohttp_ably.BadRequest):
        assert isinstance(read_capability(params), Capability)
    with contextlib.suppress(aiohttp_ably.BadRequest):
        assert all(isinstance(name, str) for name in read_drop(params))
    with contextlib.suppress(aiohttp_ably.BadRequest):
        assert isinstance(read_ttl(params, seconds=False), int | None)
    with contextlib.suppress(aiohttp_ably.BadRequest):
        assert isinstance(read_client_id(params, None), str | None)
