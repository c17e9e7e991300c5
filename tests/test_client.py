"""The client helper with ably-python, REST and realtime, against an aiohttp app and the emulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from ably import AblyException, AblyRealtime, AblyRest
from aiohttp import web
from aiohttp.test_utils import TestServer
from apps import BASE, PATH
from reauth_app import ROOM, STRATEGIES, ReauthApp, client_stored, server_determined, server_stored

from aiohttp_ably import ApiKey, Capability
from aiohttp_ably.client import AuthServerError, Reauthorizer, ReauthorizerEvent
from aiohttp_ably.emulator import Emulator
from aiohttp_ably.testing import client_options, realtime_client
from aiohttp_ably.tokens import sign_jwt

SUBSCRIBE = {"chat:1": ["subscribe"]}


@dataclass
class Started:
    """A client under test, its Reauthorizer, and the events of that."""

    reauth: Reauthorizer
    realtime: AblyRealtime
    app: ReauthApp
    events: list[ReauthorizerEvent] = field(default_factory=list)

    def of(self, kind: str) -> list[ReauthorizerEvent]:
        return [event for event in self.events if event.type == kind]

    async def until(self, state: str) -> None:
        """Wait for a state of the connection."""
        if self.state != state:
            await asyncio.wait_for(self.realtime.connection.once_async(state), 10)

    async def connected(self) -> str:
        """Wait for the connection; returns its id."""
        await self.until("connected")
        return self.connection_id

    @property
    def connection_id(self) -> str:
        return self.realtime.connection.connection_manager.connection_id

    @property
    def state(self) -> str:
        return self.realtime.connection.state.value


Start = Callable[..., Awaitable[Started]]


@pytest.fixture
async def serve(ably_emulator: Emulator) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Serve an app; returns the URL of its auth route."""
    servers = []

    async def serve(app: ReauthApp, key: str | None = None) -> str:
        server = TestServer(app.make(key or ably_emulator.key))
        servers.append(server)
        await server.start_server()
        return str(server.make_url(PATH))

    yield serve
    for server in servers:
        await server.close()


@pytest.fixture
async def start(ably_emulator: Emulator, serve: Callable[..., Awaitable[str]]) -> AsyncIterator[Start]:
    """Start a realtime client of an app."""
    all_started: list[Started] = []

    async def start(
        app: ReauthApp | None = None, *, key: str | None = None, url: str | None = None, **options: Any
    ) -> Started:
        app = app or ReauthApp(server_stored)
        events: list[ReauthorizerEvent] = []
        reauth = Reauthorizer(url or await serve(app, key), on_event=events.append, **options)
        ably_options = {"disconnected_retry_timeout": 50, **reauth.client_options()}
        realtime = reauth.bind(realtime_client(ably_emulator, **ably_options))
        all_started.append(Started(reauth, realtime, app, events))
        return all_started[-1]

    yield start
    for started in all_started:
        await started.realtime.close()
        await started.reauth.close()


async def error_of(awaitable: Awaitable[Any]) -> tuple[int, int]:
    """Code and status of the error that it raises."""
    with pytest.raises(AblyException) as caught:
        await awaitable
    return caught.value.code, caught.value.status_code


async def outcome(awaitable: Awaitable[Any]) -> Any:
    try:
        await awaitable
    except AblyException as error:
        return error.code, error.status_code
    return "done"


@pytest.mark.parametrize("name", STRATEGIES)
async def test_a_client_gets_what_it_needs_on_the_same_connection(start: Start, name: str) -> None:
    strategy, options, client = STRATEGIES[name]
    started = await start(ReauthApp(strategy, options, rights={**BASE, "chat:1": ROOM}), **client)
    reauth, realtime = started.reauth, started.realtime
    connection_id = await started.connected()
    channel = realtime.channels.get("chat:1")
    await reauth.need("chat:1", ["publish", "subscribe"])
    received: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    await channel.subscribe(lambda message: received.set_result(message.data))
    await channel.publish("greeting", "hello")
    assert await asyncio.wait_for(received, 10) == "hello"
    await reauth.enter(channel, "here")
    assert reauth.capability == Capability({**BASE, "chat:1": ROOM})
    await reauth.drop("chat:1")
    if name != "server determined":
        assert reauth.capability == Capability(BASE)
        assert channel.state == "failed"  # Ably fails an attached channel that the new token does not allow
    assert started.connection_id == connection_id


