"""Signed grants: what the server signed for this client and nothing else, in cookie and header."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Any

import pytest
from aiohttp import CookieJar
from apps import BASE, KEY, OTHER_KEY, SECRET, Client, error, make_app, request_token, rooms, token_capability
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_ably import AuthRequest, Capability, ClientSigned, JWTStore, KeyRing, SignedStore
from aiohttp_ably.errors import InvalidCredential
from aiohttp_ably.stores import SignedGrants
from aiohttp_ably.tokens import sign_jwt

RING = KeyRing([KEY])
NAME = RING.newest.name
HELD = Capability({"chat:1": ["publish"]})
ROOM = {"chat:1": ["publish"]}
NOW = 1_800_000_000.0
DAY = 86_400


def signed(
    grants: SignedGrants, capability: Capability = HELD, client_id: str | None = "alice", **more: Any
) -> str:
    return grants.sign(client_id, NAME, capability, now=NOW, **more)[0]


def opened(text: str) -> tuple[str, dict[str, Any]]:
    """The payload as it travels, and what is in it, read without the code under test."""
    payload, _, _ = text.rpartition(".")
    packed = base64.urlsafe_b64decode(payload[1:] + "==")
    return payload, json.loads(zlib.decompress(packed) if payload[0] == "z" else packed)


@pytest.mark.parametrize("client_id", ["alice", "zoë:1", None])
@pytest.mark.parametrize("size", [1, 50])
def test_digest_is_hmac_sha256_over_client_id_and_payload(client_id: str | None, size: int) -> None:
    capability = Capability({f"chat:{n}": ["publish"] for n in range(size)})
    text = signed(SignedGrants(SECRET), capability, client_id)
    payload, members = opened(text)
    digest = hmac.new(SECRET.encode(), f"{client_id or ''}:{payload}".encode(), hashlib.sha256).digest()
    assert text == f"{payload}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
    assert members == {
        "capability": capability.to_dict(),
        "key": NAME,
        "issued": int(NOW),
        "expires": int(NOW) + DAY,
    }
    plain = json.dumps(members, separators=(",", ":")).encode()
    assert (payload[0] == "z") == (len(zlib.compress(plain)) < len(plain))


@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.parametrize("size", [1, 50])
def test_grant_with_a_changed_byte_does_not_verify(encrypt: bool, size: int) -> None:
    grants = SignedGrants(SECRET, encrypt=encrypt)
    text = signed(grants, Capability({f"chat:{n}": ["publish"] for n in range(size)}))
    assert len(grants.verify(text, "alice", RING, now=NOW).capability) == size
    for position, was in enumerate(text):
        for now in {"A", "_", ".", "é", chr(ord(was) ^ 1)} - {was}:
            with pytest.raises(InvalidCredential):
                grants.verify(text[:position] + now + text[position + 1 :], "alice", RING, now=NOW)
    for changed in (text[:-1], text[1:], text + "A", text + "=", "", ".", "."):
        with pytest.raises(InvalidCredential):
            grants.verify(changed, "alice", RING, now=NOW)


@given(st.text(max_size=60))
def test_arbitrary_text_does_not_verify(text: str) -> None:
    with pytest.raises(InvalidCredential):
        SignedGrants(SECRET).verify(text, "alice", RING, now=NOW)


def test_grant_verifies_for_its_client_and_key_only() -> None:
    grants = SignedGrants(SECRET)
    text = signed(grants)
    for client_id in ("bob", "alice:", "", None):
        with pytest.raises(InvalidCredential):
            grants.verify(text, client_id, RING, now=NOW)
    with pytest.raises(InvalidCredential, match="another Ably key"):
        grants.verify(text, "alice", KeyRing([OTHER_KEY]), now=NOW)
    assert grants.verify(text, "alice", KeyRing(["app1.key2:new-secret", KEY]), now=NOW).capability == HELD


@pytest.mark.parametrize("size", [1, 400])
@pytest.mark.parametrize("encrypt", [False, True])
def test_cached_grant_is_checked_again(encrypt: bool, size: int) -> None:
    grants = SignedGrants(SECRET, encrypt=encrypt)
    text = signed(grants, Capability({f"chat:{n}": ["publish"] for n in range(size)}))
    first = grants.verify(text, "alice", RING, now=NOW)
    assert grants.verify(text, "alice", RING, now=NOW + DAY - 1) == first
    assert not grants.verify(text, "alice", KeyRing(["app1.key2:new-secret", KEY]), now=NOW).is_current
    assert grants.verify(text, "alice", RING, now=NOW).is_current
    for client_id, ring, now in (
        ("bob", RING, NOW),
        ("alice", KeyRing([OTHER_KEY]), NOW),
        ("alice", RING, NOW + DAY),
    ):
        with pytest.raises(InvalidCredential):
            grants.verify(text, client_id, ring, now=now)
    with pytest.raises(InvalidCredential):
        grants.verify(text[:-1] + ("A" if text[-1] != "A" else "B"), "alice", RING, now=NOW)


@pytest.mark.parametrize("size", [1, 100])
async def test_cached_jwt_is_checked_again(size: int) -> None:
    carrier, capability = JWTStore(), Capability({f"chat:{n}": ["publish"] for n in range(size)})
    issuing = AuthRequest(client_id="alice", keys=RING, now=NOW)
    await carrier.change(issuing, add=capability)
    assert issuing.claims_for is not None
    token = sign_jwt(
        RING.newest,
        capability=capability,
        client_id="alice",
        issued=int(NOW),
        expires=int(NOW) + DAY,
        claims=issuing.claims_for(capability),
    )

    async def held(client_id: str, keys: KeyRing, now: float, text: str) -> Capability:
        return await carrier.load(
            AuthRequest(client_id=client_id, keys=keys, now=now, sent={"token": [text]})
        )

    changed = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]
    for client_id, ring, now, text, expected in (
        ("alice", RING, NOW, token, capability),
        ("alice", RING, NOW + DAY - 1, token, capability),
        ("bob", RING, NOW, token, Capability()),
        ("alice", KeyRing([OTHER_KEY]), NOW, token, Capability()),
        ("alice", RING, NOW + DAY, token, Capability()),
        ("alice", RING, NOW, changed, Capability()),
        ("alice", RING, NOW, token, capability),
    ):
        assert await held(client_id, ring, now, text) == expected


@pytest.mark.parametrize("encrypt", [False, True])
def test_newest_secret_signs_and_all_verify(encrypt: bool) -> None:
    old = SignedGrants(SECRET, encrypt=encrypt)
    both = SignedGrants(["a newer secret of the server", SECRET], encrypt=encrypt)
    new = SignedGrants("a newer secret of the server", encrypt=encrypt)
    assert both.verify(signed(old), "alice", RING, now=NOW).capability == HELD
    assert new.verify(signed(both), "alice", RING, now=NOW).capability == HELD
    with pytest.raises(InvalidCredential):
        new.verify(signed(old), "alice", RING, now=NOW)


def test_encrypted_grant_is_unreadable() -> None:
    text = signed(SignedGrants(SECRET, encrypt=True))
    assert text[0] == "e"
    assert b"chat" not in base64.urlsafe_b64decode(text.partition(".")[0][1:] + "==")
    with pytest.raises(InvalidCredential, match="encrypt=True"):
        SignedGrants(SECRET).verify(text, "alice", RING, now=NOW)


def test_grant_expires_and_its_renewals_end_at_the_limit() -> None:
    grants = SignedGrants(SECRET, lifetime=timedelta(hours=1), limit=timedelta(hours=3))
    text = signed(grants)
    assert grants.verify(text, "alice", RING, now=NOW + 3599).expires == NOW + 3600
    with pytest.raises(InvalidCredential, match="expired"):
        grants.verify(text, "alice", RING, now=NOW + 3600)
    _, late = grants.sign("alice", NAME, HELD, now=NOW + 3 * 3600 - 60, issued=int(NOW))
    assert late.expires == NOW + 3 * 3600


@pytest.mark.parametrize("secret", ["", "short", [], ["long enough to be a secret", "short"], b"short"])
def test_short_secret_is_refused(secret: Any) -> None:
    with pytest.raises(ValueError, match="token_urlsafe"):
        SignedGrants(secret)


def test_lifetime_is_a_second_at_least_and_no_longer_than_the_limit() -> None:
    with pytest.raises(ValueError, match="lifetime="):
        SignedGrants(SECRET, lifetime=timedelta(days=9))


class Browser:
    """A client with cookies, whose server's clock is set by the test."""

    def __init__(self, aiohttp_client: Any) -> None:
        self._start = aiohttp_client
        self.now = NOW
        self.client: Client

    async def open(self, **options: Any) -> Client:
        secure = options.pop("secure", None)
        strategy = ClientSigned(rooms(), store=SignedStore(SECRET, secure=secure, **options), base=BASE)
        app = make_app(strategy, clock=lambda: self.now)
        self.client = await self._start(app, cookie_jar=CookieJar(unsafe=True))
        return self.client


