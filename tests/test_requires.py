"""requires(): the capability that guards a route also guards handlers of the app."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from apps import BASE, Client, error, install, make_app, request_token, rooms

from aiohttp_ably import ClientStored, MemoryStore, ServerDetermined, ServerStored, UsageError, requires
from aiohttp_ably.errors import UnknownOperationWarning

ALICE = {"X-User": "alice"}
NOT_SIGNED_IN, DENIED, UNAVAILABLE = (403, 40300), (401, 40160), (503, 50300)


def stored() -> ServerStored:
    return ServerStored(rooms(), store=MemoryStore(), base=BASE)


class GuardedView(web.View):
    @requires("chat:{room}", "publish")
    async def post(self) -> web.Response:
        return web.Response(text=self.request.match_info["room"])


class Handlers:
    @requires("chat:{room}", "publish", "subscribe")
    async def post(self, request: web.Request) -> web.Response:
        return web.Response(text=request.match_info["room"])


@requires("chat:{room}", "publish")
async def guarded(request: web.Request) -> web.Response:
    """Answers with the room."""
    return web.Response(text=request.match_info["room"])


@requires("chat:{room}", "publish")
@requires("team:{team}", "subscribe")
async def guarded_twice(request: web.Request) -> web.Response:
    return web.Response(text=request.match_info["room"])


HANDLERS: dict[str, Any] = {"function": guarded, "view": GuardedView, "method": Handlers().post}


@pytest.fixture(params=HANDLERS)
async def guarded_client(request: pytest.FixtureRequest, aiohttp_client: Any) -> Client:
    app = make_app(stored())
    app.router.add_route("*", r"/rooms/{room:.*}", HANDLERS[request.param])
    return await aiohttp_client(app)


async def test_a_guarded_handler_needs_the_capability(guarded_client: Client) -> None:
    assert await error(await guarded_client.post("/rooms/1")) == NOT_SIGNED_IN
    assert await error(await guarded_client.post("/rooms/1", headers=ALICE)) == DENIED
    await request_token(guarded_client, {"chat:1": ["publish", "subscribe"]})
    assert await (await guarded_client.post("/rooms/1", headers=ALICE)).text() == "1"
    assert await error(await guarded_client.post("/rooms/2", headers=ALICE)) == DENIED
    assert await error(await guarded_client.post("/rooms/1", headers={"X-User": "bob"})) == DENIED


@pytest.mark.parametrize("room", ["*", "", "1:2", "1%0A"])
async def test_a_value_that_is_not_one_plain_segment_names_no_resource(
    room: str, aiohttp_client: Any
) -> None:
    app = make_app(ServerDetermined({"[*]*": "*"}))
    app.router.add_route("*", r"/rooms/{room:(?s:.*)}", guarded)
    client = await aiohttp_client(app)
    assert await error(await client.post(f"/rooms/{room}", headers=ALICE)) == DENIED


@pytest.mark.parametrize("granted", [["publish"], ["subscribe"], [], ["publish", "subscribe"]], ids=" ".join)
async def test_each_of_several_operations_is_required(granted: list[str], aiohttp_client: Any) -> None:
    app = make_app(ServerDetermined({**BASE, **({"chat:1": granted} if granted else {})}))
    app.router.add_post("/rooms/{room}", Handlers().post)
    client = await aiohttp_client(app)
    response = await client.post("/rooms/1", headers=ALICE)
    if len(granted) == 2:
        assert await response.text() == "1"
    else:
        assert await error(response) == DENIED
        missing = "subscribe" if granted == ["publish"] else "publish"
        assert f"this needs '{missing}' on 'chat:1'" in (await response.json())["error"]["message"]


async def test_each_operation_is_checked_by_authorize_when_nothing_is_stored(aiohttp_client: Any) -> None:
    checked: list[Any] = []

    async def authorize(auth: Any, requested: Any) -> Any:
        checked.append(requested.to_dict())
        return requested

    app = make_app(ClientStored(authorize))
    app.router.add_post("/rooms/{room}", Handlers().post)
    assert (await (await aiohttp_client(app)).post("/rooms/1", headers=ALICE)).status == 200
    assert checked == [{"chat:1": ["publish"]}, {"chat:1": ["subscribe"]}]


async def test_nested_guards_are_both_enforced(aiohttp_client: Any) -> None:
    rights = {"chat:1": "publish", "team:b": "subscribe", "chat:2": "publish"}
    app = make_app(ServerDetermined(rights))
    app.router.add_post("/teams/{team}/{room}", guarded_twice)
    client = await aiohttp_client(app)
    assert await (await client.post("/teams/b/1", headers=ALICE)).text() == "1"
    assert await error(await client.post("/teams/a/1", headers=ALICE)) == DENIED
    assert await error(await client.post("/teams/b/3", headers=ALICE)) == DENIED


async def test_a_strategy_that_stores_nothing_guards_with_authorize(aiohttp_client: Any) -> None:
    app = make_app(ClientStored(rooms(), base={"chat:base": "publish"}))
    app.router.add_post("/rooms/{room}", guarded)
    client = await aiohttp_client(app)
    assert (await client.post("/rooms/1", headers=ALICE)).status == 200
    assert (await client.post("/rooms/base", headers=ALICE)).status == 200
    assert await error(await client.post("/rooms/secret", headers=ALICE)) == DENIED


async def test_an_anonymous_client_needs_the_capability_too(aiohttp_client: Any) -> None:
    app = make_app(ClientStored(rooms(), base=BASE), anonymous=True)
    app.router.add_post("/rooms/{room}", guarded)
    client = await aiohttp_client(app)
    assert (await client.post("/rooms/1")).status == 200
    assert await error(await client.post("/rooms/secret")) == DENIED


@pytest.mark.parametrize("part", ["resolve", "identify"])
async def test_a_failure_while_a_guard_checks_is_503(part: str, aiohttp_client: Any) -> None:
    def broken(_: Any) -> Any:
        raise OSError("the database is gone")

    options = {"identify": broken} if part == "identify" else {}
    app = make_app(ServerDetermined(broken), **options)
    app.router.add_post("/rooms/{room}", guarded)
    response = await (await aiohttp_client(app)).post("/rooms/1", headers=ALICE)
    assert await error(response) == UNAVAILABLE
    assert (await response.json())["error"]["message"] == f"{part} failed; try again"


def test_a_guard_is_checked_where_it_is_written() -> None:
    assert guarded.__doc__ == "Answers with the room."
    with pytest.raises(ValueError, match="names no operation"):
        requires("chat:{room}")
    with pytest.raises(ValueError, match="whole segment"):
        requires("chat-{room}", "publish")
    with pytest.warns(UnknownOperationWarning, match="did you mean 'publish'"):
        requires("chat:{room}", "publsh")


def test_a_guard_without_parentheses_is_an_error_that_names_the_cure() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response()

    with pytest.raises(TypeError, match=r'write @requires\("chat:\{room\}", "publish"\)'):
        requires(handler)  # type: ignore[arg-type]


def add_function(router: web.UrlDispatcher, path: str) -> None:
    router.add_post(path, guarded)


def add_view(router: web.UrlDispatcher, path: str) -> None:
    router.add_view(path, GuardedView)


def add_method(router: web.UrlDispatcher, path: str) -> None:
    router.add_post(path, Handlers().post)


def add_nested(router: web.UrlDispatcher, path: str) -> None:
    router.add_post(path.replace("/rooms", "/{team}/rooms"), guarded_twice)


WAYS = [add_function, add_view, add_method, add_nested]


@pytest.mark.parametrize("path", ["/rooms", "/rooms/{id}", "/rooms/{rooms}"])
@pytest.mark.parametrize("where", ["app", "sub-app", "sub-app of a sub-app", "sub-app with its own setup"])
@pytest.mark.parametrize("add", WAYS, ids=lambda add: add.__name__)
async def test_an_app_does_not_start_when_a_guarded_route_lacks_a_placeholder(
    add: Any, where: str, path: str
) -> None:
    add((parts := apps(where))[-1].router, path)
    with pytest.raises(UsageError, match=r"rooms.*with the placeholder \{room\}, which the route lacks"):
        await start(parts)


@pytest.mark.parametrize("path", ["/rooms/{room}", r"/rooms/{room:\d+}", "/rooms/{room}/{other}"])
@pytest.mark.parametrize("where", ["app", "sub-app", "sub-app of a sub-app", "sub-app with its own setup"])
@pytest.mark.parametrize("add", WAYS, ids=lambda add: add.__name__)
async def test_an_app_starts_when_each_guarded_route_has_its_placeholders(
    add: Any, where: str, path: str
) -> None:
    add((parts := apps(where))[-1].router, path)
    await start(parts)


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "head", "options"])
async def test_each_guarded_method_of_a_view_needs_the_placeholder(method: str) -> None:
    @requires("chat:{room}", "publish")
    async def guarded_method(self: web.View) -> web.Response:
        return web.Response()

    app = make_app(stored())
    app.router.add_view("/rooms", type("SomeView", (web.View,), {method: guarded_method}))
    with pytest.raises(UsageError, match=r"with the placeholder \{room\}, which the route lacks"):
        await start([app])


@pytest.mark.parametrize(("path", "missing"), [("/{team}", "room"), ("/{room}", "team"), ("/", "room")])
async def test_each_placeholder_of_nested_guards_is_needed(path: str, missing: str) -> None:
    app = make_app(stored())
    app.router.add_post(path, guarded_twice)
    with pytest.raises(UsageError, match=rf"guards POST {path} with the placeholder {{{missing}}}"):
        await start([app])


def apps(where: str) -> list[web.Application]:
    """Apps, each in the one before it. The last gets the guarded route."""
    count = {"app": 1, "sub-app": 2, "sub-app of a sub-app": 3, "sub-app with its own setup": 2}[where]
    found = [web.Application() for _ in range(count)]
    install(found[-1] if "own setup" in where else found[0], stored())
    return found


async def start(found: list[web.Application]) -> None:
    for inner, outer in reversed(list(zip(found[1:], found, strict=False))):
        outer.add_subapp("/sub", inner)
    runner = web.AppRunner(found[0])
    try:
        await runner.setup()
    finally:
        await runner.cleanup()


async def test_a_guard_without_setup_says_which_function_to_call(
    aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = web.Application()
    app.router.add_post("/rooms/{room}", guarded)
    assert (await (await aiohttp_client(app)).post("/rooms/1", headers=ALICE)).status == 500
    assert "call aiohttp_ably.setup(app, ...)" in caplog.text
