"""Calling what a user gave us: plain or async, an answer either way, within a time."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable
from typing import TypeVar

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

__all__ = ["settled", "timeout"]

T = TypeVar("T")


async def settled(value: T | Awaitable[T]) -> T:
    """`value`, awaited when it must be."""
    if hasattr(value, "__await__") or inspect.isawaitable(value):
        return await value
    return value
