"""The compared servers: `python -m benchmarks.servers <name>…` serves them, and prints their ports.

Each answers `GET /auth` with a token. Those with aiohttp-ably also answer `GET /other` with a constant.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import aiohttp_session
from ably import AblyRest
from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp_session.cookie_storage import EncryptedCookieStorage

import aiohttp_ably
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
    Strategy,
    TokenDetailsIssuer,
)

KEY = os.environ.get("BENCH_KEY", "app.key:0123456789abcdefghijklmnopqrstuvwxyzABCDEF")
SECRET = "a secret of the server, long enough"
SESSION_SECRET = b"0123456789abcdef0123456789abcdef"
REQUESTED = {"chat:1": ["publish", "subscribe"]}
BASE = {"lobby": ["subscribe"]}
ALL = {**REQUESTED, **BASE}
# As long as a TokenRequest.
CONSTANT = json.dumps({"token": "x" * 225}).encode()

rules = ChannelRules()


@rules.channel("chat:{room}")
async def chat(auth: AuthRequest, room: str) -> list[str]:
    return ["publish", "subscribe"]


async def alice(request: web.Request) -> str:
    return "alice"


async def alice_by_session(request: web.Request) -> str:
    await aiohttp_session.get_session(request)
    return "alice"


async def list_of_alice(auth: AuthRequest) -> dict[str, list[str]]:
    return {**REQUESTED, **BASE}


async def constant(request: web.Request) -> web.Response:
    return web.Response(body=CONSTANT, content_type="application/json")


@web.middleware
async def no_op(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await handler(request)


def floor() -> web.Application:
    app = web.Application(middlewares=[no_op])
    app.router.add_get("/auth", constant)
    app.router.add_get("/other", constant)
    return app


def floor_without_middleware() -> web.Application:
    app = web.Application()
    app.router.add_get("/auth", constant)
    return app


def hand_written() -> web.Application:
    ably = AblyRest(KEY)

    async def auth(request: web.Request) -> web.Response:
        params = {"client_id": "alice", "capability": json.loads(request.query["capability"])}
        return web.json_response((await ably.auth.create_token_request(params)).to_dict())

    app = web.Application()
    app.router.add_get("/auth", auth)
    return app


def hand_written_with_session() -> web.Application:
    ably = AblyRest(KEY)

    async def auth(request: web.Request) -> web.Response:
        session = await aiohttp_session.get_session(request)
        session["rooms"] = {**session.get("rooms", {}), **json.loads(request.query["capability"])}
        params = {"client_id": "alice", "capability": session["rooms"]}
        return web.json_response((await ably.auth.create_token_request(params)).to_dict())

    app = web.Application()
    aiohttp_session.setup(app, EncryptedCookieStorage(SESSION_SECRET))
    app.router.add_get("/auth", auth)
    return app


def with_plugin(strategy: Strategy, *, session: bool = False, **options: Any) -> web.Application:
    app = web.Application()
    if session:
        aiohttp_session.setup(app, EncryptedCookieStorage(SESSION_SECRET))
    options = {"key": KEY, "identify": alice, "path": "/auth", "clock_sync": None, **options}
    aiohttp_ably.setup(app, strategy=strategy, **options)
    app.router.add_get("/other", constant)
    return app


def stored_in_session(**options: Any) -> web.Application:
    return with_plugin(ServerStored(rules, store=SessionStore(), base=BASE), session=True, **options)


def token_details() -> web.Application:
    emulator = {"endpoint": "127.0.0.1", "port": int(os.environ["BENCH_EMULATOR_PORT"]), "tls": False}
    return with_plugin(ServerDetermined(list_of_alice), issuer=TokenDetailsIssuer(), client_options=emulator)


def redis() -> web.Application:
    store = RedisStore(f"redis://127.0.0.1:{os.environ['BENCH_REDIS_PORT']}/0", ttl=timedelta(days=1))
    return with_plugin(ServerStored(rules, store=store, base=BASE))


SERVERS: dict[str, Callable[[], web.Application]] = {
    "floor": floor,
    "floor-bare": floor_without_middleware,
    "hand-written": hand_written,
    "hand-written-session": hand_written_with_session,
    "determined": lambda: with_plugin(ServerDetermined(list_of_alice)),
    "determined-for-all": lambda: with_plugin(ServerDetermined(ALL)),
    "determined-jwt": lambda: with_plugin(ServerDetermined(list_of_alice), issuer=JWTIssuer()),
    "determined-details": token_details,
    "stored-memory": lambda: with_plugin(ServerStored(rules, store=MemoryStore(), base=BASE)),
    "stored-session": stored_in_session,
    "stored-session-read": lambda: stored_in_session(identify=alice_by_session),
    "stored-redis": redis,
    "client-stored": lambda: with_plugin(ClientStored(rules, base=BASE)),
    "signed": lambda: with_plugin(ClientSigned(rules, secret=SECRET, base=BASE)),
    "signed-encrypted": lambda: with_plugin(ClientSigned(rules, secret=SECRET, encrypt=True, base=BASE)),
    "signed-jwt": lambda: with_plugin(ClientSigned(rules, store=JWTStore(), base=BASE), issuer=JWTIssuer()),
}


def rooms(count: int) -> Capability:
    """The capability of a client that was granted `count` channels."""
    return Capability({f"chat:{number}": REQUESTED["chat:1"] for number in range(1, count + 1)})


async def serve(names: list[str]) -> None:
    """Serve the apps `names`, each on its own port, and print the ports in one line."""
    ports = []
    for name in names:
        runner = web.AppRunner(SERVERS[name](), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports.append(runner.addresses[0][1])
    print(*ports, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
