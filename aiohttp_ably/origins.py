"""Origins: who may call the auth route from a browser (CORS), and nobody else (CSRF)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import hdrs
from multidict import istr

from .errors import Forbidden
from .responses import EXPOSED

if TYPE_CHECKING:
    from aiohttp import web

_FETCH_SITE = istr("Sec-Fetch-Site")
METHODS = "GET, POST, OPTIONS"
_ORIGIN = re.compile(r"https?://[^/?#\s*@]+", re.IGNORECASE)
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,1024}")


class Origins:
    """The origins besides its own that an auth route answers, each `scheme://host` with a port where needed.

    Raises ValueError for anything else, `*` included: answers go with cookies and are meant for one client.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        if isinstance(origins, str):
            raise ValueError(f'origins= is a list such as ["https://app.example.com"], got {origins!r}')
        self._allowed = {origin.lower() for origin in origins}
        for origin in self._allowed:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin such as 'https://app.example.com'")

    def check(self, request: web.Request) -> dict[str, str]:
        """The CORS headers for the answer to `request`.

        Raises Forbidden for a foreign origin, `null` among them, before anything of the request is read. A
        browser's request from another site without an Origin, such as a link or an image, is foreign too.
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
    """The further headers that answer a preflight."""
    wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
    headers = {"Allow": METHODS, "Access-Control-Allow-Methods": METHODS, "Access-Control-Max-Age": "600"}
    if _HEADER_NAMES.fullmatch(wanted):
        headers["Access-Control-Allow-Headers"] = wanted
    return headers


def _is_own(origin: str, request: web.Request) -> bool:
    """Whether `origin` is where the request went. Behind a proxy that ends TLS the scheme may not tell."""
    try:
        parts = urlsplit(origin)
    except ValueError:  # "http://[", say
        return False
    if parts.scheme not in ("http", "https") or parts.netloc.lower() != request.host.lower():
        return False
    return parts.scheme == "https" or not request.secure
