"""Instructions a request, counted by valgrind: `python -m benchmarks.instructions`.

Requests a second say how fast a machine is just now. This says how much there is to do: the figures are the
same each time, to a part in a thousand, so they tell whether a change of some lines was one for the better.
The kernel's part is not in them, nor what a processor waits for memory.
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
"""Seconds after an answer: a server that finds the next request there does other work than one that waits."""
_COUNTED = re.compile(r"I\s+refs:\s+([0-9,]+)")
_NEEDS_MORE = {"determined-details", "stored-redis"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="only rows whose label has one of these in it")
    options = parser.parse_args(arguments)
    if not shutil.which("valgrind"):
        print("valgrind is not installed", file=sys.stderr)
        return 1
    able = SERVERS.keys() - _NEEDS_MORE
    cases = [case for case in chosen(options.only) if case.server in able]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = dict(zip(cases, pool.map(_each, cases), strict=True))
    print("| | instructions | ratio | to |", "|---|---|---|---|", sep="\n")
    for case, count in counts.items():
        other = reference(case, cases)
        ratio = f"{counts[other] / count:.2f} | {other.label}" if other else " |"
        print(f"| {case.label} | {count:,.0f} | {ratio} |")
    return 0


def _each(case: Case) -> float:
    """Instructions for one of many requests; what a server needs to start is in both counts."""
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
        _, said = process.communicate()
    counted = _COUNTED.search(said)
    assert counted, said
    return int(counted[1].replace(",", ""))


if __name__ == "__main__":
    sys.exit(main())
