"""JWTIssuer: a claim that receivers see, a rate limit, and the revocation of a whole team.

Run it:    python -m examples.jwt_claims
A token:   curl -H 'Authorization: Bearer alice-token' http://127.0.0.1:8080/ably/auth
Bare:      curl -H 'Authorization: Bearer alice-token' -H 'Accept: application/jwt' http://127.0.0.1:8080/ably/auth
Revoke:    curl -H 'Authorization: Bearer alice-token' -X DELETE http://127.0.0.1:8080/teams/red
At Ably, the last command needs a key with revocable tokens.
"""

from __future__ import annotations

from datetime import timedelta

from aiohttp import web

import aiohttp_ably
from aiohttp_ably import AblyAuth, ApiKey, AuthRequest, JWTIssuer, ServerDetermined, requires

from .running import ClientOptions, run

USERS = {"Bearer alice-token": "alice", "Bearer bob-token": "bob"}
TEAM = {"alice": "red", "bob": "red"}
CAPTAINS = {"alice"}
ABLY = web.AppKey("ably", AblyAuth)


async def current_user(request: web.Request) -> str | None:
    """The user whose API token is in the request, None when there is none."""
    return USERS.get(request.headers.get("Authorization", ""))


async def team_of(auth: AuthRequest) -> dict[str, list[str]]:
    """The channel of the client's team. Captains may delete its messages too."""
    captain = ["message-delete-any"] if auth.client_id in CAPTAINS else []
    return {f"team:{TEAM[str(auth.client_id)]}": ["publish", "subscribe", *captain]}


def claims(auth: AuthRequest) -> dict[str, object]:
    """Two claims that Ably reads: one comes with each message of the client, one limits their rate."""
    role = "captain" if auth.client_id in CAPTAINS else "player"
    return {"ably.channel.team:*": role, "ably.limits.publish.perAttachment.maxRate.team:*": 5}


@requires("team:{team}", "message-delete-any")
async def revoke_team(request: web.Request) -> web.Response:
    """End the tokens and connections of a team. Its name is the revocation key of its tokens."""
    return web.json_response(dict(await request.app[ABLY].revoke(groups=[request.match_info["team"]])))


def make_app(key: str, client_options: ClientOptions = None) -> web.Application:
    """The app. `key` is its Ably API key, `client_options` say how the server reaches Ably."""
    app = web.Application()
    app[ABLY] = aiohttp_ably.setup(
        app,
        key=ApiKey(key, revocable=True),
        identify=current_user,
        strategy=ServerDetermined(team_of),
        issuer=JWTIssuer(
            ttl=timedelta(minutes=30),
            claims=claims,
            revocation_key=lambda auth: TEAM[str(auth.client_id)],
        ),
        client_options=client_options,
    )
    app.router.add_delete("/teams/{team}", revoke_team)
    return app


if __name__ == "__main__":
    run(make_app)
