"""The four strategies with the same rules, and a strategy that uses the one which the visitor chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

# aiohttp before 3.14 has no RequestKey, and takes strings.
CHECKED: Any = web.RequestKey("checked", Capability) if hasattr(web, "RequestKey") else "checked"
"""The capability that the rules checked during a request. Missing when nothing had to be checked."""

BASE = {"chat:lobby": OPERATIONS}
DEFAULT = "server-stored"


def make_strategies(rooms: Rooms, secret: str) -> dict[str, Strategy]:
    """The four strategies by name. `secret` signs the grants of the client-signed strategy."""
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
    """Decides as the strategy that the visitor chose.

    An app needs only one strategy, and passes that to `setup()`. Releasing withdrawn rooms is useful there
    too: an old session or a signed grant can still have a room that its owner withdrew. No handler of the
    demo grants or checks a capability, so `decide` is enough.
    """

    def __init__(self, strategies: Mapping[str, Strategy], rooms: Rooms) -> None:
        super().__init__(lambda auth, requested: {})
        self._strategies = strategies
        self._rooms = rooms

    async def decide(self, auth: AuthRequest) -> Decision:
        """Release the rooms that were withdrawn from the client, and let the chosen strategy decide."""
        assert auth.request is not None
        auth.drop = (*auth.drop, *self._rooms.withdrawn_from(auth.client_id or ""))
        return await self._strategies[await chosen(auth.request)].decide(auth)
