"""SignedStore: grants that the client keeps in a signed cookie or header."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable
from datetime import timedelta

from ..capability import NOTHING, Capability
from ..errors import InvalidCredential
from ..request import GRANT_HEADER, AuthRequest
from .base import COOKIE_LIMIT, CapabilityStore, cookie_text, too_long
from .signed_grant import Grant, SignedGrants

log: logging.Logger = logging.getLogger(__name__)

_HEADER_LIMIT = 8000


class ClientKeptStore(CapabilityStore):
    """A store that the client keeps: its grant comes with the request and is sent with the response.

    An invalid grant is ignored, and the log says why.
    """

    by_client_id = False
    renews = True

    async def load(self, auth: AuthRequest) -> Capability:
        """What the client's grant contains; nothing when it is invalid."""
        grant = self._loaded(auth)
        return grant.capability if grant else NOTHING

    def _loaded(self, auth: AuthRequest) -> Grant | None:
        """The grant of this request, or the one that was written during it."""
        if auth.store_state is None:
            grant = None
            try:
                grant = self.read(auth)
            except InvalidCredential as error:
                log.info("a grant was ignored: %s", error.message)
            auth.store_state = (grant,)
        loaded: tuple[Grant | None] = auth.store_state
        return loaded[0]

    async def change(
        self, auth: AuthRequest, *, add: Capability = NOTHING, release: tuple[str, ...] = ()
    ) -> Capability:
        """Release and add, and send a grant with a fresh expiry."""
        before = self._loaded(auth)
        granted = (before.capability if before else NOTHING).without(*release) | add
        if before is None or granted != before.capability or not self.is_fresh(auth, before):
            issued = before.issued if before else int(auth.now)
            auth.store_state = (self.write(auth, granted, issued),)
        return granted

    def is_fresh(self, auth: AuthRequest, grant: Grant) -> bool:
        """Whether `grant` need not be sent again while nothing changes."""
        return False

    @abstractmethod
    def read(self, auth: AuthRequest) -> Grant | None:
        """The grant that came with the request; raises InvalidCredential when it does not verify."""

    @abstractmethod
    def write(self, auth: AuthRequest, granted: Capability, issued: int) -> Grant:
        """Send a grant of `granted`, its series of renewals started at `issued` (seconds since the epoch).

        Raises TooLarge when it does not fit.
        """


class SignedStore(ClientKeptStore):
    """Stores grants with the client: in a signed cookie, or in the `Ably-Grant` header without cookies.

    A client that sends the header, which may be empty, gets its grant there and no cookie. The cookie is
    HttpOnly and SameSite=Lax. It is sent again when the grant changes, and when a tenth of its lifetime has
    passed: a poll that changes nothing does not overwrite what another request was granted meanwhile.

    Args:
        secret: one secret of 16 bytes or more, or several. The newest comes first and signs, all verify.
        lifetime: how long a grant is valid after its last renewal.
        limit: how long a series of renewals may last after its first grant.
        encrypt: whether to encrypt the grant, so that the client cannot read it.
        cookie: the name of the cookie.
        secure: whether the cookie is Secure. By default it is when the request came over https; set True
            behind a proxy that ends TLS.
        domain: the domain of the cookie, by default the host of the request.

    Raises:
        ValueError: a secret is too short, or `limit` is under `lifetime`.
    """

    def __init__(
        self,
        secret: str | bytes | Iterable[str | bytes],
        *,
        lifetime: timedelta = timedelta(hours=24),
        limit: timedelta = timedelta(days=7),
        encrypt: bool = False,
        cookie: str = "ably_grant",
        secure: bool | None = None,
        domain: str | None = None,
    ) -> None:
        self.grants: SignedGrants = SignedGrants(secret, lifetime=lifetime, limit=limit, encrypt=encrypt)
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

    def is_fresh(self, auth: AuthRequest, grant: Grant) -> bool:
        """Whether at most a tenth of the lifetime of the client's cookie has passed."""
        return GRANT_HEADER not in auth.headers and self.grants.is_fresh(grant, now=auth.now)

    def write(self, auth: AuthRequest, granted: Capability, issued: int) -> Grant:
        """Sign `granted`, and send it in the header or the cookie."""
        text, grant = self.grants.sign(
            auth.client_id, auth.keys.newest.name, granted, now=auth.now, issued=issued
        )
        if GRANT_HEADER in auth.headers:
            if len(text) > _HEADER_LIMIT:
                raise too_long("a header", len(text), _HEADER_LIMIT)
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
            raise too_long("a cookie", len(cookie), COOKIE_LIMIT)
        auth.set_cookie(self.cookie, cookie)
        return grant
