"""reauth.js with ably-js in Node.js, against an aiohttp app and the emulator."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from apps import BASE, PATH, make_app
from real_parts import JS, require_ably_js, require_node
from reauth_app import ROOM, STRATEGIES, ReauthApp, client_stored, server_determined, server_stored
from yarl import URL

import aiohttp_ably
from aiohttp_ably import MemoryStore, ServerStored
from aiohttp_ably.emulator import Emulator
from aiohttp_ably.testing import client_options


@dataclass
class Ran:
    """The result of a scenario, the events of reauth.js in it, and the app."""

    result: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    app: ReauthApp

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [detail for name, detail in self.events if name == kind]


Run = Callable[..., Awaitable[Ran]]


class Scenarios:
    """A Node.js process that runs reauth_scenarios.mjs; it is started again if a scenario ended it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def run(self, scenario: dict[str, Any]) -> dict[str, Any]:
        if self.process is None or self.process.poll() is not None:
            self.close()
            self.process = subprocess.Popen(
                [require_node(), "reauth_scenarios.mjs"],
                cwd=require_ably_js(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        print(json.dumps(scenario), file=self.process.stdin, flush=True)
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "Node.js ended; see the captured stderr"
        return json.loads(line)

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture(scope="module")
def scenarios() -> Iterator[Scenarios]:
    scenarios = Scenarios()
    yield scenarios
    scenarios.close()


@pytest.fixture
async def run(ably_emulator: Emulator, scenarios: Scenarios) -> Run:
    """Run a scenario against an app."""

    async def run(scenario: str, app: ReauthApp | None = None, key: str | None = None, **options: Any) -> Ran:
        app = app or ReauthApp(server_stored)
        async with TestServer(app.make(key or ably_emulator.key)) as server:
            url = str(server.make_url(PATH))
            command = {
                "scenario": scenario,
                "url": url,
                "options": options,
                "ably": client_options(ably_emulator),
            }
            running = asyncio.to_thread(scenarios.run, command)
            try:
                outcome = await asyncio.wait_for(running, 30)
            except asyncio.TimeoutError:
                scenarios.close()  # ends the thread, which waits for the process
                raise
        return Ran(**outcome, app=app)

    return run


@pytest.mark.parametrize("name", STRATEGIES)
async def test_a_client_gets_what_it_needs_on_the_same_connection(run: Run, name: str) -> None:
    strategy, options, client = STRATEGIES[name]
    app = ReauthApp(strategy, options, rights={**BASE, "chat:1": ROOM})
    ran = await run("needAndDrop", app, **client)
    assert ran.result["data"] == "hello"
    assert set(ran.result["granted"]["chat:1"]) == {"publish", "subscribe", "presence"}
    assert ran.result["granted"]["lobby"] == ["subscribe"]
    assert ran.result["sameConnection"]
    if name != "server determined":
        assert ran.result["after"] == BASE
        assert (
            ran.result["state"] == "failed"
        )  # Ably fails an attached channel that the new token does not allow


async def test_a_request_does_not_narrow_a_server_determined_token(run: Run) -> None:
    ran = await run("serverDetermined", ReauthApp(server_determined))
    assert ran.result["capability"] == {**BASE, "chat:1": ["subscribe"], "chat:2": ["subscribe"]}
    assert ran.result["error"]["code"] == 40160
    assert ran.app.capabilities() == [{}, {"chat:1": ["subscribe"]}, {}, {"chat:3": ["subscribe"]}]


async def test_concurrent_calls_share_one_request(run: Run) -> None:
    ran = await run("concurrentCalls")
    assert ran.result == {"outcomes": ["done"] * 20, "allowed": True}
    assert len(ran.app.requests) <= 2
    assert max(map(len, ran.app.capabilities())) == 20


async def test_calls_during_a_request_share_the_next_one(run: Run) -> None:
    ran = await run("callsDuringARequest")
    assert ran.app.capabilities() == [
        {},
        {"chat:1": ["subscribe"]},
        {"chat:2": ["subscribe"], "chat:3": ["subscribe"]},
    ]
    assert len(ran.of("reauthorized")) == 2
    kinds = [kind for kind, _ in ran.events if kind in ("request", "granted")]
    assert kinds == ["request", "granted"] * 3


async def test_a_denied_request_rejects_with_the_servers_error_and_is_not_repeated(run: Run) -> None:
    ran = await run("denied")
    error = ran.result["error"]
    assert (error["code"], error["status"]) == (40160, 401)
    assert "chat:secret" in error["message"]
    assert ran.result["sameConnection"]
    assert ran.result["state"] == "connected"
    assert ran.app.capabilities() == [{}, {"chat:secret": ["subscribe"]}, {"chat:1": ["subscribe"]}, {}, {}]
    assert ran.app.requests[1].prefer == "handling=strict"
    assert ran.app.requests[3].prefer == "handling=lenient"
    assert [detail["denied"] for detail in ran.of("denied")] == [{"chat:secret": ["subscribe"]}]


async def test_one_denied_call_does_not_fail_the_others(run: Run) -> None:
    ran = await run("oneOfThreeDenied")
    first, denied, last = ran.result["outcomes"]
    assert (first, last) == ("done", "done")
    assert (denied["code"], denied["status"]) == (40160, 401)
    assert len(ran.app.requests) == 3
    assert [detail["denied"] for detail in ran.of("denied")] == [{"chat:secret": ["subscribe"]}]
    assert len(ran.of("reauthorized")) == 1


async def test_one_malformed_call_does_not_fail_the_others(run: Run) -> None:
    ran = await run("oneOfTwoMalformed")
    done, malformed = ran.result["outcomes"]
    assert done == "done"
    assert (malformed["code"], malformed["status"]) == (40000, 400)
    assert ran.result["state"] == "connected"


async def test_the_client_recovers_from_an_outage_of_the_auth_server(run: Run) -> None:
    ran = await run("outage")
    assert ran.result["error"]["status"] == 503
    assert ran.result["state"] == "connected"
    assert ran.result["recovered"] == "done"
    assert ran.result["sameConnection"]


async def test_a_second_40160_is_raised(run: Run) -> None:
    ran = await run("deniedAgain")
    assert ran.result["runs"] == 2
    assert ran.result["error"]["code"] == 40160
    assert ran.app.capabilities() == [{}, {"chat:1": ["publish"]}]  # params are no part of a channel's name


async def test_a_capability_that_the_api_key_lacks_is_requested_once_by_each_call(
    run: Run, ably_emulator: Emulator
) -> None:
    key = ably_emulator.add_key("small.key:abcdefghijklmnopqrstuvwxyz0123456789", BASE)
    ran = await run("apiKeyLacksCapability", key=key)
    for outcome in (ran.result["attached"], ran.result["needed"]):
        assert (outcome["code"], outcome["status"]) == (40160, 401)
        assert "API key" in outcome["message"]
    assert ran.result["state"] == "failed"
    assert len(ran.app.requests) == 3


async def test_guard_attaches_a_failed_channel_again(run: Run) -> None:
    ran = await run("failedChannel")
    states = ran.result["states"]
    assert states == ["attaching", "failed", "attaching", "attached", "failed", "attaching", "attached"]
    assert ran.result["sameConnection"]
    assert ran.result["other"]["code"] == 40013  # an error other than 40160 is raised as it is
    assert [detail["requested"] for detail in ran.of("refused")] == [
        {"chat:1": ["*"]},
        {"chat:1": ["publish"]},
    ]


async def test_enter_attaches_the_channel_first(run: Run) -> None:
    ran = await run("enterPresence")
    assert ran.result["state"] == "attached"
    assert ran.result["error"]["code"] == 40160
    assert ran.app.capabilities() == [{}, {"chat:1": ["presence"]}, {"chat:secret": ["presence"]}]


async def test_the_list_is_stored_and_not_used_for_another_client(run: Run) -> None:
    ran = await run("storedList", ReauthApp(client_stored), list=True)
    assert ran.app.capabilities() == [
        {},
        {"chat:1": ["subscribe"]},
        {"chat:1": ["subscribe"], "chat:2": ["*"], "chat:secret": ["subscribe"]},
        {"chat:1": ["subscribe"], "chat:2": ["*"], "chat:secret": ["subscribe"]},
        {"chat:2": ["*"]},
        {"chat:2": ["*"]},
        {"chat:2": ["*"]},  # the second page
        {"chat:2": ["*"]},  # another user, with the first one's list
        {},
    ]
    assert ran.result["restored"] == {**BASE, "chat:2": ROOM}
    assert ran.result["another"] == BASE


@pytest.mark.parametrize("name", ["client signed", "client signed in the token"])
async def test_every_request_sends_the_last_grant(run: Run, name: str) -> None:
    strategy, options, client = STRATEGIES[name]
    ran = await run("callsDuringARequest", ReauthApp(strategy, options), **client)
    assert ran.result["capability"] == {**BASE, **{f"chat:{room}": ["subscribe"] for room in (1, 2, 3)}}
    sent = [received.grant for received in ran.app.requests]
    assert sent[0] == ""
    assert all(sent[1:])
    if name == "client signed":
        assert sent[1:] == ran.app.grants[: len(sent) - 1]


async def test_a_grant_of_a_handler_is_in_effect_when_fetch_resolves(run: Run) -> None:
    ran = await run("fetchReauthorizes")
    assert ran.result["body"] == {"chat:1": ["subscribe"]}
    assert ran.result["allowed"]
    assert ran.result["statuses"] == [200, 200]
    assert ran.result["sameConnection"]
    assert ran.app.capabilities() == [{}, {}]


async def test_fetch_keeps_the_grant_of_its_response(run: Run) -> None:
    strategy, options, client = STRATEGIES["client signed"]
    ran = await run("fetchReauthorizes", ReauthApp(strategy, options), **client)
    assert ran.result["allowed"]


@pytest.mark.parametrize(
    "scenario", ["notSignedIn", "notSignedInAtRenewal", "notSignedInAtStart", "anotherUser"]
)
async def test_a_403_stops_the_client(run: Run, scenario: str) -> None:
    ran = await run(scenario)
    for name in ("error", "cause"):
        if name in ran.result:
            assert (ran.result[name]["code"], ran.result[name]["status"]) == (40300, 403)
    assert ran.result.get("state", "failed") == "failed"
    assert len(ran.app.requests) == (1 if scenario == "notSignedInAtStart" else 2)


async def test_need_and_drop_of_one_resource_keep_their_order(run: Run) -> None:
    ran = await run("needDropNeed")
    assert ran.result["capability"] == {**BASE, "chat:2": ["subscribe"]}
    assert ran.app.requests[-1].body["drop"] == ["chat:1"]


async def test_a_call_ends_when_the_connection_is_closed(run: Run) -> None:
    ran = await run("closedDuringACall")
    assert ran.result["error"]["status"] == 400


async def test_a_rest_client_recovers_from_40160(run: Run) -> None:
    ran = await run("rest")
    assert ran.result["capability"] == {**BASE, "chat:1": ["publish"]}
    assert ran.result["error"]["code"] == 40160


async def test_reauth_js_without_an_sdk() -> None:
    process = await asyncio.create_subprocess_exec(
        require_node(),
        "--test",
        "reauth_unit.mjs",
        cwd=JS,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, output.decode()


async def test_the_script_has_an_etag_and_is_cached_for_a_day() -> None:
    strategy = ServerStored(_deny_all, store=MemoryStore())
    app = make_app(strategy, script_path="/ably/reauth.js")
    async with TestServer(app) as server, aiohttp.ClientSession() as client:
        async with client.get(server.make_url("/ably/reauth.js")) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
            assert response.headers["Cache-Control"] == "public, max-age=86400"
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert await response.read() == (aiohttp_ably.static_path / "reauth.js").read_bytes()
            etag = response.headers["ETag"]
        known = {"If-None-Match": f'"another", {etag}'}
        async with client.get(server.make_url("/ably/reauth.js"), headers=known) as response:
            assert response.status == 304
            assert response.headers["ETag"] == etag
            assert response.headers["Cache-Control"] == "public, max-age=86400"
        async with client.head(server.make_url("/ably/reauth.js")) as response:
            assert response.headers["ETag"] == etag


async def test_imported_modules_are_served_beside_the_script() -> None:
    app = make_app(ServerStored(_deny_all, store=MemoryStore()), script_path="/js/helper.js")
    async with TestServer(app) as server, aiohttp.ClientSession() as client:
        async with client.get(server.make_url("/js/helper.js")) as response:
            imported = re.findall(r'^import .* from "(.*)";$', await response.text(), re.MULTILINE)
        assert imported
        for name in imported:
            async with client.get(server.make_url("/js/helper.js").join(URL(name))) as response:
                assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize("path", ["reauth.js", "/ably/auth"])
def test_an_invalid_script_path_is_an_error(path: str) -> None:
    with pytest.raises(ValueError, match=r"/ably/reauth\.js"):
        make_app(ServerStored(_deny_all, store=MemoryStore()), script_path=path)


def test_the_types_declare_every_method() -> None:
    types = (aiohttp_ably.static_path / "reauth.d.ts").read_text()
    script = (aiohttp_ably.static_path / "reauth.js").read_text()
    for name in ("need", "drop", "attach", "publish", "enter", "guard", "fetch", "bind", "clear", "allows"):
        assert f"  {name}(" in script.replace("async ", "")
        assert f"  {name}" in types


async def _deny_all(auth: aiohttp_ably.AuthRequest, requested: aiohttp_ably.Capability) -> dict[str, str]:
    return {}
