"""For your own handlers: get_auth(), what it returns, and requires(), which guards a route."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from aiohttp import web

from .capability import Capability, CapabilityLike, is_plain, strict_json
from .errors import CapabilityDenied, Forbidden, UsageError
from .http import write_reply
from .request import REAUTHORIZE_HEADER, AuthRequest
from .rules import ChannelPattern
from .server import AblyAuth

T = TypeVar("T")
H = TypeVar("H", bound=Callable[..., Awaitable[web.StreamResponse]])

ABLY = web.AppKey("aiohttp_ably", AblyAuth)


class ClientAuth:
    """The capability of the client behind one request. Everything is loaded lazily.

    Changes are sent with the response to the request: a signed cookie or header, the session, and the header
    `Ably-Reauthorize`, which tells a client helper to fetch a new token.
    """

    def __init__(self, ably: AblyAuth, request: web.Request, response: ResponseState) -> None:
        self._ably = ably
        self._auth = AuthRequest(request)
        self._response = response
        self._identified = False

    async def identify(self) -> str | None:
        """The client id that `identify` of `setup()` returns; it is called once for a request."""
        if not self._identified:
            await self._run(self._ably.identify(self._auth))
            self._identified = True
        return self._auth.client_id

    @property
    def client_id(self) -> str | None:
        """The client id, None when the client is not signed in.

        Raises RuntimeError before any method of this object was awaited.
        """
        if not self._identified:
            raise RuntimeError("the client id is not known yet: `await get_auth(request).identify()` first")
        return self._auth.client_id

    async def capability(self) -> Capability:
        """All that the client may do now: what was granted to it, and its base."""
        if not await self._is_known():
            return Capability()
        return await self._run(self._ably.strategy.capability(self._auth))

    async def allows(self, operation: str, resource: str) -> bool:
        """Whether the client may do `operation` on `resource` now.

        An operation unknown to Ably warns with UnknownOperationWarning.
        """
        Capability({resource: operation})
        if not await self._is_known():
            return False
        return await self._run(self._ably.strategy.allows(self._auth, operation, resource))

    async def grant(self, capability: CapabilityLike) -> Capability:
        """Grant `capability` to the client; the response tells it to reauthorize.

        Returns what is granted afterwards. Raises Forbidden when the client is not signed in, and UsageError
        when the strategy stores nothing or the headers of the response are sent already. An error changes
        nothing.
        """
        added = Capability(capability)
        return await self._change(lambda: self._ably.strategy.grant(self._auth, added))

    async def withdraw(self, *resources: str) -> Capability:
        """Withdraw `resources` from the client; the response tells it to reauthorize. Raises as `grant`."""
        return await self._change(lambda: self._ably.strategy.withdraw(self._auth, resources))

    async def token(self) -> Mapping[str, object]:
        """Issue a token as the auth route does: the members of a TokenRequest or TokenDetails.

        Raises Forbidden when the client is not signed in, or when nothing is granted to it.
        """
        await self._check_writable()
        began = time.perf_counter()
        issued, decision = await self._run(self._ably.issue(self._auth))
        await self._ably.events.issued(
            self._auth, decision.capability, decision.denied, time.perf_counter() - began
        )
        members: Mapping[str, object] = strict_json.loads(issued.body)
        return members

    def reauthorize(self) -> None:
        """Tell the client in this response to fetch a new token: its capability was changed elsewhere.

        Raises UsageError when the headers of the response are sent already.
        """
        self._response.check_unsent()
        self._auth.set_header(REAUTHORIZE_HEADER, "1")

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return await self._ably.run(self._auth, work)

    async def _is_known(self) -> bool:
        return await self.identify() is not None or self._ably.anonymous

    async def _check_writable(self) -> None:
        if not await self._is_known():
            raise Forbidden("not signed in: sign in first")
        self._response.check_unsent()

    async def _change(self, change: Callable[[], Coroutine[Any, Any, Capability]]) -> Capability:
        await self._check_writable()
        before = await self._run(self._ably.strategy.granted(self._auth))
        after = await self._run(change())
        if after != before:
            self.reauthorize()
        return after


class ResponseState(dict[AblyAuth, ClientAuth]):
    """The ClientAuth objects of one request, and whether its response is sent. Clones share it.

    A dict, because most requests use none: it must cost them little.
    """

    is_sent = False
    """Whether the headers are sent, or about to be."""

    def auth(self, ably: AblyAuth, request: web.Request) -> ClientAuth:
        """The ClientAuth of `ably` for this request, always the same."""
        if ably not in self:
            self[ably] = ClientAuth(ably, request, self)
        return self[ably]

    def check_unsent(self) -> None:
        """Raise UsageError when the headers of the response are sent already."""
        if self.is_sent:
            raise UsageError(
                "the response's headers are sent, so no grant and no call to reauthorize can be added;"
                " do it before `await response.prepare(request)`"
            )

    def write(self, response: web.StreamResponse, *, is_returned: bool) -> None:
        """Add the collected headers to a response that is not sent yet.

        Raises UsageError for a changed session when aiohttp-session would not save it: it saves only with a
        plain response that the handler returns.
        """
        for client in self.values():
            auth = client._auth
            if auth.session_changed and not (is_returned and isinstance(response, web.Response)):
                self.discard()
                raise UsageError(
                    "the grant is stored in the session, and aiohttp-session saves it only with a plain"
                    " response that the handler returns; grant in such a handler, or use another store"
                )
            auth.session_changed = False  # aiohttp-session saves it now
            write_reply(auth, response.headers)

    def discard(self) -> None:
        """Forget what was collected: the handler failed, so its error page carries no grant."""
        for client in self.values():
            client._auth.session_changed = False
            client._auth.reply.clear()


# aiohttp before 3.14 has no RequestKey, and takes strings.
_STATE: Any = web.RequestKey("aiohttp_ably", ResponseState) if hasattr(web, "RequestKey") else "aiohttp_ably"


def response_state(request: web.Request) -> ResponseState:
    """The state of the response to `request`."""
    try:
        state: ResponseState = request[_STATE]
    except KeyError:
        state = request[_STATE] = ResponseState()
    return state


async def write_prepared(request: web.Request, response: web.StreamResponse) -> None:
    """Add the collected headers to a response that is about to be sent (on_response_prepare)."""
    state = response_state(request)
    state.is_sent = True
    if state:
        state.write(response, is_returned=False)


def get_auth(request: web.Request) -> ClientAuth:
    """The capability of the client behind `request`; always the same object for one request.

    Raises RuntimeError when neither the handler's app nor one above it was set up.
    """
    ably = request.config_dict.get(ABLY)
    if ably is None:
        raise RuntimeError("call aiohttp_ably.setup(app, ...) for this app, or for one above it")
    return response_state(request).auth(ably, request)


def requires(pattern: str, *operations: str) -> Callable[[H], H]:
    """Guard a handler: the client must have every one of `operations` on the resource `pattern`.

    Args:
        pattern: a resource, in which the route's `match_info` fills placeholders such as `{room}`. A value
            that is not one plain segment is answered with 401, because no client may do anything on it.
        operations: one operation or more, such as "publish".

    The answer is 401 with code 40160 when the client lacks an operation, so that it reauthorizes and tries
    again, and 403 with code 40300 when it is not signed in. Raises ValueError for a malformed pattern or no
    operation, and TypeError when it is used without arguments. An app does not start when the route of a
    guarded handler lacks a placeholder.
    """
    if callable(pattern):
        raise TypeError('write @requires("chat:{room}", "publish"): the decorator needs a resource')
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
            if not await auth._is_known():
                raise Forbidden("not signed in: sign in first")
            is_named = is_plain(resource) and channel.match(resource) is not None
            for operation in operations:
                if not is_named or not await auth.allows(operation, resource):
                    raise CapabilityDenied(
                        f"this needs {operation!r} on {resource[:200]!r}; request it and try again"
                    )
            return await handler(*args, **kwargs)

        guarded._ably_placeholders = (*channel.names, *placeholders(handler))  # type: ignore[attr-defined]
        return guarded  # type: ignore[return-value]

    return guard


def placeholders(handler: object) -> tuple[str, ...]:
    """The placeholders that the route of `handler` needs, because `requires` guards it."""
    names: tuple[str, ...] = getattr(handler, "_ably_placeholders", ())
    if isinstance(handler, type) and issubclass(handler, web.View):
        for method in ("get", "post", "put", "patch", "delete", "head", "options"):
            names += placeholders(getattr(handler, method, None))
    return names
