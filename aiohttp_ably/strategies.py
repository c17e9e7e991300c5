"""The reauthorization strategies: four classes that share one rule.

The rule: check what is requested and not yet granted. The token carries base, granted and allowed. Store
granted and allowed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from ._callbacks import as_async
from .capability import NOTHING, Capability, CapabilityLike
from .errors import CapabilityDenied, Forbidden, UsageError
from .request import AuthRequest
from .stores import CapabilityStore, SignedStore
from .tokens import check_length

log: logging.Logger = logging.getLogger(__name__)

Authorize = Callable[[AuthRequest, Capability], Awaitable[CapabilityLike] | CapabilityLike]
"""Gets the request and the part of the requested capability that must be checked; returns what is allowed."""
Resolve = Callable[[AuthRequest], Awaitable[CapabilityLike] | CapabilityLike]
"""Gets the request; returns a capability."""
OnDenied = Literal["omit", "reject"]
_Source = Capability | Callable[[AuthRequest], Awaitable[CapabilityLike]]


@dataclass(slots=True)
class Decision:
    """The answer of a strategy: the `capability` of the token, and the requested part that is `denied`."""

    capability: Capability
    denied: Capability


class Strategy:
    """The rule that all strategies share. They differ in the store, and in what they check.

    For a strategy of your own, override `granted` (what is granted already), `check` (what is allowed) or
    `decide` (everything).

    Args:
        authorize: a sync or async function of `(auth, requested)`, or ChannelRules. `requested` is the
            part that must be checked. The function returns the part that is allowed; more than was requested
            is never granted.
        base: what every client has without requesting it: a capability, or a sync or async function of the
            AuthRequest. It is never stored as granted. By default nothing.
        on_denied: "omit" issues a token without the denied part and names it in the header `Ably-Denied`;
            "reject" answers 401 with code 40160. A client's `Prefer: handling=strict` or `lenient`
            overrides this.
        allow_wildcards: whether requests for patterns and unusual names reach `authorize`. By default they
            are denied without a call of `authorize`.

    Raises:
        TypeError: `authorize` is not a function, or `base` neither a capability nor a function.
        ValueError: `on_denied` is neither "omit" nor "reject".
    """

    store: CapabilityStore | None = None
    """Where granted capabilities are stored; None when the strategy stores nothing."""
    narrows: bool = False
    """Whether a token carries only the requested part of what the client may have."""

    def __init__(
        self,
        authorize: Authorize,
        *,
        base: CapabilityLike | Resolve | None = None,
        on_denied: OnDenied = "omit",
        allow_wildcards: bool = False,
    ) -> None:
        if not callable(authorize) or isinstance(authorize, type):
            raise TypeError(
                f"{type(self).__name__} needs a function of (auth, requested) that returns what is allowed,"
                f" or ChannelRules(); got {authorize!r}"
            )
        if on_denied not in ("omit", "reject"):
            raise ValueError(f"on_denied={on_denied!r} is neither 'omit' nor 'reject'")
        self.authorize: Callable[[AuthRequest, Capability], Awaitable[CapabilityLike]] = as_async(authorize)
        self.base: _Source = NOTHING if base is None else _source(base, "base")
        self.on_denied = on_denied
        self.allow_wildcards = allow_wildcards

    async def decide(self, auth: AuthRequest) -> Decision:
        """Apply the rule to a request, and store the result.

        Raises CapabilityDenied for a denied request that is to be rejected, Forbidden when the token would
        allow nothing, InvalidCapability for a release that cannot be expressed, and TooLarge when the result
        does not fit. Then nothing is changed.
        """
        base = await _resolve(self.base, auth, "base") if callable(self.base) else self.base
        granted = await self.granted(auth)
        if auth.drop:
            granted = granted.without(*auth.drop)
        before = granted.with_base(base)
        total, allowed, denied = before, NOTHING, NOTHING
        if missing := auth.requested - before:
            allowed = await self.check(auth, missing)
            total = before | allowed
            denied = missing.missing_from(total)
        if not total:
            log.warning(
                "nothing is granted to %r, so its SDK stops for good; give the strategy a base= that lets a"
                " client connect before it requests more",
                auth.client_id,
            )
            raise Forbidden("nothing is granted to this client, and a token needs at least one right")
        if missing:
            if denied and (self.on_denied == "reject" if auth.strict is None else auth.strict):
                raise CapabilityDenied(f"denied: {denied.text[:400]}; what was granted before is kept")
            if allowed:
                check_length(total)
        if self.store is not None and (auth.drop or self.store.renews or allowed):
            auth.waits_for = "the store"
            stored = await self.store.change(auth, add=allowed, release=auth.drop)
            if stored is not granted:  # another request may have changed it meanwhile
                total = (stored | allowed).with_base(base)
        if self.narrows and auth.requested:
            total = total & auth.requested or total
        return Decision(total, denied)

    async def granted(self, auth: AuthRequest) -> Capability:
        """What was granted to the client before, without its base."""
        if self.store is None:
            return NOTHING
        auth.waits_for = "the store"
        return await self.store.load(auth)

    async def check(self, auth: AuthRequest, missing: Capability) -> Capability:
        """The part of `missing` that `authorize` allows."""
        if not self.allow_wildcards:
            missing = missing.plain()
        if not missing or (auth.client_id is None and self.store is not None and self.store.by_client_id):
            return NOTHING  # a store by client id cannot store for an anonymous client
        auth.waits_for = "authorize"
        return _checked(await self.authorize(auth, missing), "authorize") & missing

    async def capability(self, auth: AuthRequest) -> Capability:
        """All that the client may do now: what was granted to it, and its base."""
        base = await _resolve(self.base, auth, "base")
        return (await self.granted(auth)).with_base(base)

    async def allows(self, auth: AuthRequest, operation: str, resource: str) -> bool:
        """Whether the client may do `operation` on `resource` now."""
        return (await self.capability(auth)).allows(operation, resource)

    async def grant(self, auth: AuthRequest, capability: Capability) -> Capability:
        """Grant `capability` to the client; returns what is granted afterwards, without its base.

        Raises UsageError when the strategy stores nothing, and TooLarge when no token could carry it all.
        """
        check_length(await self.capability(auth) | capability)
        return await self._change(auth, add=capability)

    async def withdraw(self, auth: AuthRequest, resources: tuple[str, ...]) -> Capability:
        """Withdraw `resources` from the client; returns what is granted afterwards, without its base.

        Raises UsageError when the strategy stores nothing, and InvalidCapability when a capability cannot
        express the rest.
        """
        return await self._change(auth, release=resources)

    async def _change(
        self, auth: AuthRequest, *, add: Capability = NOTHING, release: tuple[str, ...] = ()
    ) -> Capability:
        if self.store is None:
            raise UsageError(
                f"{type(self).__name__} stores nothing: change the list that you give it, or what your"
                " function returns, and tell the client with get_auth(request).reauthorize()"
            )
        if self.store.in_token:
            raise UsageError(
                f"a grant in {type(self.store).__name__} is stored in the token, so only the auth route"
                " changes it; let the client request it there, or store signed grants (secret=)"
            )
        auth.waits_for = "the store"
        return await self.store.change(auth, add=add, release=release)


class ServerDetermined(Strategy):
    """Capabilities entirely determined by your server: it knows the whole list, and every request gets it.

    A capability that the client requests can only narrow its token. When nothing of it is in the list, the
    token allows the whole list, and the requested capability is denied.

    Args:
        resolve: the list: a capability when it is the same for all, or a sync or async function of the
            AuthRequest that returns it.
        base: as for every strategy; joined to the list.
        on_denied: as for every strategy.

    Raises:
        TypeError: `resolve` or `base` is neither a capability nor a function.
        ValueError: `on_denied` is neither "omit" nor "reject".
    """

    narrows = True

    def __init__(
        self,
        resolve: CapabilityLike | Resolve,
        *,
        base: CapabilityLike | Resolve | None = None,
        on_denied: OnDenied = "omit",
    ) -> None:
        super().__init__(_allow_nothing, base=base, on_denied=on_denied)
        self.resolve: _Source = _source(resolve, "resolve")

    async def granted(self, auth: AuthRequest) -> Capability:
        """The list."""
        return await _resolve(self.resolve, auth, "resolve")


class ServerStored(Strategy):
    """Capabilities stored on your server, client can request changes.

    Only what is requested and not granted yet is checked. The same options as every strategy, and:

    Args:
        store: where granted capabilities are stored: SessionStore, RedisStore, MemoryStore or your own.

    Raises:
        TypeError: as every strategy, and when `store` is not a CapabilityStore.
        ValueError: `on_denied` is neither "omit" nor "reject".
    """

    def __init__(
        self,
        authorize: Authorize,
        *,
        store: CapabilityStore,
        base: CapabilityLike | Resolve | None = None,
        on_denied: OnDenied = "omit",
        allow_wildcards: bool = False,
    ) -> None:
        super().__init__(authorize, base=base, on_denied=on_denied, allow_wildcards=allow_wildcards)
        self.store: CapabilityStore = _checked_store(store)


class ClientStored(Strategy):
    """Capabilities stored on the client, server reauthorizes them all for every change.

    The client sends all that it needs with every request, and all of it is checked every time. The server
    stores nothing. The same options as every strategy.
    """

    async def allows(self, auth: AuthRequest, operation: str, resource: str) -> bool:
        """Whether the client's base or `authorize` allows `operation` on `resource` now."""
        requested = Capability({resource: operation}) - await self.capability(auth)
        return not requested - await self.check(auth, requested)


