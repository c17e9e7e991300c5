"""ServerStored: clients request open rooms, and the server grants the others. Grants are in the session.

Run it:    python -m examples.server_stored
Sign in:   curl -c jar -d user=alice http://127.0.0.1:8080/login
A token:   curl -b jar -c jar 'http://127.0.0.1:8080/ably/auth?channel=room:tea'
Join:      curl -b jar -c jar -X POST http://127.0.0.1:8080/rooms/cake/join
Publish:   curl -b jar -d text=hello http://127.0.0.1:8080/rooms/cake/messages
"""

from __future__ import annotations

import aiohttp_session
from aiohttp import web
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from cryptography.fernet import Fernet

import aiohttp_ably
from aiohttp_ably import AuthRequest, ChannelRules, ServerStored, SessionStore, get_auth, requires

from .running import ClientOptions, run

OPEN_ROOMS = {"tea", "coffee"}
INVITED = {"cake": {"alice"}}
rules, routes = ChannelRules(), web.RouteTableDef()


@rules.channel("room:{room}")
async def room(auth: AuthRequest, room: str) -> list[str]:
    """What a client that requests a room may do there: everything in an open room."""
    return ["publish", "subscribe", "presence"] if room in OPEN_ROOMS else []


async def current_user(request: web.Request) -> str | None:
    """The name of the signed-in user, from the session."""
    return (await aiohttp_session.get_session(request)).get("user")


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    """Sign in by name. A real app checks a password too."""
    session, form = await aiohttp_session.new_session(request), await request.post()
    session["user"] = str(form["user"])
    return web.json_response({"signed in": session["user"]})


@routes.post("/rooms/{room}/join")
async def join(request: web.Request) -> web.Response:
    """Grant a room to an invited client. The response tells it to reauthorize."""
    auth, name = get_auth(request), request.match_info["room"]
    if await auth.identify() not in INVITED.get(name, ()):  # never grants "*": it is not a room
        raise web.HTTPForbidden(text=f"you are not invited to {name}")
    return web.json_response((await auth.grant({f"room:{name}": ["publish", "subscribe"]})).to_dict())


@routes.post("/rooms/{room}/messages")
@requires("room:{room}", "publish")
async def publish_message(request: web.Request) -> web.Response:
    """Publish a message. The token's capability guards this route too."""
    return web.json_response({"text": str((await request.post())["text"])})


def make_app(key: str, client_options: ClientOptions = None) -> web.Application:
    """The app. `key` is its Ably API key, `client_options` say how the server reaches Ably."""
    app = web.Application()
    aiohttp_session.setup(app, EncryptedCookieStorage(Fernet(Fernet.generate_key())))
    aiohttp_ably.setup(
        app,
        key=key,
        identify=current_user,
        strategy=ServerStored(rules, store=SessionStore(), base={"lobby": ["subscribe"]}),
        client_options=client_options,
    )
    app.add_routes(routes)
    return app


if __name__ == "__main__":
    run(make_app)
