"""setup(), get_auth() and requires(): in handlers, sub-apps, streams, and when used wrongly."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import ClientError, CookieJar, web
from aiohttp.test_utils import make_mocked_request
from apps import (
    BASE,
    KEY,
    OTHER_KEY,
    SECRET,
    Client,
    ask,
    by_header,
    error,
    granted,
    install,
    make_app,
    rooms,
)

import aiohttp_ably
from aiohttp_ably import (
    ApiKey,
    Capability,
    ClientSigned,
    ClientStored,
    Forbidden,
    JWTStore,
    KeyRing,
    MemoryStore,
    ServerDetermined,
    ServerStored,
    TokenRequestIssuer,
    UsageError,
    get_auth,
    requires,
    setup,
)

ALICE = {"X-User": "alice"}
LIST = ServerDetermined(lambda auth: BASE)


def stored(**options: Any) -> ServerStored:
    return ServerStored(rooms(), store=MemoryStore(), base=BASE, **options)


WRONG = [
    ("no key", {"key": None}, "key="),
    ("half a key", {"key": "app1.key1"}, "<appId>.<keyId>:<secret>"),
    ("keys of two apps", {"key": [KEY, OTHER_KEY]}, "one Ably app"),
    ("no identify", {"identify": "alice"}, "identify= is a function"),
    ("no strategy", {"strategy": ClientStored}, "strategy= is one of"),
    ("no issuer", {"issuer": object()}, "issuer= is"),
    (
        "a JWT carrier without JWTs",
        {"strategy": ClientSigned(rooms(), store=JWTStore())},
        "issuer=JWTIssuer",
    ),
    ("origins is a text", {"origins": "https://app.example.com"}, "is a list"),
    ("any origin", {"origins": ["*"]}, "not an origin such as"),
    ("an origin with a path", {"origins": ["https://app.example.com/"]}, "not an origin such as"),
    ("no time", {"timeout": 0}, "timeout="),
    ("a relative path", {"path": "ably/auth"}, "must start with '/'"),
]


@pytest.mark.parametrize(("options", "says"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_cannot_work_is_refused_at_once(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        setup(web.Application(), **{"key": KEY, "identify": by_header, "strategy": LIST, **options})
    assert says in str(caught.value)
    assert KEY.partition(":")[2] not in str(caught.value)


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"key=(.|\n)*origins=(.|\n)*strategy=(.|\n)*timeout="):
        setup(web.Application(), key="", identify=by_header, strategy=None, origins=["x"], timeout=-1)  # type: ignore[arg-type]


def test_an_app_is_set_up_once_and_before_it_runs() -> None:
    app = make_app(stored())
    with pytest.raises(RuntimeError, match="already"):
        install(app, stored())
    frozen = web.Application()
    frozen.freeze()
    with pytest.raises(RuntimeError, match="before the app runs or becomes a sub-app"):
        install(frozen, stored())
    with pytest.raises(TypeError, match=r"web\.Application first"):
        setup(web.Request, key=KEY, identify=by_header, strategy=LIST)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [KEY, ApiKey(KEY), KeyRing([KEY]), [KEY], lambda request: KEY])
async def test_a_key_may_be_given_every_way(key: Any, aiohttp_client: Any) -> None:
    client = await aiohttp_client(make_app(stored(), key=key))
    assert (await (await ask(client)).json())["keyName"] == "app1.key1"


async def test_each_tenant_has_its_own_key_and_grants(aiohttp_client: Any) -> None:
    async def tenant(request: web.Request) -> str | None:
        return {"one": KEY, "two": OTHER_KEY}.get(request.headers.get("X-Tenant", ""))

    client = await aiohttp_client(make_app(stored(), key=tenant))
    one, two = {"X-Tenant": "one"}, {"X-Tenant": "two"}
    await ask(client, {"chat:1": ["publish"]}, headers=one)
    assert "chat:1" in await granted(await ask(client, headers=one))
    response = await ask(client, headers=two)
    assert (await response.json())["keyName"] == "app2.key9"
    assert await granted(response) == BASE
    assert await error(await ask(client)) == (400, 40000)


async def test_a_handler_of_ones_own_route_may_serve_tokens(aiohttp_client: Any) -> None:
    app = web.Application()
    ably = install(app, stored(), path=None)
    app.router.add_route("*", "/ably/auth", ably.handler)
    assert await granted(await ask(await aiohttp_client(app))) == BASE


@pytest.mark.parametrize(("returned", "expected"), [
    (None, (403, 40300)), ("*", (403, 40300)), ("a\nb", (403, 40300)), ("", (403, 40300)), (7, (503, 50300)),
])  # fmt: skip
async def test_what_identify_returns_is_checked(
    returned: Any, expected: tuple[int, int], aiohttp_client: Any
) -> None:
    client = await aiohttp_client(make_app(stored(), identify=lambda request: returned))
    assert await error(await ask(client)) == expected


@pytest.mark.parametrize(("raised", "expected"), [
    (web.HTTPUnauthorized, (403, 40300)), (web.HTTPForbidden, (403, 40300)),
    (lambda: web.HTTPFound("/login"), (403, 40300)), (web.HTTPServiceUnavailable, (503, 50300)),
    (KeyError, (503, 50300)), (lambda: OSError("the session store is gone"), (503, 50300)),
])  # fmt: skip
async def test_what_identify_raises_is_signed_out_or_an_outage(
    raised: Any, expected: tuple[int, int], aiohttp_client: Any
) -> None:
    async def identify(request: web.Request) -> str:
        raise raised()

    client = await aiohttp_client(make_app(stored(), identify=identify))
    response = await ask(client, allow_redirects=False)
    assert await error(response) == expected


async def test_the_wildcard_client_id_needs_the_apps_word(aiohttp_client: Any) -> None:
    client = await aiohttp_client(make_app(stored(), identify=lambda request: "*", wildcard_client_id=True))
    assert (await (await ask(client)).json())["clientId"] == "*"


async def test_a_handler_knows_what_the_client_may_do(aiohttp_client: Any) -> None:
    seen: dict[str, Any] = {}

    async def handler(request: web.Request) -> web.Response:
        auth = get_auth(request)
        assert get_auth(request) is auth
        with pytest.raises(RuntimeError, match=r"await get_auth\(request\)\.identify\(\)"):
            _ = auth.client_id
        seen["id"] = await auth.identify()
        seen["same id"] = auth.client_id
        seen["before"] = await auth.allows("publish", "chat:1")
        seen["held"] = (await auth.grant({"chat:1": ["publish"]})).to_dict()
        seen["after"] = await auth.allows("publish", "chat:1")
        seen["capability"] = await auth.capability()
        seen["left"] = (await auth.withdraw("chat:1")).to_dict()
        seen["token"] = await auth.token()
        return web.json_response(seen["token"])

    app = make_app(stored())
    app.router.add_get("/handler", handler)
    client = await aiohttp_client(app)
    response = await client.get("/handler", headers=ALICE)
    assert response.headers["Ably-Reauthorize"] == "1"
    assert seen["id"] == seen["same id"] == "alice"
    assert (seen["before"], seen["after"]) == (False, True)
    assert seen["held"] == {"chat:1": ["publish"]}
    assert seen["capability"] == Capability({**BASE, "chat:1": "publish"})
    assert seen["left"] == {}
    assert json.loads(seen["token"]["capability"]) == BASE
    assert (await response.json())["clientId"] == "alice"


async def test_who_is_signed_out_may_do_nothing(aiohttp_client: Any) -> None:
    async def handler(request: web.Request) -> web.Response:
        auth = get_auth(request)
        return web.json_response(
            [
                auth.client_id if await auth.identify() else None,
                await auth.allows("subscribe", "lobby"),
                len(await auth.capability()),
            ]
        )

    app = make_app(stored())
    app.router.add_get("/handler", handler)
    client = await aiohttp_client(app)
    assert await (await client.get("/handler")).json() == [None, False, 0]
    assert await error(await client.post("/grant", json={"chat:1": ["publish"]})) == (403, 40300)
    assert await error(await client.post("/withdraw", json=["chat:1"])) == (403, 40300)


@pytest.mark.parametrize(
    "strategy", [LIST, ClientStored(rooms())], ids=["server determined", "client stored"]
)
async def test_a_strategy_that_keeps_nothing_says_so(
    strategy: Any, aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = await aiohttp_client(make_app(strategy))
    assert (await client.post("/grant", json={"chat:1": ["publish"]}, headers=ALICE)).status == 500
    assert "stores nothing: change the list that you give it" in caplog.text


async def test_a_change_elsewhere_is_told_by_the_response(aiohttp_client: Any) -> None:
    async def handler(request: web.Request) -> web.Response:
        get_auth(request).reauthorize()
        return web.Response()

    app = make_app(LIST)
    app.router.add_get("/handler", handler)
    client = await aiohttp_client(app)
    assert (await client.get("/handler", headers=ALICE)).headers["Ably-Reauthorize"] == "1"


async def test_routes_that_do_not_ask_are_left_alone(aiohttp_client: Any) -> None:
    def identify(request: web.Request) -> str:
        raise AssertionError("nobody asked who this is")

    async def handler(request: web.Request) -> web.Response:
        get_auth(request)
        return web.Response(text="hello")

    app = make_app(stored(), identify=identify)
    app.router.add_get("/handler", handler)
    client = await aiohttp_client(app)
    response = await client.get("/handler")
    assert await response.text() == "hello"
    assert not {"Ably-Reauthorize", "Set-Cookie", "Vary"} & set(response.headers)


async def test_without_setup_it_says_what_to_call(
    aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: web.Request) -> web.Response:
        get_auth(request)
        return web.Response()

    app = web.Application()
    app.router.add_get("/handler", handler)
    assert (await (await aiohttp_client(app)).get("/handler")).status == 500
    assert "call aiohttp_ably.setup(app, ...)" in caplog.text


class Guarded(web.View):
    @requires("chat:{room}", "publish")
    async def post(self) -> web.Response:
        return web.Response(text=self.request.match_info["room"])


class Methods:
    @requires("chat:{room}", "publish", "subscribe")
    async def post(self, request: web.Request) -> web.Response:
        return web.Response(text=request.match_info["room"])


@requires("chat:{room}", "publish")
async def guarded(request: web.Request) -> web.Response:
    """Says which room it is."""
    return web.Response(text=request.match_info["room"])


@pytest.fixture(params=["function", "view", "method"])
async def guarded_client(request: pytest.FixtureRequest, aiohttp_client: Any) -> Client:
    app = make_app(stored())
    handlers: dict[str, Any] = {"function": guarded, "view": Guarded, "method": Methods().post}
    app.router.add_route("*", r"/rooms/{room:.*}", handlers[request.param])
    return await aiohttp_client(app)


async def test_a_guarded_route_needs_the_right(guarded_client: Client) -> None:
    assert await error(await guarded_client.post("/rooms/1")) == (403, 40300)
    assert await error(await guarded_client.post("/rooms/1", headers=ALICE)) == (401, 40160)
    await ask(guarded_client, {"chat:1": ["publish", "subscribe"]})
    assert await (await guarded_client.post("/rooms/1", headers=ALICE)).text() == "1"
    assert await error(await guarded_client.post("/rooms/2", headers=ALICE)) == (401, 40160)
    assert await error(await guarded_client.post("/rooms/1", headers={"X-User": "bob"})) == (401, 40160)


@pytest.mark.parametrize("room", ["*", "", "1:2", "1%0A"])
async def test_a_guarded_route_takes_no_pattern_for_a_name(room: str, aiohttp_client: Any) -> None:
    app = make_app(ServerDetermined(lambda auth: {"[*]*": "*"}))
    app.router.add_route("*", r"/rooms/{room:(?s:.*)}", guarded)
    client = await aiohttp_client(app)
    assert await error(await client.post(f"/rooms/{room}", headers=ALICE)) == (401, 40160)


async def test_a_stateless_strategy_guards_by_asking(aiohttp_client: Any) -> None:
    app = make_app(ClientStored(rooms(), base={"chat:base": "publish"}))
    app.router.add_post("/rooms/{room}", guarded)
    client = await aiohttp_client(app)
    assert (await client.post("/rooms/1", headers=ALICE)).status == 200
    assert (await client.post("/rooms/base", headers=ALICE)).status == 200
    assert await error(await client.post("/rooms/secret", headers=ALICE)) == (401, 40160)


async def test_an_outage_in_a_guard_is_503(aiohttp_client: Any) -> None:
    def broken(auth: Any) -> Any:
        raise OSError("the database is gone")

    app = make_app(ServerDetermined(broken))
    app.router.add_post("/rooms/{room}", guarded)
    assert await error(await (await aiohttp_client(app)).post("/rooms/1", headers=ALICE)) == (503, 50300)


def test_a_guard_is_checked_where_it_is_written() -> None:
    assert guarded.__doc__ == "Says which room it is."
    with pytest.raises(ValueError, match="names no operation"):
        requires("chat:{room}")
    with pytest.raises(ValueError, match="whole segment"):
        requires("chat-{room}", "publish")
    with pytest.warns(aiohttp_ably.errors.UnknownOperationWarning, match="did you mean 'publish'"):
        requires("chat:{room}", "publsh")


async def test_a_sub_app_uses_what_its_parent_set_up_or_its_own(aiohttp_client: Any) -> None:
    async def handler(request: web.Request) -> web.Response:
        held = await get_auth(request).grant({"chat:1": ["publish"]})
        return web.json_response((await get_auth(request).capability() | held).to_dict())

    parent, child, own = make_app(stored()), web.Application(), web.Application()
    install(
        own,
        ServerStored(rooms(), store=MemoryStore(), base={"own": "subscribe"}),
        issuer=TokenRequestIssuer(),
    )
    for app in (child, own):
        app.router.add_post("/handler", handler)
    parent.add_subapp("/child", child)
    parent.add_subapp("/own", own)
    client = await aiohttp_client(parent)
    response = await client.post("/child/handler", headers=ALICE)
    assert await response.json() == {**BASE, "chat:1": ["publish"]}
    assert response.headers["Ably-Reauthorize"] == "1"
    response = await client.post("/own/handler", headers=ALICE)
    assert await response.json() == {"own": ["subscribe"], "chat:1": ["publish"]}
    assert response.headers.getall("Ably-Reauthorize") == ["1"]
    response = await client.get("/own/ably/auth", headers=ALICE)
    assert await granted(response) == {"own": ["subscribe"], "chat:1": ["publish"]}


RETURNED = {"plain": web.Response, "file": lambda: web.FileResponse(__file__), "unsent": web.StreamResponse}
PREPARED = {
    "plain prepared": web.Response,
    "stream": web.StreamResponse,
    "websocket": web.WebSocketResponse,
}
RAISED = {"raised": lambda: web.HTTPSeeOther("/elsewhere"), "refused": lambda: Forbidden("not this")}


@pytest.mark.parametrize("kind", [*RETURNED, *PREPARED, *RAISED])
async def test_a_signed_grant_goes_out_with_every_kind_of_response(kind: str, aiohttp_client: Any) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await get_auth(request).grant({"chat:1": ["publish"]})
        if kind in RAISED:
            raise RAISED[kind]()
        response: web.StreamResponse = {**RETURNED, **PREPARED}[kind]()
        if kind in PREPARED:
            await response.prepare(request)
        return response

    app = make_app(ClientSigned(rooms(), secret=SECRET, base=BASE))
    app.router.add_get("/handler", handler)
    client = await aiohttp_client(app, cookie_jar=CookieJar(unsafe=True))
    if kind == "websocket":
        async with client.ws_connect("/handler", headers=ALICE):
            pass
    else:
        response = await client.get("/handler", headers=ALICE, allow_redirects=False)
        assert response.headers.getall("Ably-Reauthorize") == ["1"]
        assert len(response.headers.getall("Set-Cookie")) == 1
    assert await granted(await ask(client)) == {**BASE, "chat:1": ["publish"]}


async def test_each_response_of_a_connection_has_its_own_grant(aiohttp_client: Any) -> None:
    async def handler(request: web.Request) -> web.Response:
        if room := request.query.get("room"):
            await get_auth(request).grant({f"chat:{room}": ["publish"]})
        return web.Response()

    app = make_app(ClientSigned(rooms(), secret=SECRET, base=BASE))
    app.router.add_get("/handler", handler)
    client = await aiohttp_client(app)
    told = []
    for query in ("?room=1", "", "?room=2"):
        response = await client.get("/handler" + query, headers=ALICE)
        await response.read()
        told.append((response.headers.getall("Ably-Reauthorize", []), "Set-Cookie" in response.headers))
    assert told == [(["1"], True), ([], False), (["1"], True)]


@pytest.mark.parametrize("answer", [web.Response, web.StreamResponse])
async def test_what_comes_too_late_for_the_headers_is_an_error(
    answer: type[web.StreamResponse], aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = answer()
        await response.prepare(request)
        get_auth(request).reauthorize()
        return response

    app = make_app(LIST)
    app.router.add_get("/handler", handler)
    client = await aiohttp_client(app)
    with pytest.raises(ClientError):
        async with client.get("/handler", headers=ALICE, raise_for_status=True) as response:
            await response.read()
    assert "before `await response.prepare(request)`" in caplog.text


async def test_a_handler_can_be_tried_with_a_mocked_request() -> None:
    app = make_app(ClientSigned(rooms(), secret=SECRET, base=BASE))
    app.freeze()
    request = make_mocked_request("GET", "/handler", headers=ALICE, app=app)
    held = await get_auth(request).grant({"chat:1": ["publish"]})
    assert held.to_dict() == {"chat:1": ["publish"]}
    response = web.Response()
    await response.prepare(request)
    assert response.headers["Ably-Reauthorize"] == "1"


async def test_a_grant_after_the_headers_is_an_error_and_changes_nothing(aiohttp_client: Any) -> None:
    caught: list[UsageError] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for change in (
            get_auth(request).grant({"chat:1": ["publish"]}),
            get_auth(request).withdraw("chat:1"),
        ):
            with pytest.raises(UsageError, match="headers are sent") as error:
                await change
            caught.append(error.value)
        return response

    app = make_app(stored())
    app.router.add_get("/handler", handler)
    client = await aiohttp_client(app)
    assert (await client.get("/handler", headers=ALICE)).status == 200
    assert len(caught) == 2
    assert await granted(await ask(client)) == BASE


async def test_a_handler_that_fails_grants_nothing(aiohttp_client: Any) -> None:
    async def handler(request: web.Request) -> web.Response:
        await get_auth(request).grant({"chat:1": ["publish"]})
        raise LookupError("a bug")

    app = make_app(ClientSigned(rooms(), secret=SECRET, base=BASE))
    app.router.add_get("/handler", handler)
    client = await aiohttp_client(app)
    response = await client.get("/handler", headers=ALICE)
    assert response.status == 500
    assert not {"Set-Cookie", "Ably-Reauthorize"} & set(response.headers)


@pytest.mark.parametrize("options", [
    {"ttl": timedelta(0)}, {"ttl": timedelta(hours=25)}, {"max_ttl": timedelta(hours=25)}, {"jitter": 1.0},
    {"ttl": timedelta(hours=2), "max_ttl": timedelta(hours=1)}, {"jitter": -0.1},
])  # fmt: skip
def test_times_ably_would_refuse_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"such as 0\.1|24 hours"):
        TokenRequestIssuer(**options)
