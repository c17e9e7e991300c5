"""Four worker processes and one Redis: what any of them grants, all of them know, and the client is told.

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


async def current_user(request: web.Request) -> str | None:
    """Who is signed in. The session is a cookie, which every worker can read."""
    return (await aiohttp_session.get_session(request)).get("user")


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    """Sign in by name; a real app asks for more."""
    session = await aiohttp_session.new_session(request)
    session["user"] = (await request.post())["user"]
    return web.json_response({})


@routes.post("/rooms/{room}/join")
async def join(request: web.Request) -> web.Response:
    """Let the client itself in: its own response tells it to reauthorize."""
    held = await get_auth(request).grant({f"room:{request.match_info['room']}": ["publish", "subscribe"]})
    return web.json_response({"held": held.to_dict(), "worker": os.getpid()})


@routes.put("/rooms/{room}/members/{user}")
async def admit(request: web.Request) -> web.Response:
    """Let somebody else in: Ably tells that client to reauthorize. A real app asks who may do this."""
    room = f"room:{request.match_info['room']}"
    held = await request.app[ABLY].grant(request.match_info["user"], {room: ["publish", "subscribe"]})
    return web.json_response(held.to_dict())


@routes.delete("/rooms/{room}/members/{user}")
async def remove(request: web.Request) -> web.Response:
    """The opposite: the client's channel fails within seconds."""
    user, room = request.match_info["user"], f"room:{request.match_info['room']}"
    return web.json_response((await request.app[ABLY].withdraw(user, room)).to_dict())


async def make_app() -> web.Application:
    """The app of one worker; gunicorn makes one in each, after the fork."""
    app = web.Application()
    store = RedisStore(os.environ["REDIS_URL"])
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
