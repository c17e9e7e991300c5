"""Signed grants: signing and verifying, and the cookie, header and JWT in which a client keeps them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from datetime import timedelta
from http.cookies import SimpleCookie
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import CookieJar, web
from apps import (
    BASE,
    KEY,
    OTHER_KEY,
    ROOM,
    SECRET,
    Client,
    error,
    make_app,
    request_token,
    rooms,
    token_capability,
)
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_ably import (
    AuthRequest,
    Capability,
    ClientSigned,
    JWTStore,
    KeyRing,
    SignedStore,
    TooLarge,
    get_auth,
)
from aiohttp_ably.errors import InvalidCredential
from aiohttp_ably.stores import Grant, SignedGrants
from aiohttp_ably.tokens import sign_jwt

RING = KeyRing([KEY])
NAME = RING.newest.name
GRANTED = Capability({"chat:1": ["publish"]})
NOW = 1_800_000_000.0
DAY = 86_400


def signed(
    grants: SignedGrants, capability: Capability = GRANTED, client_id: str | None = "alice", **more: Any
) -> str:
    return grants.sign(client_id, NAME, capability, now=NOW, **more)[0]


def opened(text: str) -> tuple[str, dict[str, Any]]:
    """The payload of a grant, and the JSON in it, read without the code under test."""
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
def test_grant_is_deflated_only_where_that_is_shorter(encrypt: bool) -> None:
    ring = KeyRing(["a.b:secret"])
    grants = SignedGrants(SECRET, lifetime=timedelta(seconds=1), encrypt=encrypt)
    for capability, letter in ((GRANTED, "j"), (Capability({f"chat:{n}": "*" for n in range(9)}), "z")):
        text, grant = grants.sign("alice", "a.b", capability, now=0)
        assert text[0] == ("e" if encrypt else letter)
        assert grants.verify(text, "alice", ring, now=0) == grant == Grant(capability, 0, 1, True)
        if not encrypt:
            members = {"capability": capability.to_dict(), "key": "a.b", "issued": 0, "expires": 1}
            assert opened(text)[1] == members


@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.parametrize("size", [1, 50])
def test_grant_with_a_changed_byte_does_not_verify(encrypt: bool, size: int) -> None:
    grants = SignedGrants(SECRET, encrypt=encrypt)
    text = signed(grants, Capability({f"chat:{n}": ["publish"] for n in range(size)}))
    assert len(grants.verify(text, "alice", RING, now=NOW).capability) == size
    for position, old in enumerate(text):
        for new in {"A", "_", ".", "é", chr(ord(old) ^ 1)} - {old}:
            with pytest.raises(InvalidCredential, match="was not signed here"):
                grants.verify(text[:position] + new + text[position + 1 :], "alice", RING, now=NOW)
    for changed in (text[:-1], text[1:], text + "A", text + "=", "", ".", ".."):
        with pytest.raises(InvalidCredential, match="was not signed here"):
            grants.verify(changed, "alice", RING, now=NOW)


@given(st.text(max_size=60))
def test_arbitrary_text_does_not_verify(text: str) -> None:
    with pytest.raises(InvalidCredential, match="was not signed here"):
        SignedGrants(SECRET).verify(text, "alice", RING, now=NOW)


@pytest.mark.parametrize("text", ["\udcff", "a.\udcff", "\udcff.a", "\udcff.\udcff"])
def test_bytes_that_are_not_utf8_do_not_verify(text: str) -> None:
    with pytest.raises(InvalidCredential, match="was not signed here"):
        SignedGrants(SECRET).verify(text, "alice", RING, now=NOW)


def test_grant_verifies_for_its_client_and_key_only() -> None:
    grants = SignedGrants(SECRET)
    text = signed(grants)
    for client_id in ("bob", "alice:", "", None):
        with pytest.raises(InvalidCredential, match="was not signed here for this client"):
            grants.verify(text, client_id, RING, now=NOW)
    with pytest.raises(InvalidCredential, match="another Ably key"):
        grants.verify(text, "alice", KeyRing([OTHER_KEY]), now=NOW)
    assert grants.verify(text, "alice", KeyRing(["app1.key2:new-secret", KEY]), now=NOW).capability == GRANTED


@pytest.mark.parametrize("size", [1, 400])
@pytest.mark.parametrize("encrypt", [False, True])
def test_cached_grant_is_checked_again(encrypt: bool, size: int) -> None:
    grants = SignedGrants(SECRET, encrypt=encrypt)
    text = signed(grants, Capability({f"chat:{n}": ["publish"] for n in range(size)}))
    first = grants.verify(text, "alice", RING, now=NOW)
    assert grants.verify(text, "alice", RING, now=NOW + DAY - 1) == first
    assert not grants.verify(text, "alice", KeyRing(["app1.key2:new-secret", KEY]), now=NOW).is_current
    assert grants.verify(text, "alice", RING, now=NOW).is_current
    for client_id, ring, now, message in (
        ("bob", RING, NOW, "was not signed here for this client"),
        ("alice", KeyRing([OTHER_KEY]), NOW, "another Ably key"),
        ("alice", RING, NOW + DAY, "has expired"),
    ):
        with pytest.raises(InvalidCredential, match=message):
            grants.verify(text, client_id, ring, now=now)
    with pytest.raises(InvalidCredential, match="was not signed here"):
        grants.verify(text[:-1] + ("A" if text[-1] != "A" else "B"), "alice", RING, now=NOW)


@pytest.mark.parametrize("size", [1, 100])
async def test_cached_jwt_is_checked_again(size: int) -> None:
    store, capability = JWTStore(), Capability({f"chat:{n}": ["publish"] for n in range(size)})
    issuing = AuthRequest(client_id="alice", keys=RING, now=NOW)
    await store.change(issuing, add=capability)
    assert issuing.claims_for is not None
    token = sign_jwt(
        RING.newest,
        capability=capability,
        client_id="alice",
        issued=int(NOW),
        expires=int(NOW) + DAY,
        claims=issuing.claims_for(capability),
    )

    async def loaded(client_id: str, keys: KeyRing, now: float, text: str) -> Capability:
        return await store.load(AuthRequest(client_id=client_id, keys=keys, now=now, sent={"token": [text]}))

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
        assert await loaded(client_id, ring, now, text) == expected


@pytest.mark.parametrize("encrypt", [False, True])
def test_newest_secret_signs_and_all_verify(encrypt: bool) -> None:
    old = SignedGrants(SECRET, encrypt=encrypt)
    both = SignedGrants(["a newer secret of the server", SECRET], encrypt=encrypt)
    new = SignedGrants("a newer secret of the server", encrypt=encrypt)
    assert both.verify(signed(old), "alice", RING, now=NOW).capability == GRANTED
    assert new.verify(signed(both), "alice", RING, now=NOW).capability == GRANTED
    with pytest.raises(InvalidCredential, match="was not signed here"):
        new.verify(signed(old), "alice", RING, now=NOW)
    for secrets in ([SECRET], (SECRET.encode(),), iter([SECRET]), SECRET.encode()):
        assert SignedGrants(secrets).verify(signed(SignedGrants(SECRET)), "alice", RING, now=NOW)


def test_encrypted_grant_is_unreadable() -> None:
    text = signed(SignedGrants(SECRET, encrypt=True))
    assert text[0] == "e"
    assert "=" not in text
    assert b"chat" not in base64.urlsafe_b64decode(text.partition(".")[0][1:] + "==")
    with pytest.raises(InvalidCredential, match="encrypt=True"):
        SignedGrants(SECRET).verify(text, "alice", RING, now=NOW)


@pytest.mark.parametrize("size", [*range(1, 20), 50])
def test_encrypted_grant_is_fernet_under_a_key_derived_from_the_secret(size: int) -> None:
    """A server of another release reads it as well, so the derivation does not change."""
    capability = Capability({f"chat:{'x' * n}": ["publish"] for n in range(size)})
    grants = SignedGrants(SECRET, lifetime=timedelta(seconds=1), encrypt=True)
    text, _ = grants.sign("alice", "a.b", capability, now=0)
    payload, _, _ = text.rpartition(".")
    assert "=" not in payload
    derived = HKDF(SHA256(), length=32, salt=None, info=b"aiohttp-ably grant encryption")
    fernet = Fernet(base64.urlsafe_b64encode(derived.derive(SECRET.encode())))
    packed = fernet.decrypt(payload[1:] + "=" * (-len(payload[1:]) % 4))
    plain = packed if packed.startswith(b"{") else zlib.decompress(packed)
    assert json.loads(plain)["capability"] == capability.to_dict()
    assert len(packed) == min(len(plain), len(zlib.compress(plain)))


def test_grant_expires_and_its_renewals_end_at_the_limit() -> None:
    grants = SignedGrants(SECRET, lifetime=timedelta(hours=1), limit=timedelta(hours=3))
    text = signed(grants)
    assert grants.verify(text, "alice", RING, now=NOW + 3599.9).expires == NOW + 3600
    with pytest.raises(InvalidCredential, match="expired"):
        grants.verify(text, "alice", RING, now=NOW + 3600)
    for seconds, expires in (
        (2 * 3600 - 1, 3 * 3600 - 1),
        (2 * 3600 + 1, 3 * 3600),
        (3 * 3600 - 60, 3 * 3600),
    ):
        late, grant = grants.sign("alice", NAME, GRANTED, now=NOW + seconds, issued=int(NOW))
        assert grant == Grant(GRANTED, int(NOW), int(NOW) + expires, True)
        assert grants.verify(late, "alice", RING, now=NOW + seconds) == grant


def test_lower_limit_counts_for_grants_that_were_signed_before() -> None:
    text = signed(SignedGrants(SECRET, lifetime=timedelta(hours=3), limit=timedelta(hours=3)))
    lower = SignedGrants(SECRET, lifetime=timedelta(hours=1), limit=timedelta(hours=1))
    assert lower.verify(text, "alice", RING, now=NOW + 3599.9).capability == GRANTED
    with pytest.raises(InvalidCredential, match="expired"):
        lower.verify(text, "alice", RING, now=NOW + 3600)


def test_series_of_renewals_starts_now_unless_it_started_before() -> None:
    _, grant = SignedGrants(SECRET).sign("alice", NAME, GRANTED, now=NOW + 0.9)
    assert grant == Grant(GRANTED, int(NOW), int(NOW) + DAY, True)


@pytest.mark.parametrize(
    "secret", ["", "short", "x" * 15, "é" * 7, [], ["long enough to be a secret", "x" * 15], b"x" * 15]
)
def test_short_secret_is_refused(secret: Any) -> None:
    with pytest.raises(ValueError, match=r"at least 16 bytes; make one with secrets\.token_urlsafe"):
        SignedGrants(secret)


@pytest.mark.parametrize("secret", ["x" * 16, "é" * 8, b"x" * 16, ["x" * 16, b"y" * 16], bytearray(16)])
def test_secret_of_16_bytes_is_accepted(secret: Any) -> None:
    grants = SignedGrants([secret] if isinstance(secret, bytearray) else secret)
    assert grants.verify(signed(grants), "alice", RING, now=NOW).capability == GRANTED


def test_lifetime_is_a_second_at_least_and_no_longer_than_the_limit() -> None:
    second = timedelta(seconds=1)
    for lifetime, limit in (
        (second, second),
        (second, timedelta(days=9)),
        (timedelta(days=9), timedelta(days=9)),
    ):
        grants = SignedGrants(SECRET, lifetime=lifetime, limit=limit)
        assert (grants.lifetime, grants.limit) == (lifetime.total_seconds(), limit.total_seconds())
    for lifetime, limit in ((timedelta(days=7, seconds=1), timedelta(days=7)), (second * 0.999, second)):
        with pytest.raises(
            ValueError, match="lifetime= must be at least a second, and no longer than limit="
        ):
            SignedGrants(SECRET, lifetime=lifetime, limit=limit)
    default = SignedGrants(SECRET)
    assert (default.lifetime, default.limit) == (DAY, 7 * DAY)
    stored = SignedStore(SECRET).grants
    assert (stored.lifetime, stored.limit) == (DAY, 7 * DAY)


def test_grant_is_fresh_until_a_tenth_of_its_lifetime_has_passed() -> None:
    grants = SignedGrants(SECRET, lifetime=timedelta(seconds=1000))
    grant = grants.verify(signed(grants), "alice", RING, now=NOW)
    for seconds, fresh in ((0, True), (99.9, True), (100, False), (999, False)):
        assert grants.is_fresh(grant, now=NOW + seconds) is fresh


@pytest.mark.parametrize(("limit", "fresh"), [(1000, True), (1099, True), (1100, False), (2000, False)])
def test_grant_that_a_renewal_would_hardly_extend_is_fresh(limit: int, fresh: bool) -> None:
    grants = SignedGrants(SECRET, lifetime=timedelta(seconds=1000), limit=timedelta(seconds=limit))
    grant = grants.verify(signed(grants), "alice", RING, now=NOW)
    assert grants.is_fresh(grant, now=NOW + 900) is fresh


class Browser:
    """A client with cookies, and an app whose clock the test sets."""

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
    for minutes, is_granted in ((50, True), (100, True), (119, True), (120, False)):
        browser.now = NOW + minutes * 60
        response = await request_token(client, headers={"Cookie": f"ably_grant={text}"})
        assert ("chat:1" in await token_capability(response)) is is_granted
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
    assert "a grant was ignored: the grant was not signed here for this client" in caplog.text
    assert text not in caplog.text


async def test_client_without_cookies_gets_its_grant_in_the_header(browser: Browser) -> None:
    client = await browser.open()
    response = await request_token(client, ROOM, headers={"Ably-Grant": ""})
    assert "Set-Cookie" not in response.headers
    grant = response.headers["Ably-Grant"]
    response = await request_token(client, headers={"Ably-Grant": grant})
    assert await token_capability(response) == {**BASE, **ROOM}
    assert response.headers["Ably-Grant"]
    assert (
        await token_capability(await request_token(client, user="bob", headers={"Ably-Grant": grant})) == BASE
    )


@pytest.mark.parametrize("headers", [{}, {"Ably-Grant": ""}], ids=["cookie", "header"])
async def test_too_large_grant_is_refused_and_the_old_one_stays(
    headers: dict[str, str], browser: Browser
) -> None:
    client = await browser.open()
    names = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(200)]
    response = await request_token(client, ROOM, headers=headers)
    sent = {"Ably-Grant": response.headers["Ably-Grant"]} if headers else {}
    response = await request_token(
        client, {f"chat:{name}": ["publish"] for name in names}, method="POST", headers=sent
    )
    assert await error(response) == (413, 40009)
    assert "RedisStore" in (await response.json())["error"]["message"]
    assert "Set-Cookie" not in response.headers
    assert "Ably-Grant" not in response.headers
    assert await token_capability(await request_token(client, headers=sent)) == {**BASE, **ROOM}


async def test_two_grants_in_one_request_are_both_stored(browser: Browser, aiohttp_client: Any) -> None:
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


def request_of(
    *, secure: bool = False, cookies: Any = None, headers: Any = None, **members: Any
) -> AuthRequest:
    """A request to a store, without a server."""
    request: Any = SimpleNamespace(secure=secure, cookies=cookies or {}, headers=headers or {})
    return AuthRequest(request, client_id="alice", keys=RING, now=NOW, **members)


@pytest.mark.parametrize(
    ("option", "over_https", "expected"),
    [(None, False, False), (None, True, True), (True, False, True), (False, True, False)],
)
async def test_cookie_is_secure_over_https_unless_the_option_says_otherwise(
    option: bool | None, over_https: bool, expected: bool
) -> None:
    auth = request_of(secure=over_https)
    await SignedStore(SECRET, secure=option).change(auth, add=GRANTED)
    cookie = SimpleCookie(auth.reply["Set-Cookie", "ably_grant"])["ably_grant"]
    assert bool(cookie["secure"]) is expected


async def test_cookie_has_the_configured_name_domain_and_lifetime() -> None:
    auth = request_of()
    lifetime = timedelta(minutes=5)
    await SignedStore(SECRET, cookie="mine", domain="example.com", lifetime=lifetime).change(
        auth, add=GRANTED
    )
    cookie = SimpleCookie(auth.reply["Set-Cookie", "mine"])["mine"]
    attributes = {name: value for name, value in cookie.items() if value}
    assert attributes == {
        "httponly": True, "samesite": "Lax", "path": "/", "max-age": "300", "domain": "example.com"
    }  # fmt: skip


async def test_cookie_may_have_4096_bytes_with_its_attributes() -> None:
    auth = request_of()
    await SignedStore(SECRET).change(auth, add=GRANTED)
    spare = 4096 - len(auth.reply["Set-Cookie", "ably_grant"])
    for more in (0, 1):
        name, auth = "ably_grant" + "x" * (spare + more), request_of()
        store = SignedStore(SECRET, cookie=name)
        if not more:
            await store.change(auth, add=GRANTED)
            assert len(auth.reply["Set-Cookie", name]) == 4096
            continue
        with pytest.raises(TooLarge, match=r"a cookie of 4097 bytes, and 4096 is the limit; .*RedisStore"):
            await store.change(auth, add=GRANTED)
        assert not auth.reply
        assert await store.load(auth) == Capability()


async def test_header_may_have_8000_bytes() -> None:
    letters = "".join(base64.b64encode(hashlib.sha256(str(n).encode()).digest()).decode() for n in range(200))
    texts = (letters[:size] for size in range(7700, 8000))
    grants = {len(signed(SignedGrants(SECRET), Capability({text: "publish"}))): text for text in texts}
    auth = request_of(headers={"Ably-Grant": ""})
    await SignedStore(SECRET).change(auth, add=Capability({grants[8000]: "publish"}))
    assert len(auth.reply["Ably-Grant", ""]) == 8000
    auth = request_of(headers={"Ably-Grant": ""})
    with pytest.raises(TooLarge, match="a header of 8001 bytes, and 8000 is the limit"):
        await SignedStore(SECRET).change(auth, add=Capability({grants[8001]: "publish"}))
    assert not auth.reply


async def test_grant_in_the_header_counts_and_not_the_one_in_the_cookie() -> None:
    grants = SignedGrants(SECRET)
    in_cookie = {"ably_grant": signed(grants, Capability({"cookie": "publish"}))}
    in_header = signed(grants, Capability({"header": "publish"}))
    store = SignedStore(SECRET)
    for headers, expected in (
        ({}, ["cookie"]), ({"Ably-Grant": in_header}, ["header"]), ({"Ably-Grant": ""}, [])
    ):  # fmt: skip
        assert list(await store.load(request_of(cookies=in_cookie, headers=headers))) == expected


async def test_renewed_grant_keeps_the_start_of_its_series() -> None:
    grants = SignedGrants(SECRET)
    auth = request_of(headers={"Ably-Grant": signed(grants)})
    auth.now = NOW + 1000
    await SignedStore(SECRET).change(auth)
    _, members = opened(auth.reply["Ably-Grant", ""])
    assert (members["issued"], members["expires"]) == (int(NOW), int(NOW) + 1000 + DAY)


def grant_jwt(claims: Any, *, capability: Capability = GRANTED, expires: int = int(NOW) + DAY) -> str:
    return sign_jwt(
        RING.newest, capability=capability, client_id="alice", issued=int(NOW), expires=expires, claims=claims
    )


ISSUED = {"aiohttp-ably.grant-issued": int(NOW)}
WEEK = 7 * DAY
JWTS: list[tuple[str, str, float, list[str]]] = [
    ("a grant", grant_jwt(ISSUED), NOW, ["chat:1"]),
    (
        "a grant beside a base",
        grant_jwt(
            {**ISSUED, "aiohttp-ably.granted": {"lobby": []}},
            capability=Capability({"chat:1": ["publish"], "lobby": ["subscribe"]}),
        ),
        NOW,
        ["chat:1"],
    ),
    ("nothing beside a base", grant_jwt({**ISSUED, "aiohttp-ably.granted": {"chat:1": []}}), NOW, []),
    ("expires a moment later", grant_jwt(ISSUED, expires=int(NOW) + 1), NOW + 0.9, ["chat:1"]),
    ("expired", grant_jwt(ISSUED, expires=int(NOW) + 1), NOW + 1, []),
    ("a second under the limit", grant_jwt(ISSUED, expires=int(NOW) + 2 * WEEK), NOW + WEEK - 1, ["chat:1"]),
    ("at the limit", grant_jwt(ISSUED, expires=int(NOW) + 2 * WEEK), NOW + WEEK, []),
    ("a JWT that is no grant", grant_jwt({}), NOW, []),
    ("a start that is a string", grant_jwt({"aiohttp-ably.grant-issued": "now"}), NOW, []),
    ("a grant that is not a capability", grant_jwt({**ISSUED, "aiohttp-ably.granted": ["chat:2"]}), NOW, []),
]


@pytest.mark.parametrize(("token", "now", "granted"), [row[1:] for row in JWTS], ids=[row[0] for row in JWTS])
async def test_jwt_grants_what_its_claims_say(token: str, now: float, granted: list[str]) -> None:
    for sent in ({"headers": {"Ably-Grant": token}}, {"sent": {"token": ["other", token]}}):
        auth = request_of(**sent)
        auth.now = now
        assert list(await JWTStore().load(auth)) == granted


async def test_jwt_in_the_header_counts_and_not_the_param() -> None:
    other = grant_jwt(ISSUED, capability=Capability({"other": "publish"}))
    auth = request_of(headers={"Ably-Grant": grant_jwt(ISSUED)}, sent={"token": [other]})
    assert await JWTStore().load(auth) == GRANTED
    assert await JWTStore().load(request_of(sent={"token": [5]})) == Capability()


async def test_claims_of_a_jwt_separate_the_grant_from_the_base() -> None:
    store, auth = JWTStore(limit=timedelta(hours=1)), request_of(headers={"Ably-Grant": grant_jwt(ISSUED)})
    auth.now = NOW + 1000
    granted = await store.change(auth, add=Capability({"chat:2": "publish"}))
    assert auth.claims_for is not None
    assert auth.claims_for(granted) == ISSUED
    base = Capability({"lobby": ["subscribe"], "chat:2": ["*"]})
    claims = auth.claims_for(granted | base)
    assert claims == {**ISSUED, "aiohttp-ably.granted": {"lobby": [], "chat:2": ["publish"]}}
    token = grant_jwt(claims, capability=granted | base)
    assert await store.load(request_of(headers={"Ably-Grant": token})) == granted
    auth.now = NOW + 3600
    auth.store_state = None
    assert await store.load(auth) == Capability()
