"""The public names: `__all__`, docstrings, and imports that an app can avoid."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import own_parts

import aiohttp_ably
from aiohttp_ably import CapabilityStore, JWTStore, MemoryStore, RedisStore, SessionStore, SignedStore


def test_all_lists_every_public_name_sorted() -> None:
    public = {name for name in vars(aiohttp_ably) if not name.startswith("_")}
    modules = {name for name in public if isinstance(vars(aiohttp_ably)[name], type(sys))}
    assert aiohttp_ably.__all__ == sorted(public - modules)


def test_optional_dependencies_are_not_imported() -> None:
    """An app that does not use them loads neither the Ably SDK, nor redis-py, nor the emulator."""
    code = "import sys, aiohttp_ably; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"ably", "httpx", "redis", "msgpack", "aiohttp_ably.emulator"} & set(loaded)


def test_every_public_name_has_a_docstring() -> None:
    for name in aiohttp_ably.__all__:
        value = vars(aiohttp_ably)[name]
        assert not callable(value) or value.__doc__, name


DOCUMENTED = {
    "aiohttp_ably",
    *(f"aiohttp_ably.{name}" for name in ("capability", "errors", "stores", "tokens", "client", "emulator")),
    "aiohttp_ably.testing",
    "aiohttp_ably.pytest_plugin",
}


def test_own_parts_of_an_app_need_documented_names_only() -> None:
    """The store, strategy and issuer that the contracts run over import nothing else."""
    tree = ast.parse(Path(own_parts.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported - {"__future__"} <= DOCUMENTED
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_") or node.attr == "__init__"


def test_stores_declare_their_properties() -> None:
    expected = {
        MemoryStore: (True, False, False),
        RedisStore: (True, False, False),
        SessionStore: (False, False, False),
        SignedStore: (False, True, False),
        JWTStore: (False, True, True),
        CapabilityStore: (True, False, False),
    }
    for store, properties in expected.items():
        assert (store.by_client_id, store.renews, store.in_token) == properties
