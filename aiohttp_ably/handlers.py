"""What the client of one request may do: for your own handlers, and for the guard of their routes."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from aiohttp import web
from multidict import CIMultiDict

from ._callbacks import dependable
from .capability import Capability
from .capability import strict_json as _json
from .capability.resources import is_plain
from .errors import CapabilityDenied, Forbidden, UsageError
from .request import AuthRequest
from .responses import REAUTHORIZE_HEADER, write_reply
from .rules import ChannelPattern
from .server import AblyAuth
from .strategies import CapabilityLike

T = TypeVar("T")
H = TypeVar("H", bound=Callable[..., Awaitable[web.StreamResponse]])

ABLY = web.AppKey("aiohttp_ably", AblyAuth)
_AUTH: web.RequestKey[dict[AblyAuth, ClientAuth]] = web.RequestKey("aiohttp_ably_auth", dict)
_SENT = web.RequestKey("aiohttp_ably_sent", bool)


class ClientAuth:
    """What the client of one request may do, for handlers. Nothing is looked up until it is asked for."""

    def __init__(self, ably: AblyAuth, request: web.Request) -> None:
        self._ably = ably
        self._request = request
        self._auth = AuthRequest(request=request)
        self._identified = False
        self._handled = False

    async def identify(self) -> str | None:
        """The client id, as `identify` of `setup()` gives it; asked once a request."""
        if not self._identified:
            await self._dependable(self._ably.identify(self._auth))
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
        return await self._dependable(self._ably.strategy.capability(self._auth))

    async def allows(self, operation: str, resource: str) -> bool:
        """Whether the client may do `operation` on `resource`, by what it holds now."""
        if not await self._known():
            return False
        return await self._dependable(self._ably.strategy.allows(self._auth, operation, resource))

    async def grant(self, capability: CapabilityLike) -> Capability:
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
        issued, decision = await self._dependable(self._ably.issue(self._auth))
        await self._ably.events.issued(self._auth, decision, time.perf_counter() - began)
        members: Mapping[str, object] = _json.loads(issued.body)
        return members

    def reauthorize(self) -> None:
        """Let this response tell the client to fetch a new token: what it may do has changed elsewhere.

        Raises UsageError when the response's headers are sent already.
        """
        self._check_unsent()
        self._auth.set_header(REAUTHORIZE_HEADER, "1")

    def _dependable(self, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        return dependable(work, self._ably.timeout)

    async def _known(self) -> bool:
        return await self.identify() is not None or self._ably.anonymous

    async def _writable(self) -> None:
        if not await self._known():
            raise Forbidden("signed out: sign in first")
        self._check_unsent()

    async def _change(self, change: Callable[[], Coroutine[Any, Any, Capability]]) -> Capability:
        await self._writable()
        before = await self._dependable(self._ably.strategy.held(self._auth))
        after = await self._dependable(change())
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
        elif response.prepared and self._auth.reply and _SENT not in self._request:
            raise UsageError(_TOO_LATE)  # it was prepared before anything was asked here, and is not sent yet
        elif not isinstance(response, web.Response):
            self._check_session()

    def _write(self, headers: CIMultiDict[str]) -> None:
        """Called with the headers of the response when they are about to be sent."""
        if not self._handled:
            self._check_session()
        write_reply(self._auth, headers)

    def _check_unsent(self) -> None:
        if is_sent(self._request):
            raise UsageError(_TOO_LATE)

    def _check_session(self) -> None:
        if self._auth.session_changed:
            self._discard()
            raise UsageError(_SESSION_OF_A_STREAM)

    def _discard(self) -> None:
        self._auth.session_changed = False
        self._auth.reply.clear()


_TOO_LATE = (
    "the response's headers are sent, so no grant can be written any more, nor the call to reauthorize; do it"
    " before `await response.prepare(request)`"
)
_SESSION_OF_A_STREAM = (
    "the grant is kept in the session, and aiohttp-session saves that only with a plain response that the"
    " handler returns unsent; grant in such a handler, or use a store that is not the session"
)


def get_auth(request: web.Request) -> ClientAuth:
    """What the client of `request` may do; the same object for all of a request.

    Raises RuntimeError where neither the handler's app nor one above it was set up.
    """
    ably = request.config_dict.get(ABLY)
    if ably is None:
        raise RuntimeError("call aiohttp_ably.setup(app, ...) for this app, or for one above it")
    known = request.get(_AUTH)
    if known is None:
        known = request[_AUTH] = {}
        _write_with_headers(request, known)
    if ably not in known:
        known[ably] = ClientAuth(ably, request)
        ably.is_asked = True
    return known[ably]


def requires(pattern: str, *operations: str) -> Callable[[H], H]:
    """Guard a handler: the client must hold every one of `operations` on the resource that `pattern` names.

    `{room}` in the pattern is filled from the route's `match_info`; a value that is not one segment names
    nothing that is held. Without the right the answer is 401 with 40160, so that a client reauthorizes and
    tries again, and 403 with 40300 when signed out. Raises ValueError for a malformed pattern, or for no
    operation.
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


def handled(request: web.Request, ably: AblyAuth, response: web.StreamResponse | None) -> None:
    """Called with what the handler of `request` answered, and None when it failed."""
    # Most requests have nothing here, so a missing key is looked for without its KeyError.
    if _AUTH in iter(request) and (auth := request[_AUTH].get(ably)):
        auth._handled_by(response)


def is_sent(request: web.Request) -> bool:
    """Whether the headers of the response are sent: as far as was seen here, or by the bytes that are."""
    sent = request.writer.output_size
    return _SENT in request or (isinstance(sent, int) and sent > 0)  # a mocked request counts nothing


def _write_with_headers(request: web.Request, known: Mapping[AblyAuth, ClientAuth]) -> None:
    """Let what `known` collect go out with the headers of the response, of whatever kind it is.

    The signal that aiohttp has for this costs 4 per cent of each request, of those too that ask nothing here.
    """
    writer = request.writer
    write_headers = writer.write_headers

    async def write(status_line: str, headers: CIMultiDict[str]) -> None:
        writer.write_headers = write_headers  # type: ignore[method-assign]
        for auth in known.values():
            auth._write(headers)
        request[_SENT] = True
        await write_headers(status_line, headers)

    writer.write_headers = write  # type: ignore[method-assign]
