"""Calling what a user gave us: plain or async, an answer or a refusal either way, within a time."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, ParamSpec, TypeVar

from .errors import AuthError, Unavailable, UsageError

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

__all__ = ["asynchronous", "dependable", "timeout"]

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def asynchronous(function: Callable[P, T | Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """`function` as one to await, whether it is that already, or plain, or returns an awaitable."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        return function  # type: ignore[return-value]

    async def awaited(*args: P.args, **kwargs: P.kwargs) -> T:
        answer = function(*args, **kwargs)
        return await answer if inspect.isawaitable(answer) else answer

    return awaited


async def dependable(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """What `work` gives; raises Unavailable when it fails otherwise than by a refusal, or after `seconds`.

    A timer costs more than most answers do, and work that waits for nothing needs none: so one is set only
    when `work` waits for the first time.
    """
    try:
        try:
            awaited = work.send(None)
        except StopIteration as done:
            answer: T = done.value
            return answer
        async with timeout(seconds):
            return await _rest(work, awaited)
    except (AuthError, UsageError):
        raise
    except asyncio.TimeoutError:
        log.error("no answer within %s s", seconds)
        raise Unavailable(f"no answer within {seconds:g} s; try again") from None
    except Exception as error:
        log.exception("a part the auth server depends on failed")
        raise Unavailable("a part the auth server depends on failed; try again") from error


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
