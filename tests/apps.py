"""Small apps for tests, and one way to ask their auth route."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient

import aiohttp_ably
from aiohttp_ably import ChannelRules, TokenRequestIssuer

KEY = "app1.key1:0123456789abcdefghijklmnopqrstuvwxyzABCDEF"
OTHER_KEY = "app2.key9:abcdefghijklmnopqrstuvwxyz0123456789ABCDEF"
SECRET = "a secret of the server, long enough"
PATH = "/ably/auth"
BASE = {"lobby": ["subscribe"]}

Client = TestClient[web.Request, web.Application]


def by_header(request: web.Request) -> str | None:
    """Signed in is who says so in X-User."""
    return request.headers.get("X-User")


def rooms(calls: list[str] | None = None) -> ChannelRules:
    """Rules for rooms, open but for those named `secret…`; each check goes into `calls`."""
    rules = ChannelRules()

    @rules.channel("chat:{room}")
    async def chat(auth: aiohttp_ably.AuthRequest, room: str) -> list[str]:
        if calls is not None:
            calls.append(f"chat:{room}")
        return [] if room.startswith("secret") else ["publish", "subscribe", "presence"]

    return rules


def make_app(strategy: aiohttp_ably.Strategy, **options: Any) -> web.Application:
    """An app with the auth route, `/grant`, `/withdraw` and `/may` over what it is told in JSON."""
    app = web.Application()
    options.setdefault("issuer", TokenRequestIssuer(jitter=0))
    install(app, strategy, **options)
    return app


def install(app: web.Application, strategy: aiohttp_ably.Strategy, **options: Any) -> aiohttp_ably.AblyAuth:
    """The same on an app that has sessions, say, already."""
    ably = aiohttp_ably.setup(app, strategy=strategy, **{"key": KEY, "identify": by_header, **options})
    app.router.add_post("/grant", _grant)
    app.router.add_post("/withdraw", _withdraw)
    app.router.add_get("/may", _may)
    return ably


async def _grant(request: web.Request) -> web.Response:
    held = await aiohttp_ably.get_auth(request).grant(await request.json())
    return web.json_response(held.to_dict())


async def _withdraw(request: web.Request) -> web.Response:
    held = await aiohttp_ably.get_auth(request).withdraw(*await request.json())
    return web.json_response(held.to_dict())


async def _may(request: web.Request) -> web.Response:
    return web.json_response((await aiohttp_ably.get_auth(request).capability()).to_dict())


async def ask(
    client: Client, capability: Any = None, *, user: str | None = "alice", method: str = "GET", **options: Any
) -> ClientResponse:
    """Ask the auth route for `capability`, as JSON text."""
    params = list(dict(options.pop("params", {})).items())
    if capability is not None:
        params.append(("capability", capability if isinstance(capability, str) else json.dumps(capability)))
    headers = {**({"X-User": user} if user else {}), **options.pop("headers", {})}
    kind = "params" if method == "GET" else "data"
    return await client.request(method, PATH, headers=headers, **{kind: params}, **options)


async def granted(response: ClientResponse) -> dict[str, list[str]]:
    """What the token of a good answer carries."""
    assert response.status == 200, await response.text()
    members = await response.json()
    return json.loads(members["capability"])


async def error(response: ClientResponse) -> tuple[int, int]:
    """Status and code of a refusal, checked for the one form that refusals have."""
    body = json.loads(await response.read())
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "code", "statusCode", "href"}
    assert body["error"]["statusCode"] == response.status
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Ably-ErrorCode"] == str(body["error"]["code"])
    assert response.headers["X-Ably-ErrorMessage"]
    assert KEY.partition(":")[2] not in json.dumps(body)
    return response.status, body["error"]["code"]


def denied(response: ClientResponse) -> dict[str, list[str]]:
    """What the answer says was asked and is not in the token."""
    return json.loads(response.headers.get("Ably-Denied", "{}"))
