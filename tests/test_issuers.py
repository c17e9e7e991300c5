"""Issuers: their answers, the lifetimes of tokens, and tokens that are too long."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from aiohttp import web
from apps import BASE, KEY, KEY_SECRET, error, install, make_app, request_token, rooms, token_capability

from aiohttp_ably import (
    ApiKey,
    AuthRequest,
    Capability,
    ClientSigned,
    ClientStored,
    JWTIssuer,
    JWTStore,
    ServerDetermined,
    TokenDetailsIssuer,
    TokenRequestIssuer,
)
from aiohttp_ably.emulator import Emulator

NOW = 1_800_000_000.5


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT. PyJWT verifies its signature, and nothing verifies its times."""
    options: Any = {"verify_exp": False, "verify_iat": False}
    return jwt.decode(token, KEY_SECRET, algorithms=["HS256"], options=options)


async def response_of(
    aiohttp_client: Any, strategy: Any = None, *, headers: Any = None, params: Any = None, **options: Any
) -> Any:
    strategy = strategy or ServerDetermined(lambda auth: BASE)
    client = await aiohttp_client(make_app(strategy, clock=lambda: NOW, **options))
    return await request_token(client, headers=headers or {}, params=params or {})


async def test_token_request_is_issued_now_with_exactly_its_members(aiohttp_client: Any) -> None:
    members = await (await response_of(aiohttp_client)).json()
    assert set(members) == {"keyName", "clientId", "ttl", "nonce", "capability", "timestamp", "mac"}
    assert members["timestamp"] == 1_800_000_000_500
    assert members["ttl"] == 3_600_000


async def test_jwt_is_issued_in_token_details(aiohttp_client: Any) -> None:
    response = await response_of(aiohttp_client, issuer=JWTIssuer(ttl=timedelta(minutes=30), jitter=0))
    members = await response.json()
    claims = claims_of(members["token"])
    assert claims == {
        "iat": 1_800_000_000,
        "exp": 1_800_001_800,
        "x-ably-capability": '{"lobby":["subscribe"]}',
        "x-ably-clientId": "alice",
    }
    assert [type(claims[time]) for time in ("iat", "exp")] == [int, int]
    del members["token"]
    assert members == {
        "keyName": "app1.key1",
        "issued": 1_800_000_000_000,
        "expires": 1_800_001_800_000,
        "capability": '{"lobby":["subscribe"]}',
        "clientId": "alice",
    }


ACCEPTS = [
    ("application/jwt", True),
    ("application/jwt, text/plain", True),
    ("application/json, application/jwt", False),
    ("application/json, text/plain", False),
    ("*/*", False),
    ("application/x-msgpack,application/json", False),
]


@pytest.mark.parametrize(("accept", "bare"), ACCEPTS, ids=[row[0] for row in ACCEPTS])
async def test_jwt_is_bare_for_clients_that_accept_it_and_no_json(
    accept: str, bare: bool, aiohttp_client: Any
) -> None:
    response = await response_of(aiohttp_client, issuer=JWTIssuer(), headers={"Accept": accept})
    text = await response.text()
    assert response.headers["Content-Type"] == ("application/jwt" if bare else "application/json")
    token = text if bare else json.loads(text)["token"]
    assert claims_of(token)["x-ably-clientId"] == "alice"


async def test_jwt_has_the_claims_and_the_revocation_key_of_the_app(aiohttp_client: Any) -> None:
    async def claims(auth: AuthRequest) -> dict[str, object]:
        return {
            "ably.channel.lobby": f"role of {auth.client_id}",
            "ably.limits.publish.perAttachment.maxRate.lobby": 2,
        }

    issuer = JWTIssuer(claims=claims, revocation_key=lambda auth: "guests")
    members = await (await response_of(aiohttp_client, issuer=issuer)).json()
    claimed = claims_of(members["token"])
    assert claimed["ably.channel.lobby"] == "role of alice"
    assert claimed["ably.limits.publish.perAttachment.maxRate.lobby"] == 2
    assert claimed["x-ably-revocation-key"] == "guests"


