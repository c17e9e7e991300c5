"""Compare the throughput of auth endpoints: aiohttp-ably, hand-written ones, and other frameworks.

All aiohttp apps run in one process. Two equal processes can differ by some per cent, because their memory is
laid out differently. For the same reason each round starts new processes. The other frameworks have their own
processes. The load goes to one server after another, for a quarter of a second each. A figure is the median
of the rounds. A ratio is the median of the ratios within each round, so that other load on the machine
affects both sides. On two cores or more, the servers use one core and the load another.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from urllib.request import Request, urlopen

from .load import load, pin
from .servers import KEY, REQUESTED, SERVERS, rooms

HERE = Path(__file__).parent
SLICE = 0.25
"""Seconds of load for a server in its turn: short, because the other load on a machine changes."""
WARM_UP = 4  # slices
PATH = f"/auth?clientId=alice&capability={quote(json.dumps(REQUESTED))}"


class Server(NamedTuple):
    """A process that serves."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """CPU time that the process has used so far; 0 where the system has no /proc."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Figure(NamedTuple):
    """Requests per second, and the CPU time of the server for one request in microseconds."""

    rate: float
    cost: float


class Case(NamedTuple):
    """One row of the results.

    Args:
        label: the name of the row.
        server: the name of the server in `benchmarks.servers`.
        of: the server with which this one is compared.
        target: the ratio of the two rates that should be reached.
        granted: the number of channels that the client was granted before.
        path: the path and query of the request.
    """

    label: str
    server: str
    of: str | None = None
    target: float | None = None
    granted: int = 0
    path: str = PATH


CASES = [
    Case("aiohttp, no-op middleware, constant body", "floor"),
    Case("aiohttp, constant body", "floor-bare"),
    Case("hand-written endpoint", "hand-written"),
    Case("hand-written endpoint, encrypted session", "hand-written-session", granted=1),
    Case("ServerDetermined, one list for all", "determined-for-all", "hand-written", 1.2),
    Case("ServerDetermined, a list for each request", "determined", "hand-written", 1.2),
    Case("ServerDetermined, JWT", "determined-jwt", "hand-written"),
    Case("ServerDetermined, TokenDetails from Ably's emulator", "determined-details", "hand-written"),
    Case("ServerStored in memory", "stored-memory", "hand-written", granted=1),
    Case("ServerStored, encrypted session", "stored-session", "hand-written-session", 1.5, granted=1),
    Case(
        "ServerStored, encrypted session that identify reads too",
        "stored-session-read",
        "hand-written-session",
        granted=1,
    ),
    Case("ServerStored, Redis", "stored-redis", "hand-written-session", granted=1),
    Case("ClientStored", "client-stored", "hand-written"),
    Case("ClientSigned, 1 channel", "signed", "hand-written", granted=1),
    Case("ClientSigned, 20 channels", "signed", "hand-written", 0.9, granted=20),
    Case("ClientSigned, 20 channels, encrypted", "signed-encrypted", "hand-written", granted=20),
    Case("ClientSigned, 20 channels, JWT", "signed-jwt", "hand-written", granted=20),
    Case("an unrelated route, no-op middleware", "floor", path="/other"),
    Case("an unrelated route, aiohttp-ably", "determined", "floor", 0.97, path="/other"),
    Case("FastAPI and ably on uvicorn", "fastapi", "hand-written"),
    Case("Fastify and ably-js on Node.js", "fastify", "hand-written"),
]


def chosen(only: Sequence[str]) -> list[Case]:
    """The rows whose label contains one of `only`; all rows when `only` is empty."""
    return [case for case in CASES if not only or any(one in case.label for one in only)]


