"""A store, a strategy and an issuer as an app writes its own: with documented names only."""

from __future__ import annotations

from aiohttp_ably import (
    AuthRequest,
    Capability,
    CapabilityDenied,
    CapabilityStore,
    Decision,
    Forbidden,
    Issued,
    Issuer,
    Strategy,
)
from aiohttp_ably.capability import NOTHING
from aiohttp_ably.tokens import sign_token_request


class DictStore(CapabilityStore):
    """Stores grants in a dict."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Capability] = {}

    async def load(self, auth: AuthRequest) -> Capability:
        return NOTHING if auth.client_id is None else await self.change(auth)

    async def change(
        self, auth: AuthRequest, *, add: Capability = NOTHING, release: tuple[str, ...] = ()
    ) -> Capability:
        if auth.client_id is None:
            raise CapabilityDenied("sign in first")
        granted = NOTHING
        for key in auth.keys:
            granted |= self.rows.get((key.name, auth.client_id), NOTHING)
        granted = granted.without(*release) | add
        for key in auth.keys:
            self.rows.pop((key.name, auth.client_id), None)
        self.rows[auth.key.name, auth.client_id] = granted
        return granted


class BlockingStrategy(Strategy):
    """Refuses blocked clients, and decides about the others as every strategy does."""

    def __init__(self, authorize: object, **options: object) -> None:
        super().__init__(authorize, **options)  # type: ignore[arg-type]
        self.store = DictStore()
        self.blocked: set[str | None] = set()

    async def decide(self, auth: AuthRequest) -> Decision:
        if auth.client_id in self.blocked:
            raise Forbidden("this client is blocked")
        return await super().decide(auth)


class ShortIssuer(Issuer):
    """Issues TokenRequests for tokens of five minutes, whatever lifetime a client requests."""

    async def issue(self, auth: AuthRequest, capability: Capability) -> Issued:
        signed = sign_token_request(
            auth.key,
            capability=capability,
            client_id=auth.client_id,
            ttl=300_000,
            timestamp=int(auth.now * 1000),
        )
        return Issued(signed.to_json().encode())
