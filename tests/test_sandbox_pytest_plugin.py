"""The helpers for people who test their own auth endpoint."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from ably.types.tokendetails import TokenDetails
from sandbox_helpers import issue, jwt_of, signed

from aiohttp_ably.pytest_plugin import assert_allows, client_options, decode_token
from aiohttp_ably.sandbox import Certificate, Sandbox

CAPABILITY = '{"chat:1":["publish","subscribe"]}'


async def answers(sandbox: Sandbox) -> dict[str, Any]:
    """What an auth endpoint may answer, all for the same client and capability."""
    details = await issue(sandbox, sandbox.key, clientId="alice", capability=CAPABILITY)
    token = jwt_of(sandbox, {"chat:1": ["publish", "subscribe"]}, key=sandbox.key, client_id="alice")
    return {
        "token request": signed(sandbox, sandbox.key, clientId="alice", capability=CAPABILITY),
        "token": details["token"],
        "details": details,
        "jwt": token,
        "wrapped jwt": {"token": token},
        "of the SDK": TokenDetails.from_dict(details),
    }


KINDS = {
    "token request": "token request",
    "token": "token",
    "details": "token",
    "jwt": "jwt",
    "wrapped jwt": "jwt",
    "of the SDK": "token",
}


@pytest.mark.parametrize("name", KINDS)
async def test_every_answer_is_decoded_and_verified(ably_sandbox: Sandbox, name: str) -> None:
    answer = (await answers(ably_sandbox))[name]
    content = decode_token(answer, ably_sandbox)
    assert (content.kind, content.client_id) == (KINDS[name], "alice")
    assert content.capability is not None
    assert content.capability.text == CAPABILITY
    assert content.key_name == ably_sandbox.key.partition(":")[0]
    assert content.expires - content.issued == 3_600_000
    allowed = {"chat:1": ["subscribe"]}
    assert assert_allows(answer, allowed, client_id="alice", sandbox=ably_sandbox) == content
    assert_allows(answer, {"chat:1": ["publish", "subscribe"]}, only=True, sandbox=ably_sandbox)


async def test_without_the_sandbox_what_is_written_is_read(ably_sandbox: Sandbox) -> None:
    made = await answers(ably_sandbox)
    for name in ("token request", "jwt", "wrapped jwt"):
        assert_allows(made[name], {"chat:1": ["publish"]}, client_id="alice")
    with pytest.raises(ValueError, match="sandbox="):
        decode_token(made["token"])


async def test_json_text_is_read(ably_sandbox: Sandbox) -> None:
    assert_allows('{"keyName":"a.b","timestamp":1,"capability":"{\\"a\\":[\\"*\\"]}"}', {"a": ["*"]})


async def test_a_capability_is_what_remains_within_the_keys() -> None:
    async with Sandbox({"app1.key1:secret": {"a": ["subscribe"]}}) as sandbox:
        for answer in (
            signed(sandbox, sandbox.key, capability='{"*":["*"]}'),
            signed(sandbox, sandbox.key, capability=...),
            jwt_of(sandbox, {"*": "*"}, key=sandbox.key),
        ):
            assert_allows(answer, {"a": ["subscribe"]}, only=True, client_id=None, sandbox=sandbox)


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
async def test_what_is_not_so_fails_and_says_what_is(
    ably_sandbox: Sandbox, options: dict[str, Any], message: str
) -> None:
    answer = signed(ably_sandbox, ably_sandbox.key, clientId="alice", capability=CAPABILITY)
    with pytest.raises(AssertionError) as raised:
        assert_allows(answer, sandbox=ably_sandbox, **options)
    assert message in str(raised.value)


async def test_no_capability_is_told_from_an_empty_one(ably_sandbox: Sandbox) -> None:
    with pytest.raises(AssertionError, match="all that its key does"):
        assert_allows(signed(ably_sandbox, ably_sandbox.key, capability=...), {})


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
async def test_what_does_not_verify_is_a_value_error(
    ably_sandbox: Sandbox, make: Callable[[dict[str, Any]], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        decode_token(make(signed(ably_sandbox, ably_sandbox.key)), ably_sandbox)


async def test_options_point_each_sdk_at_the_sandbox() -> None:
    async with Sandbox(tls=Certificate().context()) as sandbox:
        assert client_options(sandbox, echoMessages=False) == {
            "endpoint": "127.0.0.1",
            "port": sandbox.port,
            "tls": False,
            "disableConnectivityCheck": True,
            "connectivityCheckUrl": f"{sandbox.url}/is-the-internet-up.txt",
            "wsConnectivityCheckUrl": f"ws://127.0.0.1:{sandbox.port}/is-the-internet-up.txt",
            "echoMessages": False,
        }
        assert client_options(sandbox, tls=True)["tlsPort"] == sandbox.tls_port
        assert client_options(sandbox, sdk="python", tls=True) == {
            "endpoint": "127.0.0.1",
            "tls_port": sandbox.tls_port,
            "tls": True,
            "connectivity_check_url": f"{sandbox.tls_url}/is-the-internet-up.txt",
        }


def test_the_plugin_imports_nothing_before_it_is_needed() -> None:
    script = (
        "import sys, aiohttp_ably; before = set(sys.modules); import aiohttp_ably.pytest_plugin;"
        "print(sorted(name for name in set(sys.modules) - before if name.startswith(('aiohttp', 'ably'))))"
    )
    command = [sys.executable, "-c", script]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "['aiohttp_ably.pytest_plugin']"
