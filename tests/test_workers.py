"""Four worker processes on one Redis: every grant is in all later tokens, also when workers are killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ably.realtime.realtime import AblyRealtime
from ably.types.channelstate import ChannelState
from ably.types.connectionstate import ConnectionState
from aiohttp import ClientError, ClientSession, CookieJar, TCPConnector
from apps import KEY, PATH
from redis_server import RedisServer, free_port

from aiohttp_ably import ApiKey
from aiohttp_ably.emulator import Emulator
from aiohttp_ably.testing import realtime_client

ROOT = Path(__file__).parent.parent
CLIENTS, GRANTS = 20, 20
SESSION_SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

pytest.importorskip("gunicorn")


@dataclass
class Workers:
    """The URL of the workers, and the port at which they expect Ably."""

    url: str
    ably_port: int


@pytest.fixture(scope="module")
def workers(redis_server: RedisServer) -> Iterator[Workers]:
    """`examples/redis_workers.py` in gunicorn with four workers."""
    port, ably_port = free_port(), free_port()
    options = {"endpoint": "127.0.0.1", "port": ably_port, "tls": False}
    environment = {
        **os.environ,
        "ABLY_API_KEY": KEY,
        "ABLY_CLIENT_OPTIONS": json.dumps(options),
        "REDIS_URL": redis_server.url,
        "SESSION_SECRET": SESSION_SECRET,
    }
    command = [sys.executable, "-m", "gunicorn", "examples.redis_workers:make_app", "--workers", "4"]
    command += ["--worker-class", "aiohttp.GunicornWebWorker", "--bind", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "Listening at" in line:
            break
    threading.Thread(target=process.stdout.read, daemon=True).start()
    yield Workers(f"http://127.0.0.1:{port}", ably_port)
    process.terminate()
    process.wait()
    process.stdout.close()


@asynccontextmanager
async def browser(workers: Workers, user: str) -> AsyncIterator[ClientSession]:
    """A session of a signed-in user. Each request opens a connection, so that any worker may answer."""
    jar, connector = CookieJar(unsafe=True), TCPConnector(force_close=True)
    async with ClientSession(workers.url, cookie_jar=jar, connector=connector) as session:
        async with session.post("/login", data={"user": user}) as response:
            assert response.status == 200
        yield session


@dataclass
class Load:
    """Twenty clients that are granted twenty rooms each, all at once, and check their tokens."""

    workers: Workers
    run: str
    served_by: set[int] = field(default_factory=set)
    granted: int = 0
    unanswered: int = 0
    half: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> None:
        await asyncio.gather(*(self._client(f"{self.run}-{number}") for number in range(CLIENTS)))

    async def _client(self, user: str) -> None:
        granted: set[str] = set()
        async with browser(self.workers, user) as session:
            await asyncio.gather(*(self._grant(session, f"{number}", granted) for number in range(GRANTS)))
            await self._check(session, granted)

    async def _grant(self, session: ClientSession, room: str, granted: set[str]) -> None:
        try:
            async with session.post(f"/rooms/{room}/join") as response:
                assert response.status == 200, await response.text()
                self.served_by.add((await response.json())["worker"])
        except ClientError:  # the worker was killed, before or after the grant was stored
            self.unanswered += 1
            return
        granted.add(f"room:{room}")
        self.granted += 1
        if self.granted == CLIENTS * GRANTS // 2:
            self.half.set()
        await self._check(session, granted)

    async def _check(self, session: ClientSession, granted: set[str]) -> None:
        before = set(granted)
        for _ in range(10):
            try:
                async with session.get(PATH) as response:
                    assert response.status == 200, await response.text()
                    assert json.loads((await response.json())["capability"]).keys() >= before
                return
            except ClientError:
                self.unanswered += 1
        pytest.fail("no worker answers")


async def test_every_grant_is_in_all_later_tokens(workers: Workers) -> None:
    for run in range(5):  # on a busy machine only the first worker may have started
        load = Load(workers, f"steady{run}")
        await load()
        assert load.granted == CLIENTS * GRANTS
        assert load.unanswered == 0
        if len(load.served_by) > 1:
            return
    pytest.fail("one worker answered everything")


async def test_no_grant_is_lost_when_two_workers_are_killed(workers: Workers) -> None:
    load = Load(workers, "killed")
    running = asyncio.create_task(load())
    await asyncio.wait([running, asyncio.create_task(load.half.wait())], return_when=asyncio.FIRST_COMPLETED)
    for worker in sorted(load.served_by)[:2]:
        os.kill(worker, signal.SIGKILL)
    await running
    assert load.granted >= CLIENTS * GRANTS // 2


async def test_a_change_by_one_worker_reaches_a_client_of_another(workers: Workers) -> None:
    async with (
        Emulator([ApiKey(KEY, revocable=True)], port=workers.ably_port) as emulator,
        browser(workers, "carol") as session,
        ClientSession(workers.url) as admin,
    ):

        async def token_request(_: Any) -> Any:
            async with session.get(PATH) as response:
                return await response.json()

        client: AblyRealtime = realtime_client(emulator, auth_callback=token_request)
        await client.connection.once_async(ConnectionState.CONNECTED)
        tea = client.channels.get("room:tea")
        updated = asyncio.ensure_future(client.connection.once_async("update"))
        async with admin.put("/rooms/tea/members/carol") as response:
            assert response.status == 200, await response.text()
        await updated
        await tea.attach()
        failed = asyncio.ensure_future(tea.once_async(ChannelState.FAILED))
        async with admin.delete("/rooms/tea/members/carol") as response:
            assert response.status == 200, await response.text()
        assert (await failed).reason.code == 40160
        await client.close()
