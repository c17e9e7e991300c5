"""The store protocol: where a strategy stores what was granted to each client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from http.cookies import SimpleCookie

from ..capability import NOTHING, Capability
from ..errors import CapabilityDenied, TooLarge
from ..request import AuthRequest

COOKIE_LIMIT = 4096
"""The longest cookie with its attributes that every browser stores, in bytes. Browsers drop longer ones."""


class CapabilityStore(ABC):
    """Stores one capability for each client id and Ably app: on the server, or with the client itself.

    Implement `load` and `change` for a store of your own. Set a class attribute where its default does not
    fit. What is stored for one client must never be returned for another.
    """

    by_client_id: bool = True
    """Whether the store is reached by client id, without a request. If so, it stores nothing for anonymous
    clients."""
    renews: bool = False
    """Whether `change` is called for every token request, also when nothing changes, to renew an expiry."""
    in_token: bool = False
    """Whether grants are stored in the token. Then an issuer that adds claims is needed (JWTIssuer)."""

    @abstractmethod
    async def load(self, auth: AuthRequest) -> Capability:
        """What was granted to `auth.client_id`; the empty capability when nothing was."""

    @abstractmethod
    async def change(
        self, auth: AuthRequest, *, add: Capability = NOTHING, release: tuple[str, ...] = ()
    ) -> Capability:
        """Release the resources `release`, then add `add`, in one atomic step; returns the result.

        Of two changes at the same time both take effect. A change that fails changes nothing. Raises
        InvalidCapability when a capability cannot express the rest (`room:1` released from `room:*`), and
        TooLarge when the store has no room for it.
        """

    async def close(self) -> None:  # noqa: B027  (optional)
        """Close the connections that the store opened. Called when the app ends."""


def required_client_id(auth: AuthRequest) -> str:
    """The client id that something is stored under; raises CapabilityDenied for an anonymous client."""
    if auth.client_id is None:
        raise CapabilityDenied("sign in first: this server stores what is granted by client id")
    return auth.client_id


def cookie_text(name: str, value: str, attributes: dict[str, object]) -> str:
    """The value of a Set-Cookie header."""
    cookie: SimpleCookie = SimpleCookie()
    cookie[name] = value
    for attribute, setting in attributes.items():
        if setting is not None and setting is not False:
            cookie[name][attribute.replace("_", "-")] = setting
    return cookie[name].OutputString()


def too_long(place: str, length: int, limit: int) -> TooLarge:
    """The error for a grant or session that does not fit."""
    return TooLarge(
        f"what is granted would need {place} of {length} bytes, and {limit} is the limit; grant fewer"
        " resources, or a pattern for many of them, or store grants on the server (RedisStore)"
    )
