"""Responses: the one place that turns a refusal into one, and what goes along with every answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from aiohttp import hdrs, web
from multidict import CIMultiDict

from .capability import Capability
from .errors import AuthError, error_body, error_headers
from .issuers import JSON
from .request import GRANT_HEADER, AuthRequest

DENIED_HEADER = "Ably-Denied"
OMITTED_HEADER = "Ably-Denied-Omitted"
REAUTHORIZE_HEADER = "Ably-Reauthorize"
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
NEVER_CACHED: CIMultiDict[str] = CIMultiDict(
    {hdrs.CACHE_CONTROL: "private, no-cache, no-store, must-revalidate", hdrs.VARY: "Origin, Cookie"}
)
_NONE: Mapping[str, str] = MappingProxyType({})
_DENIED_LIMIT = 2048


def json_response(
    body: bytes, content_type: str = JSON, headers: Mapping[str, str] = _NONE, *, status: int = 200
) -> web.Response:
    """A response no cache keeps. Its type has no charset: some SDKs compare the exact text."""
    response = web.Response(body=body, status=status, content_type=content_type, headers=NEVER_CACHED)
    if headers:
        response.headers.update(headers)
    return response


def error_response(refusal: AuthError, *, headers: Mapping[str, str] = _NONE) -> web.Response:
    """What a client sees of `refusal`."""
    return refused(refusal.code, refusal.status, refusal.message, headers=headers)


def refused(code: int, status: int, message: str, *, headers: Mapping[str, str] = _NONE) -> web.Response:
    """An error in the form that SDKs read in the body, and browsers in the headers (RSA4e)."""
    return json_response(
        error_body(code, status, message),
        status=status,
        headers={**error_headers(code, message), **headers},
    )


def denied_headers(denied: Capability) -> dict[str, str]:
    """Headers that name what was asked and is not in the token.

    A client's parser of headers has its limits, so of very much only a part is named, and the rest counted.
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
    """Add the headers and cookies that `auth` collected to those of a response, which are not sent yet."""
    for (name, _), value in auth.reply.items():
        headers.add(name, value)
