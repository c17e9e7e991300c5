"""The REST interface: its routes, and their handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from .apps import Apps, random_name
from .channels import checked_name
from .clock import Clock
from .credentials import Access, Credentials, sender
from .http import MSGPACK, page, read_body, respond
from .journal import Journal
from .tokens import Revocation, Revocations, TokenService
from .verifier import Verifier
from .wire import Failure, for_json, read_items


class Rest:
    """Handlers of the REST interface.

    `on_revoked` is called with each new revocation, `on_deleted` with the id of each deleted app.
    `client_options` returns what `POST /apps` adds to its response, so that an SDK finds the emulator.
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
        on_revoked: Callable[[Revocation], None],
        on_deleted: Callable[[str], None],
        client_options: Callable[[], dict[str, object]],
    ) -> None:
        self._clock = clock
        self._apps = apps
        self._tokens = tokens
        self._verifier = verifier
        self._revocations = revocations
        self._journal = journal
        self._on_revoked = on_revoked
        self._on_deleted = on_deleted
        self._client_options = client_options

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add all routes, and one that responds 404 to everything else."""
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
        router.add_route("*", "/{path:.*}", self.not_found)

    async def time(self, request: web.Request) -> web.Response:
        """`GET /time`."""
        return respond(request, [self._clock.now()])

    async def internet_up(self, _: web.Request) -> web.Response:
        """`GET /is-the-internet-up.txt`, with which SDKs check the network."""
        return web.Response(body=b"yes", content_type="text/plain")

    async def stats(self, request: web.Request) -> web.Response:
        """`GET /stats`: an empty list."""
        access, _ = self._verifier.authenticate(request)
        if not access.capability.allows("stats", "*"):
            access.require("stats", "[*]*")
        return respond(request, [])

    async def add_stats(self, request: web.Request) -> web.Response:
        """`POST /stats`, with which the test suites of the SDKs create statistics. They are discarded."""
        self._verifier.authenticate(request)
        return respond(request, {}, status=201)

    async def create_app(self, request: web.Request) -> web.Response:
        """`POST /apps`: create an app for a test run."""
        body = await read_body(request)
        if not isinstance(body, dict):
            raise Failure(40000, 400, 'an app must be an object such as {"keys": [{}]}')
        app, details = self._apps.provision(body)
        self._journal.record("app created", app=app.id, keys=len(app.keys))
        return respond(request, details | self._client_options(), status=201)

    async def delete_app(self, request: web.Request) -> web.Response:
        """`DELETE /apps/{appId}`."""
        access, _ = self._verifier.authenticate(request)
        if access.is_token or access.app.id != request.match_info["app"]:
            raise Failure(40101, 401, "an app can only be deleted with one of its own API keys")
        self._apps.delete(access.app)
        self._on_deleted(access.app.id)
        self._journal.record("app deleted", app=access.app.id)
        return web.Response(status=204)

    async def request_token(self, request: web.Request) -> web.Response:
        """`POST /keys/{keyName}/requestToken`: issue a token for a TokenRequest."""
        body = await read_body(request)
        key = self._apps.key(request.match_info["key"])
        signed = isinstance(body, dict) and body.get("mac") is not None
        presented = None if signed or not Credentials.of(request) else self._verifier.authenticate(request)[0]
        details, access = self._tokens.request(key, body, presented)
        self._journal.token_issued(body, details, access)
        return respond(request, details, status=201)

    async def revoke_tokens(self, request: web.Request) -> web.Response:
        """`POST /keys/{keyName}/revokeTokens`: revoke tokens of the key."""
        access, _ = self._verifier.authenticate(request)
        if access.is_token:
            raise Failure(40162, 401, "tokens can only be revoked with an API key, not with a token")
        if access.key.name != request.match_info["key"]:
            raise Failure(40133, 401, "tokens can only be revoked with the key that they were issued for")
        revoked, answer = self._revocations.revoke(access.key, await read_body(request))
        for revocation in revoked:
            self._journal.record("tokens revoked", target=revocation.target, key=access.key.name)
            self._on_revoked(revocation)
        return respond(request, answer, status=201)

    async def publish(self, request: web.Request) -> web.Response:
        """`POST /channels/{channel}/messages`: publish a message, or a list of messages."""
        access, identity, name = self._authorize(request, "publish")
        items = read_items(await read_body(request))
        for item in items:
            if (client_id := sender(identity, item.get("clientId"))) is not None:
                item["clientId"] = client_id
        batch = access.app.channels.get(name).publish(items, base_id=random_name(10))
        answer = {"channel": name, "messageId": batch.id, "serials": batch.serials}
        return respond(request, answer, status=201)

    async def history(self, request: web.Request) -> web.Response:
        """`GET /channels/{channel}/messages`: a page of the messages of the last two minutes."""
        access, _, name = self._authorize(request, "history")
        channel = access.app.channels.find(name)
        kept = channel.kept() if channel else []
        items, headers = page(kept, request.query, path=request.match_info["path"])
        return _respond_items(request, items, headers)

    async def presence(self, request: web.Request) -> web.Response:
        """`GET /channels/{channel}/presence`: a page of the presence members."""
        access, _, name = self._authorize(request, "subscribe")
        channel = access.app.channels.find(name)
        filters = {
            part: request.query[part] for part in ("clientId", "connectionId") if part in request.query
        }
        members = [
            member | {"serial": f"{member['connectionId']}:{member['clientId']}"}
            for member in (channel.presence.present() if channel else [])
            if all(member[part] == value for part, value in filters.items())
        ]
        members.sort(key=lambda member: str(member["serial"]), reverse=True)
        items, headers = page(members, request.query, path="presence")
        for item in items:
            del item["serial"]
        return _respond_items(request, items, headers)

    async def status(self, request: web.Request) -> web.Response:
        """`GET /channels/{channel}`: the status and occupancy of the channel."""
        access, _, name = self._authorize(request, "channel-metadata")
        channel = access.app.channels.get(name)
        # The request makes the channel active, as the test suites of the SDKs expect.
        status = {"isActive": True, "occupancy": {"metrics": channel.occupancy()}}
        return respond(request, {"channelId": name, "status": status})

    async def not_found(self, request: web.Request) -> web.Response:
        """Any other route: 404."""
        raise Failure(40400, 404, f"no such route: {request.method} {request.rel_url.path}")

    def _authorize(self, request: web.Request, operation: str) -> tuple[Access, str | None, str]:
        """The access and client id of `request`, and the name of its channel.

        Raises Failure 40160 when `operation` is not allowed on the channel.
        """
        access, identity = self._verifier.authenticate(request)
        name = checked_name(request.match_info["channel"])
        access.require(operation, name)
        return access, identity, name


def _respond_items(request: web.Request, items: list[Any], headers: Any) -> web.Response:
    if MSGPACK not in request.headers.get("Accept", ""):
        items = [for_json(item) for item in items]
    return respond(request, items, headers=headers)