@pytest.mark.parametrize("name", STRATEGIES)
async def test_a_rest_client_recovers_from_40160(
    ably_emulator: Emulator, serve: Callable[..., Awaitable[str]], name: str
) -> None:
    strategy, options, client = STRATEGIES[name]
    app = ReauthApp(strategy, options, rights={**BASE, "chat:1": ROOM})
    async with Reauthorizer(await serve(app), **client) as reauth:
        rest = reauth.bind(AblyRest(**reauth.client_options(), **client_options(ably_emulator, sdk="python")))
        try:
            await reauth.publish(rest.channels.get("chat:1"), "greeting", "hello")
            assert reauth.allows("chat:1", "publish")
            assert await error_of(reauth.publish(rest.channels.get("chat:secret"), "a", "b")) == (40160, 401)
            app.user = None
            assert await error_of(reauth.need("chat:2")) == (40300, 403)
            assert await error_of(rest.auth.authorize()) == (40300, 403)
        finally:
            await rest.close()


async def test_concurrent_calls_share_one_request(start: Start) -> None:
    started = await start()
    rooms = [f"chat:{number}" for number in range(20)]
    await asyncio.gather(*(started.reauth.need(room, "subscribe") for room in rooms))
    assert all(started.reauth.allows(room, ["subscribe"]) for room in rooms)
    assert len(started.app.requests) <= 2
    assert max(map(len, started.app.capabilities())) == 20


async def test_a_granted_capability_is_not_requested_again(start: Start) -> None:
    started = await start()
    await started.connected()
    await started.reauth.need("chat:1", "subscribe")
    await started.reauth.need("chat:1", "subscribe")
    await started.reauth.need("chat:1")
    assert started.app.capabilities() == [{}, SUBSCRIBE]
    assert [event.type for event in started.events] == ["request", "granted"] * 2 + ["reauthorized"]


async def test_a_request_does_not_narrow_a_server_determined_token(start: Start) -> None:
    started = await start(ReauthApp(server_determined))
    await started.connected()
    started.app.rights = {**BASE, **SUBSCRIBE, "chat:2": ["subscribe"]}
    await started.reauth.need("chat:1", "subscribe")
    assert started.reauth.capability == Capability(started.app.rights)
    assert await error_of(started.reauth.need("chat:3", "subscribe")) == (40160, 401)


async def test_a_denied_request_raises_the_servers_error_and_is_not_repeated(start: Start) -> None:
    started = await start()
    connection_id = await started.connected()
    with pytest.raises(AuthServerError, match="chat:secret") as caught:
        await started.reauth.need("chat:secret", "subscribe")
    assert (caught.value.code, caught.value.status_code) == (40160, 401)
    await started.reauth.need("chat:1", "subscribe")
    await started.reauth.reauthorize()
    await started.realtime.auth.authorize()
    assert (started.state, started.connection_id) == ("connected", connection_id)
    assert started.app.capabilities() == [{}, {"chat:secret": ["subscribe"]}, SUBSCRIBE, {}, {}]
    assert [received.prefer for received in started.app.requests[1:4]] == [
        "handling=strict",
        "handling=strict",
        "handling=lenient",
    ]
    assert [event.denied for event in started.of("denied")] == [Capability({"chat:secret": "subscribe"})]


async def test_one_denied_call_does_not_fail_the_others(start: Start) -> None:
    started = await start()
    await started.connected()
    rooms = ["chat:1", "chat:secret", "chat:2"]
    calls = [outcome(started.reauth.need(room, "subscribe")) for room in rooms]
    assert await asyncio.gather(*calls) == ["done", (40160, 401), "done"]
    assert len(started.app.requests) == 3
    assert [event.denied for event in started.of("denied")] == [Capability({"chat:secret": "subscribe"})]


