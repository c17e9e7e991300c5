"""Every example: its command and its curl lines work, and a real SDK gets tokens from it."""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ably import AblyException, AblyRest
from aiohttp import web
from apps import PATH, Client
from plain_js import plain_js
from real_parts import CHROMIUM_ARGS, require_ably_js, require_chromium

from aiohttp_ably import ApiKey
from aiohttp_ably.emulator import Emulator
from aiohttp_ably.testing import client_options, decode_token

ROOT = Path(__file__).parent.parent
ALICE = {"Authorization": "Bearer alice-token"}
BOB = {"Authorization": "Bearer bob-token"}
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem[0] != "_")
EXAMPLES.remove("running")
SOURCES = sorted((ROOT / "examples").rglob("*.py"))
DOCUMENTED_MODULES = {
    "aiohttp_ably",
    "aiohttp_ably.capability",
    "aiohttp_ably.client",
    "aiohttp_ably.emulator",
    "aiohttp_ably.errors",
    "aiohttp_ably.pytest_plugin",
    "aiohttp_ably.stores",
    "aiohttp_ably.testing",
    "aiohttp_ably.tokens",
}

Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
def serve(aiohttp_client: Any, ably_emulator: Emulator) -> Serve:
    """Serve an example; returns an HTTP client that keeps cookies."""

    async def serve(name: str, key: str = ably_emulator.key, emulator: Emulator = ably_emulator) -> Client:
        example = importlib.import_module(f"examples.{name}")
        client: Client = await aiohttp_client(example.make_app(key, client_options(emulator, sdk="python")))
        return client

    return serve


def rest(emulator: Emulator, client: Client, **options: Any) -> AblyRest:
    """An ably-python client that gets its tokens from the example."""
    if "auth_callback" not in options:
        options["auth_url"] = str(client.make_url(PATH))
    return AblyRest(**client_options(emulator, sdk="python"), **options)


def with_cookies(client: Client) -> Callable[[dict[str, Any]], Awaitable[Any]]:
    """An auth callback that sends the params of `authorize()` with the client's cookies."""

    async def callback(params: dict[str, Any]) -> Any:
        data = {name: params[name] for name in ("capability", "drop", "password") if name in params}
        async with client.post(PATH, data=data) as response:
            return await response.json()

    return callback


async def may(ably: AblyRest, channel: str) -> bool:
    """Whether Ably lets the SDK publish on `channel`."""
    try:
        await ably.channels.get(channel).publish("greeting", "hello")
    except AblyException as error:
        if error.code != 40160:
            raise
        return False
    return True


async def test_server_determined(serve: Serve, ably_emulator: Emulator) -> None:
    client = await serve("server_determined")
    async with rest(ably_emulator, client, auth_headers=BOB) as ably:
        await ably.auth.authorize()
        assert await may(ably, "project:tea")
        assert not await may(ably, "project:cake")
        response = await client.post("/projects/cake", headers=BOB)
        assert response.headers["Ably-Reauthorize"] == "1"
        await ably.auth.authorize()
        assert await may(ably, "project:cake")


async def test_server_stored(serve: Serve, ably_emulator: Emulator) -> None:
    client = await serve("server_stored")
    await client.post("/login", data={"user": "alice"})
    async with rest(ably_emulator, client, auth_callback=with_cookies(client)) as ably:
        await ably.auth.authorize({"capability": '{"room:tea":["*"],"room:cake":["*"]}'})
        assert await may(ably, "room:tea")
        assert not await may(ably, "room:cake")
        assert (await client.post("/rooms/cake/messages", data={"text": "hello"})).status == 401
        assert (await client.post("/rooms/cake/join")).headers["Ably-Reauthorize"] == "1"
        await ably.auth.authorize()
        assert await may(ably, "room:cake")
        assert (await client.post("/rooms/cake/messages", data={"text": "hello"})).status == 200
        assert (await client.post("/rooms/tea/join")).status == 403


