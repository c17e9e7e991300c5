"""Faults: Redis is killed, hangs and restarts; Ably is down, slow or fails; callbacks of the app fail.

The answer is 503 with 50300, in time. It is never a 403, and no token carries more or less than was granted.
What was granted before is granted afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from apps import BASE, KEY, Client, error, make_app, request_token, rooms, token_capability
from redis.asyncio import Redis
from redis_server import RedisServer

from aiohttp_ably import (
    AuthRequest,
    Capability,
    KeyRing,
    MemoryStore,
    RedisStore,
    ServerStored,
    TokenDetailsIssuer,
)

OVER = web.AppKey("over", asyncio.Event)
UNAVAILABLE = (503, 50300)
IN_TIME = 10.0
"""Seconds after which SDKs stop waiting."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may kill or stop."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.close()


async def store_app(aiohttp_client: Any, store: RedisStore, **options: Any) -> Client:
    strategy = ServerStored(rooms(), store=store, base=BASE)
    client: Client = await aiohttp_client(make_app(strategy, **{"timeout": 1, **options}))
    return client


class Traffic:
    """Five clients that request one room after the other, and what was granted to each."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.granted: dict[str, set[str]] = {f"user-{number}": set() for number in range(5)}
        self.statuses: set[int] = set()
        self._progress = asyncio.Event()
        self._stopped = False

    async def until_more(self) -> None:
        """Return when five more rooms were granted to each client."""
        wanted = {user: len(rooms) + 5 for user, rooms in self.granted.items()}
        while any(len(self.granted[user]) < wanted[user] for user in wanted):
            self._progress.clear()
            await self._progress.wait()

    async def during(self, fault: Callable[[], Awaitable[None]]) -> set[int]:
        """Run `fault` amid the traffic, then check that nothing was lost; returns all statuses."""
        tasks = [asyncio.create_task(self._request(user)) for user in self.granted]
        try:
            await self.until_more()
            await fault()
            await self.until_more()
        finally:
            self._stopped = True
        await asyncio.gather(*tasks)
        for user, granted in self.granted.items():
            assert (await token_capability(await request_token(self.client, user=user))).keys() >= granted
        return self.statuses

    async def _request(self, user: str) -> None:
        granted, number = self.granted[user], 0
        while not self._stopped:
            number += 1
            room = f"chat:{number}"
            response = await asyncio.wait_for(
                request_token(self.client, {room: ["publish"]}, user=user), IN_TIME
            )
            self.statuses.add(response.status)
            if response.status == 200:
                carried = (await token_capability(response)).keys() - BASE.keys()
                assert carried >= granted | {room}, "less than was granted"
                assert carried <= {f"chat:{one}" for one in range(number + 1)}, "more than was requested"
                granted.add(room)
                self._progress.set()
            else:
                assert await error(response) == UNAVAILABLE


@pytest.mark.parametrize("from_url", [True, False], ids=["from a URL", "a client of the app"])
async def test_redis_is_killed_amid_traffic_and_restarted(
    from_url: bool, aiohttp_client: Any, redis: RedisServer
) -> None:
    client_of_the_app = Redis.from_url(redis.url)
    client = await store_app(aiohttp_client, RedisStore(redis.url if from_url else client_of_the_app))

    async def kill_and_restart() -> None:
        redis.kill()
        assert await error(await request_token(client)) == UNAVAILABLE
        redis.start()

    assert await Traffic(client).during(kill_and_restart) == {200, 503}
    await client_of_the_app.aclose()


async def test_redis_hangs_amid_traffic(aiohttp_client: Any, redis: RedisServer) -> None:
    client = await store_app(aiohttp_client, RedisStore(redis.url))

    async def hang_and_go_on() -> None:
        redis.hang()
        assert await error(await request_token(client)) == UNAVAILABLE
        redis.go_on()

    assert await Traffic(client).during(hang_and_go_on) == {200, 503}


async def test_an_answer_that_came_too_late_is_not_read_by_another_call(redis: RedisServer) -> None:
    """The answer to a cancelled call must not become the answer to the next call on its connection."""
    store = RedisStore(redis.url)
    clients = [AuthRequest(client_id=f"user-{number}", keys=KeyRing.of(KEY)) for number in range(20)]
    for number, one in enumerate(clients):
        await store.change(one, add=Capability({f"room:{number}": "publish"}))
    redis.hang()
    calls = [asyncio.create_task(store.load(one)) for one in clients]
    done, _ = await asyncio.wait(calls, timeout=0.05)
    assert not done
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    redis.go_on()
    for turn in range(3):
        loaded = await asyncio.gather(*(store.load(one) for one in clients))
        assert loaded == [Capability({f"room:{number}": "publish"}) for number in range(20)], turn
    await store.close()


async def test_an_app_starts_while_redis_is_down(aiohttp_client: Any, redis: RedisServer) -> None:
    redis.kill()
    client = await store_app(aiohttp_client, RedisStore(redis.url))
    assert await error(await request_token(client)) == UNAVAILABLE
    redis.start()
    assert await token_capability(await request_token(client)) == BASE


async def test_an_emptied_redis_is_not_an_error(aiohttp_client: Any, redis: RedisServer) -> None:
    client = await store_app(aiohttp_client, RedisStore(redis.url))
    await request_token(client, {"chat:1": ["publish"]})
    async with Redis.from_url(redis.url) as other:
        await other.flushall()
        await other.script_flush()
    assert await token_capability(await request_token(client)) == BASE


async def answers_500(request: web.Request) -> web.Response:
    return web.Response(status=500)


async def answers_an_error_in_the_form_of_ably(request: web.Request) -> web.Response:
    body = {"error": {"code": 50000, "statusCode": 503, "message": "internal error"}}
    return web.json_response(body, status=503)


async def answers_html(request: web.Request) -> web.Response:
    return web.Response(text="<html>bad gateway</html>", content_type="text/html", status=502)


async def refuses_the_key(request: web.Request) -> web.Response:
    body = {"error": {"code": 40300, "statusCode": 403, "message": "account disabled"}}
    return web.json_response(body, status=403)


async def drops_the_connection(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def never_answers(request: web.Request) -> web.Response:
    await request.app[OVER].wait()
    return web.Response()


ABLY_FAULTS = [
    answers_500,
    answers_an_error_in_the_form_of_ably,
    answers_html,
    refuses_the_key,
    drops_the_connection,
]


@pytest.mark.parametrize("fault", [*ABLY_FAULTS, never_answers], ids=lambda fault: fault.__name__)
async def test_a_failure_of_ably_is_503_in_time(fault: Any, aiohttp_client: Any, aiohttp_server: Any) -> None:
    ably = web.Application()
    ably[OVER] = asyncio.Event()
    ably.router.add_post("/keys/{key}/requestToken", fault)
    server = await aiohttp_server(ably)
    client = await ably_client(aiohttp_client, server.port)
    assert await error(await request_token(client)) == UNAVAILABLE
    ably[OVER].set()


async def test_ably_being_unreachable_is_503(aiohttp_client: Any, unused_tcp_port: int) -> None:
    client = await ably_client(aiohttp_client, unused_tcp_port)
    assert await error(await request_token(client)) == UNAVAILABLE


async def ably_client(aiohttp_client: Any, port: int) -> Client:
    """A client of an app that fetches each token from Ably at `port`."""
    reach = {"endpoint": "127.0.0.1", "port": port, "tls": False}
    strategy = ServerStored(rooms(), store=MemoryStore(), base=BASE)
    options: dict[str, Any] = {"issuer": TokenDetailsIssuer(), "client_options": reach, "timeout": 0.5}
    client: Client = await aiohttp_client(make_app(strategy, **options))
    return client


class Part:
    """A callback of the app. It returns `answer`, or fails or hangs as `fault` says."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.fault: str | None = None
        self.reached = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, *_: Any) -> Any:
        self.reached.set()
        try:
            if self.fault == "raises":
                raise OSError("no database")
            if self.fault == "raises a timeout of its own":
                raise asyncio.TimeoutError
            if self.fault == "answers 502":
                raise web.HTTPBadGateway
            if self.fault == "hangs":
                await asyncio.Event().wait()
            return self.answer
        finally:
            self.left.set()


