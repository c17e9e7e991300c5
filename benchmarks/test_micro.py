"""Micro-benchmarks for 1 to 1,000 channels: `python -m pytest benchmarks`.

They print times. The only assertion on time is true on any machine: the cost grows no faster than the number
of channels.
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
    """Issue a TokenRequest for a capability that is loaded from a store."""
    auth, issuer, granted = (
        AuthRequest(client_id="alice", keys=KEYS, now=NOW),
        TokenRequestIssuer(),
        members(count),
    )

    def run() -> bytes:
        issuing = issuer.issue(auth, Capability.from_dict(granted))
        try:
            issuing.send(None)
        except StopIteration as done:
            return done.value.body
        raise AssertionError("the issuer must not wait for anything")

    return run


def verify_grant(count: int) -> Callable[[], object]:
    """Verify a grant that is not in the cache of the verifier."""
    text, _ = GRANTS.sign("alice", KEY.name, Capability(members(count)), now=NOW)
    return lambda: SignedGrants(SECRET).verify(text, "alice", KEYS, now=NOW)


def verify_token(count: int) -> Callable[[], object]:
    granted = Capability(members(count))
    token = sign_jwt(KEY, capability=granted, client_id="alice", issued=NOW, expires=NOW + 60)
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
def test_one_lookup_among_a_thousand_channels(kind: str, benchmark: Any) -> None:
    benchmark.group = "allows"
    granted = Capability(members(1000, kind))
    granted.allows("publish", "lobby")  # builds the index
    name = kind.format(567).replace("*", "anything")
    assert benchmark(granted.allows, "publish", name)


def test_verifying_a_cached_grant(benchmark: Any) -> None:
    benchmark.group = "verify_grant"
    granted = Capability(members(20))
    text, _ = GRANTS.sign("alice", KEY.name, granted, now=NOW)
    assert benchmark(GRANTS.verify, text, "alice", KEYS, now=NOW).capability == granted


@pytest.mark.parametrize("work", WORK)
def test_cost_grows_no_faster_than_size(work: Callable[[int], Callable[[], object]]) -> None:
    """Ten times the channels cost less than thirteen times as much CPU time."""

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
