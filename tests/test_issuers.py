"""Issuers: what is answered, how long it lives, and what becomes of a token that is too long."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from aiohttp import web
from apps import BASE, KEY, error, install, make_app, request_token, rooms, token_capability

from aiohttp_ably import (
    ApiKey,
    AuthRequest,
    Capability,
    ClientStored,
    JWTIssuer,
    ServerDetermined,
    TokenDetailsIssuer,
    TokenRequestIssuer,
)
from aiohttp_ably.emulator import Emulator

NOW = 1_800_000_000.5
SECRET = KEY.partition(":")[2]


def claims_of(token: str) -> dict[str, Any]:
    """What a JWT says, its signature verified by PyJWT and its times by none."""
    options: Any = {"verify_exp": False, "verify_iat": False}
    return jwt.decode(token, SECRET, algorithms=["HS256"], options=options)


async def answer(
    aiohttp_client: Any, strategy: Any = None, *, headers: Any = None, params: Any = None, **options: Any
) -> Any:
    strategy = strategy or ServerDetermined(lambda auth: BASE)
    client = await aiohttp_client(make_app(strategy, clock=lambda: NOW, **options))
    return await request_token(client, headers=headers or {}, params=params or {})


async def test_token_request_is_issued_now_with_exactly_its_members(aiohttp_client: Any) -> None:
    members = await (await answer(aiohttp_client)).json()
    assert set(members) == {"keyName", "clientId", "ttl", "nonce", "capability", "timestamp", "mac"}
    assert members["timestamp"] == 1_800_000_000_500
    assert members["ttl"] == 3_600_000


async def test_jwt_is_issued_in_token_details(aiohttp_client: Any) -> None:
    response = await answer(aiohttp_client, issuer=JWTIssuer(ttl=timedelta(minutes=30), jitter=0))
    members = await response.json()
    claims = claims_of(members["token"])
    assert claims == {
        "iat": 1_800_000_000,
        "exp": 1_800_001_800,
        "x-ably-capability": '{"lobby":["subscribe"]}',
        "x-ably-clientId": "alice",
    }
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
    response = await answer(aiohttp_client, issuer=JWTIssuer(), headers={"Accept": accept})
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
    members = await (await answer(aiohttp_client, issuer=issuer)).json()
    said = claims_of(members["token"])
    assert said["ably.channel.lobby"] == "role of alice"
    assert said["ably.limits.publish.perAttachment.maxRate.lobby"] == 2
    assert said["x-ably-revocation-key"] == "guests"


async def test_claims_that_replace_those_of_the_server_issue_no_token(
    aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    issuer = JWTIssuer(claims=lambda auth: {"x-ably-capability": '{"*":["*"]}'})
    assert await error(await answer(aiohttp_client, issuer=issuer)) == (503, 50300)
    assert "claims= may not set x-ably-capability" in caplog.text


@pytest.mark.parametrize("accept", ["application/jwt", "application/json"])
async def test_jwt_too_long_for_headers_becomes_a_token_request(accept: str, aiohttp_client: Any) -> None:
    many = Capability({f"chat:{n}": "publish" for n in range(500)})
    response = await answer(
        aiohttp_client, ServerDetermined(lambda auth: many), issuer=JWTIssuer(), headers={"Accept": accept}
    )
    assert response.headers["Content-Type"] == "application/json"
    assert "mac" in await response.json()
    assert Capability(await token_capability(response)) == many


async def test_answer_longer_than_sdks_read_is_refused(aiohttp_client: Any) -> None:
    huge = {f"{n:0130}": "publish" for n in range(1000)}
    response = await answer(aiohttp_client, ServerDetermined(lambda auth: huge))
    assert await error(response) == (413, 40009)


async def test_jitter_shortens_lifetimes_at_random(aiohttp_client: Any) -> None:
    client = await aiohttp_client(make_app(ServerDetermined(lambda auth: BASE), issuer=TokenRequestIssuer()))
    lives = {(await (await request_token(client)).json())["ttl"] for _ in range(50)}
    assert len(lives) > 10
    assert 3_240_000 <= min(lives) <= max(lives) <= 3_600_000


@pytest.mark.parametrize(("key", "requested", "expected"), [
    (ApiKey(KEY), "86400000", 86_400_000), (ApiKey(KEY, revocable=True), "86400000", 3_600_000),
    (ApiKey(KEY), "1", 60_000),
])  # fmt: skip
async def test_requested_lifetime_is_limited_to_what_ably_allows(
    key: ApiKey, requested: str, expected: int, aiohttp_client: Any
) -> None:
    issuer = TokenRequestIssuer(jitter=0)
    members = await (await answer(aiohttp_client, key=key, issuer=issuer, params={"ttl": requested})).json()
    assert members["ttl"] == expected


async def test_server_may_issue_tokens_for_less_than_a_minute(aiohttp_client: Any) -> None:
    issuer = TokenRequestIssuer(ttl=timedelta(seconds=5), max_ttl=timedelta(seconds=5), jitter=0)
    members = await (await answer(aiohttp_client, issuer=issuer, params={"ttl": "3600000"})).json()
    assert members["ttl"] == 5_000


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
    assert await error(await request_token(client, {"chat:1": ["publish"]})) == (503, 50300)