class ClientSigned(Strategy):
    """Capabilities stored on the client, server incrementally authorizes new ones.

    The client keeps its list, signed by the server. Only what is requested and not in it is checked. The same
    options as every strategy, and:

    Args:
        secret: signs the list: 16 bytes or more, or several such secrets with the newest first.
        encrypt: whether to encrypt the list, so that the client cannot read it.
        secure: whether the cookie is Secure. By default it is when the request came over https; set True
            behind a proxy that ends TLS.
        store: in place of the three above: a SignedStore with further options, a JWTStore, or your own.

    Raises:
        TypeError: as every strategy, and when both or neither of `secret` and `store` are given.
        ValueError: a secret is too short, or `on_denied` is neither "omit" nor "reject".
    """

    def __init__(
        self,
        authorize: Authorize,
        *,
        secret: str | bytes | Iterable[str | bytes] | None = None,
        encrypt: bool = False,
        secure: bool | None = None,
        store: CapabilityStore | None = None,
        base: CapabilityLike | Resolve | None = None,
        on_denied: OnDenied = "omit",
        allow_wildcards: bool = False,
    ) -> None:
        super().__init__(authorize, base=base, on_denied=on_denied, allow_wildcards=allow_wildcards)
        self.store: CapabilityStore
        if secret is not None and store is None:
            self.store = SignedStore(secret, encrypt=encrypt, secure=secure)
        elif secret is None and store is not None and not encrypt and secure is None:
            self.store = _checked_store(store)
        else:
            raise TypeError(
                "ClientSigned needs either secret=, with encrypt= and secure= as its options, or store=, such"
                " as SignedStore(secret, ...) or JWTStore()"
            )


