"""The client's half for ably-python, as reauth.js is for browsers: ask for what is needed, put 40160 right.

    async with Reauthorizer("https://app.example.com/ably/auth") as reauth:
        realtime = reauth.bind(AblyRealtime(**reauth.client_options()))
        await reauth.need("chat:1", ["publish", "subscribe"])

It sends one request at a time, and calls made together share one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import aiohttp
from ably import AblyException
from yarl import URL

from ..capability import ALL, NOTHING, Capability, Operations
from ..capability.resources import without_params
from ..errors import BadRequest, CapabilityDenied, Forbidden, TooLarge
from ..request import REAUTHORIZE_HEADER
from .token_source import (
    Answer,
    AuthServerError,
    GrantBy,
    Headers,
    ReauthorizerEvent,
    TokenSource,
    is_denial,
)

__all__ = ["AuthServerError", "Reauthorizer", "ReauthorizerEvent"]

T = TypeVar("T")
C = TypeVar("C")

_CHANNEL_FAILED = 90001  # "channel operation failed (invalid channel state)"
_OVER = ("closing", "closed", "failed")


@dataclass(eq=False)
class _Call:
    requested: Capability = NOTHING
    dropped: tuple[str, ...] = ()
    forced: bool = False
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, error: Exception | None = None) -> None:
        if self.done.done():  # cancelled
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class Reauthorizer:
    """Holds what one Ably client may do, and changes it.

    `url` is the auth route. `params` and `headers` go with every auth request; `headers` may be a function,
    such as one that gives a bearer token. `list=True` holds the client's list here and sends all of it every
    time, as ClientStored wants it; with `storage` (any mapping of text) the list and the grant outlive the
    process. `grant` says how a signed grant travels: in a "cookie" of `session`, in the Ably-Grant "header",
    or as the "token" itself, for a JWTCarrier. `session` is used where given, and left open; `timeout` is in
    seconds. `on_event` is called with each ReauthorizerEvent and must not raise.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        params: Mapping[str, object] | None = None,
        headers: Headers | None = None,
        list: bool = False,  # noqa: A002  (the name it has in reauth.js)
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
        self._handover: Answer | None = None  # what the callback gives to the authorize() that is under way
        self._calls: tuple[_Call, ...] = ()
        self._runner: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    def client_options(self) -> dict[str, Any]:
        """The options that make an Ably client get its tokens here."""
        return {"auth_callback": self._auth_callback}

    def bind(self, client: C) -> C:
        """Say which client is kept authorized: the one made with `client_options()`. Returns it."""
        self._client = client
        return client

    @property
    def capability(self) -> Capability:
        """What the client's token allows."""
        details = self._client.auth.token_details if self._client is not None else None
        if details is not None and details.capability:
            return Capability(details.capability.to_dict())
        return self._source.answered

    def holds(self, resource: str, operations: Operations = ALL) -> bool:
        """Whether the token allows `operations` on `resource`; `*` stands for any of them."""
        return not Capability({resource: operations}).missing_from(self.capability)

    async def need(self, resource: str, operations: Operations = ALL) -> None:
        """Have `operations` on `resource`: asks for what the token lacks, and waits for one that has it.

        `*` asks for all that this client may have there. Raises AuthServerError with the auth server's words
        where it is denied, and then the ask is forgotten.
        """
        await self._call(_Call(Capability({_named(resource): operations})))

    async def drop(self, resource: str) -> None:
        """Give `resource` back, and wait for a token without it."""
        await self._call(_Call(dropped=(_named(resource),), forced=True))

    async def reauthorize(self) -> None:
        """Get a new token now, and put it into effect: what this client may do has changed."""
        await self._call(_Call(forced=True))

    def clear(self) -> None:
        """Forget the list and the grant, as when the user signs out. Sends nothing."""
        self._source.clear()

    async def guard(self, channel: Any, operations: Operations, run: Callable[[], Awaitable[T]]) -> T:
        """What `run()` gives; where Ably refuses it with 40160, ask, attach a FAILED channel, run it again.

        `channel` is a channel, or the name of one.
        """
        requested = Capability({_named(channel): operations})
        try:
            return await run()
        except AblyException as error:
            attachable = self._client.channels.get(channel) if isinstance(channel, str) else channel
            failed = getattr(attachable, "error_reason", None) if _is_failed(attachable) else None
            if not is_denial(failed if failed and error.code == _CHANNEL_FAILED else error):
                raise
            self._emit(ReauthorizerEvent("refused", requested=requested, error=error))
        await self._call(_Call(requested, forced=True))
        if _is_failed(attachable):
            await attachable.attach()
        return await run()

    async def attach(self, channel: Any, operations: Operations = ALL) -> None:
        """`channel.attach()`, guarded; asks for all there is, or for `operations`."""
        await self.guard(channel, operations, channel.attach)

    async def publish(self, channel: Any, *args: Any, **options: Any) -> Any:
        """`channel.publish(...)`, guarded."""
        return await self.guard(channel, "publish", lambda: channel.publish(*args, **options))

    async def enter(self, channel: Any, data: Any = None) -> None:
        """`channel.presence.enter(data)`, guarded. Attaches first: the SDK would lose an error of that."""

        async def enter() -> None:
            await channel.attach()
            await channel.presence.enter(data)

        await self.guard(channel, "presence", enter)

    async def fetch(self, method: str, url: str | URL, **options: Any) -> aiohttp.ClientResponse:
        """A request of the app's own, its response read: where that says `Ably-Reauthorize`, it is done then.

        `url` may be relative to the auth route's; `options` are those of aiohttp. The response is given
        whether or not reauthorizing worked; a `failed` event tells.
        """
        response = await self._source.fetch(method, url, **options)
        state = self._state()
        if REAUTHORIZE_HEADER in response.headers and self._client is not None and state not in _OVER:
            task = asyncio.create_task(self._reauthorized())
            self._background.add(task)
            task.add_done_callback(self._background.discard)
            if state in (None, "connected"):
                await asyncio.shield(task)
        return response

    async def close(self) -> None:
        """End what is under way, and close the session that was opened here. The client is not closed."""
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
        """What the SDK calls for a token (RSA4f)."""
        answer, self._handover = self._handover, None
        if answer is None:
            try:
                answer = await self._source.request(
                    Capability.parse(params.get("capability") or {}),
                    client_id=params.get("client_id"),
                    ttl=params.get("ttl"),
                )
            except AuthServerError as error:
                return _Refusal(error)
        return dict(answer.members)

    async def _call(self, call: _Call) -> None:
        if self._client is None:
            raise TypeError("bind(client) first: there is no client to authorize")
        self._calls += (call,)
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        await call.done

    async def _run(self) -> None:
        while self._calls:
            batch = self._next_batch()
            try:
                await self._perform(batch)
            finally:
                for call in batch:
                    call.done.cancel()  # no one waits for ever, not even where we have a bug

    def _next_batch(self) -> list[_Call]:
        """The calls for the next request: those up to one that gives back what another asks for."""
        batch: list[_Call] = []
        requested: set[str] = set()
        dropped: set[str] = set()
        for call in self._calls:
            if requested.intersection(call.dropped) or dropped.intersection(call.requested):
                break
            requested.update(call.requested)
            dropped.update(call.dropped)
            batch.append(call)
        self._calls = self._calls[len(batch) :]
        return batch

    async def _perform(self, batch: list[_Call]) -> None:
        before = self.capability
        calls = []
        for call in batch:
            if call.forced or call.requested.missing_from(before):
                calls.append(call)
            else:
                call.settle()
        if not calls:
            return
        try:
            answer, denial = await self._decide(calls, before)
            self._handover = answer
            try:
                await self._client.auth.authorize()
            finally:
                self._handover = None
        except AuthServerError as error:
            if len(calls) > 1 and error.status_code in (BadRequest.status, TooLarge.status):
                for call in calls:  # the fault of one is no other's
                    await self._perform([call])
                return
            if error.status_code == Forbidden.status:
                await self._stop(error)
            _settle(calls, error)
            return
        except Exception as error:
            _settle(calls, error)
            return
        capability = self.capability
        self._emit(ReauthorizerEvent("reauthorized", capability=capability))
        for call in calls:
            lacking = call.requested.missing_from(capability)
            call.settle((denial or _withheld(lacking)) if lacking else None)

    async def _decide(self, calls: list[_Call], before: Capability) -> tuple[Answer, AuthServerError | None]:
        """The answer to `calls`: asked strictly, so that a denial is an error; that of one is no other's."""
        requested = NOTHING
        for call in calls:
            requested |= call.requested
        dropped = tuple(name for call in calls for name in call.dropped)
        client_id = self._client.auth.client_id
        denial = None
        try:
            answer = await self._source.request(
                requested, dropped, strict=bool(requested), client_id=client_id
            )
        except AuthServerError as error:
            if not requested or not is_denial(error):
                raise
            if len(calls) == 1 and not self._source.list:
                self._emit(ReauthorizerEvent("denied", denied=requested, error=error))
                raise
            denial = error
            answer = await self._source.request(requested, dropped, denial=denial, client_id=client_id)
        lost = [name for name in before - answer.capability if name not in dropped]
        if requested and lost:
            # Where the server alone decides, an ask can only narrow a token; without one it has all there is.
            whole = await self._source.request(client_id=client_id)
            if not (requested - requested.missing_from(answer.capability)).missing_from(whole.capability):
                answer = whole
        return answer, denial

    async def _stop(self, error: AuthServerError) -> None:
        """A refusal for good: the connection fails, which the SDK leaves undone in `authorize()` (RSA4d1)."""
        if self._state() in (None, *_OVER):
            return
        manager = self._client.connection.connection_manager
        manager.on_error_from_authorize(error)
        if manager.transport is not None:
            await manager.transport.dispose()

    async def _reauthorized(self) -> None:
        with contextlib.suppress(AblyException):  # an event told of it
            await self.reauthorize()

    def _state(self) -> str | None:
        connection = getattr(self._client, "connection", None)
        return None if connection is None else connection.state


class _Refusal(dict[str, Any]):
    """Looks like TokenDetails, and raises when it is read.

    What a callback raises the SDK takes for a 401, and asks again for ever; but a 403 must stop it (RSA4d).
    """

    def __init__(self, error: AuthServerError) -> None:
        super().__init__(issued=None)
        self._error = error

    def get(self, *_name: object) -> NoReturn:
        raise self._error


def _named(channel: Any) -> str:
    """The resource that a channel or text names; channel params are no part of it."""
    name = channel if isinstance(channel, str) else getattr(channel, "name", None)
    if not name:
        raise TypeError("name a resource, such as 'chat:1', or give a channel")
    return without_params(name)


def _is_failed(channel: Any) -> bool:
    return getattr(channel, "state", None) == "failed"


def _settle(calls: list[_Call], error: Exception) -> None:
    for call in calls:
        call.settle(error)


def _withheld(lacking: Capability) -> AuthServerError:
    return AuthServerError(
        f"the token that was issued lacks {lacking.text[:400]}; its API key may lack it",
        CapabilityDenied.status,
        CapabilityDenied.code,
    )
