"""One contract for the four strategies, as a client sees it; then what is particular to some."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import CookieJar, web
from apps import BASE, SECRET, Client, ask, denied, error, granted, install, make_app, rooms

from aiohttp_ably import (
    AuthRequest,
    Capability,
    ChannelRules,
    ClientSigned,
    ClientStored,
    JWTIssuer,
    JWTStore,
    MemoryStore,
    ServerDetermined,
    ServerStored,
    Strategy,
)

ROOM = {"chat:1": ["publish"]}
SECRET_ROOM = {"chat:secret": ["publish"]}
WHOLE_LIST = {**BASE, "chat:1": ["presence", "publish", "subscribe"]}


@dataclass
class Kind:
    """A strategy of one kind, made for a test."""

    name: str
    make: Callable[..., Strategy]
    keeps: bool = False
    asks: bool = True
    options: Callable[[], dict[str, Any]] = dict


def _determined(authorize: Any = None, base: Any = BASE, **options: Any) -> Strategy:
    """Its list is what `authorize` allows of room 1; nothing else is ever asked of it."""
    options.pop("allow_wildcards", None)

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
        asks=False,
    ),
    Kind("server stored", _with(ServerStored, store=MemoryStore), keeps=True),
    Kind("client stored", _with(ClientStored)),
    Kind("client signed", _with(ClientSigned, secret=lambda: SECRET), keeps=True),
]
KEEPING = [kind for kind in KINDS if kind.keeps]
ASKING = [kind for kind in KINDS if kind.asks]


def each(kinds: list[Kind]) -> Any:
    return pytest.mark.parametrize("kind", kinds, ids=[kind.name for kind in kinds])


@pytest.fixture
def client_of(aiohttp_client: Any) -> Callable[..., Awaitable[Client]]:
    async def client_of(strategy: Strategy, **options: Any) -> Client:
        return await aiohttp_client(make_app(strategy, **options), cookie_jar=CookieJar(unsafe=True))

    return client_of


@each(KINDS)
async def test_what_is_asked_and_allowed_is_in_the_token(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    response = await ask(client, {**BASE, **ROOM})
    assert await granted(response) == {**BASE, **ROOM}
    assert denied(response) == {}


@each(KINDS)
async def test_who_asks_for_nothing_gets_what_everybody_has(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    assert await granted(await ask(client)) == (BASE if kind.asks else WHOLE_LIST)


@each(KINDS)
async def test_a_denied_part_costs_nothing_else(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    response = await ask(client, {**BASE, **ROOM, **SECRET_ROOM})
    assert await granted(response) == {**BASE, **ROOM}
    assert denied(response) == SECRET_ROOM


@each(KINDS)
async def test_a_denied_ask_alone_leaves_what_one_has(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    response = await ask(client, SECRET_ROOM)
    assert await granted(response) == (BASE if kind.asks else WHOLE_LIST)
    assert denied(response) == SECRET_ROOM


@each(KINDS)
@pytest.mark.parametrize(
    "prefer", [None, "handling=strict", "respond-async, handling=strict", "handling=lenient"]
)
@pytest.mark.parametrize("on_denied", ["omit", "reject"])
async def test_a_denied_ask_is_refused_when_server_or_client_says_so(
    kind: Kind, on_denied: str, prefer: str | None, client_of: Any
) -> None:
    client = await client_of(kind.make(on_denied=on_denied))
    response = await ask(client, {**ROOM, **SECRET_ROOM}, headers={"Prefer": prefer} if prefer else {})
    if (prefer or on_denied) in ("omit", "handling=lenient"):
        assert denied(response) == SECRET_ROOM
    else:
        assert await error(response) == (401, 40160)
        assert "chat:secret" in (await response.json())["error"]["message"]
    after = await granted(await ask(client))
    assert "chat:secret" not in after
    if kind.asks and response.status == 401:
        assert after == BASE


@each(KINDS)
@pytest.mark.parametrize("on_denied", ["omit", "reject"])
@pytest.mark.parametrize("requested", [None, SECRET_ROOM])
async def test_when_nothing_is_left_an_sdk_is_told_to_stop(
    kind: Kind, on_denied: str, requested: Any, client_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = await client_of(kind.make(ChannelRules(), base=None, on_denied=on_denied))
    assert await error(await ask(client, requested)) == (403, 40300)
    assert "base=" in caplog.text


@each(KINDS)
async def test_an_outage_is_503_and_changes_nothing(kind: Kind, client_of: Any) -> None:
    rules, broken = rooms(), False

    async def sometimes(auth: AuthRequest, requested: Capability) -> Capability:
        if broken:
            raise OSError("the database is gone")
        return await rules(auth, requested)

    client = await client_of(kind.make(sometimes))
    before = await granted(await ask(client, {**BASE, **ROOM}))
    broken = True
    assert await error(await ask(client, {"chat:2": ["publish"]})) == (503, 50300)
    broken = False
    assert await granted(await ask(client, None if kind.keeps else {**BASE, **ROOM})) == before


@each(KINDS)
async def test_what_hangs_is_given_up_in_time(kind: Kind, client_of: Any) -> None:
    async def hangs(auth: AuthRequest, requested: Capability) -> Capability:
        await asyncio.Event().wait()
        raise AssertionError

    client = await client_of(kind.make(hangs), timeout=0.01)
    assert await error(await ask(client, ROOM)) == (503, 50300)


@each(KINDS)
@pytest.mark.parametrize("wrong", [None, True, ["chat:1"], "chat:1"])
async def test_an_answer_that_is_none_is_an_outage(
    kind: Kind, wrong: Any, client_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def answers(auth: AuthRequest, requested: Capability) -> Any:
        return wrong

    client = await client_of(kind.make(answers) if kind.asks else ServerDetermined(lambda auth: wrong))
    assert await error(await ask(client, ROOM)) == (503, 50300)
    assert f"returned {type(wrong).__name__}" in caplog.text


@each(KINDS)
async def test_star_asks_for_all_one_may_have_and_any_answer_meets_it(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    response = await ask(client, {"chat:1": ["*"]}, headers={"Prefer": "handling=strict"})
    assert (await granted(response))["chat:1"] == ["presence", "publish", "subscribe"]
    assert denied(response) == {}


@each(ASKING)
@pytest.mark.parametrize("unusual", ["chat:*", "*", "[meta]chat:1", ":chat", "", "chat:a\nb", "chat:*:x"])
async def test_a_pattern_or_unusual_name_is_denied_unless_the_server_wants_it(
    kind: Kind, unusual: str, client_of: Any
) -> None:
    async def everything(auth: AuthRequest, requested: Capability) -> Capability:
        return requested

    requested = {unusual: ["publish"]}
    assert denied(await ask(await client_of(kind.make(everything)), requested)) == requested
    wanted = await client_of(kind.make(everything, allow_wildcards=True))
    assert await granted(await ask(wanted, requested)) == {**BASE, **requested}


@each(ASKING)
async def test_never_more_is_granted_than_was_asked(kind: Kind, client_of: Any) -> None:
    async def generous(auth: AuthRequest, requested: Capability) -> dict[str, list[str]]:
        return {"*": ["*"]}

    client = await client_of(kind.make(generous))
    assert await granted(await ask(client, ROOM)) == {**BASE, **ROOM}


@each(KINDS)
async def test_a_base_may_depend_on_the_client(kind: Kind, client_of: Any) -> None:
    async def inbox(auth: AuthRequest) -> Capability:
        return Capability({f"inbox:{auth.client_id}": "subscribe"})

    client = await client_of(kind.make(base=inbox))
    assert (await granted(await ask(client, user="bob")))["inbox:bob"] == ["subscribe"]


@each(KEEPING)
async def test_only_what_is_not_held_is_checked(kind: Kind, client_of: Any) -> None:
    calls: list[str] = []
    client = await client_of(kind.make(rooms(calls)))
    await ask(client, {"chat:1": ["publish"]})
    assert calls == ["chat:1"]
    await ask(client, {"chat:1": ["publish"], "lobby": ["subscribe"], "chat:2": ["publish"]})
    assert calls == ["chat:1", "chat:2"]
    await ask(client, {"chat:1": ["publish"], "chat:2": ["publish"]})
    assert calls == ["chat:1", "chat:2"]
    await ask(client, {"chat:1": ["publish", "subscribe"]})
    assert calls == ["chat:1", "chat:2", "chat:1"]


async def test_a_stateless_server_checks_everything_every_time(client_of: Any) -> None:
    calls: list[str] = []
    client = await client_of(ClientStored(rooms(calls), base=BASE))
    for _ in range(2):
        await ask(client, {"chat:1": ["publish"], "chat:2": ["publish"], "lobby": ["subscribe"]})
    assert calls == ["chat:1", "chat:2"] * 2


@each(KEEPING)
async def test_a_renewal_that_asks_for_nothing_has_everything_held(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    await ask(client, ROOM)
    await ask(client, {"chat:2": ["subscribe"], **SECRET_ROOM})
    response = await ask(client)
    assert await granted(response) == {**BASE, **ROOM, "chat:2": ["subscribe"]}
    assert denied(response) == {}


async def test_more_than_a_token_can_carry_is_refused_and_what_is_held_stays(client_of: Any) -> None:
    client = await client_of(ServerStored(rooms(), store=MemoryStore(), base=BASE))
    halves = [{f"chat:{half}{n:0100}": ["publish"] for n in range(700)} for half in "ab"]
    held = await granted(await ask(client, halves[0], method="POST"))
    assert await error(await ask(client, halves[1], method="POST")) == (413, 40009)
    response = await client.post("/grant", json=halves[1], headers={"X-User": "alice"})
    assert await error(response) == (413, 40009)
    assert await granted(await ask(client)) == held == {**BASE, **halves[0]}


@each(KEEPING)
async def test_nothing_is_carried_over_to_another_client(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    await ask(client, ROOM, user="alice")
    assert await granted(await ask(client, user="bob")) == BASE
    assert await granted(await ask(client, {"chat:2": ["publish"]}, user="bob")) == {
        **BASE,
        "chat:2": ["publish"],
    }


@each(KEEPING)
async def test_what_is_dropped_is_gone_and_the_rest_stays(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    await ask(client, {"chat:1": ["publish"], "chat:2": ["publish"], "chat:3": ["publish"]})
    await ask(client, params={"drop": '["chat:1","chat:2"]'})
    assert await granted(await ask(client)) == {**BASE, "chat:3": ["publish"]}
    await ask(client, {"chat:4": ["publish"]}, params={"drop": "chat:3"})
    assert await granted(await ask(client)) == {**BASE, "chat:4": ["publish"]}
    await ask(client, params={"drop": "chat:9"})
    assert await granted(await ask(client)) == {**BASE, "chat:4": ["publish"]}


@each(KEEPING)
async def test_what_cannot_be_said_is_not_dropped(kind: Kind, client_of: Any) -> None:
    async def everything(auth: AuthRequest, requested: Capability) -> Capability:
        return requested

    client = await client_of(kind.make(everything, allow_wildcards=True))
    await ask(client, {"room:*": ["publish"]})
    response = await ask(client, {"chat:1": ["publish"]}, params={"drop": "room:1"})
    assert await error(response) == (400, 40000)
    assert "'room:*'" in (await response.json())["error"]["message"]
    assert await granted(await ask(client)) == {**BASE, "room:*": ["publish"]}


@pytest.mark.parametrize("of_each", [True, False], ids=["of each client's own", "the same for all"])
async def test_a_list_of_the_server_is_only_narrowed(of_each: bool, client_of: Any) -> None:
    its_list = {"a:1": "*", "a:2": ["subscribe", "publish"]}
    client = await client_of(ServerDetermined((lambda auth: its_list) if of_each else its_list))
    assert await granted(await ask(client, {"a:*": ["subscribe"]})) == {
        "a:1": ["subscribe"],
        "a:2": ["subscribe"],
    }
    assert await granted(await ask(client, {"[?rewind=1]a:1": ["subscribe"]})) == {"a:1": ["subscribe"]}
    assert await granted(await ask(client, params={"drop": "a:2"})) == {"a:1": ["*"]}
    assert await granted(await ask(client, {"*": ["*"]})) == {"a:1": ["*"], "a:2": ["publish", "subscribe"]}


async def test_two_asks_at_once_both_survive(client_of: Any) -> None:
    waiting, both_are_here = 0, asyncio.Event()

    async def waits(auth: AuthRequest, requested: Capability) -> Capability:
        nonlocal waiting
        waiting += 1
        if waiting == 2:
            both_are_here.set()
        await both_are_here.wait()
        return requested

    client = await client_of(ServerStored(waits, store=MemoryStore()))
    await asyncio.gather(ask(client, {"chat:1": ["publish"]}), ask(client, {"chat:2": ["publish"]}))
    assert await granted(await ask(client)) == {"chat:1": ["publish"], "chat:2": ["publish"]}


@each(ASKING)
async def test_an_anonymous_client_may_have_what_is_not_filed_by_client_id(
    kind: Kind, client_of: Any
) -> None:
    client = await client_of(kind.make(), anonymous=True)
    response = await ask(client, ROOM, user=None)
    assert "clientId" not in await response.json()
    if kind.name == "server stored":
        assert await granted(response) == BASE
        assert denied(response) == ROOM
    else:
        assert await granted(response) == {**BASE, **ROOM}


@pytest.mark.parametrize("make", [
    lambda: ServerStored(None, store=MemoryStore()),  # type: ignore[arg-type]
    lambda: ServerStored(rooms(), store=object()),  # type: ignore[arg-type]
    lambda: ServerDetermined(["lobby"]),  # type: ignore[arg-type]
    lambda: ClientSigned(rooms()),
    lambda: ClientSigned(rooms(), secret=SECRET, store=JWTStore()),
    lambda: ClientStored(rooms(), base="lobby"),  # type: ignore[arg-type]
])  # fmt: skip
def test_what_makes_no_strategy_is_refused_at_once(make: Callable[[], Strategy]) -> None:
    with pytest.raises(TypeError):
        make()


def test_what_to_do_when_denied_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="'omit' nor 'reject'"):
        ClientStored(rooms(), on_denied="ignore")  # type: ignore[arg-type]


async def test_a_jwt_is_the_grant_of_its_client(aiohttp_client: Any) -> None:
    now = 1_800_000_000.0
    app = web.Application()
    install(
        app,
        ClientSigned(rooms(), store=JWTStore(), base=BASE),
        issuer=JWTIssuer(jitter=0),
        clock=lambda: now,
    )
    client = await aiohttp_client(app)

    first = await (await ask(client, ROOM)).json()
    second = await (await ask(client, headers={"Ably-Grant": first["token"]})).json()
    assert Capability.parse(second["capability"]) == Capability({**BASE, **ROOM})
    by_param = await (await ask(client, method="POST", params={"token": first["token"]})).json()
    assert by_param["capability"] == second["capability"]

    now += 3599
    renewed = await (await ask(client, headers={"Ably-Grant": first["token"]})).json()
    assert renewed["expires"] == (now + 3600) * 1000, "the old token's expiry is not inherited"
    assert Capability.parse(renewed["capability"]) == Capability({**BASE, **ROOM})
    for user, token in (("bob", first["token"]), ("alice", first["token"] + "x"), ("alice", "nonsense")):
        response = await ask(client, user=user, headers={"Ably-Grant": token})
        assert Capability.parse((await response.json())["capability"]) == Capability(BASE)
    now += 1
    response = await ask(client, headers={"Ably-Grant": first["token"]})
    assert Capability.parse((await response.json())["capability"]) == Capability(BASE), (
        "expired: nothing held"
    )


async def test_a_chain_of_jwts_ends(aiohttp_client: Any) -> None:
    now = 1_800_000_000.0
    app = web.Application()
    strategy = ClientSigned(rooms(), store=JWTStore(), base=BASE)
    install(app, strategy, issuer=JWTIssuer(jitter=0), clock=lambda: now)
    client = await aiohttp_client(app)
    token = (await (await ask(client, ROOM)).json())["token"]
    renewals = 0
    while True:
        now += 3000
        members = await (await ask(client, headers={"Ably-Grant": token})).json()
        if Capability.parse(members["capability"]) == Capability(BASE):
            break
        token = members["token"]
        renewals += 1
    assert 7 * 24 * 3600 - 3000 <= renewals * 3000 < 7 * 24 * 3600


async def test_a_jwt_that_must_carry_the_grant_and_cannot_is_refused(aiohttp_client: Any) -> None:
    app = web.Application()
    strategy = ClientSigned(rooms(), store=JWTStore(), base=BASE)
    install(app, strategy, issuer=JWTIssuer(jitter=0, budget=500))
    client = await aiohttp_client(app)
    many = {f"chat:{n}": ["publish"] for n in range(30)}
    assert await error(await ask(client, many)) == (413, 40009)