async def test_client_stored(serve: Serve, ably_emulator: Emulator) -> None:
    client = await serve("client_stored")
    requested = {"doc:menu": ["*"], "doc:plan": ["*"]}
    async with plain_js() as js:
        options = {
            **client_options(ably_emulator),
            "authUrl": str(client.make_url(PATH)),
            "authMethod": "POST",
            "authHeaders": BOB,
        }

        async def allowed() -> dict[str, list[str]]:
            details = await js("authorize", params={"capability": requested})
            capability: dict[str, list[str]] = details["capability"]
            return capability

        await js("connect", options=options)
        menu = ["history", "presence", "publish", "subscribe"]
        assert await allowed() == {"announcements": ["subscribe"], "doc:menu": menu}
        share = "/documents/plan/readers/bob"
        assert (await client.put(share, headers=BOB)).status == 401
        assert (await client.put(share, headers=ALICE)).status == 200
        assert (await allowed())["doc:plan"] == ["history", "subscribe"]
        await js("close")


async def test_client_signed(serve: Serve, ably_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await serve("client_signed")
    async with rest(ably_emulator, client, auth_callback=with_cookies(client)) as ably:
        tea = {"capability": '{"room:tea":["*"]}'}
        await ably.auth.authorize({**tea, "password": "arabica"})
        assert not await may(ably, "room:tea")
        await ably.auth.authorize({**tea, "password": "earl-grey"})
        assert await may(ably, "room:tea")
        monkeypatch.delattr("examples.client_signed.slow_hash")  # from here on a check would fail
        await ably.auth.authorize({})
        assert await may(ably, "room:tea")
        await ably.auth.authorize({"drop": "room:tea"})
        assert not await may(ably, "room:tea")


async def test_jwt_claims(serve: Serve) -> None:
    key = ApiKey("app.key:a-secret-of-a-revocable-key", revocable=True)
    async with Emulator(key) as emulator:
        client = await serve("jwt_claims", f"{key.name}:{key.secret}", emulator)
        bare = await client.get(PATH, headers={**ALICE, "Accept": "application/jwt"})
        assert decode_token(await bare.text(), emulator).client_id == "alice"
        async with plain_js() as js:
            url = str(client.make_url(PATH))
            options = {**client_options(emulator), "authUrl": url, "authHeaders": BOB}
            await js("connect", options=options)
            granted = (await js("authorize"))["capability"]
            assert granted == {"team:red": ["publish", "subscribe"]}
            renewals = (await js("state"))["events"].count("connected")
            assert (await client.delete("/teams/red", headers=BOB)).status == 401
            answer = await (await client.delete("/teams/red", headers=ALICE)).json()
            assert list(answer) == ["revocationKey:red"]
            await js(
                "until", event="connected", times=renewals + 1
            )  # disconnected, and connected with a new token
            await js("close")


async def test_aiohttp_security_login(serve: Serve, ably_emulator: Emulator) -> None:
    client = await serve("aiohttp_security_login")
    news = {"capability": '{"news:local":["*"]}'}
    for user, allowed in (("alice", ["publish", "subscribe"]), ("bob", ["subscribe"])):
        await client.post("/login", data={"user": user})
        async with rest(ably_emulator, client, auth_callback=with_cookies(client)) as ably:
            details = await ably.auth.authorize(news)
            assert details.client_id == user
            assert json.loads(str(details.capability))["news:local"] == allowed
    await client.post("/login", data={"user": "mallory"})
    assert (await client.get(PATH)).status == 403


async def test_cross_origin_spa(ably_emulator: Emulator, unused_tcp_port: int) -> None:
    from playwright.async_api import async_playwright, expect

    from examples.cross_origin_spa import make_app

    sdk = require_ably_js() / "node_modules" / "ably" / "build" / "ably.min.js"
    errors: list[str] = []
    origin = f"http://localhost:{unused_tcp_port}"
    options = {"endpoint": ably_emulator.host, "port": ably_emulator.port, "tls": False}
    app = make_app(ably_emulator.key, options, origin)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=require_chromium(), args=CHROMIUM_ARGS)
            page = await browser.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            await page.route("https://cdn.ably.com/**", lambda route: route.fulfill(path=sdk))
            await page.goto(f"{origin}/#alice-token")
            await page.locator("input").fill("hello")
            await page.get_by_role("button").click()
            await expect(page.locator("li")).to_have_text(["alice: hello"])
            assert errors == []
            await browser.close()
    finally:
        await runner.cleanup()


