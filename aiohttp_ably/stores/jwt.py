"""JWTStore: the client's current Ably JWT is its grant."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache

from ..capability import Capability
from ..errors import InvalidCapability, InvalidCredential
from ..keys import KeyRing
from ..request import GRANT_HEADER, AuthRequest
from ..tokens import JwtClaims, check_expiry, open_jwt
from .signed import ClientKeptStore
from .signed_grant import CACHED_GRANTS, Grant

_ISSUED_CLAIM = "aiohttp-ably.grant-issued"
_GRANTED_CLAIM = "aiohttp-ably.granted"
_SHORT = 2048  # characters; longer JWTs may have many resources and are not cached


class JWTStore(ClientKeptStore):
    """Stores grants with the client, in the Ably JWT itself: no cookie and no store on the server.

    The client sends its JWT in the `Ably-Grant` header or the param `token`. The next token is the next
    grant, so this needs a JWTIssuer, and only the auth route changes a grant. A claim of the JWT separates
    what was granted from the `base` that every client has. Each JWT has an expiry of its own.

    Args:
        limit: how long a series of renewals may last after its first token.
    """

    in_token = True

    def __init__(self, *, limit: timedelta = timedelta(days=7)) -> None:
        self.limit: int = int(limit.total_seconds())
        self._cached_open = lru_cache(maxsize=CACHED_GRANTS)(_open)

    def read(self, auth: AuthRequest) -> Grant | None:
        """What the client's JWT says was granted. Short JWTs that were verified recently are cached."""
        text = auth.headers.get(GRANT_HEADER) or auth.params.get("token")
        if not isinstance(text, str) or not text:
            return None
        token, grant = (self._cached_open if len(text) <= _SHORT else _open)(text, auth.keys)
        check_expiry(token, auth.now)
        if token.client_id != auth.client_id:
            raise InvalidCredential("the JWT belongs to another client")
        if grant.issued + self.limit <= auth.now:
            raise InvalidCredential("the JWT's series of renewals is over its limit")
        return grant

    def write(self, auth: AuthRequest, granted: Capability, issued: int) -> Grant:
        """Add the claims of the grant to the token that is issued next."""

        def claims(capability: Capability) -> Mapping[str, object]:
            differing = {
                name: sorted(granted.get(name, ()))
                for name, operations in capability.items()
                if granted.get(name) != operations
            }
            return {_ISSUED_CLAIM: issued, **({_GRANTED_CLAIM: differing} if differing else {})}

        auth.claims_for = claims
        return Grant(granted, issued, issued + self.limit)


def _open(text: str, keys: KeyRing) -> tuple[JwtClaims, Grant]:
    """The content of a JWT that was issued as a grant, and the grant, expired or not."""
    token = open_jwt(text, keys)
    issued = token.claims.get(_ISSUED_CLAIM)
    if not isinstance(issued, int) or token.capability is None:
        raise InvalidCredential("the JWT was not issued as a grant")
    granted = token.capability
    if differing := token.claims.get(_GRANTED_CLAIM):
        # The claim has the resources on which the token allows more than was granted.
        try:
            granted = Capability.from_dict({**granted.to_dict(), **differing})  # type: ignore[dict-item]
        except (InvalidCapability, TypeError):
            raise InvalidCredential("the JWT's grant is not a capability") from None
    return token, Grant(granted, issued, int(token.expires))
