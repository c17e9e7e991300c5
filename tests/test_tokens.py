"""Tokens: TokenRequests and JWTs are signed as the SDKs sign them, and verified strictly."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import subprocess
from typing import Any

import jwt
import pytest
from ably import AblyRest
from apps import KEY, KEY_SECRET, NEWER_KEY, OTHER_KEY
from hypothesis import given, settings
from hypothesis import strategies as st
from real_parts import require_ably_js, require_node

from aiohttp_ably import ApiKey, Capability, InvalidCapability, KeyRing, TooLarge
from aiohttp_ably.errors import InvalidClientId, InvalidCredential
from aiohttp_ably.tokens import (
    MAX_ANSWER,
    MAX_REVOCABLE_TTL,
    MAX_TTL,
    MIN_TTL,
    base64url,
    check_length,
    checked_client_id,
    sign_jwt,
    sign_token_request,
    token_request_mac,
    verify_jwt,
    verify_token_request,
)

RING = KeyRing([KEY])
LOBBY = Capability({"lobby": "subscribe"})

text = st.text(st.characters(exclude_categories=["C"], max_codepoint=0xD7FF), min_size=1, max_size=12)
capabilities = st.dictionaries(
    text, st.lists(st.sampled_from(["publish", "subscribe", "presence"]), min_size=1), min_size=1, max_size=4
).map(Capability)
fields = st.fixed_dictionaries(
    {
        "capability": capabilities,
        "client_id": text.filter(str.isprintable) | st.none(),
        "ttl": st.integers(1, 86_400_000),
        "timestamp": st.integers(1, 4_000_000_000_000),
        "nonce": st.text("abcdefghijklmnop0123456789", min_size=16, max_size=32),
    }
)
EXAMPLES = [
    {"capability": Capability({"räume:ü": ["*"], "部屋:*": ["publish"]}), "client_id": "zoë ☃", "ttl": 1,
     "timestamp": 1_700_000_000_000, "nonce": "0123456789abcdef"},
    {"capability": LOBBY, "client_id": None, "ttl": 3_600_000, "timestamp": 5, "nonce": "0123456789abcdef"},
    {"capability": Capability({'quo"ted\\': ["subscribe", "publish"]}), "client_id": "a:b c",
     "ttl": 60_000, "timestamp": 1_700_000_000_001, "nonce": "fedcba9876543210"},
]  # fmt: skip


@given(fields)
@settings(max_examples=50, deadline=None)
def test_mac_is_that_of_ably_python(given_fields: dict[str, Any]) -> None:
    async def signed_by_ably_python() -> dict[str, Any]:
        async with AblyRest(key=KEY) as rest:
            params = {**given_fields, "capability": dict(given_fields["capability"].to_dict())}
            return (await rest.auth.create_token_request(params)).to_dict()

    signed = asyncio.run(signed_by_ably_python())
    own = sign_token_request(ApiKey(KEY), **given_fields).to_dict()
    # ably-python writes the same capability with spaces and escapes. The mac is that of the text it sends.
    assert json.loads(signed["capability"]) == json.loads(own["capability"])
    assert signed["mac"] == token_request_mac(
        ApiKey(KEY), **{**given_fields, "capability": signed["capability"]}
    )
    assert verify_token_request(signed, RING) == ApiKey(KEY)


def test_mac_is_that_of_ably_js() -> None:
    node, folder = require_node(), require_ably_js()
    generated: list[dict[str, Any]] = list(EXAMPLES)

    @given(fields)
    @settings(max_examples=100, database=None)
    def collect(one: dict[str, Any]) -> None:
        generated.append(one)

    collect()
    params = [
        {
            "capability": one["capability"].to_dict(),
            "clientId": one["client_id"],
            "ttl": one["ttl"],
            "timestamp": one["timestamp"],
            "nonce": one["nonce"],
        }
        for one in generated
    ]
    done = subprocess.run(
        [node, "token_request_oracle.mjs"],
        cwd=folder,
        input=json.dumps({"key": KEY, "params": params}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    for one, members in zip(generated, json.loads(done.stdout), strict=True):
        signed = {name: value for name, value in members.items() if value is not None}
        own = sign_token_request(ApiKey(KEY), **one).to_dict()
        # JavaScript puts names that are numbers first. The mac is that of the text that is sent.
        assert json.loads(signed["capability"]) == json.loads(own["capability"])
        mac = token_request_mac(ApiKey(KEY), **{**one, "capability": signed["capability"]})
        assert signed == {**own, "capability": signed["capability"], "mac": mac}


@given(fields)
def test_json_of_a_token_request_has_its_members(given_fields: dict[str, Any]) -> None:
    signed = sign_token_request(ApiKey(KEY), **given_fields)
    assert json.loads(signed.to_json()) == signed.to_dict()
    assert list(json.loads(signed.to_json())) == list(signed.to_dict())


def test_token_request_has_exactly_the_documented_members() -> None:
    signed = sign_token_request(ApiKey(KEY), capability=LOBBY, client_id=None, ttl=60_000, timestamp=5)
    assert set(signed.to_dict()) == {"keyName", "ttl", "nonce", "capability", "timestamp", "mac"}
    assert len(signed.nonce) >= 16
    assert (
        signed.nonce
        != sign_token_request(ApiKey(KEY), capability=LOBBY, client_id=None, ttl=60_000, timestamp=5).nonce
    )


def test_empty_nonce_is_replaced_by_a_random_one() -> None:
    signed = sign_token_request(
        ApiKey(KEY), capability=LOBBY, client_id=None, ttl=60_000, timestamp=5, nonce=""
    )
    assert len(signed.nonce) >= 16


@pytest.mark.parametrize("member", ["keyName", "clientId", "ttl", "nonce", "capability", "timestamp", "mac"])
def test_changed_token_request_does_not_verify(member: str) -> None:
    signed = sign_token_request(
        ApiKey(KEY), capability=LOBBY, client_id="alice", ttl=60_000, timestamp=5
    ).to_dict()
    assert verify_token_request(signed, RING).name == "app1.key1"
    for changed in (f"{signed[member]}x", f"{signed[member]}\ud800" if member == "mac" else "", None):
        with pytest.raises(InvalidCredential, match="mac"):
            verify_token_request({**signed, member: changed}, RING)


def test_empty_capability_is_not_signed() -> None:
    for sign in (
        lambda: sign_token_request(ApiKey(KEY), capability=Capability(), client_id="a", ttl=1, timestamp=1),
        lambda: sign_jwt(ApiKey(KEY), capability=Capability(), client_id="a", issued=1, expires=2),
    ):
        with pytest.raises(InvalidCapability, match="all rights of the key"):
            sign()


@pytest.mark.parametrize(
    ("client_id", "message"),
    [
        ("", "at least one character"),
        (5, "at least one character"),
        ("a\nb", "not printable"),
        ("a\x00", "not printable"),
        ("a\u2028b", "not printable"),
    ],
)
def test_invalid_client_id_is_not_signed(client_id: Any, message: str) -> None:
    for sign in (
        lambda: sign_token_request(ApiKey(KEY), capability=LOBBY, client_id=client_id, ttl=1, timestamp=1),
        lambda: sign_jwt(ApiKey(KEY), capability=LOBBY, client_id=client_id, issued=1, expires=2),
    ):
        with pytest.raises(InvalidClientId, match=message) as refused:
            sign()
        assert (refused.value.code, refused.value.status) == (40012, 400)


def test_checked_client_id_is_returned_unchanged() -> None:
    for client_id in ("a", "zoë ☃", "*", " "):
        assert checked_client_id(client_id) == client_id


def test_mac_is_hmac_sha256_over_the_fields_in_lines() -> None:
    def mac(text: str) -> str:
        secret = KEY_SECRET.encode()
        return base64.b64encode(hmac.new(secret, text.encode(), hashlib.sha256).digest()).decode()

    key = ApiKey(KEY)
    fields_in_order = ("60000", '{"ü":["*"]}', "zoë", "1700000000000", "0123456789abcdef")
    signed = token_request_mac(key, *fields_in_order)
    assert signed == mac("app1.key1\n60000\n" + '{"ü":["*"]}\nzoë\n1700000000000\n0123456789abcdef\n')
    assert token_request_mac(key, None, None, None, None, None) == mac("app1.key1\n\n\n\n\n\n")
    assert token_request_mac(key, 0, "", "", 0, "") == mac("app1.key1\n\n\n\n\n\n")


@pytest.mark.parametrize("byte", range(256))
def test_base64url_loses_only_its_padding(byte: int) -> None:
    for length in (1, 2, 3):
        data = bytes([byte] * length)
        assert base64url(data) == base64.b64encode(data, b"-_").decode().replace("=", "")


def test_random_nonce_has_32_characters() -> None:
    nonces = {
        sign_token_request(ApiKey(KEY), capability=LOBBY, client_id=None, ttl=1, timestamp=1).nonce
        for _ in range(20)
    }
    assert len(nonces) == 20
    assert {len(nonce) for nonce in nonces} == {32}


@pytest.mark.parametrize("length", [1, 990, 1000, 1010, 2000])
def test_json_of_a_token_request_is_exact_for_every_length(length: int) -> None:
    capability = Capability({"é" * length: "publish"})
    signed = sign_token_request(ApiKey(KEY), capability=capability, client_id="a", ttl=1, timestamp=2)
    assert signed.to_json() == json.dumps(signed.to_dict(), separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize("letter", ["a", "é"])
def test_capability_may_take_all_but_4096_bytes_of_an_answer(letter: str) -> None:
    most = 128 * 1024 - 4096
    quoted = len(json.dumps('{"":["publish"]}'))
    letters, rest = divmod(most - quoted, len(letter.encode()))
    check_length(Capability({letter * letters + "." * rest: "publish"}))
    with pytest.raises(TooLarge, match=f"would take {most + 1} bytes of an answer, and SDKs read 131072"):
        check_length(Capability({letter * letters + "." * (rest + 1): "publish"}))


def test_limits_are_those_of_ably() -> None:
    assert (MIN_TTL, MAX_TTL, MAX_REVOCABLE_TTL, MAX_ANSWER) == (60_000, 86_400_000, 3_600_000, 131_072)


def test_jwt_has_the_documented_claims() -> None:
    token = sign_jwt(
        ApiKey(KEY),
        capability=LOBBY,
        client_id="zoë",
        issued=100,
        expires=200,
        revocation_key="group",
        claims={"ably.channel.lobby": "admin", "ably.limits.publish.perAttachment.maxRate.lobby": 5},
    )
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "kid": "app1.key1", "typ": "JWT"}
    payload = jwt.decode(token, KEY_SECRET, algorithms=["HS256"], options={"verify_exp": False})
    assert payload == {
        "iat": 100,
        "exp": 200,
        "x-ably-capability": '{"lobby":["subscribe"]}',
        "x-ably-clientId": "zoë",
        "x-ably-revocation-key": "group",
        "ably.channel.lobby": "admin",
        "ably.limits.publish.perAttachment.maxRate.lobby": 5,
    }
    claims = verify_jwt(token, RING, now=199.9)
    assert claims == ("app1.key1", LOBBY, "zoë", 100, 200, payload)
    with pytest.raises(InvalidCredential, match="expired"):
        verify_jwt(token, RING, now=200)


def test_jwt_without_options_has_only_the_claims_that_ably_needs() -> None:
    for claims in (None, {}):
        token = sign_jwt(
            ApiKey(KEY), capability=LOBBY, client_id=None, issued=1, expires=2, claims=claims
        )  # fmt: skip
        expected = {"iat": 1, "exp": 2, "x-ably-capability": LOBBY.text}
        assert verify_jwt(token, RING, now=1) == ("app1.key1", LOBBY, None, 1, 2, expected)


def test_jwt_without_a_capability_verifies() -> None:
    claims = verify_jwt(_jwt({"iat": 1, "exp": 1000.5}), RING, now=1000)
    assert (claims.capability, claims.client_id, claims.expires) == (None, None, 1000.5)


def test_jwt_is_verified_by_the_key_that_it_names() -> None:
    ring = KeyRing([NEWER_KEY, KEY])
    for key in ring:
        token = sign_jwt(key, capability=LOBBY, client_id=None, issued=1, expires=2)
        assert verify_jwt(token, ring, now=1).key_name == key.name


@given(fields, st.dictionaries(text.map("ably.channel.{}".format), text))
def test_jwt_is_read_by_pyjwt(given_fields: dict[str, Any], claims: dict[str, str]) -> None:
    capability, client_id = given_fields["capability"], given_fields["client_id"]
    token = sign_jwt(
        ApiKey(KEY), capability=capability, client_id=client_id, issued=1, expires=2, claims=claims
    )
    payload = jwt.decode(token, KEY_SECRET, algorithms=["HS256"], options={"verify_exp": False})
    client = {} if client_id is None else {"x-ably-clientId": client_id}
    assert payload == {"iat": 1, "exp": 2, "x-ably-capability": capability.text, **client, **claims}


@pytest.mark.parametrize(
    "claim", ["iat", "exp", "x-ably-capability", "x-ably-clientId", "x-ably-revocation-key"]
)
def test_claims_cannot_replace_those_of_the_server(claim: str) -> None:
    with pytest.raises(ValueError, match=f"claims= may not set {claim}: the auth server sets them"):
        sign_jwt(ApiKey(KEY), capability=LOBBY, client_id="a", issued=1, expires=2, claims={claim: "b"})


def _jwt(payload: dict[str, object], *, key: str = KEY) -> str:
    name, _, secret = key.partition(":")
    return jwt.encode(payload, secret, algorithm="HS256", headers={"kid": name})


def _signed(payload: str) -> str:
    """A JWS of `payload` as it is, under KEY."""
    name, _, secret = KEY.partition(":")
    return jwt.PyJWS().encode(payload.encode(), secret, algorithm="HS256", headers={"kid": name})


UNVERIFIED = [
    ("no JWT", "nonsense", "DecodeError"),
    ("empty", "", "DecodeError"),
    ("not ASCII", "é.é.é", "does not verify"),
    ("expired", _jwt({"iat": 1, "exp": 1000}), "has expired"),
    ("no iat", _jwt({"exp": 2000}), "no numeric iat"),
    ("no exp", _jwt({"iat": 1}), "no numeric exp"),
    ("exp is a string", _jwt({"iat": 1, "exp": "2000"}), "no numeric exp"),
    ("exp is true", _jwt({"iat": 1, "exp": True}), "no numeric exp"),
    ("exp is infinite", _signed('{"iat":1,"exp":1e999}'), "no numeric exp"),
    ("exp is not a number", _signed('{"iat":1,"exp":NaN}'), "ValueError"),
    ("a claim twice", _signed('{"iat":1,"exp":2000,"exp":3000}'), "ValueError"),
    ("payload is a list", _signed("[]"), "payload is not an object"),
    ("payload is not JSON", _signed("exp"), "does not verify"),
    ("a key of another app", _jwt({"iat": 1, "exp": 2000}, key=OTHER_KEY), "names no known key"),
    (
        "another secret",
        _jwt({"iat": 1, "exp": 2000}, key="app1.key1:another-secret-of-32-bytes-or-more"),
        "InvalidSignatureError",
    ),
    ("no kid", jwt.encode({"iat": 1, "exp": 2000}, KEY_SECRET, "HS256"), "names no known key"),
    (
        "not signed",
        jwt.encode({"iat": 1, "exp": 2000}, "", algorithm="none", headers={"kid": "app1.key1"}),
        "InvalidAlgorithmError",
    ),
    (
        "another algorithm",
        jwt.encode({"iat": 1, "exp": 2000}, "x" * 64, "HS512", headers={"kid": "app1.key1"}),
        "InvalidAlgorithmError",
    ),
    (
        "capability is a list",
        _jwt({"iat": 1, "exp": 2000, "x-ably-capability": "[]"}),
        "x-ably-capability is not a capability",
    ),
    (
        "capability is not JSON",
        _jwt({"iat": 1, "exp": 2000, "x-ably-capability": "a"}),
        "x-ably-capability is not a capability",
    ),
    (
        "capability is not a string",
        _jwt({"iat": 1, "exp": 2000, "x-ably-capability": 5}),
        "x-ably-capability is not a capability",
    ),
    (
        "client id is not a string",
        _jwt({"iat": 1, "exp": 2000, "x-ably-clientId": 5}),
        "x-ably-clientId is not a string",
    ),
]


@pytest.mark.parametrize(
    ("token", "message"), [row[1:] for row in UNVERIFIED], ids=[row[0] for row in UNVERIFIED]
)
@pytest.mark.filterwarnings("ignore:The HMAC key is")
def test_jwt_that_does_not_verify_is_refused(token: str, message: str) -> None:
    with pytest.raises(InvalidCredential, match=message) as refused:
        verify_jwt(token, RING, now=1000)
    assert (refused.value.code, refused.value.status) == (40101, 401)


def test_short_secrets_of_older_keys_sign_without_a_warning() -> None:
    old = "app1.key1:sixteencharacter"
    token = sign_jwt(ApiKey(old), capability=LOBBY, client_id=None, issued=1, expires=2)
    assert verify_jwt(token, KeyRing([old]), now=1).client_id is None
