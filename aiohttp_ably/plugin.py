"""The plugin: setup() and the middleware."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from .errors import AuthError, UsageError
from .handlers import ABLY, placeholders, response_state, write_prepared
from .http import error_response, script_routes
from .issuers import Issuer, TokenRequestIssuer
from .keys import Keys
from .server import AblyAuth, Identify, KeyFor
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

    With sessions, call `aiohttp_session.setup(app, …)` first: its middleware must run outside this one.

    Args:
        app: the aiohttp app, or a sub-app before it is added.
        key: your Ably API key, an ApiKey, a KeyRing of several, or a sync or async function of the request
            that returns the keys of its tenant.
        identify: a sync or async function of the request that returns the client id of the signed-in user, or
            None when nobody is signed in. A client that claims another client id gets 403.
        strategy: decides what a token allows: ServerDetermined, ServerStored, ClientStored or ClientSigned.
        issuer: makes the token: TokenRequestIssuer (the default), JWTIssuer or TokenDetailsIssuer.
        path: the path of the auth route, which answers GET, POST and OPTIONS. With None add the `handler` of
            the returned object yourself.
        script_path: a path such as "/ably/reauth.js" that serves the client helper to browsers; by default
            none.
        origins: the origins, besides the app's own, whose pages may use the auth route, such as
            "https://app.example.com".
        anonymous: whether a client that is not signed in gets a token without a client id.
        wildcard_client_id: whether `identify` may return "*", with which a client may act as any client.
        timeout: the seconds that `identify`, `authorize`, the store and Ably together may take. SDKs stop
            waiting after 10.
        clock: returns the time of this machine, in seconds since the epoch.
        clock_sync: how often the clock is compared with Ably's, for the first time when the app starts; None
            for never. Tokens carry the time of Ably's clock.
        client_options: client options of `ably.AblyRest` that say how the server itself reaches Ably, such as
            `endpoint`; by default the real Ably.

    Returns the AblyAuth of the app, which changes grants by client id.

    Raises:
        ValueError: options are invalid. The message names each of them, and says what would be right.
        TypeError: `app` is not an aiohttp app.
        RuntimeError: the app is set up already, or frozen.
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
    for taken in (path, script_path):
        _check_free(app, taken)
    ably = AblyAuth(
        key=key,
        identify=identify,
        strategy=strategy,
        issuer=TokenRequestIssuer() if issuer is None else issuer,
        origins=origins,
        anonymous=anonymous,
        wildcard_client_id=wildcard_client_id,
        timeout=timeout,
        clock=clock,
        client_options=client_options,
    )
    app[ABLY] = ably
    app.middlewares.append(_middleware)
    app.on_response_prepare.append(write_prepared)
    app.cleanup_ctx.append(_running(ably, clock_sync))
    if path is not None:
        app.router.add_route("*", path, ably.handler)
    if script_path is not None:
        app.router.add_routes(script_routes(script_path))
    return ably


@web.middleware
async def _middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors of the auth server into responses, and add the headers that get_auth() collected."""
    state = response_state(request)
    try:
        response = await handler(request)
    except AuthError as refusal:
        if state.is_sent:
            raise
        response = error_response(refusal)
    except web.HTTPException as raised:
        state.write(raised, is_returned=True)
        raise
    except BaseException:
        state.discard()
        raise
    if state and not state.is_sent:
        state.write(response, is_returned=True)
    return response


def _check_free(app: web.Application, path: str | None) -> None:
    """Raise ValueError when a route that the app has already would answer requests for `path`."""
    if path is None:
        return
    for resource in app.router.resources():
        # aiohttp tries the most explicit path first, so "/{tail:.*}" and "/" do not get in the way.
        info = resource.get_info()
        if path in (info.get("path"), info.get("prefix")):
            raise ValueError(f"the app has a route for {path!r} already; choose another path")


def _check_guards(app: web.Application) -> None:
    """Raise UsageError when `requires` guards a handler whose route lacks one of its placeholders."""
    for route in app.router.routes():
        needed = placeholders(route.handler)
        if not needed or route.resource is None:
            continue
        pattern = route.resource.get_info().get("pattern")
        known = pattern.groupindex if pattern is not None else {}
        missing = sorted({name for name in needed if name not in known})
        if missing:
            raise UsageError(
                f"requires() guards {route.method} {route.resource.canonical} with the placeholder"
                f" {{{missing[0]}}}, which the route lacks; name it so in the route's path"
            )


def _running(
    ably: AblyAuth, clock_sync: timedelta | None
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def running(app: web.Application) -> AsyncIterator[None]:
        _check_guards(app)
        await ably.start(clock_sync.total_seconds() if clock_sync else None)
        yield
        await ably.close()

    return running
