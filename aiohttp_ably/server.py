"""AblyAuth: the auth route, and what the app does by client id: grant, withdraw, reauthorize, revoke."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from aiohttp import web
from aiosignal import Signal

from ._callbacks import as_async, run
from .ably_api import AblyApi
from .capability import Capability, CapabilityLike
from .errors import AuthError, BadRequest, Forbidden, InvalidClientId, TooLarge, Unavailable, UsageError
from .events import AuthEvent, Events
from .http import (
    METHODS,
    Origins,
    denied_headers,
    error_response,
    json_response,
    preflight,
    refused,
    write_reply,
)
from .issuers import Issued, Issuer
from .keys import KeyRing, Keys
from .request import AuthRequest, read_auth_request, received_body
from .strategies import Decision, Strategy
from .tokens import MAX_ANSWER, checked_client_id

log: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")
Identify = Callable[[web.Request], str | Awaitable[str | None] | None]
"""Gets the request; returns the client id of the signed-in user, or None."""
KeyFor = Callable[[web.Request], Keys | Awaitable[Keys | None] | None]
"""Gets the request; returns the Ably API keys of its tenant, or None for an unknown tenant."""

_CLOCK_LEEWAY = 0.1  # seconds


class AblyAuth:
    """The auth server of an aiohttp app. `setup()` makes it and documents its options."""

    def __init__(
        self,
        *,
        key: Keys | KeyFor,
        identify: Identify,
        strategy: Strategy,
        issuer: Issuer,
        origins: Iterable[str],
        anonymous: bool,
        wildcard_client_id: bool,
        timeout: float,
        clock: Callable[[], float],
        client_options: Mapping[str, Any] | None,
    ) -> None:
        problems = []
        self._keys: KeyRing | None = None
        try:
            if not callable(key):
                self._keys = KeyRing.of(key)
        except (TypeError, ValueError) as error:
            problems.append(f"key=: {error}")
        try:
            self._origins = Origins(origins)
        except ValueError as error:
            problems.append(f"origins=: {error}")
        problems += _problems(identify, strategy, issuer, timeout)
        try:
            self._ably_api = AblyApi(client_options, seconds=timeout, clock=clock)
        except ValueError as error:
            problems.append(f"client_options=: {error}")
        if problems:
            raise ValueError("aiohttp_ably.setup() cannot work like this:\n- " + "\n- ".join(problems))
        self._keys_of_tenant = as_async(key) if callable(key) else None
        self._identify = as_async(identify)
        self.events: Events = Events()
        self._comparing_clocks: asyncio.Task[None] | None = None
        self.strategy = strategy
        self.issuer = issuer
        self.anonymous = anonymous
        self.wildcard_client_id = wildcard_client_id
        self.timeout = timeout
        issuer.connect(self._ably_api)

    @property
    def on_issue(self) -> Signal[AuthEvent]:
        """Sent when a token was issued. A receiver is a coroutine function of an AuthEvent."""
        return self.events.on_issue

    @property
    def on_deny(self) -> Signal[AuthEvent]:
        """Sent when a request was refused, or when its token does not carry all that was requested."""
        return self.events.on_deny

    @property
    def on_error(self) -> Signal[AuthEvent]:
        """Sent when a request could not be answered (503)."""
        return self.events.on_error

    async def handler(self, request: web.Request) -> web.StreamResponse:
        """The auth route. GET and POST answer with a token, OPTIONS and HEAD without one."""
        began = time.perf_counter()
        auth: AuthRequest | None = None
        cors: dict[str, str] = {}
        try:
            cors = self._origins.check(request)
            if request.method not in ("GET", "POST"):
                return _without_token(request, cors)
            body = await received_body(request) if request.body_exists else b""
            auth = read_auth_request(request, body)
            issued, decision = await self.run(auth, self.issue(auth))
        except AuthError as refusal:
            await self.events.refused(auth, refusal, time.perf_counter() - began)
            return error_response(refusal, headers=cors)
        except UsageError:
            log.exception("the auth route cannot work as it is set up")
            failure = Unavailable("the auth server is not set up correctly")
            await self.events.refused(auth, failure, time.perf_counter() - began)
            return error_response(failure, headers=cors)
        if decision.denied:
            cors = {**cors, **denied_headers(decision.denied)}
        response = json_response(issued.body, issued.content_type, cors)
        if auth.reply:
            write_reply(auth, response.headers)
        await self.events.issued(auth, decision.capability, decision.denied, time.perf_counter() - began)
        return response

    def run(self, auth: AuthRequest, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Run `work` on `auth` with the timeout of `setup()`; a failure becomes Unavailable."""
        return run(work, self.timeout, lambda: auth.waits_for)

    async def identify(self, auth: AuthRequest) -> None:
        """Resolve the client id, signing keys and current time of a request.

        Raises BadRequest when the request belongs to no tenant, and Forbidden for a client id that Ably would
        not accept.
        """
        request = auth.request
        if request is None:
            raise TypeError("only a request can be identified")
        auth.now = self._ably_api.now()
        if self._keys is not None:
            auth.keys = self._keys
        else:
            auth.waits_for = "key"
            auth.keys = await self._tenant(request)
        auth.waits_for = "identify"
        try:
            client_id = await self._identify(request)
        except web.HTTPException as error:
            # Login libraries raise these when nobody is signed in. Any other is a failure, and no verdict.
            if error.status not in (401, 403) and not 300 <= error.status < 400:
                raise
            return
        if client_id is None:
            return
        if not isinstance(client_id, str):
            raise TypeError(
                f"identify= returned {type(client_id).__name__}; return the client id as a string, or None"
            )
        if client_id == "*" and not self.wildcard_client_id:
            raise Forbidden("client id '*' may act as any client; setup(wildcard_client_id=True) permits it")
        try:
            auth.client_id = checked_client_id(client_id)
        except InvalidClientId as error:
            raise Forbidden(error.message) from None

    async def issue(self, auth: AuthRequest) -> tuple[Issued, Decision]:
        """Identify a request that is not identified yet, decide on it, and issue its token.

        Raises what strategy and issuer raise, Forbidden when nobody is signed in, and TooLarge when SDKs
        could not read the answer.
        """
        if auth.keys is None:
            await self.identify(auth)
        if auth.client_id is None and not self.anonymous:
            raise Forbidden("not signed in: sign in first, then request a token")
        claimed = auth.requested_client_id
        if claimed is not None and claimed != auth.client_id:
            raise Forbidden(f"client id {claimed[:100]!r} is not that of the signed-in user")
        decision = await self.strategy.decide(auth)
        auth.waits_for = "the issuer"
        issued = await self.issuer.issue(auth, decision.capability)
        if len(issued.body) > MAX_ANSWER:
            raise TooLarge(
                f"the answer is over the {MAX_ANSWER} bytes that SDKs read; grant patterns, or less"
            )
        return issued, decision

    async def grant(
        self, client_id: str, capability: CapabilityLike, *, key: Keys | None = None, tell: bool = True
    ) -> Capability:
        """Grant `capability` to a client, and tell the client to reauthorize.

        Args:
            client_id: the client. The store of the strategy must be reached by client id, as RedisStore is.
            capability: what is granted, in addition to what was granted before.
            key: the keys of the client's tenant, where `setup(key=...)` is a function.
            tell: whether to tell the client, as `reauthorize` does; with False only the store changes. The
                client is told even if the store had the grant already, so a failed call can be repeated.

        Returns what is granted afterwards, without its base. Raises UsageError when the strategy cannot do
        this, Unavailable when the store fails, and RevocationFailed when the grant is stored but the client
        was not told.
        """
        auth = self._auth_of(client_id, key)
        granted = await self.run(auth, self.strategy.grant(auth, Capability(capability)))
        if tell:
            await self.reauthorize(client_id, key=auth.keys)
        return granted

    async def withdraw(
        self, client_id: str, *resources: str, key: Keys | None = None, tell: bool = True
    ) -> Capability:
        """Withdraw `resources` from a client, and tell the client to reauthorize. The options of `grant`.

        A connected SDK fetches a new token at once. If a client does not, its connection ends after 30
        seconds; call `revoke` too if that is too long.
        """
        auth = self._auth_of(client_id, key)
        granted = await self.run(auth, self.strategy.withdraw(auth, resources))
        if tell:
            await self.reauthorize(client_id, key=auth.keys)
        return granted

    async def reauthorize(
        self, *clients: str, groups: Iterable[str] = (), key: Keys | None = None
    ) -> Mapping[str, int]:
        """Tell clients to fetch a new token: Ably revokes their tokens with a margin of 30 seconds (RSA17).

        Args:
            clients: client ids.
            groups: revocation keys, which `JWTIssuer(revocation_key=...)` puts into tokens.
            key: the keys of the clients' tenant, where `setup(key=...)` is a function. The tokens of the key
                must be revocable.

        Returns the time from which the old tokens are refused for each `clientId:…` and `revocationKey:…`, in
        milliseconds since the epoch. Raises RevocationFailed, which names each failure.
        """
        return await self._revoke(clients, groups, key, margin=True)

    async def revoke(
        self, *clients: str, groups: Iterable[str] = (), key: Keys | None = None
    ) -> Mapping[str, int]:
        """End the tokens and connections of clients now (RSA17). The options of `reauthorize`.

        What was granted to a client does not change: one that is still signed in gets a new token. A
        TokenRequest that was signed before and is not used yet stays valid for two minutes.
        """
        return await self._revoke(clients, groups, key, margin=False)

    async def start(self, clock_sync: float | None) -> None:
        """Compare this machine's clock with Ably's, now and every `clock_sync` seconds.

        Called when the app starts.
        """
        self.events.freeze()
        if clock_sync is not None:
            learned = await self._ably_api.set_clock()
            comparing = self._ably_api.keep_clock(clock_sync, learned=learned)
            self._comparing_clocks = asyncio.create_task(comparing)

    async def close(self) -> None:
        """Close all connections. Called when the app ends, and by a script that uses this without the app."""
        if self._comparing_clocks is not None:
            self._comparing_clocks.cancel()
            await asyncio.wait([self._comparing_clocks])
        await self.issuer.close()
        await self._ably_api.close()
        if self.strategy.store is not None:
            await self.strategy.store.close()

    async def _tenant(self, request: web.Request) -> KeyRing:
        """The keys of the tenant of `request`. The traceback of an error does not contain an invalid key."""
        assert self._keys_of_tenant is not None  # noqa: S101  (there is a function where there are no keys)
        found = await self._keys_of_tenant(request)
        if found is None:
            raise BadRequest("this request belongs to no tenant that this server knows")
        try:
            return KeyRing.of(found)
        except (TypeError, ValueError) as error:
            problem = str(error)
        found = None
        raise ValueError(problem)

    def _auth_of(self, client_id: str, key: Keys | None) -> AuthRequest:
        """An AuthRequest for a change by client id, without a request."""
        store = self.strategy.store
        if store is not None and not store.by_client_id:
            raise UsageError(
                f"{type(store).__name__} is reached only within the client's own request: change its grant"
                " there with get_auth(request), or use RedisStore, which is reached by client id"
            )
        return AuthRequest(
            client_id=checked_client_id(client_id), keys=self._keys_of(key), now=self._ably_api.now()
        )

    def _keys_of(self, key: Keys | None) -> KeyRing:
        if key is not None:
            return KeyRing.of(key)
        if self._keys is None:
            raise UsageError(
                "setup(key=...) is a function of the request, so pass the tenant's key here: key="
            )
        return self._keys

    async def _revoke(
        self, clients: Iterable[str], groups: Iterable[str], key: Keys | None, *, margin: bool
    ) -> Mapping[str, int]:
        if isinstance(groups, str):
            raise TypeError(f"groups= is a list of revocation keys, such as [{groups!r}]")
        targets = [f"clientId:{checked_client_id(client)}" for client in clients]
        targets += [f"revocationKey:{group}" for group in groups]
        keys = self._keys_of(key)
        issued_before = None
        if targets and self.issuer.whole_seconds:
            issued_before = await self._end_of_second()
        return await self._ably_api.revoke(keys, targets, margin=margin, issued_before=issued_before)

    async def _end_of_second(self) -> int:
        """Wait for the next second; returns the end of the last one in milliseconds since the epoch.

        Tokens with their time of issue in whole seconds cannot be distinguished within one second.
        """
        second, part = divmod(self._ably_api.now(), 1)
        await asyncio.sleep(1 - part + _CLOCK_LEEWAY)
        return int(second) * 1000 + 999


