"""The comparison of this machine's clock with Ably's: tokens are valid although the clock is wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import timedelta
from typing import Any

import pytest
from ably import AblyRest
from aiohttp import ClientSession, web
from apps import BASE, KEY, PATH, install, rooms
from emulator_helpers import bearer

from aiohttp_ably import JWTIssuer, MemoryStore, ServerStored, TokenDetailsIssuer, TokenRequestIssuer
from aiohttp_ably.ably_api import AblyApi
from aiohttp_ably.emulator import Emulator, ManualClock
from aiohttp_ably.testing import client_options

ALICE = {"X-User": "alice"}
ISSUERS = {"token request": TokenRequestIssuer, "jwt": JWTIssuer, "token details": TokenDetailsIssuer}


@pytest.fixture
def no_clock_sync() -> None:
    """Override the fixture of conftest.py: these tests compare clocks."""


def off_by(seconds: float) -> Any:
    return lambda: time.time() + seconds


@pytest.mark.parametrize("issuer", ISSUERS)
@pytest.mark.parametrize("seconds", [-300, 300], ids=["slow", "fast"])
async def test_tokens_of_a_server_whose_clock_is_five_minutes_off_are_valid(
    seconds: float, issuer: str, aiohttp_server: Any, ably_emulator: Emulator
) -> None:
    app = web.Application()
    install(
        app,
        ServerStored(rooms(), store=MemoryStore(), base=BASE),
        key=ably_emulator.key,
        issuer=ISSUERS[issuer](),
        clock=off_by(seconds),
        client_options=client_options(ably_emulator, sdk="python"),
    )
    url = str((await aiohttp_server(app)).make_url(PATH))
    options = client_options(ably_emulator, sdk="python")
    async with AblyRest(auth_url=url, auth_headers=ALICE, **options) as rest:
        details = await rest.auth.authorize()
        assert json.loads(str(details.capability)) == BASE
        presented = f"{ably_emulator.url}/channels/lobby/presence"
        async with (
            ClientSession() as session,
            session.get(presented, headers=bearer(details.token)) as answer,
        ):
            assert answer.status == 200, await answer.text()


class TimeServer:
    """Answers requests for Ably's time with `answer`, and counts them in `requested`."""

    def __init__(self) -> None:
        self.requested = 0
        self.third_request = asyncio.Event()
        self.answer: Any = lambda: web.json_response([int(time.time() * 1000)])

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requested += 1
        if self.requested == 3:
            self.third_request.set()
        answer: web.StreamResponse = self.answer()
        return answer


@pytest.fixture
async def time_server(aiohttp_server: Any) -> tuple[TimeServer, dict[str, Any]]:
    time_server, app = TimeServer(), web.Application()
    app.router.add_get("/time", time_server.handle)
    server = await aiohttp_server(app)
    return time_server, {"endpoint": "127.0.0.1", "port": server.port, "tls": False}


async def test_a_correct_clock_has_no_offset(time_server: tuple[TimeServer, dict[str, Any]]) -> None:
    ably_api = AblyApi(time_server[1])
    assert await ably_api.set_clock()
    assert ably_api.offset == 0
    await ably_api.close()


async def test_the_offset_is_measured_at_the_middle_of_the_request() -> None:
    clock = ManualClock(1_800_000_000)
    async with Emulator(clock=clock) as emulator:
        times = iter([1_000.0, 1_002.0, 5_000.0])
        ably_api = AblyApi(client_options(emulator, sdk="python"), clock=lambda: next(times))
        await ably_api.set_clock()
        assert ably_api.offset == 1_800_000_000 - 1_001
        assert ably_api.now() == 5_000 + ably_api.offset
        await ably_api.close()


