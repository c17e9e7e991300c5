"""ably-python and ably-js get tokens from an app, and the emulator accepts what the strategy allows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from ably import AblyException, AblyRest
from aiohttp import web
from aiohttp.test_utils import TestServer
from apps import BASE, PATH, SECRET, install, rooms
from plain_js import PlainJs, plain_js

from aiohttp_ably import (
    AuthRequest,
    ClientSigned,
    ClientStored,
    JWTIssuer,
    MemoryStore,
    ServerDetermined,
    ServerStored,
    Strategy,
    TokenDetailsIssuer,
    TokenRequestIssuer,
)
from aiohttp_ably.emulator import Emulator
from aiohttp_ably.emulator.clock import ManualClock
from aiohttp_ably.testing import client_options, realtime_client

ALICE = {"X-User": "alice"}
ROOM = {"chat:1": ["publish", "subscribe"]}
DENIED = {"chat:secret": ["subscribe"]}
GRANTED = {**BASE, **ROOM}


async def all_granted(auth: AuthRequest) -> Any:
    return GRANTED


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "server determined": lambda: ServerDetermined(all_granted),
    "server stored": lambda: ServerStored(rooms(), store=MemoryStore(), base=BASE),
    "client stored": lambda: ClientStored(rooms(), base=BASE),
    "client signed": lambda: ClientSigned(rooms(), secret=SECRET, base=BASE),
}
ISSUERS: dict[str, Callable[[Emulator], Any]] = {
    "token request": lambda emulator: TokenRequestIssuer(),
    "jwt": lambda emulator: JWTIssuer(),
    "token details": lambda emulator: TokenDetailsIssuer(),
}


@pytest.fixture
async def js() -> AsyncIterator[PlainJs]:
    async with plain_js() as client:
        yield client


async def auth_server(
    aiohttp_server: Any, emulator: Emulator, strategy: Strategy, **options: Any
) -> TestServer:
    app = web.Application()
    install(app, strategy, key=emulator.key, client_options=client_options(emulator, sdk="python"), **options)
    return await aiohttp_server(app)


def tokens_of_a_minute(clock: ManualClock) -> dict[str, Any]:
    """Options of setup() for tokens that live for a minute, on the emulator's clock."""
    return {
        "issuer": TokenRequestIssuer(ttl=timedelta(minutes=1), jitter=0),
        "clock": lambda: clock.now() / 1000,
    }


each_strategy = pytest.mark.parametrize("strategy", list(STRATEGIES))
each_issuer = pytest.mark.parametrize("issuer", list(ISSUERS))


@each_strategy
@each_issuer
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_ably_python_gets_what_the_strategy_allows(
    method: str, strategy: str, issuer: str, aiohttp_server: Any, ably_emulator: Emulator
) -> None:
    server = await auth_server(
        aiohttp_server, ably_emulator, STRATEGIES[strategy](), issuer=ISSUERS[issuer](ably_emulator)
    )
    requested = {**BASE, **ROOM, **DENIED}
    for capability in (requested, json.dumps(requested)):
        rest = AblyRest(
            auth_url=str(server.make_url(PATH)),
            auth_method=method,
            auth_params={"capability": capability},
            auth_headers=ALICE,
            **client_options(ably_emulator, sdk="python"),
        )
        async with rest:
            details = await rest.auth.authorize()
            assert json.loads(str(details.capability)) == GRANTED
            assert details.client_id == "alice"
            await rest.channels.get("chat:1").publish("greeting", "hello")
            with pytest.raises(AblyException) as refused:
                await rest.channels.get("chat:secret").publish("greeting", "hello")
            assert refused.value.code == 40160


@each_strategy
@each_issuer
async def test_ably_js_gets_what_the_strategy_allows(
    strategy: str, issuer: str, aiohttp_server: Any, ably_emulator: Emulator, js: PlainJs
) -> None:
    server = await auth_server(
        aiohttp_server, ably_emulator, STRATEGIES[strategy](), issuer=ISSUERS[issuer](ably_emulator)
    )
    url, ably = str(server.make_url(PATH)), client_options(ably_emulator)
    requested = {**BASE, **ROOM, **DENIED}
    expected = {"capability": GRANTED, "clientId": "alice"}
    for method in ("GET", "POST"):
        options = {**ably, "authUrl": url, "authMethod": method, "authHeaders": ALICE}
        assert await js("obtain", options=options, params={"capability": requested}) == expected
        options["authParams"] = {"capability": json.dumps(requested)}
        assert await js("obtain", options=options) == expected
        callback = {
            "callbackUrl": str(server.make_url(PATH).with_query(capability=json.dumps(requested))),
            "callbackHeaders": ALICE,
            "callbackMethod": method,
        }
        assert await js("obtain", options={**ably, **callback}) == expected


