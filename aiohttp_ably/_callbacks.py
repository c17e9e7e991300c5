"""Run the app's callbacks: sync or async, with a timeout, and any failure as Unavailable."""

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

__all__ = ["as_async", "run", "timeout"]

log: logging.Logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def as_async(function: Callable[P, T | Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Wrap a sync or async callback so that the result can be awaited."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        return function  # type: ignore[return-value]

    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        answer = function(*args, **kwargs)
        return await answer if inspect.isawaitable(answer) else answer

    return wrapped


async def run(work: Coroutine[Any, Any, T], seconds: float, part: Callable[[], str]) -> T:
    """Await `work` with a timeout; any failure becomes Unavailable.

    `part` names what is awaited at the moment, such as "authorize": the log and the error say it. An
    AuthError or UsageError passes through.

    The timeout starts when `work` waits for the first time. Most requests never wait, and setting a timer
    would take 5 of their 80 µs.
    """
    try:
        try:
            awaited = work.send(None)
        except StopIteration as finished:
            result: T = finished.value
            return result
        async with timeout(seconds):
            return await _resume(work, awaited)
    except (AuthError, UsageError):
        raise
    except asyncio.TimeoutError:
        log.error("%s did not answer within %g s", part(), seconds)
        raise Unavailable(f"{part()} did not answer within {seconds:g} s; try again") from None
    except Exception as error:
        log.exception("%s failed", part())
        raise Unavailable(f"{part()} failed; try again") from error


@types.coroutine
def _resume(work: Coroutine[Any, Any, T], awaited: object) -> Generator[object, Any, T]:
    """Continue `work`, which waits for `awaited`, to its end."""
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
    except StopIteration as finished:
        result: T = finished.value
        return result
