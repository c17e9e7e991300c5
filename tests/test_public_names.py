"""The public names: one sorted list, and nothing in it that is not there."""

from __future__ import annotations

import subprocess
import sys

import aiohttp_ably


def test_all_lists_every_public_name_sorted() -> None:
    public = {name for name in vars(aiohttp_ably) if not name.startswith("_")}
    modules = {name for name in public if isinstance(vars(aiohttp_ably)[name], type(sys))}
    assert aiohttp_ably.__all__ == sorted(public - modules)


def test_optional_dependencies_are_not_imported() -> None:
    """Neither the Ably SDK and what it brings, nor Redis, nor the emulator."""
    code = "import sys, aiohttp_ably; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"ably", "httpx", "redis", "msgpack", "aiohttp_ably.emulator"} & set(loaded)


def test_every_public_name_has_a_docstring() -> None:
    for name in aiohttp_ably.__all__:
        value = vars(aiohttp_ably)[name]
        assert not callable(value) or value.__doc__, name
