"""Generated requests to the auth route: it never fails, and never grants more than the strategy allows.

`make test` sends 2,000 requests, `make fuzz` (the hypothesis profile `nightly`) 100,000.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

import aiohttp_session
import pytest
from aiohttp import web
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from apps import BASE, KEY, OTHER_KEY, SECRET, by_header, rooms
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

import aiohttp_ably
from aiohttp_ably import (
    ApiKey,
    BadRequest,
    Capability,
    ClientSigned,
    ClientStored,
    JWTIssuer,
    JWTStore,
    KeyRing,
    MemoryStore,
    ServerDetermined,
    ServerStored,
    SessionStore,
)
from aiohttp_ably.request.dialects import read_form, read_query
from aiohttp_ably.stores import SignedGrants
from aiohttp_ably.tokens import sign_jwt, verify_jwt, verify_token_request

CASES = 100_000 if settings.get_current_profile_name() == "nightly" else 2_000
NOW = 1_800_000_000
KEYS = KeyRing([ApiKey(KEY)])
SESSION_KEY = Fernet.generate_key()
ROOM_OPERATIONS = {"publish", "subscribe", "presence"}
APPS = ("determined", "memory", "session", "client", "signed", "encrypted", "jwt")
FORBIDDEN_CODES = {*range(40140, 40150), 40102, 40171}


class Request(NamedTuple):
    app: str
    method: str
    query: str
    headers: list[tuple[str, bytes]]
    body: bytes

    def wire(self) -> bytes:
        lines = [f"{self.method} /{self.app}/auth?{self.query} HTTP/1.1".encode()]
        lines += [name.encode() + b": " + value for name, value in self.headers]
        lines += [b"Host: app.example", b"Connection: close", b"Content-Length: %d" % len(self.body)]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def parse(cls, wire: bytes) -> Answer:
        head, _, body = wire.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(": ") for line in lines]
        assert all(":" not in name and " " not in name for name, _, _ in pairs), lines
        return cls(int(first.split()[1]), {name.lower(): value for name, _, value in pairs}, body)


def only_granted(name: str | None) -> Capability:
    """A capability that no rule allows: a client has it only when it was granted before."""
    return Capability({f"granted:{name or 'nobody'}": ["subscribe"]})


def signed_grant(
    client_id: str | None, granted: Capability, *, encrypt: bool = False, key: str = KEY, now: int = NOW
) -> str:
    return SignedGrants(SECRET, encrypt=encrypt).sign(client_id, ApiKey(key).name, granted, now=now)[0]


def signed_jwt(
    client_id: str | None, granted: Capability, *, key: str = KEY, now: int = NOW, grant_issued: object = NOW
) -> str:
    claims = {"aiohttp-ably.grant-issued": grant_issued}
    return sign_jwt(
        ApiKey(key), capability=granted, client_id=client_id, issued=now, expires=now + 3600, claims=claims
    )


def session_cookie(client_id: str | None, granted: Capability, *, key: str = KEY) -> str:
    entry = {"client": client_id, "key": ApiKey(key).name, "capability": granted.to_dict()}
    text = json.dumps({"created": NOW, "session": {"ably": entry}})
    return Fernet(SESSION_KEY).encrypt(text.encode()).decode()


NOT_VALID, LONG_AGO = only_granted("not valid"), NOW - 10_000_000
# For this client, another or none; under another key; expired.
GRANTS = [
    *(
        signed_grant(who, only_granted(who), encrypt=hide)
        for who in ("alice", "bob", None)
        for hide in (False, True)
    ),
    signed_grant("alice", NOT_VALID, key=OTHER_KEY),
    signed_grant("alice", NOT_VALID, now=LONG_AGO),
]
TOKENS = [
    *(signed_jwt(who, only_granted(who)) for who in ("alice", "bob", None)),
    signed_jwt("alice", NOT_VALID, key=OTHER_KEY),
    signed_jwt("alice", NOT_VALID, now=LONG_AGO),
    signed_jwt("alice", NOT_VALID, grant_issued="now"),
    signed_jwt("alice", NOT_VALID, grant_issued=LONG_AGO),
]
SESSIONS = [session_cookie("alice", only_granted("alice")), session_cookie("bob", only_granted("bob"))]
SESSIONS += [session_cookie("alice", NOT_VALID, key=OTHER_KEY), session_cookie(None, NOT_VALID)]

text = st.text(max_size=20)
operation = st.sampled_from(["publish", "subscribe", "presence", "history", "*", "publis", "", "stats"])
resource = (
    st.sampled_from(
        [
            "chat:1",
            "chat:2",
            "chat:secret",
            "chat:*",
            "*",
            "granted:alice",
            "lobby",
            "chat:1:2",
            "[meta]chat:1",
            "[*]*",
        ]
    )
    | st.sampled_from(["[?rewind=1]chat:1", ":chat", "chat:", "", "chat:\n", "chat:ü", "chat:it's", "CHAT:1"])
    | text
)
capability = st.dictionaries(resource, st.lists(operation, max_size=4) | operation, max_size=4)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated(draw: st.DrawFn, source: st.SearchStrategy[str]) -> str:
    """A string of `source` in which a few characters are replaced or removed."""
    whole = draw(source)
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, min(start + 4, len(whole))))
    return (
        whole[:start]
        + draw(st.sampled_from(["", "A", '"', "}", ".", "{", ",", "\\ud800", "%00"]))
        + whole[end:]
    )


def often_mutated(source: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return source | source | mutated(source)


capability_text = often_mutated(capability.map(json.dumps) | capability.map(repr)) | junk.map(json.dumps)
credential = often_mutated(st.sampled_from(GRANTS + TOKENS)) | text
grants = often_mutated(st.sampled_from(GRANTS))
SENT_GRANTS = {
    "session": st.tuples(
        st.just("Cookie"), often_mutated(st.sampled_from(SESSIONS)).map("AIOHTTP_SESSION={}".format)
    ),
    "signed": st.tuples(st.just("Cookie"), grants.map("ably_grant={}".format)),
    "encrypted": st.tuples(st.just("Ably-Grant"), grants),
    "jwt": st.tuples(st.just("Ably-Grant"), often_mutated(st.sampled_from(TOKENS))),
}
"""How a client of each app sends what was granted to it."""
PARAMS: dict[str, st.SearchStrategy[str]] = {
    "capability": capability_text,
    "channel": resource,
    "operations": st.lists(operation, max_size=3).map(",".join),
    "drop": resource | st.lists(resource, max_size=3).map(json.dumps),
    "ttl": st.sampled_from(["3600000", "1", "0", "-1", "1e9", "1:00:00", "undefined", "nan", "9" * 400])
    | text,
    "clientId": st.sampled_from(["alice", "bob", "*", "", "undefined", "null"]) | text,
    "client_id": st.sampled_from(["alice", "bob", ""]),
    "token": credential,
    "capability[chat:1][]": operation,
    "timestamp": text,
    "nonce": text,
    "mac": text,
    "keyName": text,
    "format": st.sampled_from(["json", "msgpack"]),
}
pair = st.sampled_from(sorted(PARAMS)).flatmap(lambda name: st.tuples(st.just(name), PARAMS[name]))
pairs = st.lists(pair | pair | pair | st.tuples(text, text), max_size=4)
HEADERS: dict[str, st.SearchStrategy[str]] = {
    "Ably-Capability": capability_text.map(quote) | text,
    "X-Ably-ClientId": text.map(lambda one: base64.b64encode(one.encode("utf-8", "replace")).decode()) | text,
    "Ably-Grant": credential | st.just(""),
    "Cookie": credential.map("ably_grant={}".format) | text,
    "Prefer": st.sampled_from(["handling=strict", "handling=lenient", "respond-async; handling=strict"])
    | text,
    "Accept": st.sampled_from(["application/jwt", "application/json, text/plain", "*/*"]) | text,
    "Origin": st.sampled_from(["http://app.example", "https://evil.example", "null", "http://[", "a b"])
    | text,
    "Sec-Fetch-Site": st.sampled_from(["same-origin", "cross-site", "none"]),
    "User-Agent": st.sampled_from(["Ruby", "ably-cocoa/1.2"]) | text,
    "Access-Control-Request-Headers": st.sampled_from(["authorization", "x\ty"]) | text,
}
header = st.sampled_from(sorted(HEADERS)).flatmap(lambda name: st.tuples(st.just(name), HEADERS[name]))


def in_url(value: str) -> str:
    return quote(value, safe="{}:,*[]'\"", errors="surrogatepass").replace('"', "%22").replace("'", "%27")


def encoded(chosen: list[tuple[str, str]]) -> str:
    return "&".join(f"{in_url(name)}={in_url(value)}" for name, value in chosen)


def in_header(value: str) -> bytes:
    """`value` without the control characters that no header may contain."""
    raw = value.encode("utf-8", "replace")
    return bytes(byte for byte in raw if byte >= 0x20 and byte != 0x7F).strip()


@st.composite
def requests(draw: st.DrawFn) -> Request:
    app = draw(st.sampled_from(APPS))
    method = draw(st.sampled_from(["GET"] * 8 + ["POST"] * 8 + ["OPTIONS", "PUT", "HEAD"]))
    headers = draw(st.lists(header, max_size=3, unique_by=lambda one: one[0]))
    if app in SENT_GRANTS and draw(st.booleans()):
        sent = draw(SENT_GRANTS[app])
        headers = [one for one in headers if one[0] != sent[0]] + [sent]
    user = draw(st.sampled_from(["alice", "alice", "alice", "bob", None]))
    query = draw(st.one_of(pairs.map(encoded), st.text("abc=&%?+[]{}:0", max_size=30)))
    body = b""
    if method in ("POST", "PUT"):
        kind, body = draw(st.one_of(forms(), documents(), blobs()))
        headers.append(("Content-Type", kind))
    wire = [(name, in_header(value)) for name, value in headers]
    if draw(st.integers(0, 4)) == 0:
        wire.append(("Prefer", b"handling=strict"))
    if user is not None:
        wire.append(("X-User", user.encode()))
    return Request(app, method, query, wire, body)


def forms() -> st.SearchStrategy[tuple[str, bytes]]:
    kind = "application/x-www-form-urlencoded"
    one = pairs.map(
        lambda chosen: "&".join(
            f"{quote_plus(a, errors='replace')}={quote_plus(b, errors='replace')}" for a, b in chosen
        )
    )
    return st.tuples(
        st.sampled_from([kind, f"{kind}; charset=utf-8", f"{kind}; charset=klingon"]), one.map(str.encode)
    )


def documents() -> st.SearchStrategy[tuple[str, bytes]]:
    members = st.dictionaries(
        st.sampled_from(sorted(PARAMS)) | text, junk | capability | pair.map(lambda one: one[1]), max_size=4
    )
    written = often_mutated((members | junk).map(json.dumps))
    return st.tuples(st.just("application/json"), written.map(lambda one: one.encode("utf-8", "replace")))


def blobs() -> st.SearchStrategy[tuple[str, bytes]]:
    kinds = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    kinds += ["text/plain", "application/x-msgpack", "", ";", 'application/json; charset="utf-16']
    return st.tuples(st.sampled_from(kinds), st.binary(max_size=60))


async def determined(auth: aiohttp_ably.AuthRequest) -> dict[str, Any]:
    return {"chat:1": ROOM_OPERATIONS, "chat:2": ROOM_OPERATIONS}


def all_apps(store: MemoryStore) -> web.Application:
    """An app with a sub-app for each strategy and store."""
    strategies = {
        "determined": ServerDetermined(determined, base=BASE),
        "memory": ServerStored(rooms(), store=store, base=BASE),
        "session": ServerStored(rooms(), store=SessionStore(), base=BASE),
        "client": ClientStored(rooms(), base=BASE),
        "signed": ClientSigned(rooms(), secret=SECRET, base=BASE),
        "encrypted": ClientSigned(rooms(), secret=SECRET, encrypt=True, base=BASE),
        "jwt": ClientSigned(rooms(), store=JWTStore(), base=BASE),
    }
    root = web.Application()
    for name in APPS:
        app = web.Application()
        if name == "session":
            aiohttp_session.setup(app, EncryptedCookieStorage(Fernet(SESSION_KEY)))
        issuer = JWTIssuer() if name in ("jwt", "client") else None
        aiohttp_ably.setup(
            app,
            key=KEY,
            identify=by_header,
            strategy=strategies[name],
            issuer=issuer,
            path="/auth",
            anonymous=name in ("signed", "jwt", "client"),
            clock=lambda: NOW,
        )
        root.add_subapp(f"/{name}", app)
    return root


@settings(max_examples=500)
@given(pairs.map(encoded) | st.text("ab=&%+fFeE28c;:", max_size=30) | st.text(max_size=10).map(quote))
def test_a_query_is_read_as_strictly_as_a_form(text: str) -> None:
    """yarl decodes an invalid encoding leniently; the auth route does not."""

    def read(how: Any, what: Any) -> Any:
        try:
            return how(what)
        except BadRequest:
            return None

    assert read(read_query, URL.build(path="/", query_string=text, encoded=True)) == read(
        read_form, text.encode()
    )


class Served:
    """The app on a port. Each request has its own connection."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.loop = asyncio.new_event_loop()
        self.runner = web.AppRunner(all_apps(self.store), access_log=None)
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.port = self.runner.addresses[0][1]

    def send(self, request: Request) -> Answer:
        self.store._granted = {(ApiKey(KEY).name, who): only_granted(who) for who in ("alice", "bob")}
        return self.loop.run_until_complete(self._send(request.wire()))

    async def _send(self, wire: bytes) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(wire)
            return Answer.parse(await asyncio.wait_for(reader.read(), 10))
        finally:
            writer.close()
            await writer.wait_closed()

    def close(self) -> None:
        self.loop.run_until_complete(self.runner.cleanup())
        self.loop.close()


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served()
    yield server
    server.close()


