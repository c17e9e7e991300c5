"""One contract for the four strategies, as a client sees it; then what is particular to some."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import CookieJar, web
from apps import (
    BASE,
    SECRET,
    Client,
    denied,
    error,
    install,
    make_app,
    request_token,
    rooms,
    token_capability,
)

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
async def test_token_carries_what_is_requested_and_allowed(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    response = await request_token(client, {**BASE, **ROOM})
    assert await token_capability(response) == {**BASE, **ROOM}
    assert denied(response) == {}


@each(KINDS)
async def test_request_without_a_capability_gets_the_base(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    assert await token_capability(await request_token(client)) == (BASE if kind.asks else WHOLE_LIST)


@each(KINDS)
async def test_denied_part_is_omitted_and_the_rest_is_granted(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    response = await request_token(client, {**BASE, **ROOM, **SECRET_ROOM})
    assert await token_capability(response) == {**BASE, **ROOM}
    assert denied(response) == SECRET_ROOM


@each(KINDS)
async def test_denied_request_leaves_what_was_granted(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    response = await request_token(client, SECRET_ROOM)
    assert await token_capability(response) == (BASE if kind.asks else WHOLE_LIST)
    assert denied(response) == SECRET_ROOM


@each(KINDS)
@pytest.mark.parametrize(
    "prefer", [None, "handling=strict", "respond-async, handling=strict", "handling=lenient"]
)
@pytest.mark.parametrize("on_denied", ["omit", "reject"])
async def test_denied_request_is_rejected_when_the_server_or_the_client_wants_it(
    kind: Kind, on_denied: str, prefer: str | None, client_of: Any
) -> None:
    client = await client_of(kind.make(on_denied=on_denied))
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
    if kind.asks and response.status == 401:
        assert after == BASE


@each(KINDS)
@pytest.mark.parametrize("on_denied", ["omit", "reject"])
@pytest.mark.parametrize("requested", [None, SECRET_ROOM])
async def test_client_without_any_capability_is_forbidden(
    kind: Kind, on_denied: str, requested: Any, client_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = await client_of(kind.make(ChannelRules(), base=None, on_denied=on_denied))
    assert await error(await request_token(client, requested)) == (403, 40300)
    assert "base=" in caplog.text


@each(KINDS)
async def test_failure_of_authorize_is_503_and_changes_nothing(kind: Kind, client_of: Any) -> None:
    rules, broken = rooms(), False

    async def sometimes(auth: AuthRequest, requested: Capability) -> Capability:
        if broken:
            raise OSError("the database is gone")
        return await rules(auth, requested)

    client = await client_of(kind.make(sometimes))
    before = await token_capability(await request_token(client, {**BASE, **ROOM}))
    broken = True
    assert await error(await request_token(client, {"chat:2": ["publish"]})) == (503, 50300)
    broken = False
    assert (
        await token_capability(await request_token(client, None if kind.keeps else {**BASE, **ROOM}))
        == before
    )


@each(KINDS)
async def test_authorize_that_hangs_is_503_after_the_timeout(kind: Kind, client_of: Any) -> None:
    async def hangs(auth: AuthRequest, requested: Capability) -> Capability:
        await asyncio.Event().wait()
        raise AssertionError

    client = await client_of(kind.make(hangs), timeout=0.01)
    assert await error(await request_token(client, ROOM)) == (503, 50300)


@each(KINDS)
@pytest.mark.parametrize("wrong", [None, True, ["chat:1"], "chat:1"])
async def test_authorize_that_returns_no_capability_is_503(
    kind: Kind, wrong: Any, client_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def answers(auth: AuthRequest, requested: Capability) -> Any:
        return wrong

    client = await client_of(kind.make(answers) if kind.asks else ServerDetermined(lambda auth: wrong))
    assert await error(await request_token(client, ROOM)) == (503, 50300)
    assert f"returned {type(wrong).__name__}" in caplog.text


@each(KINDS)
async def test_requested_star_is_satisfied_by_any_allowed_operation(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    response = await request_token(client, {"chat:1": ["*"]}, headers={"Prefer": "handling=strict"})
    assert (await token_capability(response))["chat:1"] == ["presence", "publish", "subscribe"]
    assert denied(response) == {}


@each(ASKING)
@pytest.mark.parametrize("unusual", ["chat:*", "*", "[meta]chat:1", ":chat", "", "chat:a\nb", "chat:*:x"])
async def test_pattern_or_unusual_name_is_denied_without_allow_wildcards(
    kind: Kind, unusual: str, client_of: Any
) -> None:
    async def everything(auth: AuthRequest, requested: Capability) -> Capability:
        return requested

    requested = {unusual: ["publish"]}
    assert denied(await request_token(await client_of(kind.make(everything)), requested)) == requested
    wanted = await client_of(kind.make(everything, allow_wildcards=True))
    assert await token_capability(await request_token(wanted, requested)) == {**BASE, **requested}


@each(ASKING)
async def test_never_more_is_granted_than_was_requested(kind: Kind, client_of: Any) -> None:
    async def generous(auth: AuthRequest, requested: Capability) -> dict[str, list[str]]:
        return {"*": ["*"]}

    client = await client_of(kind.make(generous))
    assert await token_capability(await request_token(client, ROOM)) == {**BASE, **ROOM}


@each(KINDS)
async def test_base_may_depend_on_the_client(kind: Kind, client_of: Any) -> None:
    async def inbox(auth: AuthRequest) -> Capability:
        return Capability({f"inbox:{auth.client_id}": "subscribe"})

    client = await client_of(kind.make(base=inbox))
    assert (await token_capability(await request_token(client, user="bob")))["inbox:bob"] == ["subscribe"]


@each(KEEPING)
async def test_only_what_is_not_granted_yet_is_checked(kind: Kind, client_of: Any) -> None:
    calls: list[str] = []
    client = await client_of(kind.make(rooms(calls)))
    await request_token(client, {"chat:1": ["publish"]})
    assert calls == ["chat:1"]
    await request_token(client, {"chat:1": ["publish"], "lobby": ["subscribe"], "chat:2": ["publish"]})
    assert calls == ["chat:1", "chat:2"]
    await request_token(client, {"chat:1": ["publish"], "chat:2": ["publish"]})
    assert calls == ["chat:1", "chat:2"]
    await request_token(client, {"chat:1": ["publish", "subscribe"]})
    assert calls == ["chat:1", "chat:2", "chat:1"]


async def test_client_stored_checks_everything_every_time(client_of: Any) -> None:
    calls: list[str] = []
    client = await client_of(ClientStored(rooms(calls), base=BASE))
    for _ in range(2):
        await request_token(client, {"chat:1": ["publish"], "chat:2": ["publish"], "lobby": ["subscribe"]})
    assert calls == ["chat:1", "chat:2"] * 2


@each(KEEPING)
async def test_renewal_without_a_capability_carries_all_that_was_granted(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    await request_token(client, ROOM)
    await request_token(client, {"chat:2": ["subscribe"], **SECRET_ROOM})
    response = await request_token(client)
    assert await token_capability(response) == {**BASE, **ROOM, "chat:2": ["subscribe"]}
    assert denied(response) == {}


async def test_more_than_a_token_can_carry_is_refused_and_the_grant_stays(client_of: Any) -> None:
    client = await client_of(ServerStored(rooms(), store=MemoryStore(), base=BASE))
    halves = [{f"chat:{half}{n:0100}": ["publish"] for n in range(700)} for half in "ab"]
    held = await token_capability(await request_token(client, halves[0], method="POST"))
    assert await error(await request_token(client, halves[1], method="POST")) == (413, 40009)
    response = await client.post("/grant", json=halves[1], headers={"X-User": "alice"})
    assert await error(response) == (413, 40009)
    assert await token_capability(await request_token(client)) == held == {**BASE, **halves[0]}


@each(KEEPING)
async def test_grant_does_not_count_for_another_client(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    await request_token(client, ROOM, user="alice")
    assert await token_capability(await request_token(client, user="bob")) == BASE
    assert await token_capability(await request_token(client, {"chat:2": ["publish"]}, user="bob")) == {
        **BASE,
        "chat:2": ["publish"],
    }


@each(KEEPING)
async def test_released_channels_are_gone_and_the_rest_stays(kind: Kind, client_of: Any) -> None:
    client = await client_of(kind.make())
    await request_token(client, {"chat:1": ["publish"], "chat:2": ["publish"], "chat:3": ["publish"]})
    await request_token(client, params={"drop": '["chat:1","chat:2"]'})
    assert await token_capability(await request_token(client)) == {**BASE, "chat:3": ["publish"]}
    await request_token(client, {"chat:4": ["publish"]}, params={"drop": "chat:3"})
    assert await token_capability(await request_token(client)) == {**BASE, "chat:4": ["publish"]}
    await request_token(client, params={"drop": "chat:9"})
    assert await token_capability(await request_token(client)) == {**BASE, "chat:4": ["publish"]}


@each(KEEPING)
async def test_release_that_cannot_be_expressed_changes_nothing(kind: Kind, client_of: Any) -> None:
    async def everything(auth: AuthRequest, requested: Capability) -> Capability:
        return requested

    client = await client_of(kind.make(everything, allow_wildcards=True))
    await request_token(client, {"room:*": ["publish"]})
    response = await request_token(client, {"chat:1": ["publish"]}, params={"drop": "room:1"})
    assert await error(response) == (400, 40000)
    assert "'room:*'" in (await response.json())["error"]["message"]
    assert await token_capability(await request_token(client)) == {**BASE, "room:*": ["publish"]}


@pytest.mark.parametrize("of_each", [True, False], ids=["of each client's own", "the same for all"])
async def test_server_determined_list_is_only_narrowed(of_each: bool, client_of: Any) -> None:
    its_list = {"a:1": "*", "a:2": ["subscribe", "publish"]}
    client = await client_of(ServerDetermined((lambda auth: its_list) if of_each else its_list))
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


async def test_concurrent_requests_are_both_stored(client_of: Any) -> None:
    waiting, both_are_here = 0, asyncio.Event()

    async def waits(auth: AuthRequest, requested: Capability) -> Capability:
        nonlocal waiting
        waiting += 1
        if waiting == 2:
            both_are_here.set()
        await both_are_here.wait()
        return requested

    client = await client_of(ServerStored(waits, store=MemoryStore()))
    await asyncio.gather(
        request_token(client, {"chat:1": ["publish"]}), request_token(client, {"chat:2": ["publish"]})
    )
    assert await token_capability(await request_token(client)) == {
        "chat:1": ["publish"],
        "chat:2": ["publish"],
    }


@each(ASKING)
async def test_anonymous_client_is_granted_nothing_in_a_store_by_client_id(
    kind: Kind, client_of: Any
) -> None:
    client = await client_of(kind.make(), anonymous=True)
    response = await request_token(client, ROOM, user=None)
    assert "clientId" not in await response.json()
    if kind.name == "server stored":
        assert await token_capability(response) == BASE
        assert denied(response) == ROOM
    else:
        assert await token_capability(response) == {**BASE, **ROOM}


@pytest.mark.parametrize("make", [
    lambda: ServerStored(None, store=MemoryStore()),  # type: ignore[arg-type]
    lambda: ServerStored(rooms(), store=object()),  # type: ignore[arg-type]
    lambda: ServerDetermined(["lobby"]),  # type: ignore[arg-type]
    lambda: ClientSigned(rooms()),
    lambda: ClientSigned(rooms(), secret=SECRET, store=JWTStore()),
    lambda: ClientStored(rooms(), base="lobby"),  # type: ignore[arg-type]
])  # fmt: skip
def test_mistake_in_a_strategy_names_the_cure(make: Callable[[], Strategy]) -> None:
    with pytest.raises(TypeError):
        make()


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
    assert renewed["expires"] == (now + 3600) * 1000, "the old token's expiry is not inherited"
    assert Capability.parse(renewed["capability"]) == Capability({**BASE, **ROOM})
    for user, token in (("bob", first["token"]), ("alice", first["token"] + "x"), ("alice", "nonsense")):
        response = await request_token(client, user=user, headers={"Ably-Grant": token})
        assert Capability.parse((await response.json())["capability"]) == Capability(BASE)
    now += 1
    response = await request_token(client, headers={"Ably-Grant": first["token"]})
    assert Capability.parse((await response.json())["capability"]) == Capability(BASE), (
        "expired: nothing held"
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