def _problems(identify: object, strategy: object, issuer: object, timeout: float) -> Iterable[str]:
    """What is wrong with these options of `setup()`, each with what would be right."""
    if not callable(identify):
        yield f"identify= is a function of the request that returns a client id or None, got {identify!r}"
    if not isinstance(strategy, Strategy):
        yield (
            "strategy= is one of ServerDetermined(...), ServerStored(...), ClientStored(...) and"
            f" ClientSigned(...), got {strategy!r}"
        )
    if not isinstance(issuer, Issuer):
        yield (
            "issuer= is a TokenRequestIssuer(), JWTIssuer() or TokenDetailsIssuer(), or your own Issuer, got"
            f" {issuer!r}"
        )
    store = strategy.store if isinstance(strategy, Strategy) else None
    if store is not None and store.in_token and not getattr(issuer, "adds_claims", False):
        yield f"{type(store).__name__} stores grants in the token, so it needs issuer=JWTIssuer()"
    if not timeout > 0:
        yield f"timeout= is a number of seconds over 0, got {timeout!r}"


def _without_token(request: web.Request, cors: dict[str, Any]) -> web.Response:
    if request.method == "OPTIONS":
        return json_response(b"", headers={**cors, **preflight(request)})
    if request.method == "HEAD":
        return json_response(b"", headers={**cors, "Allow": METHODS})
    message = f"{request.method} is not answered here; send GET or POST"
    return refused(40500, 405, message, headers={**cors, "Allow": METHODS})