def parts() -> dict[str, Part]:
    return {"identify": Part("alice"), "authorize": Part({"chat:1": ["publish"]}), "base": Part(BASE)}


def app_of(found: dict[str, Part], **options: Any) -> web.Application:
    strategy = ServerStored(found["authorize"], store=MemoryStore(), base=found["base"])
    return make_app(strategy, identify=found["identify"], **{"timeout": 0.5, **options})


@pytest.mark.parametrize("fault", ["raises", "raises a timeout of its own", "answers 502", "hangs"])
@pytest.mark.parametrize("part", ["identify", "authorize", "base"])
async def test_a_failure_of_a_callback_is_503_in_time(part: str, fault: str, aiohttp_client: Any) -> None:
    found = parts()
    client = await aiohttp_client(app_of(found))
    requested = {"chat:1": ["publish"]}
    found[part].fault = fault
    assert await error(await request_token(client, requested)) == UNAVAILABLE
    found[part].fault = None
    assert await token_capability(await request_token(client)) == BASE, "the failed request changed nothing"
    assert await token_capability(await request_token(client, requested)) == {**BASE, **requested}
    if part != "authorize":  # a renewal does not call it
        found[part].fault = fault
        assert await error(await request_token(client)) == UNAVAILABLE


@asynccontextmanager
async def run_app(app: web.Application, *, handler_cancellation: bool) -> AsyncIterator[Any]:
    """A client of `app`, on a server that may cancel the handlers of clients that disconnect."""
    runner = web.AppRunner(app, handler_cancellation=handler_cancellation)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
        yield client
    await runner.cleanup()


@pytest.mark.parametrize("cancels", [True, False], ids=["cancelled", "not cancelled"])
@pytest.mark.parametrize("part", ["identify", "authorize", "base"])
async def test_a_client_that_disconnects_leaves_no_partial_change(part: str, cancels: bool) -> None:
    found = parts()
    requested = {"chat:1": ["publish"]}
    async with run_app(app_of(found), handler_cancellation=cancels) as client:
        found[part].fault = "hangs"
        going = asyncio.create_task(request_token(client, requested))
        await found[part].reached.wait()
        going.cancel()
        await found[part].left.wait()  # cancelled with its client, or after the timeout
        found[part].fault = None
        assert await token_capability(await request_token(client)) == BASE
        assert await token_capability(await request_token(client, requested)) == {**BASE, **requested}


async def test_clients_that_disconnect_do_not_use_up_the_connections_to_redis(redis: RedisServer) -> None:
    app = make_app(ServerStored(rooms(), store=RedisStore(redis.url), base=BASE))
    async with run_app(app, handler_cancellation=True) as client:
        redis.hang()
        # More than there are connections to Redis.
        going = [asyncio.create_task(request_token(client, {"chat:2": ["publish"]})) for _ in range(60)]
        await asyncio.wait(going, timeout=0.05)
        for one in going:
            one.cancel()
        await asyncio.wait(going)
        redis.go_on()
        assert (await token_capability(await request_token(client, {"chat:3": ["publish"]})))["chat:3"] == [
            "publish"
        ]
