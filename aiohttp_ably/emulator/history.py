"""Pages of messages, and the Link headers that lead from one to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

from multidict import CIMultiDict

from .failure import Failure
from .wire import Item

MAX_LIMIT = 1_000
DEFAULT_LIMIT = 100
_PLACE = "from"


def page(
    items: Iterable[Item], query: Mapping[str, str], *, path: str
) -> tuple[list[Item], CIMultiDict[str]]:
    """The page of `items` (newest first) that `query` asks for, and its Link headers.

    `path` is the last segment of the request's path. Raises Failure 40003 for a `limit` out of range, 40000
    for another malformed parameter.
    """
    limit = _whole(query, "limit", DEFAULT_LIMIT)
    if not 1 <= limit <= MAX_LIMIT:
        raise Failure(40003, 400, f"limit must be from 1 to {MAX_LIMIT}, got {limit}")
    start, end = _whole(query, "start", 0), _whole(query, "end", 2**63)
    if start > end:
        raise Failure(40003, 400, "start must not be after end")
    direction = query.get("direction", "backwards")
    if direction not in ("backwards", "forwards"):
        raise Failure(40003, 400, f"direction must be backwards or forwards, got {direction[:50]!r}")
    until = query.get("from_serial") or query.get("fromSerial")
    found = [
        item
        for item in items
        if start <= item["timestamp"] <= end and (until is None or _batch_of(item) <= until)
    ]
    if direction == "forwards":
        found.reverse()
    place = query.get(_PLACE)
    if place is not None:
        older = direction == "backwards"
        found = [item for item in found if (item["serial"] < place if older else item["serial"] > place)]
    headers: CIMultiDict[str] = CIMultiDict()
    first = {name: value for name, value in query.items() if name != _PLACE} | {"limit": str(limit)}
    current = first | ({_PLACE: place} if place is not None else {})
    _link(headers, path, first, "first")
    _link(headers, path, current, "current")
    if len(found) > limit:
        _link(headers, path, first | {_PLACE: found[limit - 1]["serial"]}, "next")
    return found[:limit], headers


def _batch_of(item: Item) -> str:
    serial: str = item["serial"]
    return serial.rpartition(":")[0]


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        raise Failure(40003, 400, f"{name} must be a whole number, got {text[:50]!r}") from None


def _link(headers: CIMultiDict[str], path: str, query: Mapping[str, str], rel: str) -> None:
    # A comma in the URL would split the header for clients.
    headers.add("Link", f'<./{path}?{urlencode(query)}>; rel="{rel}"')