async def test_an_offset_within_the_duration_of_the_request_is_ignored() -> None:
    clock = ManualClock(1_000)
    async with Emulator(clock=clock) as emulator:
        times = iter([999.5, 1_000.6])
        ably_api = AblyApi(client_options(emulator, sdk="python"), clock=lambda: next(times))
        await ably_api.set_clock()
        assert ably_api.offset == 0
        await ably_api.close()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: web.Response(status=500), id="500"),
        pytest.param(lambda: web.Response(text="<html>", content_type="text/html"), id="HTML"),
        pytest.param(lambda: web.json_response([]), id="an empty list"),
        pytest.param(lambda: web.json_response(["noon"]), id="not a number"),
        pytest.param(lambda: web.json_response({"time": 1}), id="an object"),
    ],
)
async def test_a_failed_comparison_is_logged_and_the_app_starts(
    answer: Any,
    time_server: tuple[TimeServer, dict[str, Any]],
    aiohttp_client: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    time_server[0].answer = answer
    app = web.Application()
    install(app, ServerStored(rooms(), store=MemoryStore(), base=BASE), client_options=time_server[1])
    client = await aiohttp_client(app)
    (warning,) = [one for one in caplog.records if one.name == "aiohttp_ably.ably_api"]
    assert warning.levelno == logging.WARNING
    async with client.get(PATH, headers=ALICE) as response:
        assert abs((await response.json())["timestamp"] / 1000 - time.time()) < 60


async def test_the_start_waits_for_ably_no_longer_than_the_timeout(
    aiohttp_server: Any, aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    over = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.json_response([0])

    ably = web.Application()
    ably.router.add_get("/time", hang)
    server = await aiohttp_server(ably)
    options = {"endpoint": "127.0.0.1", "port": server.port, "tls": False}
    app = web.Application()
    install(app, ServerStored(rooms(), store=MemoryStore()), client_options=options, timeout=0.05)
    await aiohttp_client(app)
    assert "did not answer within 0.05 s" in caplog.text
    over.set()


async def test_the_clock_is_compared_at_each_interval(
    time_server: tuple[TimeServer, dict[str, Any]], aiohttp_client: Any
) -> None:
    app = web.Application()
    every = timedelta(milliseconds=5)
    strategy = ServerStored(rooms(), store=MemoryStore())
    install(app, strategy, client_options=time_server[1], clock_sync=every)
    await aiohttp_client(app)
    await time_server[0].third_request.wait()


async def test_the_clock_is_compared_again_only_after_the_interval(
    time_server: tuple[TimeServer, dict[str, Any]], aiohttp_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohttp_ably.ably_api.CLOCK_RETRY", 0.005)
    app = web.Application()
    install(app, ServerStored(rooms(), store=MemoryStore()), client_options=time_server[1])
    await aiohttp_client(app)
    await asyncio.sleep(0.1)
    assert time_server[0].requested == 1


async def test_the_clock_is_compared_sooner_after_a_failure(
    time_server: tuple[TimeServer, dict[str, Any]], aiohttp_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohttp_ably.ably_api.CLOCK_RETRY", 0.005)
    time_server[0].answer = lambda: web.Response(status=503)
    app = web.Application()
    install(app, ServerStored(rooms(), store=MemoryStore()), client_options=time_server[1])
    await aiohttp_client(app)
    await time_server[0].third_request.wait()


async def test_without_an_interval_the_clock_is_not_compared(
    time_server: tuple[TimeServer, dict[str, Any]], aiohttp_client: Any
) -> None:
    app = web.Application()
    strategy = ServerStored(rooms(), store=MemoryStore(), base=BASE)
    install(app, strategy, client_options=time_server[1], clock_sync=None)
    client = await aiohttp_client(app)
    await client.get(PATH, headers=ALICE)
    assert time_server[0].requested == 0


@pytest.mark.parametrize("clock_sync", [timedelta(0), timedelta(hours=-1)])
def test_an_interval_that_is_not_positive_is_refused(clock_sync: timedelta) -> None:
    with pytest.raises(ValueError, match="clock_sync="):
        install(web.Application(), ServerStored(rooms(), store=MemoryStore()), key=KEY, clock_sync=clock_sync)
