"""The contract of all strategies, as a client sees it, then the tests of single ones."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp_session
import pytest
from aiohttp import web
from apps import (
    BASE,
    KEY,
    ROOM,
    SECRET,
    SECRET_ROOM,
    Client,
    GrantClient,
    auth_of,
    denied,
    error,
    install,
    make_app,
    request_token,
    rooms,
    token_capability,
)
from own_parts import BlockingStrategy, DictStore, ShortIssuer
from redis_server import RedisServer

from aiohttp_ably import (
    AuthRequest,
    Capability,
    ChannelRules,
    ClientSigned,
    ClientStored,
    JWTIssuer,
    JWTStore,
    MemoryStore,
    RedisStore,
    ServerDetermined,
    ServerStored,
    SessionStore,
    SignedStore,
    Strategy,
    TokenRequestIssuer,
    UsageError,
    setup,
)

WHOLE_LIST = {**BASE, "chat:1": ["presence", "publish", "subscribe"]}


@dataclass
class Kind:
    """A strategy with a store, and an app for it.

    `stores` is whether it stores what was granted, `requests` whether a client can request more. `options`
    are those of `setup()`. `sends_grant` is whether the client sends its grant in the header `Ably-Grant`.
    """

    name: str
    make: Callable[..., Strategy]
    stores: bool = False
    requests: bool = True
    options: Callable[[], dict[str, Any]] = dict
    has_sessions: bool = False
    sends_grant: bool = False


def _determined(authorize: Any = None, base: Any = BASE, **options: Any) -> Strategy:
    """A strategy whose list is the part of room 1 that `authorize` allows."""

    async def resolve(auth: AuthRequest) -> Any:
        return await authorize(auth, Capability({"chat:1": ["publish", "subscribe", "presence"]}))

    return ServerDetermined(resolve, base=base, **options)


def _with(strategy: Callable[..., Strategy], **fixed: Callable[[], Any]) -> Callable[..., Strategy]:
    def make(authorize: Any = None, base: Any = BASE, **options: Any) -> Strategy:
        made = {name: value() for name, value in fixed.items()}
        return strategy(authorize or rooms(), base=base, **made, **options)

    return make


KINDS = [
    Kind(
        "server determined",
        lambda authorize=None, **options: _determined(authorize or rooms(), **options),
        requests=False,
    ),
    Kind("server stored", _with(ServerStored, store=MemoryStore), stores=True),
    Kind(
        "server stored in a session", _with(ServerStored, store=SessionStore), stores=True, has_sessions=True
    ),
    Kind("client stored", _with(ClientStored)),
    Kind("client signed", _with(ClientSigned, secret=lambda: SECRET), stores=True),
    Kind(
        "client signed in a header",
        _with(ClientSigned, secret=lambda: SECRET, encrypt=lambda: True),
        stores=True,
        sends_grant=True,
    ),
    Kind(
        "client signed in a JWT",
        _with(ClientSigned, store=JWTStore),
        stores=True,
        options=lambda: {"issuer": JWTIssuer(jitter=0)},
        sends_grant=True,
    ),
    Kind(
        "an app's own strategy, store and issuer",
        _with(BlockingStrategy),
        stores=True,
        options=lambda: {"issuer": ShortIssuer()},
    ),
]
STORING = [kind for kind in KINDS if kind.stores]
REQUESTING = [kind for kind in KINDS if kind.requests]


def each(kinds: list[Kind]) -> Any:
    return pytest.mark.parametrize("kind", kinds, ids=[kind.name for kind in kinds])


@pytest.fixture
def start(aiohttp_client: Any) -> Callable[..., Awaitable[Client]]:
    async def start(strategy: Strategy, **options: Any) -> Client:
        return await aiohttp_client(make_app(strategy, **options))

    return start


@pytest.fixture
def client_of(aiohttp_client: Any) -> Callable[..., Awaitable[Client | GrantClient]]:
    async def client_of(kind: Kind, strategy: Strategy, **options: Any) -> Client | GrantClient:
        app = web.Application()
        if kind.has_sessions:
            aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
        install(app, strategy, **{"issuer": TokenRequestIssuer(jitter=0), **kind.options(), **options})
        client = await aiohttp_client(app)
        return GrantClient(client) if kind.sends_grant else client

    return client_of


@each(KINDS)
async def test_token_carries_what_is_requested_and_allowed(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind, kind.make())
    response = await request_token(client, {**BASE, **ROOM})
    assert await token_capability(response) == {**BASE, **ROOM}
    assert denied(response) == {}


@each(KINDS)
async def test_request_without_a_capability_gets_the_base(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind, kind.make())
    assert await token_capability(await request_token(client)) == (BASE if kind.requests else WHOLE_LIST)


@each(KINDS)
async def test_denied_part_is_omitted_and_the_rest_is_granted(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind, kind.make())
    response = await request_token(client, {**BASE, **ROOM, **SECRET_ROOM})
    assert await token_capability(response) == {**BASE, **ROOM}
    assert denied(response) == SECRET_ROOM


@each(KINDS)
async def test_denied_request_leaves_what_was_granted(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind, kind.make())
    response = await request_token(client, SECRET_ROOM)
    assert await token_capability(response) == (BASE if kind.requests else WHOLE_LIST)
    assert denied(response) == SECRET_ROOM


@each(KINDS)
@pytest.mark.parametrize(
    "prefer", [None, "handling=strict", "respond-async, handling=strict", "handling=lenient"]
)
@pytest.mark.parametrize("on_denied", ["omit", "reject"])
async def test_denied_request_is_rejected_when_the_server_or_the_client_wants_it(
    kind: Kind, on_denied: str, prefer: str | None, client_of: Any
) -> None:
    client = await client_of(kind, kind.make(on_denied=on_denied))
    response = await request_token(
        client, {**ROOM, **SECRET_ROOM}, headers={"Prefer": prefer} if prefer else {}
    )
    if (prefer or on_denied) in ("omit", "handling=lenient"):
        assert denied(response) == SECRET_ROOM
    else:
        assert await error(response) == (401, 40160)
        assert "chat:secret" in (await response.json())["error"]["message"]
    after = await token_capability(await request_token(client))
    assert "chat:secret" not in after
    if kind.requests and response.status == 401:
        assert after == BASE


@each(KINDS)
@pytest.mark.parametrize("on_denied", ["omit", "reject"])
@pytest.mark.parametrize("requested", [None, SECRET_ROOM])
async def test_client_without_any_capability_is_forbidden(
    kind: Kind, on_denied: str, requested: Any, client_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = await client_of(kind, kind.make(ChannelRules(), base=None, on_denied=on_denied))
    assert await error(await request_token(client, requested)) == (403, 40300)
    assert (
        "nothing is granted to 'alice', so its SDK stops for good; give the strategy a base=" in caplog.text
    )


@each(KINDS)
async def test_failure_of_authorize_is_503_and_changes_nothing(kind: Kind, client_of: Any) -> None:
    rules, broken = rooms(), False

    async def sometimes(auth: AuthRequest, requested: Capability) -> Capability:
        if broken:
            raise OSError("the database is gone")
        return await rules(auth, requested)

    client = await client_of(kind, kind.make(sometimes))
    before = await token_capability(await request_token(client, {**BASE, **ROOM}))
    broken = True
    assert await error(await request_token(client, {"chat:2": ["publish"]})) == (503, 50300)
    broken = False
    assert (
        await token_capability(await request_token(client, None if kind.stores else {**BASE, **ROOM}))
        == before
    )


@each(KINDS)
async def test_authorize_that_hangs_is_503_after_the_timeout(kind: Kind, client_of: Any) -> None:
    async def hangs(auth: AuthRequest, requested: Capability) -> Capability:
        await asyncio.Event().wait()
        raise AssertionError

    client = await client_of(kind, kind.make(hangs), timeout=0.01)
    assert await error(await request_token(client, ROOM)) == (503, 50300)


@each(KINDS)
@pytest.mark.parametrize("wrong", [None, True, ["chat:1"], "chat:1"])
async def test_authorize_that_returns_no_capability_is_503(
    kind: Kind, wrong: Any, client_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def answers(auth: AuthRequest, requested: Capability) -> Any:
        return wrong

    client = await client_of(
        kind, kind.make(answers) if kind.requests else ServerDetermined(lambda auth: wrong)
    )
    assert await error(await request_token(client, ROOM)) == (503, 50300)
    part = "authorize" if kind.requests else "resolve"
    assert f"{part} returned {type(wrong).__name__}; return what is allowed" in caplog.text


async def test_base_that_returns_no_capability_is_503(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    client = await start(ClientStored(rooms(), base=lambda auth: ["lobby"]))
    for response in (
        await request_token(client, ROOM), await client.get("/may", headers={"X-User": "alice"})
    ):  # fmt: skip
        assert await error(response) == (503, 50300)
        assert (await response.json())["error"]["message"] == "base failed; try again"
    assert caplog.text.count("base returned list; return what is allowed") == 2


@each(KINDS)
async def test_requested_star_is_satisfied_by_any_allowed_operation(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind, kind.make())
    response = await request_token(client, {"chat:1": ["*"]}, headers={"Prefer": "handling=strict"})
    assert (await token_capability(response))["chat:1"] == ["presence", "publish", "subscribe"]
    assert denied(response) == {}


@each(REQUESTING)
@pytest.mark.parametrize("unusual", ["chat:*", "*", "[meta]chat:1", ":chat", "", "chat:a\nb", "chat:*:x"])
async def test_pattern_or_unusual_name_is_denied_without_allow_wildcards(
    kind: Kind, unusual: str, client_of: Any
) -> None:
    async def everything(auth: AuthRequest, requested: Capability) -> Capability:
        return requested

    requested = {unusual: ["publish"]}
    assert denied(await request_token(await client_of(kind, kind.make(everything)), requested)) == requested
    wanted = await client_of(kind, kind.make(everything, allow_wildcards=True))
    assert await token_capability(await request_token(wanted, requested)) == {**BASE, **requested}


@each(REQUESTING)
async def test_never_more_is_granted_than_was_requested(kind: Kind, client_of: Any) -> None:
    async def generous(auth: AuthRequest, requested: Capability) -> dict[str, list[str]]:
        return {"*": ["*"]}

    client = await client_of(kind, kind.make(generous))
    assert await token_capability(await request_token(client, ROOM)) == {**BASE, **ROOM}


@each(KINDS)
async def test_base_may_depend_on_the_client(kind: Kind, client_of: Any) -> None:
    async def inbox(auth: AuthRequest) -> Capability:
        return Capability({f"inbox:{auth.client_id}": "subscribe"})

    client = await client_of(kind, kind.make(base=inbox))
    assert (await token_capability(await request_token(client, user="bob")))["inbox:bob"] == ["subscribe"]


@each(STORING)
async def test_only_what_is_not_granted_yet_is_checked(kind: Kind, client_of: Any) -> None:
    calls: list[str] = []
    client = await client_of(kind, kind.make(rooms(calls)))
    await request_token(client, {"chat:1": ["publish"]})
    assert calls == ["chat:1"]
    await request_token(client, {"chat:1": ["publish"], "lobby": ["subscribe"], "chat:2": ["publish"]})
    assert calls == ["chat:1", "chat:2"]
    await request_token(client, {"chat:1": ["publish"], "chat:2": ["publish"]})
    assert calls == ["chat:1", "chat:2"]
    await request_token(client, {"chat:1": ["publish", "subscribe"]})
    assert calls == ["chat:1", "chat:2", "chat:1"]


async def test_client_stored_checks_everything_every_time(start: Any) -> None:
    calls: list[str] = []
    client = await start(ClientStored(rooms(calls), base=BASE))
    for _ in range(2):
        await request_token(client, {"chat:1": ["publish"], "chat:2": ["publish"], "lobby": ["subscribe"]})
    assert calls == ["chat:1", "chat:2"] * 2


@each(STORING)
async def test_renewal_without_a_capability_carries_all_that_was_granted(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind, kind.make())
    await request_token(client, ROOM)
    await request_token(client, {"chat:2": ["subscribe"], **SECRET_ROOM})
    response = await request_token(client)
    assert await token_capability(response) == {**BASE, **ROOM, "chat:2": ["subscribe"]}
    assert denied(response) == {}


async def test_more_than_a_token_can_carry_is_refused_and_the_grant_stays(start: Any) -> None:
    client = await start(ServerStored(rooms(), store=MemoryStore(), base=BASE))
    halves = [{f"chat:{half}{n:0100}": ["publish"] for n in range(700)} for half in "ab"]
    before = await token_capability(await request_token(client, halves[0], method="POST"))
    assert await error(await request_token(client, halves[1], method="POST")) == (413, 40009)
    response = await client.post("/grant", json=halves[1], headers={"X-User": "alice"})
    assert await error(response) == (413, 40009)
    assert await token_capability(await request_token(client)) == before == {**BASE, **halves[0]}


@each(STORING)
async def test_grant_does_not_count_for_another_client(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind, kind.make())
    await request_token(client, ROOM, user="alice")
    assert await token_capability(await request_token(client, user="bob")) == BASE
    assert await token_capability(await request_token(client, {"chat:2": ["publish"]}, user="bob")) == {
        **BASE,
        "chat:2": ["publish"],
    }


@each(STORING)
async def test_released_channels_are_gone_and_the_rest_stays(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind, kind.make())
    await request_token(client, {"chat:1": ["publish"], "chat:2": ["publish"], "chat:3": ["publish"]})
    await request_token(client, params={"drop": '["chat:1","chat:2"]'})
    assert await token_capability(await request_token(client)) == {**BASE, "chat:3": ["publish"]}
    await request_token(client, {"chat:4": ["publish"]}, params={"drop": "chat:3"})
    assert await token_capability(await request_token(client)) == {**BASE, "chat:4": ["publish"]}
    await request_token(client, params={"drop": "chat:9"})
    assert await token_capability(await request_token(client)) == {**BASE, "chat:4": ["publish"]}


@each(STORING)
async def test_release_that_cannot_be_expressed_changes_nothing(kind: Kind, client_of: Any) -> None:
    async def everything(auth: AuthRequest, requested: Capability) -> Capability:
        return requested

    client = await client_of(kind, kind.make(everything, allow_wildcards=True))
    await request_token(client, {"room:*": ["publish"]})
    response = await request_token(client, {"chat:1": ["publish"]}, params={"drop": "room:1"})
    assert await error(response) == (400, 40000)
    assert "'room:*'" in (await response.json())["error"]["message"]
    assert await token_capability(await request_token(client)) == {**BASE, "room:*": ["publish"]}


@pytest.mark.parametrize("for_each", [True, False], ids=["for each client", "the same for all"])
async def test_server_determined_list_is_only_narrowed(for_each: bool, start: Any) -> None:
    whole_list = {"a:1": "*", "a:2": ["subscribe", "publish"]}
    client = await start(ServerDetermined((lambda auth: whole_list) if for_each else whole_list))
    assert await token_capability(await request_token(client, {"a:*": ["subscribe"]})) == {
        "a:1": ["subscribe"],
        "a:2": ["subscribe"],
    }
    assert await token_capability(await request_token(client, {"[?rewind=1]a:1": ["subscribe"]})) == {
        "a:1": ["subscribe"]
    }
    assert await token_capability(await request_token(client, params={"drop": "a:2"})) == {"a:1": ["*"]}
    assert await token_capability(await request_token(client, {"*": ["*"]})) == {
        "a:1": ["*"],
        "a:2": ["publish", "subscribe"],
    }


async def test_concurrent_requests_are_both_stored(start: Any) -> None:
    waiting, both_arrived = 0, asyncio.Event()

    async def waits(auth: AuthRequest, requested: Capability) -> Capability:
        nonlocal waiting
        waiting += 1
        if waiting == 2:
            both_arrived.set()
        await both_arrived.wait()
        return requested

    client = await start(ServerStored(waits, store=MemoryStore()))
    await asyncio.gather(
        request_token(client, {"chat:1": ["publish"]}), request_token(client, {"chat:2": ["publish"]})
    )
    assert await token_capability(await request_token(client)) == {
        "chat:1": ["publish"],
        "chat:2": ["publish"],
    }


@each(REQUESTING)
async def test_anonymous_client_is_granted_nothing_in_a_store_by_client_id(
    kind: Kind, client_of: Any
) -> None:
    strategy = kind.make()
    client = await client_of(kind, strategy, anonymous=True)
    response = await request_token(client, ROOM, user=None)
    assert "clientId" not in await response.json()
    if strategy.store is not None and strategy.store.by_client_id:
        assert await token_capability(response) == BASE
        assert denied(response) == ROOM
    else:
        assert await token_capability(response) == {**BASE, **ROOM}


MISTAKES: list[tuple[str, Callable[[], Any], str]] = [
    (
        "no authorize",
        lambda: ServerStored(None, store=MemoryStore()),
        r"ServerStored needs a function of \(auth, requested\) .* got None",
    ),
    (
        "the class of the rules",
        lambda: ServerStored(ChannelRules, store=MemoryStore()),
        r"or ChannelRules\(\); got <class",
    ),
    (
        "the class of the rules, signed",
        lambda: ClientSigned(ChannelRules, secret=SECRET),
        r"ClientSigned needs .* or ChannelRules\(\); got <class",
    ),
    (
        "the class of a store",
        lambda: ServerStored(rooms(), store=MemoryStore),
        r"got the class MemoryStore; write MemoryStore\(\.\.\.\)",
    ),
    (
        "the class of a client's store",
        lambda: ClientSigned(rooms(), store=JWTStore),
        r"got the class JWTStore; write JWTStore\(\.\.\.\)",
    ),
    (
        "no store",
        lambda: ServerStored(rooms(), store=None),
        r"store= is a CapabilityStore, such as SessionStore\(\) .* got None",
    ),
    ("another object as store", lambda: ServerStored(rooms(), store={}), r"or your own subclass; got \{\}"),
    (
        "another object as signed store",
        lambda: ClientSigned(rooms(), store="redis://"),
        "or your own subclass; got 'redis://'",
    ),
    (
        "a list as the list",
        lambda: ServerDetermined(["lobby"]),
        r"resolve= is a capability or a function of the AuthRequest, got \['lobby'\]",
    ),
    (
        "a list without operations",
        lambda: ServerDetermined({"lobby": True}),
        "the operations on 'lobby' are a list such as .* got True",
    ),
    (
        "a base without operations",
        lambda: ClientStored(rooms(), base={"lobby": True}),
        r"the operations on 'lobby' are a list such as \['subscribe'\], or '\*' for all of them; got True",
    ),
    (
        "a channel as base",
        lambda: ClientStored(rooms(), base="lobby"),
        "base= is a capability or a function of the AuthRequest, got 'lobby'",
    ),
    (
        "neither secret nor store",
        lambda: ClientSigned(rooms()),
        "ClientSigned needs either secret=.* or store=",
    ),
    (
        "secret and store",
        lambda: ClientSigned(rooms(), secret=SECRET, store=JWTStore()),
        "ClientSigned needs either secret=.* or store=",
    ),
    (
        "encrypt and store",
        lambda: ClientSigned(rooms(), encrypt=True, store=JWTStore()),
        "encrypt= and secure= as its options",
    ),
    (
        "secure and store",
        lambda: ClientSigned(rooms(), secure=False, store=JWTStore()),
        "encrypt= and secure= as its options",
    ),
]


@pytest.mark.parametrize(("make", "cure"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_mistake_in_a_strategy_names_the_cure(make: Callable[[], Any], cure: str) -> None:
    with pytest.raises(TypeError, match=cure):
        make()


SETUP_MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("no key", {"key": None}, "key=: .* got None; set the environment variable ABLY_API_KEY"),
    ("the class of a strategy", {"strategy": ClientStored}, r"strategy= is one of ServerDetermined\(\.\.\.\)"),
    ("the class of an issuer", {"issuer": JWTIssuer}, r"issuer= is a TokenRequestIssuer\(\), JWTIssuer\(\)"),
    (
        "a JWT store without JWTs",
        {"strategy": ClientSigned(rooms(), store=JWTStore())},
        r"JWTStore stores grants in the token, so it needs issuer=JWTIssuer\(\)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "cure"), [row[1:] for row in SETUP_MISTAKES], ids=[row[0] for row in SETUP_MISTAKES]
)
def test_mistake_in_the_parts_of_setup_names_the_cure(wrong: dict[str, Any], cure: str) -> None:
    parts = {"key": KEY, "identify": lambda request: None, "strategy": ClientStored(rooms()), **wrong}
    with pytest.raises(ValueError, match=cure):
        setup(web.Application(), **parts)


def test_on_denied_is_omit_or_reject() -> None:
    with pytest.raises(ValueError, match="'omit' nor 'reject'"):
        ClientStored(rooms(), on_denied="ignore")  # type: ignore[arg-type]


async def test_jwt_is_the_grant_of_its_client(aiohttp_client: Any) -> None:
    now = 1_800_000_000.0
    app = web.Application()
    install(
        app,
        ClientSigned(rooms(), store=JWTStore(), base=BASE),
        issuer=JWTIssuer(jitter=0),
        clock=lambda: now,
    )
    client = await aiohttp_client(app)

    first = await (await request_token(client, ROOM)).json()
    second = await (await request_token(client, headers={"Ably-Grant": first["token"]})).json()
    assert Capability.parse(second["capability"]) == Capability({**BASE, **ROOM})
    by_param = await (await request_token(client, method="POST", params={"token": first["token"]})).json()
    assert by_param["capability"] == second["capability"]

    now += 3599
    renewed = await (await request_token(client, headers={"Ably-Grant": first["token"]})).json()
    assert renewed["expires"] == (now + 3600) * 1000, "the expiry of the old token is not inherited"
    assert Capability.parse(renewed["capability"]) == Capability({**BASE, **ROOM})
    for user, token in (("bob", first["token"]), ("alice", first["token"] + "x"), ("alice", "nonsense")):
        response = await request_token(client, user=user, headers={"Ably-Grant": token})
        assert Capability.parse((await response.json())["capability"]) == Capability(BASE)
    now += 1
    response = await request_token(client, headers={"Ably-Grant": first["token"]})
    assert Capability.parse((await response.json())["capability"]) == Capability(BASE), (
        "an expired JWT grants nothing"
    )


async def test_renewals_of_a_jwt_end_at_the_limit(aiohttp_client: Any) -> None:
    now = 1_800_000_000.0
    app = web.Application()
    strategy = ClientSigned(rooms(), store=JWTStore(), base=BASE)
    install(app, strategy, issuer=JWTIssuer(jitter=0), clock=lambda: now)
    client = await aiohttp_client(app)
    token = (await (await request_token(client, ROOM)).json())["token"]
    renewals = 0
    while True:
        now += 3000
        members = await (await request_token(client, headers={"Ably-Grant": token})).json()
        if Capability.parse(members["capability"]) == Capability(BASE):
            break
        token = members["token"]
        renewals += 1
    assert 7 * 24 * 3600 - 3000 <= renewals * 3000 < 7 * 24 * 3600


async def test_jwt_over_the_budget_is_refused_when_it_is_the_grant(aiohttp_client: Any) -> None:
    app = web.Application()
    strategy = ClientSigned(rooms(), store=JWTStore(), base=BASE)
    install(app, strategy, issuer=JWTIssuer(jitter=0, budget=500))
    client = await aiohttp_client(app)
    many = {f"chat:{n}": ["publish"] for n in range(30)}
    assert await error(await request_token(client, many)) == (413, 40009)


@pytest.mark.parametrize("covers_the_request", [True, False])
@each(REQUESTING)
async def test_base_is_never_stored_as_granted(kind: Kind, covers_the_request: bool, client_of: Any) -> None:
    await check_base_is_not_stored(kind, covers_the_request, client_of)


@pytest.mark.parametrize("covers_the_request", [True, False])
async def test_base_is_never_stored_as_granted_in_redis(
    covers_the_request: bool, client_of: Any, redis_server: RedisServer
) -> None:
    store = RedisStore(redis_server.url, prefix=f"base:{covers_the_request}:")
    await check_base_is_not_stored(
        Kind("Redis", _with(ServerStored, store=lambda: store), stores=True), covers_the_request, client_of
    )


async def check_base_is_not_stored(kind: Kind, covers_the_request: bool, client_of: Any) -> None:
    """A client with the rights of an admin loses them with its next token when it is no admin any more."""
    admins = {"alice"}
    rights = {"*": ["*"]} if covers_the_request else {"admin:*": ["*"]}

    def base(auth: AuthRequest) -> dict[str, list[str]]:
        return {**BASE, **rights} if auth.client_id in admins else BASE

    client = await client_of(kind, kind.make(base=base))
    granted = {} if covers_the_request else ROOM
    for requested in (ROOM, ROOM, {"lobby": ["subscribe"], **ROOM}):
        assert await token_capability(await request_token(client, requested)) == {**BASE, **rights, **granted}
    await request_token(client, params={"drop": "chat:9"})
    admins.clear()
    kept = granted if kind.stores else {}
    assert await token_capability(await request_token(client)) == {**BASE, **kept}
    changed = {**BASE, **kept, "chat:2": ["publish"]}
    assert await token_capability(await request_token(client, {"chat:2": ["publish"]})) == changed


@each(STORING)
async def test_base_is_not_stored_by_grant_and_withdraw(kind: Kind, client_of: Any) -> None:
    base = {"lobby": ["*"], "admin:*": ["*"]}
    strategy = kind.make(base=lambda auth: base)
    client = await client_of(kind, strategy)
    alice = {"X-User": "alice"}
    if strategy.store is not None and strategy.store.in_token:
        return  # only the auth route changes a grant that is stored in the token
    for path, body in (("/grant", {"chat:1": ["publish"], "chat:2": ["publish"]}), ("/withdraw", ["chat:2"])):
        assert (await client.post(path, json=body, headers=alice)).status == 200
    base = BASE
    assert await token_capability(await request_token(client)) == {**BASE, **ROOM}


@each(STORING)
@pytest.mark.parametrize("reason", ["the request is denied", "authorize fails", "the store fails"])
async def test_release_does_not_take_effect_when_the_add_fails(
    kind: Kind, reason: str, client_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = rooms()

    async def authorize(auth: AuthRequest, requested: Capability) -> Capability:
        if "chat:broken" in requested:
            raise OSError("the database is gone")
        return await rules(auth, requested)

    async def change(*args: Any, **options: Any) -> Capability:
        raise OSError("the store is gone")

    strategy = kind.make(authorize)
    client = await client_of(kind, strategy)
    await request_token(client, {"chat:1": ["publish"], "chat:2": ["publish"]})
    requested, status = {
        "the request is denied": ({"chat:3": ["publish"], **SECRET_ROOM}, 401),
        "authorize fails": ({"chat:broken": ["publish"]}, 503),
        "the store fails": ({"chat:3": ["publish"]}, 503),
    }[reason]
    with monkeypatch.context() as patch:
        if reason == "the store fails":
            patch.setattr(strategy.store, "change", change)
        response = await request_token(
            client, requested, params={"drop": "chat:1"}, headers={"Prefer": "handling=strict"}
        )
    assert response.status == status
    assert "Set-Cookie" not in response.headers
    assert "Ably-Grant" not in response.headers
    expected = {**BASE, "chat:1": ["publish"], "chat:2": ["publish"]}
    assert await token_capability(await request_token(client)) == expected


@each(STORING)
async def test_release_does_not_take_effect_when_the_result_is_too_large(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind, kind.make())
    await request_token(client, ROOM)
    names = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(1600)]
    halves = [{f"chat:{name}": ["publish"] for name in names[part::2]} for part in (0, 1)]
    # A cookie, header or JWT has no room for the first half, a token no room for both.
    before = {**BASE, **ROOM}
    for half in halves:
        response = await request_token(client, half, params={"drop": "chat:1"}, method="POST")
        if response.status != 200:
            break
        before = {**BASE, **half, **ROOM}
        assert (await request_token(client, ROOM)).status == 200
    assert await error(response) == (413, 40009)
    assert await token_capability(await request_token(client)) == before


async def test_release_and_request_in_one_step_replace_a_channel(start: Any) -> None:
    client = await start(ServerStored(rooms(), store=MemoryStore(), base=BASE))
    await request_token(client, ROOM)
    response = await request_token(client, {"chat:2": ["publish"]}, params={"drop": "chat:1"})
    assert await token_capability(response) == {**BASE, "chat:2": ["publish"]}


async def test_capability_stored_meanwhile_by_another_request_is_in_the_token(start: Any) -> None:
    store = MemoryStore()

    async def authorize(auth: AuthRequest, requested: Capability) -> Capability:
        await store.change(auth, add=Capability({"chat:other": "publish"}))
        return requested

    client = await start(ServerStored(authorize, store=store, base=BASE))
    expected = {**BASE, **ROOM, "chat:other": ["publish"]}
    assert await token_capability(await request_token(client, ROOM)) == expected


async def test_own_strategy_and_issuer_decide_and_issue(aiohttp_client: Any) -> None:
    strategy = BlockingStrategy(rooms(), base=BASE)
    client = await aiohttp_client(make_app(strategy, issuer=ShortIssuer()))
    members = await (await request_token(client, ROOM, params={"ttl": "3600000"})).json()
    assert members["ttl"] == 300_000
    assert isinstance(strategy.store, DictStore)
    assert strategy.store.rows == {("app1.key1", "alice"): ROOM}
    strategy.blocked.add("alice")
    assert await error(await request_token(client)) == (403, 40300)


@each(KINDS)
async def test_capability_for_handlers_is_base_and_granted(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind, kind.make())
    await request_token(client, ROOM)
    response = await client.request("GET", "/may", headers={"X-User": "alice"})
    expected = WHOLE_LIST if not kind.requests else {**BASE, **ROOM} if kind.stores else BASE
    assert await response.json() == expected


@pytest.mark.parametrize(
    "strategy",
    [
        ServerDetermined(BASE),
        ClientStored(rooms()),
        ClientSigned(rooms(), store=JWTStore()),
    ],
    ids=["server determined", "client stored", "JWT"],
)
async def test_strategy_that_a_handler_cannot_change_says_what_to_do(strategy: Strategy) -> None:
    auth = auth_of()
    message = "only the auth route changes it" if strategy.store else "stores nothing: change the list"
    with pytest.raises(UsageError, match=message):
        await strategy.grant(auth, Capability(ROOM))
    with pytest.raises(UsageError, match=message):
        await strategy.withdraw(auth, ("chat:1",))


async def test_client_stored_allows_what_the_base_or_authorize_allows() -> None:
    strategy = ClientStored(rooms(), base=BASE)
    auth = auth_of()
    for operation, resource, expected in (
        ("subscribe", "lobby", True),
        ("publish", "lobby", False),
        ("publish", "chat:1", True),
        ("history", "chat:1", False),
        ("publish", "chat:secret", False),
        ("publish", "chat:*", False),
    ):
        assert await strategy.allows(auth, operation, resource) is expected


def test_client_signed_hands_its_options_to_the_store() -> None:
    strategy = ClientSigned(rooms(), secret=SECRET, secure=True)
    assert isinstance(strategy.store, SignedStore)
    assert (strategy.store.secure, strategy.store.cookie, strategy.store.domain) == (True, "ably_grant", None)
    assert ClientSigned(rooms(), store=strategy.store).store is strategy.store


@pytest.mark.parametrize("encrypt", [False, True])
def test_client_signed_encrypts_the_grant_when_the_server_wants_it(encrypt: bool) -> None:
    store = ClientSigned(rooms(), secret=SECRET, encrypt=encrypt).store
    assert isinstance(store, SignedStore)
    text, _ = store.grants.sign("alice", "app1.key1", Capability(ROOM), now=0)
    assert text.startswith("e") is encrypt


async def failing(*args: Any, **options: Any) -> Any:
    raise OSError("no")


class FailingStore(DictStore):
    """A store whose `load` or `change` fails."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method

    async def load(self, auth: AuthRequest) -> Capability:
        return await failing() if self.method == "load" else Capability()

    async def change(self, auth: AuthRequest, **options: Any) -> Capability:
        return await failing()


