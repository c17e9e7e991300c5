"""HTTP of the emulator: bodies in JSON or msgpack, pages of a list, errors, and CORS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict

from ..capability import strict_json
from .journal import LOG
from .wire import Failure, Item, loads, packb, unpackb

JSON = "application/json"
MSGPACK = "application/x-msgpack"
MAX_LIMIT = 1_000
DEFAULT_LIMIT = 100
_START = "from"
_MAX_ERROR_HEADER = 512
_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"


async def read_body(request: web.Request) -> Any:
    """The body, decoded as msgpack or JSON by its content type. Raises Failure 40000 when it is malformed."""
    data = await request.read()
    if "msgpack" in request.headers.get(hdrs.CONTENT_TYPE, ""):
        return unpackb(data)
    return loads(data) if data else None


def respond(
    request: web.Request, value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A response with `value` in the format that the client accepts.

    The content type has no charset, because SDKs compare the whole string.
    """
    if MSGPACK in request.headers.get(hdrs.ACCEPT, ""):
        return web.Response(body=packb(value), status=status, content_type=MSGPACK, headers=headers)
    body = strict_json.dumps(value).encode()
    return web.Response(body=body, status=status, content_type=JSON, headers=headers)


def error_response(failure: Failure) -> web.Response:
    """The response for a failure, always in JSON: in browsers, ably-js does not decode msgpack errors."""
    message = failure.message.encode("unicode_escape").decode("ascii")
    return web.Response(
        body=json.dumps({"error": failure.info}, separators=(",", ":")).encode(),
        status=failure.status,
        content_type=JSON,
        headers={"X-Ably-ErrorCode": str(failure.code), "X-Ably-ErrorMessage": message[:_MAX_ERROR_HEADER]},
    )


def error_middleware(on_failure: Callable[[web.Request, Failure], None]) -> Middleware:
    """A middleware that answers CORS preflights, and responds to every exception with an Ably error.

    `on_failure` is called before each error response.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == hdrs.METH_OPTIONS:
            return _preflight(request)
        try:
            return await handler(request)
        except Failure as error:
            failure = error
        except web.HTTPException as error:
            code = 40009 if error.status == 413 else error.status * 100
            failure = Failure(code, error.status, error.reason)
        except Exception:
            LOG.exception("internal error of the emulator in %s %s", request.method, request.rel_url.path)
            failure = Failure(50000, 500, "internal error of the emulator; see its log")
        on_failure(request, failure)
        return error_response(failure)

    return middleware


async def add_cors_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Allow a page of any origin to read the response, also to a request with credentials."""
    if origin := request.headers.get(hdrs.ORIGIN):
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
    response.headers[hdrs.VARY] = hdrs.ORIGIN
    response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = "Link,X-Ably-ErrorCode,X-Ably-ErrorMessage"


def _preflight(request: web.Request) -> web.Response:
    headers = {hdrs.ACCESS_CONTROL_ALLOW_METHODS: _METHODS, hdrs.ACCESS_CONTROL_MAX_AGE: "86400"}
    if requested := request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS):
        headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = requested
    return web.Response(status=204, headers=headers)


def page(
    items: Iterable[Item], query: Mapping[str, str], *, path: str
) -> tuple[list[Item], CIMultiDict[str]]:
    """The page of `items` that `query` requests, and its Link headers.

    `items` are ordered from the newest to the oldest; `path` is the last segment of the path of the request.
    Raises Failure 40003 for a parameter that is malformed or out of range.
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
    start_serial = query.get(_START)
    if start_serial is not None:
        older = direction == "backwards"
        found = [
            item
            for item in found
            if (item["serial"] < start_serial if older else item["serial"] > start_serial)
        ]
    headers: CIMultiDict[str] = CIMultiDict()
    first = {name: value for name, value in query.items() if name != _START} | {"limit": str(limit)}
    current = first | ({_START: start_serial} if start_serial is not None else {})
    _link(headers, path, first, "first")
    _link(headers, path, current, "current")
    if len(found) > limit:
        _link(headers, path, first | {_START: found[limit - 1]["serial"]}, "next")
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
    # The query is encoded, as clients would split the header at a comma in the URL.
    headers.add("Link", f'<./{path}?{urlencode(query)}>; rel="{rel}"')
