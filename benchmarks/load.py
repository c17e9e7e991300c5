"""Load for a server: from wrk when it is installed, else from Python."""

from __future__ import annotations

import asyncio
import math
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import NamedTuple

CONNECTIONS = 16


def pin(core: int) -> None:
    """Run this process on one core only, where there are several and the system supports it."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


class Load(NamedTuple):
    """The number of responses, and their rate."""

    requests: int
    rate: float
    """Requests per second."""


def load(port: int, path: str, headers: Mapping[str, str], seconds: float) -> Load:
    """Send requests for `seconds`, one after another on each connection.

    Raises RuntimeError for a status other than 200.
    """
    if wrk := shutil.which("wrk"):
        return _by_wrk(wrk, port, path, headers, seconds)
    return asyncio.run(_by_python(port, path, headers, seconds))


def _by_wrk(wrk: str, port: int, path: str, headers: Mapping[str, str], seconds: float) -> Load:
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{math.ceil(seconds) + 1}s"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    with subprocess.Popen(
        [*command, f"http://127.0.0.1:{port}{path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: pin(1),
    ) as run:
        try:
            output, _ = run.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGINT)  # wrk takes whole seconds only, but reports when it is interrupted
            output, _ = run.communicate()
    count, rate = re.search(r"(\d+) requests in", output), re.search(r"Requests/sec:\s+([\d.]+)", output)
    if count is None or rate is None or "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(output)
    return Load(int(count[1]), float(rate[1]))


async def _by_python(port: int, path: str, headers: Mapping[str, str], seconds: float) -> Load:
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

    answered = sum(await asyncio.gather(*(one_connection() for _ in range(CONNECTIONS))))
    return Load(answered, answered / seconds)
