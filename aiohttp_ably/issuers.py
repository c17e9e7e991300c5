"""Issuers: what a granted capability becomes. A TokenRequest, a JWT, or TokenDetails fetched from Ably."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from ._callbacks import asynchronous
from .capability import Capability
from .capability import strict_json as _json
from .errors import TooLarge, Unavailable
from .request import AuthRequest
from .tokens import MAX_REVOCABLE_TTL, MAX_TTL, MIN_TTL, TokenRequest, sign_jwt, sign_token_request

JSON = "application/json"
JWT = "application/jwt"


@dataclass(slots=True)
class Issued:
    """An answer to an SDK: the JSON of a TokenRequest or TokenDetails, or a bare token, and its type."""

    body: bytes
    content_type: str = JSON


class Issuer(Protocol):
    """Turns what a strategy decided into what the client gets."""

    async def issue(self, auth: AuthRequest, capability: Capability) -> Issued:
        """Issue for `auth.client_id`, under `auth.key`, at `auth.now`."""
        ...

    async def close(self) -> None:
        """Let go of what is open; called when the app ends."""
        ...


class _Timed:
    """How long what is issued lives.

    `ttl` is what a client gets that asks for none, `max_ttl` the most it may ask for; at Ably that is 24
    hours, and 1 hour under a key whose tokens are revocable. `jitter` is the part of it, taken off at random,
    that keeps many clients from renewing together. Raises ValueError for what Ably would refuse.
    """

    def __init__(
        self,
        *,
        ttl: timedelta = timedelta(hours=1),
        max_ttl: timedelta = timedelta(hours=24),
        jitter: float = 0.1,
    ) -> None:
        self.ttl = int(ttl.total_seconds() * 1000)
        self.max_ttl = int(max_ttl.total_seconds() * 1000)
        self.jitter = jitter
        self._shortest = min(MIN_TTL, self.ttl)
        if not 0 < self.ttl <= self.max_ttl <= MAX_TTL:
            raise ValueError("ttl= must be over 0 and at most max_ttl=, and that at most Ably's 24 hours")
        if not 0 <= jitter < 1:
            raise ValueError(f"jitter={jitter!r} must be at least 0 and under 1, such as 0.1 for a tenth")

    def life(self, auth: AuthRequest) -> int:
        """The life of what is issued for `auth`, in milliseconds."""
        wanted = min(max(auth.ttl, self._shortest), self.max_ttl) if auth.ttl else self.ttl
        if wanted > MAX_REVOCABLE_TTL and auth.key.revocable:
            wanted = MAX_REVOCABLE_TTL
        life = int(wanted * (1 - self.jitter * random.random()))  # noqa: S311
        return life if life > self._shortest else self._shortest

    async def close(self) -> None:
        """Nothing is open."""


class TokenRequestIssuer(_Timed):
    """Answers with a signed TokenRequest, which the client itself exchanges at Ably (RSA9)."""

    async def issue(self, auth: AuthRequest, capability: Capability) -> Issued:
        """A TokenRequest with exactly the members that every SDK takes."""
        return Issued(self.sign(auth, capability).to_json().encode())

    def sign(self, auth: AuthRequest, capability: Capability) -> TokenRequest:
        """The TokenRequest itself."""
        return sign_token_request(
            auth.key,
            capability=capability,
            client_id=auth.client_id,
            ttl=self.life(auth),
            timestamp=int(auth.now * 1000),
        )


Claims = Callable[[AuthRequest], Mapping[str, object] | Awaitable[Mapping[str, object]]]


class JWTIssuer(_Timed):
    """Answers with an Ably JWT, which needs no exchange: in TokenDetails, or bare to one that accepts JWT.

    `claims(auth)` adds claims of yours, such as `ably.channel.<name>`; `revocation_key(auth)` names the group
    by which the token can be revoked. A JWT over `budget` bytes would not fit the headers it travels in, so a
    TokenRequest is issued in its place. Further options as for TokenRequestIssuer.
    """

    def __init__(
        self,
        *,
        claims: Claims | None = None,
        revocation_key: Callable[[AuthRequest], str | None] | None = None,
        budget: int = 8000,
        **times: Any,
    ) -> None:
        super().__init__(**times)
        self.claims = asynchronous(claims) if claims else None
        self.revocation_key = revocation_key
        self.budget = budget
        self._fallback = TokenRequestIssuer(**times)

    async def issue(self, auth: AuthRequest, capability: Capability) -> Issued:
        """A JWT, or a TokenRequest where it would be too long."""
        claims = dict(await self.claims(auth)) if self.claims else {}
        issued = int(auth.now)
        expires = issued + max(self.life(auth) // 1000, 1)
        token = sign_jwt(
            auth.key,
            capability=capability,
            client_id=auth.client_id,
            issued=issued,
            expires=expires,
            revocation_key=self.revocation_key(auth) if self.revocation_key else None,
            claims={**claims, **(auth.token_claims or {})},
        )
        if len(token) > self.budget:
            if auth.carried_by_token:
                raise TooLarge(
                    f"the JWT would have {len(token)} bytes, and {self.budget} is the most that fits a"
                    " header; hold fewer resources, or a pattern for many of them"
                )
            return await self._fallback.issue(auth, capability)
        if auth.wants_jwt:
            return Issued(token.encode(), JWT)
        details = {
            "token": token,
            "keyName": auth.key.name,
            "issued": issued * 1000,
            "expires": expires * 1000,
            "capability": capability.text,
        }
        if auth.client_id is not None:
            details["clientId"] = auth.client_id
        return Issued(_json.dumps(details).encode())


class TokenDetailsIssuer(_Timed):
    """Answers with TokenDetails: asks Ably for the token through the `ably` SDK, so the client need not.

    `options` are client options of `ably.AblyRest`, such as `endpoint`, beside the `client_options` of
    `setup()`. A request costs a call to Ably; where that fails the answer is 503. Further options as for
    TokenRequestIssuer.
    """

    def __init__(self, *, options: Mapping[str, Any] | None = None, **times: Any) -> None:
        super().__init__(**times)
        self._request = TokenRequestIssuer(**times)
        self._options = dict(options or {})
        self._rest: Any = None

    def reach_ably_by(self, options: Mapping[str, Any]) -> None:
        """Take `options` where none of its own says otherwise; `setup()` calls it."""
        self._options = {**options, **self._options}

    async def issue(self, auth: AuthRequest, capability: Capability) -> Issued:
        """The TokenDetails Ably gives for our TokenRequest (RSA8e); raises Unavailable where it does not."""
        from ably import AblyException, AblyRest

        signed = self._request.sign(auth, capability)
        if self._rest is None:
            # No credential: the SDK wants one to begin with, and each request is signed.
            self._rest = AblyRest(token="none", **self._options)  # noqa: S106
        try:
            # Not the SDK's request_token(): it reads a capability with an apostrophe in it wrong.
            answer = await self._rest.http.post(
                f"/keys/{auth.key.name}/requestToken", body=signed.to_dict(), skip_auth=True
            )
        except AblyException as error:
            raise Unavailable(f"Ably gave no token (its code {error.code})") from error
        details = answer.to_native()
        if not isinstance(details, Mapping) or not details.get("token"):
            raise Unavailable("Ably's answer has no token in it")
        names = ("token", "keyName", "issued", "expires", "capability", "clientId")
        members = {name: details[name] for name in names if details.get(name) is not None}
        return Issued(_json.dumps(members).encode())

    async def close(self) -> None:
        """Close the SDK's connections."""
        if self._rest is not None:
            await self._rest.close()
            self._rest = None
