"""Ably's stand-in for a benchmark. Prints its port, and serves until it is ended."""

from __future__ import annotations

import asyncio
import os

from aiohttp_ably.sandbox import Sandbox


async def serve() -> None:
    async with Sandbox(os.environ["BENCH_KEY"]) as sandbox:
        print(sandbox.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
