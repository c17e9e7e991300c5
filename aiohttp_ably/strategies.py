"""The reauthorization strategies: one rule, and four places to keep what a client holds.

held = what the client is trusted to have already; what is asked and not held is checked; the token carries
base, held and allowed; that is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ._callbacks import asynchronous
from .capability import NOTHING, Capability, Operations
from .errors import CapabilityDenied, Forbidden, UsageError
from .request import AuthRequest
from .stores.session import CapabilityStore
from .stores.signed import Carrier, GrantCarrier
from .stores.signed_grant import SignedGrants
from .tokens import check_length

log = logging.getLogger(__name__)

CapabilityLike = Capability | Mapping[str, Operations]
Authorize = Callable[[AuthRequest, Capability], Awaitable[CapabilityLike] | CapabilityLike]
Resolve = Callable[[AuthRequest], Awaitable[CapabilityLike] | CapabilityLike]
OnDenied = Literal["omit", "reject"]
_Source = Capability | Callable[[AuthRequest], Awaitable[CapabilityLike]]


@dataclass(slots=True)
class Decision:
    """What a token will carry, and what was asked and is not in it."""

    capability: Capability
    denied: Capability


class Strategy:
    """The one rule. What differs is where the client's part is held: `held`, `keep`, `grant`, `withdraw`.

    A strategy without a `store` keeps nothing.

    `authorize(auth, requested)` gets what must be checked and returns the part that is allowed. `base` is
    what every client has without asking: a capability, or a function of the AuthRequest. `on_denied` says what a
    denied ask does: "omit" leaves it out of the token, "reject" answers 401 with 40160. With
    `allow_wildcards` patterns and unusual names are passed on to `authorize`, not denied outright.
    """

    store: CapabilityStore | None = None

    def __init__(
        self,
        authorize: Authorize,
        *,
        base: CapabilityLike | Resolve | None = None,
        on_denied: OnDenied = "omit",
        allow_wildcards: bool = False,
    ) -> None:
        if not callable(authorize):
            raise TypeError(
                f"{type(self).__name__} needs a function of (auth, requested) that returns what is allowed,"
                f" or ChannelRules; got {authorize!r}"
            )
        if on_denied not in ("omit", "reject"):
            raise ValueError(f"on_denied={on_denied!r} is neither 'omit' nor 'reject'")
        self.authorize = asynchronous(authorize)
        self.base = NOTHING if base is None else _source(base, "base")
        self.on_denied = on_denied
        self.allow_wildcards = allow_wildcards

    async def decide(self, auth: AuthRequest) -> Decision:
        """Apply the rule to what `auth` asks, and keep the outcome.

        Raises CapabilityDenied for a denied ask that is to be refused, Forbidden when nothing is left for a
        token, InvalidCapability for a `drop` that cannot be expressed; then nothing is changed.
        """
        base = await _given(self.base, auth, "base")
        held = await self.held(auth)
        if auth.drop:
            held = held.without(*auth.drop)
        trusted = held.with_base(base)
        total, denied, allowed = trusted, NOTHING, NOTHING
        if (missing := auth.requested - trusted) is not NOTHING:
            allowed = await self.check(auth, missing)
            total = trusted | allowed
            denied = missing.missing_from(total)
        if total is NOTHING:
            log.warning(
                "nothing is granted to %r, so its SDK stops for good; give the strategy a base= that lets a"
                " client connect before it asks",
                auth.client_id,
            )
            raise Forbidden("nothing is granted to this client, and a token needs at least one right")
        if denied is not NOTHING and (self.on_denied == "reject" if auth.strict is None else auth.strict):
            raise CapabilityDenied(f"denied: {denied.text[:400]}; what was granted before is kept")
        if allowed is not NOTHING:
            check_length(total)
        if self.store is not None:
            kept = await self.keep(auth, held, allowed)
            if kept is not held:
                total = base | kept | allowed
        return Decision(self.narrowed(auth, total, missing), denied)

    async def capability(self, auth: AuthRequest) -> Capability:
        """What the client holds now, its base included."""
        base = await _given(self.base, auth, "base")
        return (await self.held(auth)).with_base(base)

    async def allows(self, auth: AuthRequest, operation: str, resource: str) -> bool:
        """Whether the client may do `operation` on `resource` now."""
        return (await self.capability(auth)).allows(operation, resource)

    async def check(self, auth: AuthRequest, requested: Capability) -> Capability:
        """The part of `asked` that is allowed, by `authorize` and never more than was asked."""
        if not self.allow_wildcards:
            requested = requested.plain()
        if requested is NOTHING:
            return NOTHING
        return _answer(await self.authorize(auth, requested), "authorize") & requested

    async def held(self, auth: AuthRequest) -> Capability:
        """What the client is trusted to have already, beside its base."""
        return NOTHING

    async def keep(self, auth: AuthRequest, held: Capability, allowed: Capability) -> Capability:
        """Keep the outcome of a request in the store; returns what is held then."""
        raise self._keeps_nothing()

    async def grant(self, auth: AuthRequest, capability: Capability) -> Capability:
        """Let the client hold `capability` too; returns what it holds then, without its base."""
        raise self._keeps_nothing()

    async def withdraw(self, auth: AuthRequest, resources: tuple[str, ...]) -> Capability:
        """Take `resources` from the client; returns what it holds then, without its base."""
        raise self._keeps_nothing()

    def narrowed(self, auth: AuthRequest, total: Capability, missing: Capability) -> Capability:
        """The part of `total` that the token carries: all of it. `missing` of the ask was not held."""
        return total

    def _keeps_nothing(self) -> UsageError:
        return UsageError(
            f"{type(self).__name__} keeps nothing that could be changed: change the list that you give it,"
            " or what your function answers, and tell the client with get_auth(request).reauthorize()"
        )


class ServerDetermined(Strategy):
    """Your server knows the whole list, and every request gets it.

    `resolve` is the list, where it is the same for all, or a function of the AuthRequest that returns it. A
    client's `capability` only narrows its token. Where nothing of the list is in it, the token carries the
    list, and the ask counts as denied.
    """

    def __init__(
        self,
        resolve: CapabilityLike | Resolve,
        *,
        base: CapabilityLike | Resolve | None = None,
        on_denied: OnDenied = "omit",
    ) -> None:
        super().__init__(_nothing_more, base=base, on_denied=on_denied)
        self.resolve = _source(resolve, "resolve")

    def held(self, auth: AuthRequest) -> Coroutine[Any, Any, Capability]:
        """The list."""
        return _given(self.resolve, auth, "resolve")

    def narrowed(self, auth: AuthRequest, total: Capability, missing: Capability) -> Capability:
        """What is in the ask too."""
        if auth.requested is NOTHING:
            return total
        if missing is NOTHING and not auth.requested.has_patterns():
            return auth.requested
        both = total & auth.requested
        return total if both is NOTHING else both


class ClientStored(Strategy):
    """The client keeps its list and sends all of it every time; all of it is checked every time."""

    async def allows(self, auth: AuthRequest, operation: str, resource: str) -> bool:
        """Whether base or `authorize` allows it: nothing is held to look it up in."""
        requested = Capability({resource: operation}) - await self.capability(auth)
        return not (requested - await self.check(auth, requested))


class _Kept(Strategy):
    """A strategy that keeps what it granted, in a store."""

    store: CapabilityStore

    def held(self, auth: AuthRequest) -> Coroutine[Any, Any, Capability]:
        """What the store has for this client."""
        return self.store.load(auth)

    async def keep(self, auth: AuthRequest, held: Capability, allowed: Capability) -> Capability:
        """Change the store by what changed; nothing changed, nothing written."""
        if auth.drop:
            held = await self.store.remove(auth, auth.drop)
        if allowed is not NOTHING:
            held = await self.store.add(auth, allowed)
        return held

    async def grant(self, auth: AuthRequest, capability: Capability) -> Capability:
        """Add to the store; raises TooLarge, and adds nothing, where no token could carry it all."""
        check_length(await self.capability(auth) | capability)
        return await self.store.add(auth, capability)

    async def withdraw(self, auth: AuthRequest, resources: tuple[str, ...]) -> Capability:
        """Take out of the store."""
        return await self.store.remove(auth, resources)


class ServerStored(_Kept):
    """Your server keeps what each client holds, in `store`; only what is asked and not held is checked."""

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
        if missing := [name for name in ("load", "add", "remove") if not hasattr(store, name)]:
            raise TypeError(
                f"store= has no {', '.join(missing)}: it must be a CapabilityStore, got {store!r}"
            )
        self.store = store

    async def check(self, auth: AuthRequest, requested: Capability) -> Capability:
        """As for every strategy; but an anonymous client is allowed nothing that is filed by client id."""
        if auth.client_id is None and self.store.keyed_by_client:
            return NOTHING
        return await super().check(auth, requested)


class ClientSigned(_Kept):
    """The client keeps what it holds, signed by the server; only what is asked and not in it is checked.

    `secret` (one, or several with the newest first) signs the grant, as SignedGrants says; `encrypt` hides it
    from the client, `secure=True` marks its cookie Secure behind a proxy that ends TLS. For its lifetime, its
    cookie's name or another way to travel give a `carrier` in their place.
    """

    store: Carrier

    def __init__(
        self,
        authorize: Authorize,
        *,
        secret: str | bytes | Iterable[str | bytes] | None = None,
        encrypt: bool = False,
        secure: bool | None = None,
        carrier: Carrier | None = None,
        base: CapabilityLike | Resolve | None = None,
        on_denied: OnDenied = "omit",
        allow_wildcards: bool = False,
    ) -> None:
        super().__init__(authorize, base=base, on_denied=on_denied, allow_wildcards=allow_wildcards)
        if (secret is None) == (carrier is None):
            raise TypeError("ClientSigned needs either secret=, to sign with, or carrier=")
        if secret is not None:
            carrier = GrantCarrier(SignedGrants(secret, encrypt=encrypt), secure=secure)
        assert carrier is not None  # noqa: S101  (for the type checker: exactly one was given)
        self.store = carrier

    async def keep(self, auth: AuthRequest, held: Capability, allowed: Capability) -> Capability:
        """Sign what is held now, so that the grant's time begins anew."""
        return self.store.renew(auth, held if allowed is NOTHING else held | allowed)


def _source(source: CapabilityLike | Resolve, name: str) -> _Source:
    if callable(source):
        return asynchronous(source)
    if isinstance(source, Mapping):
        return Capability(source)
    raise TypeError(f"{name}= is a capability or a function of the AuthRequest, got {source!r}")


async def _given(source: _Source, auth: AuthRequest, name: str) -> Capability:
    """A capability, or what the function in its place answers."""
    return _answer(await source(auth), name) if callable(source) else source


def _answer(answer: CapabilityLike, name: str) -> Capability:
    if not isinstance(answer, (dict, Mapping)):
        raise TypeError(
            f"{name} returned {type(answer).__name__}; return what is allowed as a Capability or a mapping of"
            " resource to operations, {} for nothing"
        )
    return Capability(answer)


async def _nothing_more(auth: AuthRequest, requested: Capability) -> Capability:
    return NOTHING
