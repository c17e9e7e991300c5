"""Small apps for tests, and functions that request tokens from them."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient

import aiohttp_ably
from aiohttp_ably import AuthRequest, ChannelRules, KeyRing, TokenRequestIssuer

KEY = "app1.key1:0123456789abcdefghijklmnopqrstuvwxyzABCDEF"
KEY_SECRET = KEY.partition(":")[2]
OTHER_KEY = "app2.key9:abcdefghijklmnopqrstuvwxyz0123456789ABCDEF"
SECRET = "a secret of the server, long enough"
PATH = "/ably/auth"
BASE = {"lobby": ["subscribe"]}
ROOM = {"chat:1": ["publish"]}
SECRET_ROOM = {"chat:secret": ["publish"]}
NEWER_KEY = "app1.key2:another0secret0of0the0same0app"

Client = TestClient[web.Request, web.Application]


def auth_of(client_id: str | None = "alice", keys: Any = KEY) -> AuthRequest:
    """An AuthRequest of an identified client, without a request."""
    return AuthRequest(client_id=client_id, keys=KeyRing.of(keys))


def by_header(request: web.Request) -> str | None:
    """The `identify` of these apps: the client id is the header X-User."""
    return request.headers.get("X-User")


def rooms(calls: list[str] | None = None) -> ChannelRules:
    """Rules that allow every room except those named `secret…`. Each call is appended to `calls`."""
    rules = ChannelRules()

    @rules.channel("chat:{room}")
    async def chat(auth: AuthRequest, room: str) -> list[str]:
        if calls is not None:
            calls.append(f"chat:{room}")
        return [] if room.startswith("secret") else ["publish", "subscribe", "presence"]

    return rules


def make_app(strategy: aiohttp_ably.Strategy, **options: Any) -> web.Application:
    """An app with the auth route, and the routes `/grant`, `/withdraw` and `/may` of `install`."""
    app = web.Application()
    options.setdefault("issuer", TokenRequestIssuer(jitter=0))
    install(app, strategy, **options)
    return app


def install(app: web.Application, strategy: aiohttp_ably.Strategy, **options: Any) -> aiohttp_ably.AblyAuth:
    """Set up `app`, and add routes that call `get_auth()`.

    `/grant` and `/withdraw` get their arguments as JSON. `/may` answers with all that the client may do.
    """
    ably = aiohttp_ably.setup(app, strategy=strategy, **{"key": KEY, "identify": by_header, **options})
    app.router.add_post("/grant", _grant)
    app.router.add_post("/withdraw", _withdraw)
    app.router.add_get("/may", _may)
    return ably


async def _grant(request: web.Request) -> web.Response:
    granted = await aiohttp_ably.get_auth(request).grant(await request.json())
    return web.json_response(granted.to_dict())


async def _withdraw(request: web.Request) -> web.Response:
    granted = await aiohttp_ably.get_auth(request).withdraw(*await request.json())
    return web.json_response(granted.to_dict())


async def _may(request: web.Request) -> web.Response:
    return web.json_response((await aiohttp_ably.get_auth(request).capability()).to_dict())


async def request_token(
    client: Client, capability: Any = None, *, user: str | None = "alice", method: str = "GET", **options: Any
) -> ClientResponse:
    """Request a token with `capability`, which is sent as JSON."""
    params = list(dict(options.pop("params", {})).items())
    if capability is not None:
        params.append(("capability", capability if isinstance(capability, str) else json.dumps(capability)))
    headers = {**({"X-User": user} if user else {}), **options.pop("headers", {})}
    kind = "params" if method == "GET" else "data"
    return await client.request(method, PATH, headers=headers, **{kind: params}, **options)


async def token_capability(response: ClientResponse) -> dict[str, list[str]]:
    """The capability of the token in a successful answer."""
    assert response.status == 200, await response.text()
    members = await response.json()
    return json.loads(members["capability"])


async def error(response: ClientResponse) -> tuple[int, int]:
    """The status and code of an error, after a check of its form."""
    body = json.loads(await response.read())
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "code", "statusCode", "href"}
    assert body["error"]["statusCode"] == response.status
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Ably-ErrorCode"] == str(body["error"]["code"])
    assert response.headers["X-Ably-ErrorMessage"]
    assert KEY_SECRET not in json.dumps(body)
    return response.status, body["error"]["code"]


def denied(response: ClientResponse) -> dict[str, list[str]]:
    """The requested part that the token does not carry, as the header `Ably-Denied` names it."""
    return json.loads(response.headers.get("Ably-Denied", "{}"))


class GrantClient:
    """A client that keeps its grant and sends it in `Ably-Grant`: what it got in that header, or its JWT."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.grant = ""

    async def request(self, method: str, path: str, *, headers: Any = None, **options: Any) -> ClientResponse:
        sent = {"Ably-Grant": self.grant, **(headers or {})}
        response = await self._client.request(method, path, headers=sent, **options)
        if "Ably-Grant" in response.headers:
            self.grant = response.headers["Ably-Grant"]
        elif response.status == 200:
            self.grant = (await response.json()).get("token", self.grant)
        return response

    async def post(self, path: str, **options: Any) -> ClientResponse:
        return await self.request("POST", path, **options)