@pytest.fixture
def browser(aiohttp_client: Any) -> Browser:
    return Browser(aiohttp_client)


async def test_cookie_is_http_only_and_same_site_lax(browser: Browser) -> None:
    response = await request_token(await browser.open(), ROOM)
    cookie = SimpleCookie(response.headers["Set-Cookie"])["ably_grant"]
    attributes = {name: value for name, value in cookie.items() if value}
    assert attributes == {"httponly": True, "samesite": "Lax", "path": "/", "max-age": str(DAY)}


async def test_cookie_is_secure_when_the_server_wants_it(browser: Browser) -> None:
    response = await request_token(await browser.open(secure=True), ROOM)
    assert SimpleCookie(response.headers["Set-Cookie"])["ably_grant"]["secure"]


async def test_renewal_extends_the_grant_up_to_the_limit(browser: Browser) -> None:
    client = await browser.open(lifetime=timedelta(hours=1), limit=timedelta(hours=2))
    await request_token(client, ROOM)
    text = next(cookie.value for cookie in client.session.cookie_jar)
    for minutes, held in ((50, True), (100, True), (119, True), (120, False)):
        browser.now = NOW + minutes * 60
        response = await request_token(client, headers={"Cookie": f"ably_grant={text}"})
        assert ("chat:1" in await token_capability(response)) is held
        if "Set-Cookie" in response.headers:
            text = SimpleCookie(response.headers["Set-Cookie"])["ably_grant"].value