def reference(case: Case, cases: Iterable[Case]) -> Case | None:
    """The row with which `case` is compared; None when it is not one of `cases`."""
    return next((one for one in cases if (one.server, one.path) == (case.of, case.path)), None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table and a chart in Markdown; returns the exit status."""
    options = _parser().parse_args(arguments)
    cases = chosen(options.only)
    rounds = []
    for number in range(options.rounds):
        rounds.append(_round(cases, options.seconds))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    text = _report({case: [one[case] for one in rounds] for case in rounds[0]})
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text)
    return 0


def _round(cases: list[Case], seconds: int) -> dict[Case, Figure]:
    with ExitStack() as stack:
        servers = _start(stack, cases)
        cases = [case for case in cases if case.server in servers]
        headers = {case: prepare(servers[case.server].port, case) for case in cases}
        parts: dict[Case, list[Figure]] = {case: [] for case in cases}
        for _ in range(WARM_UP + round(seconds / SLICE)):
            for case in cases:
                parts[case].append(_measure(servers[case.server], case, headers[case]))
    return {case: _together(measured[WARM_UP:]) for case, measured in parts.items()}


def _measure(server: Server, case: Case, headers: Mapping[str, str]) -> Figure:
    before = server.cpu_seconds()
    requests, rate = load(server.port, case.path, headers, SLICE)
    return Figure(rate, (server.cpu_seconds() - before) / requests * 1e6)


def _together(parts: list[Figure]) -> Figure:
    rate = statistics.fmean(part.rate for part in parts)
    return Figure(rate, sum(part.rate * part.cost for part in parts) / (rate * len(parts)))


def _start(stack: ExitStack, cases: list[Case]) -> dict[str, Server]:
    """Start the servers of `cases`; returns them by name. A server that is not installed is omitted."""
    environment = {**os.environ, "BENCH_KEY": KEY}
    python = [sys.executable, "-m"]
    wanted = dict.fromkeys(case.server for case in cases)
    servers: dict[str, Server] = {}

    def start(names: list[str], command: list[str], core: int = 0) -> dict[str, Server]:
        return stack.enter_context(_process(names, command, environment, core=core))

    if "determined-details" in wanted:
        ably = start(["ably"], [*python, "benchmarks.emulator"], core=1)["ably"]
        environment["BENCH_EMULATOR_PORT"] = str(ably.port)
    if "stored-redis" in wanted:
        if shutil.which("redis-server"):
            redis = start(["redis"], [*python, "benchmarks.redis"], core=1)["redis"]
            environment["BENCH_REDIS_PORT"] = str(redis.port)
        else:
            print("redis-server is not installed: its row is omitted", file=sys.stderr)
            del wanted["stored-redis"]
    if "fastapi" in wanted:
        servers |= start(["fastapi"], [*python, "benchmarks.fastapi_app"])
    if "fastify" in wanted:
        node = shutil.which("node")
        if node and (HERE / "node_modules" / "fastify").exists():
            servers |= start(["fastify"], [node, str(HERE / "fastify.mjs")])
        else:
            print("Node.js or its packages are not installed: the Fastify row is omitted", file=sys.stderr)
    if names := [name for name in wanted if name in SERVERS]:
        servers |= start(names, [*python, "benchmarks.servers", *names])
    return servers


@contextmanager
def _process(
    names: list[str], command: list[str], environment: dict[str, str], *, core: int
) -> Iterator[dict[str, Server]]:
    """Run a process with the servers `names`. Its first line of output has their ports."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=HERE.parent,
        preexec_fn=lambda: pin(core),
    ) as process:
        try:
            assert process.stdout is not None
            ports = process.stdout.readline().split()
            yield {name: Server(int(port), process.pid) for name, port in zip(names, ports, strict=True)}
        finally:
            process.terminate()


def prepare(port: int, case: Case) -> dict[str, str]:
    """The headers of a client that was granted its channels before: its cookies or its grant."""
    if not case.granted:
        return {}
    capability = quote(json.dumps(rooms(case.granted).to_dict()))
    first = {"Ably-Grant": ""} if case.server == "signed-jwt" else {}
    request = Request(f"http://127.0.0.1:{port}/auth?capability={capability}", headers=first)
    with urlopen(request) as response:
        members = json.loads(response.read())
        set_cookies = response.headers.get_all("Set-Cookie", [])
    if case.server == "signed-jwt":
        return {"Ably-Grant": members["token"]}
    cookies = [morsel for one in set_cookies for morsel in SimpleCookie(one).values()]
    return {"Cookie": "; ".join(f"{one.key}={one.coded_value}" for one in cookies)} if cookies else {}


def _report(figures: dict[Case, list[Figure]]) -> str:
    medians = {case: _median(several) for case, several in figures.items()}
    lines = [f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores", ""]
    lines += ["| | requests/s | lowest to highest | µs each | ratio | of µs | to | target |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for case, (rate, cost) in medians.items():
        rates = [figure.rate for figure in figures[case]]
        cells = [case.label, f"{rate:,.0f}", f"{min(rates):,.0f} to {max(rates):,.0f}", f"{cost:,.0f}"]
        if other := reference(case, medians):
            pairs = list(zip(figures[case], figures[other], strict=True))
            ratio = statistics.median(own.rate / compared.rate for own, compared in pairs)
            by_cost = statistics.median(
                compared.cost / own.cost if own.cost else 0.0 for own, compared in pairs
            )
            cells += [f"{ratio:.2f}", f"{by_cost:.2f}", other.label]
            if case.target:
                cells.append(f"{case.target:g}: {'met' if ratio >= case.target else 'missed'}")
        lines.append(f"| {' | '.join(cells)} |" + " |" * (8 - len(cells)))
    longest = max(len(case.label) for case in medians)
    most = max(median.rate for median in medians.values())
    lines += ["", "```text"]
    for case, (rate, _) in medians.items():
        lines.append(f"{case.label:<{longest}}  {'█' * round(40 * rate / most)} {rate:,.0f}")
    return "\n".join([*lines, "```", ""])


def _median(figures: list[Figure]) -> Figure:
    rates, costs = zip(*figures, strict=True)
    return Figure(statistics.median(rates), statistics.median(costs))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="the number of rounds (%(default)s)")
    parser.add_argument(
        "--seconds", type=int, default=4, help="the load on each server in a round, in seconds (%(default)s)"
    )
    parser.add_argument("--only", nargs="*", default=[], help="only rows whose label contains one of these")
    parser.add_argument("--output", type=Path, help="a file to which the Markdown is also written")
    return parser


if __name__ == "__main__":
    sys.exit(main())