async def test_claims_that_replace_those_of_the_server_issue_no_token(
    aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    issuer = JWTIssuer(claims=lambda auth: {"x-ably-capability": '{"*":["*"]}'})
    assert await error(await response_of(aiohttp_client, issuer=issuer)) == (503, 50300)
    assert "claims= may not set x-ably-capability" in caplog.text


@pytest.mark.parametrize("accept", ["application/jwt", "application/json"])
async def test_jwt_too_long_for_headers_becomes_a_token_request(accept: str, aiohttp_client: Any) -> None:
    many = Capability({f"chat:{n}": "publish" for n in range(500)})
    response = await response_of(
        aiohttp_client, ServerDetermined(lambda auth: many), issuer=JWTIssuer(), headers={"Accept": accept}
    )
    assert response.headers["Content-Type"] == "application/json"
    assert "mac" in await response.json()
    assert Capability(await token_capability(response)) == many


async def test_answer_longer_than_sdks_read_is_refused(aiohttp_client: Any) -> None:
    huge = {f"{n:0130}": "publish" for n in range(1000)}
    response = await response_of(aiohttp_client, ServerDetermined(lambda auth: huge))
    assert await error(response) == (413, 40009)


async def test_jitter_shortens_lifetimes_at_random(aiohttp_client: Any) -> None:
    client = await aiohttp_client(make_app(ServerDetermined(lambda auth: BASE), issuer=TokenRequestIssuer()))
    lifetimes = {(await (await request_token(client)).json())["ttl"] for _ in range(50)}
    assert len(lifetimes) > 10
    assert 3_240_000 <= min(lifetimes) <= max(lifetimes) <= 3_600_000


REVOCABLE = ApiKey(KEY, revocable=True)


@pytest.mark.parametrize(("key", "requested", "expected"), [
    (ApiKey(KEY), "86400000", 86_400_000), (ApiKey(KEY), "86400001", 86_400_000),
    (ApiKey(KEY), "86399999", 86_399_999), (ApiKey(KEY), "3600001", 3_600_001),
    (REVOCABLE, "86400000", 3_600_000), (REVOCABLE, "3600001", 3_600_000), (REVOCABLE, "3599999", 3_599_999),
    (ApiKey(KEY), "1", 60_000), (ApiKey(KEY), "59999", 60_000), (ApiKey(KEY), "60001", 60_001),
])  # fmt: skip
async def test_requested_lifetime_is_limited_to_what_ably_allows(
    key: ApiKey, requested: str, expected: int, aiohttp_client: Any
) -> None:
    issuer = TokenRequestIssuer(jitter=0)
    members = await (
        await response_of(aiohttp_client, key=key, issuer=issuer, params={"ttl": requested})
    ).json()
    assert members["ttl"] == expected


async def test_server_may_issue_tokens_for_less_than_a_minute(aiohttp_client: Any) -> None:
    for jitter in (0, 0.9):
        issuer = TokenRequestIssuer(ttl=timedelta(seconds=5), max_ttl=timedelta(seconds=5), jitter=jitter)
        for requested in ({"ttl": "3600000"}, {"ttl": "1"}, {}):
            members = await (await response_of(aiohttp_client, issuer=issuer, params=requested)).json()
            assert members["ttl"] == 5_000


async def test_lifetime_without_a_requested_one_is_that_of_the_issuer(aiohttp_client: Any) -> None:
    issuer = TokenRequestIssuer(ttl=timedelta(hours=2), max_ttl=timedelta(hours=3), jitter=0)
    for key, params, expected in (
        (ApiKey(KEY), {}, 7_200_000),
        (ApiKey(KEY), {"ttl": "10800001"}, 10_800_000),
        (REVOCABLE, {}, 3_600_000),
    ):
        members = await (await response_of(aiohttp_client, key=key, issuer=issuer, params=params)).json()
        assert members["ttl"] == expected


async def test_jitter_does_not_shorten_a_token_below_a_minute(aiohttp_client: Any) -> None:
    client = await aiohttp_client(
        make_app(ServerDetermined(BASE), issuer=TokenRequestIssuer(jitter=0.9, ttl=timedelta(minutes=1)))
    )
    for _ in range(10):
        assert (await (await request_token(client)).json())["ttl"] == 60_000


@pytest.mark.parametrize("issuer", [TokenRequestIssuer, JWTIssuer, TokenDetailsIssuer])
def test_lifetimes_that_ably_would_refuse_are_refused(issuer: Any) -> None:
    day, instant = timedelta(hours=24), timedelta(milliseconds=1)
    for ttl, max_ttl in ((instant, day), (day, day), (instant, instant)):
        made = issuer(ttl=ttl, max_ttl=max_ttl)
        assert (made.ttl, made.max_ttl) == (ttl / instant, max_ttl / instant)
    for ttl, max_ttl in (
        (timedelta(0), day), (-instant, day), (2 * instant, instant), (instant, day + instant)
    ):  # fmt: skip
        with pytest.raises(ValueError, match="ttl= must be over 0 and at most max_ttl="):
            issuer(ttl=ttl, max_ttl=max_ttl)


def test_jitter_is_at_least_0_and_under_1() -> None:
    for jitter in (0, 0.5, 0.999):
        assert TokenRequestIssuer(jitter=jitter).jitter == jitter
    for jitter in (-0.001, 1, 1.5):
        with pytest.raises(ValueError, match=f"jitter={jitter} must be at least 0 and under 1"):
            TokenRequestIssuer(jitter=jitter)


def test_defaults_of_issuers() -> None:
    for issuer in (TokenRequestIssuer(), JWTIssuer(), TokenDetailsIssuer()):
        assert (issuer.ttl, issuer.max_ttl, issuer.jitter) == (3_600_000, 86_400_000, 0.1)
    assert JWTIssuer().budget == 8000


@pytest.mark.parametrize(
    ("issuer", "adds_claims", "whole_seconds"),
    [(TokenRequestIssuer, False, False), (JWTIssuer, True, True), (TokenDetailsIssuer, False, False)],
)
def test_issuers_declare_their_properties(issuer: Any, adds_claims: bool, whole_seconds: bool) -> None:
    assert (issuer.adds_claims, issuer.whole_seconds) == (adds_claims, whole_seconds)


@pytest.mark.parametrize("is_grant", [False, True])
async def test_jwt_may_take_its_whole_budget(is_grant: bool, aiohttp_client: Any) -> None:
    strategy = ClientSigned(rooms(), store=JWTStore(), base=BASE) if is_grant else ServerDetermined(BASE)
    whole = await (await response_of(aiohttp_client, strategy, issuer=JWTIssuer(jitter=0))).json()
    length = len(whole["token"])
    exact, under = JWTIssuer(jitter=0, budget=length), JWTIssuer(jitter=0, budget=length - 1)
    assert await (await response_of(aiohttp_client, strategy, issuer=exact)).json() == whole
    response = await response_of(aiohttp_client, strategy, issuer=under)
    if is_grant:
        assert await error(response) == (413, 40009)
        message = (await response.json())["error"]["message"]
        assert f"would have {length} bytes, and {length - 1} is the most" in message
    else:
        assert "mac" in await response.json()


async def test_jwt_of_under_a_second_lasts_a_second(aiohttp_client: Any) -> None:
    instant = timedelta(milliseconds=1)
    issuer = JWTIssuer(ttl=instant, max_ttl=instant, jitter=0)
    members = await (await response_of(aiohttp_client, issuer=issuer)).json()
    assert members["expires"] - members["issued"] == 1000


async def test_jwt_of_an_anonymous_client_has_no_client_id(aiohttp_client: Any) -> None:
    app = make_app(ServerDetermined(BASE), issuer=JWTIssuer(), anonymous=True)
    members = await (await request_token(await aiohttp_client(app), user=None)).json()
    assert "clientId" not in members
    assert "x-ably-clientId" not in claims_of(members["token"])


async def test_revocation_key_of_none_is_left_out(aiohttp_client: Any) -> None:
    issuer = JWTIssuer(revocation_key=lambda auth: None)
    members = await (await response_of(aiohttp_client, issuer=issuer)).json()
    assert "x-ably-revocation-key" not in claims_of(members["token"])


async def test_token_details_are_requested_from_ably(aiohttp_client: Any) -> None:
    async with Emulator() as ably:
        issuer = TokenDetailsIssuer(jitter=0)
        app = web.Application()
        install(
            app,
            ClientStored(rooms(), base=BASE),
            key=str(ably.key),
            issuer=issuer,
            client_options={"endpoint": "127.0.0.1", "port": ably.port, "tls": False},
        )
        client = await aiohttp_client(app)
        for room in ("chat:1", "chat:it's ünïcode"):
            members = await (await request_token(client, {room: ["publish"]})).json()
            assert json.loads(members["capability"]) == {**BASE, room: ["publish"]}
            assert members["clientId"] == "alice"
            assert members["expires"] - members["issued"] == 3_600_000
            assert members["token"]
        assert len(ably.token_requests) == 2
    response = await request_token(client, {"chat:1": ["publish"]})
    assert await error(response) == (503, 50300)
    assert "Ably" in (await response.json())["error"]["message"]


class FailingApi:
    """An Ably REST API client whose requests fail."""

    async def request_token(self, request: object) -> Any:
        raise OSError("no")


def no_claims(auth: AuthRequest) -> dict[str, object]:
    raise OSError("no")


async def test_error_names_the_part_that_failed(aiohttp_client: Any) -> None:
    issuer = TokenDetailsIssuer()
    client = await aiohttp_client(make_app(ServerDetermined(BASE), issuer=issuer))
    issuer.connect(FailingApi())  # type: ignore[arg-type]
    others = await aiohttp_client(make_app(ServerDetermined(BASE), issuer=JWTIssuer(claims=no_claims)))
    for one, part in ((client, "Ably"), (others, "claims")):
        response = await request_token(one)
        assert await error(response) == (503, 50300)
        assert (await response.json())["error"]["message"] == f"{part} failed; try again"