@each_strategy
@pytest.mark.parametrize("handling", ["lenient", "strict"])
async def test_a_denied_request_keeps_connection_and_renewals_of_ably_js_working(
    strategy: str, handling: str, aiohttp_server: Any, js: PlainJs
) -> None:
    """The SDK saves what it requested, also when it was denied, and requests it with every renewal."""
    clock = ManualClock()
    async with Emulator(clock=clock) as emulator:
        server = await auth_server(
            aiohttp_server, emulator, STRATEGIES[strategy](), **tokens_of_a_minute(clock)
        )
        auth = {
            "authUrl": str(server.make_url(PATH)),
            "authHeaders": {**ALICE, "Prefer": f"handling={handling}"},
            "authMethod": "POST",
        }
        connected = await js("connect", options={**client_options(emulator), **auth})
        assert (await js("authorize", params={"capability": GRANTED}))["capability"] == GRANTED
        answer = await js("authorize", params={"capability": {**GRANTED, **DENIED}})
        if handling == "lenient":
            assert answer["capability"] == GRANTED
        else:
            assert (answer["error"]["code"], answer["error"]["statusCode"]) == (40160, 401)
            assert "chat:secret" in answer["error"]["message"]
            await js("authorize", params={"capability": GRANTED})  # as an app does after it was denied
        renewals = (await js("state"))["events"].count("update")
        await clock.advance(30)  # the token is about to expire, and Ably requests a new one
        await js("until", event="update", times=renewals + 1)

        assert json.loads(str(emulator.token_requests[-1].details["capability"])) == GRANTED
        state = await js("state")
        assert (state["state"], state["id"]) == ("connected", connected["id"])
        assert set(state["events"]) == {"connecting", "connected", "update"}
        await js("close")


@each_strategy
@pytest.mark.parametrize("handling", ["lenient", "strict"])
async def test_a_denied_request_keeps_connection_and_renewals_of_ably_python_working(
    strategy: str, handling: str, aiohttp_server: Any
) -> None:
    clock = ManualClock()
    async with Emulator(clock=clock) as emulator:
        server = await auth_server(
            aiohttp_server, emulator, STRATEGIES[strategy](), **tokens_of_a_minute(clock)
        )
        client = realtime_client(
            emulator,
            auth_url=str(server.make_url(PATH)),
            auth_method="POST",
            auth_headers={**ALICE, "Prefer": f"handling={handling}"},
        )
        seen: set[str] = set()
        updated: asyncio.Queue[None] = asyncio.Queue()
        await client.connection.once_async("connected")
        client.connection.on(lambda change: seen.add(change.current.value))
        connections = list(emulator.connections)
        details = await client.auth.authorize({"capability": GRANTED})
        assert json.loads(str(details.capability)) == GRANTED
        if handling == "lenient":
            details = await client.auth.authorize({"capability": {**GRANTED, **DENIED}})
            assert json.loads(str(details.capability)) == GRANTED
        else:
            with pytest.raises(AblyException) as refused:
                await client.auth.authorize({"capability": {**GRANTED, **DENIED}})
            assert (refused.value.code, refused.value.status_code) == (40160, 401)
            await client.auth.authorize({"capability": GRANTED})
        client.connection.on("update", lambda change: updated.put_nowait(None))
        await clock.advance(30)
        await asyncio.wait_for(updated.get(), 10)

        assert json.loads(str(emulator.token_requests[-1].details["capability"])) == GRANTED
        assert client.connection.state == "connected"
        assert list(emulator.connections) == connections
        assert seen == {"connected"}
        await client.close()


async def test_a_client_that_is_not_signed_in_fails_for_good(
    aiohttp_server: Any, ably_emulator: Emulator, js: PlainJs
) -> None:
    server = await auth_server(aiohttp_server, ably_emulator, STRATEGIES["client stored"]())
    options = {**client_options(ably_emulator), "authUrl": str(server.make_url(PATH))}
    answer = await js("obtain", options=options)
    assert answer["error"]["statusCode"] == 403
    client = realtime_client(ably_emulator, auth_url=str(server.make_url(PATH)))
    await client.connection.once_async("failed")
    await client.close()
