"""The store contract over all stores: those on the server, those that the client keeps, and an app's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp_session
import pytest
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from aiohttp_session.redis_storage import RedisStorage
from apps import SECRET
from own_parts import DictStore
from pytest_aiohttp.plugin import AiohttpClient
from redis.asyncio import Redis
from redis_server import RedisServer
from store_contract import CONTRACT, Browser, serve

from aiohttp_ably import CapabilityStore, JWTStore, MemoryStore, RedisStore, SessionStore, SignedStore

SESSION_SECRET = b"0123456789abcdef0123456789abcdef"
STORES: dict[str, tuple[Callable[[], CapabilityStore], dict[str, Any]]] = {
    "memory": (MemoryStore, {}),
    "an app's own": (DictStore, {}),
    "signed cookie": (lambda: SignedStore(SECRET), {"is_limited": True}),
    "encrypted cookie": (lambda: SignedStore(SECRET, encrypt=True), {"is_limited": True}),
    "signed header": (lambda: SignedStore(SECRET), {"is_limited": True, "grant": ""}),
    "JWT": (JWTStore, {"is_limited": True, "grant": ""}),
}
SESSIONS: dict[str, Callable[[], aiohttp_session.AbstractStorage]] = {
    "session in a cookie": aiohttp_session.SimpleCookieStorage,
    "session in an encrypted cookie": lambda: EncryptedCookieStorage(SESSION_SECRET),
}
KINDS = [*STORES, *SESSIONS, "session in Redis", "Redis"]


@pytest.fixture(params=KINDS)
async def browser(request: pytest.FixtureRequest, aiohttp_client: AiohttpClient) -> AsyncIterator[Browser]:
    """A browser before each kind of store in turn, with nothing granted."""
    kind: str = request.param
    if kind in STORES:
        make, options = STORES[kind]
        store = make()
        yield Browser(await aiohttp_client(serve(store)), store, **options)
    elif kind in SESSIONS:
        yield await _with_sessions(aiohttp_client, SESSIONS[kind](), is_limited=True)
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        async with Redis.from_url(server.url) as redis:
            await redis.flushall()
            if kind == "Redis":
                store = RedisStore(redis)
                yield Browser(await aiohttp_client(serve(store)), store)
            else:
                yield await _with_sessions(aiohttp_client, RedisStorage(redis), is_limited=False)


async def _with_sessions(
    aiohttp_client: AiohttpClient, storage: aiohttp_session.AbstractStorage, *, is_limited: bool
) -> Browser:
    store = SessionStore()
    app = serve(store)
    aiohttp_session.setup(app, storage)
    return Browser(await aiohttp_client(app), store, is_limited)


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_store_keeps_its_contract(
    check: Callable[[Browser], Awaitable[None]], browser: Browser
) -> None:
    await check(browser)
