"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from redis_server import RedisServer

from aiohttp_ably.control import Control

settings.register_profile("nightly", print_blob=True)  # see test_fuzz.py


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real redis-server for the whole run, that no test disturbs."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def no_clock_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apps of tests do not ask the real Ably for the time; what tests that overrides this."""

    async def leave_it(_: Control) -> bool:
        return False

    monkeypatch.setattr(Control, "set_clock", leave_it)
