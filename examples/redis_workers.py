"""ServerStored with RedisStore: four worker processes share all grants, and tell clients of changes.

Run it:    python -m examples.redis_workers
Sign in:   curl -c jar -d user=alice http://127.0.0.1:8080/login
A token:   curl -b jar http://127.0.0.1:8080/ably/auth
Admit:     curl -X PUT http://127.0.0.1:8080/rooms/tea/members/alice
Remove:    curl -X DELETE http://127.0.0.1:8080/rooms/tea/members/alice
"""

from __future__ import annotations

import json
import os

import aiohttp_session
from aiohttp import web
from aiohttp_session.cookie_storage import EncryptedCookieStorage

import aiohttp_ably
from aiohttp_ably import AblyAuth, ApiKey, RedisStore, ServerStored, get_auth

from .running import run_workers

ABLY, routes = web.AppKey("ably", AblyAuth), web.RouteTableDef()
OPERATIONS = ["publish", "subscribe"]
# A room named "*" would be a pattern for every room, so the route admits plain names only.
ROOM = r"/rooms/{room:[\w-]+}"


async def current_user(request: web.Request) -> str | None:
    """The name of the signed-in user, from the session cookie that every worker can read."""
    return (await aiohttp_session.get_session(request)).get("user")


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    """Sign in by name. A real app checks a password too."""
    (await aiohttp_session.new_session(request))["user"] = (await request.post())["user"]
    return web.json_response({})


@routes.post(ROOM + "/join")
async def join(request: web.Request) -> web.Response:
    """Grant a room to the client of this request. The response tells it to reauthorize."""
    granted = await get_auth(request).grant({f"room:{request.match_info['room']}": OPERATIONS})
    return web.json_response({"granted": granted.to_dict(), "worker": os.getpid()})


@routes.put(ROOM + "/members/{user}")
async def admit(request: web.Request) -> web.Response:
    """Grant a room to another client, which Ably tells to reauthorize. A real app checks who may do this."""
    user, channel = request.match_info["user"], f"room:{request.match_info['room']}"
    return web.json_response((await request.app[ABLY].grant(user, {channel: OPERATIONS})).to_dict())


@routes.delete(ROOM + "/members/{user}")
async def remove(request: web.Request) -> web.Response:
    """Withdraw a room from a client. Its channel fails within seconds."""
    user, channel = request.match_info["user"], f"room:{request.match_info['room']}"
    return web.json_response((await request.app[ABLY].withdraw(user, channel)).to_dict())


async def make_app() -> web.Application:
    """The app of one worker. Each worker calls this after the fork."""
    app, store = web.Application(), RedisStore(os.environ["REDIS_URL"])
    aiohttp_session.setup(app, EncryptedCookieStorage(os.environ["SESSION_SECRET"]))
    app[ABLY] = aiohttp_ably.setup(
        app,
        key=ApiKey(os.environ["ABLY_API_KEY"], revocable=True),
        identify=current_user,
        strategy=ServerStored(lambda auth, requested: {}, store=store, base={"lobby": ["subscribe"]}),
        client_options=json.loads(os.environ.get("ABLY_CLIENT_OPTIONS", "null")),
    )
    app.add_routes(routes)
    return app


if __name__ == "__main__":
    run_workers("examples.redis_workers:make_app")
