"""Calling what a user gave us: plain or async, an answer either way, within a time."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

__all__ = ["settled", "timeout", "within"]

T = TypeVar("T")


async def settled(value: T | Awaitable[T]) -> T:
    """`value`, awaited when it must be."""
    if hasattr(value, "__await__") or inspect.isawaitable(value):
        return await value
    return value


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; raises TimeoutError after `seconds`.

    A timer costs more than most answers do, and work that waits for nothing needs none: so one is set only
    when `work` waits for the first time.
    """
    try:
        awaited = work.send(None)
    except StopIteration as done:
        answer: T = done.value
        return answer
    async with timeout(seconds):
        return await _rest(work, awaited)


@types.coroutine
def _rest(work: Coroutine[Any, Any, T], awaited: object) -> Generator[object, Any, T]:
    """`work` from where it waits for `awaited`."""
    try:
        while True:
            try:
                sent = yield awaited
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:
                awaited = work.throw(error)
            else:
                awaited = work.send(sent)
    except StopIteration as done:
        answer: T = done.value
        return answer
