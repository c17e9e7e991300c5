"""The Emulator: REST and realtime on one port, and one for TLS."""

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
from .http import add_cors_headers, error_middleware
from .journal import Event, IssuedToken, Journal
from .realtime import Realtime
from .rest import Rest
from .tokens import Revocations, TokenService
from .verifier import Verifier
from .wire import Failure

KeyLike = str | ApiKey
CapabilityLike = Capability | str | Mapping[str, Any] | None
_MAX_BODY = 2 * 1024 * 1024


class Emulator:
    """A local emulator of Ably: REST and realtime on one port, everything in memory.

    For example::

        async with Emulator() as emulator:
            setup(app, key=emulator.key, ...)
            # SDKs: endpoint=emulator.host, port=emulator.port, tls=False

    Start it with `async with`, or with `await start()` and `await close()`, in any event loop.

    Args:
        keys: one API key, several, or a mapping from API keys to their capabilities, where None is every
            operation on every channel. The default is one key with a random name.
        host: the address to listen on.
        port: the port for plain HTTP; 0 is a free port.
        tls: an SSLContext for servers, such as `Certificate().context()`. With it, the emulator also listens
            on `tls_port`.
        tls_port: the port for TLS; 0 is a free port.
        clock: the clock, such as a ManualClock in tests; the default is the clock of the machine.
        basic_over_http: whether API keys are accepted over plain HTTP. Ably refuses them.

    Raises:
        ValueError: an API key or a capability is malformed.
        TypeError: `keys` is neither a key nor several of them.
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
        self.clock: Clock = clock or SystemClock()
        self.apps: Apps = Apps(self.clock)
        self._keys = [self._add_key(key, capability) for key, capability in _capabilities(keys)]
        self._requested_ports = (port, tls_port)
        self._tls = tls
        self._ports: list[int] = []
        self._runner: web.AppRunner | None = None
        self._journal = Journal(self.clock)
        self._tokens = TokenService(self.clock)
        revocations = Revocations(self.clock)
        self.verifier: Verifier = Verifier(
            self.clock, self.apps, self._tokens, revocations, basic_over_http=basic_over_http
        )
        self._realtime = Realtime(self.clock, self.verifier, self._journal)
        self._rest = Rest(
            self.clock,
            self.apps,
            self._tokens,
            self.verifier,
            revocations,
            self._journal,
            on_revoked=self._realtime.enforce,
            on_deleted=self._realtime.end_app,
            client_options=self._client_options,
        )

    @property
    def key(self) -> str:
        """The first API key, `<appId>.<keyId>:<secret>`."""
        return self._keys[0].text

    @property
    def keys(self) -> Sequence[str]:
        """All API keys, without those of apps that `POST /apps` created."""
        return [key.text for key in self._keys]

    @property
    def port(self) -> int:
        """The port for plain HTTP. Raises RuntimeError while the emulator is not started."""
        return self._started()[0]

    @property
    def tls_port(self) -> int:
        """The port for TLS. Raises RuntimeError while the emulator is not started, or without `tls`."""
        if self._tls is None:
            raise RuntimeError("this emulator has no TLS: create it with tls=")
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
        """The last 10,000 events, oldest first."""
        return self._journal.events

    @property
    def token_requests(self) -> Sequence[IssuedToken]:
        """The last 10,000 tokens that were issued for a TokenRequest, oldest first."""
        return self._journal.token_requests

    @property
    def connections(self) -> Mapping[str, Connection]:
        """The realtime connections by id, including dropped ones that can still be resumed."""
        return self._realtime.connections

    def add_key(self, key: KeyLike, capability: CapabilityLike = None) -> str:
        """Add an API key and return it with its secret. Its app is created when it does not exist.

        `capability` is what the key allows; None is every operation on every channel. Raises ValueError when
        the key or the capability is malformed.
        """
        self._keys.append(self._add_key(key, capability))
        return self._keys[-1].text

    async def start(self) -> None:
        """Start to listen. Raises OSError when a port is in use."""
        app = web.Application(middlewares=[error_middleware(self._record_refusal)], client_max_size=_MAX_BODY)
        app.on_response_prepare.append(add_cors_headers)
        app.router.add_get("/", self._realtime.handle)
        self._rest.add_routes(app.router)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        try:
            port, tls_port = self._requested_ports
            await web.TCPSite(self._runner, self.host, port).start()
            if self._tls is not None:
                await web.TCPSite(self._runner, self.host, tls_port, ssl_context=self._tls).start()
        except OSError:
            await self.close()
            raise
        self._ports = [address[1] for address in self._runner.addresses]

    async def close(self) -> None:
        """End all connections and stop listening."""
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

    def _client_options(self) -> dict[str, object]:
        return {"endpoint": self.host, "port": self.port, "tls": False}

    def _record_refusal(self, request: web.Request, failure: Failure) -> None:
        shown = f"{request.method} {request.rel_url.path}"
        self._journal.record("refused", request=shown, code=failure.code, why=failure.message)

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
    if not isinstance(keys, Iterable):
        raise TypeError(f"keys must be API keys or a mapping of them, got {type(keys).__name__}")
    return [(key, None) for key in keys]
