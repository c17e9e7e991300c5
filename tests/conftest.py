"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from emulator_helpers import KEY
from hypothesis import settings
from redis_server import RedisServer

from aiohttp_ably.ably_api import AblyApi
from aiohttp_ably.emulator import Emulator, ManualClock

settings.register_profile("nightly", print_blob=True)  # see test_fuzz.py


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real redis-server for the whole run. Tests may flush it, but not stop it."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.close()


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the emulator, which a test advances."""
    return ManualClock()


@pytest.fixture
async def emulator(clock: ManualClock) -> AsyncIterator[Emulator]:
    """An emulator with one key, on the clock of the fixture `clock`. Modules that need other keys override it."""
    async with Emulator(KEY, clock=clock) as emulator:
        yield emulator


@pytest.fixture(params=[False, True], ids=["json", "msgpack"])
def binary(request: pytest.FixtureRequest) -> bool:
    """Whether an Ably client encodes its messages as msgpack: each test runs with both encodings."""
    return bool(request.param)


@pytest.fixture(autouse=True)
def no_clock_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apps in tests do not request the time from Ably. The tests of the clock override this fixture."""

    async def not_set(_: AblyApi) -> bool:
        return False

    monkeypatch.setattr(AblyApi, "set_clock", not_set)
