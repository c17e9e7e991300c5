"""Metrics for Prometheus: how many tokens, how fast, what was denied, what failed.

pip install prometheus-client
python -m examples.metrics            # then: curl localhost:8080/ably/auth; curl localhost:8080/metrics
"""

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

import aiohttp_ably
from aiohttp_ably import AuthEvent, ServerDetermined
from aiohttp_ably.sandbox import Sandbox


def measure(ably: aiohttp_ably.AblyAuth, registry: CollectorRegistry) -> None:
    """Count what becomes of each request. Client ids are no labels: there are too many of them."""
    issued = Histogram("ably_issue_seconds", "Time to answer with a token", registry=registry)
    denied = Counter("ably_denied", "Refusals, and asks that were left out", ["code"], registry=registry)
    failed = Counter("ably_errors", "Requests that could not be answered", ["code"], registry=registry)

    @ably.on_issue
    async def count_issue(event: AuthEvent) -> None:
        issued.observe(event.seconds)

    @ably.on_deny
    async def count_denial(event: AuthEvent) -> None:
        denied.labels(event.refusal.code if event.refusal else 40160).inc()

    @ably.on_error
    async def count_error(event: AuthEvent) -> None:
        failed.labels(event.refusal.code if event.refusal else 50000).inc()


def make_app(key: str) -> web.Application:
    """An app in which everybody is alice, who may use the lobby."""
    app, registry = web.Application(), CollectorRegistry()
    strategy = ServerDetermined(lambda auth: {"lobby": ["publish", "subscribe"]})
    ably = aiohttp_ably.setup(
        app, key=key, identify=lambda request: "alice", strategy=strategy, clock_sync=None
    )
    measure(ably, registry)

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    app.router.add_get("/metrics", metrics)
    return app


if __name__ == "__main__":
    web.run_app(make_app(Sandbox().key), host="127.0.0.1", port=8080)
