"""get_auth(): what handlers and middlewares do with it, and how its changes are sent with each kind of response."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp_session
import pytest
from aiohttp import ClientError, ClientResponse, CookieJar, web
from aiohttp.test_utils import make_mocked_request
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from apps import (
    BASE,
    ROOM,
    SECRET,
    Client,
    error,
    install,
    make_app,
    request_token,
    rooms,
    token_capability,
)

from aiohttp_ably import (
    BadRequest,
    Capability,
    CapabilityDenied,
    ClientSigned,
    ClientStored,
    Forbidden,
    MemoryStore,
    ServerDetermined,
    ServerStored,
    SessionStore,
    SignedStore,
    Strategy,
    TokenRequestIssuer,
    TooLarge,
    Unavailable,
    UsageError,
    get_auth,
)
from aiohttp_ably.errors import UnknownOperationWarning

ALICE = {"X-User": "alice"}
ONLY_BASE = ServerDetermined(BASE)
SESSION_SECRET = b"0" * 32

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def stored() -> ServerStored:
    return ServerStored(rooms(), store=MemoryStore(), base=BASE)


def signed() -> ClientSigned:
    return ClientSigned(rooms(), secret=SECRET, base=BASE)


async def test_a_handler_uses_what_was_granted_to_the_client(aiohttp_client: Any) -> None:
    seen: dict[str, Any] = {}

    async def handler(request: web.Request) -> web.Response:
        auth = get_auth(request)
        assert get_auth(request) is auth
        with pytest.raises(RuntimeError, match=r"await get_auth\(request\)\.identify\(\)"):
            _ = auth.client_id
        seen["id"] = await auth.identify()
        seen["same id"] = auth.client_id
        seen["before"] = await auth.allows("publish", "chat:1")
        seen["granted"] = (await auth.grant(ROOM)).to_dict()
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
    assert seen["granted"] == ROOM
    assert seen["capability"] == Capability({**BASE, **ROOM})
    assert seen["left"] == {}
    assert json.loads(seen["token"]["capability"]) == BASE
    assert (await response.json())["clientId"] == "alice"


async def test_a_client_that_is_not_signed_in_may_do_nothing(aiohttp_client: Any) -> None:
    async def handler(request: web.Request) -> web.Response:
        auth = get_auth(request)
        client_id = await auth.identify()
        allowed = await auth.allows("subscribe", "lobby")
        return web.json_response([client_id, auth.client_id, allowed, len(await auth.capability())])

    async def token(request: web.Request) -> web.Response:
        return web.json_response(dict(await get_auth(request).token()))

    app = make_app(stored())
    app.router.add_get("/handler", handler)
    app.router.add_get("/token", token)
    client = await aiohttp_client(app)
    assert await (await client.get("/handler")).json() == [None, None, False, 0]
    assert await error(await client.get("/token")) == (403, 40300)
    assert await error(await client.post("/grant", json=ROOM)) == (403, 40300)
    assert await error(await client.post("/withdraw", json=["chat:1"])) == (403, 40300)


async def test_an_anonymous_client_may_do_what_its_base_allows(aiohttp_client: Any) -> None:
    async def handler(request: web.Request) -> web.Response:
        auth = get_auth(request)
        return web.json_response([await auth.allows("subscribe", "lobby"), "clientId" in await auth.token()])

    app = make_app(ONLY_BASE, anonymous=True)
    app.router.add_get("/handler", handler)
    assert await (await (await aiohttp_client(app)).get("/handler")).json() == [True, False]


async def test_identify_is_called_once_for_a_request(aiohttp_client: Any) -> None:
    calls: list[str] = []

    def identify(request: web.Request) -> str:
        calls.append(request.path)
        return "alice"

    async def handler(request: web.Request) -> web.Response:
        for _ in range(2):
            await get_auth(request).identify()
            await get_auth(request).allows("publish", "chat:1")
            await get_auth(request).grant(ROOM)
        return web.Response()

    app = make_app(stored(), identify=identify)
    app.router.add_get("/handler", handler)
    await (await aiohttp_client(app)).get("/handler")
    assert calls == ["/handler"]


async def test_allows_warns_of_an_operation_that_ably_does_not_know(aiohttp_client: Any) -> None:
    async def handler(request: web.Request) -> web.Response:
        with pytest.warns(UnknownOperationWarning, match="did you mean 'publish'"):
            allowed = await get_auth(request).allows("publsh", "lobby")
        return web.json_response(allowed)

    app = make_app(ONLY_BASE)
    app.router.add_get("/handler", handler)
    assert await (await (await aiohttp_client(app)).get("/handler", headers=ALICE)).json() is False


@pytest.mark.parametrize(
    "strategy", [ONLY_BASE, ClientStored(rooms())], ids=["server determined", "client stored"]
)
async def test_a_strategy_that_stores_nothing_cannot_grant(
    strategy: Any, aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = await aiohttp_client(make_app(strategy))
    assert (await client.post("/grant", json=ROOM, headers=ALICE)).status == 500
    assert "stores nothing: change the list that you give it" in caplog.text


async def test_a_change_tells_the_client_to_reauthorize(aiohttp_client: Any) -> None:
    client = await aiohttp_client(make_app(stored()))
    told = []
    for path, body in (
        ("/grant", ROOM),
        ("/grant", ROOM),
        ("/withdraw", ["chat:1"]),
        ("/withdraw", ["chat:1"]),
    ):
        response = await client.post(path, json=body, headers=ALICE)
        told.append(response.headers.getall("Ably-Reauthorize", []))
    assert told == [["1"], [], ["1"], []]


async def test_reauthorize_tells_the_client_of_a_change_elsewhere(aiohttp_client: Any) -> None:
    async def handler(request: web.Request) -> web.Response:
        get_auth(request).reauthorize()
        get_auth(request).reauthorize()
        return web.Response()

    app = make_app(ONLY_BASE)
    app.router.add_get("/handler", handler)
    client = await aiohttp_client(app)
    assert (await client.get("/handler", headers=ALICE)).headers.getall("Ably-Reauthorize") == ["1"]


async def test_a_handler_that_only_calls_get_auth_sends_no_header(aiohttp_client: Any) -> None:
    def identify(request: web.Request) -> str:
        raise AssertionError("identify was called")

    async def handler(request: web.Request) -> web.Response:
        get_auth(request)
        return web.Response(text="hello")

    app = make_app(stored(), identify=identify)
    app.router.add_get("/handler", handler)
    client = await aiohttp_client(app)
    response = await client.get("/handler")
    assert await response.text() == "hello"
    assert not {"Ably-Reauthorize", "Set-Cookie", "Vary"} & set(response.headers)


async def test_get_auth_without_setup_says_which_function_to_call(
    aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: web.Request) -> web.Response:
        get_auth(request)
        return web.Response()

    app = web.Application()
    app.router.add_get("/handler", handler)
    assert (await (await aiohttp_client(app)).get("/handler")).status == 500
    assert "call aiohttp_ably.setup(app, ...)" in caplog.text


async def grants_the_room(request: web.Request) -> web.StreamResponse:
    await get_auth(request).grant(ROOM)
    return web.Response()


async def fails_after_a_grant(request: web.Request) -> web.StreamResponse:
    await get_auth(request).grant(ROOM)
    raise LookupError("a bug")


async def denies_after_a_grant(request: web.Request) -> web.StreamResponse:
    await get_auth(request).grant(ROOM)
    raise CapabilityDenied("not this")


STRATEGIES: dict[str, tuple[Callable[[], Strategy], dict[str, str], str]] = {
    "session": (lambda: ServerStored(rooms(), store=SessionStore(), base=BASE), {}, "Set-Cookie"),
    "signed cookie": (signed, {}, "Set-Cookie"),
    "signed header": (signed, {"Ably-Grant": ""}, "Ably-Grant"),
}
"""Each strategy whose grant is sent with the response, what the client sends, and the header with the grant."""


class Site:
    """An app whose handler grants a room, and the client of one user."""

    def __init__(self, aiohttp_client: Any, kind: str) -> None:
        self._aiohttp_client = aiohttp_client
        strategy, self.headers, self.grant_header = STRATEGIES[kind]
        self.strategy = strategy()
        self.app = web.Application()
        self._session = EncryptedCookieStorage(SESSION_SECRET) if kind == "session" else None

    async def get(
        self, handler: Handler, *, inside: Any = None, between: Any = None, outside: Any = None
    ) -> ClientResponse:
        """Send a request to `handler`, through further middlewares.

        `inside` is inside that of setup(), `between` outside it and inside that of aiohttp-session, `outside`
        outside both.
        """
        if outside is not None:
            self.app.middlewares.append(outside)
        if self._session is not None:
            aiohttp_session.setup(self.app, self._session)
        if between is not None:
            self.app.middlewares.append(between)
        install(self.app, self.strategy, issuer=TokenRequestIssuer(jitter=0))
        if inside is not None:
            self.app.middlewares.append(inside)
        self.app.router.add_get("/handler", handler)
        self.client: Client = await self._aiohttp_client(self.app, cookie_jar=CookieJar(unsafe=True))
        response: ClientResponse = await self.client.get(
            "/handler", headers={**ALICE, **self.headers}, allow_redirects=False
        )
        return response

    async def check_granted(self, response: ClientResponse) -> None:
        """The response carries the grant and tells the client to reauthorize, each exactly once."""
        assert response.headers.getall("Ably-Reauthorize") == ["1"]
        assert len(response.headers.getall(self.grant_header)) == 1
        headers = {name: response.headers[name] for name in self.headers}
        assert await token_capability(await request_token(self.client, headers=headers)) == {**BASE, **ROOM}

    async def check_not_granted(self, response: ClientResponse) -> None:
        assert not {"Ably-Reauthorize", "Ably-Grant", "Set-Cookie"} & set(response.headers)
        assert await token_capability(await request_token(self.client, headers=self.headers)) == BASE


@pytest.fixture(params=STRATEGIES)
def site(request: pytest.FixtureRequest, aiohttp_client: Any) -> Site:
    return Site(aiohttp_client, request.param)


@web.middleware
async def loads_the_session(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Clones of a request share its session only when it was loaded before: aiohttp-session loads it lazily."""
    if aiohttp_session.STORAGE_KEY in request:
        await aiohttp_session.get_session(request)
    return await handler(request)


