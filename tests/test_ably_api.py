"""Changes by client id and revocations, with unmodified SDK clients on the emulator."""

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
from apps import BASE, KEY, PATH, SECRET, install, make_app, request_token, rooms, token_capability
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
ROOM = {"chat:1": ["publish", "subscribe"]}
REVOCABLE = ApiKey(KEY, revocable=True)
ISSUERS = {"token request": TokenRequestIssuer, "jwt": JWTIssuer}


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """An emulator whose key has revocable tokens."""
    async with Emulator([REVOCABLE]) as emulator:
        yield emulator


async def auth_server(
    aiohttp_server: Any, emulator: Emulator, strategy: Strategy | None = None, **options: Any
) -> tuple[AblyAuth, str]:
    """An auth server on the emulator, and the URL of its auth route."""
    app = web.Application()
    strategy = strategy or ServerStored(rooms(), store=MemoryStore(), base=BASE)
    options = {"key": REVOCABLE, "client_options": client_options(emulator, sdk="python"), **options}
    ably = install(app, strategy, **options)
    server = await aiohttp_server(app)
    return ably, str(server.make_url(PATH))


async def may_publish(emulator: Emulator, token: str, channel: str = "chat:1") -> bool:
    """Whether Ably accepts a message published with `token`; False when the token was revoked."""
    url = f"{emulator.url}/channels/{channel}/messages"
    async with ClientSession(headers=bearer(token)) as session, session.post(url, json={}) as response:
        assert response.status == 201 or response.headers["X-Ably-ErrorCode"] == "40141"
        return response.status == 201


async def token_of(emulator: Emulator, url: str, user: str = "alice") -> str:
    """A token that Ably issued for an answer of the auth route."""
    async with AblyRest(
        auth_url=url, auth_headers={"X-User": user}, **client_options(emulator, sdk="python")
    ) as rest:
        return str((await rest.auth.authorize()).token)


@pytest.mark.parametrize("issuer", ISSUERS)
async def test_ably_python_gets_what_is_granted_and_loses_what_is_withdrawn(
    issuer: str, aiohttp_server: Any, emulator: Emulator
) -> None:
    ably, url = await auth_server(aiohttp_server, emulator, issuer=ISSUERS[issuer]())
    await ably.grant("alice", ROOM, tell=False)
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
async def test_ably_js_gets_what_is_granted_and_loses_what_is_withdrawn(
    issuer: str, aiohttp_server: Any, emulator: Emulator
) -> None:
    ably, url = await auth_server(aiohttp_server, emulator, issuer=ISSUERS[issuer]())
    await ably.grant("alice", ROOM, tell=False)
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
async def test_revocation_ends_issued_tokens_but_no_later_ones(
    issuer: str, aiohttp_server: Any, emulator: Emulator
) -> None:
    ably, url = await auth_server(aiohttp_server, emulator, issuer=ISSUERS[issuer]())
    await ably.grant("alice", ROOM, tell=False)
    await ably.grant("bob", ROOM, tell=False)
    before, bob = await token_of(emulator, url), await token_of(emulator, url, "bob")
    applies = await ably.revoke("alice")
    after = await token_of(emulator, url)
    assert list(applies) == ["clientId:alice"]
    assert [await may_publish(emulator, token) for token in (before, after, bob)] == [False, True, True]


async def test_clients_that_are_told_to_reauthorize_have_thirty_seconds(
    aiohttp_server: Any, emulator: Emulator
) -> None:
    ably, url = await auth_server(aiohttp_server, emulator)
    await ably.grant("alice", ROOM, tell=False)
    token = await token_of(emulator, url)
    now = emulator.clock.now()
    assert (await ably.reauthorize("alice"))["clientId:alice"] > now + 30_000
    assert await may_publish(emulator, token)


async def test_a_group_is_revoked_by_the_revocation_key_of_its_tokens(
    aiohttp_server: Any, emulator: Emulator
) -> None:
    issuer = JWTIssuer(revocation_key=lambda auth: "staff" if auth.client_id == "alice" else None)
    ably, url = await auth_server(aiohttp_server, emulator, issuer=issuer)
    await ably.grant("alice", ROOM, tell=False)
    await ably.grant("bob", ROOM, tell=False)
    tokens = [await token_of(emulator, url), await token_of(emulator, url, "bob")]
    assert list(await ably.revoke(groups=["staff"])) == ["revocationKey:staff"]
    assert [await may_publish(emulator, token) for token in tokens] == [False, True]


async def test_revocable_tokens_live_for_an_hour_at_most(aiohttp_client: Any) -> None:
    strategy = ServerStored(rooms(), store=MemoryStore(), base=BASE)
    issuer = TokenRequestIssuer(ttl=timedelta(hours=20), jitter=0)
    for key, longest in ((REVOCABLE, 3_600_000), (ApiKey(KEY), 20 * 3_600_000)):
        client = await aiohttp_client(make_app(strategy, key=key, issuer=issuer))
        assert (await (await request_token(client)).json())["ttl"] == longest


