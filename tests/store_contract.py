"""What every store must hold: one suite, run over each of them through a real client and a real request.

`serve(store, *middlewares)` is an app whose client, named in X-User, does with the store what it is told.
Each function of CONTRACT takes a `Shelf`: that app's browser, and the store behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from apps import KEY, OTHER_KEY

from aiohttp_ably import AuthError, AuthRequest, Capability, CapabilityStore, KeyRing

NEWER_KEY = "app1.key2:another0secret0of0the0same0app"

CONTRACT: list[Callable[[Shelf], Awaitable[None]]] = []


class Refused(Exception):
    """What the store refused, by its code."""


@dataclass
class Shelf:
    """A store as one browser reaches it. `answers` are the cookies it was sent."""

    browser: TestClient[web.Request, web.Application]
    store: CapabilityStore
    is_cookie: bool = False
    answers: list[str] = field(default_factory=list)

    async def load(self, user: str | None = "alice", *, keys: Any = KEY) -> dict[str, list[str]]:
        return await self._do("load", user, keys, {})

    async def add(
        self, capability: dict[str, Any], user: str | None = "alice", *, keys: Any = KEY
    ) -> dict[str, list[str]]:
        return await self._do("add", user, keys, capability)

    async def remove(
        self, *resources: str, user: str | None = "alice", keys: Any = KEY
    ) -> dict[str, list[str]]:
        return await self._do("remove", user, keys, resources)

    async def change(self, add: dict[str, Any], release: list[str]) -> dict[str, list[str]]:
        return await self._do("change", "alice", KEY, [add, release])

    async def _do(self, what: str, user: str | None, keys: Any, body: Any) -> dict[str, list[str]]:
        message = {"user": user, "keys": [keys] if isinstance(keys, str) else keys, "body": body}
        async with self.browser.post(f"/{what}", json=message) as response:
            self.answers += response.headers.getall("Set-Cookie", [])
            answer: Any = await response.json()
            if response.status != 200:
                raise Refused(answer)
            return answer


def serve(store: CapabilityStore) -> web.Application:
    """An app over `store`; sessions, where it needs them, are set up on it by who calls."""

    async def do(request: web.Request) -> web.Response:
        message = await request.json()
        auth = AuthRequest(request=request)
        auth.client_id, auth.keys = message["user"], KeyRing(message["keys"])
        body = message["body"]
        try:
            match request.match_info["what"]:
                case "load":
                    held = await store.load(auth)
                case "add":
                    held = await store.change(auth, add=Capability(body))
                case "remove":
                    held = await store.change(auth, release=tuple(body))
                case _:
                    add, release = body
                    held = await store.change(auth, add=Capability(add), release=tuple(release))
        except AuthError as refusal:
            return web.json_response(refusal.code, status=refusal.status)
        return web.json_response(held.to_dict())

    app = web.Application()
    app.router.add_post("/{what}", do)
    return app


def holds(check: Callable[[Shelf], Awaitable[None]]) -> Callable[[Shelf], Awaitable[None]]:
    CONTRACT.append(check)
    return check


@holds
async def nothing_is_held_at_first(shelf: Shelf) -> None:
    assert await shelf.load() == {}


@holds
async def what_is_added_is_held(shelf: Shelf) -> None:
    assert await shelf.add({"a": ["publish"]}) == {"a": ["publish"]}
    assert await shelf.load() == {"a": ["publish"]}


@holds
async def what_is_added_joins_what_is_held(shelf: Shelf) -> None:
    await shelf.add({"a": ["publish"], "b": ["subscribe"]})
    joined = {"a": ["publish", "subscribe"], "b": ["subscribe"], "c": ["history"]}
    assert await shelf.add({"a": ["subscribe"], "c": ["history"]}) == joined
    assert await shelf.load() == joined


@holds
async def every_operation_takes_the_others_in(shelf: Shelf) -> None:
    await shelf.add({"a": ["publish"], "b": ["*"]})
    assert await shelf.add({"a": ["*"], "b": ["publish"]}) == {"a": ["*"], "b": ["*"]}
    assert await shelf.load() == {"a": ["*"], "b": ["*"]}


@holds
async def what_is_removed_is_gone(shelf: Shelf) -> None:
    await shelf.add({"a": ["publish"], "b": ["subscribe"]})
    assert await shelf.remove("a", "never held") == {"b": ["subscribe"]}
    assert await shelf.load() == {"b": ["subscribe"]}
    assert await shelf.remove("b") == {}
    assert await shelf.load() == {}


@holds
async def a_pattern_removes_what_it_contains(shelf: Shelf) -> None:
    await shelf.add({name: ["publish"] for name in ("room:1", "room:2:x", "hall:1", "room")})
    assert sorted(await shelf.remove("room:*")) == ["hall:1", "room"]
    assert sorted(await shelf.load()) == ["hall:1", "room"]


@holds
async def what_no_capability_can_say_changes_nothing(shelf: Shelf) -> None:
    await shelf.add({"room:*": ["publish"], "a": ["publish"]})
    with pytest.raises(Refused, match="40000"):
        await shelf.remove("a", "room:1")
    assert await shelf.load() == {"a": ["publish"], "room:*": ["publish"]}


@holds
async def release_and_add_are_one_step(shelf: Shelf) -> None:
    await shelf.add({"team:a": ["publish"], "team:b": ["publish"], "lobby": ["publish"]})
    changed = {"lobby": ["publish", "subscribe"], "team:a": ["subscribe"]}
    assert await shelf.change({"team:a": ["subscribe"], "lobby": ["subscribe"]}, ["team:*"]) == changed
    assert await shelf.load() == changed


@holds
async def a_change_that_fails_changes_nothing(shelf: Shelf) -> None:
    await shelf.add({"room:*": ["publish"], "a": ["publish"]})
    with pytest.raises(Refused, match="40000"):
        await shelf.change({"b": ["publish"]}, ["a", "room:1"])
    assert await shelf.load() == {"a": ["publish"], "room:*": ["publish"]}


@holds
async def the_order_of_releases_does_not_matter(shelf: Shelf) -> None:
    for release in (["team:a", "team:*"], ["team:*", "team:a"]):
        await shelf.add({"team:*": ["publish"], "b": ["publish"]})
        assert await shelf.remove(*release) == {"b": ["publish"]}


@holds
async def any_name_is_kept_as_it_is(shelf: Shelf) -> None:
    names = ["ünïcode:聊天:🎉", "with space", 'quo"te\\', "{tag}", "a,b", "[?rewind=1]x", "%2F/", "a\x00b"]
    strange = {name: ["publish"] for name in sorted(names)}
    await shelf.add(strange)
    assert await shelf.load() == strange
    assert await shelf.remove(*names) == {}


@holds
async def another_client_holds_nothing_of_it(shelf: Shelf) -> None:
    await shelf.add({"a": ["publish"]}, "alice")
    assert await shelf.load("bob") == {}
    assert await shelf.add({"b": ["publish"]}, "bob") == {"b": ["publish"]}
    assert await shelf.load("alice") == ({"a": ["publish"]} if shelf.store.by_client_id else {})


@holds
async def client_ids_of_any_text_are_told_apart(shelf: Shelf) -> None:
    for number, user in enumerate(["a", "a:b", "A", "a b", "ä", "a:", "{a}", "app1:a"]):
        assert await shelf.load(user) == {}
        await shelf.add({f"room:{number}": ["publish"]}, user)
        assert await shelf.load(user) == {f"room:{number}": ["publish"]}


@holds
async def a_grant_under_one_key_is_nothing_under_another(shelf: Shelf) -> None:
    await shelf.add({"a": ["publish"]}, keys=KEY)
    assert await shelf.load(keys=OTHER_KEY) == {}, "another app"
    assert await shelf.load(keys=NEWER_KEY) == {}, "another key of the app"
    if shelf.store.by_client_id:
        assert await shelf.add({"b": ["publish"]}, keys=OTHER_KEY) == {"b": ["publish"]}
        assert await shelf.remove("a", keys=OTHER_KEY) == {"b": ["publish"]}
        assert await shelf.load(keys=KEY) == {"a": ["publish"]}


@holds
async def no_client_notices_that_keys_rotate(shelf: Shelf) -> None:
    await shelf.add({"a": ["publish"], "b": ["subscribe"]}, keys=[KEY])
    both = {"a": ["publish"], "b": ["subscribe"]}
    assert await shelf.load(keys=[NEWER_KEY, KEY]) == both
    assert await shelf.load(keys=[NEWER_KEY]) == both
    assert await shelf.remove("b", keys=[NEWER_KEY]) == {"a": ["publish"]}


@holds
async def a_change_amid_a_rotation_is_kept(shelf: Shelf) -> None:
    await shelf.add({"a": ["publish"], "b": ["publish"]}, keys=[KEY])
    await shelf.add({"a": ["subscribe"]}, keys=[NEWER_KEY, KEY])
    assert await shelf.remove("b", keys=[NEWER_KEY, KEY]) == {"a": ["publish", "subscribe"]}
    assert await shelf.load(keys=[NEWER_KEY]) == {"a": ["publish", "subscribe"]}


@holds
async def an_anonymous_client_holds_nothing_filed_by_client_id(shelf: Shelf) -> None:
    assert await shelf.load(None) == {}
    if shelf.store.by_client_id:
        with pytest.raises(Refused, match="40160"):
            await shelf.add({"a": ["publish"]}, None)
    else:
        assert await shelf.add({"a": ["publish"]}, None) == {"a": ["publish"]}
        assert await shelf.load("alice") == {}


@holds
async def changes_at_once_all_take_effect(shelf: Shelf) -> None:
    if not shelf.store.by_client_id:
        return  # a session is written whole: of two requests at once the last one wins
    rooms = [f"room:{number}" for number in range(40)]
    await asyncio.gather(*(shelf.add({room: ["publish"]}) for room in rooms))
    assert sorted(await shelf.load()) == sorted(rooms)
    await asyncio.gather(*(shelf.remove(room) for room in rooms[1:]))
    assert await shelf.load() == {"room:0": ["publish"]}


@holds
async def what_changes_nothing_writes_no_session(shelf: Shelf) -> None:
    await shelf.add({"a": ["publish"]})
    shelf.answers.clear()
    await shelf.load()
    await shelf.add({"a": ["publish"]})
    await shelf.remove("b")
    assert shelf.answers == []


@holds
async def a_thousand_resources_are_held_or_refused_whole(shelf: Shelf) -> None:
    await shelf.add({"a": ["publish"]})
    many = {f"room:{number:04}": ["publish", "subscribe"] for number in range(1000)}
    if not shelf.is_cookie:
        assert await shelf.add(many) == {"a": ["publish"], **many}
    else:
        with pytest.raises(Refused, match="40009"):
            await shelf.add(many)
        many = {}
    assert await shelf.load() == {"a": ["publish"], **many}