@pytest.mark.filterwarnings("ignore:unknown operation")
async def test_one_malformed_call_does_not_fail_the_others(start: Start) -> None:
    started = await start()
    await started.connected()
    calls = [started.reauth.need("chat:1", "subscribe"), started.reauth.need("chat:2", "sing")]
    assert await asyncio.gather(*map(outcome, calls)) == ["done", (40000, 400)]


async def test_the_client_recovers_from_an_outage_of_the_auth_server(start: Start) -> None:
    app = ReauthApp(server_stored, down=True)
    started = await start(app)
    await started.until("disconnected")
    app.down = False
    connection_id = await started.connected()
    app.down = True
    assert await error_of(started.reauth.need("chat:1", "subscribe")) == (50300, 503)
    assert started.state == "connected"
    app.down = False
    await started.reauth.need("chat:1", "subscribe")
    assert started.connection_id == connection_id


async def test_a_second_40160_is_raised(start: Start) -> None:
    started = await start()
    await started.connected()
    runs = []

    async def refused() -> None:
        runs.append(1)
        raise AblyException("no", 401, 40160)

    assert await error_of(started.reauth.guard("[?rewind=1]chat:1", "publish", refused)) == (40160, 401)
    assert len(runs) == 2
    assert started.app.capabilities() == [{}, {"chat:1": ["publish"]}]


async def test_a_capability_that_the_api_key_lacks_is_requested_once(
    start: Start, ably_emulator: Emulator
) -> None:
    key = ably_emulator.add_key("small.key:abcdefghijklmnopqrstuvwxyz0123456789", BASE)
    started = await start(key=key)
    await started.connected()
    channel = started.realtime.channels.get("chat:1")
    with pytest.raises(AuthServerError, match="API key"):
        await started.reauth.attach(channel)
    assert channel.state == "failed"
    assert len(started.app.requests) == 2


async def test_guard_attaches_a_failed_channel_again(start: Start) -> None:
    started = await start()
    connection_id = await started.connected()
    channel = started.realtime.channels.get("chat:1")
    states: list[str] = []
    channel.on(lambda change: states.append(change.current.value))
    await started.reauth.attach(channel)
    await started.reauth.fetch("POST", "/withdraw", json=["chat:1"])
    assert channel.state == "failed"
    await started.reauth.publish(channel, "greeting", "hello")
    assert states == ["attaching", "failed", "attaching", "attached", "failed", "attaching", "attached"]
    assert started.connection_id == connection_id
    assert [event.requested.to_dict() for event in started.of("refused")] == [
        {"chat:1": ["*"]},
        {"chat:1": ["publish"]},
    ]
    with pytest.raises(ValueError, match="publish"):
        await started.reauth.publish(channel)  # an error other than 40160 is raised as it is


async def test_enter_attaches_the_channel_first(start: Start) -> None:
    started = await start()
    await started.connected()
    channel = started.realtime.channels.get("chat:1")
    await started.reauth.enter(channel, "here")
    assert channel.state == "attached"
    assert await error_of(started.reauth.enter(started.realtime.channels.get("chat:secret"))) == (40160, 401)
    assert started.app.capabilities() == [{}, {"chat:1": ["presence"]}, {"chat:secret": ["presence"]}]


async def test_the_list_is_stored_and_not_used_for_another_client(
    start: Start, serve: Callable[..., Awaitable[str]]
) -> None:
    app = ReauthApp(client_stored)
    options: dict[str, Any] = {"url": await serve(app), "list": True, "storage": {}}
    first = await start(app, **options)
    await first.connected()
    await first.reauth.need("chat:1", "subscribe")
    await asyncio.gather(first.reauth.need("chat:2"), outcome(first.reauth.need("chat:secret", "subscribe")))
    await first.reauth.drop("chat:1")
    await first.reauth.reauthorize()
    second = await start(app, **options)
    await second.connected()
    assert second.reauth.capability == Capability({**BASE, "chat:2": ROOM})
    app.user = "bob"
    third = await start(app, **options)
    await third.connected()
    assert third.reauth.capability == Capability(BASE)
    batch = {**SUBSCRIBE, "chat:2": ["*"], "chat:secret": ["subscribe"]}
    kept = {"chat:2": ["*"]}
    assert app.capabilities() == [{}, SUBSCRIBE, batch, batch, kept, kept, kept, kept, {}]


