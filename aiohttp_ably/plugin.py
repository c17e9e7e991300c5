"""The plugin: `setup()`, what handlers get from it, and the guard for routes of your own."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from . import _json
from ._calls import dependable
from ._resource import is_plain
from .auth_request import AuthRequest
from .by_client_id import KeyFor, Keys
from .capability import Capability
from .errors import AuthError, CapabilityDenied, Forbidden, UsageError
from .issuers import Issuer, TokenRequestIssuer
from .responses import REAUTHORIZE_HEADER, error_response, write_reply
from .rules import ChannelPattern
from .script import script_routes
from .server import AblyAuth, Identify
from .strategies import Asked, Strategy

H = TypeVar("H", bound=Callable[..., Awaitable[web.StreamResponse]])

_ABLY = web.AppKey("aiohttp_ably", AblyAuth)
_AUTH: web.RequestKey[dict[AblyAuth, ClientAuth]] = web.RequestKey("aiohttp_ably_auth", dict)
_SENT = web.RequestKey("aiohttp_ably_sent", bool)


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
    if _ABLY in app:
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
    app[_ABLY] = ably
    app.middlewares.append(_middleware(ably))
    app.on_response_prepare.append(_writer(ably))
    app.cleanup_ctx.append(_running(ably, clock_sync))
    if path is not None:
        app.router.add_route("*", path, ably.handler)
    if script_path is not None:
        app.router.add_routes(script_routes(script_path))
    return ably


class ClientAuth:
    """What the client of one request may do, for handlers. Nothing is looked up until it is asked for."""

    def __init__(self, ably: AblyAuth, request: web.Request) -> None:
        self._ably = ably
        self._auth = AuthRequest(request=request)
        self._identified = False
        self._handled = False

    async def identify(self) -> str | None:
        """The client id, as `identify` of `setup()` gives it; asked once a request."""
        if not self._identified:
            await dependable(self._ably.identify(self._auth), self._ably.timeout)
            self._identified = True
        return self._auth.client_id

    @property
    def client_id(self) -> str | None:
        """The client id, None when signed out; known once any method here was awaited, `identify()` say."""
        if not self._identified:
            raise RuntimeError("the client id is not known yet: `await get_auth(request).identify()` first")
        return self._auth.client_id

    async def capability(self) -> Capability:
        """What the client holds now, its base included."""
        if not await self._known():
            return Capability()
        return await dependable(self._ably.strategy.capability(self._auth), self._ably.timeout)

    async def allows(self, operation: str, resource: str) -> bool:
        """Whether the client may do `operation` on `resource`, by what it holds now."""
        if not await self._known():
            return False
        return await dependable(
            self._ably.strategy.allows(self._auth, operation, resource), self._ably.timeout
        )

    async def grant(self, capability: Asked) -> Capability:
        """Let the client hold `capability` too; its response tells it to reauthorize.

        Returns what it holds then. Raises Forbidden when it is signed out, and UsageError when the strategy
        keeps nothing, or when the response's headers are sent already; then nothing is changed.
        """
        granted = Capability(capability)
        return await self._change(lambda: self._ably.strategy.grant(self._auth, granted))

    async def withdraw(self, *resources: str) -> Capability:
        """Take `resources` from the client; its response tells it to reauthorize. Raises as `grant` does."""
        return await self._change(lambda: self._ably.strategy.withdraw(self._auth, resources))

    async def token(self) -> Mapping[str, object]:
        """What the auth route would answer to this client: the members of a TokenRequest or TokenDetails.

        Raises Forbidden when the client is signed out, or when nothing is granted to it.
        """
        await self._writable()
        began = time.perf_counter()
        issued, decision = await dependable(self._ably.issue(self._auth), self._ably.timeout)
        await self._ably.events.issued(self._auth, decision, time.perf_counter() - began)
        members: Mapping[str, object] = _json.loads(issued.body)
        return members

    def reauthorize(self) -> None:
        """Let this response tell the client to fetch a new token: what it may do has changed elsewhere."""
        self._auth.set_header(REAUTHORIZE_HEADER, "1")

    async def _known(self) -> bool:
        return await self.identify() is not None or self._ably.anonymous

    async def _writable(self) -> None:
        if not await self._known():
            raise Forbidden("signed out: sign in first")
        request = self._auth.request
        if request is not None and _SENT in request:
            raise UsageError(
                "the response's headers are sent, so no grant can be written any more; change it before"
                " `await response.prepare(request)`"
            )

    async def _change(self, change: Callable[[], Coroutine[Any, Any, Capability]]) -> Capability:
        await self._writable()
        before = await dependable(self._ably.strategy.held(self._auth), self._ably.timeout)
        after = await dependable(change(), self._ably.timeout)
        if after != before:
            self.reauthorize()
        return after

    def _handled_by(self, response: web.StreamResponse | None) -> None:
        """Called with what the handler answered, whose session aiohttp-session is about to save.

        None when it failed: then no grant goes out with the error page, and no session is saved.
        """
        self._handled = True
        if response is None:
            self._discard()
        elif not isinstance(response, web.Response):
            self._check_session()

    def _write(self, response: web.StreamResponse) -> None:
        """Called when the headers of `response` are about to be sent."""
        if not self._handled:
            self._check_session()
        write_reply(self._auth, response)

    def _check_session(self) -> None:
        if self._auth.session_changed:
            self._discard()
            raise UsageError(_SESSION_OF_A_STREAM)

    def _discard(self) -> None:
        self._auth.session_changed = False
        self._auth.reply.clear()


_SESSION_OF_A_STREAM = (
    "the grant is kept in the session, and aiohttp-session saves that only with a plain response that the"
    " handler returns unsent; grant in such a handler, or use a store that is not the session"
)


def get_auth(request: web.Request) -> ClientAuth:
    """What the client of `request` may do; the same object for all of a request.

    Raises RuntimeError where neither the handler's app nor one above it was set up.
    """
    ably = request.config_dict.get(_ABLY)
    if ably is None:
        raise RuntimeError("call aiohttp_ably.setup(app, ...) for this app, or for one above it")
    known: dict[AblyAuth, ClientAuth] = request.setdefault(_AUTH, {})
    if ably not in known:
        known[ably] = ClientAuth(ably, request)
        ably.is_asked = True
    return known[ably]


def requires(pattern: str, *operations: str) -> Callable[[H], H]:
    """Guard a handler: the client must hold every one of `operations` on the resource that `pattern` names.

    `{room}` in the pattern is filled from the route's `match_info`; a value that is not one segment names
    nothing that is held. Without the right the answer is 401 with
    40160, so that a client reauthorizes and tries again, and 403 with 40300 when signed out. Raises
    ValueError for a malformed pattern, or for no operation.
    """
    channel = ChannelPattern(pattern)
    if not operations:
        raise ValueError(f"requires({pattern!r}) names no operation, such as 'publish'")
    Capability({pattern: operations})  # warns of an unknown operation

    def guard(handler: H) -> H:
        @functools.wraps(handler)
        async def guarded(*args: Any, **kwargs: Any) -> web.StreamResponse:
            target = args[-1]
            request = target.request if isinstance(target, web.View) else target
            resource = channel.fill(request.match_info)
            auth = get_auth(request)
            if not await auth._known():
                raise Forbidden("signed out: sign in first")
            named = is_plain(resource) and channel.match(resource) is not None
            for operation in operations:
                if not named or not await auth.allows(operation, resource):
                    raise CapabilityDenied(
                        f"this needs {operation!r} on {resource[:200]!r}; ask for it and try again"
                    )
            return await handler(*args, **kwargs)

        return guarded  # type: ignore[return-value]

    return guard


def _middleware(ably: AblyAuth) -> Middleware:
    @web.middleware
    async def ably_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response: web.StreamResponse | None = None
        try:
            response = await handler(request)
        except AuthError as refusal:
            if _SENT in request:
                raise
            response = error_response(refusal)
        except web.HTTPException as error:
            response = error
            raise
        finally:
            if ably.is_asked and (auth := _known(request, ably)):
                auth._handled_by(response)
        return response

    return ably_middleware


def _writer(ably: AblyAuth) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def write(request: web.Request, response: web.StreamResponse) -> None:
        if ably.is_asked and (auth := _known(request, ably)):
            auth._write(response)
        request[_SENT] = True

    return write


def _known(request: web.Request, ably: AblyAuth) -> ClientAuth | None:
    # Every request of the app comes here, so a missing key is looked for without its KeyError.
    return request[_AUTH].get(ably) if _AUTH in iter(request) else None


def _running(
    ably: AblyAuth, clock_sync: timedelta | None
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def running(_app: web.Application) -> AsyncIterator[None]:
        await ably.start(clock_sync.total_seconds() if clock_sync else None)
        yield
        await ably.close()

    return running