@web.middleware
async def clones(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await handler(request.clone(headers={**request.headers, "X-Cloned": "1"}))


CLONES = {
    "inside": {"inside": clones, "between": loads_the_session},
    "outside": {"outside": clones},
    "nowhere": {},
}


@pytest.mark.parametrize("where", ["inside", "outside"])
async def test_a_grant_leaves_with_the_response_when_a_middleware_clones_the_request(
    where: str, site: Site
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.headers["X-Cloned"]
        return await grants_the_room(request)

    await site.check_granted(await site.get(handler, **CLONES[where]))


@pytest.mark.parametrize("where", ["inside", "outside"])
async def test_an_error_leaves_as_a_response_when_a_middleware_clones_the_request(
    where: str, site: Site
) -> None:
    response = await site.get(denies_after_a_grant, **CLONES[where])
    assert await error(response) == (401, 40160)
    await site.check_granted(response)


@pytest.mark.parametrize("where", ["inside", "outside", "nowhere"])
async def test_the_500_of_a_handler_that_fails_carries_no_grant(where: str, site: Site) -> None:
    response = await site.get(fails_after_a_grant, **CLONES[where])
    assert response.status == 500
    await site.check_not_granted(response)


@pytest.mark.parametrize("where", ["inside", "outside"])
async def test_a_prepared_response_carries_the_grant_when_a_middleware_clones_the_request(
    where: str, aiohttp_client: Any
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await get_auth(request).grant(ROOM)
        response = web.StreamResponse()
        await response.prepare(request)
        return response

    site = Site(aiohttp_client, "signed cookie")
    await site.check_granted(await site.get(handler, **CLONES[where]))


async def test_clones_of_a_request_share_one_client_auth(site: Site) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert get_auth(request.clone()) is get_auth(request)
        await get_auth(request.clone()).grant(ROOM)
        return web.Response()

    await site.check_granted(await site.get(handler, between=loads_the_session))


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_middleware_outside_may_grant(when: str, aiohttp_client: Any) -> None:
    @web.middleware
    async def grants(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path != "/handler":
            return await handler(request)
        if when == "before":
            await get_auth(request).grant(ROOM)
        response = await handler(request)
        if when == "after":
            await get_auth(request).grant(ROOM)
        return response

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text="hello")

    site = Site(aiohttp_client, "signed cookie")
    response = await site.get(handler, between=grants)
    assert await response.text() == "hello"
    await site.check_granted(response)


async def test_a_middleware_outside_that_grants_before_the_handler_stores_it_in_the_session(
    aiohttp_client: Any,
) -> None:
    @web.middleware
    async def grants(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/handler":
            await get_auth(request).grant(ROOM)
        return await handler(request)

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response()

    site = Site(aiohttp_client, "session")
    await site.check_granted(await site.get(handler, between=grants))


async def test_a_middleware_outside_knows_what_the_handler_granted(site: Site) -> None:
    seen: list[Any] = []

    @web.middleware
    async def looks(request: web.Request, handler: Handler) -> web.StreamResponse:
        seen.append(await get_auth(request).allows("publish", "chat:1"))
        response = await handler(request)
        seen.append(await get_auth(request).allows("publish", "chat:1"))
        seen.append(get_auth(request).client_id)
        return response

    await site.check_granted(await site.get(grants_the_room, between=looks))
    assert seen[:3] == [False, True, "alice"]


async def test_an_error_page_of_a_middleware_outside_carries_no_grant_of_the_handler(site: Site) -> None:
    @web.middleware
    async def apologises(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except LookupError:
            return web.Response(text="sorry", status=500)

    response = await site.get(fails_after_a_grant, between=apologises)
    assert await response.text() == "sorry"
    assert not {"Ably-Reauthorize", "Ably-Grant"} & set(response.headers)
    assert not [one for one in response.headers.getall("Set-Cookie", []) if one.startswith("ably_grant")]


def raise_(error: Exception) -> Any:
    raise error


RETURNED: dict[str, Callable[[], web.StreamResponse]] = {
    "plain": lambda: web.Response(text="hello"),
    "json": lambda: web.json_response({}),
    "redirect": lambda: web.Response(status=302, headers={"Location": "/elsewhere"}),
    "redirect raised": lambda: raise_(web.HTTPSeeOther("/elsewhere")),
    "status raised": lambda: raise_(web.HTTPConflict(text="not now")),
    "AuthError raised": lambda: raise_(Forbidden("not this")),
}
"""Responses with which aiohttp-session saves a session."""
STREAMED: dict[str, Callable[[], web.StreamResponse]] = {
    "file": lambda: web.FileResponse(__file__),
    "stream": web.StreamResponse,
}
PREPARED: dict[str, Callable[[], web.StreamResponse]] = {
    "plain prepared": web.Response,
    "stream prepared": web.StreamResponse,
    "websocket": web.WebSocketResponse,
}
STATUS = {"redirect": 302, "redirect raised": 303, "status raised": 409, "AuthError raised": 403}


def responding(kind: str) -> Handler:
    """A handler that grants a room, then answers in this way."""

    async def handler(request: web.Request) -> web.StreamResponse:
        await get_auth(request).grant(ROOM)
        response = {**RETURNED, **STREAMED, **PREPARED}[kind]()
        if kind in PREPARED:
            await response.prepare(request)
        return response

    return handler


@pytest.mark.parametrize("store", ["signed cookie", "signed header"])
@pytest.mark.parametrize("kind", [*RETURNED, *STREAMED, *PREPARED])
async def test_a_signed_grant_leaves_once_with_every_kind_of_response(
    kind: str, store: str, aiohttp_client: Any
) -> None:
    site = Site(aiohttp_client, store)
    if kind == "websocket":
        site.headers = {**site.headers, "Connection": "upgrade", "Upgrade": "websocket",
                        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": base64.b64encode(b"0" * 16).decode()}  # fmt: skip
    response = await site.get(responding(kind))
    site.headers = STRATEGIES[store][1]
    assert response.status == (101 if kind == "websocket" else STATUS.get(kind, 200))
    await site.check_granted(response)


@pytest.mark.parametrize("kind", RETURNED)
async def test_a_grant_in_the_session_leaves_with_a_response_that_is_returned_or_raised(
    kind: str, aiohttp_client: Any
) -> None:
    site = Site(aiohttp_client, "session")
    response = await site.get(responding(kind))
    assert response.status == STATUS.get(kind, 200)
    await site.check_granted(response)


@pytest.mark.parametrize("kind", [*STREAMED, *(kind for kind in PREPARED if kind != "websocket")])
async def test_a_grant_that_the_session_would_lose_is_an_error_before_anything_is_sent(
    kind: str, aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(aiohttp_client, "session")
    if kind == "stream prepared":  # aiohttp has begun a chunked response, so its 500 is malformed
        with pytest.raises(ClientError):
            await site.get(responding(kind))
    else:
        response = await site.get(responding(kind))
        assert response.status == 500
        await site.check_not_granted(response)
    assert "aiohttp-session saves it only with a plain response" in caplog.text
    assert await token_capability(await request_token(site.client)) == BASE


@pytest.mark.parametrize("raised", [LookupError, CapabilityDenied])
@pytest.mark.parametrize("store", ["signed cookie", "signed header"])
async def test_an_error_after_the_headers_are_sent_ends_the_response(
    store: str, raised: Any, aiohttp_client: Any
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await get_auth(request).grant(ROOM)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first part")
        raise raised("a bug")

    site = Site(aiohttp_client, store)
    response = await site.get(handler)
    assert response.status == 200
    with pytest.raises(ClientError):
        await response.read()
    await site.check_granted(response)


@pytest.mark.parametrize("kind", [*RETURNED, *STREAMED, *PREPARED])
async def test_headers_leave_once_from_a_sub_app_with_its_own_setup(kind: str, aiohttp_client: Any) -> None:
    parent, child = make_app(stored()), web.Application()
    install(child, signed())
    child.router.add_get("/handler", responding(kind))
    parent.add_subapp("/child", child)
    client = await aiohttp_client(parent, cookie_jar=CookieJar(unsafe=True))
    headers = {**ALICE}
    if kind == "websocket":
        async with client.ws_connect("/child/handler", headers=headers) as websocket:
            sent = websocket._response.headers
    else:
        response = await client.get("/child/handler", headers=headers, allow_redirects=False)
        sent = response.headers
    assert sent.getall("Ably-Reauthorize") == ["1"]
    assert len(sent.getall("Set-Cookie")) == 1
    response = await client.get("/child/ably/auth", headers=ALICE)
    assert await token_capability(response) == {**BASE, **ROOM}


async def test_a_sub_app_uses_its_own_setup_or_that_of_its_parent(aiohttp_client: Any) -> None:
    async def handler(request: web.Request) -> web.Response:
        granted = await get_auth(request).grant(ROOM)
        return web.json_response((await get_auth(request).capability() | granted).to_dict())

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
    assert await response.json() == {**BASE, **ROOM}
    assert response.headers["Ably-Reauthorize"] == "1"
    response = await client.post("/own/handler", headers=ALICE)
    assert await response.json() == {"own": ["subscribe"], **ROOM}
    assert response.headers.getall("Ably-Reauthorize") == ["1"]
    response = await client.get("/own/ably/auth", headers=ALICE)
    assert await token_capability(response) == {"own": ["subscribe"], **ROOM}


async def test_parent_and_sub_app_may_grant_in_one_request(aiohttp_client: Any) -> None:
    @web.middleware
    async def grants(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/child/handler":
            await get_auth(request).grant({"chat:2": ["publish"]})
        return await handler(request)

    parent, child = web.Application(), web.Application()
    install(parent, stored())
    parent.middlewares.append(grants)
    install(child, signed())
    child.router.add_get("/handler", grants_the_room)
    parent.add_subapp("/child", child)
    client = await aiohttp_client(parent, cookie_jar=CookieJar(unsafe=True))
    response = await client.get("/child/handler", headers=ALICE)
    assert len(response.headers.getall("Set-Cookie")) == 1
    assert set(response.headers.getall("Ably-Reauthorize")) == {"1"}
    assert await token_capability(await request_token(client)) == {**BASE, "chat:2": ["publish"]}
    assert await token_capability(await client.get("/child/ably/auth", headers=ALICE)) == {**BASE, **ROOM}


async def test_each_response_of_a_connection_has_its_own_grant(aiohttp_client: Any) -> None:
    async def handler(request: web.Request) -> web.Response:
        if room := request.query.get("room"):
            await get_auth(request).grant({f"chat:{room}": ["publish"]})
        return web.Response()

    app = make_app(signed())
    app.router.add_get("/handler", handler)
    client = await aiohttp_client(app)
    sent = []
    for query in ("?room=1", "", "?room=2"):
        response = await client.get("/handler" + query, headers=ALICE)
        await response.read()
        sent.append((response.headers.getall("Ably-Reauthorize", []), "Set-Cookie" in response.headers))
    assert sent == [(["1"], True), ([], False), (["1"], True)]


@pytest.mark.parametrize(
    "answer",
    [lambda: web.Response(body=b"never sent"), web.StreamResponse],
    ids=["Response", "StreamResponse"],
)
async def test_reauthorize_after_the_headers_are_sent_is_an_error(
    answer: Callable[[], web.StreamResponse], aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = answer()
        await response.prepare(request)
        get_auth(request).reauthorize()
        return response

    app = make_app(ONLY_BASE)
    app.router.add_get("/handler", handler)
    client = await aiohttp_client(app)
    with pytest.raises(ClientError):
        async with client.get("/handler", headers=ALICE, raise_for_status=True) as response:
            await response.read()
    assert "before `await response.prepare(request)`" in caplog.text


async def test_a_handler_can_be_tested_with_a_mocked_request() -> None:
    app = make_app(signed())
    app.freeze()
    request = make_mocked_request("GET", "/handler", headers=ALICE, app=app)
    granted = await get_auth(request).grant(ROOM)
    assert granted.to_dict() == ROOM
    response = web.Response()
    await response.prepare(request)
    assert response.headers["Ably-Reauthorize"] == "1"


async def test_a_change_after_the_headers_are_sent_is_an_error_and_changes_nothing(
    aiohttp_client: Any,
) -> None:
    caught: list[UsageError] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        auth = get_auth(request)
        for change in (auth.grant(ROOM), auth.withdraw("chat:1"), auth.token()):
            with pytest.raises(UsageError, match="headers are sent") as error:
                await change
            caught.append(error.value)
        return response

    app = make_app(stored())
    app.router.add_get("/handler", handler)
    client = await aiohttp_client(app)
    assert (await client.get("/handler", headers=ALICE)).status == 200
    assert len(caught) == 3
    assert await token_capability(await request_token(client)) == BASE


ERRORS = [BadRequest, TooLarge, CapabilityDenied, Forbidden, Unavailable]


@pytest.mark.parametrize("raised", ERRORS, ids=lambda raised: raised.__name__)
async def test_an_error_that_a_handler_raises_is_answered_in_the_form_of_ably(
    raised: Any, aiohttp_client: Any
) -> None:
    async def handler(request: web.Request) -> web.Response:
        raise raised("not this")

    app = make_app(stored())
    app.router.add_get("/handler", handler)
    response = await (await aiohttp_client(app)).get("/handler")
    assert await error(response) == (raised.status, raised.code)
    assert response.headers["X-Ably-ErrorMessage"] == "not this"
    assert "no-store" in response.headers["Cache-Control"]


async def test_a_grant_cookie_has_4096_bytes_at_most(aiohttp_client: Any) -> None:
    """A longer one is refused, and the client keeps the grant that it has."""
    room = {f"chat:{hashlib.sha256(bytes([number])).hexdigest()}": ["publish"] for number in range(40)}

    async def client_of(cookie: str) -> Client:
        strategy = ClientSigned(rooms(), store=SignedStore(SECRET, cookie=cookie), base=BASE)
        app = make_app(strategy, clock=lambda: 1_800_000_000)
        client: Client = await aiohttp_client(app, cookie_jar=CookieJar(unsafe=True))
        return client

    response = await request_token(await client_of("g"), room)
    name = "g" * (1 + 4096 - len(response.headers["Set-Cookie"]))
    response = await request_token(await client_of(name), room)
    assert await token_capability(response) == {**BASE, **room}
    assert len(response.headers["Set-Cookie"]) == 4096

    client = await client_of(name + "g")
    assert await token_capability(await request_token(client, ROOM)) == {**BASE, **ROOM}
    response = await request_token(client, room)
    assert await error(response) == (413, 40009)
    assert "a cookie of" in (await response.json())["error"]["message"]
    assert "Set-Cookie" not in response.headers
    assert (await client.post("/grant", json=room, headers=ALICE)).status == 413
    assert await token_capability(await request_token(client)) == {**BASE, **ROOM}
