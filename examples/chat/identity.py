"""The signed-in user: a name in the session. A demo needs no password."""

from __future__ import annotations

import re

from aiohttp import web
from aiohttp_session import get_session, new_session

_NAME = re.compile(r"\w[\w .'-]{0,23}")


async def current_user(request: web.Request) -> str | None:
    """The name of the signed-in user, which is the client id; None when nobody is signed in."""
    name = (await get_session(request)).get("user")
    return name if isinstance(name, str) else None


async def signed_in(request: web.Request) -> str:
    """The name of the signed-in user; raises HTTPUnauthorized when nobody is signed in."""
    name = await current_user(request)
    if name is None:
        raise web.HTTPUnauthorized(text="sign in first")
    return name


async def sign_in(request: web.Request, name: object) -> str:
    """Begin a session for `name`; raises HTTPBadRequest when it is not a valid name."""
    text = " ".join(name.split()) if isinstance(name, str) else ""
    if not _NAME.fullmatch(text):
        raise web.HTTPBadRequest(text="a name has 1 to 24 letters, digits, spaces, or any of . ' -")
    session = await new_session(request)
    session["user"] = text
    return text


async def sign_out(request: web.Request) -> None:
    """End the session, with the grants that are stored in it."""
    (await get_session(request)).invalidate()