@pytest.mark.parametrize("name", ["client signed", "client signed in the token"])
async def test_every_request_sends_the_last_grant(start: Start, name: str) -> None:
    strategy, options, client = STRATEGIES[name]
    started = await start(ReauthApp(strategy, options), **client)
    await started.connected()
    await started.reauth.need("chat:1", "subscribe")
    await started.reauth.need("chat:2", "subscribe")
    assert started.reauth.capability == Capability({**BASE, **SUBSCRIBE, "chat:2": "subscribe"})
    sent = [received.grant for received in started.app.requests]
    assert sent[0] == ""
    assert all(sent[1:])
    if name == "client signed":
        assert sent[1:] == started.app.grants[:-1]


async def test_a_grant_cookie_stays_in_the_session(start: Start) -> None:
    jar = aiohttp.CookieJar(unsafe=True)  # it takes cookies of an IP address
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        started = await start(ReauthApp(STRATEGIES["client signed"][0]), session=session)
        await started.connected()
        await started.reauth.need("chat:1", "subscribe")
        await started.reauth.need("chat:2", "subscribe")
        assert started.reauth.allows("chat:1")
        assert {received.grant for received in started.app.requests} == {None}
        await started.reauth.close()
        assert not session.closed


async def test_a_grant_of_a_handler_is_in_effect_when_fetch_returns(start: Start) -> None:
    started = await start()
    connection_id = await started.connected()
    response = await started.reauth.fetch("POST", "/grant", json=SUBSCRIBE)
    assert await response.json() == SUBSCRIBE
    assert started.reauth.allows("chat:1", "subscribe")
    await started.reauth.fetch("POST", "/grant", json=SUBSCRIBE)  # changes nothing
    assert started.app.capabilities() == [{}, {}]
    assert started.connection_id == connection_id


async def test_a_client_that_is_no_longer_signed_in_stops(start: Start) -> None:
    started = await start()
    await started.connected()
    started.app.user = None
    assert await error_of(started.reauth.need("chat:1", "subscribe")) == (40300, 403)
    assert started.state == "failed"
    assert len(started.app.requests) == 2


async def test_a_client_that_was_never_signed_in_stops(start: Start) -> None:
    started = await start(ReauthApp(server_stored, user=None))
    await started.until("failed")
    assert len(started.app.requests) == 1


async def test_a_client_stops_when_another_user_is_signed_in(start: Start) -> None:
    started = await start()
    await started.connected()
    started.app.user = "bob"
    assert await error_of(started.reauth.need("chat:1", "subscribe")) == (40300, 403)
    assert started.state == "failed"


async def test_need_and_drop_of_one_resource_keep_their_order(start: Start) -> None:
    started = await start()
    await started.connected()
    reauth = started.reauth
    await asyncio.gather(
        reauth.need("chat:1", "subscribe"), reauth.drop("chat:1"), reauth.need("chat:2", "subscribe")
    )
    assert reauth.capability == Capability({**BASE, "chat:2": "subscribe"})
    assert started.app.requests[-1].body["drop"] == ["chat:1"]


async def test_a_bare_jwt_can_be_renewed(start: Start, ably_emulator: Emulator) -> None:
    """ably-python would take a bare JWT for a token without a client id, and refuse the next."""

    async def bare(_request: web.Request) -> web.Response:
        now = ably_emulator.clock.now() // 1000
        key = ApiKey(ably_emulator.key)
        token = sign_jwt(
            key, capability=Capability(BASE), client_id="alice", issued=now, expires=now + 60, claims={}
        )
        return web.Response(text=token, content_type="application/jwt")

    app = web.Application()
    app.router.add_post(PATH, bare)
    async with TestServer(app) as server:
        started = await start(url=str(server.make_url(PATH)))
        connection_id = await started.connected()
        await started.reauth.reauthorize()
        assert started.connection_id == connection_id
        assert started.reauth.capability == Capability(BASE)


