"""The pytest fixture `ably_emulator`: a local emulator of Ably for each test that requests it.

    async def test_members_may_publish(aiohttp_client, ably_emulator):
        client = await aiohttp_client(make_app(key=ably_emulator.key))
        response = await client.get("/ably/auth?channel=chat:1")
        assert_allows(await response.json(), {"chat:1": ["publish"]}, emulator=ably_emulator)

`aiohttp_ably.testing` has `assert_allows` and other helpers. pytest loads this module wherever the package is
installed, so it imports the rest of the package only when the fixture is used.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

if TYPE_CHECKING:
    from .emulator import Emulator

__all__ = ["ably_emulator"]

_F = TypeVar("_F", bound=Callable[..., object])


def _async_fixture(function: _F) -> _F:
    """A fixture of pytest-asyncio where that is installed, else of pytest."""
    fixture: Any = pytest.fixture
    with contextlib.suppress(ImportError):
        fixture = importlib.import_module("pytest_asyncio").fixture
    return cast(_F, fixture(function))


@_async_fixture
async def ably_emulator() -> AsyncIterator[Emulator]:
    """A running emulator. Its key, `ably_emulator.key`, allows every operation on every channel."""
    from .emulator import Emulator

    async with Emulator() as emulator:
        yield emulator
