"""A soak test: a minute of full load must cause no error and no growth of memory.

    python -m benchmarks.soak                       # --seconds 600 for a longer one

Fifty clients request rooms, renew their tokens and release rooms. There are four kinds of server, and the
connections stay open. The server uses one core and the load another. It needs redis-server. The exit status
is 1 when a response was an error, or when memory grew.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

import aiohttp_ably
from aiohttp_ably import (
    AuthRequest,
    Capability,
    ClientSigned,
    JWTIssuer,
    JWTStore,
    MemoryStore,
    RedisStore,
    ServerStored,
    Strategy,
    TokenRequestIssuer,
)
from aiohttp_ably.capability import CapabilityLike

from .load import CONNECTIONS, pin

KEY = "soak.key:the-secret-of-the-soak-test"
PATHS = ("/redis", "/memory", "/signed", "/jwt")
CLIENTS, ROOMS = 50, 20
WARM_UP = 1 / 3
"""The first part of the time, in which memory may grow."""
GROWTH = 0.02
"""The part by which memory may grow from the second third of the time to the last."""


def make_app(redis_url: str) -> web.Application:
    """One app with a server of each kind."""
    strategies: dict[str, Strategy] = {
        "/redis": ServerStored(_allow_all, store=RedisStore(redis_url)),
        "/memory": ServerStored(_allow_all, store=MemoryStore()),
        "/signed": ClientSigned(_allow_all, secret="the secret of the soak test"),
        "/jwt": ClientSigned(_allow_all, store=JWTStore()),
    }
    app = web.Application()
    for path, strategy in strategies.items():
        part = web.Application()
        issuer = JWTIssuer() if path == "/jwt" else TokenRequestIssuer()
        strategy.base = Capability({"lobby": "subscribe"})
        aiohttp_ably.setup(
            part, key=KEY, identify=_user, strategy=strategy, issuer=issuer, path="/auth", clock_sync=None
        )
        app.add_subapp(path, part)
    return app


async def _allow_all(auth: AuthRequest, requested: Capability) -> CapabilityLike:
    return requested


def _user(request: web.Request) -> str | None:
    return request.headers.get("X-User")


@dataclass
class Load:
    """The load on a server, with its results: statuses, latencies in seconds, memory in megabytes."""

    port: int
    pid: int
    seconds: float
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    async def run(self) -> None:
        """Load the server on all connections, and measure its memory meanwhile."""
        end = time.perf_counter() + self.seconds
        connections = [asyncio.create_task(self._connection(end)) for _ in range(CONNECTIONS)]
        while time.perf_counter() < end:
            self.memory.append(resident(self.pid))
            await asyncio.sleep(min(1, self.seconds / 30))
        await asyncio.gather(*connections)

    async def _connection(self, end: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        count = 0
        while (began := time.perf_counter()) < end:
            writer.write(_request())
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"\r\nContent-Length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            self.statuses[int(head[9:12])] += 1
            count += 1
            if count % 50 == 0:
                self.latencies.append(time.perf_counter() - began)
        writer.close()
        await writer.wait_closed()

    def median_memory(self) -> tuple[float, float]:
        """The median memory in megabytes in the second third of the time, and in the last."""
        rest = self.memory[int(len(self.memory) * WARM_UP) :]
        half = len(rest) // 2
        return statistics.median(rest[:half]), statistics.median(rest[half:])


def _request() -> bytes:
    """A random request: half of them renew, a tenth release a room, the others request one."""
    path, user, dice = random.choice(PATHS), random.randrange(CLIENTS), random.random()
    room = f"room:{random.randrange(ROOMS)}"
    query = ""
    if dice > 0.9:
        query = f"?drop={room}"
    elif dice > 0.5:
        query = f"?channel={room}&operations=publish,subscribe"
    return f"GET {path}/auth{query} HTTP/1.1\r\nHost: localhost\r\nX-User: user-{user}\r\n\r\n".encode()


def resident(pid: int) -> float:
    """The memory of a process, in megabytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


@contextmanager
def _process(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a module of this package that prints its port and serves; yields the process and the port."""
    command = [sys.executable, "-m", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


async def _serve(redis_url: str) -> None:
    runner = web.AppRunner(make_app(redis_url), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def soak(seconds: float) -> Load:
    """Start a server with its Redis, and load it for `seconds`."""
    with (
        _process("benchmarks.redis") as (_, redis),
        _process("benchmarks.soak", "--serve", f"redis://127.0.0.1:{redis}/0") as (server, port),
    ):
        load = Load(port, server.pid, seconds)
        asyncio.run(load.run())
        return load


def report(load: Load) -> int:
    """Print the figures; returns the exit status."""
    total = sum(load.statuses.values())
    quantiles = statistics.quantiles(load.latencies, n=100)
    first, second = load.median_memory()
    grown = second / first - 1
    errors = total - load.statuses[200]
    print(f"{total:,} responses in {load.seconds:.0f} s: {total / load.seconds:,.0f} per second")
    print(f"latency  median {quantiles[49] * 1000:.1f} ms, 99 % {quantiles[98] * 1000:.1f} ms")
    print(f"errors   {errors} {dict(load.statuses)}")
    print(
        f"memory   {load.memory[0]:.1f} MB at first, {first:.1f} MB after the warm-up, {second:.1f} MB at the"
        f" end: {grown:+.1%}"
    )
    return 1 if errors or grown > GROWTH else 0


def main() -> int:
    """Run the soak test, or with --serve its server; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--serve", metavar="REDIS_URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        pin(0)
        asyncio.run(_serve(options.serve))
        return 0
    pin(1)
    return report(soak(options.seconds))


if __name__ == "__main__":
    sys.exit(main())
