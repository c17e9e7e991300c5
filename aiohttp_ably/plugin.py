"""The plugin: `setup()` and the middleware."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from .by_client_id import KeyFor, Keys
from .errors import AuthError
from .handlers import ABLY, handled, is_sent
from .issuers import Issuer, TokenRequestIssuer
from .responses import error_response
from .script import script_routes
from .server import AblyAuth, Identify
from .strategies import Strategy


def setup(
    app: web.Application,
    *,
    key: Keys | KeyFor,
    identify: Identify,
    strategy: Strategy,
    issuer: Issuer | None = None,
    path: str | None = "/ably/auth",
    script_path: str | None = None,
    origins: Iterable[str] = (),
    anonymous: bool = False,
    wildcard_client_id: bool = False,
    timeout: float = 5.0,
    clock: Callable[[], float] = time.time,
    clock_sync: timedelta | None = timedelta(hours=6),
    client_options: Mapping[str, Any] | None = None,
) -> AblyAuth:
    """Make `app` an auth server for Ably.

    `key` is your Ably API key, a KeyRing of them, or a function of the request that finds its tenant's.
    `identify(request)` returns the client id of the signed-in user, None when signed out; what a client says
    of itself never counts. `strategy` decides what a token carries and `issuer` makes it, a TokenRequest by
    default. The auth route is added at `path`; with None add the returned object's `handler` yourself. At
    `script_path`, such as "/ably/reauth.js", the browser's half is served to any page.
    `origins` are those besides its own whose pages may use it. `anonymous` lets a signed-out client have a
    token without a client id, `wildcard_client_id` lets `identify` return `*`. What an answer depends on has
    `timeout` seconds; SDKs give up after 10. `clock` gives the seconds since the epoch; it is compared with
    Ably's when the app starts and every `clock_sync` (None: never), and how far it is off is allowed for.
    `client_options` are client options of `ably.AblyRest` that say how the server itself reaches Ably.

    With sessions, call `aiohttp_session.setup(app, …)` first: ours runs inside it. Raises ValueError with
    everything that is wrong, and RuntimeError when the app is set up or frozen already.
    """
    if not isinstance(app, web.Application):
        raise TypeError(f"setup() takes a web.Application first, got {app!r}")
    if ABLY in app:
        raise RuntimeError("aiohttp_ably.setup() was called for this app already")
    if app.frozen:
        raise RuntimeError("call aiohttp_ably.setup() before the app runs or becomes a sub-app")
    if path is not None and not path.startswith("/"):
        raise ValueError(f"path={path!r} must start with '/', such as '/ably/auth', or be None")
    if script_path is not None and (not script_path.startswith("/") or script_path == path):
        raise ValueError(
            f"script_path={script_path!r} must be a path of its own, such as '/ably/reauth.js', or None"
        )
    if clock_sync is not None and clock_sync <= timedelta(0):
        raise ValueError(f"clock_sync={clock_sync!r} must be over 0, such as timedelta(hours=6), or be None")
    ably = AblyAuth(
        key=key,
        identify=identify,
        strategy=strategy,
        issuer=issuer or TokenRequestIssuer(),
        origins=origins,
        anonymous=anonymous,
        wildcard_client_id=wildcard_client_id,
        timeout=timeout,
        clock=clock,
        client_options=client_options,
    )
    app[ABLY] = ably
    app.middlewares.append(_middleware(ably))
    app.cleanup_ctx.append(_running(ably, clock_sync))
    if path is not None:
        app.router.add_route("*", path, ably.handler)
    if script_path is not None:
        app.router.add_routes(script_routes(script_path))
    return ably


def _middleware(ably: AblyAuth) -> Middleware:
    @web.middleware
    async def ably_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response: web.StreamResponse | None = None
        try:
            response = await handler(request)
        except AuthError as refusal:
            if is_sent(request):
                raise
            response = error_response(refusal)
        except web.HTTPException as error:
            response = error
            raise
        finally:
            if ably.is_asked:
                handled(request, ably, response)
        return response

    return ably_middleware


def _running(
    ably: AblyAuth, clock_sync: timedelta | None
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def running(_app: web.Application) -> AsyncIterator[None]:
        await ably.start(clock_sync.total_seconds() if clock_sync else None)
        yield
        await ably.close()

    return running
