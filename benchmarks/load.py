"""Load for a server: wrk where it is installed, else a generator in Python."""

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
    """Keep this process to a core, where there are several and the system can."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


class Load(NamedTuple):
    """What was answered."""

    requests: int
    rate: float
    """Requests a second."""


def load(port: int, path: str, headers: Mapping[str, str], seconds: float) -> Load:
    """As many requests as are answered in that time; raises RuntimeError for an answer that is not 200."""
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
            said, _ = run.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGINT)  # it counts whole seconds only, and reports when it is interrupted
            said, _ = run.communicate()
    count, rate = re.search(r"(\d+) requests in", said), re.search(r"Requests/sec:\s+([\d.]+)", said)
    if count is None or rate is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
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
