"""HTTP for the auth route: origins (CORS and CSRF), responses, errors as responses, and the script route."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict, CIMultiDictProxy, istr

from .capability import Capability
from .errors import AuthError, Forbidden, error_body, error_headers
from .request import GRANT_HEADER, REAUTHORIZE_HEADER, AuthRequest

METHODS = "GET, POST, OPTIONS"
DENIED_HEADER = "Ably-Denied"
OMITTED_HEADER = "Ably-Denied-Omitted"
EXPOSED = ", ".join(
    (
        DENIED_HEADER,
        OMITTED_HEADER,
        GRANT_HEADER,
        REAUTHORIZE_HEADER,
        "X-Ably-ErrorCode",
        "X-Ably-ErrorMessage",
    )
)
static_path: Path = Path(__file__).parent / "static"
"""The folder of `reauth.js`, the modules that it imports and its types, for a web server or a bundler."""

_JSON = "application/json"
_FETCH_SITE = istr("Sec-Fetch-Site")
_ORIGIN = re.compile(r"https?://[^/?#\s*@]+", re.IGNORECASE)
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,1024}")
# A proxy, because aiohttp 3.11.0 adds the headers of each response to a CIMultiDict that it is given.
_NEVER_CACHED: CIMultiDictProxy[str] = CIMultiDictProxy(
    CIMultiDict(
        {hdrs.CACHE_CONTROL: "private, no-cache, no-store, must-revalidate", hdrs.VARY: "Origin, Cookie"}
    )
)
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_DENIED_LIMIT = 2048  # characters; clients limit the length of a header
_SCRIPT_HEADERS = {
    "Cache-Control": "public, max-age=86400",
    "Access-Control-Allow-Origin": "*",  # pages of other origins can import a module only with this
    "X-Content-Type-Options": "nosniff",
}


class Origins:
    """The origins, besides its own, whose pages may use the auth route.

    Each origin is `scheme://host`, with a port where one is needed. Raises ValueError for anything else and
    for `*`: an answer belongs to one client, and browsers send cookies with the request.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        if isinstance(origins, str):
            raise ValueError(f'origins= is a list such as ["https://app.example.com"], got {origins!r}')
        self._allowed = {origin.lower() for origin in origins}
        for origin in self._allowed:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin such as 'https://app.example.com'")

    def check(self, request: web.Request) -> dict[str, str]:
        """The CORS headers for the response to `request`.

        Raises Forbidden for a foreign origin, including `null`, before anything else of the request is read.
        A browser's request from another site without an Origin, such as a link or an image, is foreign too.
        """
        headers = request.headers
        origin = headers.get(hdrs.ORIGIN)
        if origin is None:
            if headers.get(_FETCH_SITE) in ("cross-site", "same-site"):
                raise Forbidden("a page of another site may not send this request")
            return {}
        if origin.lower() not in self._allowed and not _is_own(origin, request):
            raise Forbidden(f"origin {origin[:200]!r} is not allowed; add it to origins= if it is yours")
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": EXPOSED,
        }


def preflight(request: web.Request) -> Mapping[str, str]:
    """The headers that answer a preflight, besides those of `Origins.check`."""
    wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
    headers = {"Allow": METHODS, "Access-Control-Allow-Methods": METHODS, "Access-Control-Max-Age": "600"}
    if _HEADER_NAMES.fullmatch(wanted):
        headers["Access-Control-Allow-Headers"] = wanted
    return headers


def json_response(
    body: bytes, content_type: str = _JSON, headers: Mapping[str, str] = _NO_HEADERS, *, status: int = 200
) -> web.Response:
    """A response that no cache stores. Its content type has no charset: two SDKs compare the exact string."""
    response = web.Response(body=body, status=status, content_type=content_type, headers=_NEVER_CACHED)
    if headers:
        response.headers.update(headers)
    return response


def error_response(refusal: AuthError, *, headers: Mapping[str, str] = _NO_HEADERS) -> web.Response:
    """The response for `refusal`."""
    return refused(refusal.code, refusal.status, refusal.message, headers=headers)


def refused(
    code: int, status: int, message: str, *, headers: Mapping[str, str] = _NO_HEADERS
) -> web.Response:
    """A response for an error. SDKs read the body, ably-js in browsers the headers (RSA4e)."""
    return json_response(
        error_body(code, status, message),
        status=status,
        headers={**error_headers(code, message), **headers},
    )


def denied_headers(denied: Capability) -> dict[str, str]:
    """Headers that name the denied part of the requested capability.

    Of a long list the first resources are named, and `Ably-Denied-Omitted` counts the rest.
    """
    named: dict[str, list[str]] = {}
    length = 2
    for resource, operations in denied.to_dict().items():
        length += len(json.dumps({resource: operations}))
        if length > _DENIED_LIMIT:
            break
        named[resource] = operations
    headers = {DENIED_HEADER: json.dumps(named, separators=(",", ":"))}
    if omitted := len(denied) - len(named):
        headers[OMITTED_HEADER] = str(omitted)
    return headers


def write_reply(auth: AuthRequest, headers: CIMultiDict[str]) -> None:
    """Move the headers and cookies that were collected in `auth` to the headers of a response."""
    for (name, _), value in auth.reply.items():
        headers.add(name, value)
    auth.reply.clear()


def script_routes(path: str) -> list[web.RouteDef]:
    """Routes for reauth.js at `path`, and for the modules that it imports in the same folder.

    Browsers cache them for a day, then check their ETag.
    """
    folder = path.rpartition("/")[0]
    return [
        web.get(path if file.name == "reauth.js" else f"{folder}/{file.name}", _script(file))
        for file in sorted(static_path.glob("*.js"))
    ]


def _is_own(origin: str, request: web.Request) -> bool:
    """Whether `origin` is the host of the request. Behind a proxy that ends TLS the schemes may differ."""
    try:
        parts = urlsplit(origin)
    except ValueError:  # for example "http://["
        return False
    if parts.scheme not in ("http", "https") or parts.netloc.lower() != request.host.lower():
        return False
    return parts.scheme == "https" or not request.secure


def _script(file: Path) -> Handler:
    body = file.read_bytes()
    etag = hashlib.sha256(body).hexdigest()[:32]

    async def serve(request: web.Request) -> web.Response:
        if any(known.value in (etag, "*") for known in request.if_none_match or ()):
            response = web.Response(status=304, headers=_SCRIPT_HEADERS)
        else:
            response = web.Response(
                body=body, content_type="text/javascript", charset="utf-8", headers=_SCRIPT_HEADERS
            )
        response.etag = etag
        return response

    return serve
