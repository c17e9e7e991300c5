"""What the server changes by client id, and how Ably is told: with unmodified SDK clients on the emulator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from ably import AblyRest
from ably.realtime.realtime import AblyRealtime
from ably.types.channelstate import ChannelState
from ably.types.connectionstate import ConnectionState
from aiohttp import ClientSession, web
from apps import BASE, KEY, PATH, SECRET, ask, granted, install, make_app, rooms
from emulator_helpers import bearer
from plain_js import plain_js

from aiohttp_ably import (
    AblyAuth,
    ApiKey,
    Capability,
    ClientSigned,
    ClientStored,
    InvalidCapability,
    JWTIssuer,
    MemoryStore,
    RevocationFailed,
    ServerDetermined,
    ServerStored,
    SessionStore,
    Strategy,
    TokenDetailsIssuer,
    TokenRequestIssuer,
    Unavailable,
    UsageError,
)
from aiohttp_ably.emulator import Emulator
from aiohttp_ably.errors import InvalidClientId
from aiohttp_ably.testing import client_options, realtime_client

ALICE = {"X-User": "alice"}
HELD = {"chat:1": ["publish", "subscribe"]}
REVOCABLE = ApiKey(KEY, revocable=True)
ISSUERS = {"token request": TokenRequestIssuer, "jwt": JWTIssuer}


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """An emulator whose key has revocable tokens."""
    async with Emulator([REVOCABLE]) as emulator:
        yield emulator


def at(emulator: Emulator) -> dict[str, Any]:
    """How the server reaches the emulator."""
    return {"endpoint": emulator.host, "port": emulator.port, "tls": False}


async def serve(
    aiohttp_server: Any, emulator: Emulator, strategy: Strategy | None = None, **options: Any
) -> tuple[AblyAuth, str]:
    """An auth server on the emulator, and the URL of its auth route."""
    app = web.Application()
    strategy = strategy or ServerStored(rooms(), store=MemoryStore(), base=BASE)
    options = {"key": REVOCABLE, "client_options": at(emulator), **options}
    ably = install(app, strategy, **options)
    server = await aiohttp_server(app)
    return ably, str(server.make_url(PATH))


async def may_publish(emulator: Emulator, token: str, channel: str = "chat:1") -> bool:
    """Whether Ably lets the holder of `token` publish; False when the token was revoked."""
    url = f"{emulator.url}/channels/{channel}/messages"
    async with ClientSession(headers=bearer(token)) as session, session.post(url, json={}) as response:
        assert response.status == 201 or response.headers["X-Ably-ErrorCode"] == "40141"
        return response.status == 201


async def token_of(emulator: Emulator, url: str, user: str = "alice") -> str:
    """A token Ably gave for what the auth route answered."""
    async with AblyRest(
        auth_url=url, auth_headers={"X-User": user}, **client_options(emulator, sdk="python")
    ) as rest:
        return str((await rest.auth.authorize()).token)


@pytest.mark.parametrize("issuer", ISSUERS)
async def test_ably_python_has_what_is_granted_and_loses_what_is_withdrawn(
    issuer: str, aiohttp_server: Any, emulator: Emulator
) -> None:
    ably, url = await serve(aiohttp_server, emulator, issuer=ISSUERS[issuer]())
    await ably.grant("alice", HELD, tell=False)
    client: AblyRealtime = realtime_client(emulator, auth_url=url, auth_headers=ALICE)
    await client.connection.once_async(ConnectionState.CONNECTED)
    connection = client.connection.connection_manager.connection_id
    lost, gained = client.channels.get("chat:1"), client.channels.get("chat:2")
    await lost.attach()

    failed = asyncio.ensure_future(lost.once_async(ChannelState.FAILED))
    assert await ably.withdraw("alice", "chat:1") == Capability()
    assert (await failed).reason.code == 40160

    updated = asyncio.ensure_future(client.connection.once_async("update"))
    assert await ably.grant("alice", {"chat:2": "subscribe"}) == Capability({"chat:2": "subscribe"})
    await updated
    await gained.attach()
    assert client.connection.connection_manager.connection_id == connection

    disconnected = asyncio.ensure_future(client.connection.once_async(ConnectionState.DISCONNECTED))
    await ably.revoke("alice")
    assert (await disconnected).reason.code == 40141
    await client.close()


@pytest.mark.parametrize("issuer", ISSUERS)
async def test_ably_js_has_what_is_granted_and_loses_what_is_withdrawn(
    issuer: str, aiohttp_server: Any, emulator: Emulator
) -> None:
    ably, url = await serve(aiohttp_server, emulator, issuer=ISSUERS[issuer]())
    await ably.grant("alice", HELD, tell=False)
    async with plain_js() as js:
        options = {**client_options(emulator), "authUrl": url, "authHeaders": ALICE}
        connection = (await js("connect", options=options))["id"]
        await js("attach", channel="chat:1")

        await ably.withdraw("alice", "chat:1")
        assert await js("channel", channel="chat:1", state="failed") == {"code": 40160}

        await js("until", event="update", times=1)
        await ably.grant("alice", {"chat:2": "subscribe"})
        await js("until", event="update", times=2)
        assert await js("attach", channel="chat:2") == {}
        assert (await js("state"))["id"] == connection

        await ably.revoke("alice")
        await js("until", event="disconnected", times=1)
        await js("until", event="connected", times=2)


@pytest.mark.parametrize("issuer", ISSUERS)
async def test_revocation_ends_the_tokens_there_are_and_spares_those_to_come(
    issuer: str, aiohttp_server: Any, emulator: Emulator
) -> None:
    ably, url = await serve(aiohttp_server, emulator, issuer=ISSUERS[issuer]())
    await ably.grant("alice", HELD, tell=False)
    await ably.grant("bob", HELD, tell=False)
    before, bob = await token_of(emulator, url), await token_of(emulator, url, "bob")
    applies = await ably.revoke("alice")
    after = await token_of(emulator, url)
    assert list(applies) == ["clientId:alice"]
    assert [await may_publish(emulator, token) for token in (before, after, bob)] == [False, True, True]


async def test_clients_asked_to_reauthorize_have_half_a_minute(
    aiohttp_server: Any, emulator: Emulator
) -> None:
    ably, url = await serve(aiohttp_server, emulator)
    await ably.grant("alice", HELD, tell=False)
    token = await token_of(emulator, url)
    now = emulator.clock.now()
    assert (await ably.reauthorize("alice"))["clientId:alice"] > now + 30_000
    assert await may_publish(emulator, token)


async def test_a_group_is_revoked_by_the_key_its_tokens_carry(
    aiohttp_server: Any, emulator: Emulator
) -> None:
    issuer = JWTIssuer(revocation_key=lambda auth: "staff" if auth.client_id == "alice" else None)
    ably, url = await serve(aiohttp_server, emulator, issuer=issuer)
    await ably.grant("alice", HELD, tell=False)
    await ably.grant("bob", HELD, tell=False)
    tokens = [await token_of(emulator, url), await token_of(emulator, url, "bob")]
    assert list(await ably.revoke(groups=["staff"])) == ["revocationKey:staff"]
    assert [await may_publish(emulator, token) for token in tokens] == [False, True]


async def test_a_key_with_revocable_tokens_keeps_them_to_an_hour(aiohttp_client: Any) -> None:
    strategy = ServerStored(rooms(), store=MemoryStore(), base=BASE)
    issuer = TokenRequestIssuer(ttl=timedelta(hours=20), jitter=0)
    for key, longest in ((REVOCABLE, 3_600_000), (ApiKey(KEY), 20 * 3_600_000)):
        client = await aiohttp_client(make_app(strategy, key=key, issuer=issuer))
        assert (await (await ask(client)).json())["ttl"] == longest


async def test_a_key_without_revocable_tokens_is_told_what_to_do(aiohttp_server: Any) -> None:
    async with Emulator([KEY]) as emulator:
        ably, _ = await serve(aiohttp_server, emulator, key=KEY)
        with pytest.raises(RevocationFailed, match=r"40163.*Revocable tokens.*revocable=True") as failure:
            await ably.withdraw("alice", "chat:1")
        assert list(failure.value.failed) == ["clientId:alice"]
        assert SECRET not in str(failure.value)
        assert KEY.partition(":")[2] not in str(failure.value)


async def test_what_is_granted_is_kept_where_the_client_cannot_be_told(
    aiohttp_server: Any, emulator: Emulator, unused_tcp_port: int
) -> None:
    nowhere = {"endpoint": "127.0.0.1", "port": unused_tcp_port, "tls": False}
    store = MemoryStore()
    strategy = ServerStored(rooms(), store=store)
    ably, url = await serve(aiohttp_server, emulator, strategy, client_options=nowhere)
    with pytest.raises(RevocationFailed, match="could not be reached"):
        await ably.grant("alice", HELD)
    async with AblyRest(auth_url=url, auth_headers=ALICE, **client_options(emulator, sdk="python")) as rest:
        details = await rest.auth.authorize()
    assert json.loads(str(details.capability)) == HELD


async def test_telling_nobody_calls_nobody(aiohttp_server: Any, emulator: Emulator) -> None:
    ably, _ = await serve(aiohttp_server, emulator)
    assert await ably.reauthorize() == {}
    assert await ably.grant("alice", HELD, tell=False) == Capability(HELD)
    assert [event for event in emulator.events if event.kind == "tokens revoked"] == []


class FakeAbly:
    """Answers revocations as it is told to, for what the emulator does not do by itself."""

    def __init__(self) -> None:
        self.requested: list[tuple[str, dict[str, Any]]] = []
        self.answer: Callable[[dict[str, Any]], web.Response] = self.revoked

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requested.append((request.match_info["key"], body))
        return self.answer(body)

    @staticmethod
    def revoked(body: dict[str, Any]) -> web.Response:
        results = [{"target": target, "issuedBefore": 1, "appliesAt": 2} for target in body["targets"]]
        answer = {"successCount": len(results), "failureCount": 0, "results": results}
        return web.json_response(answer, status=201)


@pytest.fixture
async def fake(aiohttp_server: Any) -> tuple[FakeAbly, dict[str, Any]]:
    fake, app = FakeAbly(), web.Application()
    app.router.add_post("/keys/{key}/revokeTokens", fake.handle)
    server = await aiohttp_server(app)
    return fake, {"endpoint": "127.0.0.1", "port": server.port, "tls": False}


@pytest.fixture
async def revoker(fake: tuple[FakeAbly, dict[str, Any]], aiohttp_server: Any) -> tuple[AblyAuth, FakeAbly]:
    app = web.Application()
    strategy = ServerStored(rooms(), store=MemoryStore())
    ably = install(app, strategy, key=REVOCABLE, client_options=fake[1], timeout=1)
    await aiohttp_server(app)
    return ably, fake[0]


async def test_a_hundred_are_revoked_at_a_time(revoker: tuple[AblyAuth, FakeAbly]) -> None:
    ably, fake = revoker
    clients = [f"client-{number}" for number in range(205)]
    assert len(await ably.revoke(*clients, groups=["staff"])) == 206
    sent = [body["targets"] for _, body in fake.requested]
    assert [len(targets) for targets in sent] == [100, 100, 6]
    assert [target for targets in sent for target in targets] == [f"clientId:{name}" for name in clients] + [
        "revocationKey:staff"
    ]
    assert {body["allowReauthMargin"] for _, body in fake.requested} == {False}


async def test_what_failed_is_told_for_each_target(revoker: tuple[AblyAuth, FakeAbly]) -> None:
    ably, fake = revoker

    def partly(body: dict[str, Any]) -> web.Response:
        results: list[dict[str, Any]] = [{"target": target, "appliesAt": 7} for target in body["targets"]]
        error = {"code": 40000, "statusCode": 400, "message": "no such thing"}
        results[1] = {"target": body["targets"][1], "error": error}
        return web.json_response(results, status=201)  # the older form of the answer

    fake.answer = partly
    with pytest.raises(RevocationFailed, match=r"'clientId:bob' were not revoked.*no such thing") as failure:
        await ably.revoke("alice", "bob", "carol")
    assert failure.value.revoked == {"clientId:alice": 7, "clientId:carol": 7}
    assert list(failure.value.failed) == ["clientId:bob"]


async def test_a_failed_batch_does_not_stop_the_others(revoker: tuple[AblyAuth, FakeAbly]) -> None:
    ably, fake = revoker

    def first_fails(body: dict[str, Any]) -> web.Response:
        return fake.revoked(body) if len(fake.requested) > 1 else web.Response(status=500)

    fake.answer = first_fails
    with pytest.raises(RevocationFailed) as failure:
        await ably.revoke(*[f"client-{number}" for number in range(150)])
    assert (len(failure.value.failed), len(failure.value.revoked)) == (100, 50)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: web.Response(status=503), id="503"),
        pytest.param(lambda: web.Response(text="<html>", content_type="text/html"), id="HTML"),
        pytest.param(lambda: web.json_response([]), id="nothing"),
        pytest.param(lambda: web.json_response({"results": [{"target": "another"}]}), id="of another"),
        pytest.param(lambda: web.json_response(["text"]), id="no objects"),
        pytest.param(lambda: web.json_response({"error": "text"}, status=400), id="an error that is text"),
    ],
)
async def test_an_answer_that_says_nothing_is_a_failure(
    answer: Callable[[], web.Response], revoker: tuple[AblyAuth, FakeAbly]
) -> None:
    ably, fake = revoker
    fake.answer = lambda _: answer()
    with pytest.raises(RevocationFailed) as failure:
        await ably.revoke("alice")
    assert list(failure.value.failed) == ["clientId:alice"]


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (ServerStored(rooms(), store=SessionStore()), "RedisStore"),
        (ClientSigned(rooms(), secret=SECRET), "RedisStore"),
        (ClientStored(rooms()), "stores nothing"),
        (ServerDetermined(lambda auth: {}), "stores nothing"),
    ],
    ids=["session", "signed", "client stored", "server determined"],
)
async def test_what_is_not_kept_by_client_id_cannot_be_changed_by_it(
    strategy: Strategy, message: str
) -> None:
    ably = install(web.Application(), strategy)
    for change in (ably.grant("alice", HELD), ably.withdraw("alice", "chat:1")):
        with pytest.raises(UsageError, match=message):
            await change


async def test_a_tenant_must_be_named() -> None:
    strategy = ServerStored(rooms(), store=MemoryStore())
    ably = install(web.Application(), strategy, key=lambda request: KEY)
    for change in (ably.grant("alice", HELD), ably.revoke("alice"), ably.reauthorize("alice")):
        with pytest.raises(UsageError, match="key="):
            await change
    assert await ably.grant("alice", HELD, key=KEY, tell=False) == Capability(HELD)


async def test_what_cannot_be_changed_is_refused_before_anything_is(
    aiohttp_server: Any, emulator: Emulator
) -> None:
    ably, _ = await serve(aiohttp_server, emulator)
    await ably.grant("alice", {"chat:*": "subscribe"}, tell=False)
    with pytest.raises(InvalidCapability, match="cannot be released from"):
        await ably.withdraw("alice", "chat:1")
    with pytest.raises(InvalidClientId):
        await ably.grant("", HELD)
    with pytest.raises(InvalidClientId):
        await ably.revoke("alice", "line\nbreak")
    with pytest.raises(TypeError, match=r"groups= is a list"):
        await ably.revoke(groups="staff")
    assert [event for event in emulator.events if event.kind == "tokens revoked"] == []


async def test_a_store_that_fails_is_503_and_nobody_is_told(aiohttp_server: Any, emulator: Emulator) -> None:
    class Broken(MemoryStore):
        async def change(self, auth: Any, **change: Any) -> Capability:
            raise OSError("the disk is full")

    ably, _ = await serve(aiohttp_server, emulator, ServerStored(rooms(), store=Broken()))
    with pytest.raises(Unavailable):
        await ably.grant("alice", HELD)
    assert [event for event in emulator.events if event.kind == "tokens revoked"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tls": False}, "without encryption"),
        ({"tls": False, "endpoint": "ably.example.com"}, "without encryption"),
        ({"tls": False, "endpoint": "10.0.0.1"}, "without encryption"),
        ({"key": KEY}, "key cannot be set here"),
        ({"auth_url": "https://example.com"}, "auth_url cannot be set here"),
        ({"endpont": "x"}, "endpont"),
        ({"endpoint": "x", "environment": "y"}, "incompatible"),
    ],
)
def test_client_options_that_cannot_work_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    strategy = ServerStored(rooms(), store=MemoryStore())
    with pytest.raises(ValueError, match=f"client_options=.*{message}") as refusal:
        install(web.Application(), strategy, client_options=options)
    assert KEY not in str(refusal.value)


async def test_tokens_are_fetched_where_client_options_say(aiohttp_client: Any, emulator: Emulator) -> None:
    strategy = ServerStored(rooms(), store=MemoryStore(), base=BASE)
    options = {"key": REVOCABLE, "issuer": TokenDetailsIssuer(), "client_options": at(emulator)}
    client = await aiohttp_client(make_app(strategy, **options))
    assert await granted(await ask(client)) == BASE
    assert len(emulator.token_requests) == 1


async def test_a_script_closes_what_it_opened(emulator: Emulator) -> None:
    strategy = ServerStored(rooms(), store=MemoryStore())
    ably = install(web.Application(), strategy, key=REVOCABLE, client_options=at(emulator))
    await ably.grant("alice", HELD)
    await ably.close()