def check_error(answer: Answer) -> None:
    """The answer is an error in the form of Ably, with a code that SDKs do not take for a token error."""
    assert 400 <= answer.status < 500, answer
    error = json.loads(answer.body)["error"]
    assert error.keys() == {"message", "code", "statusCode", "href"}
    assert error["statusCode"] == answer.status
    assert error["code"] not in FORBIDDEN_CODES
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-ably-errorcode"] == str(error["code"])
    assert answer.headers["x-ably-errormessage"]


def check_token(request: Request, answer: Answer) -> Capability:
    """The capability of the token, which is for this client and within its rules and grants."""
    user = dict(request.headers).get("X-User")
    client_id = user.decode() if user else None
    if answer.headers["content-type"] == "application/jwt":
        claims = verify_jwt(answer.body.decode(), KEYS, now=NOW)
        capability, client = claims.capability, claims.client_id
    else:
        assert answer.headers["content-type"] == "application/json"
        members = json.loads(answer.body)
        if "token" in members:
            verify_jwt(members["token"], KEYS, now=NOW)
        else:
            assert verify_token_request(members, KEYS).name == members["keyName"]
            assert 60_000 <= members["ttl"] <= 24 * 3_600_000
            assert members["timestamp"] == NOW * 1000
        capability, client = Capability.parse(members["capability"]), members.get("clientId")
    assert client == client_id
    assert capability
    for name, operations in capability.items():
        if name == "lobby":
            assert operations == {"subscribe"}
        elif name.startswith("granted:"):
            assert only_granted(client_id).get(name) == operations
            assert request.app not in ("determined", "client")
        else:
            kind, _, room = name.partition(":")
            assert (kind, ":" in room, room in ("", "*")) == ("chat", False, False), name
            assert not room.startswith("secret")
            assert operations <= ROOM_OPERATIONS
    return capability


def test_no_request_makes_the_route_fail_or_grants_too_much(served: Served) -> None:
    seen: Counter[int] = Counter()
    with_grant: Counter[str] = Counter()

    @settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
    @given(requests())
    def send(request: Request) -> None:
        answer = served.send(request)
        seen[answer.status] += 1
        wire = repr(answer)
        for secret in (KEY, OTHER_KEY):
            assert secret.partition(":")[2] not in wire
        assert SECRET not in wire
        if request.method in ("OPTIONS", "HEAD") and answer.status == 200:
            assert answer.body == b""
        elif answer.status == 200:
            carried = check_token(request, answer)
            with_grant[request.app] += any(name.startswith("granted:") for name in carried)
        elif request.method == "HEAD":
            assert answer.status < 500
        else:
            check_error(answer)
        assert "no-store" in answer.headers["cache-control"]

    send()
    assert set(seen) >= {200, 400, 401, 403, 405}
    assert seen[200] > CASES / 5
    assert with_grant["memory"] > 0
    assert sum(with_grant[app] for app in SENT_GRANTS) > 0