async def test_the_error_of_a_key_without_revocable_tokens_names_the_cure(aiohttp_server: Any) -> None:
    async with Emulator([KEY]) as emulator:
        ably, _ = await auth_server(aiohttp_server, emulator, key=KEY)
        with pytest.raises(RevocationFailed, match=r"40163.*Revocable tokens.*revocable=True") as failure:
            await ably.withdraw("alice", "chat:1")
        assert list(failure.value.failed) == ["clientId:alice"]
        assert SECRET not in str(failure.value)
        assert KEY.partition(":")[2] not in str(failure.value)


async def test_a_grant_stays_stored_when_the_client_cannot_be_told(
    aiohttp_server: Any, emulator: Emulator, unused_tcp_port: int
) -> None:
    nowhere = {"endpoint": "127.0.0.1", "port": unused_tcp_port, "tls": False}
    store = MemoryStore()
    strategy = ServerStored(rooms(), store=store)
    ably, url = await auth_server(aiohttp_server, emulator, strategy, client_options=nowhere)
    with pytest.raises(RevocationFailed, match="could not be reached"):
        await ably.grant("alice", ROOM)
    async with AblyRest(auth_url=url, auth_headers=ALICE, **client_options(emulator, sdk="python")) as rest:
        details = await rest.auth.authorize()
    assert json.loads(str(details.capability)) == ROOM


async def test_without_clients_to_tell_no_request_is_sent(aiohttp_server: Any, emulator: Emulator) -> None:
    ably, _ = await auth_server(aiohttp_server, emulator)
    assert await ably.reauthorize() == {}
    assert await ably.grant("alice", ROOM, tell=False) == Capability(ROOM)
    assert [event for event in emulator.events if event.kind == "tokens revoked"] == []


class RevocationServer:
    """Answers revocations with `answer`, also in ways in which the emulator never does."""

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
async def revocation_server(aiohttp_server: Any) -> tuple[RevocationServer, dict[str, Any]]:
    server, app = RevocationServer(), web.Application()
    app.router.add_post("/keys/{key}/revokeTokens", server.handle)
    running = await aiohttp_server(app)
    return server, {"endpoint": "127.0.0.1", "port": running.port, "tls": False}


@pytest.fixture
async def revoker(
    revocation_server: tuple[RevocationServer, dict[str, Any]], aiohttp_server: Any
) -> tuple[AblyAuth, RevocationServer]:
    app = web.Application()
    strategy = ServerStored(rooms(), store=MemoryStore())
    ably = install(app, strategy, key=REVOCABLE, client_options=revocation_server[1], timeout=1)
    await aiohttp_server(app)
    return ably, revocation_server[0]


async def test_a_hundred_targets_are_revoked_at_a_time(revoker: tuple[AblyAuth, RevocationServer]) -> None:
    ably, server = revoker
    clients = [f"client-{number}" for number in range(205)]
    assert len(await ably.revoke(*clients, groups=["staff"])) == 206
    sent = [body["targets"] for _, body in server.requested]
    assert [len(targets) for targets in sent] == [100, 100, 6]
    assert [target for targets in sent for target in targets] == [f"clientId:{name}" for name in clients] + [
        "revocationKey:staff"
    ]
    assert {body["allowReauthMargin"] for _, body in server.requested} == {False}


async def test_the_error_names_each_target_that_failed(revoker: tuple[AblyAuth, RevocationServer]) -> None:
    ably, server = revoker

    def one_fails(body: dict[str, Any]) -> web.Response:
        results: list[dict[str, Any]] = [{"target": target, "appliesAt": 7} for target in body["targets"]]
        error = {"code": 40000, "statusCode": 400, "message": "no such thing"}
        results[1] = {"target": body["targets"][1], "error": error}
        return web.json_response(results, status=201)  # the older form of the answer

    server.answer = one_fails
    with pytest.raises(RevocationFailed, match=r"'clientId:bob' were not revoked.*no such thing") as failure:
        await ably.revoke("alice", "bob", "carol")
    assert failure.value.revoked == {"clientId:alice": 7, "clientId:carol": 7}
    assert list(failure.value.failed) == ["clientId:bob"]


