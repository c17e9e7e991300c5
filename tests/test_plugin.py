"""setup(): its options, the paths it takes, who a client is, and which part of an app failed."""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from apps import (
    BASE,
    KEY,
    OTHER_KEY,
    by_header,
    error,
    install,
    make_app,
    request_token,
    rooms,
    token_capability,
)

from aiohttp_ably import (
    ApiKey,
    Capability,
    ClientSigned,
    ClientStored,
    Issued,
    Issuer,
    JWTIssuer,
    JWTStore,
    KeyRing,
    MemoryStore,
    ServerDetermined,
    ServerStored,
    SessionStore,
    TokenDetailsIssuer,
    TokenRequestIssuer,
    setup,
)

ONLY_BASE = ServerDetermined(BASE)
SCRIPT_PATH = "/static/reauth.js"


def stored(**options: Any) -> ServerStored:
    return ServerStored(rooms(), store=MemoryStore(), base=BASE, **options)


INVALID_OPTIONS = [
    ("no key", {"key": None}, "key="),
    ("a key without secret", {"key": "app1.key1"}, "<appId>.<keyId>:<secret>"),
    ("keys of two apps", {"key": [KEY, OTHER_KEY]}, "one Ably app"),
    ("identify is a string", {"identify": "alice"}, "identify= is a function"),
    ("a strategy class", {"strategy": ClientStored}, "strategy= is one of"),
    ("not an issuer", {"issuer": object()}, "issuer= is"),
    ("a JWT store without JWTs", {"strategy": ClientSigned(rooms(), store=JWTStore())}, "issuer=JWTIssuer"),
    ("origins is a string", {"origins": "https://app.example.com"}, "is a list"),
    ("every origin", {"origins": ["*"]}, "not an origin such as"),
    ("an origin with a path", {"origins": ["https://app.example.com/"]}, "not an origin such as"),
    ("timeout is zero", {"timeout": 0}, "timeout="),
    ("an unknown client option", {"client_options": {"endpont": "x"}}, "client_options="),
    ("a relative path", {"path": "ably/auth"}, "must start with '/'"),
    ("a relative script path", {"script_path": "reauth.js"}, "must be a path of its own"),
    ("a script path that is the path", {"script_path": "/ably/auth"}, "must be a path of its own"),
    ("no interval", {"clock_sync": timedelta(0)}, "clock_sync="),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"), [row[1:] for row in INVALID_OPTIONS], ids=[row[0] for row in INVALID_OPTIONS]
)
def test_invalid_options_are_refused_at_setup(options: dict[str, Any], message: str) -> None:
    app = web.Application()
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        setup(app, **{"key": KEY, "identify": by_header, "strategy": ONLY_BASE, **options})
    assert KEY.partition(":")[2] not in str(refusal.value)
    assert len(app.router.resources()) == 0


async def test_the_end_of_the_app_closes_the_store_and_the_issuer() -> None:
    closed: list[str] = []

    class ClosingStore(MemoryStore):
        async def close(self) -> None:
            closed.append("store")

    class ClosingIssuer(TokenRequestIssuer):
        async def close(self) -> None:
            closed.append("issuer")

    app = web.Application()
    strategy = ServerStored(rooms(), store=ClosingStore())
    assert install(app, strategy, issuer=ClosingIssuer()).timeout == 5
    runner = web.AppRunner(app)
    await runner.setup()
    assert closed == []
    await runner.cleanup()
    assert sorted(closed) == ["issuer", "store"]


def test_all_invalid_options_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"key=(.|\n)*origins=(.|\n)*strategy=(.|\n)*timeout="):
        setup(web.Application(), key="", identify=by_header, strategy=None, origins=["x"], timeout=-1)  # type: ignore[arg-type]


