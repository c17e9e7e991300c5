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
    """A real redis-server for the whole run, that no test disturbs."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.close()


@pytest.fixture
def clock() -> ManualClock:
    """A clock for an emulator, which the test moves on."""
    return ManualClock()


@pytest.fixture
async def emulator(clock: ManualClock) -> AsyncIterator[Emulator]:
    """An emulator with one key, on that clock; modules that need other keys have their own."""
    async with Emulator(KEY, clock=clock) as emulator:
        yield emulator


@pytest.fixture(params=[False, True], ids=["json", "msgpack"])
def binary(request: pytest.FixtureRequest) -> bool:
    """Whether an Ably client encodes its messages as msgpack."""
    return bool(request.param)


@pytest.fixture(autouse=True)
def no_clock_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apps of tests do not ask the real Ably for the time; what tests that overrides this."""

    async def leave_it(_: AblyApi) -> bool:
        return False

    monkeypatch.setattr(AblyApi, "set_clock", leave_it)
