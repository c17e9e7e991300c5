"""Simulate the load of a million clients: mass reconnects and outages, with and without jitter.

    python -m benchmarks.storm                      # a minute; --clients 100000 is quicker

Each client renews its token when Ably prompts it, 30 seconds before it expires. Tokens have the lifetime of
the default issuer. During an outage a client tries again as SDKs do: every 15 to 30 seconds.
"""

from __future__ import annotations

import argparse
import random
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp_ably import AuthRequest, KeyRing, TokenRequestIssuer

HOUR = 3600
PROMPT = 30.0
"""Seconds before the expiry of a token at which Ably prompts the client to renew it."""
RETRY = 15.0
"""Seconds after which an SDK tries again at first, and within which all are back after a mass disconnect."""
SUSPENDED_AFTER, SUSPENDED_RETRY = 120.0, 30.0
_AUTH = AuthRequest(client_id="client", keys=KeyRing(["app.key:secret"]))


@dataclass(frozen=True)
class Outage:
    """The time in which the server cannot be reached, in seconds from the start of the simulation."""

    start: int
    end: int


def simulate(
    clients: int, *, jitter: float, spread: float, until: int, outage: Outage | None = None
) -> array[int]:
    """Tokens issued in each second up to `until`, to clients that first come within `spread` seconds."""
    issuer = TokenRequestIssuer(jitter=jitter)
    issued = array("i", bytes(4 * until))
    lifetime, uniform = issuer.lifetime, random.random
    start, end = (outage.start, outage.end) if outage else (until, until)
    for _ in range(clients):
        now = uniform() * spread
        while now < until:
            issued[int(now)] += 1
            now += lifetime(_AUTH) / 1000 - PROMPT
            if start <= now < end:
                now = _back(now, end)
    return issued


def _back(failed: float, end: float) -> float:
    """The time of the first retry after `end`, for a client that first failed at `failed` (RTB1, RTN14)."""
    now, tries = failed, 1
    while now < end:
        if now - failed < SUSPENDED_AFTER:
            now += RETRY * min((tries + 2) / 3, 2) * (0.8 + 0.2 * random.random())
        else:
            now += SUSPENDED_RETRY
        tries += 1
    return now


def peak(issued: Sequence[int], first: int, last: int | None = None) -> int:
    """The most tokens in one second, from second `first` on and before second `last`."""
    return max(issued[first:last])


def chart(series: dict[str, Sequence[int]], *, step: int, width: int = 60) -> str:
    """A bar chart of the busiest second in each `step` seconds. All `series` have the same scale."""
    most = max(max(one) for one in series.values())
    lines = []
    for name, one in series.items():
        lines.append(f"{name}: tokens per second, each line the busiest second of {step // 60} minutes")
        for begin in range(0, len(one), step):
            busiest = max(one[begin : begin + step])
            bar = "#" * round(busiest / most * width) or ("." if busiest else "")
            lines.append(f"{begin // 60:>5} min {busiest:>7,} {bar}".rstrip())
        lines.append("")
    return "\n".join(lines)


def mass_reconnect(clients: int) -> tuple[array[int], array[int]]:
    """Tokens per second in three hours after all clients reconnect at once: with jitter, and without."""
    jittered = simulate(clients, jitter=0.1, spread=RETRY, until=3 * HOUR)
    plain = simulate(clients, jitter=0, spread=RETRY, until=3 * HOUR)
    return jittered, plain


def outages(clients: int, minutes: int) -> list[str]:
    """A row with jitter and one without, for an outage of `minutes` during steady traffic."""
    rows = []
    start = 2 * HOUR
    end = start + 60 * minutes
    for jitter in (0.1, 0.0):
        issued = simulate(
            clients, jitter=jitter, spread=HOUR, until=end + HOUR + 900, outage=Outage(start, end)
        )
        before = sum(issued[HOUR:start]) / HOUR
        waiting = sum(issued[end : end + 60]) - round(before * 60)
        back = peak(issued, end, end + 60)
        echo = peak(issued, end + 600)
        rows.append(f"| {minutes} min | {jitter:.0%} | {before:,.0f} | {waiting:,} | {back:,} | {echo:,} |")
    return rows


def main() -> None:
    """Run the simulation, and print its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random.seed(options.seed)
    began = time.perf_counter()
    jittered, plain = mass_reconnect(options.clients)
    print(f"{options.clients:,} clients, tokens of an hour, all back within {RETRY:.0f} s of each other\n")
    print(chart({"With jitter (10 %)": jittered, "Without": plain}, step=300))
    calm, storm = peak(jittered, 1800), peak(plain, 1800)
    print(f"Peak of the renewals: {calm:,} per second with jitter, {storm:,} without: {storm / calm:.1f} x\n")
    print(
        "| outage | jitter | per second before | waiting at its end | peak when back | peak an hour later |"
    )
    print("|---|---|---|---|---|---|")
    for minutes in (1, 5, 15):
        print("\n".join(outages(options.clients, minutes)))
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
