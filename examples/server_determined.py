"""ServerDetermined: the members of a project may use its channel. Clients need not request it.

Run it:     python -m examples.server_determined
A token:    curl -H 'Authorization: Bearer alice-token' http://127.0.0.1:8080/ably/auth
Narrowed:   curl -H 'Authorization: Bearer alice-token' 'http://127.0.0.1:8080/ably/auth?channel=project:tea'
Join:       curl -i -H 'Authorization: Bearer bob-token' -X POST http://127.0.0.1:8080/projects/cake
"""

from __future__ import annotations

from aiohttp import web

import aiohttp_ably
from aiohttp_ably import AuthRequest, ServerDetermined, get_auth

from .running import ClientOptions, run

USERS = {"Bearer alice-token": "alice", "Bearer bob-token": "bob"}
PROJECTS = {"tea": {"alice", "bob"}, "cake": {"alice"}}


async def current_user(request: web.Request) -> str | None:
    """The user whose API token is in the request, None when there is none."""
    return USERS.get(request.headers.get("Authorization", ""))


async def channels_of_projects(auth: AuthRequest) -> dict[str, list[str]]:
    """All that the client may do. A real app reads it from its database."""
    mine = [name for name, members in PROJECTS.items() if auth.client_id in members]
    projects = {f"project:{name}": ["publish", "subscribe", "history"] for name in mine}
    return {"announcements": ["subscribe"], **projects}


async def join(request: web.Request) -> web.Response:
    """Join a project. The response tells the client to fetch a new token."""
    auth = get_auth(request)
    user, members = await auth.identify(), PROJECTS.get(request.match_info["name"])
    if user is None or members is None:
        raise web.HTTPNotFound
    members.add(user)
    auth.reauthorize()
    return web.json_response((await auth.capability()).to_dict())


def make_app(key: str, client_options: ClientOptions = None) -> web.Application:
    """The app. `key` is its Ably API key, `client_options` say how the server reaches Ably."""
    app = web.Application()
    aiohttp_ably.setup(
        app,
        key=key,
        identify=current_user,
        strategy=ServerDetermined(channels_of_projects),
        client_options=client_options,
    )
    app.router.add_post("/projects/{name}", join)
    return app


if __name__ == "__main__":
    run(make_app)
