"""The contract of all stores: one suite, which runs over each of them through a real client and server.

Each function of CONTRACT takes a Browser: an HTTP client, and the store behind the app that `serve` makes.
Where a check does not apply to a store, the store's own attributes say why.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from apps import BASE, KEY, NEWER_KEY, OTHER_KEY, Client

from aiohttp_ably import AuthError, AuthRequest, Capability, CapabilityStore, JWTIssuer, KeyRing
from aiohttp_ably.http import write_reply

CONTRACT: list[Callable[[Browser], Awaitable[None]]] = []


class Refused(Exception):
    """The Ably code of an error that the store raised."""


@dataclass
class Browser:
    """One browser, and the store that it reaches.

    `is_limited` is whether the grant is kept in a cookie or header, which limits its length. `grant` is the
    header `Ably-Grant` that the browser sends; None when it sends none. `cookies` and `grants` are those
    that it received.
    """

    client: Client
    store: CapabilityStore
    is_limited: bool = False
    grant: str | None = None
    cookies: list[str] = field(default_factory=list)
    grants: list[str] = field(default_factory=list)

    async def load(self, user: str | None = "alice", *, keys: Any = KEY) -> dict[str, list[str]]:
        return await self._send("load", user, keys, [])

    async def renew(self, *, keys: Any = KEY) -> dict[str, list[str]]:
        """Load as a token request that changes nothing does."""
        return await self._send("renew", "alice", keys, [])

    async def add(
        self, capability: dict[str, Any], user: str | None = "alice", *, keys: Any = KEY
    ) -> dict[str, list[str]]:
        return await self._send("change", user, keys, [[capability, []]])

    async def release(
        self, *resources: str, user: str | None = "alice", keys: Any = KEY
    ) -> dict[str, list[str]]:
        return await self._send("change", user, keys, [[{}, resources]])

    async def change(self, *changes: tuple[dict[str, Any], list[str]]) -> dict[str, list[str]]:
        """Make these changes in one request, each of what is added and what is released, then load."""
        return await self._send("change_and_load", "alice", KEY, changes)

    async def _send(self, action: str, user: str | None, keys: Any, changes: Any) -> dict[str, list[str]]:
        message = {"user": user, "keys": [keys] if isinstance(keys, str) else keys, "changes": changes}
        headers = {} if self.grant is None else {"Ably-Grant": self.grant}
        async with self.client.post(f"/{action}", json=message, headers=headers) as response:
            self.cookies += response.headers.getall("Set-Cookie", [])
            self.grants += response.headers.getall("Ably-Grant", [])
            if "Ably-Grant" in response.headers:
                self.grant = response.headers["Ably-Grant"]
            answer: Any = await response.json()
            if response.status != 200:
                raise Refused(answer)
            return answer


def serve(store: CapabilityStore) -> web.Application:
    """An app that calls `store` as a browser requests it. A store that needs sessions needs them set up."""

    async def answer(request: web.Request) -> web.Response:
        message = await request.json()
        auth = AuthRequest(request=request, wants_jwt=True, now=time.time())
        auth.client_id, auth.keys = message["user"], KeyRing(message["keys"])
        try:
            granted = await store.load(auth)
            for add, release in message["changes"]:
                granted = await store.change(auth, add=Capability(add), release=tuple(release))
            if request.match_info["action"] == "change_and_load":
                granted = await store.load(auth)
            if request.match_info["action"] == "renew" and store.renews:
                granted = await store.change(auth)
            response = web.json_response(granted.to_dict())
            if store.in_token and auth.claims_for is not None:
                issued = await JWTIssuer(jitter=0).issue(auth, Capability(BASE) | granted)
                response.headers["Ably-Grant"] = issued.body.decode()
        except AuthError as refusal:
            return web.json_response(refusal.code, status=refusal.status)
        write_reply(auth, response.headers)
        return response

    app = web.Application()
    app.router.add_post("/{action}", answer)
    return app


def contract(check: Callable[[Browser], Awaitable[None]]) -> Callable[[Browser], Awaitable[None]]:
    """Add `check` to the contract."""
    CONTRACT.append(check)
    return check


@contract
async def nothing_is_granted_at_first(browser: Browser) -> None:
    assert await browser.load() == {}


@contract
async def added_capability_is_granted(browser: Browser) -> None:
    assert await browser.add({"a": ["publish"]}) == {"a": ["publish"]}
    assert await browser.load() == {"a": ["publish"]}


@contract
async def added_capability_joins_the_granted_one(browser: Browser) -> None:
    await browser.add({"a": ["publish"], "b": ["subscribe"]})
    joined = {"a": ["publish", "subscribe"], "b": ["subscribe"], "c": ["history"]}
    assert await browser.add({"a": ["subscribe"], "c": ["history"]}) == joined
    assert await browser.load() == joined


@contract
async def added_base_is_granted_like_any_other(browser: Browser) -> None:
    assert await browser.add(BASE) == BASE
    assert await browser.load() == BASE
    assert await browser.release(*BASE) == {}
    assert await browser.load() == {}


@contract
async def star_operation_absorbs_the_others(browser: Browser) -> None:
    await browser.add({"a": ["publish"], "b": ["*"]})
    assert await browser.add({"a": ["*"], "b": ["publish"]}) == {"a": ["*"], "b": ["*"]}
    assert await browser.load() == {"a": ["*"], "b": ["*"]}


@contract
async def released_resource_is_gone(browser: Browser) -> None:
    await browser.add({"a": ["publish"], "b": ["subscribe"]})
    assert await browser.release("a", "never granted") == {"b": ["subscribe"]}
    assert await browser.load() == {"b": ["subscribe"]}
    assert await browser.release("b") == {}
    assert await browser.load() == {}


@contract
async def released_pattern_releases_all_that_it_covers(browser: Browser) -> None:
    await browser.add({name: ["publish"] for name in ("room:1", "room:2:x", "hall:1", "room")})
    assert sorted(await browser.release("room:*")) == ["hall:1", "room"]
    assert sorted(await browser.load()) == ["hall:1", "room"]


@contract
async def release_that_cannot_be_expressed_changes_nothing(browser: Browser) -> None:
    await browser.add({"room:*": ["publish"], "a": ["publish"]})
    with pytest.raises(Refused, match="40000"):
        await browser.release("a", "room:1")
    assert await browser.load() == {"a": ["publish"], "room:*": ["publish"]}


@contract
async def release_and_add_are_one_step(browser: Browser) -> None:
    await browser.add({"team:a": ["publish"], "team:b": ["publish"], "lobby": ["publish"]})
    changed = {"lobby": ["publish", "subscribe"], "team:a": ["subscribe"]}
    added = {"team:a": ["subscribe"], "lobby": ["subscribe"]}
    assert await browser.change((added, ["team:*"])) == changed
    assert await browser.load() == changed


@contract
async def change_that_fails_changes_nothing(browser: Browser) -> None:
    await browser.add({"room:*": ["publish"], "a": ["publish"]})
    with pytest.raises(Refused, match="40000"):
        await browser.change(({"b": ["publish"]}, ["a", "room:1"]))
    assert await browser.load() == {"a": ["publish"], "room:*": ["publish"]}


@contract
async def changes_in_one_request_all_take_effect(browser: Browser) -> None:
    await browser.add({"a": ["publish"]})
    changes: Any = [({"b": ["publish"]}, []), ({}, ["a"]), ({"c": ["publish"]}, [])]
    assert await browser.change(*changes) == {"b": ["publish"], "c": ["publish"]}
    assert await browser.load() == {"b": ["publish"], "c": ["publish"]}


@contract
async def order_of_releases_does_not_matter(browser: Browser) -> None:
    for release in (["team:a", "team:*"], ["team:*", "team:a"]):
        await browser.add({"team:*": ["publish"], "b": ["publish"]})
        assert await browser.release(*release) == {"b": ["publish"]}


@contract
async def any_resource_name_is_stored_unchanged(browser: Browser) -> None:
    names = ["ünïcode:聊天:🎉", "with space", 'quo"te\\', "{tag}", "a,b", "[?rewind=1]x", "%2F/", "a\x00b"]
    unusual = {name: ["publish"] for name in sorted(names)}
    await browser.add(unusual)
    assert await browser.load() == unusual
    assert await browser.release(*names) == {}


@contract
async def grant_of_one_client_is_never_returned_for_another(browser: Browser) -> None:
    await browser.add({"a": ["publish"]}, "alice")
    assert await browser.load("bob") == {}
    assert await browser.add({"b": ["publish"]}, "bob") == {"b": ["publish"]}
    # A browser keeps one grant: that of its last client.
    assert await browser.load("alice") == ({"a": ["publish"]} if browser.store.by_client_id else {})


@contract
async def similar_client_ids_are_told_apart(browser: Browser) -> None:
    for number, user in enumerate(["a", "a:b", "A", "a b", "ä", "a:", "{a}", "app1:a"]):
        assert await browser.load(user) == {}
        await browser.add({f"room:{number}": ["publish"]}, user)
        assert await browser.load(user) == {f"room:{number}": ["publish"]}


@contract
async def grant_under_one_key_does_not_count_under_another(browser: Browser) -> None:
    await browser.add({"a": ["publish"]}, keys=KEY)
    assert await browser.load(keys=OTHER_KEY) == {}, "a key of another app"
    assert await browser.load(keys=NEWER_KEY) == {}, "another key of the app"
    assert await browser.load(keys=KEY) == {"a": ["publish"]}
    if browser.store.by_client_id:  # otherwise a browser keeps one grant: that of the last key
        assert await browser.add({"b": ["publish"]}, keys=OTHER_KEY) == {"b": ["publish"]}
        assert await browser.release("a", keys=OTHER_KEY) == {"b": ["publish"]}
        assert await browser.load(keys=KEY) == {"a": ["publish"]}


@contract
async def grant_survives_the_rotation_of_keys(browser: Browser) -> None:
    await browser.add({"a": ["publish"], "b": ["subscribe"]}, keys=[KEY])
    both = {"a": ["publish"], "b": ["subscribe"]}
    assert await browser.renew(keys=[NEWER_KEY, KEY]) == both
    assert await browser.renew(keys=[NEWER_KEY]) == both
    assert await browser.release("b", keys=[NEWER_KEY]) == {"a": ["publish"]}


@contract
async def change_during_a_rotation_is_stored(browser: Browser) -> None:
    await browser.add({"a": ["publish"], "b": ["publish"]}, keys=[KEY])
    await browser.add({"a": ["subscribe"]}, keys=[NEWER_KEY, KEY])
    assert await browser.release("b", keys=[NEWER_KEY, KEY]) == {"a": ["publish", "subscribe"]}
    assert await browser.load(keys=[NEWER_KEY]) == {"a": ["publish", "subscribe"]}


@contract
async def release_during_a_rotation_is_not_undone(browser: Browser) -> None:
    await browser.add({"a": ["publish"], "b": ["publish"]}, keys=[KEY])
    assert await browser.release("a", keys=[NEWER_KEY, KEY]) == {"b": ["publish"]}
    assert await browser.load(keys=[NEWER_KEY, KEY]) == {"b": ["publish"]}
    assert await browser.load(keys=[NEWER_KEY]) == {"b": ["publish"]}


@contract
async def anonymous_client_has_no_place_in_a_store_by_client_id(browser: Browser) -> None:
    assert await browser.load(None) == {}
    if browser.store.by_client_id:
        with pytest.raises(Refused, match="40160"):
            await browser.add({"a": ["publish"]}, None)
    else:
        assert await browser.add({"a": ["publish"]}, None) == {"a": ["publish"]}
        assert await browser.load(None) == {"a": ["publish"]}
        assert await browser.load("alice") == {}


@contract
async def concurrent_changes_all_take_effect(browser: Browser) -> None:
    if not browser.store.by_client_id:
        return  # a browser keeps one grant or session: of two responses it keeps the last
    rooms = [f"room:{number}" for number in range(40)]
    await asyncio.gather(*(browser.add({room: ["publish"]}) for room in rooms))
    assert sorted(await browser.load()) == sorted(rooms)
    await asyncio.gather(*(browser.release(room) for room in rooms[1:]))
    assert await browser.load() == {"room:0": ["publish"]}


@contract
async def change_without_effect_sends_nothing(browser: Browser) -> None:
    await browser.add({"a": ["publish"]})
    browser.cookies.clear()
    browser.grants.clear()
    await browser.load()
    await browser.renew()
    await browser.add({"a": ["publish"]})
    await browser.release("b")
    assert browser.cookies == []
    if not browser.store.renews:  # a store that renews sends its header again, with a fresh expiry
        assert browser.grants == []


@contract
async def thousand_resources_are_stored_or_refused_whole(browser: Browser) -> None:
    await browser.add({"a": ["publish"], "b": ["publish"]})
    digests = sorted(hashlib.sha256(str(number).encode()).hexdigest() for number in range(1000))
    many = {f"room:{digest}": ["publish", "subscribe"] for digest in digests}
    if not browser.is_limited:
        assert await browser.change((many, ["b"])) == {"a": ["publish"], **many}
        assert await browser.load() == {"a": ["publish"], **many}
    else:
        with pytest.raises(Refused, match="40009"):
            await browser.change((many, ["b"]))
        assert await browser.load() == {"a": ["publish"], "b": ["publish"]}
