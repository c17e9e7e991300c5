"""The store contract over memory, sessions in cookies and in Redis, and Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp_session
import pytest
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from aiohttp_session.redis_storage import RedisStorage
from pytest_aiohttp.plugin import AiohttpClient
from redis.asyncio import Redis
from redis_server import RedisServer
from store_contract import CONTRACT, Shelf, serve

from aiohttp_ably import CapabilityStore, MemoryStore, RedisStore, SessionStore

SECRET = b"0123456789abcdef0123456789abcdef"
STORES = ["memory", "Redis", "session in a cookie", "session in an encrypted cookie", "session in Redis"]


@pytest.fixture(params=STORES)
async def shelf(request: pytest.FixtureRequest, aiohttp_client: AiohttpClient) -> AsyncIterator[Shelf]:
    """Each kind of store in turn, behind an app of its own, with nothing in it."""
    kind: str = request.param
    if kind.endswith("Redis"):
        server: RedisServer = request.getfixturevalue("redis_server")
        async with Redis.from_url(server.url) as redis:
            await redis.flushall()
            if kind == "Redis":
                yield Shelf(await aiohttp_client(serve(RedisStore(redis))), RedisStore(redis))
            else:
                yield await _session_shelf(aiohttp_client, RedisStorage(redis))
    elif kind == "memory":
        store: CapabilityStore = MemoryStore()
        yield Shelf(await aiohttp_client(serve(store)), store)
    else:
        plain, encrypted = aiohttp_session.SimpleCookieStorage(), EncryptedCookieStorage(SECRET)
        yield await _session_shelf(aiohttp_client, encrypted if "encrypted" in kind else plain)


async def _session_shelf(aiohttp_client: AiohttpClient, storage: aiohttp_session.AbstractStorage) -> Shelf:
    store = SessionStore()
    app = serve(store)
    aiohttp_session.setup(app, storage)
    return Shelf(await aiohttp_client(app), store, is_cookie=not isinstance(storage, RedisStorage))


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_a_store_keeps_its_contract(check: Callable[[Shelf], Awaitable[None]], shelf: Shelf) -> None:
    await check(shelf)
