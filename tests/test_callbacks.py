"""Callbacks of the app: sync or async, with a timeout, and any failure as Unavailable."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

import pytest

from aiohttp_ably._callbacks import as_async, run
from aiohttp_ably.errors import Forbidden, Unavailable, UsageError

T = TypeVar("T")


async def run_for(work: Coroutine[Any, Any, T], seconds: float) -> T:
    return await run(work, seconds, lambda: "the store")


async def test_result_is_returned() -> None:
    async def work() -> int:
        return 1

    assert await run_for(work(), 10) == 1


async def test_awaited_results_and_errors_reach_the_callback() -> None:
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    failed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> int:
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="no"):
            await failed
        return await ready + await asyncio.wait_for(asyncio.sleep(0, 1), 10)

    asyncio.get_running_loop().call_soon(failed.set_exception, ValueError("no"))
    asyncio.get_running_loop().call_soon(ready.set_result, 1)
    assert await run_for(work(), 10) == 2


@pytest.mark.parametrize("turns", [0, 1], ids=["at once", "later"])
async def test_failure_becomes_unavailable(turns: int, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(Unavailable, match="try again") as refused:
        await run_for(work(), 10)
    assert isinstance(refused.value.__cause__, ValueError)
    assert "ValueError: no" in caplog.text


async def test_errors_name_the_part_that_is_awaited_at_the_moment(caplog: pytest.LogCaptureFixture) -> None:
    part = "identify"

    async def work() -> None:
        nonlocal part
        part = "authorize"
        raise OSError("no")

    with pytest.raises(Unavailable, match=r"^authorize failed; try again$"):
        await run(work(), 10, lambda: part)
    assert "authorize failed" in caplog.text


@pytest.mark.parametrize("turns", [0, 1], ids=["at once", "later"])
@pytest.mark.parametrize("refusal", [Forbidden("no"), UsageError("no")], ids=["auth error", "usage error"])
async def test_auth_errors_and_usage_errors_pass_through(turns: int, refusal: Exception) -> None:
    async def work() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        raise refusal

    with pytest.raises(type(refusal), match=r"^no$") as refused:
        await run_for(work(), 10)
    assert refused.value is refusal


@pytest.mark.parametrize("turns", [0, 1], ids=["at once", "later"])
async def test_callback_that_hangs_is_cancelled_and_may_clean_up(turns: int) -> None:
    cleaned = []

    async def work() -> None:
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    with pytest.raises(Unavailable, match=r"the store did not answer within 0\.01 s"):
        await run_for(work(), 0.01)
    assert cleaned == [True]
    await asyncio.sleep(0)  # the caller is not cancelled later


async def test_timeout_inside_the_callback_stays_its_own() -> None:
    async def work() -> str:
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        except asyncio.TimeoutError:
            return "went on"
        return "never"

    assert await run_for(work(), 10) == "went on"


async def test_sync_callback_is_called_once_it_is_awaited() -> None:
    calls: list[tuple[int, str]] = []

    def callback(number: int, *, name: str) -> str:
        calls.append((number, name))
        return "answer"

    work = as_async(callback)(1, name="a")
    assert calls == []
    assert await work == "answer"
    assert calls == [(1, "a")]


async def test_cancelling_the_caller_cancels_the_callback() -> None:
    seen = []
    waiting = asyncio.Event()

    async def work() -> None:
        try:
            waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = asyncio.create_task(run_for(work(), 10))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]


async def test_callback_may_return_a_value_a_coroutine_or_a_future() -> None:
    async def answer() -> int:
        return 1

    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.set_result(1)

    class Answer:
        async def __call__(self) -> int:
            return 1

    functions = (lambda: 1, lambda: future, answer, lambda: answer(), partial(answer), Answer())
    assert [await as_async(function)() for function in functions] == [1] * len(functions)
