"""The four strategies over the same rooms, and the one that leaves the choice to the visitor."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from aiohttp_session import get_session

from aiohttp_ably import (
    AuthRequest,
    Capability,
    ChannelRules,
    ClientSigned,
    ClientStored,
    Decision,
    ServerDetermined,
    ServerStored,
    SessionStore,
    Strategy,
)
from aiohttp_ably.capability import CapabilityLike

from .rooms import OPERATIONS, Rooms

CHECKED: web.RequestKey[Capability] = web.RequestKey("checked", Capability)
"""What the rules were asked about during a request; missing when nothing had to be checked."""

BASE = {"chat:lobby": OPERATIONS}
DEFAULT = "server-stored"


def make_strategies(rooms: Rooms, secret: str) -> dict[str, Strategy]:
    """All four by name. `secret` signs what clients hold."""
    rules = ChannelRules()

    @rules.channel("chat:{room}")
    async def chat(auth: AuthRequest, room: str) -> tuple[str, ...]:
        return OPERATIONS if auth.client_id and rooms.lets_in(room, auth.client_id) else ()

    async def authorize(auth: AuthRequest, requested: Capability) -> Capability:
        if auth.request is not None:
            auth.request[CHECKED] = requested
        return await rules(auth, requested)

    def resolve(auth: AuthRequest) -> CapabilityLike:
        return dict.fromkeys(rooms.channels_of(auth.client_id or ""), OPERATIONS)

    return {
        "server-determined": ServerDetermined(resolve, base=BASE),
        "server-stored": ServerStored(authorize, store=SessionStore(), base=BASE),
        "client-stored": ClientStored(authorize, base=BASE),
        "client-signed": ClientSigned(authorize, secret=secret, base=BASE),
    }


async def chosen(request: web.Request) -> str:
    """The name of the strategy that the visitor chose."""
    name = (await get_session(request)).get("strategy", DEFAULT)
    return str(name)


class Chosen(Strategy):
    """Does what the strategy does that the visitor chose.

    An app of yours has one strategy, and gives it to `setup()` as it is. But the first half of `decide` is of
    use with any that keeps what it granted: what an owner took back is dropped from whatever the client
    still holds, be it an old session or a signed grant, so that no token has it from then on.
    """

    def __init__(self, strategies: Mapping[str, Strategy], rooms: Rooms) -> None:
        super().__init__(lambda auth, requested: {})
        self._strategies = strategies
        self._rooms = rooms

    async def decide(self, auth: AuthRequest) -> Decision:
        """Drop what was taken back, then decide."""
        auth.drop = (*auth.drop, *self._rooms.taken_from(auth.client_id or ""))
        return await (await self._of(auth)).decide(auth)

    async def capability(self, auth: AuthRequest) -> Capability:
        """What the client holds now, its base included."""
        return await (await self._of(auth)).capability(auth)

    async def allows(self, auth: AuthRequest, operation: str, resource: str) -> bool:
        """Whether the client may do `operation` on `resource` now."""
        return await (await self._of(auth)).allows(auth, operation, resource)

    async def granted(self, auth: AuthRequest) -> Capability:
        """What was granted to the client before, without its base."""
        return await (await self._of(auth)).granted(auth)

    async def grant(self, auth: AuthRequest, capability: Capability) -> Capability:
        """Let the client hold `capability` too."""
        return await (await self._of(auth)).grant(auth, capability)

    async def withdraw(self, auth: AuthRequest, resources: tuple[str, ...]) -> Capability:
        """Take `resources` from the client."""
        return await (await self._of(auth)).withdraw(auth, resources)

    async def _of(self, auth: AuthRequest) -> Strategy:
        if auth.request is None:
            raise TypeError("the choice is in the session, so this needs the visitor's own request")
        return self._strategies[await chosen(auth.request)]
