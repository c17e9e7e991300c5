"""Identity and permissions from aiohttp-security: `identify` and a channel rule use its functions.

Install:   pip install aiohttp-security
Run it:    python -m examples.aiohttp_security_login
Sign in:   curl -c jar -d user=alice http://127.0.0.1:8080/login
A token:   curl -b jar 'http://127.0.0.1:8080/ably/auth?channel=news:local'
"""

from __future__ import annotations

from typing import Any

import aiohttp_security
import aiohttp_session
from aiohttp import web
from aiohttp_security.abc import AbstractAuthorizationPolicy
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from cryptography.fernet import Fernet

import aiohttp_ably
from aiohttp_ably import AuthRequest, ChannelRules, ClientStored

from .running import ClientOptions, run

PERMISSIONS = {"alice": {"read", "write"}, "bob": {"read"}}
rules, routes = ChannelRules(), web.RouteTableDef()


class Permissions(AbstractAuthorizationPolicy):
    """The permissions of each user. A real app reads them from its database."""

    async def authorized_userid(self, identity: str) -> str | None:
        return identity if identity in PERMISSIONS else None

    async def permits(self, identity: str | None, permission: Any, context: Any = None) -> bool:
        return permission in PERMISSIONS.get(identity or "", ())


@rules.channel("news:{place}")
async def news(auth: AuthRequest, place: str) -> list[str]:
    """The operations for which the user has the permission."""
    assert auth.request is not None
    permissions = {"subscribe": "read", "publish": "write"}
    return [
        operation
        for operation, permission in permissions.items()
        if await aiohttp_security.permits(auth.request, permission, place)
    ]


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    """Sign in by name. A real app checks a password too."""
    response = web.json_response({})
    await aiohttp_security.remember(request, response, str((await request.post())["user"]))
    return response


def make_app(key: str, client_options: ClientOptions = None) -> web.Application:
    """The app. `key` is its Ably API key, `client_options` say how the server reaches Ably."""
    app = web.Application()
    aiohttp_session.setup(app, EncryptedCookieStorage(Fernet(Fernet.generate_key())))
    aiohttp_security.setup(app, aiohttp_security.SessionIdentityPolicy(), Permissions())
    aiohttp_ably.setup(
        app,
        key=key,
        identify=aiohttp_security.authorized_userid,
        strategy=ClientStored(rules, base={"announcements": ["subscribe"]}),
        client_options=client_options,
    )
    app.add_routes(routes)
    return app


if __name__ == "__main__":
    run(make_app)
