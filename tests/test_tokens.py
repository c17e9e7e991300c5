"""TokenRequests and JWTs: signed as the SDKs sign them, verified strictly, never more than was granted."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import jwt
import pytest
from ably import AblyRest
from apps import KEY, OTHER_KEY
from hypothesis import given, settings
from hypothesis import strategies as st
from real_parts import require_ably_js, require_node

from aiohttp_ably import ApiKey, Capability, InvalidCapability, KeyRing
from aiohttp_ably.errors import InvalidClientId, InvalidCredential
from aiohttp_ably.tokens import (
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
@settings(max_examples=50)
def test_mac_is_that_of_ably_python(given_fields: dict[str, Any]) -> None:
    import asyncio

    async def theirs() -> dict[str, Any]:
        async with AblyRest(key=KEY) as rest:
            params = {**given_fields, "capability": dict(given_fields["capability"].to_dict())}
            return (await rest.auth.create_token_request(params)).to_dict()

    signed = asyncio.run(theirs())
    ours = sign_token_request(ApiKey(KEY), **given_fields).to_dict()
    # ably-python writes the same capability with spaces and escapes: the mac is of the text it sends.
    assert json.loads(signed["capability"]) == json.loads(ours["capability"])
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
    for one, theirs in zip(generated, json.loads(done.stdout), strict=True):
        theirs = {name: value for name, value in theirs.items() if value is not None}
        ours = sign_token_request(ApiKey(KEY), **one).to_dict()
        # JavaScript puts names that are numbers first; the mac is of the text that is sent.
        assert json.loads(theirs["capability"]) == json.loads(ours["capability"])
        mac = token_request_mac(ApiKey(KEY), **{**one, "capability": theirs["capability"]})
        assert theirs == {**ours, "capability": theirs["capability"], "mac": mac}


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
    for changed in (f"{signed[member]}x", None):
        with pytest.raises(InvalidCredential):
            verify_token_request({**signed, member: changed}, RING)


def test_empty_capability_is_not_signed() -> None:
    for sign in (
        lambda: sign_token_request(ApiKey(KEY), capability=Capability(), client_id="a", ttl=1, timestamp=1),
        lambda: sign_jwt(ApiKey(KEY), capability=Capability(), client_id="a", issued=1, expires=2),
    ):
        with pytest.raises(InvalidCapability, match="all rights of the key"):
            sign()


@pytest.mark.parametrize("client_id", ["", "a\nb", "a\x00", "a\u2028b", 5])
def test_invalid_client_id_is_not_signed(client_id: Any) -> None:
    with pytest.raises(InvalidClientId):
        sign_token_request(ApiKey(KEY), capability=LOBBY, client_id=client_id, ttl=1, timestamp=1)


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
    payload = jwt.decode(token, KEY.partition(":")[2], algorithms=["HS256"], options={"verify_exp": False})
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
    assert (claims.capability, claims.client_id, claims.key_name) == (LOBBY, "zoë", "app1.key1")


@given(fields, st.dictionaries(text.map("ably.channel.{}".format), text))
def test_jwt_is_read_by_pyjwt(given_fields: dict[str, Any], claims: dict[str, str]) -> None:
    capability, client_id = given_fields["capability"], given_fields["client_id"]
    token = sign_jwt(
        ApiKey(KEY), capability=capability, client_id=client_id, issued=1, expires=2, claims=claims
    )
    payload = jwt.decode(token, KEY.partition(":")[2], algorithms=["HS256"], options={"verify_exp": False})
    whose = {} if client_id is None else {"x-ably-clientId": client_id}
    assert payload == {"iat": 1, "exp": 2, "x-ably-capability": capability.text, **whose, **claims}


def test_claims_cannot_replace_those_of_the_server() -> None:
    with pytest.raises(ValueError, match="x-ably-clientId"):
        sign_jwt(
            ApiKey(KEY), capability=LOBBY, client_id="a", issued=1, expires=2, claims={"x-ably-clientId": "b"}
        )


def _jwt(payload: dict[str, object], *, key: str = KEY) -> str:
    name, _, secret = key.partition(":")
    return jwt.encode(payload, secret, algorithm="HS256", headers={"kid": name})


UNVERIFIED = [
    ("nonsense", "nonsense"),
    ("empty", ""),
    ("not ASCII", "é.é.é"),
    ("expired", _jwt({"iat": 1, "exp": 1000})),
    ("no exp", _jwt({"iat": 1})),
    ("exp is text", _jwt({"iat": 1, "exp": "2000"})),
    ("exp is true", _jwt({"iat": 1, "exp": True})),
    ("another app's key", _jwt({"iat": 1, "exp": 2000}, key=OTHER_KEY)),
    ("another's secret", _jwt({"iat": 1, "exp": 2000}, key="app1.key1:somebody-elses-secret-of-32-bytes")),
    ("no kid", jwt.encode({"iat": 1, "exp": 2000}, KEY.partition(":")[2], "HS256")),
    ("not signed", jwt.encode({"iat": 1, "exp": 2000}, "", algorithm="none", headers={"kid": "app1.key1"})),
    (
        "another algorithm",
        jwt.encode({"iat": 1, "exp": 2000}, "x" * 64, "HS512", headers={"kid": "app1.key1"}),
    ),
    ("capability is a list", _jwt({"iat": 1, "exp": 2000, "x-ably-capability": "[]"})),
    ("capability is no text", _jwt({"iat": 1, "exp": 2000, "x-ably-capability": 5})),
    ("client id is no text", _jwt({"iat": 1, "exp": 2000, "x-ably-clientId": 5})),
]


@pytest.mark.parametrize("token", [row[1] for row in UNVERIFIED], ids=[row[0] for row in UNVERIFIED])
@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
def test_jwt_that_does_not_verify_is_refused(token: str) -> None:
    with pytest.raises(InvalidCredential):
        verify_jwt(token, RING, now=1000)


def test_short_secrets_of_older_keys_sign_without_a_warning() -> None:
    old = "app1.key1:sixteencharacter"
    token = sign_jwt(ApiKey(old), capability=LOBBY, client_id=None, issued=1, expires=2)
    assert verify_jwt(token, KeyRing([old]), now=1).client_id is None
