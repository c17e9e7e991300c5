"""Changing what clients may do by their ids, from anywhere, and telling them through Ably."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any

from aiohttp import web

from ._callbacks import dependable
from .ably_api import AblyApi
from .capability import Capability
from .errors import UsageError
from .issuers import Issuer, JWTIssuer
from .keys import ApiKey, KeyRing
from .request import AuthRequest
from .strategies import CapabilityLike, Strategy
from .tokens import checked_client_id

Keys = str | ApiKey | KeyRing | Iterable[str | ApiKey]
KeyFor = Callable[[web.Request], Keys | Awaitable[Keys | None] | None]
_CLOCK_LEEWAY = 0.1


class ByClientId:
    """The part of an auth server that reaches clients without a request of theirs."""

    strategy: Strategy
    issuer: Issuer
    timeout: float
    _control: AblyApi
    _key: KeyRing | KeyFor | None

    async def grant(
        self, client_id: str, capability: CapabilityLike, *, key: Keys | None = None, tell: bool = True
    ) -> Capability:
        """Let a client hold `capability` too, from anywhere, and tell it so that it reauthorizes.

        Returns what it holds then, without its base. The strategy must keep what it grants in a store that is
        reached by client id. The client is told in every case, as `reauthorize` does it, so that a call that
        failed can be made again; with `tell=False` only the store is changed. `key` says which tenant's
        client it is where `setup(key=...)` is a function.

        Raises UsageError where the strategy cannot do this, Unavailable where the store fails, and
        RevocationFailed when it is kept and the client was not told.
        """
        granted = Capability(capability)
        return await self._change(client_id, key, tell, lambda auth: self.strategy.grant(auth, granted))

    async def withdraw(
        self, client_id: str, *resources: str, key: Keys | None = None, tell: bool = True
    ) -> Capability:
        """Take `resources` from a client and tell it, all as `grant` does.

        Its connected SDK fetches a new token at once; a client that does not loses its connection after 30
        seconds. Use `revoke` as well where that is too long.
        """
        return await self._change(client_id, key, tell, lambda auth: self.strategy.withdraw(auth, resources))

    async def reauthorize(
        self, *clients: str, groups: Iterable[str] = (), key: Keys | None = None
    ) -> Mapping[str, int]:
        """Tell clients to fetch a new token: Ably revokes the one they have, with 30 seconds to do so.

        `groups` are revocation keys, as `JWTIssuer(revocation_key=...)` puts them into tokens. The API key
        must have revocable tokens. Returns from when on the old tokens are refused, in milliseconds since the
        epoch, for each `clientId:…` and `revocationKey:…`. Raises RevocationFailed with what failed for whom.
        """
        return await self._revoke(clients, groups, key, margin=True)

    async def revoke(
        self, *clients: str, groups: Iterable[str] = (), key: Keys | None = None
    ) -> Mapping[str, int]:
        """End the tokens and connections of clients now; otherwise as `reauthorize`.

        What a client may have is not changed: one that is still signed in gets a new token when it asks. A
        TokenRequest that was signed before, and not used yet, can be exchanged for two minutes; see the docs
        on production.
        """
        return await self._revoke(clients, groups, key, margin=False)

    async def _change(
        self,
        client_id: str,
        key: Keys | None,
        tell: bool,
        change: Callable[[AuthRequest], Coroutine[Any, Any, Capability]],
    ) -> Capability:
        store = self.strategy.store
        if store is not None and not store.keyed_by_client:
            raise UsageError(
                f"{type(store).__name__} has what a client holds only within that client's own request:"
                " change it there with get_auth(request), or use RedisStore, which is reached by client id"
            )
        keys = self._keys_of(key)
        auth = AuthRequest(client_id=checked_client_id(client_id), keys=keys, now=self._control.now())
        held = await dependable(change(auth), self.timeout)
        if tell:
            await self.reauthorize(client_id, key=keys)
        return held

    async def _revoke(
        self, clients: Iterable[str], groups: Iterable[str], key: Keys | None, *, margin: bool
    ) -> Mapping[str, int]:
        if isinstance(groups, str):
            raise TypeError(f"groups= is a list of revocation keys, such as [{groups!r}]")
        targets = [f"clientId:{checked_client_id(client)}" for client in clients]
        targets += [f"revocationKey:{group}" for group in groups]
        keys = self._keys_of(key)
        issued_before = None
        if targets and isinstance(self.issuer, JWTIssuer):
            issued_before = await self._end_of_second()
        return await self._control.revoke(keys, targets, margin=margin, issued_before=issued_before)

    async def _end_of_second(self) -> int:
        """Wait for the next second, and return when this one ended, in milliseconds.

        A JWT tells its time of issue in whole seconds, so one issued after a revocation but in the same
        second could not be told from those it is about.
        """
        second, part = divmod(self._control.now(), 1)
        await asyncio.sleep(1 - part + _CLOCK_LEEWAY)
        return int(second) * 1000 + 999

    def _keys_of(self, key: Keys | None) -> KeyRing:
        if key is not None:
            return KeyRing.of(key)
        if isinstance(self._key, KeyRing):
            return self._key
        raise UsageError("setup(key=...) finds a tenant's key by its request, so say here whose: key=")
