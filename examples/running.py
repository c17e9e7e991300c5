"""Serve an example: with the Ably key in ABLY_API_KEY, else with a local emulator of Ably."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from aiohttp import web

from aiohttp_ably import ApiKey
from aiohttp_ably.emulator import Emulator

ClientOptions = Mapping[str, Any] | None
MakeApp = Callable[[str, ClientOptions], web.Application]


def run(make_app: MakeApp, *, port: int = 8080) -> None:
    """Serve `make_app(key, client_options)` until Ctrl+C. The environment variable PORT overrides `port`."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(make_app, int(os.environ.get("PORT", port))))


def run_workers(make_app: str, *, workers: int = 4, port: int = 8080) -> None:
    """Serve the app that the string `make_app` names, with gunicorn. Its workers share a Redis."""
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(_serve_workers(make_app, workers, int(os.environ.get("PORT", port))))


async def _serve_workers(make_app: str, workers: int, port: int) -> None:
    environment = {"SESSION_SECRET": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(), **os.environ}
    gunicorn = [sys.executable, "-m", "gunicorn", make_app, "--worker-class", "aiohttp.GunicornWebWorker"]
    gunicorn += ["--workers", str(workers), "--bind", f"127.0.0.1:{port}"]
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _this_task().cancel)
    async with contextlib.AsyncExitStack() as stack:
        if "ABLY_API_KEY" not in environment:
            environment["ABLY_API_KEY"] = f"emulator.key:{secrets.token_urlsafe(32)}"
            key = ApiKey(environment["ABLY_API_KEY"], revocable=True)
            emulator = await stack.enter_async_context(Emulator(key))
            options = {"endpoint": emulator.host, "port": emulator.port, "tls": False}
            environment["ABLY_CLIENT_OPTIONS"] = json.dumps(options)
            print(f"Ably's emulator: endpoint={emulator.host!r}, port={emulator.port}, tls=False")
        if "REDIS_URL" not in environment:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            command = ["redis-server", "--port", "0", "--unixsocket", f"{folder}/socket", "--dir", folder]
            await stack.enter_async_context(_process(command, environment, "ready to accept"))
            environment["REDIS_URL"] = f"unix://{folder}/socket"
        started = await stack.enter_async_context(_process(gunicorn, environment, "Listening at"))
        print("Serving", re.findall(r"http://\S+", started)[0], flush=True)
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def _process(command: list[str], environment: Mapping[str, str], ready: str) -> AsyncIterator[str]:
    """Run a process. Waits for a line that contains `ready`, and yields this line."""
    pipe, errors = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=pipe, stderr=errors)
    assert process.stdout is not None
    try:
        while ready not in (line := (await process.stdout.readline()).decode()):
            if not line:
                raise OSError(f"{command[0]} ended before it was ready")
        reading = asyncio.create_task(process.stdout.read())
        yield line
        reading.cancel()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def _serve(make_app: MakeApp, port: int) -> None:
    key, emulator, client_options = os.environ.get("ABLY_API_KEY"), None, None
    if not key:
        key = f"emulator.key:{secrets.token_urlsafe(32)}"
        emulator = Emulator(ApiKey(key, revocable=True))
        await emulator.start()
        client_options = {"endpoint": emulator.host, "port": emulator.port, "tls": False}
        print(f"Ably's emulator: endpoint={emulator.host!r}, port={emulator.port}, tls=False")
    runner = web.AppRunner(make_app(key, client_options))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        print(f"Serving http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
        if emulator:
            await emulator.close()