def test_setup_is_called_once_before_the_app_is_frozen() -> None:
    app = make_app(stored())
    with pytest.raises(RuntimeError, match="already"):
        install(app, stored())
    frozen = web.Application()
    frozen.freeze()
    with pytest.raises(RuntimeError, match="before the app runs or becomes a sub-app"):
        install(frozen, stored())
    with pytest.raises(TypeError, match=r"web\.Application first"):
        setup(web.Request, key=KEY, identify=by_header, strategy=ONLY_BASE)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [KEY, ApiKey(KEY), KeyRing([KEY]), [KEY], lambda request: KEY])
async def test_key_takes_a_string_an_api_key_a_key_ring_and_a_function(key: Any, aiohttp_client: Any) -> None:
    client = await aiohttp_client(make_app(stored(), key=key))
    assert (await (await request_token(client)).json())["keyName"] == "app1.key1"


async def test_each_tenant_has_its_own_key_and_grants(aiohttp_client: Any) -> None:
    async def tenant(request: web.Request) -> str | None:
        return {"one": KEY, "two": OTHER_KEY}.get(request.headers.get("X-Tenant", ""))

    client = await aiohttp_client(make_app(stored(), key=tenant))
    one, two = {"X-Tenant": "one"}, {"X-Tenant": "two"}
    await request_token(client, {"chat:1": ["publish"]}, headers=one)
    assert "chat:1" in await token_capability(await request_token(client, headers=one))
    response = await request_token(client, headers=two)
    assert (await response.json())["keyName"] == "app2.key9"
    assert await token_capability(response) == BASE
    assert await error(await request_token(client)) == (400, 40000)


async def test_without_a_path_the_app_adds_the_handler_itself(aiohttp_client: Any) -> None:
    app = web.Application()
    ably = install(app, stored(), path=None)
    assert not [resource for resource in app.router.resources() if "ably" in resource.canonical]
    app.router.add_route("*", "/ably/auth", ably.handler)
    assert await token_capability(await request_token(await aiohttp_client(app))) == BASE


async def handle(request: web.Request) -> web.Response:
    return web.Response(text="not the auth route")


def plain_route(app: web.Application, path: str) -> None:
    app.router.add_get(path, handle)


def dynamic_route(app: web.Application, path: str) -> None:
    app.router.add_get("/{tail:.*}", handle)


def static_route(app: web.Application, path: str) -> None:
    app.router.add_static(path.rpartition("/")[0], Path(__file__).parent)


def static_route_at_the_root(app: web.Application, path: str) -> None:
    app.router.add_static("/", Path(__file__).parent)


def sub_app(app: web.Application, path: str) -> None:
    app.add_subapp(path.rpartition("/")[0] + "/", web.Application())


def static_route_of_that_name(app: web.Application, path: str) -> None:
    app.router.add_static(path, Path(__file__).parent)


def sub_app_of_that_name(app: web.Application, path: str) -> None:
    app.add_subapp(path, web.Application())


SHADOWS = [plain_route, static_route_of_that_name, sub_app_of_that_name]
LESS_EXPLICIT = [dynamic_route, static_route, static_route_at_the_root, sub_app]


@pytest.mark.parametrize("option", ["path", "script_path"])
@pytest.mark.parametrize("shadow", SHADOWS, ids=lambda shadow: shadow.__name__)
def test_setup_refuses_a_path_that_a_route_of_the_app_answers(shadow: Any, option: str) -> None:
    app = web.Application()
    shadow(app, "/one/two")
    with pytest.raises(ValueError, match=r"the app has a route for '/one/two' already; choose another path"):
        install(app, stored(), **{"path": None, option: "/one/two"})
    install(app, stored(), **{"path": None, option: "/one-more/two"})


@pytest.mark.parametrize("route", LESS_EXPLICIT, ids=lambda route: route.__name__)
async def test_a_less_explicit_route_before_setup_does_not_shadow_the_auth_route(
    route: Any, aiohttp_client: Any
) -> None:
    app = web.Application()
    route(app, "/ably/auth")
    install(app, stored())
    assert await token_capability(await request_token(await aiohttp_client(app))) == BASE


