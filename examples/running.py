"""Serves an example: with the Ably key in ABLY_API_KEY, else against a stand-in for Ably started here."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

from aiohttp import web

from aiohttp_ably.sandbox import Sandbox


def run(make_app: Callable[[str], web.Application], *, port: int = 8080) -> None:
    """Serve `make_app(key)` on `port` (PORT in the environment overrides it) until Ctrl+C."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(make_app, int(os.environ.get("PORT", port))))


async def _serve(make_app: Callable[[str], web.Application], port: int) -> None:
    key = os.environ.get("ABLY_API_KEY")
    sandbox = None if key else Sandbox()
    if sandbox:
        await sandbox.start()
        key = sandbox.key
        print(f"Ably's stand-in: endpoint={sandbox.host!r}, port={sandbox.port}, tls=False")
    runner = web.AppRunner(make_app(key or ""))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        print(f"Serving http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
        if sandbox:
            await sandbox.close()
