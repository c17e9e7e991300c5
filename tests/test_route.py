"""The auth route as browsers and SDKs meet it: methods, origins, caching, and the one form of an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from apps import BASE, KEY, PATH, Client, ask, denied, error, granted, make_app, rooms

from aiohttp_ably import (
    BadRequest,
    CapabilityDenied,
    ClientStored,
    Forbidden,
    MemoryStore,
    ServerStored,
    TooLarge,
    Unavailable,
    errors,
)

APP = "https://app.example.com"
ALICE = {"X-User": "alice"}


@pytest.fixture
async def client(aiohttp_client: Any) -> Client:
    return await aiohttp_client(
        make_app(ServerStored(rooms(), store=MemoryStore(), base=BASE), origins=[APP])
    )


async def test_an_answer_is_kept_by_no_cache_and_has_its_exact_type(client: Client) -> None:
    for response in (await ask(client), await ask(client, user=None), await ask(client, method="POST")):
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "private, no-cache, no-store, must-revalidate"
        assert response.headers["Vary"] == "Origin, Cookie"


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_issue_nothing(method: str, aiohttp_client: Any) -> None:
    def identify(request: web.Request) -> str:
        raise AssertionError("nobody asked for a token")

    client = await aiohttp_client(make_app(ClientStored(rooms(), base=BASE), identify=identify))
    response = await client.request(method, PATH)
    assert response.headers["Allow"] == "GET, POST, OPTIONS"
    if method in ("HEAD", "OPTIONS"):
        assert (response.status, await response.read()) == (200, b"")
    else:
        assert await error(response) == (405, 40500)


async def test_an_allowed_origin_may_read_answers_and_errors(client: Client) -> None:
    for user, status in (("alice", 200), (None, 403)):
        response = await ask(client, user=user, headers={"Origin": APP})
        assert response.status == status
        assert response.headers["Access-Control-Allow-Origin"] == APP
        assert response.headers["Access-Control-Allow-Credentials"] == "true"
        exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
        assert {
            "Ably-Denied",
            "Ably-Grant",
            "Ably-Reauthorize",
            "X-Ably-ErrorCode",
            "X-Ably-ErrorMessage",
        } <= set(exposed)


async def test_a_preflight_needs_no_sign_in(client: Client) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-app"}
    response = await client.options(PATH, headers={"Origin": APP, **asks})
    assert response.status == 200
    assert response.headers["Access-Control-Allow-Origin"] == APP
    assert response.headers["Access-Control-Allow-Headers"] == "authorization,x-app"
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert int(response.headers["Access-Control-Max-Age"]) > 0


FOREIGN = ["https://evil.example", "null", "", "http://[", "https://app.example.com.evil.example", "https://app.example.com:444",
           "http://app.example.com", "app.example.com", "https://evil.example/https://app.example.com"]  # fmt: skip


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
async def test_a_foreign_origin_is_refused_before_anything_is_read(
    origin: str, method: str, aiohttp_client: Any
) -> None:
    def identify(request: web.Request) -> str:
        raise AssertionError("a foreign request was looked into")

    client = await aiohttp_client(make_app(ClientStored(rooms()), identify=identify, origins=[APP]))
    response = await client.request(
        method, PATH, headers={"Origin": origin}, data=b"{" if method == "POST" else None
    )
    assert response.status == 403
    assert "Access-Control-Allow-Origin" not in response.headers
    if method != "HEAD":
        assert await error(response) == (403, 40300)


async def test_the_own_origin_is_allowed_also_behind_a_proxy_that_ends_tls(client: Client) -> None:
    own = client.make_url("/").authority
    for scheme in ("http", "https"):
        assert await granted(await ask(client, headers={"Origin": f"{scheme}://{own}"})) == BASE


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
async def test_a_link_or_image_of_another_site_is_refused(site: str, status: int, client: Client) -> None:
    response = await ask(client, {"chat:1": ["publish"]}, headers={"Sec-Fetch-Site": site})
    assert response.status == status
    assert ("chat:1" in await granted(await ask(client))) is (status == 200)


async def test_a_denied_ask_is_named_within_what_headers_hold(client: Client) -> None:
    few = {"chat:secret é": ["publish"]}
    assert denied(await ask(client, few)) == few
    many = {f"chat:secret{n}": ["publish"] for n in range(1000)}
    response = await ask(client, many, method="POST")
    named = denied(response)
    assert named.items() <= many.items()
    assert len(named) + int(response.headers["Ably-Denied-Omitted"]) == 1000
    assert len(response.headers["Ably-Denied"]) < 4096


REFUSALS = [BadRequest, TooLarge, CapabilityDenied, Forbidden, Unavailable]


@pytest.mark.parametrize("refusal", REFUSALS, ids=[one.__name__ for one in REFUSALS])
async def test_a_refusal_of_the_apps_own_is_answered_in_the_one_form(
    refusal: Any, aiohttp_client: Any
) -> None:
    async def refuse(auth: Any, requested: Any) -> Any:
        raise refusal("no: é\r\nSet-Cookie: a=b\x00" + "x" * 5000)

    client = await aiohttp_client(make_app(ClientStored(refuse)))
    response = await ask(client, {"chat:1": ["publish"]})
    assert await error(response) == (refusal.status, refusal.code)
    assert "Set-Cookie" not in response.headers
    assert response.headers["X-Ably-ErrorMessage"].startswith("no: \\xe9\\r\\nSet-Cookie")
    assert len(response.headers["X-Ably-ErrorMessage"]) <= 512


def test_no_refusal_has_a_code_that_sdks_take_for_a_token_error() -> None:
    refusals = [
        one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.AuthError)
    ]
    for refusal in refusals:
        assert not 40140 <= refusal.code <= 40149
        assert refusal.code not in (40102, 40171)
        assert 400 <= refusal.status < 600
        assert refusal.status != 403 or refusal.code == 40300


async def test_no_secret_is_in_an_answer_or_a_log(
    aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(auth: Any, requested: Any) -> Any:
        raise LookupError(auth, auth.key, auth.keys)

    caplog.set_level("DEBUG")
    client = await aiohttp_client(make_app(ClientStored(broken, base=BASE)))
    cookie = "SESSION=a-secret-of-the-client"
    body = await (await ask(client, {"chat:1": ["publish"]}, headers={"Cookie": cookie})).text()
    body += json.dumps(await (await ask(client)).json())
    assert "LookupError" in caplog.text
    for secret in (KEY.partition(":")[2], "a-secret-of-the-client"):
        assert secret not in body + caplog.text
