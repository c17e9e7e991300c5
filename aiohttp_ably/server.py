"""The auth server: who is asking, what the strategy says, what is issued, and the route that answers it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiohttp import web
from aiosignal import Signal

from ._callbacks import asynchronous, dependable
from .ably_api import AblyApi
from .by_client_id import ByClientId, KeyFor, Keys
from .capability import NOTHING
from .errors import AuthError, BadRequest, Forbidden, InvalidClientId, TooLarge, Unavailable, UsageError
from .events import AuthEvent, Events
from .issuers import Issued, Issuer, JWTIssuer, TokenDetailsIssuer
from .keys import KeyRing
from .origins import METHODS, Origins, preflight
from .request import AuthRequest, received_body
from .responses import denied_headers, error_response, json_response, refused, write_reply
from .stores.signed import JWTCarrier
from .strategies import ClientSigned, Decision, Strategy
from .tokens import MAX_ANSWER, checked_client_id

log = logging.getLogger(__name__)

Identify = Callable[[web.Request], str | Awaitable[str | None] | None]


class AblyAuth(ByClientId):
    """An auth server for Ably inside an aiohttp app; `setup()` makes it, and documents its options."""

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
        self._key: KeyRing | Callable[[web.Request], Awaitable[Keys | None]] | None = None
        try:
            self._key = asynchronous(key) if callable(key) else KeyRing.of(key)
        except (TypeError, ValueError) as error:
            problems.append(f"key=: {error}")
        try:
            self._origins = Origins(origins)
        except ValueError as error:
            problems.append(f"origins=: {error}")
        if not callable(identify):
            problems.append(
                f"identify= is a function of the request that returns a client id, got {identify!r}"
            )
        if not isinstance(strategy, Strategy):
            problems.append(
                "strategy= is one of ServerDetermined, ServerStored, ClientStored and ClientSigned, with its"
                f" function; got {strategy!r}"
            )
        if not hasattr(issuer, "issue"):
            problems.append(
                f"issuer= is a TokenRequestIssuer, JWTIssuer or TokenDetailsIssuer, got {issuer!r}"
            )
        carrier = strategy.store if isinstance(strategy, ClientSigned) else None
        if isinstance(carrier, JWTCarrier) and not isinstance(issuer, JWTIssuer):
            problems.append(
                "JWTCarrier keeps grants in the JWT that is issued, so it needs issuer=JWTIssuer()"
            )
        if not timeout > 0:
            problems.append(f"timeout= is a number of seconds over 0, got {timeout!r}")
        try:
            self._control = AblyApi(client_options, seconds=timeout, clock=clock)
        except ValueError as error:
            problems.append(f"client_options=: {error}")
        if problems:
            raise ValueError("aiohttp_ably.setup() cannot work like this:\n- " + "\n- ".join(problems))
        self.events = Events()
        self.is_asked = False
        """Whether any handler has asked yet what its client may do."""
        self._keeping_clock: asyncio.Task[None] | None = None
        self._identify = asynchronous(identify)
        self.strategy = strategy
        self.issuer = issuer
        self.anonymous = anonymous
        self.wildcard_client_id = wildcard_client_id
        self.timeout = timeout
        if isinstance(issuer, TokenDetailsIssuer):
            issuer.reach_ably_by(self._control.options)

    async def handler(self, request: web.Request) -> web.StreamResponse:
        """The auth route: GET and POST answer with a token; OPTIONS and HEAD issue nothing."""
        began = time.perf_counter()
        auth: AuthRequest | None = None
        cors: dict[str, str] = {}
        try:
            cors = self._origins.check(request)
            if request.method not in ("GET", "POST"):
                return _without_token(request, cors)
            body = await received_body(request) if request.body_exists else b""
            auth = AuthRequest.read(request, body)
            issued, decision = await dependable(self.issue(auth), self.timeout)
            response = json_response(
                issued.body,
                issued.content_type,
                cors if decision.denied is NOTHING else {**cors, **denied_headers(decision.denied)},
            )
            if auth.reply:
                write_reply(auth, response.headers)
        except AuthError as refusal:
            await self.events.refused(auth, refusal, time.perf_counter() - began)
            return error_response(refusal, headers=cors)
        except UsageError:
            log.exception("the auth route cannot work as it is set up")
            failure = Unavailable("the auth server is not set up right")
            await self.events.refused(auth, failure, time.perf_counter() - began)
            return error_response(failure, headers=cors)
        if self.events.are_watched():
            await self.events.issued(auth, decision, time.perf_counter() - began)
        return response

    @property
    def on_issue(self) -> Signal[AuthEvent]:
        """Sent when a token was issued. A receiver is a coroutine of an AuthEvent, added before the start."""
        return self.events.on_issue

    @property
    def on_deny(self) -> Signal[AuthEvent]:
        """Sent when a request was refused, or something it asked is not in its token."""
        return self.events.on_deny

    @property
    def on_error(self) -> Signal[AuthEvent]:
        """Sent when a request could not be answered: 503."""
        return self.events.on_error

    async def identify(self, auth: AuthRequest) -> None:
        """Say on `auth` whose request it is, under which keys, and when.

        Raises BadRequest for a request of no tenant, Forbidden for a client id that Ably would not take.
        """
        request = auth.request
        if request is None:
            raise TypeError("only a client's own request says who it is")
        auth.now = self._control.now()
        auth.keys = self._key if isinstance(self._key, KeyRing) else await self._tenants(request)
        try:
            client_id = await self._identify(request)
        except web.HTTPException as error:
            if error.status >= 500:
                raise
            client_id = None  # how login libraries say "signed out": 401, 403, or a redirect to the login
        if client_id is None:
            return
        if not isinstance(client_id, str):
            raise TypeError(
                f"identify= returned {type(client_id).__name__}; return the client id as text, or None"
            )
        if client_id == "*" and not self.wildcard_client_id:
            raise Forbidden("client id '*' may act as any client; setup(wildcard_client_id=True) permits it")
        try:
            auth.client_id = checked_client_id(client_id)
        except InvalidClientId as error:
            raise Forbidden(error.message) from None

    async def issue(self, auth: AuthRequest) -> tuple[Issued, Decision]:
        """Decide and issue for `auth`, whose request it is known or not.

        Raises what strategy and issuer raise, and Forbidden; TooLarge over what SDKs read.
        """
        if auth.keys is None:
            await self.identify(auth)
        if auth.client_id is None and not self.anonymous:
            raise Forbidden("signed out: sign in first, then ask for a token")
        wanted = auth.requested_client_id
        if wanted is not None and wanted != auth.client_id:
            raise Forbidden(f"client id {wanted[:100]!r} is not that of the signed-in user")
        decision = await self.strategy.decide(auth)
        issued = await self.issuer.issue(auth, decision.capability)
        if len(issued.body) > MAX_ANSWER:
            raise TooLarge(
                f"the answer is over the {MAX_ANSWER} bytes that SDKs read; grant patterns, or less"
            )
        return issued, decision

    async def start(self, clock_sync: float | None) -> None:
        """Compare our clock with Ably's, now and every `clock_sync` seconds; called when the app starts."""
        self.events.freeze()
        if clock_sync is not None:
            learned = await self._control.set_clock()
            keeping = self._control.keep_clock(clock_sync, learned=learned)
            self._keeping_clock = asyncio.create_task(keeping)

    async def close(self) -> None:
        """Let go of all connections; called when the app ends, and by a script that uses this without it."""
        if self._keeping_clock is not None:
            self._keeping_clock.cancel()
            await asyncio.wait([self._keeping_clock])
        await self.issuer.close()
        await self._control.close()
        if close := getattr(self.strategy.store, "close", None):
            await close()

    async def _tenants(self, request: web.Request) -> KeyRing:
        """The keys of the tenant of `request`; no traceback of a bad one shows it in a variable."""
        found = await self._key(request)  # type: ignore[operator, misc]
        if found is None:
            raise BadRequest("this request belongs to no tenant that this server knows")
        try:
            return KeyRing.of(found)
        except (TypeError, ValueError) as error:
            problem = str(error)
        found = None
        raise ValueError(problem)


def _without_token(request: web.Request, cors: dict[str, Any]) -> web.Response:
    if request.method == "OPTIONS":
        return json_response(b"", headers={**cors, **preflight(request)})
    if request.method == "HEAD":
        return json_response(b"", headers={**cors, "Allow": METHODS})
    message = f"{request.method} is not answered here; send GET or POST"
    return refused(40500, 405, message, headers={**cors, "Allow": METHODS})
