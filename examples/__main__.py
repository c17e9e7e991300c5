"""Run the chat: with the Ably key in ABLY_API_KEY, else with a local emulator of Ably."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from datetime import timedelta

from aiohttp import web

from aiohttp_ably.emulator import Emulator

from .chat import make_app

HOST = "127.0.0.1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chat until Ctrl+C; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(options.port, timedelta(seconds=options.ttl)))
    except (OSError, ValueError) as error:
        print(f"the chat cannot start: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(port: int, ttl: timedelta) -> None:
    async with contextlib.AsyncExitStack() as stack:
        ably: str | Emulator = os.environ.get("ABLY_API_KEY") or Emulator()
        if isinstance(ably, Emulator):
            await stack.enter_async_context(ably)
        runner = web.AppRunner(make_app(ably, ttl=ttl), access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, HOST, port).start()
        port = runner.addresses[0][1]
        print(f"The chat is at    http://{HOST}:{port}")
        print(f"A second person:  http://localhost:{port}   (the same chat, with separate cookies)")
        print(f"Ably:             {'the real one' if isinstance(ably, str) else f'an emulator, {ably.url}'}")
        print("Ctrl+C ends it.", flush=True)
        await asyncio.Event().wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples", description=__doc__)
    parser.add_argument(
        "--port", type=int, default=8080, help="port to listen on (%(default)s); 0: a free one"
    )
    parser.add_argument(
        "--ttl",
        type=float,
        default=3600,
        metavar="SECONDS",
        help="lifetime of a token (%(default)s); with 20 you can watch the renewals",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
