"""ably-js with the emulator: in Node.js, and in Chromium on a page of another origin."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from emulator_auth_app import make_auth_app
from real_parts import CHROMIUM_ARGS, require_ably_js, require_chromium, require_node

from aiohttp_ably.emulator import Emulator, ManualClock
from aiohttp_ably.testing import client_options

KINDS = [("request", "alice"), ("jwt", "alice"), ("details", "")]
TIMEOUT = 30


@pytest.fixture
async def config() -> AsyncIterator[dict[str, Any]]:
    async with (
        Emulator(clock=ManualClock()) as emulator,
        TestServer(make_auth_app(emulator)) as server,
    ):
        yield {
            "options": client_options(emulator),
            "authUrl": str(server.make_url("/auth")),
            "kinds": KINDS,
        }


def check(results: dict[str, Any]) -> None:
    names = [f"{kind}-{wire}" for kind, _ in KINDS for wire in ("msgpack", "json")]
    assert [client.pop("name") for client in results["clients"]] == names
    users = [user for _, user in KINDS for _ in range(2)]
    for client, user in zip(results["clients"], users, strict=True):
        expected = {
            "received": {"hello": "world"},
            "clientId": user or None,
            "attach": 40160,
            "attachState": "failed",
            "publish": 40160,
            "rest": [401, 40160],
            "history": 40160,
            "upgraded": ["attached", "attached", True, ["connected"]],
            "downgraded": ["attached", "failed", 40160, "connected"],
            "expired": 40142,
            "renewed": True,
        }
        assert client == expected | ({"otherClient": 40102, "failed": 40102} if user else {})
    assert results["pair"] == {
        "texts": [["alice: hello", "bob: hi"]] * 2,
        "members": [
            "alice enter online",
            "alice update away",
            "alice leave away",
            "alice enter again",
            "alice leave again",
        ],
        "present": ["alice away"],
        "remaining": 0,
    }


async def test_ably_js_in_node_connects_upgrades_downgrades_and_renews(config: dict[str, Any]) -> None:
    node, folder = require_node(), require_ably_js()
    process = await asyncio.create_subprocess_exec(
        node,
        str(folder / "emulator_scenario.mjs"),
        json.dumps(config),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), TIMEOUT)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    check(json.loads(output))


async def test_ably_js_in_a_page_of_another_origin_connects_upgrades_downgrades_and_renews(
    config: dict[str, Any],
) -> None:
    chromium, folder = require_chromium(), require_ably_js()
    from playwright.async_api import async_playwright

    async def page(_: web.Request) -> web.Response:
        return web.Response(text='<script src="/ably/ably.min.js"></script>', content_type="text/html")

    site = web.Application()
    site.router.add_get("/", page)
    site.router.add_static("/ably", folder / "node_modules" / "ably" / "build")
    site.router.add_static("/js", folder)
    script = "config => import('/js/emulator_scenario.mjs').then(({ run }) => run(Ably, config))"
    async with TestServer(site) as server, async_playwright() as started:
        browser = await started.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        try:
            tab = await browser.new_page()
            await tab.goto(str(server.make_url("/")))
            check(await asyncio.wait_for(tab.evaluate(script, config), TIMEOUT))
        finally:
            await browser.close()