STATUSES = {
    "aiohttp_security_login": [200, 200],
    "client_signed": [200, 200, 200],
    "client_stored": [200, 200],
    "cross_origin_spa": [403],
    "jwt_claims": [200, 200, 200],
    "metrics": [200, 200, 200],
    "redis_workers": [200, 200, 200, 200],
    "server_determined": [200, 200, 200],
    "server_stored": [200, 200, 200, 200],
}
"""The status of the response to each curl line of an example."""


@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_commands_in_its_docstring_work(name: str, tmp_path: Path) -> None:
    text = (ROOT / "examples" / f"{name}.py").read_text()
    assert len(text.splitlines()) < 80
    head = text.split('"""')[1].replace("\\\n", "")
    assert f"python -m examples.{name}\n" in head
    if not (curl := shutil.which("curl")):
        pytest.skip("curl is not installed")
    environment = {**os.environ, "PORT": "0"}
    environment.pop("ABLY_API_KEY", None)
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"examples.{name}", cwd=ROOT, env=environment, stdout=pipe, stderr=pipe
    )
    try:
        assert server.stdout is not None
        output = b""
        while not (serving := re.search(rb"Serving (http://\S+)", output)):
            line = await asyncio.wait_for(server.stdout.readline(), 30)
            assert line, (await server.communicate())[1].decode()
            output += line
        statuses = []
        for command in re.findall(r"^[A-Z][\w ]*: +curl (.+)$", head, re.MULTILINE):
            arguments = shlex.split(command.replace("http://127.0.0.1:8080", serving[1].decode()))
            process = await asyncio.create_subprocess_exec(
                curl, "-s", "-o", "answer", "-w", "%{http_code}", *arguments, cwd=tmp_path, stdout=pipe
            )
            statuses.append(int((await process.communicate())[0]))
        assert statuses == STATUSES[name]
    finally:
        server.terminate()
        _, errors = await server.communicate()
    assert errors == b""


@pytest.mark.parametrize(
    ("name", "method", "path", "status"),
    [
        ("client_stored", "PUT", "/documents/*/readers/bob", 401),
        ("jwt_claims", "DELETE", "/teams/*", 401),
        ("server_determined", "POST", "/projects/*", 404),
        ("server_stored", "POST", "/rooms/*/join", 403),
        ("server_stored", "POST", "/rooms/*/messages", 401),
    ],
)
async def test_a_name_in_a_url_does_not_become_a_pattern(
    serve: Serve, name: str, method: str, path: str, status: int
) -> None:
    client = await serve(name)
    if name == "server_stored":
        await client.post("/login", data={"user": "alice"})
    response = await client.request(method, path, headers={} if name == "server_stored" else ALICE)
    assert response.status == status


@pytest.mark.parametrize("room", ["*", "tea:*", "[meta]log"])
async def test_redis_workers_have_no_route_for_a_pattern(aiohttp_client: Any, room: str) -> None:
    from examples.redis_workers import routes

    app = web.Application()
    app.add_routes(routes)
    client: Client = await aiohttp_client(app)
    assert (await client.post(f"/rooms/{room}/join")).status == 404
    assert (await client.put(f"/rooms/{room}/members/alice")).status == 404
    assert (await client.delete(f"/rooms/{room}/members/alice")).status == 404


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_examples_use_only_documented_names(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for module, name in names_of_the_package(tree):
        assert module in DOCUMENTED_MODULES, f"{module} is not documented"
        assert name in public_names(module), f"{module}.{name} is not documented"
    private = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and re.match(r"_(?!_)", node.attr)
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    ]
    assert private == []


def names_of_the_package(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The names of aiohttp_ably that a module uses, each with the module that it comes from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "aiohttp_ably":
            assert node.level == 0
            for alias in node.names:
                yield node.module or "", alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                assert not alias.name.startswith("aiohttp_ably."), "import names from the module"
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == "aiohttp_ably":
            yield "aiohttp_ably", node.attr


def public_names(module: str) -> set[str]:
    """The names that a module exports; its submodules are not among them."""
    found = importlib.import_module(module)
    names = vars(found).items()
    exported = {name for name, value in names if name[0] != "_" and not isinstance(value, ModuleType)}
    return set(getattr(found, "__all__", exported))


def test_every_example_is_tested() -> None:
    assert set(STATUSES) == set(EXAMPLES)
