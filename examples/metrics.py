"""Metrics for Prometheus: issued tokens and their time, denied requests, and errors.

Install:   pip install prometheus-client
Run it:    python -m examples.metrics
A token:   curl http://127.0.0.1:8080/ably/auth
Denied:    curl 'http://127.0.0.1:8080/ably/auth?channel=private'
Metrics:   curl http://127.0.0.1:8080/metrics
"""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

import aiohttp_ably
from aiohttp_ably import AblyAuth, AuthEvent, ServerDetermined

from .running import ClientOptions, run


def measure(ably: AblyAuth, registry: CollectorRegistry) -> None:
    """Count the result of each request. Client ids would be too many labels."""
    issued = Histogram("ably_issue_seconds", "Time to answer with a token", registry=registry)
    denied = Counter(
        "ably_denied", "Refused requests, and denied parts of requests", ["code"], registry=registry
    )
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


def make_app(key: str, client_options: ClientOptions = None) -> web.Application:
    """The app. Every client is alice, who may use the lobby."""
    app, registry = web.Application(), CollectorRegistry()
    ably = aiohttp_ably.setup(
        app,
        key=key,
        identify=lambda request: "alice",
        strategy=ServerDetermined({"lobby": ["publish", "subscribe"]}),
        client_options=client_options,
    )
    measure(ably, registry)

    async def metrics(request: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4"}
        return web.Response(body=generate_latest(registry), headers=headers)

    app.router.add_get("/metrics", metrics)
    return app


if __name__ == "__main__":
    run(make_app)
