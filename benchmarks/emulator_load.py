"""A load test of the emulator: idle connections, publishing connections, and the memory that they take.

    python benchmarks/emulator_load.py [--idle 2000] [--publishers 200] [--seconds 60]

It runs the emulator in another process and opens websockets to it. Ten publishers share a channel; each sends
one message a second, and all ten receive it. It fails when a connection or a message is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import sys
import time
from itertools import count
from pathlib import Path

import aiohttp

GROUP = 10
KEY = "bench1.key1:secret-of-the-benchmark"
ATTACH, ATTACHED, MESSAGE = 10, 11, 15


class Load:
    """All connections, and the messages that they sent and received."""

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self.url = url
        self.client = client
        self.sockets: list[aiohttp.ClientWebSocketResponse] = []
        self.readers: list[asyncio.Task[None]] = []
        self.lost = 0
        self.published = 0
        self.latencies: list[float] = []

    async def connect(self, channel: str) -> aiohttp.ClientWebSocketResponse:
        """A connection that is attached to `channel`, with a task that reads its messages."""
        socket = await self.client.ws_connect(f"{self.url}/?v=3&key={KEY}", max_msg_size=0)
        await socket.receive_json()
        await socket.send_json({"action": ATTACH, "channel": channel})
        answer = await socket.receive_json()
        assert answer["action"] == ATTACHED, answer
        self.sockets.append(socket)
        self.readers.append(asyncio.create_task(self.read(socket)))
        return socket

    async def connect_many(self, channels: list[str]) -> list[aiohttp.ClientWebSocketResponse]:
        """Open one connection for each of `channels`, fifty at a time."""
        opened: list[aiohttp.ClientWebSocketResponse] = []
        for start in range(0, len(channels), 50):
            opened += await asyncio.gather(*map(self.connect, channels[start : start + 50]))
        return opened

    async def read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Read messages until the websocket closes, which counts as a lost connection."""
        async for frame in socket:
            if '"action":15' in frame.data:
                for message in json.loads(frame.data)["messages"]:
                    self.latencies.append(time.perf_counter() - float(message["data"]))
        self.lost += 1

    async def publish(self, socket: aiohttp.ClientWebSocketResponse, channel: str, delay: float) -> None:
        """Publish one message a second, after `delay` seconds."""
        await asyncio.sleep(delay)
        for serial in count():
            messages = [{"name": "tick", "data": str(time.perf_counter())}]
            await socket.send_json(
                {"action": MESSAGE, "channel": channel, "msgSerial": serial, "messages": messages}
            )
            self.published += 1
            await asyncio.sleep(1)


def rss(pid: int) -> int:
    """Memory of a process in KiB."""
    match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1])


async def measure(options: argparse.Namespace) -> bool:
    """Run the load with a new emulator and print the results; returns whether nothing was lost."""
    command = [sys.executable, "-m", "aiohttp_ably.emulator", "--port", "0", "--key", KEY]
    server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    found = re.search(r"http://\S+", (await server.stdout.readline()).decode())
    assert found is not None
    drain = asyncio.create_task(server.stdout.read())
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
            return await run(Load(found[0], client), server.pid, options)
    finally:
        server.terminate()
        await server.wait()
        await drain


async def run(load: Load, pid: int, options: argparse.Namespace) -> bool:
    """Connect, publish, and print the results; returns whether nothing was lost."""
    await load.connect_many(["warm-up"] * 50)
    before, started = rss(pid), time.perf_counter()
    await load.connect_many(["lobby"] * options.idle)
    took, idle = time.perf_counter() - started, rss(pid)
    print(f"{options.idle} idle connections in {took:.1f} s ({options.idle / took:.0f} a second)")
    print(f"memory: {before} KiB before, {idle} KiB after: {(idle - before) / options.idle:.1f} KiB each")

    channels = [f"group:{number // GROUP}" for number in range(options.publishers)]
    sockets = await load.connect_many(channels)
    publishers = [
        asyncio.create_task(load.publish(socket, channel, number / len(sockets)))
        for number, (socket, channel) in enumerate(zip(sockets, channels, strict=True))
    ]
    for _ in range(6):
        await asyncio.sleep(options.seconds / 6)
        print(f"memory: {rss(pid)} KiB after {load.published} messages, {len(load.latencies)} delivered")
    for publisher in publishers:
        publisher.cancel()
    await asyncio.gather(*publishers, return_exceptions=True)
    await asyncio.sleep(1)

    load.latencies.sort()
    delivered, expected = len(load.latencies), load.published * GROUP
    middle, late = (load.latencies[int(delivered * part)] * 1000 for part in (0.5, 0.99))
    print(
        f"{load.lost} of {len(load.sockets)} connections lost, {delivered} of {expected} messages delivered"
    )
    print(f"delivery: {middle:.1f} ms median, {late:.1f} ms at 99 %")
    complete = load.lost == 0 and delivered == expected
    for reader in load.readers:
        reader.cancel()
    await asyncio.gather(*load.readers, return_exceptions=True)
    return complete


def main() -> int:
    """Run the load test; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=int, default=2_000)
    parser.add_argument("--publishers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return 0 if asyncio.run(measure(options)) else 1


if __name__ == "__main__":
    sys.exit(main())