PARTS: list[tuple[str, Callable[[], Strategy]]] = [
    ("base", lambda: ClientStored(rooms(), base=failing)),
    ("resolve", lambda: ServerDetermined(failing)),
    ("authorize", lambda: ServerStored(failing, store=MemoryStore())),
    ("the store", lambda: ServerStored(rooms(), store=FailingStore("load"))),
    ("the store", lambda: ServerStored(rooms(), store=FailingStore("change"))),
]


@pytest.mark.parametrize(("part", "make"), PARTS, ids=["base", "resolve", "authorize", "load", "change"])
async def test_error_names_the_part_that_failed(part: str, make: Callable[[], Strategy], start: Any) -> None:
    response = await request_token(await start(make()), ROOM)
    assert await error(response) == (503, 50300)
    assert (await response.json())["error"]["message"] == f"{part} failed; try again"


@pytest.mark.parametrize("path", ["/grant", "/withdraw"])
async def test_error_of_a_handler_names_the_store(path: str, start: Any) -> None:
    client = await start(ServerStored(rooms(), store=FailingStore("change"), base=lambda auth: BASE))
    body: Any = ROOM if path == "/grant" else ["chat:1"]
    response = await client.post(path, json=body, headers={"X-User": "alice"})
    assert await error(response) == (503, 50300)
    assert (await response.json())["error"]["message"] == "the store failed; try again"


async def test_strategy_allows_what_is_granted_and_in_the_base() -> None:
    strategy = ServerStored(rooms(), store=MemoryStore(), base=BASE)
    auth = auth_of()
    await strategy.grant(auth, Capability(ROOM))
    for operation, resource, expected in (
        ("subscribe", "lobby", True), ("publish", "chat:1", True), ("publish", "lobby", False)
    ):  # fmt: skip
        assert await strategy.allows(auth, operation, resource) is expected
    assert await strategy.withdraw(auth, ("chat:1",)) == {}
    assert not await strategy.allows(auth, "publish", "chat:1")
