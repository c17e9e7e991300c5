"""The browser's half: where reauth.js lies, and the route that serves it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

static_path = Path(__file__).parent / "static"
"""The folder of `reauth.js` and its types, for a web server or a bundler."""

_HEADERS = {
    "Cache-Control": "public, max-age=86400",
    "Access-Control-Allow-Origin": "*",  # pages of other origins may import a module only with this
    "X-Content-Type-Options": "nosniff",
}


def script_handler() -> Handler:
    """A handler that answers with reauth.js: cached for a day, then checked by its ETag."""
    body = (static_path / "reauth.js").read_bytes()
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
