"""HTTP manners of the emulator: bodies in two formats, errors, and CORS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from ..capability import strict_json as _json
from ..errors import error_body, error_headers
from .failure import Failure
from .log import LOG
from .wire import loads, packb, unpackb

JSON = "application/json"
MSGPACK = "application/x-msgpack"
_METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"


async def read_body(request: web.Request) -> Any:
    """The body: msgpack when its type says so, else JSON. Raises Failure when it is neither."""
    data = await request.read()
    if "msgpack" in request.headers.get(hdrs.CONTENT_TYPE, ""):
        return unpackb(data)
    return loads(data) if data else None


def respond(
    request: web.Request, value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer `value` in the format the client accepts. The type has no charset: SDKs compare it exactly."""
    if MSGPACK in request.headers.get(hdrs.ACCEPT, ""):
        return web.Response(body=packb(value), status=status, content_type=MSGPACK, headers=headers)
    body = _json.dumps(value).encode()
    return web.Response(body=body, status=status, content_type=JSON, headers=headers)


def refuse(failure: Failure) -> web.Response:
    """The answer that tells a failure: always JSON, since browsers do not decode msgpack errors."""
    return web.Response(
        body=error_body(failure.code, failure.status, failure.message),
        status=failure.status,
        content_type=JSON,
        headers=error_headers(failure.code, failure.message),
    )


def manners(refused: Callable[[web.Request, Failure], None]) -> Middleware:
    """A middleware that answers preflights and tells every failure in Ably's form, once `refused` saw it."""

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
            LOG.exception("the emulator failed on %s %s", request.method, request.rel_url.path)
            failure = Failure(50000, 500, "the emulator failed; see its log")
        refused(request, failure)
        return refuse(failure)

    return middleware


async def add_cors_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Let a page of any origin read the response, with credentials."""
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
