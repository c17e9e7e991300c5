"""ClientStored: documents whose readers change often. The server checks the whole list for every token.

Run it:    python -m examples.client_stored
A token:   curl -H 'Authorization: Bearer bob-token' -d 'channel=doc:plan' -d 'channel=doc:menu' \
             http://127.0.0.1:8080/ably/auth
Share it:  curl -H 'Authorization: Bearer alice-token' -X PUT http://127.0.0.1:8080/documents/plan/readers/bob
In the page: new Reauthorizer("/ably/auth", { list: true, storage: sessionStorage })
"""

from __future__ import annotations

from aiohttp import web

import aiohttp_ably
from aiohttp_ably import AuthRequest, ChannelRules, ClientStored, requires

from .running import ClientOptions, run

USERS = {"Bearer alice-token": "alice", "Bearer bob-token": "bob"}
EDITORS = {"plan": {"alice"}, "menu": {"alice", "bob"}}
READERS: dict[str, set[str]] = {"plan": set(), "menu": set()}

rules = ChannelRules()


@rules.channel("doc:{document}")
async def document(auth: AuthRequest, document: str) -> list[str]:
    """What the client may do with a document now. Called for every token."""
    if auth.client_id in EDITORS.get(document, ()):
        return ["publish", "subscribe", "presence", "history"]
    if auth.client_id in READERS.get(document, ()):
        return ["subscribe", "history"]
    return []


async def current_user(request: web.Request) -> str | None:
    """The user whose API token is in the request, None when there is none."""
    return USERS.get(request.headers.get("Authorization", ""))


@requires("doc:{document}", "publish")  # calls the same rule
async def share(request: web.Request) -> web.Response:
    """Let another user read the document. Every editor may share it."""
    READERS[request.match_info["document"]].add(request.match_info["reader"])
    return web.json_response({})


def make_app(key: str, client_options: ClientOptions = None) -> web.Application:
    """The app. `key` is its Ably API key, `client_options` say how the server reaches Ably."""
    app = web.Application()
    aiohttp_ably.setup(
        app,
        key=key,
        identify=current_user,
        strategy=ClientStored(rules, base={"announcements": ["subscribe"]}),
        client_options=client_options,
    )
    app.router.add_put("/documents/{document}/readers/{reader}", share)
    return app


if __name__ == "__main__":
    run(make_app)
