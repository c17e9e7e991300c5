"""Count the CPU instructions for one request with valgrind: `python -m benchmarks.instructions`.

Requests per second depend on the machine and its other load. The number of instructions differs by 0.1 % at
most between two runs, so it shows the effect of a small change. It includes neither the work of the kernel
nor the time that a processor waits for memory.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from .bench import HERE, Case, chosen, prepare, reference
from .servers import SERVERS

FEW, MANY = 200, 1200
PAUSE = 0.005
"""Seconds between a response and the next request, so that the server always waits for a request."""
_COUNTED = re.compile(r"I\s+refs:\s+([0-9,]+)")
_NEEDS_ANOTHER_PROCESS = {"determined-details", "stored-redis"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, and print a table in Markdown; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="only rows whose label contains one of these")
    options = parser.parse_args(arguments)
    if not shutil.which("valgrind"):
        print("valgrind is not installed", file=sys.stderr)
        return 1
    servers = SERVERS.keys() - _NEEDS_ANOTHER_PROCESS
    cases = [case for case in chosen(options.only) if case.server in servers]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = dict(zip(cases, pool.map(_each, cases), strict=True))
    print("| | instructions | ratio | to |", "|---|---|---|---|", sep="\n")
    for case, count in counts.items():
        other = reference(case, cases)
        ratio = f"{counts[other] / count:.2f} | {other.label}" if other else " |"
        print(f"| {case.label} | {count:,.0f} | {ratio} |")
    return 0


def _each(case: Case) -> float:
    """Instructions for one request. Both counts contain the start of the server, so it cancels out."""
    return (_count(case, MANY) - _count(case, FEW)) / (MANY - FEW)


def _count(case: Case, requests: int) -> int:
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    with subprocess.Popen(
        [*command, sys.executable, "-m", "benchmarks.servers", case.server],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        cwd=HERE.parent,
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        headers = prepare(port, case)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(requests):
            connection.request("GET", case.path, headers=headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.status
            answer.read()
            time.sleep(PAUSE)
        process.terminate()
        _, output = process.communicate()
    counted = _COUNTED.search(output)
    assert counted, output
    return int(counted[1].replace(",", ""))


if __name__ == "__main__":
    sys.exit(main())
