"""An auth server for tests with SDKs: the query of a request says what it signs."""

from __future__ import annotations

from aiohttp import hdrs, web

from aiohttp_ably import ApiKey, Capability
from aiohttp_ably.emulator import Emulator, ManualClock
from aiohttp_ably.tokens import sign_jwt, sign_token_request


def make_auth_app(emulator: Emulator) -> web.Application:
    """`GET /auth?kind=&rooms=&user=&life=`: sign a token.

    `kind` is that of the response: `request` (a TokenRequest), `jwt`, or `details` (a JWT in TokenDetails).
    `rooms` is a comma-separated list of channels; `life` is the ttl in milliseconds.

    `GET /advance?seconds=` advances the clock of the emulator.
    """

    async def auth(request: web.Request) -> web.Response:
        query = request.query
        capability = Capability(dict.fromkeys(query["rooms"].split(","), "*"))
        client_id = query.get("user") or None
        life = int(query.get("life", 3_600_000))
        now = emulator.clock.now()
        key = ApiKey(emulator.key)
        origin = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*"}
        if query["kind"] == "request":
            signed = sign_token_request(
                key, capability=capability, client_id=client_id, ttl=life, timestamp=now
            )
            return web.json_response(signed.to_dict(), headers=origin)
        expires = (now + life) / 1000
        token = sign_jwt(
            key,
            capability=capability,
            client_id=client_id,
            issued=now // 1000,
            expires=expires,  # type: ignore[arg-type]
        )
        if query["kind"] == "jwt":
            return web.Response(text=token, content_type="application/jwt", headers=origin)
        details = {
            "token": token,
            "keyName": key.name,
            "issued": now,
            "expires": now + life,
            "capability": capability.text,
        } | ({"clientId": client_id} if client_id else {})
        return web.json_response(details, headers=origin)

    async def advance(request: web.Request) -> web.Response:
        assert isinstance(emulator.clock, ManualClock)
        await emulator.clock.advance(float(request.query["seconds"]))
        return web.json_response(emulator.clock.now(), headers={hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*"})

    app = web.Application()
    app.router.add_get("/advance", advance)
    app.router.add_get("/auth", auth)
    return app
