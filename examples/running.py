"""Serves an example: with the Ably key in ABLY_API_KEY, else against a stand-in for Ably started here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from aiohttp_ably import ApiKey
from aiohttp_ably.sandbox import Sandbox

ClientOptions = Mapping[str, Any] | None
MakeApp = Callable[[str, ClientOptions], web.Application]


def run(make_app: MakeApp, *, port: int = 8080) -> None:
    """Serve `make_app(key, client_options)` on `port` (PORT in the environment overrides it) until Ctrl+C."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(make_app, int(os.environ.get("PORT", port))))


async def _serve(make_app: MakeApp, port: int) -> None:
    key, sandbox, client_options = os.environ.get("ABLY_API_KEY"), None, None
    if not key:
        key = f"stand-in.key:{secrets.token_urlsafe(32)}"
        sandbox = Sandbox(ApiKey(key, revocable=True))
        await sandbox.start()
        client_options = {"endpoint": sandbox.host, "port": sandbox.port, "tls": False}
        print(f"Ably's stand-in: endpoint={sandbox.host!r}, port={sandbox.port}, tls=False")
    runner = web.AppRunner(make_app(key, client_options))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        print(f"Serving http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
        if sandbox:
            await sandbox.close()
