"""The chat as an aiohttp app: sessions, the auth server, the page and its API."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import aiohttp_session
from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from cryptography.fernet import Fernet

import aiohttp_ably
from aiohttp_ably import TokenRequestIssuer
from aiohttp_ably.emulator import Emulator

from .api import Api
from .identity import current_user
from .rooms import Rooms
from .sdk import CDN, installed_sdk
from .strategies import CHECKED, Chosen, make_strategies
from .streams import Streams

STATIC = Path(__file__).parent / "static"
SDK_PATH = "/sdk/ably.js"


def make_app(
    ably: str | Emulator,
    *,
    ttl: timedelta = timedelta(hours=1),
    sdk: Path | str | None = None,
    clock: Callable[[], float] = time.time,
) -> web.Application:
    """The chat as an app.

    Args:
        ably: an Ably API key, or a started emulator.
        ttl: the lifetime of a token.
        sdk: the file or URL of ably-js. By default the installed npm package, else Ably's CDN.
        clock: returns the time in seconds since the epoch.
    """
    rooms, streams = Rooms(), Streams()
    strategies = make_strategies(rooms, secret=secrets.token_urlsafe(32))
    key, address = (ably, None) if isinstance(ably, str) else (ably.key, _address(ably))
    sdk = sdk or installed_sdk() or CDN
    page = {
        "sdk": SDK_PATH if isinstance(sdk, Path) else sdk,
        "options": {**address, "disableConnectivityCheck": True} if address else {},
    }

    app = web.Application()
    storage = EncryptedCookieStorage(Fernet(Fernet.generate_key()), cookie_name="chat", samesite="Lax")
    aiohttp_session.setup(app, storage)
    aiohttp_ably.setup(
        app,
        key=key,
        identify=current_user,
        strategy=Chosen(strategies, rooms),
        issuer=TokenRequestIssuer(ttl=ttl),
        script_path="/ably/reauth.js",
        clock=clock,
        client_options=address,
    )
    Api(rooms, streams, strategies, page).add_routes(app)
    app.router.add_get("/", _index)
    if isinstance(sdk, Path):
        app.router.add_get(SDK_PATH, _file(sdk))
    app.router.add_static("/static", STATIC)
    app.on_response_prepare.append(_add_checked)
    app.on_shutdown.append(streams.close)
    return app


def _address(emulator: Emulator) -> dict[str, object]:
    return {"endpoint": emulator.host, "port": emulator.port, "tls": False}


async def _index(request: web.Request) -> web.FileResponse:
    return web.FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


def _file(path: Path) -> Handler:
    async def handler(request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    return handler


async def _add_checked(request: web.Request, response: web.StreamResponse) -> None:
    """Name the capability that the rules checked in the header `Chat-Checked`, for the page's panel."""
    if request.path.startswith("/static/"):
        response.headers["Cache-Control"] = "no-cache"
    if CHECKED in request:
        response.headers["Chat-Checked"] = json.dumps(request[CHECKED].to_dict())
