"""Four worker processes on one Redis: what any of them acknowledged is in every later token, whatever dies."""

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
    """Where they listen, and where they expect Ably."""

    url: str
    ably_port: int


@pytest.fixture(scope="module")
def workers(redis_server: RedisServer) -> Iterator[Workers]:
    """gunicorn with four workers of `examples/redis_workers.py`."""
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
    """Somebody signed in, each of whose requests may meet another worker."""
    jar, connector = CookieJar(unsafe=True), TCPConnector(force_close=True)
    async with ClientSession(workers.url, cookie_jar=jar, connector=connector) as session:
        async with session.post("/login", data={"user": user}) as response:
            assert response.status == 200
        yield session


@dataclass
class Load:
    """Twenty clients that are granted twenty rooms each, all at once, and look at their tokens."""

    workers: Workers
    run: str
    served_by: set[int] = field(default_factory=set)
    acknowledged: int = 0
    unanswered: int = 0
    half: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> None:
        await asyncio.gather(*(self._client(f"{self.run}-{number}") for number in range(CLIENTS)))

    async def _client(self, user: str) -> None:
        kept: set[str] = set()
        async with browser(self.workers, user) as session:
            await asyncio.gather(*(self._grant(session, f"{number}", kept) for number in range(GRANTS)))
            await self._look(session, kept)

    async def _grant(self, session: ClientSession, room: str, kept: set[str]) -> None:
        try:
            async with session.post(f"/rooms/{room}/join") as response:
                assert response.status == 200, await response.text()
                self.served_by.add((await response.json())["worker"])
        except ClientError:  # the worker was killed: nobody knows whether it was kept
            self.unanswered += 1
            return
        kept.add(f"room:{room}")
        self.acknowledged += 1
        if self.acknowledged == CLIENTS * GRANTS // 2:
            self.half.set()
        await self._look(session, kept)

    async def _look(self, session: ClientSession, kept: set[str]) -> None:
        before = set(kept)
        for _ in range(10):
            try:
                async with session.get(PATH) as response:
                    assert response.status == 200, await response.text()
                    assert json.loads((await response.json())["capability"]).keys() >= before
                return
            except ClientError:
                self.unanswered += 1
        pytest.fail("no worker is left that answers")


async def test_every_acknowledged_grant_is_in_every_later_token(workers: Workers) -> None:
    for run in range(5):  # on a busy machine the first worker may be the only one that is up yet
        load = Load(workers, f"steady{run}")
        await load()
        assert load.acknowledged == CLIENTS * GRANTS
        assert load.unanswered == 0
        if len(load.served_by) > 1:
            return
    pytest.fail("one worker answered everything")


async def test_so_it_is_while_two_workers_are_killed(workers: Workers) -> None:
    load = Load(workers, "killed")
    running = asyncio.create_task(load())
    await asyncio.wait([running, asyncio.create_task(load.half.wait())], return_when=asyncio.FIRST_COMPLETED)
    for worker in sorted(load.served_by)[:2]:
        os.kill(worker, signal.SIGKILL)
    await running
    assert load.acknowledged >= CLIENTS * GRANTS // 2


async def test_what_one_worker_is_told_a_client_of_another_lives_through(workers: Workers) -> None:
    async with (
        Emulator([ApiKey(KEY, revocable=True)], port=workers.ably_port) as ably,
        browser(workers, "carol") as session,
        ClientSession(workers.url) as admin,
    ):

        async def ask(_: Any) -> Any:
            async with session.get(PATH) as response:
                return await response.json()

        client: AblyRealtime = realtime_client(ably, auth_callback=ask)
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
