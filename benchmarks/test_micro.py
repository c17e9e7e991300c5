"""Micro-benchmarks: `python -m pytest benchmarks`. Cost with size, 1 to 1,000 channels, and one look-up.

The tests hold what must hold on any machine: cost grows no faster than size. Figures are for reading.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from aiohttp_ably import ApiKey, AuthRequest, Capability, KeyRing, TokenRequestIssuer
from aiohttp_ably.stores import SignedGrants
from aiohttp_ably.tokens import sign_jwt, verify_jwt

KEY = ApiKey("app.key:0123456789abcdefghijklmnopqrstuvwxyzABCDEF")
KEYS = KeyRing([KEY])
NOW = 1_800_000_000
SIZES = [1, 10, 100, 1000]
SECRET = "a secret of the server, long enough"
GRANTS = SignedGrants(SECRET)


def members(count: int, kind: str = "room:{}") -> dict[str, list[str]]:
    return {kind.format(number): ["publish", "subscribe"] for number in range(count)}


def issue(count: int) -> Callable[[], object]:
    """From what is held to what goes on the wire."""
    auth, issuer, held = (
        AuthRequest(client_id="alice", keys=KEYS, now=NOW),
        TokenRequestIssuer(),
        members(count),
    )

    def run() -> bytes:
        issuing = issuer.issue(auth, Capability.from_dict(held))
        try:
            issuing.send(None)
        except StopIteration as done:
            return done.value.body
        raise AssertionError("it waits for nothing")

    return run


def verify_grant(count: int) -> Callable[[], object]:
    """By a verifier that does not know it yet."""
    text, _ = GRANTS.sign("alice", KEY.name, Capability(members(count)), now=NOW)
    return lambda: SignedGrants(SECRET).verify(text, "alice", KEYS, now=NOW)


def verify_token(count: int) -> Callable[[], object]:
    held = Capability(members(count))
    token = sign_jwt(KEY, capability=held, client_id="alice", issued=NOW, expires=NOW + 60)
    return lambda: verify_jwt(token, KEYS, now=NOW)


def union(count: int) -> Callable[[], object]:
    one, other = Capability(members(count)), Capability(members(count, "hall:{}"))
    return lambda: one | other


def parse(count: int) -> Callable[[], object]:
    text = Capability(members(count)).text
    return lambda: Capability.parse(text)


WORK = [issue, verify_grant, verify_token, union, parse]


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("work", WORK)
def test_cost(work: Callable[[int], Callable[[], object]], count: int, benchmark: Any) -> None:
    benchmark.group = work.__name__
    benchmark(work(count))


@pytest.mark.parametrize(
    "kind", ["room:{}", "room:{}:*", "*:room:{}"], ids=["names", "patterns", "wildcards first"]
)
def test_one_look_up_among_a_thousand(kind: str, benchmark: Any) -> None:
    benchmark.group = "allows"
    held = Capability(members(1000, kind))
    held.allows("publish", "lobby")  # the index is made once
    name = kind.format(567).replace("*", "anything")
    assert benchmark(held.allows, "publish", name)


def test_a_grant_that_is_known(benchmark: Any) -> None:
    benchmark.group = "verify_grant"
    held = Capability(members(20))
    text, _ = GRANTS.sign("alice", KEY.name, held, now=NOW)
    assert benchmark(GRANTS.verify, text, "alice", KEYS, now=NOW).capability == held


@pytest.mark.parametrize("work", WORK)
def test_cost_grows_no_faster_than_size(work: Callable[[int], Callable[[], object]]) -> None:
    """Ten times the channels cost at most some thirteen times as much, measured in the process's own time."""

    def cost(count: int) -> float:
        run, times = work(count), 2000 // count
        run()
        rounds = []
        for _ in range(7):
            began = time.process_time()
            for _ in range(times):
                run()
            rounds.append((time.process_time() - began) / times)
        return min(rounds)

    assert cost(1000) < 13 * cost(100)