def _checked_store(store: CapabilityStore) -> CapabilityStore:
    if isinstance(store, type):
        raise TypeError(f"store= is a store, got the class {store.__name__}; write {store.__name__}(...)")
    if not isinstance(store, CapabilityStore):
        raise TypeError(
            "store= is a CapabilityStore, such as SessionStore() or RedisStore(url), or your own subclass;"
            f" got {store!r}"
        )
    return store


def _source(source: CapabilityLike | Resolve, name: str) -> _Source:
    if isinstance(source, Mapping):
        return Capability(source)
    if callable(source):
        return as_async(source)
    raise TypeError(f"{name}= is a capability or a function of the AuthRequest, got {source!r}")


async def _resolve(source: _Source, auth: AuthRequest, name: str) -> Capability:
    if not callable(source):
        return source
    auth.waits_for = name
    return _checked(await source(auth), name)


def _checked(answer: CapabilityLike, name: str) -> Capability:
    if not isinstance(answer, (dict, Mapping)):
        raise TypeError(
            f"{name} returned {type(answer).__name__}; return what is allowed as a Capability or a mapping of"
            " resource to operations, {} for nothing"
        )
    return Capability(answer)


async def _allow_nothing(auth: AuthRequest, requested: Capability) -> Capability:
    return NOTHING
