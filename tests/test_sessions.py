"""SessionStore: grants in a session belong to a client and a key, and always fit the cookie of the session."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from types import SimpleNamespace
from typing import Any

import aiohttp_session
import pytest
from aiohttp import ClientError, CookieJar, DummyCookieJar, web
from aiohttp_session import SimpleCookieStorage
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from apps import (
    BASE,
    KEY,
    OTHER_KEY,
    ROOM,
    Client,
    auth_of,
    error,
    install,
    request_token,
    rooms,
    token_capability,
)
from cryptography.fernet import Fernet

from aiohttp_ably import KeyRing, ServerStored, SessionStore, UsageError, get_auth

STORAGES = {
    "simple": SimpleCookieStorage,
    "encrypted": lambda: EncryptedCookieStorage(Fernet(Fernet.generate_key())),
}


@pytest.fixture(params=list(STORAGES))
async def client(request: pytest.FixtureRequest, aiohttp_client: Any) -> Client:
    app = web.Application()
    aiohttp_session.setup(app, STORAGES[request.param]())
    install(app, ServerStored(rooms(), store=SessionStore(), base=BASE))
    return await aiohttp_client(app, cookie_jar=CookieJar(unsafe=True))


async def test_granted_capability_is_stored_in_the_session(client: Client) -> None:
    response = await request_token(client, ROOM)
    assert "AIOHTTP_SESSION" in response.cookies
    assert await token_capability(await request_token(client)) == {**BASE, **ROOM}


@pytest.mark.parametrize("again", [None, ROOM, {"chat:secret": ["publish"]}, {"lobby": ["subscribe"]}])
async def test_request_that_changes_nothing_sets_no_cookie(again: Any, client: Client) -> None:
    assert "Set-Cookie" not in (await request_token(client)).headers
    await request_token(client, ROOM)
    response = await request_token(client, again)
    assert response.status == 200
    assert "Set-Cookie" not in response.headers
    response = await request_token(client, params={"drop": "chat:9"})
    assert "Set-Cookie" not in response.headers


async def test_grant_does_not_count_for_another_client_in_the_same_session(client: Client) -> None:
    await request_token(client, ROOM, user="alice")
    assert await token_capability(await request_token(client, user="bob")) == BASE
    await request_token(client, {"chat:2": ["publish"]}, user="bob")
    assert await token_capability(await request_token(client, user="alice")) == BASE


async def test_session_too_large_for_its_cookie_is_refused_and_the_old_one_stays(client: Client) -> None:
    await request_token(client, ROOM)
    names = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(60)]
    response = await request_token(client, {f"chat:{name}": ["publish"] for name in names}, method="POST")
    assert await error(response) == (413, 40009)
    assert "Set-Cookie" not in response.headers
    assert await token_capability(await request_token(client)) == {**BASE, **ROOM}


async def test_every_accepted_session_fits_the_cookie_limit_of_browsers(client: Client) -> None:
    """Request room after room until one is refused: every cookie before fits."""
    for number in range(400):
        room = hashlib.sha256(str(number).encode()).hexdigest()
        response = await request_token(client, {f"chat:{room}": ["publish"]})
        if response.status != 200:
            break
        assert len(response.headers["Set-Cookie"]) <= 4096
    assert await error(response) == (413, 40009)
    assert len(await token_capability(await request_token(client))) == number + 1


async def test_grants_of_handlers_are_stored_in_the_session(client: Client) -> None:
    response = await client.post("/grant", json={"chat:7": ["publish"]}, headers={"X-User": "alice"})
    assert response.headers["Ably-Reauthorize"] == "1"
    assert await token_capability(await request_token(client)) == {**BASE, "chat:7": ["publish"]}
    response = await client.post("/grant", json={"chat:7": ["publish"]}, headers={"X-User": "alice"})
    assert "Ably-Reauthorize" not in response.headers
    assert "Set-Cookie" not in response.headers
    response = await client.post("/withdraw", json=["chat:7"], headers={"X-User": "alice"})
    assert response.headers["Ably-Reauthorize"] == "1"
    assert await token_capability(await request_token(client)) == BASE


@pytest.mark.parametrize("storage", STORAGES)
async def test_session_entry_belongs_to_the_key_and_follows_its_rotation(
    storage: str, aiohttp_client: Any
) -> None:
    keys: Any = KEY
    app = web.Application()
    aiohttp_session.setup(app, STORAGES[storage]())
    install(app, ServerStored(rooms(), store=SessionStore(), base=BASE), key=lambda request: keys)
    client = await aiohttp_client(app, cookie_jar=CookieJar(unsafe=True))
    await request_token(client, ROOM)

    keys = KeyRing(["app1.key2:the-new-secret", KEY])
    assert await token_capability(await request_token(client)) == {**BASE, **ROOM}
    keys = "app1.key2:the-new-secret"
    assert await token_capability(await request_token(client)) == {**BASE, **ROOM}
    keys = OTHER_KEY
    assert await token_capability(await request_token(client)) == BASE


class Loads:
    """Counts how often a session is loaded from its cookie."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        load = EncryptedCookieStorage.load_session

        async def counted(storage: EncryptedCookieStorage, request: web.Request) -> aiohttp_session.Session:
            self.count += 1
            return await load(storage, request)

        monkeypatch.setattr(EncryptedCookieStorage, "load_session", counted)


