"""The REST interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from .apps import Apps, random_name
from .channels import checked_name
from .clock import Clock
from .credentials import Credentials
from .failure import Failure
from .grant import Grant, sender
from .history import page
from .http import MSGPACK, read_body, respond
from .log import Journal
from .presented import Verifier
from .revocation import Revocation, Revocations
from .token_service import TokenService
from .wire import for_json, read_items


class Rest:
    """Handlers of the REST interface, over what the emulator holds.

    `on_revoked` is called with a new revocation, and `on_deleted` with a deleted app's id, for the live
    connections they concern.
    """

    def __init__(
        self,
        clock: Clock,
        apps: Apps,
        tokens: TokenService,
        verifier: Verifier,
        revocations: Revocations,
        journal: Journal,
        *,
        basic_over_http: bool,
        on_revoked: Callable[[Revocation], None],
        on_deleted: Callable[[str], None],
        provisioned: Callable[[], dict[str, object]],
    ) -> None:
        self._clock = clock
        self._apps = apps
        self._tokens = tokens
        self._verifier = verifier
        self._revocations = revocations
        self._journal = journal
        self._basic_over_http = basic_over_http
        self._on_revoked = on_revoked
        self._on_deleted = on_deleted
        self._provisioned = provisioned

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add all routes, and one that answers everything else."""
        router.add_get("/time", self.time)
        router.add_get("/is-the-internet-up.txt", self.internet_up)
        router.add_get("/stats", self.stats)
        router.add_post("/stats", self.add_stats)
        router.add_post("/apps", self.create_app)
        router.add_delete("/apps/{app}", self.delete_app)
        router.add_post("/keys/{key}/requestToken", self.request_token)
        router.add_post("/keys/{key}/revokeTokens", self.revoke_tokens)
        router.add_get("/channels/{channel}", self.status)
        router.add_post("/channels/{channel}/messages", self.publish)
        router.add_get("/channels/{channel}/{path:messages|history}", self.history)
        router.add_get("/channels/{channel}/presence", self.presence)
        router.add_route("*", "/{path:.*}", self.nothing)

    async def time(self, request: web.Request) -> web.Response:
        """`GET /time`."""
        return respond(request, [self._clock.now()])

    async def internet_up(self, _: web.Request) -> web.Response:
        """What SDKs ask to tell whether it is Ably or the network that cannot be reached."""
        return web.Response(body=b"yes", content_type="text/plain")

    async def stats(self, request: web.Request) -> web.Response:
        """`GET /stats`: there are none."""
        grant, _ = self._authenticate(request)
        if not grant.capability.allows("stats", "*"):
            grant.require("stats", "[*]*")
        return respond(request, [])

    async def add_stats(self, request: web.Request) -> web.Response:
        """`POST /stats`, with which SDKs' own tests put statistics there: taken and forgotten."""
        self._authenticate(request)
        return respond(request, {}, status=201)

    async def create_app(self, request: web.Request) -> web.Response:
        """`POST /apps`: a new app for a test run."""
        body = await read_body(request)
        if not isinstance(body, dict):
            raise Failure(40000, 400, 'an app is an object such as {"keys": [{}]}')
        app, details = self._apps.provision(body)
        self._journal.record("app created", app=app.id, keys=len(app.keys))
        return respond(request, details | self._provisioned(), status=201)

    async def delete_app(self, request: web.Request) -> web.Response:
        """`DELETE /apps/{appId}`."""
        grant, _ = self._authenticate(request)
        if grant.is_token or grant.app.id != request.match_info["app"]:
            raise Failure(40101, 401, "an app is deleted with a key of its own")
        self._apps.delete(grant.app)
        self._on_deleted(grant.app.id)
        self._journal.record("app deleted", app=grant.app.id)
        return web.Response(status=204)

    async def request_token(self, request: web.Request) -> web.Response:
        """`POST /keys/{keyName}/requestToken`: a token for a TokenRequest."""
        body = await read_body(request)
        key = self._apps.key(request.match_info["key"])
        signed = isinstance(body, dict) and body.get("mac") is not None
        presented = None if signed or not Credentials.of(request) else self._authenticate(request)[0]
        details, grant = self._tokens.request(key, body, presented)
        self._journal.token_issued(body, details, grant)
        return respond(request, details, status=201)

    async def revoke_tokens(self, request: web.Request) -> web.Response:
        """`POST /keys/{keyName}/revokeTokens`."""
        grant, _ = self._authenticate(request)
        if grant.is_token:
            raise Failure(40162, 401, "tokens are revoked with the key itself, not with a token")
        if grant.key.name != request.match_info["key"]:
            raise Failure(40133, 401, "the key that revokes tokens must be the one they are of")
        revoked, answer = self._revocations.revoke(grant.key, await read_body(request))
        for revocation in revoked:
            self._journal.record("tokens revoked", target=revocation.target, key=grant.key.name)
            self._on_revoked(revocation)
        return respond(request, answer, status=201)

    async def publish(self, request: web.Request) -> web.Response:
        """`POST /channels/{channel}/messages`: one message, or a list."""
        grant, identity, name = self._on_channel(request, "publish")
        items = read_items(await read_body(request))
        for item in items:
            if (client_id := sender(identity, item.get("clientId"))) is not None:
                item["clientId"] = client_id
        batch = grant.app.channels.get(name).publish(items, base_id=random_name(10))
        answer = {"channel": name, "messageId": batch.id, "serials": batch.serials}
        return respond(request, answer, status=201)

    async def history(self, request: web.Request) -> web.Response:
        """`GET /channels/{channel}/messages`: what is still kept, a page at a time."""
        grant, _, name = self._on_channel(request, "history")
        channel = grant.app.channels.find(name)
        kept = channel.kept() if channel else []
        items, headers = page(kept, request.query, path=request.match_info["path"])
        return _respond_items(request, items, headers)

    async def presence(self, request: web.Request) -> web.Response:
        """`GET /channels/{channel}/presence`: who is present."""
        grant, _, name = self._on_channel(request, "subscribe")
        channel = grant.app.channels.find(name)
        wanted = {part: request.query[part] for part in ("clientId", "connectionId") if part in request.query}
        members = [
            member | {"serial": f"{member['connectionId']}:{member['clientId']}"}
            for member in (channel.presence.present() if channel else [])
            if all(member[part] == value for part, value in wanted.items())
        ]
        members.sort(key=lambda member: str(member["serial"]), reverse=True)
        items, headers = page(members, request.query, path="presence")
        for item in items:
            del item["serial"]
        return _respond_items(request, items, headers)

    async def status(self, request: web.Request) -> web.Response:
        """`GET /channels/{channel}`: whether it is active, and how many use it."""
        grant, _, name = self._on_channel(request, "channel-metadata")
        channel = grant.app.channels.get(name)
        # To ask makes it active, as SDKs' own tests expect.
        status = {"isActive": True, "occupancy": {"metrics": channel.occupancy()}}
        return respond(request, {"channelId": name, "status": status})

    async def nothing(self, request: web.Request) -> web.Response:
        """Everything that is not here."""
        raise Failure(40400, 404, f"no such route: {request.method} {request.rel_url.path}")

    def _authenticate(self, request: web.Request) -> tuple[Grant, str | None]:
        credentials = Credentials.of(request)
        if credentials.key is not None and not (self._basic_over_http or request.secure):
            raise Failure(40103, 401, "a key is not sent over plain HTTP; use TLS, or a token")
        return self._verifier.identify(credentials)

    def _on_channel(self, request: web.Request, operation: str) -> tuple[Grant, str | None, str]:
        grant, identity = self._authenticate(request)
        name = checked_name(request.match_info["channel"])
        grant.require(operation, name)
        return grant, identity, name


def _respond_items(request: web.Request, items: list[Any], headers: Any) -> web.Response:
    if MSGPACK not in request.headers.get("Accept", ""):
        items = [for_json(item) for item in items]
    return respond(request, items, headers=headers)
