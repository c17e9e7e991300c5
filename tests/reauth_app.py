"""An app with the auth route, for tests of the client helpers. It records their auth requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from apps import BASE, PATH, SECRET, install, rooms

from aiohttp_ably import (
    AuthRequest,
    ClientSigned,
    ClientStored,
    JWTIssuer,
    JWTStore,
    MemoryStore,
    ServerDetermined,
    ServerStored,
    Strategy,
    TokenRequestIssuer,
)

ROOM = ["presence", "publish", "subscribe"]


@dataclass(frozen=True)
class ReceivedRequest:
    """What the app records of an auth request."""

    body: Mapping[str, Any]
    prefer: str
    grant: str | None

    @property
    def capability(self) -> dict[str, list[str]]:
        return self.body.get("capability", {})


@dataclass
class ReauthApp:
    """The app. Its settings can be changed by a test, and by a client with POST `/settings`.

    `user`: the client id of the signed-in user, or None.
    `down`: whether the auth route answers with 503.
    `rights`: the capability that ServerDetermined resolves.
    """

    strategy: Callable[[ReauthApp], Strategy]
    options: dict[str, Any] = field(default_factory=dict)
    user: str | None = "alice"
    down: bool = False
    rights: dict[str, list[str]] = field(default_factory=lambda: dict(BASE))
    requests: list[ReceivedRequest] = field(default_factory=list)
    grants: list[str | None] = field(default_factory=list)

    def make(self, key: str) -> web.Application:
        app = web.Application(middlewares=[self._record])
        options = {"issuer": TokenRequestIssuer(jitter=0), **self.options}
        install(app, self.strategy(self), key=key, identify=lambda request: self.user, **options)
        app.router.add_post("/settings", self._change_settings)
        return app

    def capabilities(self) -> list[dict[str, list[str]]]:
        """The requested capability of each auth request."""
        return [received.capability for received in self.requests]

    @web.middleware
    async def _record(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path != PATH:
            return await handler(request)
        assert request.method == "POST"
        headers = request.headers
        self.requests.append(
            ReceivedRequest(await request.json(), headers["Prefer"], headers.get("Ably-Grant"))
        )
        if self.down:
            raise web.HTTPServiceUnavailable(text="<p>down</p>", content_type="text/html")
        response = await handler(request)
        self.grants.append(response.headers.get("Ably-Grant"))
        return response

    async def _change_settings(self, request: web.Request) -> web.Response:
        vars(self).update(await request.json())
        return web.Response()


async def _resolve_rights(app: ReauthApp, auth: AuthRequest) -> Mapping[str, list[str]]:
    return app.rights


def server_determined(app: ReauthApp) -> Strategy:
    return ServerDetermined(lambda auth: _resolve_rights(app, auth))


def server_stored(app: ReauthApp) -> Strategy:
    return ServerStored(rooms(), store=MemoryStore(), base=BASE)


def client_stored(app: ReauthApp) -> Strategy:
    return ClientStored(rooms(), base=BASE)


def client_signed(app: ReauthApp) -> Strategy:
    return ClientSigned(rooms(), secret=SECRET, base=BASE)


def token_signed(app: ReauthApp) -> Strategy:
    return ClientSigned(rooms(), store=JWTStore(), base=BASE)


STRATEGIES: dict[str, tuple[Callable[[ReauthApp], Strategy], dict[str, Any], dict[str, Any]]] = {
    "server determined": (server_determined, {}, {}),
    "server stored": (server_stored, {}, {}),
    "client stored": (client_stored, {}, {"list": True}),
    "client signed": (client_signed, {}, {"grant": "header"}),
    "client signed in the token": (token_signed, {"issuer": JWTIssuer(jitter=0)}, {"grant": "token"}),
}
"""By name: the strategy, options of `setup()`, options of the client helper."""
