"""The issuers turn the capability that a strategy decided into a TokenRequest, a JWT or TokenDetails."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ._callbacks import as_async
from .ably_api import AblyApi
from .capability import Capability, strict_json
from .errors import TooLarge
from .request import AuthRequest
from .tokens import MAX_REVOCABLE_TTL, MAX_TTL, MIN_TTL, TokenRequest, sign_jwt, sign_token_request

JSON = "application/json"
JWT = "application/jwt"

MakeClaims = Callable[[AuthRequest], Mapping[str, object] | Awaitable[Mapping[str, object]]]
"""Gets the request; returns claims for its JWT."""
_AsyncMakeClaims = Callable[[AuthRequest], Awaitable[Mapping[str, object]]]


@dataclass(slots=True)
class Issued:
    """The body of an answer to an SDK, and its content type: JSON, or a bare token."""

    body: bytes
    content_type: str = JSON


class Issuer(ABC):
    """Turns the capability that a strategy decided into an answer to the client.

    Implement `issue` for an issuer of your own. Set a class attribute where its default does not fit.
    """

    adds_claims: bool = False
    """Whether the token gets the claims of `auth.claims_for`, which a store in the token needs."""
    whole_seconds: bool = False
    """Whether the token has its time of issue in whole seconds. Then a revocation waits for the next one."""

    @abstractmethod
    async def issue(self, auth: AuthRequest, capability: Capability) -> Issued:
        """Issue a token for `auth.client_id`, under the key `auth.key`, at the time `auth.now`."""

    def connect(self, ably_api: AblyApi) -> None:  # noqa: B027  (optional)
        """Get the Ably REST API client of the auth server. Called once, by `setup()`."""

    async def close(self) -> None:  # noqa: B027  (optional)
        """Close the connections that the issuer opened. Called when the app ends."""


class _Timed(Issuer):
    """An issuer of tokens with a limited lifetime; documented at TokenRequestIssuer."""

    def __init__(
        self,
        *,
        ttl: timedelta = timedelta(hours=1),
        max_ttl: timedelta = timedelta(hours=24),
        jitter: float = 0.1,
    ) -> None:
        self.ttl: int = int(ttl.total_seconds() * 1000)
        self.max_ttl: int = int(max_ttl.total_seconds() * 1000)
        self.jitter = jitter
        self._shortest = min(MIN_TTL, self.ttl)
        if not 0 < self.ttl <= self.max_ttl <= MAX_TTL:
            raise ValueError("ttl= must be over 0 and at most max_ttl=, and max_ttl= at most Ably's 24 hours")
        if not 0 <= jitter < 1:
            raise ValueError(f"jitter={jitter!r} must be at least 0 and under 1, such as 0.1 for a tenth")

    def lifetime(self, auth: AuthRequest) -> int:
        """The lifetime of the token for `auth`, in milliseconds."""
        wanted = min(max(auth.ttl, self._shortest), self.max_ttl) if auth.ttl else self.ttl
        if wanted > MAX_REVOCABLE_TTL and auth.keys.newest.revocable:
            wanted = MAX_REVOCABLE_TTL
        shortened = int(wanted * (1 - self.jitter * random.random()))  # noqa: S311
        return max(shortened, self._shortest)

    def sign(self, auth: AuthRequest, capability: Capability) -> TokenRequest:
        """Sign a TokenRequest for `auth`."""
        return sign_token_request(
            auth.keys.newest,
            capability=capability,
            client_id=auth.client_id,
            ttl=self.lifetime(auth),
            timestamp=int(auth.now * 1000),
        )


class TokenRequestIssuer(_Timed):
    """Answers with a signed TokenRequest, which the client exchanges for a token at Ably (RSA9).

    Args:
        ttl: the lifetime of a token when the client requests none.
        max_ttl: the longest lifetime that a client may request. Ably allows 24 hours, and one hour under a
            key whose tokens are revocable.
        jitter: the part of the lifetime, from 0 to 1, that is subtracted at random, so that many clients do
            not renew at the same moment.

    Raises:
        ValueError: Ably would refuse such a lifetime, or `jitter` is not from 0 to 1.
    """

    async def issue(self, auth: AuthRequest, capability: Capability) -> Issued:
        """A TokenRequest with exactly the members that every SDK accepts."""
        return Issued(self.sign(auth, capability).to_json().encode())


class JWTIssuer(_Timed):
    """Answers with an Ably JWT, which the client need not exchange.

    The JWT comes in TokenDetails, or bare as `application/jwt` to a client that accepts it and no JSON.

    Args:
        claims: a sync or async function of the AuthRequest that returns further claims, such as
            `ably.channel.<name>`.
        revocation_key: a function of the AuthRequest that names a group of tokens which can be revoked
            together, None for no group.
        budget: the longest JWT in bytes. A longer one would not fit into HTTP headers, so the answer is a
            TokenRequest in its place, or 413 when the JWT contains the client's grant.
        times: `ttl`, `max_ttl` and `jitter`, as for TokenRequestIssuer.

    Raises:
        ValueError: as for TokenRequestIssuer.
    """

    adds_claims = True
    whole_seconds = True

    def __init__(
        self,
        *,
        claims: MakeClaims | None = None,
        revocation_key: Callable[[AuthRequest], str | None] | None = None,
        budget: int = 8000,
        **times: Any,
    ) -> None:
        super().__init__(**times)
        self.claims: Callable[[AuthRequest], Awaitable[Mapping[str, object]]] | None = (
            as_async(claims) if claims else None
        )
        self.revocation_key = revocation_key
        self.budget = budget

    async def issue(self, auth: AuthRequest, capability: Capability) -> Issued:
        """A JWT, or a TokenRequest when the JWT is over `budget`."""
        claims: dict[str, object] = {}
        if self.claims is not None:
            auth.waits_for = "claims"
            claims |= await self.claims(auth)
        if auth.claims_for is not None:
            claims |= auth.claims_for(capability)
        issued = int(auth.now)
        expires = issued + max(self.lifetime(auth) // 1000, 1)
        token = sign_jwt(
            auth.keys.newest,
            capability=capability,
            client_id=auth.client_id,
            issued=issued,
            expires=expires,
            revocation_key=self.revocation_key(auth) if self.revocation_key else None,
            claims=claims,
        )
        if len(token) > self.budget:
            if auth.claims_for is not None:
                raise TooLarge(
                    f"the JWT would have {len(token)} bytes, and {self.budget} is the most that fits a"
                    " header; grant fewer resources, or a pattern for many of them"
                )
            return Issued(self.sign(auth, capability).to_json().encode())
        if auth.wants_jwt:
            return Issued(token.encode(), JWT)
        details = {
            "token": token,
            "keyName": auth.keys.newest.name,
            "issued": issued * 1000,
            "expires": expires * 1000,
            "capability": capability.text,
        }
        if auth.client_id is not None:
            details["clientId"] = auth.client_id
        return Issued(strict_json.dumps(details).encode())


class TokenDetailsIssuer(_Timed):
    """Answers with TokenDetails: the server itself exchanges the TokenRequest for a token at Ably (RSA8e).

    Each answer takes a request to Ably; when that fails, the answer is 503. `setup(client_options=...)` says
    how to reach Ably. The same options as TokenRequestIssuer.
    """

    _ably_api: AblyApi

    def connect(self, ably_api: AblyApi) -> None:
        """Use `ably_api` for the requests to Ably."""
        self._ably_api = ably_api

    async def issue(self, auth: AuthRequest, capability: Capability) -> Issued:
        """The TokenDetails that Ably returns; raises Unavailable when it returns none."""
        auth.waits_for = "Ably"
        details = await self._ably_api.request_token(self.sign(auth, capability))
        return Issued(strict_json.dumps(details).encode())
