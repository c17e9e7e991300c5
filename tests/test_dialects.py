"""The recorded requests of each Ably SDK, sent byte by byte.

The files in `dialects/` are requests of ably-js 2.28, ably-python 3.1.4, ably-ruby 1.2.8, ably-php, ably-go,
ably-java 1.8 (with HttpURLConnection and OkHttp), ably-cocoa 1.3 and ably-dotnet 1.2.18. Those of the first
five were captured; the others were built as the sources of the SDK build them.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from apps import BASE, KEY

import aiohttp_ably
from aiohttp_ably import ClientStored, TokenRequestIssuer

DIALECTS = Path(__file__).parent / "dialects"
HOUR = 3_600_000
FULL = {"a:é": ["history", "presence"], "b:x": ["publish", "subscribe"], "chat:*": ["*"]}
BOB = "bob@é.com"

# The name of a file tells its SDK and what it requests.
FULL_REQUESTS = [
    *(
        f"{sdk}-full-{method}"
        for sdk in (
            "js-node",
            "js-browser",
            "py",
            "ruby",
            "php",
            "go",
            "java-huc",
            "java-okhttp",
            "cocoa",
            "dotnet",
        )
        for method in ("get", "post")
    ),
    "php-urlquery-get",
    "php-urlquery-post",
]
CAPABILITY_ONLY = [
    "js-node-realtime-renew-post",
    "js-node-timestamp-nonce",
    "py-capability-json",
    "py-capability-object-get",
]
NOTHING_REQUESTED = [
    *(f"{sdk}-default-{method}" for sdk in (
        "js-node", "js-browser", "py", "ruby", "php", "go", "java-huc", "java-okhttp", "cocoa", "dotnet",
    ) for method in ("get", "post")),
    "go-nodefault-get", "go-nodefault-post", "java-huc-emptycap", "js-browser-odd-params-get",
    "js-browser-undef-get", "js-browser-undef-post", "js-node-empty-get", "js-node-odd-params-post",
    "js-node-undef-get", "py-none-get", "py-none-post", "py-odd-params", "py-timedelta-get", "py-timedelta-post",
    "ruby-odd-params-get", "ruby-odd-params-post", "ruby-float-ttl-int-timestamp",
]  # fmt: skip
OTHERS = {
    "java-huc-html-escape": {"capability": {"a=b&c'<d>": ["*"]}},
    "ruby-timestamp-get": {"capability": FULL, "ttl": 60_000},
    "ruby-timestamp-post": {"capability": FULL, "ttl": 60_000},
    "js-node-clientid-option": {"user": "bob"},
    "java-lowercase-post": {"user": "bob"},
    "php-capability-string": {"status": 400},
}
EXPECTED: dict[str, dict[str, Any]] = {
    **{name: {"capability": FULL} for name in FULL_REQUESTS + CAPABILITY_ONLY},
    **{name: {} for name in NOTHING_REQUESTED},
    **OTHERS,
    "js-browser-preflight": {"preflight": True},
}


async def send(server: TestServer, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send `request` as it is; returns status, headers and body of the answer."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return int(line.split()[1]), headers, body
    finally:
        writer.close()
        await writer.wait_closed()


def test_each_recorded_request_has_an_expected_answer() -> None:
    assert {path.stem for path in DIALECTS.glob("*.http")} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
async def test_the_request_of_each_sdk_is_understood(name: str, aiohttp_server: Any) -> None:
    expected = EXPECTED[name]
    user = expected.get("user", BOB)
    app = web.Application()

    async def allow_all(auth: aiohttp_ably.AuthRequest, requested: aiohttp_ably.Capability) -> Any:
        return requested

    aiohttp_ably.setup(
        app,
        key=KEY,
        identify=lambda request: user,
        strategy=ClientStored(allow_all, base=BASE, allow_wildcards=True),
        issuer=TokenRequestIssuer(jitter=0),
        path="/auth",
        origins=["https://app.example.com"],
    )
    status, headers, body = await send(await aiohttp_server(app), (DIALECTS / f"{name}.http").read_bytes())

    assert status == expected.get("status", 200), body
    if expected.get("preflight"):
        assert headers["access-control-allow-headers"] == "authorization,x-app"
        assert body == b""
    elif status == 200:
        token_request = json.loads(body)
        assert json.loads(token_request["capability"]) == {**BASE, **expected.get("capability", {})}
        assert token_request["ttl"] == expected.get("ttl", HOUR)
        assert token_request["clientId"] == user
        assert token_request["nonce"] != "abcdefghijklmnop"
        assert token_request["timestamp"] > 1_700_000_000_000
        assert headers["content-type"] == "application/json"
        if "js-browser" in name:
            assert headers["access-control-allow-origin"] == "https://app.example.com"
