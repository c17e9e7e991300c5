"""Keys: rotation does not change what is granted, and each tenant has its own."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import aiohttp_session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from apps import (
    KEY,
    NEWER_KEY,
    OTHER_KEY,
    PATH,
    ROOM,
    SECRET,
    SECRET_ROOM,
    error,
    install,
    request_token,
    rooms,
    token_capability,
)
from emulator_helpers import bearer
from redis.asyncio import Redis
from redis_server import RedisServer

from aiohttp_ably import (
    ApiKey,
    CapabilityStore,
    ClientSigned,
    Issuer,
    JWTIssuer,
    JWTStore,
    KeyRing,
    MemoryStore,
    RedisStore,
    ServerStored,
    SessionStore,
    Strategy,
    TokenRequestIssuer,
)
from aiohttp_ably.emulator import Emulator
from aiohttp_ably.tokens import verify_jwt, verify_token_request

TENANTS = {"one": KEY, "two": OTHER_KEY}
KINDS: dict[str, Callable[[CapabilityStore, str], Strategy]] = {
    "memory": lambda memory, redis: ServerStored(rooms(), store=memory),
    "redis": lambda memory, redis: ServerStored(rooms(), store=RedisStore(redis, prefix="rotation:")),
    "session": lambda memory, redis: ServerStored(rooms(), store=SessionStore()),
    "signed": lambda memory, redis: ClientSigned(rooms(), secret=SECRET),
    "encrypted": lambda memory, redis: ClientSigned(rooms(), secret=SECRET, encrypt=True),
}


class Browser:
    """One browser with its cookies, for apps that are started one after another with the same stores."""

    def __init__(self, aiohttp_server: Any, redis: RedisServer) -> None:
        self._server = aiohttp_server
        self._redis = redis
        self._memory = MemoryStore()
        self.client: TestClient[web.Request, web.Application] | None = None

    async def open(self, kind: str, key: Any) -> TestClient[web.Request, web.Application]:
        """Start an app with this key, and connect the browser to it."""
        app = web.Application()
        if kind == "session":
            aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
        install(app, KINDS[kind](self._memory, self._redis.url), key=key, issuer=TokenRequestIssuer(jitter=0))
        jar = None
        if self.client is not None:
            jar = self.client.session.cookie_jar
            await self.client.close()
        server: TestServer = await self._server(app)
        self.client = TestClient(server, cookie_jar=jar)
        return self.client


@pytest.fixture
async def browser(aiohttp_server: Any, redis_server: RedisServer) -> Any:
    async with Redis.from_url(redis_server.url) as redis:
        await redis.flushall()
    browser = Browser(aiohttp_server, redis_server)
    yield browser
    if browser.client is not None:
        await browser.client.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_capability_granted_before_a_rotation_is_granted_after_it(kind: str, browser: Browser) -> None:
    for number, key in enumerate([[KEY], [NEWER_KEY, KEY], [NEWER_KEY]]):
        client = await browser.open(kind, key)
        answer = await request_token(client, ROOM if number == 0 else None)
        assert await token_capability(answer) == ROOM
        members = await answer.json()
        assert members["keyName"] == KeyRing(key).newest.name
        assert verify_token_request(members, KeyRing(key)) == KeyRing(key).newest


async def test_jwt_grant_of_the_old_key_still_verifies(aiohttp_client: Any) -> None:
    token = ""
    for key, signer in (([KEY], KEY), ([NEWER_KEY, KEY], NEWER_KEY), ([NEWER_KEY], NEWER_KEY)):
        app = web.Application()
        install(app, ClientSigned(rooms(), store=JWTStore()), key=key, issuer=JWTIssuer())
        client = await aiohttp_client(app)
        answer = await request_token(client, None if token else ROOM, headers={"Ably-Grant": token})
        assert await token_capability(answer) == ROOM
        token = (await answer.json())["token"]
        assert verify_jwt(token, KeyRing(key), now=0).key_name == ApiKey(signer).name


async def test_jwt_grant_of_a_removed_key_grants_nothing(aiohttp_client: Any) -> None:
    app = web.Application()
    install(app, ClientSigned(rooms(), store=JWTStore()), key=KEY, issuer=JWTIssuer())
    token = (await (await request_token(await aiohttp_client(app), ROOM)).json())["token"]
    app = web.Application()
    install(app, ClientSigned(rooms(), store=JWTStore()), key=NEWER_KEY, issuer=JWTIssuer())
    assert await error(await request_token(await aiohttp_client(app), headers={"Ably-Grant": token})) == (
        403,
        40300,
    )


async def test_tokens_of_every_key_of_the_ring_are_revoked(aiohttp_server: Any) -> None:
    old, new = ApiKey(KEY, revocable=True), ApiKey(NEWER_KEY, revocable=True)
    async with Emulator([old, new]) as emulator:
        options = {"endpoint": emulator.host, "port": emulator.port, "tls": False}
        ably, tokens = None, []
        for key in (KeyRing([old]), KeyRing([new, old])):
            app = web.Application()
            strategy = ServerStored(rooms(), store=MemoryStore())
            ably = install(app, strategy, key=key, issuer=JWTIssuer(), client_options=options)
            async with TestClient(await aiohttp_server(app)) as client:
                tokens.append((await (await request_token(client, ROOM)).json())["token"])
        assert ably is not None
        await ably.revoke("alice")
        await ably.close()
        async with TestClient(TestServer(web.Application())) as client:
            for token in tokens:
                url = f"{emulator.url}/channels/chat:1/messages"
                async with client.session.post(url, json={}, headers=bearer(token)) as answer:
                    assert answer.headers["X-Ably-ErrorCode"] == "40141"


async def tenant_key(request: web.Request) -> str | None:
    """The key of the tenant that the header X-Tenant names."""
    return TENANTS.get(request.headers.get("X-Tenant", ""))


def at(tenant: str) -> dict[str, str]:
    return {"X-Tenant": tenant}


@pytest.mark.parametrize("kind", KINDS)
async def test_grant_of_one_tenant_does_not_count_for_another(kind: str, browser: Browser) -> None:
    client = await browser.open(kind, tenant_key)
    answer = await request_token(client, ROOM, headers=at("one"))
    assert await token_capability(answer) == ROOM
    assert (await answer.json())["keyName"] == ApiKey(KEY).name
    assert await error(await request_token(client, headers=at("two"))) == (403, 40300)
    answer = await request_token(client, {"chat:2": ["subscribe"]}, headers=at("two"))
    assert await token_capability(answer) == {"chat:2": ["subscribe"]}
    assert (await answer.json())["keyName"] == ApiKey(OTHER_KEY).name


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_withdrawal_of_one_tenant_leaves_the_other_unchanged(kind: str, browser: Browser) -> None:
    client = await browser.open(kind, tenant_key)
    await request_token(client, {"chat:a": ["publish"]}, user="carol", headers=at("one"))
    await request_token(client, {"chat:b": ["publish"]}, user="carol", headers=at("two"))
    await client.post("/withdraw", json=["chat:b"], headers={"X-User": "carol", **at("two")})
    granted = await token_capability(await request_token(client, user="carol", headers=at("one")))
    assert granted == {"chat:a": ["publish"]}


@pytest.mark.parametrize("issuer", [TokenRequestIssuer(), JWTIssuer()], ids=["token request", "jwt"])
@pytest.mark.parametrize("tenant", [None, "", "three", "ONE"])
async def test_request_without_a_known_tenant_is_malformed(
    tenant: str | None, issuer: Issuer, aiohttp_client: Any
) -> None:
    app = web.Application()
    install(app, ServerStored(rooms(), store=MemoryStore()), key=tenant_key, issuer=issuer)
    client = await aiohttp_client(app)
    headers = {} if tenant is None else at(tenant)
    assert await error(await request_token(client, ROOM, headers=headers)) == (400, 40000)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda request: "app1.key1-without-a-secret", id="an incomplete key"),
        pytest.param(lambda request: f"{KEY} ", id="a key with a space"),
        pytest.param(lambda request: [KEY, OTHER_KEY], id="keys of two apps"),
        pytest.param(lambda request: 7, id="not a string"),
        pytest.param(lambda request: 1 / 0, id="a function that raises"),
    ],
)
async def test_tenant_without_a_usable_key_is_unavailable_and_shows_no_secret(
    answer: Callable[[web.Request], Any], aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = web.Application()
    install(app, ServerStored(rooms(), store=MemoryStore()), key=answer)
    client = await aiohttp_client(app)
    with caplog.at_level(logging.DEBUG):
        response = await client.get(
            PATH, params={"capability": json.dumps(ROOM)}, headers={"X-User": "alice"}
        )
        assert await error(response) == (503, 50300)
    for secret in (KEY, OTHER_KEY):
        assert secret.partition(":")[2] not in caplog.text + await response.text()


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("app1.key1-without-a-secret", "not an Ably API key"),
        ([KEY, OTHER_KEY], "belong to one Ably app, got app1.key1"),
    ],
)
async def test_log_names_what_is_wrong_with_the_key_of_a_tenant(
    keys: Any, problem: str, aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = web.Application()
    install(app, ServerStored(rooms(), store=MemoryStore()), key=lambda request: keys)
    await request_token(await aiohttp_client(app), ROOM)
    assert problem in caplog.text


async def test_grant_and_withdraw_by_client_id_take_the_key_of_the_tenant(aiohttp_client: Any) -> None:
    app = web.Application()
    ably = install(app, ServerStored(rooms(), store=MemoryStore()), key=tenant_key)
    client = await aiohttp_client(app)
    await ably.grant("alice", SECRET_ROOM, key=KEY, tell=False)
    assert await token_capability(await request_token(client, headers=at("one"))) == SECRET_ROOM
    assert await error(await request_token(client, headers=at("two"))) == (403, 40300)
    await ably.withdraw("alice", "chat:secret", key=KEY, tell=False)
    assert await error(await request_token(client, headers=at("one"))) == (403, 40300)
