"""Every code block of the README and the docs is right, every test they name is there, and they build."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import types
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp_session
import pytest
from aiohttp import web
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from cryptography.fernet import Fernet
from real_parts import require_node

import aiohttp_ably
from aiohttp_ably import ApiKey, ChannelRules, MemoryStore, ServerStored
from aiohttp_ably.emulator import Emulator, ManualClock
from aiohttp_ably.testing import client_options

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTED = [
    "aiohttp_ably",
    *(
        f"aiohttp_ably.{name}"
        for name in [
            "capability",
            "client",
            "emulator",
            "errors",
            "pytest_plugin",
            "stores",
            "testing",
            "tokens",
        ]
    ),
]
_FENCE = re.compile(r"^```([\w-]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    page: str
    line: int
    language: str
    code: str


def _blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for match in _FENCE.finditer(text):
            yield Block(page.name, text.count("\n", 0, match.start()) + 1, match[1], match[2])


BLOCKS = list(_blocks())


def each(*languages: str) -> Any:
    found = [block for block in BLOCKS if block.language in languages]
    return pytest.mark.parametrize("block", found, ids=lambda block: f"{block.page}:{block.line}")


def test_there_is_no_language_that_nothing_checks() -> None:
    assert {block.language for block in BLOCKS} <= {"python", "js", "console", "http", "text"}


@each("python")
def test_a_python_block_calls_what_is_there(block: Block) -> None:
    """Also where a block is not whole enough to run."""
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aiohttp_ably"):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).removeprefix("aiohttp_ably.")
            if name in aiohttp_ably.__all__ and callable(called := getattr(aiohttp_ably, name)):
                known = inspect.signature(called).parameters
                times = {"ttl", "max_ttl", "jitter"} if name.endswith("Issuer") else set()
                assert {keyword.arg for keyword in node.keywords} <= known.keys() | times


async def current_user(request: web.Request) -> str | None:
    return "alice"


async def yes(*args: object) -> bool:
    return True


async def no(*args: object) -> bool:
    return False


async def some_teams(client_id: str) -> list[str]:
    return ["red"]


def rules() -> ChannelRules:
    everywhere = ChannelRules()
    everywhere.channel("chat:{room}")(lambda auth, room: ["publish", "subscribe"])
    return everywhere


def make_app(key: str) -> web.Application:
    app = web.Application()
    strategy = ServerStored(rules(), store=MemoryStore(), base={"chat:1": ["subscribe"]})
    aiohttp_ably.setup(app, key=key, identify=current_user, strategy=strategy)
    return app


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Any]]:
    """What a block finds there: an app with sessions, a key, a login, rules, and some of a user's functions."""
    key = ApiKey("app1.key1:0123456789abcdefghijklmnopqrstuvwxyz", revocable=True)
    text = f"{key.name}:{key.secret}"
    monkeypatch.setenv("ABLY_API_KEY", text)
    async with Emulator(key) as emulator:
        app = web.Application()
        ably = aiohttp_ably.setup(
            web.Application(),
            key=key,
            identify=current_user,
            strategy=ServerStored(rules(), store=MemoryStore()),
            client_options=client_options(emulator, sdk="python"),
        )
        public = {name: getattr(aiohttp_ably, name) for name in aiohttp_ably.__all__}
        yield public | {
            "__name__": "block",
            "EncryptedCookieStorage": EncryptedCookieStorage,
            "Fernet": Fernet,
            "ManualClock": ManualClock,
            "Emulator": Emulator,
            "ably": ably,
            "aiohttp_ably": aiohttp_ably,
            "aiohttp_session": aiohttp_session,
            "app": app,
            "current_user": current_user,
            "is_banned": no,
            "is_member": yes,
            "key": text,
            "make_app": make_app,
            "rules": rules(),
            "secret": "a secret of the server, long enough",
            "teams": some_teams,
            "web": web,
        }
        await ably.close()


