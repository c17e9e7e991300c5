"""The emulator itself: its parts put together, and the ports it listens on."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from aiohttp import web

from ..capability import Capability
from ..keys import ApiKey
from .apps import App, Apps, Key, random_name
from .clock import Clock, SystemClock
from .connection import Connection
from .failure import Failure
from .http import add_cors_headers, manners
from .log import Event, IssuedToken, Journal
from .presented import Verifier
from .realtime import Realtime
from .rest import Rest
from .revocation import Revocations
from .token_service import TokenService

KeyLike = str | ApiKey
CapabilityLike = Capability | str | Mapping[str, Any] | None
_MAX_BODY = 2 * 1024 * 1024


class Emulator:
    """A local emulator of Ably: REST and realtime on one port, everything in memory.

        async with Emulator() as emulator:
            setup(app, key=emulator.key, ...)
            # SDKs: endpoint=emulator.host, port=emulator.port, tls=False

    `keys` are whole API keys: one, several, or a mapping to what each may do (all, where that is None). By
    default there is one, with a random name. `port` 0 takes a free one. With `tls`, an SSLContext for
    servers, the emulator listens on `tls_port` too. `clock` is for tests: see ManualClock.
    `basic_over_http=False` refuses keys over plain HTTP, as Ably does; here it would often be in the way.

    Start it with `async with`, or `await start()` and `await close()`, in any running loop.
    """

    def __init__(
        self,
        keys: KeyLike | Iterable[KeyLike] | Mapping[KeyLike, CapabilityLike] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        tls_port: int = 0,
        clock: Clock | None = None,
        basic_over_http: bool = True,
    ) -> None:
        self.host = host
        self.clock = clock or SystemClock()
        self.apps = Apps(self.clock)
        self._keys = [self._add_key(key, capability) for key, capability in _capabilities(keys)]
        self._wanted_ports = (port, tls_port)
        self._tls = tls
        self._ports: list[int] = []
        self._runner: web.AppRunner | None = None
        self._journal = Journal(self.clock)
        self._tokens = TokenService(self.clock)
        revocations = Revocations(self.clock)
        self.verifier = Verifier(self.clock, self.apps, self._tokens, revocations)
        self._realtime = Realtime(self.clock, self.verifier, self._journal, basic_over_http=basic_over_http)
        self._rest = Rest(
            self.clock,
            self.apps,
            self._tokens,
            self.verifier,
            revocations,
            self._journal,
            basic_over_http=basic_over_http,
            on_revoked=self._realtime.enforce,
            on_deleted=self._realtime.end_app,
            provisioned=self._address,
        )

    @property
    def key(self) -> str:
        """The first API key, whole: `<appId>.<keyId>:<secret>`."""
        return self._keys[0].text

    @property
    def keys(self) -> Sequence[str]:
        """All API keys it was made with, whole."""
        return [key.text for key in self._keys]

    @property
    def port(self) -> int:
        """The port for plain HTTP. Raises RuntimeError before the start."""
        return self._started()[0]

    @property
    def tls_port(self) -> int:
        """The port for TLS. Raises RuntimeError before the start, or without `tls`."""
        if self._tls is None:
            raise RuntimeError("this emulator has no TLS: make it with tls=")
        return self._started()[1]

    @property
    def url(self) -> str:
        """`http://<host>:<port>`."""
        return f"http://{self.host}:{self.port}"

    @property
    def tls_url(self) -> str:
        """`https://<host>:<port>`."""
        return f"https://{self.host}:{self.tls_port}"

    @property
    def events(self) -> Sequence[Event]:
        """What happened, oldest first; the last 10,000."""
        return self._journal.events

    @property
    def token_requests(self) -> Sequence[IssuedToken]:
        """The TokenRequests that were granted, oldest first; the last 10,000."""
        return self._journal.token_requests

    @property
    def connections(self) -> Mapping[str, Connection]:
        """The realtime connections by id, those included that may still be resumed."""
        return self._realtime.connections

    def add_key(self, key: KeyLike, capability: CapabilityLike = None) -> str:
        """Add an API key, to a new app when its app id is new; returns it whole.

        Raises ValueError when it is not a whole key, or `capability` is not one.
        """
        self._keys.append(self._add_key(key, capability))
        return self._keys[-1].text

    async def start(self) -> None:
        """Listen. Raises OSError when a port is taken."""
        app = web.Application(middlewares=[manners(self._refused)], client_max_size=_MAX_BODY)
        app.on_response_prepare.append(add_cors_headers)
        app.router.add_get("/", self._realtime.handle)
        self._rest.add_routes(app.router)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        try:
            port, tls_port = self._wanted_ports
            await web.TCPSite(self._runner, self.host, port).start()
            if self._tls is not None:
                await web.TCPSite(self._runner, self.host, tls_port, ssl_context=self._tls).start()
        except OSError:
            await self.close()
            raise
        self._ports = [address[1] for address in self._runner.addresses]

    async def close(self) -> None:
        """End all connections, and listen no more."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await self._realtime.close()
            await runner.cleanup()

    async def __aenter__(self) -> Emulator:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _add_key(self, key: KeyLike, capability: CapabilityLike) -> Key:
        api_key = key if isinstance(key, ApiKey) else ApiKey(key)
        app: App = self.apps.get(api_key.app_id) or self.apps.create(api_key.app_id)
        return app.add_key(api_key, capability)

    def _address(self) -> dict[str, object]:
        return {"endpoint": self.host, "port": self.port, "tls": False}

    def _refused(self, request: web.Request, failure: Failure) -> None:
        what = f"{request.method} {request.rel_url.path}"
        self._journal.record("refused", request=what, code=failure.code, why=failure.message)

    def _started(self) -> list[int]:
        if not self._ports:
            raise RuntimeError("the emulator has not been started: use `async with`, or await start()")
        return self._ports


def _capabilities(
    keys: KeyLike | Iterable[KeyLike] | Mapping[KeyLike, CapabilityLike] | None,
) -> Iterable[tuple[KeyLike, CapabilityLike]]:
    if keys is None:
        return [(f"{random_name(6)}.{random_name(6)}:{random_name(43)}", None)]
    if isinstance(keys, (str, ApiKey)):
        return [(keys, None)]
    if isinstance(keys, Mapping):
        return list(keys.items())
    return [(key, None) for key in keys]
