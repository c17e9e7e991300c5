"""The clocks of the emulator."""

import asyncio
import time

from aiohttp_ably.emulator import ManualClock, SystemClock


async def test_the_system_clock_makes_a_scheduled_call() -> None:
    clock, called = SystemClock(), asyncio.Event()
    assert abs(clock.now() - time.time() * 1000) < 60_000
    clock.call_at(clock.now() + 60_000, called.clear).cancel()
    clock.call_at(clock.now() - 1, called.set)
    await asyncio.wait_for(called.wait(), 5)


async def test_a_manual_clock_makes_scheduled_calls_when_it_is_advanced() -> None:
    clock = ManualClock(1_000)
    seen: list[tuple[str, int]] = []

    def record(name: str) -> None:
        seen.append((name, clock.now()))

    clock.call_at(1_002_000, lambda: record("later"))
    clock.call_at(1_001_000, lambda: record("sooner"))
    clock.call_at(1_001_500, lambda: record("never")).cancel()
    clock.call_at(1_001_000, lambda: clock.call_at(1_001_250, lambda: record("nested")))
    assert clock.now() == 1_000_000
    await clock.advance(0.999)
    assert seen == []
    await clock.advance(1.001)
    assert seen == [("sooner", 1_001_000), ("nested", 1_001_250), ("later", 1_002_000)]
    assert clock.now() == 1_002_000
