"""`make bench`: how many tokens a second, ours beside those of handlers written by hand and of others.

All apps of aiohttp run in one process, since two processes that do the same differ by more than some of the
figures: by where their memory happens to lie. For the same reason each round starts its own. Others have
processes of their own. All are loaded one after another, a second at a time; a figure is the median of the
rounds, and a ratio the median of those within a round, so that what else the machine does weighs on both
sides. The servers have one core and the load another, where there are two.
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
from .servers import ASKED, KEY, SERVERS, rooms

HERE = Path(__file__).parent
SLICE = 0.25
"""For how many seconds each is loaded in its turn: neighbours on a shared machine come and go in seconds."""
WARM_UP = 4  # slices
ASK = f"/auth?clientId=alice&capability={quote(json.dumps(ASKED))}"


class Server(NamedTuple):
    """A process that serves."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """What it has used of its core so far; 0 where the system does not say."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Figure(NamedTuple):
    """Requests a second, and microseconds of the server's time for one."""

    rate: float
    cost: float


class Case(NamedTuple):
    """One row. `holding` is how many channels the client has before; `target` a ratio to the row `of`."""

    label: str
    server: str
    of: str | None = None
    target: float | None = None
    holding: int = 0
    path: str = ASK


CASES = [
    Case("aiohttp, no-op middleware, constant body", "floor"),
    Case("aiohttp, constant body", "floor-bare"),
    Case("by hand", "by-hand"),
    Case("by hand, encrypted session", "by-hand-session", holding=1),
    Case("ServerDetermined, one list for all", "determined-for-all", "by-hand", 1.2),
    Case("ServerDetermined, a list for each request", "determined", "by-hand", 1.2),
    Case("ServerDetermined, JWT", "determined-jwt", "by-hand"),
    Case("ServerDetermined, TokenDetails from Ably's emulator", "determined-details", "by-hand"),
    Case("ServerStored in memory", "stored-memory", "by-hand", holding=1),
    Case("ServerStored, encrypted session", "stored-session", "by-hand-session", 1.5, holding=1),
    Case(
        "ServerStored, encrypted session that identify reads too",
        "stored-session-read",
        "by-hand-session",
        holding=1,
    ),
    Case("ServerStored, Redis", "stored-redis", "by-hand-session", holding=1),
    Case("ClientStored", "client-stored", "by-hand"),
    Case("ClientSigned, 1 channel", "signed", "by-hand", holding=1),
    Case("ClientSigned, 20 channels", "signed", "by-hand", 0.9, holding=20),
    Case("ClientSigned, 20 channels, encrypted", "signed-encrypted", "by-hand", holding=20),
    Case("ClientSigned, 20 channels, JWT", "signed-jwt", "by-hand", holding=20),
    Case("an unrelated route, no-op middleware", "floor", path="/other"),
    Case("an unrelated route, ours", "determined", "floor", 0.97, path="/other"),
    Case("FastAPI and ably on uvicorn", "fastapi", "by-hand"),
    Case("Fastify and ably-js on Node.js", "fastify", "by-hand"),
]


def chosen(only: Sequence[str]) -> list[Case]:
    """The rows whose label has one of `only` in it; all where there are none."""
    return [case for case in CASES if not only or any(one in case.label for one in only)]


def reference(case: Case, cases: Iterable[Case]) -> Case | None:
    """The one of `cases` that `case` is compared with."""
    return next((one for one in cases if (one.server, one.path) == (case.of, case.path)), None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table and a chart in Markdown."""
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
    """The servers of `cases` by name; one whose other half is not installed is left out."""
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
            print("redis-server is not installed: left out", file=sys.stderr)
            del wanted["stored-redis"]
    if "fastapi" in wanted:
        servers |= start(["fastapi"], [*python, "benchmarks.fastapi_app"])
    if "fastify" in wanted:
        node = shutil.which("node")
        if node and (HERE / "node_modules" / "fastify").exists():
            servers |= start(["fastify"], [node, str(HERE / "fastify.mjs")])
        else:
            print("Node.js or the npm packages are not installed: Fastify is left out", file=sys.stderr)
    if names := [name for name in wanted if name in SERVERS]:
        servers |= start(names, [*python, "benchmarks.servers", *names])
    return servers


@contextmanager
def _process(
    names: list[str], command: list[str], environment: dict[str, str], *, core: int
) -> Iterator[dict[str, Server]]:
    """A process of servers; what it prints first are their ports."""
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
    """What the client sends that holds its channels already: the cookie or the grant it was given."""
    if not case.holding:
        return {}
    ask = quote(json.dumps(rooms(case.holding).to_dict()))
    first = {"Ably-Grant": ""} if case.server == "signed-jwt" else {}
    request = Request(f"http://127.0.0.1:{port}/auth?capability={ask}", headers=first)
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
            ratio = statistics.median(ours.rate / theirs.rate for ours, theirs in pairs)
            by_cost = statistics.median(
                theirs.cost / ours.cost if ours.cost else 0.0 for ours, theirs in pairs
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
    parser.add_argument("--rounds", type=int, default=5, help="how often each is loaded (%(default)s)")
    parser.add_argument("--seconds", type=int, default=4, help="and for how many seconds (%(default)s)")
    parser.add_argument("--only", nargs="*", default=[], help="only rows whose label has one of these in it")
    parser.add_argument("--output", type=Path, help="a file for the Markdown too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
