"""Load for a server: wrk where it is installed, else a generator in Python."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping

CONNECTIONS = 16


def pin(core: int) -> None:
    """Keep this process to a core, where there are several and the system can."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


def requests_per_second(port: int, path: str, headers: Mapping[str, str], seconds: float) -> float:
    """How many requests a second are answered with 200; raises RuntimeError for any other answer."""
    if wrk := shutil.which("wrk"):
        return _by_wrk(wrk, port, path, headers, seconds)
    return asyncio.run(_by_python(port, path, headers, seconds))


def _by_wrk(wrk: str, port: int, path: str, headers: Mapping[str, str], seconds: float) -> float:
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{max(round(seconds), 1)}s"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    run = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{path}"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: pin(1),
    )
    rate = re.search(r"Requests/sec:\s+([\d.]+)", run.stdout)
    if rate is None or "Non-2xx" in run.stdout or "Socket errors" in run.stdout:
        raise RuntimeError(run.stdout + run.stderr)
    return float(rate[1])


async def _by_python(port: int, path: str, headers: Mapping[str, str], seconds: float) -> float:
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    wire = "\r\n".join([*lines, "", ""]).encode()
    end = time.perf_counter() + seconds

    async def one_connection() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answered = 0
        while time.perf_counter() < end:
            writer.write(wire)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"\r\nContent-Length: (\d+)", head, re.IGNORECASE)
            if not head.startswith(b"HTTP/1.1 200") or length is None:
                raise RuntimeError(head.decode())
            await reader.readexactly(int(length[1]))
            answered += 1
        writer.close()
        return answered

    return sum(await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS)))) / seconds
