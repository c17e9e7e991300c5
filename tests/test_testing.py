"""Helpers for tests of an auth endpoint."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from ably.types.tokendetails import TokenDetails
from emulator_helpers import issue, jwt_of, signed

from aiohttp_ably.emulator import Certificate, Emulator
from aiohttp_ably.testing import assert_allows, client_options, decode_token

CAPABILITY = '{"chat:1":["publish","subscribe"]}'


async def answers(emulator: Emulator) -> dict[str, Any]:
    """The kinds of response of an auth endpoint, all for the same client and capability."""
    details = await issue(emulator, emulator.key, clientId="alice", capability=CAPABILITY)
    token = jwt_of(emulator, {"chat:1": ["publish", "subscribe"]}, key=emulator.key, client_id="alice")
    return {
        "token request": signed(emulator, emulator.key, clientId="alice", capability=CAPABILITY),
        "token": details["token"],
        "details": details,
        "jwt": token,
        "wrapped jwt": {"token": token},
        "ably-python object": TokenDetails.from_dict(details),
    }


KINDS = {
    "token request": "token request",
    "token": "token",
    "details": "token",
    "jwt": "jwt",
    "wrapped jwt": "jwt",
    "ably-python object": "token",
}


@pytest.mark.parametrize("name", KINDS)
async def test_every_kind_of_response_is_decoded_and_verified(ably_emulator: Emulator, name: str) -> None:
    answer = (await answers(ably_emulator))[name]
    content = decode_token(answer, ably_emulator)
    assert (content.kind, content.client_id) == (KINDS[name], "alice")
    assert content.capability is not None
    assert content.capability.text == CAPABILITY
    assert content.key_name == ably_emulator.key.partition(":")[0]
    assert content.expires - content.issued == 3_600_000
    allowed = {"chat:1": ["subscribe"]}
    assert assert_allows(answer, allowed, client_id="alice", emulator=ably_emulator) == content
    assert_allows(answer, {"chat:1": ["publish", "subscribe"]}, only=True, emulator=ably_emulator)


async def test_without_the_emulator_a_response_is_decoded_unverified(ably_emulator: Emulator) -> None:
    made = await answers(ably_emulator)
    for name in ("token request", "jwt", "wrapped jwt"):
        assert_allows(made[name], {"chat:1": ["publish"]}, client_id="alice")
    with pytest.raises(ValueError, match="emulator="):
        decode_token(made["token"])


async def test_json_is_decoded(ably_emulator: Emulator) -> None:
    assert_allows('{"keyName":"a.b","timestamp":1,"capability":"{\\"a\\":[\\"*\\"]}"}', {"a": ["*"]})


async def test_a_decoded_capability_is_limited_to_that_of_the_key() -> None:
    async with Emulator({"app1.key1:secret": {"a": ["subscribe"]}}) as emulator:
        for answer in (
            signed(emulator, emulator.key, capability='{"*":["*"]}'),
            signed(emulator, emulator.key, capability=...),
            jwt_of(emulator, {"*": "*"}, key=emulator.key),
        ):
            assert_allows(answer, {"a": ["subscribe"]}, only=True, client_id=None, emulator=emulator)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"allowed": {"chat:2": ["publish"]}}, 'not allowed: {"chat:2":'),
        ({"allowed": {"chat:1": ["publish", "history"]}}, 'not allowed: {"chat:1":["history"]}'),
        ({"allowed": {"chat:1": ["publish"]}, "only": True}, 'allowed besides: {"chat:1":["subscribe"]}'),
        ({"allowed": {}, "client_id": "bob"}, "client id 'alice'"),
        ({"allowed": {}, "client_id": None}, "client id 'alice'"),
    ],
)
async def test_a_failed_assertion_says_what_the_token_allows(
    ably_emulator: Emulator, options: dict[str, Any], message: str
) -> None:
    answer = signed(ably_emulator, ably_emulator.key, clientId="alice", capability=CAPABILITY)
    with pytest.raises(AssertionError) as raised:
        assert_allows(answer, emulator=ably_emulator, **options)
    assert message in str(raised.value)


async def test_a_token_without_a_capability_is_a_failure(ably_emulator: Emulator) -> None:
    with pytest.raises(AssertionError, match="all that its key does"):
        assert_allows(signed(ably_emulator, ably_emulator.key, capability=...), {})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda request: request | {"mac": "x"}, "mac"),
        (lambda request: request | {"keyName": "none.key"}, "no application"),
        (lambda request: request | {"capability": "x"}, "not JSON"),
        (lambda request: {"error": {"code": 40300}}, "neither a TokenRequest"),
        (lambda request: None, "neither a TokenRequest"),
        (lambda request: "garbage", "invalid token"),
        (lambda request: "{", "Expecting property name"),
        (lambda request: "a.b.c", "invalid JWT"),
    ],
)
async def test_a_response_that_does_not_verify_is_a_value_error(
    ably_emulator: Emulator, make: Callable[[dict[str, Any]], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        decode_token(make(signed(ably_emulator, ably_emulator.key)), ably_emulator)


async def test_client_options_are_for_one_sdk() -> None:
    async with Emulator(tls=Certificate().context()) as emulator:
        assert client_options(emulator, echoMessages=False) == {
            "endpoint": "127.0.0.1",
            "port": emulator.port,
            "tls": False,
            "disableConnectivityCheck": True,
            "connectivityCheckUrl": f"{emulator.url}/is-the-internet-up.txt",
            "wsConnectivityCheckUrl": f"ws://127.0.0.1:{emulator.port}/is-the-internet-up.txt",
            "echoMessages": False,
        }
        assert client_options(emulator, tls=True)["tlsPort"] == emulator.tls_port
        assert client_options(emulator, sdk="python", tls=True) == {
            "endpoint": "127.0.0.1",
            "tls_port": emulator.tls_port,
            "tls": True,
            "connectivity_check_url": f"{emulator.tls_url}/is-the-internet-up.txt",
        }


def test_the_plugin_imports_nothing_before_it_is_needed() -> None:
    script = (
        "import sys, aiohttp_ably; before = set(sys.modules); import aiohttp_ably.pytest_plugin;"
        "print(sorted(name for name in set(sys.modules) - before if name.startswith(('aiohttp', 'ably'))))"
    )
    command = [sys.executable, "-c", script]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "['aiohttp_ably.pytest_plugin']"