async def test_fresh_and_unchanged_cookie_is_not_sent_again(browser: Browser) -> None:
    client = await browser.open(lifetime=timedelta(hours=10))
    assert "Set-Cookie" in (await request_token(client, ROOM)).headers
    browser.now = NOW + 59 * 60
    for requested, renewed in ((None, False), (ROOM, False), ({"chat:2": ["subscribe"]}, True)):
        response = await request_token(client, requested)
        assert "chat:1" in await token_capability(response)
        assert ("Set-Cookie" in response.headers) is renewed
    browser.now += 61 * 60
    assert "Set-Cookie" in (await request_token(client)).headers


def test_grant_that_would_be_signed_differently_is_not_fresh() -> None:
    grants = SignedGrants(SECRET)
    text, newer = signed(grants), KeyRing(["app1.key2:another-secret-of-the-same-app", KEY])
    for others, ring, fresh in (
        (grants, RING, True),
        (SignedGrants([SECRET + " newer", SECRET]), RING, False),
        (SignedGrants(SECRET, encrypt=True), RING, False),
        (grants, newer, False),
    ):
        assert others.is_fresh(others.verify(text, "alice", ring, now=NOW), now=NOW) is fresh


async def test_changed_grant_is_ignored_and_logged(
    browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    client = await browser.open()
    response = await request_token(client, ROOM)
    text = SimpleCookie(response.headers["Set-Cookie"])["ably_grant"].value
    client.session.cookie_jar.clear()
    assert (
        await token_capability(await request_token(client, headers={"Cookie": f"ably_grant={text}x"})) == BASE
    )
    assert "a grant was ignored" in caplog.text
    assert text not in caplog.text


async def test_client_without_cookies_gets_its_grant_in_the_header(browser: Browser) -> None:
    client = await browser.open()
    response = await request_token(client, ROOM, headers={"Ably-Grant": ""})
    assert "Set-Cookie" not in response.headers
    held = response.headers["Ably-Grant"]
    response = await request_token(client, headers={"Ably-Grant": held})
    assert await token_capability(response) == {**BASE, **ROOM}
    assert response.headers["Ably-Grant"]
    assert (
        await token_capability(await request_token(client, user="bob", headers={"Ably-Grant": held})) == BASE
    )


@pytest.mark.parametrize("headers", [{}, {"Ably-Grant": ""}], ids=["cookie", "header"])
async def test_too_large_grant_is_refused_and_the_old_one_stays(
    headers: dict[str, str], browser: Browser
) -> None:
    client = await browser.open()
    names = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(200)]
    response = await request_token(client, ROOM, headers=headers)
    kept = {"Ably-Grant": response.headers["Ably-Grant"]} if headers else {}
    response = await request_token(
        client, {f"chat:{name}": ["publish"] for name in names}, method="POST", headers=kept
    )
    assert await error(response) == (413, 40009)
    assert "RedisStore" in (await response.json())["error"]["message"]
    assert "Set-Cookie" not in response.headers
    assert "Ably-Grant" not in response.headers
    assert await token_capability(await request_token(client, headers=kept)) == {**BASE, **ROOM}


async def test_two_grants_in_one_request_are_both_stored(browser: Browser, aiohttp_client: Any) -> None:
    from aiohttp import web

    from aiohttp_ably import get_auth

    async def join_two(request: web.Request) -> web.Response:
        auth = get_auth(request)
        await auth.grant({"chat:1": ["publish"]})
        await auth.grant({"chat:2": ["publish"]})
        return web.Response()

    app = make_app(ClientSigned(rooms(), secret=SECRET, base=BASE))
    app.router.add_post("/join", join_two)
    client = await aiohttp_client(app, cookie_jar=CookieJar(unsafe=True))
    response = await client.post("/join", headers={"X-User": "alice"})
    assert response.headers["Ably-Reauthorize"] == "1"
    assert len(response.headers.getall("Set-Cookie")) == 1
    assert await token_capability(await request_token(client)) == {**BASE, **ROOM, "chat:2": ["publish"]}