async def test_headers_and_params_go_to_the_auth_server_and_not_to_ably(
    start: Start, ably_emulator: Emulator
) -> None:
    seen: list[tuple[str | None, Any]] = []
    app = ReauthApp(server_stored)
    inner = app.make(ably_emulator.key)

    @web.middleware
    async def record(request: web.Request, handler: Any) -> web.StreamResponse:
        seen.append((request.headers.get("Authorization"), (await request.json()).get("tenant")))
        return await handler(request)

    inner.middlewares.insert(0, record)
    tokens = iter(["Bearer 1", "Bearer 2"])
    async with TestServer(inner) as server:
        started = await start(
            app,
            url=str(server.make_url(PATH)),
            params={"tenant": "t1"},
            headers=lambda: {"Authorization": next(tokens)},
        )
        await started.connected()
        await started.reauth.reauthorize()
        assert seen == [("Bearer 1", "t1"), ("Bearer 2", "t1")]
        assert not started.realtime.auth.auth_options.auth_headers  # ably-python would send these to Ably too


RESPONSES: dict[str, tuple[web.Response, tuple[int, int]]] = {
    "a login page": (web.Response(text="<html>", content_type="text/html"), (40170, 401)),
    "JSON without a token": (web.json_response({}), (40170, 401)),
    "an error that is a string": (web.json_response({"error": "no"}, status=500), (50000, 500)),
    "an error in headers": (web.Response(status=401, headers={"X-Ably-ErrorCode": "40101"}), (40101, 401)),
    "invalid JSON": (web.Response(text="{", content_type="application/json"), (40170, 401)),
}


@pytest.mark.parametrize("name", RESPONSES)
async def test_a_response_without_a_token_is_an_error_with_code_and_status(
    ably_emulator: Emulator, name: str
) -> None:
    response, expected = RESPONSES[name]

    async def respond(_request: web.Request) -> web.Response:
        return web.Response(body=response.body, status=response.status, headers=response.headers)

    app = web.Application()
    app.router.add_post(PATH, respond)
    async with TestServer(app) as server, Reauthorizer(server.make_url(PATH)) as reauth:
        rest = AblyRest(**reauth.client_options(), **client_options(ably_emulator, sdk="python"))
        assert await error_of(rest.auth.authorize()) == expected
        await rest.close()


async def test_an_unreachable_auth_server_is_an_unavailable_error(ably_emulator: Emulator) -> None:
    async with Reauthorizer("http://127.0.0.1:1/ably/auth") as reauth:
        rest = AblyRest(**reauth.client_options(), **client_options(ably_emulator, sdk="python"))
        assert await error_of(rest.auth.authorize()) == (50300, 503)
        await rest.close()


async def test_a_cancelled_call_does_not_fail_the_others(start: Start) -> None:
    started = await start()
    await started.connected()
    cancelled = asyncio.create_task(started.reauth.need("chat:1", "subscribe"))
    other = asyncio.create_task(started.reauth.need("chat:2", "subscribe"))
    await asyncio.sleep(0)
    cancelled.cancel()
    await other
    assert started.reauth.allows("chat:2")


async def test_close_cancels_running_calls(start: Start) -> None:
    started = await start()
    await started.connected()
    call = asyncio.create_task(started.reauth.need("chat:1", "subscribe"))
    await asyncio.sleep(0)
    await started.reauth.close()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_misuse_raises_an_error() -> None:
    async with Reauthorizer("https://app.example.com/ably/auth") as reauth:
        with pytest.raises(TypeError, match=r"bind\(client\) first"):
            await reauth.need("chat:1")
        with pytest.raises(TypeError, match="name a resource"):
            await reauth.need("")
    with pytest.raises(ValueError, match="'cookie', 'header' and 'token'"):
        Reauthorizer("https://app.example.com/ably/auth", grant="pigeon")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be absolute"):
        Reauthorizer("/ably/auth")
