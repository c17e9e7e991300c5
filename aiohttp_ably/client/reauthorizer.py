"""Reauthorizer: request a capability for an ably-python client, and recover from error 40160.

    async with Reauthorizer("https://app.example.com/ably/auth") as reauth:
        realtime = reauth.bind(AblyRealtime(**reauth.client_options()))
        await reauth.need("chat:1", ["publish", "subscribe"])

It sends one auth request at a time. Calls that are made together share one request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeVar

import aiohttp
from ably import AblyException
from yarl import URL

from ..capability import ALL, NOTHING, Capability, Operations, without_params
from ..errors import BadRequest, Forbidden, TooLarge
from ..request import REAUTHORIZE_HEADER
from .answers import Answer, AuthServerError, RaisingTokenDetails, is_denial, missing_capability_error
from .calls import Call, fail_all, next_batch
from .token_source import GrantBy, Headers, ReauthorizerEvent, TokenSource

T = TypeVar("T")
C = TypeVar("C")

_CHANNEL_FAILED = 90001  # "channel operation failed (invalid channel state)"
_ENDED = ("closing", "closed", "failed")


class Reauthorizer:
    """Gets the tokens of one Ably client, and changes its capability while it is connected.

    Args:
        url: the absolute URL of the auth route.
        params: sent with every auth request; by default none.
        headers: HTTP headers of every auth request, or a function that returns them, for example with the
            current bearer token; by default none. ably-python does not see them.
        list: True keeps the client's list of granted capabilities here, and sends all of it with every auth
            request, which the strategy ClientStored needs. By default only what is new is sent.
        storage: a mapping of str to str that keeps the list and the grant, so that a later process can use
            them. By default both are lost with this object.
        grant: how a signed grant is kept and sent. `"cookie"`, the default, is a cookie of `session`;
            `"header"` is the header Ably-Grant; `"token"` sends the last JWT as the grant, for a JWTStore.
        session: the aiohttp.ClientSession that sends the requests, with its cookies; `close` leaves it open.
            By default a session of its own, which `close` closes.
        timeout: seconds that the auth server has to answer. After them a call fails with code 50300.
        on_event: called with each ReauthorizerEvent. It must not raise. By default events are not reported.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        params: Mapping[str, object] | None = None,
        headers: Headers | None = None,
        list: bool = False,  # noqa: A002  (the name that it has in reauth.js)
        storage: MutableMapping[str, str] | None = None,
        grant: GrantBy = "cookie",
        session: aiohttp.ClientSession | None = None,
        timeout: float = 10.0,
        on_event: Callable[[ReauthorizerEvent], object] | None = None,
    ) -> None:
        self._emit = on_event or (lambda event: None)
        self._source = TokenSource(
            url,
            params=params or {},
            headers=headers or {},
            keeps_list=list,
            storage=storage,
            grant_by=grant,
            session=session,
            timeout=timeout,
            emit=self._emit,
        )
        self._client: Any = None
        self._callback_answer: Answer | None = None  # for the callback of the authorize() that is running
        self._calls: tuple[Call, ...] = ()
        self._runner: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    def client_options(self) -> dict[str, Any]:
        """Options for an Ably client, which then gets its tokens from this object."""
        return {"auth_callback": self._auth_callback}

    def bind(self, client: C) -> C:
        """Set the Ably client, which was made with `client_options()`. Returns `client`."""
        self._client = client
        return client

    @property
    def capability(self) -> Capability:
        """The capability of the client's token."""
        details = self._client.auth.token_details if self._client is not None else None
        if details is not None and details.capability:
            return Capability(details.capability.to_dict())
        return self._source.last_capability

    def allows(self, resource: str, operations: Operations = ALL) -> bool:
        """Whether the client's token allows `operations` on `resource`.

        `"*"`, the default, is allowed if any operation is.
        """
        return not Capability({resource: operations}).missing_from(self.capability)

    async def need(self, resource: str, operations: Operations = ALL) -> None:
        """Make sure that the client's token allows `operations` on `resource`.

        Sends nothing if the token allows them already. Otherwise returns when a new token is in effect.
        `"*"`, the default, requests all operations that the client may have there.

        Raises AuthServerError where the auth server denies them. A later request does not repeat them.
        """
        await self._call(Call(Capability({_resource_of(resource): operations})))

    async def drop(self, resource: str) -> None:
        """Release `resource`. Returns when a token without it is in effect."""
        await self._call(Call(released=(_resource_of(resource),), forced=True))

    async def reauthorize(self) -> None:
        """Get a new token. Returns when it is in effect."""
        await self._call(Call(forced=True))

    def clear(self) -> None:
        """Forget the list and the grant, for example when the user signs out. Sends nothing."""
        self._source.clear()

    async def guard(self, channel: Any, operations: Operations, run: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `run()`, and recover once from error 40160.

        After a 40160 it requests `operations` on `channel`, attaches the channel if it is FAILED, and calls
        `run` again. `channel` is a channel or its name.
        """
        requested = Capability({_resource_of(channel): operations})
        try:
            return await run()
        except AblyException as error:
            attachable = self._client.channels.get(channel) if isinstance(channel, str) else channel
            reason = getattr(attachable, "error_reason", None) if _is_failed(attachable) else None
            if not is_denial(reason if reason and error.code == _CHANNEL_FAILED else error):
                raise
            self._emit(ReauthorizerEvent("refused", requested=requested, error=error))
        await self._call(Call(requested, forced=True))
        if _is_failed(attachable):
            await attachable.attach()
        return await run()

    async def attach(self, channel: Any, operations: Operations = ALL) -> None:
        """`channel.attach()` under `guard`, which requests `operations`."""
        await self.guard(channel, operations, channel.attach)

    async def publish(self, channel: Any, *args: Any, **options: Any) -> Any:
        """`channel.publish(...)` under `guard`."""
        return await self.guard(channel, "publish", lambda: channel.publish(*args, **options))

    async def enter(self, channel: Any, data: Any = None) -> None:
        """`channel.presence.enter(data)` under `guard`. Attaches the channel first."""

        async def enter() -> None:
            await channel.attach()  # within `presence.enter` ably-python would lose its error
            await channel.presence.enter(data)

        await self.guard(channel, "presence", enter)

    async def fetch(self, method: str, url: str | URL, **options: Any) -> aiohttp.ClientResponse:
        """Send one of the app's own requests, and reauthorize if its response has `Ably-Reauthorize`.

        `url`: absolute, or relative to the URL of the auth route. `options`: those of
        aiohttp.ClientSession.request.

        Returns the response, whose body is read. On a connected client the new token is then in effect.
        If the auth server gives no token, nothing is raised; the event `failed` reports it.
        """
        response = await self._source.fetch(method, url, **options)
        state = self._connection_state()
        if REAUTHORIZE_HEADER in response.headers and self._client is not None and state not in _ENDED:
            task = asyncio.create_task(self._reauthorize_quietly())
            self._background.add(task)
            task.add_done_callback(self._background.discard)
            if state in (None, "connected"):
                await asyncio.shield(task)
        return response

    async def close(self) -> None:
        """Cancel the running calls and close the session that was opened here. The Ably client stays open."""
        tasks = [*self._background, *([self._runner] if self._runner else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for call in self._calls:
            call.done.cancel()
        await self._source.close()

    async def __aenter__(self) -> Reauthorizer:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def _auth_callback(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Called by ably-python for each token (RSA4f)."""
        answer, self._callback_answer = self._callback_answer, None
        if answer is None:
            try:
                answer = await self._source.request(
                    Capability.parse(params.get("capability") or {}),
                    client_id=params.get("client_id"),
                    ttl=params.get("ttl"),
                )
            except AuthServerError as error:
                return RaisingTokenDetails(error)
        return dict(answer.members)

    async def _call(self, call: Call) -> None:
        if self._client is None:
            raise TypeError("call bind(client) first: there is no client to authorize")
        self._calls += (call,)
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        await call.done

    async def _run(self) -> None:
        while self._calls:
            batch = next_batch(self._calls)
            self._calls = self._calls[len(batch) :]
            try:
                await self._perform(batch)
            finally:
                for call in batch:
                    call.done.cancel()  # no caller waits forever when `_perform` raises or is cancelled

    async def _perform(self, batch: list[Call]) -> None:
        before = self.capability
        calls = []
        for call in batch:
            if call.forced or call.requested.missing_from(before):
                calls.append(call)
            else:
                call.succeed()
        if not calls:
            return
        try:
            answer, denial = await self._obtain(calls, before)
            self._callback_answer = answer
            try:
                await self._client.auth.authorize()
            finally:
                self._callback_answer = None
        except AuthServerError as error:
            if len(calls) > 1 and error.status_code in (BadRequest.status, TooLarge.status):
                for call in calls:  # only the malformed or too large one is to fail
                    await self._perform([call])
                return
            if error.status_code == Forbidden.status:
                await self._fail_connection(error)
            fail_all(calls, error)
            return
        except Exception as error:
            fail_all(calls, error)
            return
        capability = self.capability
        self._emit(ReauthorizerEvent("reauthorized", capability=capability))
        for call in calls:
            missing = call.requested.missing_from(capability)
            if missing:
                call.fail(denial or missing_capability_error(missing))
            else:
                call.succeed()

    async def _obtain(self, calls: list[Call], before: Capability) -> tuple[Answer, AuthServerError | None]:
        """Get a token for `calls`. If a part of them was denied, the second value is its error.

        The first request is strict, which makes a denial an error. If other calls or the list can still be
        granted, a second request gets the token that omits the denied part.
        """
        requested = NOTHING
        for call in calls:
            requested |= call.requested
        released = tuple(name for call in calls for name in call.released)
        client_id = self._client.auth.client_id
        denial = None
        try:
            answer = await self._source.request(
                requested, released, strict=bool(requested), client_id=client_id
            )
        except AuthServerError as error:
            if not requested or not is_denial(error):
                raise
            if len(calls) == 1 and not self._source.list:
                self._emit(ReauthorizerEvent("denied", denied=requested, error=error))
                raise
            denial = error
            answer = await self._source.request(requested, released, denial=denial, client_id=client_id)
        lost = [name for name in before - answer.capability if name not in released]
        if requested and lost:
            # With ServerDetermined a request narrows the token; one without a capability gets all of it.
            whole = await self._source.request(client_id=client_id)
            allowed = requested - requested.missing_from(answer.capability)
            if not allowed.missing_from(whole.capability):
                answer = whole
        return answer, denial

    async def _fail_connection(self, error: AuthServerError) -> None:
        """Make the connection FAILED after a 403, which ably-python's `authorize()` does not (RSA4d1)."""
        if self._connection_state() in (None, *_ENDED):
            return
        manager = self._client.connection.connection_manager
        manager.on_error_from_authorize(error)
        if manager.transport is not None:
            await manager.transport.dispose()

    async def _reauthorize_quietly(self) -> None:
        with contextlib.suppress(AblyException):  # an event has reported it
            await self.reauthorize()

    def _connection_state(self) -> str | None:
        """None for a REST client."""
        connection = getattr(self._client, "connection", None)
        return None if connection is None else connection.state


def _resource_of(channel: Any) -> str:
    """The resource name of a channel, or of a channel name with params."""
    name = channel if isinstance(channel, str) else getattr(channel, "name", None)
    if not name:
        raise TypeError("name a resource, for example 'chat:1', or pass a channel")
    return without_params(name)


def _is_failed(channel: Any) -> bool:
    return getattr(channel, "state", None) == "failed"
