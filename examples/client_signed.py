"""ClientSigned: rooms with a password, without accounts. The granted rooms are in a signed cookie.

Run it:    python -m examples.client_signed
A token:   curl -c jar -b jar -d channel=room:tea -d password=earl-grey http://127.0.0.1:8080/ably/auth
Renew it:  curl -c jar -b jar http://127.0.0.1:8080/ably/auth
Leave:     curl -c jar -b jar -d drop=room:tea http://127.0.0.1:8080/ably/auth
A password is checked once, not at each renewal. Set GRANT_SECRET: grants signed with a random secret are
invalid after a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets

from aiohttp import web

import aiohttp_ably
from aiohttp_ably import AuthRequest, ChannelRules, ClientSigned

from .running import ClientOptions, run

SALT = os.urandom(16)


def slow_hash(password: str) -> bytes:
    """Hash a password, slowly on purpose. It should not run at each renewal."""
    return hashlib.scrypt(password.encode(), salt=SALT, n=2**12, r=8, p=1)


PASSWORDS = {"tea": slow_hash("earl-grey"), "coffee": slow_hash("arabica")}
NO_ROOM = slow_hash(secrets.token_urlsafe())

rules = ChannelRules()


@rules.channel("room:{room}")
async def room(auth: AuthRequest, room: str) -> list[str]:
    """Allow everything with the right password. Called only for rooms that are not in the cookie."""
    password = slow_hash(str(auth.params.get("password", "")))
    is_right = hmac.compare_digest(password, PASSWORDS.get(room, NO_ROOM))
    return ["publish", "subscribe"] if is_right else []


async def nobody(request: web.Request) -> str | None:
    """There are no accounts, so every client is anonymous."""
    return None


def make_app(key: str, client_options: ClientOptions = None) -> web.Application:
    """The app. `key` is its Ably API key, `client_options` say how the server reaches Ably."""
    app = web.Application()
    aiohttp_ably.setup(
        app,
        key=key,
        identify=nobody,
        anonymous=True,
        strategy=ClientSigned(
            rules,
            secret=os.environ.get("GRANT_SECRET") or secrets.token_urlsafe(32),
            base={"lobby": ["subscribe"]},
        ),
        client_options=client_options,
    )
    return app


if __name__ == "__main__":
    run(make_app)
