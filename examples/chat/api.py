"""The chat's own API for its page: sign-in, rooms, and the actions of their owners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp_session import get_session

from aiohttp_ably import get_auth

from .identity import current_user, sign_in, sign_out, signed_in
from .rooms import Room, Rooms
from .strategies import chosen
from .streams import Streams


class Api:
    """The handlers.

    `page`: settings for every page: the address of ably-js, and client options.
    """

    def __init__(
        self, rooms: Rooms, streams: Streams, strategies: Mapping[str, object], page: Mapping[str, object]
    ) -> None:
        self._rooms = rooms
        self._streams = streams
        self._strategies = strategies
        self._page = page

    def add_routes(self, app: web.Application) -> None:
        """Add the routes to `app`."""
        app.router.add_get("/api/session", self.session)
        app.router.add_post("/api/session", self.begin)
        app.router.add_delete("/api/session", self.end)
        app.router.add_put("/api/strategy", self.choose)
        app.router.add_get("/api/rooms", self.list)
        app.router.add_post("/api/rooms/{room}/knocks", self.knock)
        app.router.add_post("/api/rooms/{room}/members", self.admit)
        app.router.add_delete("/api/rooms/{room}/members/{person}", self.remove)
        app.router.add_get("/api/news", self._streams.handler)

    async def session(self, request: web.Request) -> web.Response:
        """The signed-in user, the chosen strategy, and the settings of the page."""
        user, strategy = await current_user(request), await chosen(request)
        return web.json_response({"user": user, "strategy": strategy, **self._page})

    async def begin(self, request: web.Request) -> web.Response:
        """Sign in."""
        strategy = await chosen(request)
        await sign_in(request, (await _body(request)).get("name"))
        await self._keep(request, strategy)
        return await self.session(request)

    async def end(self, request: web.Request) -> web.Response:
        """Sign out."""
        await sign_out(request)
        return web.json_response({})

    async def choose(self, request: web.Request) -> web.Response:
        """Choose the strategy for this visitor."""
        await signed_in(request)
        strategy = (await _body(request)).get("strategy")
        if not isinstance(strategy, str) or strategy not in self._strategies:
            raise web.HTTPBadRequest(text=f"strategy is one of {', '.join(self._strategies)}")
        await self._keep(request, strategy)
        return await self.session(request)

    async def list(self, request: web.Request) -> web.Response:
        """The rooms, and the number of changes to the person's memberships.

        When the page has `seen` another number, the response tells it to reauthorize.
        """
        person = await signed_in(request)
        changes = self._rooms.changes(person)
        if request.query.get("seen") not in (None, str(changes)):
            get_auth(request).reauthorize()
        return web.json_response({"rooms": self._rooms.seen_by(person), "seen": changes})

    async def knock(self, request: web.Request) -> web.Response:
        """Ask the owner to be let in."""
        person = await signed_in(request)
        room = self._rooms[request.match_info["room"]]
        if not room.lets_in(person):
            room.knocks.add(person)
        return self._changed(room)

    async def admit(self, request: web.Request) -> web.Response:
        """As the owner, make a person a member."""
        owner = await signed_in(request)
        room = self._rooms.owned(request.match_info["room"], owner)
        person = (await _body(request)).get("name")
        if not isinstance(person, str) or not person:
            raise web.HTTPBadRequest(text="name is the person to admit, a string")
        self._rooms.admit(room, person)
        self._streams.tell(person, {"kind": "admitted", "room": room.name, "by": owner})
        return self._changed(room)

    async def remove(self, request: web.Request) -> web.Response:
        """As the owner, end a person's membership."""
        owner = await signed_in(request)
        room = self._rooms.owned(request.match_info["room"], owner)
        person = request.match_info["person"]
        self._rooms.remove(room, person)
        self._streams.tell(person, {"kind": "removed", "room": room.name, "by": owner})
        return self._changed(room)

    def _changed(self, room: Room) -> web.Response:
        self._streams.tell_all({"kind": "changed", "room": room.name})
        return web.json_response({})

    async def _keep(self, request: web.Request, strategy: str) -> None:
        (await get_session(request))["strategy"] = strategy


async def _body(request: web.Request) -> dict[str, Any]:
    # Protects against CSRF: pages of another origin can send forms, but not JSON without a CORS preflight.
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send application/json")
    try:
        body = await request.json()
    except ValueError:
        raise web.HTTPBadRequest(text="the body is not JSON") from None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="send a JSON object")
    return body