def is_whole(block: Block) -> bool:
    """Whether a block can be run here: nothing left out, nothing of another machine."""
    return "app, ...," not in block.code and "example.com" not in block.code


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.language == "python" and is_whole(block)],
    ids=lambda block: f"{block.page}:{block.line}",
)
async def test_a_python_block_runs(
    block: Block, names: dict[str, Any], aiohttp_client: Any, aiohttp_server: Any, ably_emulator: Emulator
) -> None:
    """The app that comes of it serves tokens, its routes answer, and its tests pass."""
    compiled = compile(block.code, block.page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    body = types.FunctionType(compiled, names)()
    if inspect.iscoroutine(body):
        await body
    fixtures = {
        "aiohttp_client": aiohttp_client,
        "aiohttp_server": aiohttp_server,
        "ably_emulator": ably_emulator,
    }
    for name, value in list(names.items()):
        if name.startswith("test_"):
            await value(*(fixtures[fixture] for fixture in inspect.signature(value).parameters))
    if len((app := names["app"]).router.resources()) == 0:
        return
    if not has_setup(app):
        strategy = ServerStored(rules(), store=MemoryStore(), base={"lobby": ["subscribe"]})
        aiohttp_ably.setup(app, key=names["key"], identify=current_user, strategy=strategy)
    client = await aiohttp_client(app)
    response = await client.get("/ably/auth", headers={"X-User": "alice"})
    expected = 403 if "get_session(request)" in block.code else 200  # nobody has signed in to its session
    assert response.status == expected, await response.text()
    for route in app.router.routes():
        path = route.resource.canonical.replace("{room}", "1")
        if path != "/ably/auth" and route.method in ("POST", "DELETE"):
            assert (await client.request(route.method, path, headers={"X-User": "alice"})).status < 500


def has_setup(app: web.Application) -> bool:
    return any(resource.canonical == "/ably/auth" for resource in app.router.resources())


@each("js")
def test_a_javascript_block_is_javascript(block: Block, tmp_path: Path) -> None:
    module = tmp_path / "block.mjs"
    module.write_text(block.code)
    checked = subprocess.run([require_node(), "--check", module], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_commands_files_and_tests_that_are_there(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"(?:`| {4})make (\w+)", text)) <= set(targets)
    for module in re.findall(r"python -m ((?:aiohttp_ably|examples)[\w.]*)", text):
        assert importlib.util.find_spec(module)
    for path in re.findall(r"`((?:aiohttp_ably|tests|examples|benchmarks|docs)/[\w./]*)`", text):
        assert (ROOT / path).exists(), path
    for file, test in re.findall(r"\b(test_\w+\.py)::(test_\w+)", text):
        assert re.search(rf"def {test}\(", (ROOT / "tests" / file).read_text()), f"{file}::{test}"


@pytest.mark.parametrize("module", DOCUMENTED)
def test_every_public_name_of_a_documented_module_is_in_the_reference(module: str) -> None:
    """A name that is the same object as a documented one of another module counts too."""
    documented, current = [], ""
    reference = (ROOT / "docs" / "api.md").read_text()
    for directive, name in re.findall(r"^\.\. ([\w:]+):: ([\w.]+)", reference, re.MULTILINE):
        if directive == "currentmodule":
            current = name
        else:
            documented.append((name, getattr(importlib.import_module(current), name)))
    for name in importlib.import_module(module).__all__:
        value = getattr(importlib.import_module(module), name)
        assert any(name == other and value is known for other, known in documented), f"{module}.{name}"


def test_the_architecture_page_lists_the_imports_of_each_module() -> None:
    package, found = ROOT / "aiohttp_ably", {}
    for path in package.iterdir():
        files = list(path.rglob("*.py")) if path.is_dir() else [path] if path.suffix == ".py" else []
        code = "".join(file.read_text() for file in files)
        dots = r"\.\." if path.is_dir() else r"\."
        if files and path.stem != "__init__":
            found[path.stem] = set(re.findall(rf"^ *from {dots}(\w+)", code, re.MULTILINE))
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = re.findall(r"^\| `(\w+)` \|(.*)\|$", page, re.MULTILINE)
    assert {module: set(re.findall(r"\w+", listed)) for module, listed in table} == found


def test_every_clause_in_the_code_is_in_the_spec_page() -> None:
    page = (ROOT / "docs" / "spec.md").read_text()
    code = "".join(path.read_text() for path in (ROOT / "aiohttp_ably").glob("*.py"))
    clauses = set(re.findall(r"\b(?:RSA|RSC|RTC)\d+[a-z]?", code))
    assert {clause for clause in clauses if clause not in page} == set()


def test_pre_commit_runs_the_commands_of_make_check() -> None:
    makefile = (ROOT / "Makefile").read_text()
    commands = re.findall(r"\$\(BIN\)/(.*)", makefile.partition("\ncheck:")[2].partition("\n\n")[0])
    hooks = re.findall(r"entry: \.venv/bin/(.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert commands
    assert hooks == commands


def test_the_docs_build_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="Sphinx is not installed; pip install 'aiohttp-ably[docs]'")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    built = subprocess.run(
        [*command, "-d", tmp_path / "trees", ROOT / "docs", tmp_path / "html"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
