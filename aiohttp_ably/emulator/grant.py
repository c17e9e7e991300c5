"""What a presented credential allows, and for whom."""

from __future__ import annotations

from dataclasses import dataclass

from ..capability import Capability
from .apps import App, Key
from .failure import Failure

ANYBODY = "*"


@dataclass(frozen=True)
class Grant:
    """What a credential allows on which channels, and for whom.

    `client_id` is None for nobody in particular, `*` for anybody. Times are in milliseconds since the epoch,
    and None when the credential is the key itself.
    """

    key: Key
    capability: Capability
    client_id: str | None
    issued: int | None = None
    expires: float | None = None
    revocation_key: str | None = None

    @property
    def app(self) -> App:
        """The app of the key."""
        return self.key.app

    @property
    def is_token(self) -> bool:
        """Whether this is a token and not the key itself."""
        return self.issued is not None

    def require(self, operation: str, resource: str) -> None:
        """Raise Failure 40160 unless `operation` is allowed on `resource`."""
        if not self.capability.allows(operation, resource):
            raise Failure(
                40160,
                401,
                f"{operation} on {resource[:200]!r} is not permitted: the credential allows {self}",
            )

    def identity(self, asserted: str | None) -> str | None:
        """The client id of who presents this and says to be `asserted` (RSA15).

        None is nobody, `*` anybody. Raises Failure 40102 when the credential is somebody else's.
        """
        if asserted is None:
            return self.client_id
        if self.client_id == ANYBODY and asserted:
            return asserted
        if asserted != self.client_id:
            held = "has no client id" if self.client_id is None else f"is that of {self.client_id!r}"
            raise Failure(
                40102, 401, f"mismatched client id: {asserted[:200]!r} was named, the credential {held}"
            )
        return asserted

    def __str__(self) -> str:
        text = self.capability.text
        return text if len(text) <= 300 else f"{text[:300]}…"


def sender(identity: str | None, named: object) -> str | None:
    """The client id of a message by `identity` that names `named`. Raises Failure 40012 for another's."""
    if named is None:
        return None if identity == ANYBODY else identity
    if not isinstance(named, str) or named in ("", ANYBODY):
        raise Failure(40012, 400, f"a message cannot be from client id {named!r:.100}")
    if identity not in (ANYBODY, named):
        whose = "without one" if identity is None else f"of {identity!r}"
        raise Failure(40012, 400, f"mismatched client id: {named[:200]!r} in a message of a client {whose}")
    return named
