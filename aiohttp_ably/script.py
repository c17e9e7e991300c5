"""The browser's half: where reauth.js lies, and the routes that serve it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

static_path = Path(__file__).parent / "static"
"""The folder of `reauth.js`, the modules it imports and its types, for a web server or a bundler."""

_HEADERS = {
    "Cache-Control": "public, max-age=86400",
    "Access-Control-Allow-Origin": "*",  # pages of other origins may import a module only with this
    "X-Content-Type-Options": "nosniff",
}


def script_routes(path: str) -> list[web.RouteDef]:
    """Routes for reauth.js at `path`, and beside it for the modules it imports.

    They are cached for a day, then checked by their ETag.
    """
    folder = path.rpartition("/")[0]
    return [
        web.get(path if file.name == "reauth.js" else f"{folder}/{file.name}", _handler(file))
        for file in sorted(static_path.glob("*.js"))
    ]


def _handler(file: Path) -> Handler:
    body = file.read_bytes()
    etag = hashlib.sha256(body).hexdigest()[:32]

    async def serve(request: web.Request) -> web.Response:
        if any(known.value in (etag, "*") for known in request.if_none_match or ()):
            response = web.Response(status=304, headers=_HEADERS)
        else:
            response = web.Response(
                body=body, content_type="text/javascript", charset="utf-8", headers=_HEADERS
            )
        response.etag = etag
        return response

    return serve
