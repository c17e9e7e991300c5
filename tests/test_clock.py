"""A server whose clock is off still issues what Ably accepts, and one that cannot ask goes on as it is."""

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
    """These tests are about it."""


def at(emulator: Emulator) -> dict[str, Any]:
    return {"endpoint": emulator.host, "port": emulator.port, "tls": False}


def off_by(seconds: float) -> Any:
    return lambda: time.time() + seconds


@pytest.mark.parametrize("issuer", ISSUERS)
@pytest.mark.parametrize("seconds", [-300, 300], ids=["slow", "fast"])
async def test_a_server_five_minutes_off_issues_what_ably_accepts(
    seconds: float, issuer: str, aiohttp_server: Any, ably_emulator: Emulator
) -> None:
    app = web.Application()
    install(
        app,
        ServerStored(rooms(), store=MemoryStore(), base=BASE),
        key=ably_emulator.key,
        issuer=ISSUERS[issuer](),
        clock=off_by(seconds),
        client_options=at(ably_emulator),
    )
    url = str((await aiohttp_server(app)).make_url(PATH))
    ours = client_options(ably_emulator, sdk="python")
    async with AblyRest(auth_url=url, auth_headers=ALICE, **ours) as rest:
        details = await rest.auth.authorize()
        assert json.loads(str(details.capability)) == BASE
        presented = f"{ably_emulator.url}/channels/lobby/presence"
        async with (
            ClientSession() as session,
            session.get(presented, headers=bearer(details.token)) as answer,
        ):
            assert answer.status == 200, await answer.text()


class FakeAbly:
    """Tells the time as `answer` has it; `asked` says how often it was asked."""

    def __init__(self) -> None:
        self.requested = 0
        self.enough = asyncio.Event()
        self.answer: Any = lambda: web.json_response([int(time.time() * 1000)])

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requested += 1
        if self.requested == 3:
            self.enough.set()
        answer: web.StreamResponse = self.answer()
        return answer


@pytest.fixture
async def fake(aiohttp_server: Any) -> tuple[FakeAbly, dict[str, Any]]:
    fake, app = FakeAbly(), web.Application()
    app.router.add_get("/time", fake.handle)
    server = await aiohttp_server(app)
    return fake, {"endpoint": "127.0.0.1", "port": server.port, "tls": False}


async def test_a_clock_that_is_right_is_left_alone(fake: tuple[FakeAbly, dict[str, Any]]) -> None:
    control = AblyApi(fake[1])
    assert await control.set_clock()
    assert control.offset == 0
    await control.close()


async def test_the_difference_is_taken_at_the_middle_of_asking() -> None:
    clock = ManualClock(1_800_000_000)
    async with Emulator(clock=clock) as emulator:
        ours = iter([1_000.0, 1_002.0, 5_000.0])
        control = AblyApi(at(emulator), clock=lambda: next(ours))
        await control.set_clock()
        assert control.offset == 1_800_000_000 - 1_001
        assert control.now() == 5_000 + control.offset
        await control.close()


async def test_what_asking_cannot_tell_from_nothing_is_nothing() -> None:
    clock = ManualClock(1_000)
    async with Emulator(clock=clock) as emulator:
        ours = iter([999.5, 1_000.6])
        control = AblyApi(at(emulator), clock=lambda: next(ours))
        await control.set_clock()
        assert control.offset == 0
        await control.close()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: web.Response(status=500), id="500"),
        pytest.param(lambda: web.Response(text="<html>", content_type="text/html"), id="HTML"),
        pytest.param(lambda: web.json_response([]), id="nothing"),
        pytest.param(lambda: web.json_response(["noon"]), id="no number"),
        pytest.param(lambda: web.json_response({"time": 1}), id="an object"),
    ],
)
async def test_ably_failing_is_logged_and_survived(
    answer: Any, fake: tuple[FakeAbly, dict[str, Any]], aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fake[0].answer = answer
    app = web.Application()
    install(app, ServerStored(rooms(), store=MemoryStore(), base=BASE), client_options=fake[1])
    client = await aiohttp_client(app)
    (warning,) = [one for one in caplog.records if one.name == "aiohttp_ably.ably_api"]
    assert warning.levelno == logging.WARNING
    async with client.get(PATH, headers=ALICE) as response:
        assert abs((await response.json())["timestamp"] / 1000 - time.time()) < 60


async def test_ably_hanging_holds_no_start_up_longer_than_the_timeout(
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


async def test_it_is_compared_again_and_again(
    fake: tuple[FakeAbly, dict[str, Any]], aiohttp_client: Any
) -> None:
    app = web.Application()
    every = timedelta(milliseconds=5)
    strategy = ServerStored(rooms(), store=MemoryStore())
    install(app, strategy, client_options=fake[1], clock_sync=every)
    await aiohttp_client(app)
    await fake[0].enough.wait()


async def test_after_a_failure_it_is_compared_sooner(
    fake: tuple[FakeAbly, dict[str, Any]], aiohttp_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohttp_ably.ably_api.CLOCK_RETRY", 0.005)
    fake[0].answer = lambda: web.Response(status=503)
    app = web.Application()
    install(app, ServerStored(rooms(), store=MemoryStore()), client_options=fake[1])
    await aiohttp_client(app)
    await fake[0].enough.wait()


async def test_it_can_be_turned_off(fake: tuple[FakeAbly, dict[str, Any]], aiohttp_client: Any) -> None:
    app = web.Application()
    strategy = ServerStored(rooms(), store=MemoryStore(), base=BASE)
    install(app, strategy, client_options=fake[1], clock_sync=None)
    client = await aiohttp_client(app)
    await client.get(PATH, headers=ALICE)
    assert fake[0].requested == 0


@pytest.mark.parametrize("clock_sync", [timedelta(0), timedelta(hours=-1)])
def test_an_interval_that_is_none_is_refused(clock_sync: timedelta) -> None:
    with pytest.raises(ValueError, match="clock_sync="):
        install(web.Application(), ServerStored(rooms(), store=MemoryStore()), key=KEY, clock_sync=clock_sync)