@pytest.mark.parametrize("shadow", SHADOWS + LESS_EXPLICIT, ids=lambda shadow: shadow.__name__)
async def test_a_route_added_after_setup_does_not_answer_for_the_auth_route(
    shadow: Any, aiohttp_client: Any
) -> None:
    app = make_app(stored(), script_path=SCRIPT_PATH)
    shadow(app, "/ably/auth" if shadow is not plain_route else "/ably/auth/more")
    client = await aiohttp_client(app)
    assert await token_capability(await request_token(client)) == BASE
    assert "class Reauthorizer" in await (await client.get(SCRIPT_PATH)).text()


@pytest.mark.parametrize(
    "path", ["/ably", "/ably/auth/", "/ably/authority", "/ABLY/AUTH", "/ably/{id:[0-9]+}"]
)
async def test_setup_accepts_an_app_with_routes_at_other_paths(path: str, aiohttp_client: Any) -> None:
    app = web.Application()
    app.router.add_route("*", path, handle)
    install(app, stored())
    assert await token_capability(await request_token(await aiohttp_client(app))) == BASE


@pytest.mark.parametrize(("returned", "expected"), [
    (None, (403, 40300)), ("*", (403, 40300)), ("a\nb", (403, 40300)), ("", (403, 40300)), (7, (503, 50300)),
])  # fmt: skip
async def test_a_client_id_that_identify_returns_is_checked(
    returned: Any, expected: tuple[int, int], aiohttp_client: Any
) -> None:
    client = await aiohttp_client(make_app(stored(), identify=lambda request: returned))
    assert await error(await request_token(client)) == expected


@pytest.mark.parametrize(("raised", "expected"), [
    (web.HTTPUnauthorized, (403, 40300)), (web.HTTPForbidden, (403, 40300)),
    (lambda: web.HTTPFound("/login"), (403, 40300)), (web.HTTPServiceUnavailable, (503, 50300)),
    (lambda: web.HTTPPermanentRedirect("/login"), (403, 40300)), (web.HTTPBadRequest, (503, 50300)),
    (web.HTTPNotFound, (503, 50300)), (web.HTTPRequestTimeout, (503, 50300)),
    (web.HTTPTooManyRequests, (503, 50300)), (web.HTTPInternalServerError, (503, 50300)),
    (KeyError, (503, 50300)), (lambda: OSError("the session store is gone"), (503, 50300)),
])  # fmt: skip
async def test_identify_raises_for_a_client_that_is_not_signed_in_or_fails(
    raised: Any, expected: tuple[int, int], aiohttp_client: Any
) -> None:
    async def identify(request: web.Request) -> str:
        raise raised()

    client = await aiohttp_client(make_app(stored(), identify=identify))
    response = await request_token(client, allow_redirects=False)
    assert await error(response) == expected


async def test_an_anonymous_client_gets_a_token_without_a_client_id(aiohttp_client: Any) -> None:
    client = await aiohttp_client(make_app(ClientStored(rooms(), base=BASE), anonymous=True))
    response = await request_token(client, {"chat:1": ["publish"]}, user=None)
    assert await token_capability(response) == {**BASE, "chat:1": ["publish"]}
    assert "clientId" not in await response.json()


async def test_the_wildcard_client_id_needs_an_option(aiohttp_client: Any) -> None:
    client = await aiohttp_client(make_app(stored(), identify=lambda request: "*", wildcard_client_id=True))
    assert (await (await request_token(client)).json())["clientId"] == "*"


@pytest.mark.parametrize("options", [
    {"ttl": timedelta(0)}, {"ttl": timedelta(hours=25)}, {"max_ttl": timedelta(hours=25)}, {"jitter": 1.0},
    {"ttl": timedelta(hours=2), "max_ttl": timedelta(hours=1)}, {"jitter": -0.1},
])  # fmt: skip
def test_lifetimes_that_ably_would_refuse_are_errors(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"such as 0\.1|24 hours"):
        TokenRequestIssuer(**options)