async def encrypted(
    aiohttp_client: Any, *, max_age: int | None = None, store: SessionStore | None = None, **options: Any
) -> Client:
    app = web.Application()
    aiohttp_session.setup(app, EncryptedCookieStorage(Fernet(Fernet.generate_key()), max_age=max_age))
    install(app, ServerStored(rooms(), store=store or SessionStore(), base=BASE), **options)
    return await aiohttp_client(app, cookie_jar=DummyCookieJar())


async def test_decrypted_cookie_is_cached(aiohttp_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await encrypted(aiohttp_client)
    first = (await request_token(client, ROOM)).cookies["AIOHTTP_SESSION"].value
    loads = Loads(monkeypatch)
    for _ in range(3):
        assert await token_capability(await request_token(client, cookies={"AIOHTTP_SESSION": first})) == {
            **BASE,
            **ROOM,
        }
    assert loads.count == 1
    second = (
        await request_token(client, {"chat:2": ["publish"]}, cookies={"AIOHTTP_SESSION": first})
    ).cookies
    both = {**BASE, **ROOM, "chat:2": ["publish"]}
    assert (
        await token_capability(
            await request_token(client, cookies={"AIOHTTP_SESSION": second["AIOHTTP_SESSION"].value})
        )
        == both
    )
    assert await token_capability(await request_token(client, cookies={"AIOHTTP_SESSION": first})) == {
        **BASE,
        **ROOM,
    }
    assert (
        await token_capability(await request_token(client, cookies={"AIOHTTP_SESSION": first}, user="bob"))
        == BASE
    )


async def test_cache_of_decrypted_cookies_is_limited(
    aiohttp_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await encrypted(aiohttp_client)
    cookies = [
        {"AIOHTTP_SESSION": (await request_token(client, ROOM)).cookies["AIOHTTP_SESSION"].value}
        for _ in range(257)
    ]
    for one in cookies:
        await request_token(client, cookies=one)
    loads = Loads(monkeypatch)
    for number, count in ((256, 0), (0, 1), (256, 1)):
        assert await token_capability(await request_token(client, cookies=cookies[number])) == {
            **BASE,
            **ROOM,
        }
        assert loads.count == count


async def test_cached_session_expires(aiohttp_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await encrypted(aiohttp_client, max_age=60)
    began = time.time()
    monkeypatch.setattr(time, "time", lambda: began)
    cookie = {"AIOHTTP_SESSION": (await request_token(client, ROOM)).cookies["AIOHTTP_SESSION"].value}
    loads = Loads(monkeypatch)
    granted = {**BASE, **ROOM}
    for seconds, expected, count in ((0, granted, 1), (60, granted, 1), (61, BASE, 2), (62, BASE, 3)):
        monkeypatch.setattr(time, "time", lambda now=began + seconds: now)
        assert await token_capability(await request_token(client, cookies=cookie)) == expected
        assert loads.count == count


async def test_cached_session_of_one_app_does_not_count_for_another(aiohttp_client: Any) -> None:
    store = SessionStore()
    client = await encrypted(aiohttp_client, store=store)
    cookie = {"AIOHTTP_SESSION": (await request_token(client, ROOM)).cookies["AIOHTTP_SESSION"].value}
    assert await token_capability(await request_token(client, cookies=cookie)) == {**BASE, **ROOM}
    other = await encrypted(aiohttp_client, store=store)
    assert await token_capability(await request_token(other, cookies=cookie)) == BASE


async def test_change_of_a_cached_session_in_the_same_request_counts(aiohttp_client: Any) -> None:
    async def identify(request: web.Request) -> str | None:
        if "X-Forget" in request.headers:
            (await aiohttp_session.get_session(request)).clear()
        return request.headers.get("X-User")

    client = await encrypted(aiohttp_client, identify=identify)
    cookie = {"AIOHTTP_SESSION": (await request_token(client, ROOM)).cookies["AIOHTTP_SESSION"].value}
    for headers, expected in (({}, {**BASE, **ROOM}), ({"X-Forget": "1"}, BASE), ({}, {**BASE, **ROOM})):
        assert (
            await token_capability(await request_token(client, cookies=cookie, headers=headers)) == expected
        )


@pytest.mark.parametrize("entry", [5, {}, {"client": "alice", "key": "app1.key1", "capability": "chat"}])
async def test_malformed_session_entry_grants_nothing(
    entry: Any, aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = web.Application()
    aiohttp_session.setup(app, SimpleCookieStorage())
    install(app, ServerStored(rooms(), store=SessionStore(), base=BASE))
    client = await aiohttp_client(app)
    session = json.dumps({"created": 4_000_000_000, "session": {"ably": entry}})
    assert await token_capability(await request_token(client, cookies={"AIOHTTP_SESSION": session})) == BASE
    if isinstance(entry, dict):
        assert "the session's entry 'ably' is not a capability; it is ignored" in caplog.text


async def test_missing_sessions_are_explained_in_the_log(
    aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = web.Application()
    install(app, ServerStored(rooms(), store=SessionStore(), base=BASE))
    client = await aiohttp_client(app)
    assert await error(await request_token(client)) == (503, 50300)
    assert "aiohttp_session.setup(app, storage) before" in caplog.text


@pytest.mark.parametrize("kind", ["stream", "unsent stream", "websocket"])
async def test_grant_that_the_session_would_not_save_is_an_error_before_the_response_is_sent(
    kind: str, aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await get_auth(request).grant(ROOM)
        response: Any = web.WebSocketResponse() if kind == "websocket" else web.StreamResponse()
        if kind != "unsent stream":
            await response.prepare(request)
        return response

    app = web.Application()
    aiohttp_session.setup(app, SimpleCookieStorage())
    install(app, ServerStored(rooms(), store=SessionStore(), base=BASE))
    app.router.add_get("/handler", handler)
    client = await aiohttp_client(app)
    headers = {"X-User": "alice"}
    call = client.ws_connect if kind == "websocket" else client.get
    with pytest.raises(ClientError):
        await call("/handler", headers=headers, **({} if kind == "websocket" else {"raise_for_status": True}))
    assert "plain response" in caplog.text


async def session_client(aiohttp_client: Any, storage: Any, store: SessionStore) -> Client:
    app = web.Application()
    aiohttp_session.setup(app, storage)
    install(app, ServerStored(rooms(), store=store, base=BASE))
    return await aiohttp_client(app)


@pytest.mark.parametrize("max_age", [None, 86_400])
async def test_session_cookie_may_have_4096_bytes_with_its_attributes(
    max_age: int | None, aiohttp_client: Any
) -> None:
    def storage(name: str) -> SimpleCookieStorage:
        return SimpleCookieStorage(cookie_name=name, max_age=max_age)

    first = await session_client(aiohttp_client, storage("s"), SessionStore())
    spare = 4096 - len((await request_token(first, ROOM)).headers["Set-Cookie"])
    exact = storage("s" + "x" * spare)
    response = await request_token(await session_client(aiohttp_client, exact, SessionStore()), ROOM)
    assert len(response.headers["Set-Cookie"]) == 4096
    over = storage("s" + "x" * (spare + 1))
    response = await request_token(await session_client(aiohttp_client, over, SessionStore()), ROOM)
    assert await error(response) == (413, 40009)
    assert "of 4097 bytes, and 4096 is the limit" in (await response.json())["error"]["message"]


async def test_length_is_that_of_the_session_that_the_storage_of_the_app_saves(aiohttp_client: Any) -> None:
    saved: list[tuple[web.Request, object, bool]] = []

    class Storage(SimpleCookieStorage):
        async def load_session(self, request: web.Request) -> aiohttp_session.Session:
            return aiohttp_session.Session("session 1", data=None, new=True)

        async def save_session(
            self, request: web.Request, response: web.StreamResponse, session: aiohttp_session.Session
        ) -> None:
            saved.append((request, session.identity, session.new))
            await super().save_session(request, response, session)

    await request_token(await session_client(aiohttp_client, Storage(), SessionStore()), ROOM)
    measured, sent = saved
    assert measured[0] is sent[0]
    assert measured[1:] == sent[1:] == ("session 1", True)


class OwnStorage(SimpleCookieStorage):
    """A storage of an app, with a cookie that is too long for browsers."""

    def __init__(self) -> None:
        super().__init__(cookie_name="x" * 4096)


def other_storage() -> aiohttp_session.AbstractStorage:
    """A storage of an app that is not one of the cookie storages of aiohttp-session."""

    class Storage(aiohttp_session.AbstractStorage):
        async def load_session(self, request: web.Request) -> aiohttp_session.Session:
            return aiohttp_session.Session(None, data=None, new=True)

        async def save_session(
            self, request: web.Request, response: web.StreamResponse, session: aiohttp_session.Session
        ) -> None:
            self.save_cookie(response, self._encoder(self._get_session_data(session)))

    return Storage(cookie_name="x" * 4096)


def nacl_storage() -> aiohttp_session.AbstractStorage:
    """A storage in the place of NaClCookieStorage, which needs PyNaCl."""
    return other_storage()


@pytest.mark.parametrize(
    ("storage", "in_cookie", "status"),
    [
        (OwnStorage, None, 413),
        (OwnStorage, True, 413),
        (OwnStorage, False, 200),
        (nacl_storage, None, 413),
        (nacl_storage, False, 200),
        (other_storage, None, 200),
        (other_storage, True, 413),
    ],
)
async def test_length_is_checked_for_sessions_in_cookies(
    storage: Any,
    in_cookie: bool | None,
    status: int,
    aiohttp_client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = storage()
    if storage is nacl_storage:
        module = SimpleNamespace(NaClCookieStorage=type(made))
        monkeypatch.setitem(sys.modules, "aiohttp_session.nacl_storage", module)
    client = await session_client(aiohttp_client, made, SessionStore(in_cookie=in_cookie))
    assert (await request_token(client, ROOM, max_field_size=20_000)).status == status


@pytest.mark.parametrize(("store", "name"), [(SessionStore(), "ably"), (SessionStore("mine"), "mine")])
async def test_session_entry_has_client_key_and_capability(
    store: SessionStore, name: str, aiohttp_client: Any
) -> None:
    client = await session_client(aiohttp_client, SimpleCookieStorage(), store)
    cookie = (await request_token(client, ROOM)).cookies["AIOHTTP_SESSION"].value
    entry = {"client": "alice", "key": "app1.key1", "capability": ROOM}
    assert json.loads(cookie)["session"] == {name: entry}
    emptied = (await request_token(client, params={"drop": "chat:1"})).cookies["AIOHTTP_SESSION"].value
    assert json.loads(emptied).get("session", {}) == {}


async def test_store_without_a_request_says_which_store_to_use() -> None:
    with pytest.raises(UsageError, match=r"within a request of that client; .* such as RedisStore"):
        await SessionStore().load(auth_of())
