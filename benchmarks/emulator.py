"""An emulator of Ably for a benchmark. Prints its port, and serves until it is terminated."""

from __future__ import annotations

import asyncio
import os

from aiohttp_ably.emulator import Emulator


async def serve() -> None:
    async with Emulator(os.environ["BENCH_KEY"]) as emulator:
        print(emulator.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
