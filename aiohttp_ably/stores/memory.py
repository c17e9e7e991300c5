"""MemoryStore: grants in the memory of this process."""

from __future__ import annotations

from ..capability import NOTHING, Capability
from ..request import AuthRequest
from .base import CapabilityStore, required_client_id


class MemoryStore(CapabilityStore):
    """Stores grants in this process, for development and tests: another worker does not see them."""

    def __init__(self) -> None:
        self._granted: dict[tuple[str, str], Capability] = {}

    async def load(self, auth: AuthRequest) -> Capability:
        """What was granted to the client. What was granted under an older key moves to the newest."""
        return NOTHING if auth.client_id is None else self._replace(auth, auth.client_id, NOTHING, ())

    async def change(
        self, auth: AuthRequest, *, add: Capability = NOTHING, release: tuple[str, ...] = ()
    ) -> Capability:
        """Release and add."""
        return self._replace(auth, required_client_id(auth), add, release)

    def _replace(
        self, auth: AuthRequest, client_id: str, add: Capability, release: tuple[str, ...]
    ) -> Capability:
        places = [(name, client_id) for name in auth.keys.names]
        granted = NOTHING
        for place in places:
            granted |= self._granted.get(place, NOTHING)
        granted = granted.without(*release) | add
        for place in places:
            self._granted.pop(place, None)
        if granted:
            self._granted[places[0]] = granted
        return granted
