"""The emulator verifies API keys, tokens and JWTs, and derives client ids from them."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest
from emulator_helpers import (
    KEY,
    NAME,
    NARROW_KEY,
    REVOCABLE_KEY,
    basic,
    bearer,
    call,
    code_of,
    connected,
    issue,
    jwt_of,
    opened,
)

from aiohttp_ably import ApiKey
from aiohttp_ably.emulator import Emulator, ManualClock
from aiohttp_ably.emulator.wire import Action

DAY = 24 * 3600
SECRET = KEY.partition(":")[2]
PATH = "/channels/room/messages"
START = 1_700_000_000


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    keys = {KEY: None, ApiKey(REVOCABLE_KEY, revocable=True): None, NARROW_KEY: {"room": ["history"]}}
    async with Emulator(keys, clock=ManualClock(START)) as emulator:
        yield emulator


def make(
    claims: dict[str, Any] | None = None,
    *,
    kid: Any = NAME,
    secret: str = SECRET,
    algorithm: str = "HS256",
    headers: dict[str, Any] | None = None,
    **more: Any,
) -> str:
    """A valid JWT with changes. The value `...` leaves a claim out."""
    payload = {"iat": START, "exp": START + 3600} | (claims or {}) | more
    payload = {name: value for name, value in payload.items() if value is not ...}
    names = ({"kid": kid} if kid is not ... else {}) | (headers or {})
    text = json.dumps(payload).encode()
    return jwt.PyJWS().encode(
        text, secret.ljust(64, "x") if algorithm != "HS256" else secret, algorithm, names
    )


def unsigned(header: Any, payload: Any, *rest: str) -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in (header, payload)
    ]
    return ".".join([*parts, *rest])


pytestmark = pytest.mark.filterwarnings("ignore:The HMAC key is")

REFUSED: list[Any] = [
    pytest.param(lambda: "garbage", (40101, 401), id="not a token"),
    pytest.param(lambda: "app1." + "x" * 64, (40143, 401), id="unknown token"),
    pytest.param(lambda: "gone." + "x" * 64, (40143, 401), id="unknown token of an unknown app"),
    pytest.param(lambda: "app1.short", (40101, 401), id="one dot, but not a token"),
    pytest.param(lambda: "a.b.c.d", (40005, 400), id="three dots"),
    pytest.param(lambda: "a.b.c.d.e", (40005, 400), id="four dots, not embedded"),
    pytest.param(lambda: make(exp=START), (40142, 401), id="JWT expired"),
    pytest.param(lambda: make(exp=START - 0.001), (40142, 401), id="JWT expired 1 ms ago"),
    pytest.param(lambda: "a.b.c", (40144, 401), id="JWT malformed"),
    pytest.param(lambda: make(algorithm="HS384"), (40144, 401), id="JWT of another algorithm"),
    pytest.param(lambda: unsigned({"alg": "none", "kid": NAME}, {}, ""), (40144, 401), id="JWT unsigned"),
    pytest.param(lambda: make(kid=...), (40144, 401), id="JWT without kid"),
    pytest.param(lambda: make(kid=""), (40144, 401), id="JWT with empty kid"),
    pytest.param(lambda: make(secret="another"), (40144, 401), id="JWT wrongly signed"),
    pytest.param(lambda: make(kid="none.key"), (40400, 404), id="JWT of an unknown app"),
    pytest.param(lambda: make(kid="app1.none"), (40400, 404), id="JWT of an unknown key"),
    pytest.param(lambda: make(iat=...), (40144, 400), id="JWT without iat"),
    pytest.param(lambda: make(exp=...), (40144, 400), id="JWT without exp"),
    pytest.param(lambda: make(iat="now"), (40144, 400), id="iat is not a number"),
    pytest.param(lambda: make(exp=True), (40144, 400), id="exp is not a number"),
    pytest.param(lambda: make(iat=START + 61, exp=START + 90), (40144, 401), id="iat in the future"),
    pytest.param(lambda: make(exp=START + DAY + 1), (40003, 400), id="JWT over a day"),
    pytest.param(
        lambda: make(kid="app1.revocable", secret="secret-of-the-revocable-key", exp=START + 3601),
        (40003, 400),
        id="JWT over an hour, revocable key",
    ),
    pytest.param(lambda: make({"x-ably-clientId": ""}), (40012, 400), id="empty client id"),
    pytest.param(lambda: make({"x-ably-clientId": 7}), (40012, 400), id="client id is not a string"),
    pytest.param(lambda: make({"x-ably-capability": "x"}), (40000, 400), id="capability is not JSON"),
    pytest.param(
        lambda: make({"x-ably-capability": {"a": ["*"]}}), (40000, 400), id="capability is not a string"
    ),
    pytest.param(lambda: make({"x-ably-capability": '{"a":["fly"]}'}), (40000, 400), id="unknown operation"),
    pytest.param(
        lambda: make(
            {"x-ably-capability": '{"b":["*"]}'}, kid="app1.narrow", secret="secret-of-the-narrow-key"
        ),
        (40160, 401),
        id="no capability in common with the key",
    ),
]


@pytest.mark.parametrize(("token", "expected"), REFUSED)
async def test_a_token_is_refused_over_rest(
    emulator: Emulator, token: Callable[[], str], expected: tuple[int, int]
) -> None:
    assert await code_of(emulator, "GET", PATH, headers=bearer(token())) == expected


@pytest.mark.parametrize(("token", "expected"), REFUSED)
async def test_a_token_is_refused_over_realtime(
    emulator: Emulator, token: Callable[[], str], expected: tuple[int, int]
) -> None:
    async with opened(emulator, access_token=token()) as peer:
        message = await peer.expect(Action.ERROR)
        assert "channel" not in message
        assert (message["error"]["code"], message["error"]["statusCode"]) == expected
        assert await peer.is_closed()


async def test_a_bad_signature_has_the_message_that_sdks_look_for(emulator: Emulator) -> None:
    _, answer = await call(emulator, "GET", PATH, headers=bearer(make(secret="another")))
    assert "signature verification failed" in answer["error"]["message"]


@pytest.mark.parametrize(
    "claims",
    [
        {"iat": START + 60},
        {"exp": START + 0.25},
        {"exp": START + DAY},
        {"x-ably-capability": '{"room":["history"]}', "x-ably-clientId": "alice"},
    ],
)
async def test_a_jwt_at_the_limit_of_a_rule_is_accepted(emulator: Emulator, claims: dict[str, Any]) -> None:
    status, _ = await call(emulator, "GET", PATH, headers=bearer(make(claims)))
    assert status == 200


async def test_a_token_is_expired_first_and_unrecognised_ten_minutes_later(emulator: Emulator) -> None:
    assert isinstance(emulator.clock, ManualClock)
    token = (await issue(emulator, ttl=1000))["token"]
    await emulator.clock.advance(0.999)
    assert (await call(emulator, "GET", PATH, headers=bearer(token)))[0] == 200
    await emulator.clock.advance(0.001)
    assert await code_of(emulator, "GET", PATH, headers=bearer(token)) == (40142, 401)
    await emulator.clock.advance(600)
    assert await code_of(emulator, "GET", PATH, headers=bearer(token)) == (40143, 401)


async def test_a_jwt_without_a_capability_has_that_of_its_key(emulator: Emulator) -> None:
    token = make(kid="app1.narrow", secret="secret-of-the-narrow-key")
    assert (await call(emulator, "GET", PATH, headers=bearer(token)))[0] == 200
    assert await code_of(emulator, "POST", PATH, {}, bearer(token)) == (40160, 401)


async def test_credentials_are_read_from_the_header_or_the_query(emulator: Emulator) -> None:
    token = make()
    for path, headers in [
        (PATH, bearer(token)),
        (PATH, {"Authorization": f"Bearer {token}"}),
        (f"{PATH}?access_token={token}", {}),
        (f"{PATH}?accessToken={token}", {}),
        (f"{PATH}?key={KEY}", {}),
        (PATH, basic()),
        (f"{PATH}?access_token=garbage", bearer(token)),
    ]:
        assert (await call(emulator, "GET", path, headers=headers))[0] == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 40101),
        ({"Authorization": "Basic not base64"}, 40101),
        ({"Authorization": "Digest x"}, 40101),
        (basic("app1.key1"), 40101),
        (basic("app1.key1:wrong"), 40101),
        (basic("none.key:wrong"), 40101),
        (basic("app1.none:wrong"), 40400),
    ],
)
async def test_malformed_or_unknown_credentials_are_refused(
    emulator: Emulator, headers: dict[str, str], code: int
) -> None:
    assert await code_of(emulator, "GET", PATH, headers=headers) == (code, 401)


async def test_a_key_is_refused_over_plain_http_with_basic_over_http_false() -> None:
    async with Emulator(KEY, basic_over_http=False) as emulator:
        assert await code_of(emulator, "GET", PATH, headers=basic()) == (40103, 401)
        assert await code_of(emulator, "GET", f"{PATH}?key={KEY}") == (40103, 401)
        async with opened(emulator, key=KEY) as peer:
            assert (await peer.expect(Action.ERROR))["error"]["code"] == 40103


class TestEmbedded:
    """A JWT that is signed by the customer and has an Ably token embedded in it."""

    async def test_the_embedded_token_decides(self, emulator: Emulator) -> None:
        inner = (await issue(emulator, clientId="alice", capability='{"room":["history"]}'))["token"]
        outer = make({"x-ably-token": inner, "x-ably-clientId": "bob"}, kid=..., secret="the customer's own")
        assert (await call(emulator, "GET", PATH, headers=bearer(outer)))[0] == 200
        assert await code_of(emulator, "POST", PATH, {}, bearer(outer)) == (40160, 401)
        async with connected(emulator, access_token=outer) as peer:
            assert peer.connected["connectionDetails"]["clientId"] == "alice"

    async def test_the_token_can_be_in_the_header(self, emulator: Emulator) -> None:
        inner = (await issue(emulator))["token"]
        outer = make(headers={"x-ably-token": inner}, kid=..., secret="the customer's own")
        encrypted = unsigned({"alg": "dir", "enc": "A128GCM", "x-ably-token": inner}, "?", "a", "b", "c")
        for token in (outer, encrypted):
            assert (await call(emulator, "GET", PATH, headers=bearer(token)))[0] == 200

    async def test_a_jwt_can_be_embedded(self, emulator: Emulator) -> None:
        outer = make({"x-ably-token": make(exp=START + 3600)}, secret="the customer's own")
        assert (await call(emulator, "GET", PATH, headers=bearer(outer)))[0] == 200

    async def test_the_outer_jwt_must_not_expire_after_the_token(self, emulator: Emulator) -> None:
        inner = (await issue(emulator, ttl=60_000))["token"]
        outer = make({"x-ably-token": inner, "exp": START + 66}, secret="the customer's own")
        assert await code_of(emulator, "GET", PATH, headers=bearer(outer)) == (40144, 401)

    async def test_the_earlier_expiry_applies(self, emulator: Emulator) -> None:
        inner = (await issue(emulator, ttl=60_000))["token"]
        outer = make({"x-ably-token": inner, "exp": START}, secret="the customer's own")
        assert await code_of(emulator, "GET", PATH, headers=bearer(outer)) == (40142, 401)


def client_id_header(client_id: str) -> dict[str, str]:
    return {"X-Ably-ClientId": base64.b64encode(client_id.encode()).decode()}


@pytest.mark.parametrize(
    ("credential", "named", "expected"),
    [
        pytest.param(None, None, None, id="anonymous"),
        pytest.param(None, "alice", 40102, id="anonymous, names a client id"),
        pytest.param("*", None, "*", id="wildcard"),
        pytest.param("*", "alice", "alice", id="wildcard, names a client id"),
        pytest.param("alice", None, "alice", id="alice"),
        pytest.param("alice", "alice", "alice", id="alice, names alice"),
        pytest.param("alice", "bob", 40102, id="alice, names bob"),
        pytest.param("key", None, "*", id="a key"),
        pytest.param("key", "alice", "alice", id="a key, names a client id"),
    ],
)
async def test_the_client_id_of_a_connection(
    emulator: Emulator, credential: str | None, named: str | None, expected: str | int | None
) -> None:
    query = {"clientId": named} if named else {}
    if credential == "key":
        query["key"] = KEY
    else:
        query["access_token"] = jwt_of(emulator, {"*": "*"}, client_id=credential)
    async with opened(emulator, **query) as peer:
        message = await peer.next()
    if isinstance(expected, int):
        assert message["error"]["code"] == expected
    else:
        assert message["connectionDetails"].get("clientId") == expected


@pytest.mark.parametrize(
    ("credential", "client_id", "named", "expected"),
    [
        pytest.param(None, None, None, None, id="anonymous"),
        pytest.param(None, None, "alice", 40012, id="anonymous names alice"),
        pytest.param("*", None, None, None, id="wildcard names no client id"),
        pytest.param("*", None, "alice", "alice", id="wildcard names alice"),
        pytest.param("*", "alice", "bob", 40012, id="wildcard as alice names bob"),
        pytest.param("*", None, "*", 40012, id="wildcard names *"),
        pytest.param("*", None, "", 40012, id="wildcard names an empty string"),
        pytest.param("*", None, 7, 40012, id="wildcard names a number"),
        pytest.param("alice", None, None, "alice", id="alice names no client id"),
        pytest.param("alice", None, "alice", "alice", id="alice names alice"),
        pytest.param("alice", None, "bob", 40012, id="alice names bob"),
    ],
)
async def test_the_client_id_of_a_message(
    emulator: Emulator, credential: str | None, client_id: str | None, named: Any, expected: str | int | None
) -> None:
    headers = bearer(jwt_of(emulator, {"*": "*"}, client_id=credential)) | (
        client_id_header(client_id) if client_id else {}
    )
    body = {"name": "n"} | ({} if named is None else {"clientId": named})
    if isinstance(expected, int):
        assert await code_of(emulator, "POST", PATH, body, headers) == (expected, 400)
    else:
        await call(emulator, "POST", PATH, body, headers)
        _, [message] = await call(emulator, "GET", PATH, headers=headers)
        assert message.get("clientId") == expected


async def test_a_client_id_header_must_be_base64(emulator: Emulator) -> None:
    headers = basic() | {"X-Ably-ClientId": "not base64"}
    assert await code_of(emulator, "GET", PATH, headers=headers) == (40012, 400)