async def test_a_failed_batch_does_not_stop_the_others(revoker: tuple[AblyAuth, RevocationServer]) -> None:
    ably, server = revoker

    def first_fails(body: dict[str, Any]) -> web.Response:
        return server.revoked(body) if len(server.requested) > 1 else web.Response(status=500)

    server.answer = first_fails
    with pytest.raises(RevocationFailed) as failure:
        await ably.revoke(*[f"client-{number}" for number in range(150)])
    assert (len(failure.value.failed), len(failure.value.revoked)) == (100, 50)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: web.Response(status=503), id="503"),
        pytest.param(lambda: web.Response(text="<html>", content_type="text/html"), id="HTML"),
        pytest.param(lambda: web.json_response([]), id="an empty list"),
        pytest.param(lambda: web.json_response({"results": [{"target": "another"}]}), id="another target"),
        pytest.param(lambda: web.json_response(["text"]), id="a list of strings"),
        pytest.param(
            lambda: web.json_response({"error": "text"}, status=400), id="an error that is a string"
        ),
    ],
)
async def test_an_answer_without_a_result_is_a_failure(
    answer: Callable[[], web.Response], revoker: tuple[AblyAuth, RevocationServer]
) -> None:
    ably, server = revoker
    server.answer = lambda _: answer()
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
async def test_a_store_that_is_not_reached_by_client_id_cannot_be_changed_by_it(
    strategy: Strategy, message: str
) -> None:
    ably = install(web.Application(), strategy)
    for change in (ably.grant("alice", ROOM), ably.withdraw("alice", "chat:1")):
        with pytest.raises(UsageError, match=message):
            await change


async def test_a_change_by_client_id_needs_the_key_of_the_tenant() -> None:
    strategy = ServerStored(rooms(), store=MemoryStore())
    ably = install(web.Application(), strategy, key=lambda request: KEY)
    for change in (ably.grant("alice", ROOM), ably.revoke("alice"), ably.reauthorize("alice")):
        with pytest.raises(UsageError, match="key="):
            await change
    assert await ably.grant("alice", ROOM, key=KEY, tell=False) == Capability(ROOM)


async def test_the_clients_of_a_tenant_are_revoked_under_its_key(
    revocation_server: tuple[RevocationServer, dict[str, Any]],
) -> None:
    server, options = revocation_server
    strategy = ServerStored(rooms(), store=MemoryStore())
    ably = install(web.Application(), strategy, key=lambda request: None, client_options=options)
    for change in (ably.reauthorize, ably.revoke):
        assert list(await change("alice", key=REVOCABLE)) == ["clientId:alice"]
    assert [body["allowReauthMargin"] for _, body in server.requested] == [True, False]
    await ably.close()


async def test_an_invalid_change_changes_nothing(aiohttp_server: Any, emulator: Emulator) -> None:
    ably, _ = await auth_server(aiohttp_server, emulator)
    await ably.grant("alice", {"chat:*": "subscribe"}, tell=False)
    with pytest.raises(InvalidCapability, match="cannot be released from"):
        await ably.withdraw("alice", "chat:1")
    with pytest.raises(InvalidClientId):
        await ably.grant("", ROOM)
    with pytest.raises(InvalidClientId):
        await ably.revoke("alice", "line\nbreak")
    with pytest.raises(TypeError, match=r"groups= is a list"):
        await ably.revoke(groups="staff")
    assert [event for event in emulator.events if event.kind == "tokens revoked"] == []


async def test_a_store_that_fails_is_unavailable_and_no_client_is_told(
    aiohttp_server: Any, emulator: Emulator
) -> None:
    class Broken(MemoryStore):
        async def change(self, auth: Any, **change: Any) -> Capability:
            raise OSError("the disk is full")

    ably, _ = await auth_server(aiohttp_server, emulator, ServerStored(rooms(), store=Broken()))
    with pytest.raises(Unavailable):
        await ably.grant("alice", ROOM)
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
def test_invalid_client_options_are_refused_at_setup(options: dict[str, Any], message: str) -> None:
    strategy = ServerStored(rooms(), store=MemoryStore())
    with pytest.raises(ValueError, match=f"client_options=.*{message}") as refusal:
        install(web.Application(), strategy, client_options=options)
    assert KEY not in str(refusal.value)


async def test_tokens_are_fetched_with_the_client_options(aiohttp_client: Any, emulator: Emulator) -> None:
    strategy = ServerStored(rooms(), store=MemoryStore(), base=BASE)
    options = {
        "key": REVOCABLE,
        "issuer": TokenDetailsIssuer(),
        "client_options": client_options(emulator, sdk="python"),
    }
    client = await aiohttp_client(make_app(strategy, **options))
    assert await token_capability(await request_token(client)) == BASE
    assert len(emulator.token_requests) == 1


async def test_a_script_closes_the_connections(emulator: Emulator) -> None:
    strategy = ServerStored(rooms(), store=MemoryStore())
    ably = install(
        web.Application(), strategy, key=REVOCABLE, client_options=client_options(emulator, sdk="python")
    )
    await ably.grant("alice", ROOM)
    await ably.close()


async def test_no_task_is_left_when_the_connections_are_closed() -> None:
    before = asyncio.all_tasks()
    ably = install(web.Application(), ServerStored(rooms(), store=MemoryStore()))
    await ably.start(3600)
    assert len(asyncio.all_tasks() - before) == 1
    await ably.close()
    assert asyncio.all_tasks() == before
