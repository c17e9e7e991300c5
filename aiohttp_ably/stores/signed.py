"""How a client-held grant travels: in a cookie or header of its own, or as the client's Ably JWT."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from ..capability import NOTHING, Capability
from ..errors import InvalidCredential, TooLarge, UsageError
from ..request import GRANT_HEADER
from ..tokens import in_time, open_jwt
from .session import COOKIE_LIMIT, cookie_text
from .signed_grant import REMEMBERED, Grant, SignedGrants

if TYPE_CHECKING:
    from ..request import AuthRequest

log = logging.getLogger(__name__)

_ISSUED_CLAIM = "aiohttp-ably.grant-issued"
_HEADER_LIMIT = 8000
_SHORT = 2048  # characters; what is longer may hold many resources, and is not remembered


class Carrier(ABC):
    """A store that the client carries: `load` verifies what came with the request, the others write.

    A grant that is another client's or key's, changed, or expired counts as nothing held, and is logged.
    """

    keyed_by_client = False

    async def load(self, auth: AuthRequest) -> Capability:
        """What the client's grant says; nothing where it does not hold."""
        if auth.grant is None:
            try:
                auth.grant = self.read(auth)
            except InvalidCredential as error:
                log.info("a grant was dropped: %s", error.message)
        return auth.grant.capability if auth.grant else NOTHING

    async def add(self, auth: AuthRequest, capability: Capability) -> Capability:
        """Send a grant of `capability` too."""
        return self.renew(auth, await self.load(auth) | capability)

    async def remove(self, auth: AuthRequest, resources: tuple[str, ...]) -> Capability:
        """Send a grant without `resources`."""
        return self.renew(auth, (await self.load(auth)).without(*resources))

    def renew(self, auth: AuthRequest, held: Capability) -> Capability:
        """Send a grant of `held`, its time begun anew; raises TooLarge where it does not fit."""
        auth.grant = self.write(auth, held, auth.grant.issued if auth.grant else int(auth.now))
        return held

    @abstractmethod
    def read(self, auth: AuthRequest) -> Grant | None:
        """The grant that came with the request; raises InvalidCredential where it does not hold."""

    @abstractmethod
    def write(self, auth: AuthRequest, held: Capability, issued: int) -> Grant:
        """Send a grant of `held`, its chain begun at `issued`; raises TooLarge where it does not fit."""


class GrantCarrier(Carrier):
    """Carries a signed grant in a cookie, or in the `Ably-Grant` header for clients without cookies.

    A client that sends the header, be it empty, gets its grant there and no cookie. The cookie is HttpOnly
    and SameSite=Lax; it is Secure when the request came over https, or as `secure` says (True behind a proxy
    that ends TLS). It is sent anew when what is held changes, and once a tenth of its lifetime has passed: a
    poll that changes nothing does not overwrite what a request beside it was granted.
    """

    def __init__(
        self,
        grants: SignedGrants,
        *,
        cookie: str = "ably_grant",
        secure: bool | None = None,
        domain: str | None = None,
    ) -> None:
        self.grants = grants
        self.cookie = cookie
        self.secure = secure
        self.domain = domain

    def read(self, auth: AuthRequest) -> Grant | None:
        """The grant in the header, or else in the cookie."""
        text = auth.headers.get(GRANT_HEADER)
        if text is None:
            text = auth.cookies.get(self.cookie)
        if not text:
            return None
        return self.grants.verify(text, auth.client_id, auth.keys, now=auth.now)

    def renew(self, auth: AuthRequest, held: Capability) -> Capability:
        """Send a grant of `held`; but a cookie that says the same, and is fresh, stays as it is."""
        grant = auth.grant
        if (
            grant is not None
            and held is grant.capability
            and GRANT_HEADER not in auth.headers
            and self.grants.is_fresh(grant, now=auth.now)
        ):
            return held
        return super().renew(auth, held)

    def write(self, auth: AuthRequest, held: Capability, issued: int) -> Grant:
        """Sign `held` and send it the way the client's grants travel."""
        text, grant = self.grants.sign(auth.client_id, auth.key.name, held, now=auth.now, issued=issued)
        if GRANT_HEADER in auth.headers:
            if len(text) > _HEADER_LIMIT:
                raise _too_long("a header", len(text), _HEADER_LIMIT)
            auth.set_header(GRANT_HEADER, text)
            return grant
        over_https = auth.request is not None and auth.request.secure
        attributes = {
            "path": "/",
            "httponly": True,
            "samesite": "Lax",
            "secure": over_https if self.secure is None else self.secure,
            "domain": self.domain,
            "max_age": grant.expires - int(auth.now),
        }
        cookie = cookie_text(self.cookie, text, attributes)
        if len(cookie) > COOKIE_LIMIT:
            raise _too_long("a cookie", len(cookie), COOKIE_LIMIT)
        auth.set_cookie(self.cookie, cookie)
        return grant


class JWTCarrier(Carrier):
    """The client's current Ably JWT is its grant: it travels in the `Ably-Grant` header or the param `token`.

    Its expiry is not inherited: the token issued now lives from now on, up to `limit` after the first of the
    chain. Needs a JWTIssuer, since the next token is the next grant.
    """

    def __init__(self, *, limit: timedelta = timedelta(days=7)) -> None:
        self.limit = int(limit.total_seconds())
        self._opened = lru_cache(maxsize=REMEMBERED)(open_jwt)

    def read(self, auth: AuthRequest) -> Grant | None:
        """What the presented JWT allows to this client; a short one that was verified is known."""
        text = auth.headers.get(GRANT_HEADER) or auth.params.get("token")
        if not isinstance(text, str) or not text:
            return None
        opened = self._opened if len(text) <= _SHORT else open_jwt
        claims = in_time(opened(text, auth.keys), auth.now)
        if claims.client_id != auth.client_id:
            raise InvalidCredential("the JWT is another client's")
        issued = claims.claims.get(_ISSUED_CLAIM)
        if not isinstance(issued, int) or claims.capability is None:
            raise InvalidCredential("the JWT was not issued here as a grant")
        if issued + self.limit <= auth.now:
            raise InvalidCredential("the JWT's chain of grants is over its limit")
        return Grant(claims.capability, issued, int(claims.expires))

    def write(self, auth: AuthRequest, held: Capability, issued: int) -> Grant:
        """Mark the token to be issued as the grant."""
        auth.carried_by_token = True
        auth.token_claims = {_ISSUED_CLAIM: issued}
        return Grant(held, issued, issued + self.limit)

    async def add(self, auth: AuthRequest, capability: Capability) -> Capability:
        """Not without a token: raises UsageError."""
        raise UsageError(
            "with JWTCarrier a grant travels in the token, so it cannot be changed beside it; let the client"
            " ask the auth route, or carry signed grants (secret=)"
        )

    remove = add  # type: ignore[assignment]


def _too_long(place: str, length: int, limit: int) -> TooLarge:
    return TooLarge(
        f"the signed grant would need {place} of {length} bytes, and {limit} is the most; hold fewer"
        " resources, a pattern for many of them, or keep grants on the server (ServerStored)"
    )
