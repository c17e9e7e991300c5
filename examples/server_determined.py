"""A server that knows it all: who works on a project may use its channel. Clients ask for nothing.

Run it:     python -m examples.server_determined
A token:    curl -H 'Authorization: Bearer alice-token' http://127.0.0.1:8080/ably/auth
For less:   curl -H 'Authorization: Bearer alice-token' 'http://127.0.0.1:8080/ably/auth?channel=project:tea'
Work on it: curl -i -H 'Authorization: Bearer bob-token' -X POST http://127.0.0.1:8080/projects/cake
"""

from __future__ import annotations

from aiohttp import web

import aiohttp_ably
from aiohttp_ably import AuthRequest, ServerDetermined, get_auth

from .running import ClientOptions, run

USERS = {"Bearer alice-token": "alice", "Bearer bob-token": "bob"}
PROJECTS = {"tea": {"alice", "bob"}, "cake": {"alice"}}


async def current_user(request: web.Request) -> str | None:
    """Whose API token came with the request."""
    return USERS.get(request.headers.get("Authorization", ""))


async def what_they_work_on(auth: AuthRequest) -> dict[str, list[str]]:
    """All that a client may do; a real app asks its database."""
    mine = [name for name, members in PROJECTS.items() if auth.client_id in members]
    projects = {f"project:{name}": ["publish", "subscribe", "history"] for name in mine}
    return {"announcements": ["subscribe"], **projects}


async def start_work(request: web.Request) -> web.Response:
    """Join a project: the list is another now, and the response tells the client to fetch it."""
    auth = get_auth(request)
    user, members = await auth.identify(), PROJECTS.get(request.match_info["name"])
    if user is None or members is None:
        raise web.HTTPNotFound
    members.add(user)
    auth.reauthorize()
    return web.json_response((await auth.capability()).to_dict())


def make_app(key: str, client_options: ClientOptions = None) -> web.Application:
    """The app, with `key` as its Ably API key; `client_options` say how it reaches Ably itself."""
    app = web.Application()
    aiohttp_ably.setup(
        app,
        key=key,
        identify=current_user,
        strategy=ServerDetermined(what_they_work_on),
        client_options=client_options,
    )
    app.router.add_post("/projects/{name}", start_work)
    return app


if __name__ == "__main__":
    run(make_app)
