"""The auth route over HTTP: methods, origins, caching, limits, errors, and the route of the client helper."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from apps import (
    BASE,
    KEY,
    PATH,
    Client,
    denied,
    error,
    install,
    make_app,
    request_token,
    rooms,
    token_capability,
)

import aiohttp_ably
from aiohttp_ably import (
    BadRequest,
    Capability,
    CapabilityDenied,
    ClientStored,
    Forbidden,
    Issued,
    Issuer,
    MemoryStore,
    ServerDetermined,
    ServerStored,
    TooLarge,
    Unavailable,
    errors,
)
from aiohttp_ably.tokens import MAX_ANSWER

APP = "https://app.example.com"
ALICE = {"X-User": "alice"}
EXPOSED = {
    "Ably-Denied",
    "Ably-Denied-Omitted",
    "Ably-Grant",
    "Ably-Reauthorize",
    "X-Ably-ErrorCode",
    "X-Ably-ErrorMessage",
}
STATIC = Path(aiohttp_ably.__file__).parent / "static"


@pytest.fixture
async def client(aiohttp_client: Any) -> Client:
    return await aiohttp_client(
        make_app(ServerStored(rooms(), store=MemoryStore(), base=BASE), origins=[APP])
    )


async def test_an_answer_is_never_cached_and_has_its_exact_content_type(client: Client) -> None:
    for response in (
        await request_token(client),
        await request_token(client, user=None),
        await request_token(client, method="POST"),
        await request_token(client, headers={"Origin": APP}),
        await request_token(client, headers={"Origin": "https://evil.example"}),
        await request_token(client, "not JSON"),
        await client.put(PATH),
        await client.head(PATH),
        await client.options(PATH),
    ):
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "private, no-cache, no-store, must-revalidate"
        assert response.headers["Vary"] == "Origin, Cookie"


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("origin", [None, APP])
async def test_other_methods_issue_no_token(origin: str | None, method: str, aiohttp_client: Any) -> None:
    def identify(request: web.Request) -> str:
        raise AssertionError("identify was called")

    app = make_app(ClientStored(rooms(), base=BASE), identify=identify, origins=[APP])
    client = await aiohttp_client(app)
    response = await client.request(method, PATH, headers={"Origin": origin} if origin else {})
    assert response.headers["Allow"] == "GET, POST, OPTIONS"
    assert response.headers.get("Access-Control-Allow-Origin") == origin
    assert response.headers.get("Access-Control-Allow-Methods") == (
        "GET, POST, OPTIONS" if method == "OPTIONS" else None
    )
    if method in ("HEAD", "OPTIONS"):
        assert (response.status, await response.read()) == (200, b"")
    else:
        assert await error(response) == (405, 40500)
        assert (await response.json())["error"]["message"] == (
            f"{method} is not answered here; send GET or POST"
        )


async def test_an_allowed_origin_may_read_tokens_and_errors(client: Client) -> None:
    for user, status in (("alice", 200), (None, 403)):
        for origin in (APP, APP.upper()):
            response = await request_token(client, user=user, headers={"Origin": origin})
            assert response.status == status
            assert response.headers.getall("Access-Control-Allow-Origin") == [origin]
            assert response.headers["Access-Control-Allow-Credentials"] == "true"
            assert set(response.headers["Access-Control-Expose-Headers"].split(", ")) == EXPOSED


async def test_an_answer_without_an_origin_has_no_cors_headers(client: Client) -> None:
    for response in (await request_token(client), await request_token(client, user=None)):
        assert not [name for name in response.headers if name.startswith("Access-Control-")]


async def test_an_allowed_origin_may_read_the_503_of_a_mistake(aiohttp_client: Any) -> None:
    strategy = ServerStored(rooms(), store=aiohttp_ably.SessionStore())
    client = await aiohttp_client(make_app(strategy, origins=[APP]))
    response = await request_token(client, headers={"Origin": APP})
    assert await error(response) == (503, 50300)
    assert response.headers["Access-Control-Allow-Origin"] == APP


async def test_a_preflight_is_answered_without_signing_in(client: Client) -> None:
    headers = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-app",
    }
    response = await client.options(PATH, headers={"Origin": APP, **headers})
    assert response.status == 200
    assert response.headers["Access-Control-Allow-Origin"] == APP
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert response.headers["Access-Control-Allow-Headers"] == "authorization,x-app"
    assert response.headers["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"
    assert response.headers["Access-Control-Max-Age"] == "600"


@pytest.mark.parametrize("names", ["x\ty", "x;y", "é", "x:y", "(x)", '"x"', "x" * 1025, ""])
async def test_a_preflight_does_not_repeat_malformed_header_names(names: str, client: Client) -> None:
    headers = {"Origin": APP, "Access-Control-Request-Headers": names}
    response = await client.options(PATH, headers=headers)
    assert response.status == 200
    assert "Access-Control-Allow-Headers" not in response.headers


@pytest.mark.parametrize("names", ["x" * 1024, "X-App, authorization", "a1!#$%&'*+.^_`|~-"])
async def test_a_preflight_repeats_header_names(names: str, client: Client) -> None:
    headers = {"Origin": APP, "Access-Control-Request-Headers": names}
    response = await client.options(PATH, headers=headers)
    assert response.headers["Access-Control-Allow-Headers"] == names


@pytest.mark.parametrize("control", ["\x01", "\x0b", "\x7f", "\x1f", "\x00", "\r\n", "\n"])
async def test_a_preflight_does_not_repeat_control_characters(control: str) -> None:
    """aiohttp refuses such a header itself; a request that a proxy or a test made may still have one."""
    app = web.Application()
    ably = install(app, ServerDetermined(BASE), origins=[APP])
    for names in (f"x-app{control}Set-Cookie", f"x-app{control}", f"{control}x-app"):
        headers = {"Origin": APP, "Access-Control-Request-Headers": names}
        response = await ably.handler(make_mocked_request("OPTIONS", PATH, headers=headers, app=app))
        assert response.status == 200
        assert "Access-Control-Allow-Headers" not in response.headers


FOREIGN = ["https://evil.example", "null", "", "http://[", "https://app.example.com.evil.example", "https://app.example.com:444",
           "http://app.example.com", "app.example.com", "https://evil.example/https://app.example.com"]  # fmt: skip


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
async def test_a_foreign_origin_is_refused_before_the_request_is_read(
    origin: str, method: str, aiohttp_client: Any
) -> None:
    def identify(request: web.Request) -> str:
        raise AssertionError("identify was called")

    client = await aiohttp_client(make_app(ClientStored(rooms()), identify=identify, origins=[APP]))
    response = await client.request(
        method, PATH, headers={"Origin": origin}, data=b"{" if method == "POST" else None
    )
    assert response.status == 403
    assert "Access-Control-Allow-Origin" not in response.headers
    if method != "HEAD":
        assert await error(response) == (403, 40300)


async def test_the_own_origin_is_allowed_behind_a_proxy_that_ends_tls(client: Client) -> None:
    own = client.make_url("/").authority
    for scheme in ("http", "https"):
        response = await request_token(client, headers={"Origin": f"{scheme}://{own}"})
        assert await token_capability(response) == BASE


@pytest.mark.parametrize(("scheme", "status"), [("https", 200), ("http", 403), ("ftp", 403), ("wss", 403)])
async def test_over_https_the_own_origin_is_https(scheme: str, status: int, aiohttp_client: Any) -> None:
    @web.middleware
    async def https(request: web.Request, handler: Any) -> web.StreamResponse:
        """As a middleware does that reads X-Forwarded-Proto."""
        return await handler(request.clone(scheme="https"))

    app = web.Application(middlewares=[https])
    install(app, ServerDetermined(BASE))
    client = await aiohttp_client(app)
    own = client.make_url("/").authority
    assert (await request_token(client, headers={"Origin": f"{scheme}://{own}"})).status == status


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "user@127.0.0.1"])
async def test_another_host_or_port_is_a_foreign_origin(host: str, client: Client) -> None:
    response = await request_token(client, headers={"Origin": f"http://{host}"})
    assert await error(response) == (403, 40300)


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
async def test_a_link_or_image_on_another_site_is_refused(site: str, status: int, client: Client) -> None:
    response = await request_token(client, {"chat:1": ["publish"]}, headers={"Sec-Fetch-Site": site})
    assert response.status == status
    assert ("chat:1" in await token_capability(await request_token(client))) is (status == 200)


async def test_an_allowed_origin_on_another_site_may_request_a_token(client: Client) -> None:
    response = await request_token(client, headers={"Origin": APP, "Sec-Fetch-Site": "cross-site"})
    assert await token_capability(response) == BASE


async def test_the_denied_capability_is_named_in_a_header_of_limited_length(client: Client) -> None:
    few = {"chat:secret é": ["publish"]}
    response = await request_token(client, few)
    assert denied(response) == few
    assert response.headers["Ably-Denied"] == json.dumps(few, separators=(",", ":"))
    assert "Ably-Denied-Omitted" not in response.headers
    assert not {"Ably-Denied", "Ably-Denied-Omitted"} & set((await request_token(client)).headers)
    many = {f"chat:secret{n}": ["publish"] for n in range(1000)}
    response = await request_token(client, many, method="POST")
    named = denied(response)
    assert named.items() <= many.items()
    assert len(named) + int(response.headers["Ably-Denied-Omitted"]) == 1000
    assert 1900 < len(response.headers["Ably-Denied"]) <= 2048


class FixedIssuer(Issuer):
    """Answers with a body of a given length."""

    def __init__(self, length: int) -> None:
        self.length = length

    async def issue(self, auth: Any, capability: Capability) -> Issued:
        return Issued(b"x" * self.length)


@pytest.mark.parametrize(("length", "status"), [(MAX_ANSWER, 200), (MAX_ANSWER + 1, 413)])
async def test_an_answer_has_128_kib_at_most(length: int, status: int, aiohttp_client: Any) -> None:
    assert MAX_ANSWER == 128 * 1024
    client = await aiohttp_client(make_app(ServerDetermined(BASE), issuer=FixedIssuer(length)))
    response = await request_token(client)
    assert response.status == status
    if status == 413:
        assert await error(response) == (413, 40009)
        assert "over the 131072 bytes" in (await response.json())["error"]["message"]
    else:
        assert len(await response.read()) == length


ERRORS = [BadRequest, TooLarge, CapabilityDenied, Forbidden, Unavailable]


@pytest.mark.parametrize("raised", ERRORS, ids=[one.__name__ for one in ERRORS])
async def test_an_error_that_authorize_raises_is_answered_in_the_form_of_ably(
    raised: Any, aiohttp_client: Any
) -> None:
    async def authorize(auth: Any, requested: Any) -> Any:
        raise raised("no: é\r\nSet-Cookie: a=b\x00" + "x" * 5000)

    client = await aiohttp_client(make_app(ClientStored(authorize)))
    response = await request_token(client, {"chat:1": ["publish"]})
    assert await error(response) == (raised.status, raised.code)
    assert "Set-Cookie" not in response.headers
    assert response.headers["X-Ably-ErrorMessage"].startswith("no: \\xe9\\r\\nSet-Cookie")
    assert len(response.headers["X-Ably-ErrorMessage"]) == 512
    assert (await response.json())["error"]["href"] == f"https://help.ably.io/error/{raised.code}"


def test_no_error_has_a_code_that_sdks_take_for_a_token_error() -> None:
    found = [
        one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.AuthError)
    ]
    for one in found:
        assert not 40140 <= one.code <= 40149
        assert one.code not in (40102, 40171)
        assert 400 <= one.status < 600
        assert one.status != 403 or one.code == 40300


async def test_no_answer_or_log_contains_a_secret(
    aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(auth: Any, requested: Any) -> Any:
        raise LookupError(auth, auth.key, auth.keys)

    caplog.set_level("DEBUG")
    client = await aiohttp_client(make_app(ClientStored(broken, base=BASE)))
    cookie = "SESSION=a-secret-of-the-client"
    body = await (await request_token(client, {"chat:1": ["publish"]}, headers={"Cookie": cookie})).text()
    body += json.dumps(await (await request_token(client)).json())
    assert "LookupError" in caplog.text
    for secret in (KEY.partition(":")[2], "a-secret-of-the-client"):
        assert secret not in body + caplog.text


@pytest.fixture
async def script_client(aiohttp_client: Any) -> Client:
    return await aiohttp_client(make_app(ServerDetermined(BASE), script_path="/js/helper.js"))


async def test_the_script_is_served_with_all_modules_that_it_imports(script_client: Client) -> None:
    paths = {"/js/helper.js": "reauth.js"}
    paths |= {f"/js/{file.name}": file.name for file in STATIC.glob("*.js") if file.name != "reauth.js"}
    for path, name in paths.items():
        response = await script_client.get(path)
        assert response.status == 200
        assert await response.read() == (STATIC / name).read_bytes()
        assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert response.headers["Cache-Control"] == "public, max-age=86400"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        for imported in re.findall(r'from "\./([^"]+)"', await response.text()):
            assert f"/js/{imported}" in paths


@pytest.mark.parametrize(
    "path", ["/js/reauth.js", "/js/reauth.d.ts", "/js/package.json", "/js/", "/ably/reauth.js"]
)
async def test_nothing_else_is_served_beside_the_script(path: str, script_client: Client) -> None:
    assert (await script_client.get(path)).status == 404


async def test_without_a_script_path_no_script_is_served(client: Client) -> None:
    assert (await client.get("/ably/reauth.js")).status == 404


async def test_the_script_has_an_etag(script_client: Client) -> None:
    etag = (await script_client.get("/js/helper.js")).headers["ETag"]
    assert etag != (await script_client.get("/js/answers.js")).headers["ETag"]
    for sent in (etag, "*", f'"another", {etag}'):
        response = await script_client.get("/js/helper.js", headers={"If-None-Match": sent})
        assert (response.status, await response.read()) == (304, b"")
        assert response.headers["ETag"] == etag
        assert response.headers["Cache-Control"] == "public, max-age=86400"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
    response = await script_client.get("/js/helper.js", headers={"If-None-Match": '"another"'})
    assert response.status == 200
    assert (await script_client.post("/js/helper.js")).status == 405