class Faulty:
    """A callback that fails or never answers."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    async def __call__(self, *_: Any, **__: Any) -> Any:
        if self.fault == "fails":
            raise OSError("no database")
        await asyncio.Event().wait()


class FaultyStore(MemoryStore):
    """A store that fails or never answers when `method` is called."""

    def __init__(self, method: str, fault: str) -> None:
        super().__init__()
        setattr(self, method, Faulty(fault))


class FaultyIssuer(Issuer):
    """An issuer that fails or never answers."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    async def issue(self, auth: Any, capability: Capability) -> Issued:
        return await Faulty(self.fault)()


def with_faulty(part: str, fault: str) -> dict[str, Any]:
    """Options for `make_app`, of which `part` fails or never answers."""
    faulty = Faulty(fault)
    return {
        "key": {"strategy": ONLY_BASE, "key": faulty},
        "identify": {"strategy": ONLY_BASE, "identify": faulty},
        "authorize": {"strategy": ClientStored(faulty)},
        "resolve": {"strategy": ServerDetermined(faulty)},
        "base": {"strategy": ClientStored(rooms(), base=faulty)},
        "the store": {"strategy": ServerStored(rooms(), store=FaultyStore("load", fault))},
        "the store, on a change": {"strategy": ServerStored(rooms(), store=FaultyStore("change", fault))},
        "claims": {"strategy": ONLY_BASE, "issuer": JWTIssuer(claims=faulty)},
        "the issuer": {"strategy": ONLY_BASE, "issuer": FaultyIssuer(fault)},
    }[part]


PARTS = ["key", "identify", "authorize", "resolve", "base", "the store", "the store, on a change", "claims", "the issuer"]  # fmt: skip


@pytest.mark.parametrize("fault", ["fails", "hangs"])
@pytest.mark.parametrize("part", PARTS)
async def test_a_503_and_its_log_name_the_part_that_failed(
    part: str, fault: str, aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = await aiohttp_client(make_app(**with_faulty(part, fault), timeout=0.05))
    response = await request_token(client, {"chat:1": ["publish"]})
    assert await error(response) == (503, 50300)
    told = {"fails": "failed", "hangs": "did not answer within 0.05 s"}[fault]
    name = part.partition(",")[0]
    assert (await response.json())["error"]["message"] == f"{name} {told}; try again"
    (line,) = [one for one in caplog.records if one.name == "aiohttp_ably._callbacks"]
    assert (line.levelno, line.getMessage()) == (logging.ERROR, f"{name} {told}")
    assert (line.exc_info is not None) is (fault == "fails")


@pytest.mark.parametrize("fault", ["fails", "hangs"])
async def test_a_503_and_its_log_name_ably(
    fault: str, aiohttp_client: Any, aiohttp_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if fault == "hangs":
            await over.wait()
        return web.Response(status=500)

    ably = web.Application()
    ably.router.add_post("/keys/{key}/requestToken", answer)
    reach = {"endpoint": "127.0.0.1", "port": (await aiohttp_server(ably)).port, "tls": False}
    options: dict[str, Any] = {"issuer": TokenDetailsIssuer(), "client_options": reach, "timeout": 0.5}
    client = await aiohttp_client(make_app(ONLY_BASE, **options))
    caplog.set_level(logging.INFO, "aiohttp_ably")
    response = await request_token(client)
    over.set()
    assert await error(response) == (503, 50300)
    message = (await response.json())["error"]["message"]
    told = {"fails": "Ably could not be reached", "hangs": "Ably did not answer within 0.5 s"}[fault]
    assert message.startswith(told)
    assert message in caplog.text


async def test_a_mistake_in_the_app_is_503_without_details(
    aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = await aiohttp_client(make_app(ServerStored(rooms(), store=SessionStore())))
    response = await request_token(client, {"chat:1": ["publish"]})
    assert await error(response) == (503, 50300)
    assert (await response.json())["error"]["message"] == "the auth server is not set up correctly"
    assert "call aiohttp_session.setup(app, storage) before" in caplog.text
