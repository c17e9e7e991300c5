"""A single-page app on another origin than its API: CORS for the auth route, and a bearer token, no cookie.

Run it:    python -m examples.cross_origin_spa
Open it:   http://localhost:8080/#alice-token   (the page; its API is at http://127.0.0.1:8080)
Refused:   curl -i -H 'Origin: https://evil.example' http://127.0.0.1:8080/ably/auth
"""

from __future__ import annotations

import json
import os

from aiohttp import web

import aiohttp_ably
from aiohttp_ably import AuthRequest, ChannelRules, MemoryStore, ServerStored

from .running import ClientOptions, run

ORIGIN = f"http://localhost:{os.environ.get('PORT', 8080)}"
USERS = {"Bearer alice-token": "alice", "Bearer bob-token": "bob"}
PAGE = """<!doctype html>
<meta charset="utf-8"><title>Wall</title>
<ul></ul><input placeholder="Write on the wall"><button disabled>Send</button>
<script src="https://cdn.ably.com/lib/ably.min-2.js"></script>
<script type="module">
  const api = `http://127.0.0.1:${location.port}`;
  const { Reauthorizer } = await import(`${api}/ably/reauth.js`);
  const headers = { authorization: `Bearer ${location.hash.slice(1)}` };
  const reauth = new Reauthorizer(`${api}/ably/auth`, { headers });
  const ably = reauth.bind(new Ably.Realtime({ ...CLIENT_OPTIONS, ...reauth.clientOptions() }));
  const wall = ably.channels.get("wall:town");
  await reauth.need("wall:town", ["subscribe", "publish"]);
  const [list, text, send] = document.querySelectorAll("ul, input, button");
  await wall.subscribe(({ clientId, data }) => {
    const item = list.appendChild(document.createElement("li"));
    item.textContent = `${clientId}: ${data}`;
  });
  send.onclick = () => wall.publish("note", text.value);
  send.disabled = false;
</script>
"""
rules = ChannelRules()


@rules.channel("wall:{town}")
async def wall(auth: AuthRequest, town: str) -> list[str]:
    """Every signed-in user may read and write."""
    return ["publish", "subscribe"]


async def current_user(request: web.Request) -> str | None:
    """The user whose API token is in the request, None when there is none."""
    return USERS.get(request.headers.get("Authorization", ""))


def make_app(key: str, client_options: ClientOptions = None, origin: str = ORIGIN) -> web.Application:
    """The app. `key` is its Ably API key, `client_options` say how the server reaches Ably."""
    page = PAGE.replace("CLIENT_OPTIONS", json.dumps(dict(client_options or {})))

    async def index(request: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    app = web.Application()
    aiohttp_ably.setup(
        app,
        key=key,
        identify=current_user,
        strategy=ServerStored(rules, store=MemoryStore(), base={"announcements": ["subscribe"]}),
        origins=[origin],
        script_path="/ably/reauth.js",
        client_options=client_options,
    )
    app.router.add_get("/", index)
    return app


if __name__ == "__main__":
    run(make_app)
