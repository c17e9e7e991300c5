"""The outcome of each request in signals, in the log, and in Prometheus."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from aiohttp import web
from apps import BASE, KEY, PATH, error, install, request_token, rooms, token_capability

from aiohttp_ably import AblyAuth, AuthEvent, Capability, MemoryStore, ServerStored, get_auth
from examples.metrics import make_app as metrics_app

ALICE = {"X-User": "alice"}
Seen = list[tuple[str, AuthEvent]]


def record(ably: AblyAuth) -> Seen:
    """A list that gets each signal that is sent, and its event."""
    seen: Seen = []

    def note(name: str) -> Any:
        async def receive(event: AuthEvent) -> None:
            seen.append((name, event))

        return receive

    ably.on_issue.append(note("issue"))
    ably.on_deny.append(note("deny"))
    ably.on_error.append(note("error"))
    return seen


def app_with_signals(**options: Any) -> tuple[web.Application, AblyAuth]:
    app = web.Application()
    strategy = options.pop("strategy", None) or ServerStored(rooms(), store=MemoryStore(), base=BASE)
    return app, install(app, strategy, **options)


async def test_an_issued_token_sends_on_issue(aiohttp_client: Any) -> None:
    app, ably = app_with_signals()
    seen = record(ably)
    await token_capability(await request_token(await aiohttp_client(app), {"chat:1": ["publish"]}))
    ((name, event),) = seen
    assert (name, event.auth and event.auth.client_id) == ("issue", "alice")
    assert event.capability == Capability({**BASE, "chat:1": "publish"})
    assert event.seconds > 0
    assert (event.denied, event.refusal) == (Capability(), None)


async def test_a_token_that_a_handler_gets_sends_on_issue(aiohttp_client: Any) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.json_response(dict(await get_auth(request).token()))

    app, ably = app_with_signals()
    app.router.add_get("/page", page)
    seen = record(ably)
    await (await aiohttp_client(app)).get("/page", headers=ALICE)
    assert [name for name, _ in seen] == ["issue"]


async def test_a_token_without_a_denied_part_sends_on_issue_and_on_deny(aiohttp_client: Any) -> None:
    app, ably = app_with_signals()
    seen = record(ably)
    await token_capability(await request_token(await aiohttp_client(app), {"chat:secret": ["publish"]}))
    assert [name for name, _ in seen] == ["issue", "deny"]
    assert seen[1][1].denied == Capability({"chat:secret": "publish"})


@pytest.mark.parametrize(
    ("requested", "status", "code"),
    [
        ({"user": None}, 403, 40300),
        ({"capability": "not JSON"}, 400, 40000),
        ({"capability": {"chat:secret": ["publish"]}, "headers": {"Prefer": "handling=strict"}}, 401, 40160),
        ({"headers": {"Origin": "https://evil.example"}}, 403, 40300),
    ],
    ids=["not signed in", "malformed", "strict", "foreign origin"],
)
async def test_a_refused_request_sends_on_deny(
    requested: dict[str, Any], status: int, code: int, aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app, ably = app_with_signals()
    seen = record(ably)
    client = await aiohttp_client(app)
    with caplog.at_level(logging.INFO, "aiohttp_ably"):
        assert await error(await request_token(client, requested.pop("capability", None), **requested)) == (
            status,
            code,
        )
    ((name, event),) = seen
    assert name == "deny"
    assert event.refusal is not None
    assert (event.refusal.status, event.refusal.code) == (status, code)
    (line,) = [one for one in caplog.records if one.name == "aiohttp_ably.events"]
    assert (vars(line)["ably_status"], vars(line)["ably_code"]) == (status, code)


async def test_a_failure_sends_on_error(aiohttp_client: Any) -> None:
    async def broken(auth: Any, requested: Any) -> Any:
        raise OSError("no database")

    app, ably = app_with_signals(strategy=ServerStored(broken, store=MemoryStore()))
    seen = record(ably)
    assert await error(await request_token(await aiohttp_client(app), {"chat:1": ["publish"]})) == (
        503,
        50300,
    )
    assert [name for name, _ in seen] == ["error"]


async def test_the_log_line_of_a_token_has_its_members(
    aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app, _ = app_with_signals()
    client = await aiohttp_client(app)
    with caplog.at_level(logging.INFO, "aiohttp_ably"):
        await request_token(client, {"chat:1": ["publish"], "chat:secret": ["publish"]})
    (line,) = [one for one in caplog.records if one.name == "aiohttp_ably.events"]
    assert vars(line)["ably_client_id"] == "alice"
    assert vars(line)["ably_capability"] == '{"chat:1":["publish"],"lobby":["subscribe"]}'
    assert vars(line)["ably_denied"] == '{"chat:secret":["publish"]}'
    assert vars(line)["ably_seconds"] > 0


@pytest.mark.parametrize("fault", ["fails", "hangs"])
async def test_a_receiver_that_fails_or_hangs_does_not_change_the_answer(
    fault: str, aiohttp_client: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohttp_ably.events._RECEIVER_TIMEOUT", 0.05)
    app, ably = app_with_signals()

    @ably.on_issue
    async def receive(event: AuthEvent) -> None:
        if fault == "fails":
            raise RuntimeError("a bug in the metrics")
        await asyncio.Event().wait()

    assert await token_capability(await request_token(await aiohttp_client(app))) == BASE
    assert "a receiver" in caplog.text


async def test_receivers_are_added_before_the_app_starts(aiohttp_client: Any) -> None:
    app, ably = app_with_signals()
    await aiohttp_client(app)
    with pytest.raises(RuntimeError, match="frozen"):
        record(ably)


async def test_prometheus_counts_tokens_and_errors(aiohttp_client: Any) -> None:
    client = await aiohttp_client(metrics_app(KEY))
    await client.get(PATH)
    await client.get(PATH, params={"capability": '{"other":["publish"]}'})
    await client.get(PATH, params={"capability": "not JSON"})
    metrics = (await (await client.get("/metrics")).text()).splitlines()
    assert "ably_issue_seconds_count 2.0" in metrics
    assert 'ably_denied_total{code="40160"} 1.0' in metrics
    assert 'ably_denied_total{code="40000"} 1.0' in metrics
