"""reauth.js with ably-js in Node.js, against an app of ours and the emulator."""

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
    """What came of a scenario: its result, and the events of reauth.js in it."""

    result: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    app: ReauthApp

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [detail for name, detail in self.events if name == kind]


Run = Callable[..., Awaitable[Ran]]


class Scenarios:
    """Node.js running reauth_scenarios.mjs, started again where a scenario ended it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def run(self, given: dict[str, Any]) -> dict[str, Any]:
        if self.process is None or self.process.poll() is not None:
            self.close()
            self.process = subprocess.Popen(
                [require_node(), "reauth_scenarios.mjs"],
                cwd=require_ably_js(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        print(json.dumps(given), file=self.process.stdin, flush=True)
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "Node.js ended; its own words are in the captured stderr"
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
    """Runs a scenario against an app with a strategy."""

    async def run(scenario: str, app: ReauthApp | None = None, key: str | None = None, **options: Any) -> Ran:
        app = app or ReauthApp(server_stored)
        async with TestServer(app.make(key or ably_emulator.key)) as server:
            url = str(server.make_url(PATH))
            given = {
                "scenario": scenario,
                "url": url,
                "options": options,
                "ably": client_options(ably_emulator),
            }
            running = asyncio.to_thread(scenarios.run, given)
            try:
                outcome = await asyncio.wait_for(running, 30)
            except asyncio.TimeoutError:
                scenarios.close()  # the thread is waiting for it
                raise
        return Ran(**outcome, app=app)

    return run


@pytest.mark.parametrize("name", STRATEGIES)
async def test_a_client_gets_what_it_needs_on_the_same_connection(run: Run, name: str) -> None:
    strategy, options, client = STRATEGIES[name]
    app = ReauthApp(strategy, options, rights={**BASE, "chat:1": ROOM})
    ran = await run("exchange", app, **client)
    held = {"publish", "subscribe", "presence"}
    assert ran.result["data"] == "hello"
    assert set(ran.result["held"]["chat:1"]) == held
    assert ran.result["held"]["lobby"] == ["subscribe"]
    assert ran.result["sameConnection"]
    if name != "server determined":
        assert ran.result["after"] == BASE
        assert ran.result["state"] == "failed"  # an attached channel loses what is given back


async def test_an_ask_narrows_no_token_where_the_server_alone_decides(run: Run) -> None:
    ran = await run("decidedByTheServer", ReauthApp(server_determined))
    assert ran.result["held"] == {**BASE, "chat:1": ["subscribe"], "chat:2": ["subscribe"]}
    assert ran.result["refusal"]["code"] == 40160
    assert ran.app.capabilities() == [{}, {"chat:1": ["subscribe"]}, {}, {"chat:3": ["subscribe"]}]


async def test_calls_made_together_are_one_request(run: Run) -> None:
    ran = await run("together")
    assert ran.result == {"outcomes": ["done"] * 20, "held": True}
    assert len(ran.app.requested) <= 2
    assert max(map(len, ran.app.capabilities())) == 20


async def test_what_is_asked_meanwhile_goes_into_the_next_request_and_what_is_held_into_none(
    run: Run,
) -> None:
    ran = await run("inTurn")
    assert ran.app.capabilities() == [
        {},
        {"chat:1": ["subscribe"]},
        {"chat:2": ["subscribe"], "chat:3": ["subscribe"]},
    ]
    assert len(ran.of("reauthorized")) == 2
    kinds = [kind for kind, _ in ran.events if kind in ("request", "granted")]
    assert kinds == ["request", "granted"] * 3


async def test_a_denied_ask_is_refused_by_the_servers_words_and_never_sent_again(run: Run) -> None:
    ran = await run("denied")
    refusal = ran.result["refusal"]
    assert (refusal["code"], refusal["status"]) == (40160, 401)
    assert "chat:secret" in refusal["message"]
    assert ran.result["sameConnection"]
    assert ran.result["state"] == "connected"
    requested = ran.app.capabilities()
    assert requested == [{}, {"chat:secret": ["subscribe"]}, {"chat:1": ["subscribe"]}, {}, {}]
    assert ran.app.requested[1].prefer == "handling=strict"
    assert ran.app.requested[3].prefer == "handling=lenient"
    assert [detail["denied"] for detail in ran.of("denied")] == [{"chat:secret": ["subscribe"]}]


async def test_one_denied_ask_costs_the_others_nothing(run: Run) -> None:
    ran = await run("oneOfSeveral")
    first, denied, last = ran.result["outcomes"]
    assert (first, last) == ("done", "done")
    assert (denied["code"], denied["status"]) == (40160, 401)
    assert len(ran.app.requested) == 3
    assert [detail["denied"] for detail in ran.of("denied")] == [{"chat:secret": ["subscribe"]}]
    assert len(ran.of("reauthorized")) == 1


async def test_one_malformed_ask_costs_the_others_nothing(run: Run) -> None:
    ran = await run("malformed")
    done, refused = ran.result["outcomes"]
    assert done == "done"
    assert (refused["code"], refused["status"]) == (40000, 400)
    assert ran.result["state"] == "connected"


async def test_an_outage_is_over_when_it_is_over(run: Run) -> None:
    ran = await run("outage")
    assert ran.result["refusal"]["status"] == 503
    assert ran.result["state"] == "connected"
    assert ran.result["recovered"] == "done"
    assert ran.result["sameConnection"]


async def test_40160_again_ends_after_one_retry(run: Run) -> None:
    ran = await run("loop")
    assert ran.result["runs"] == 2
    assert ran.result["error"]["code"] == 40160
    assert ran.app.capabilities() == [{}, {"chat:1": ["publish"]}]  # params are no part of a channel's name


async def test_what_the_api_key_lacks_is_not_asked_for_again_and_again(
    run: Run, ably_emulator: Emulator
) -> None:
    key = ably_emulator.add_key("small.key:abcdefghijklmnopqrstuvwxyz0123456789", BASE)
    ran = await run("keyLacks", key=key)
    for outcome in (ran.result["attached"], ran.result["needed"]):
        assert (outcome["code"], outcome["status"]) == (40160, 401)
        assert "API key" in outcome["message"]
    assert ran.result["state"] == "failed"
    assert len(ran.app.requested) == 3


async def test_a_failed_channel_is_attached_again_after_reauthorizing(run: Run) -> None:
    ran = await run("guarded")
    states = ran.result["states"]
    assert states == ["attaching", "failed", "attaching", "attached", "failed", "attaching", "attached"]
    assert ran.result["sameConnection"]
    assert ran.result["other"]["code"] == 40013  # passed on: it is not for want of a right
    assert [detail["operations"] for detail in ran.of("refused")] == [["*"], ["publish"]]
    assert {detail["resource"] for detail in ran.of("refused")} == {"chat:1"}


async def test_presence_is_entered_on_a_channel_not_attached_yet(run: Run) -> None:
    ran = await run("entered")
    assert ran.result["state"] == "attached"
    assert ran.result["refusal"]["code"] == 40160
    assert ran.app.capabilities() == [{}, {"chat:1": ["presence"]}, {"chat:secret": ["presence"]}]


async def test_the_list_holds_what_was_granted_outlives_the_page_and_is_nobody_elses(run: Run) -> None:
    ran = await run("list", ReauthApp(client_stored), list=True)
    assert ran.app.capabilities() == [
        {},
        {"chat:1": ["subscribe"]},
        {"chat:1": ["subscribe"], "chat:2": ["*"], "chat:secret": ["subscribe"]},
        {"chat:1": ["subscribe"], "chat:2": ["*"], "chat:secret": ["subscribe"]},
        {"chat:2": ["*"]},
        {"chat:2": ["*"]},
        {"chat:2": ["*"]},  # the second page
        {"chat:2": ["*"]},  # another user's
        {},
    ]
    assert ran.result["restored"] == {**BASE, "chat:2": ROOM}
    assert ran.result["another"] == BASE


@pytest.mark.parametrize("name", ["client signed", "client signed in the token"])
async def test_the_grant_goes_back_with_every_request(run: Run, name: str) -> None:
    strategy, options, client = STRATEGIES[name]
    ran = await run("inTurn", ReauthApp(strategy, options), **client)
    assert ran.result["held"] == {**BASE, **{f"chat:{room}": ["subscribe"] for room in (1, 2, 3)}}
    sent = [requested.grant for requested in ran.app.requested]
    assert sent[0] == ""
    assert all(sent[1:])
    if name == "client signed":
        assert sent[1:] == ran.app.grants[: len(sent) - 1]


async def test_what_the_app_grants_is_in_effect_when_its_fetch_resolves(run: Run) -> None:
    ran = await run("appFetch")
    assert ran.result["body"] == {"chat:1": ["subscribe"]}
    assert ran.result["held"]
    assert ran.result["statuses"] == [200, 200]
    assert ran.result["sameConnection"]
    assert ran.app.capabilities() == [{}, {}]


async def test_a_grant_that_a_fetch_brought_is_kept(run: Run) -> None:
    strategy, options, client = STRATEGIES["client signed"]
    ran = await run("appFetch", ReauthApp(strategy, options), **client)
    assert ran.result["held"]


@pytest.mark.parametrize("scenario", ["signedOut", "signedOutAtRenewal", "signedOutAtStart", "anotherUser"])
async def test_a_refusal_for_good_stops_the_client(run: Run, scenario: str) -> None:
    ran = await run(scenario)
    for told in ("refusal", "cause"):
        if told in ran.result:
            assert (ran.result[told]["code"], ran.result[told]["status"]) == (40300, 403)
    assert ran.result.get("state", "failed") == "failed"
    assert len(ran.app.requested) == (1 if scenario == "signedOutAtStart" else 2)


async def test_what_is_asked_and_dropped_at_once_happens_in_that_order(run: Run) -> None:
    ran = await run("askedAndDropped")
    assert ran.result["held"] == {**BASE, "chat:2": ["subscribe"]}
    assert ran.app.requested[-1].body["drop"] == ["chat:1"]


async def test_a_call_does_not_wait_for_a_connection_that_was_closed(run: Run) -> None:
    ran = await run("closedMeanwhile")
    assert ran.result["refusal"]["status"] == 400


async def test_a_rest_client_is_kept_authorized_too(run: Run) -> None:
    ran = await run("rest")
    assert ran.result["held"] == {**BASE, "chat:1": ["publish"]}
    assert ran.result["refusal"]["code"] == 40160


async def test_the_module_by_itself() -> None:
    process = await asyncio.create_subprocess_exec(
        require_node(),
        "--test",
        "reauth_unit.mjs",
        cwd=JS,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, output.decode()


async def test_the_script_is_served_with_an_etag_and_cached() -> None:
    strategy = ServerStored(_nothing, store=MemoryStore())
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


async def test_what_the_script_imports_is_served_beside_it() -> None:
    app = make_app(ServerStored(_nothing, store=MemoryStore()), script_path="/js/ours.js")
    async with TestServer(app) as server, aiohttp.ClientSession() as client:
        async with client.get(server.make_url("/js/ours.js")) as response:
            imported = re.findall(r'^import .* from "(.*)";$', await response.text(), re.MULTILINE)
        assert imported
        for name in imported:
            async with client.get(server.make_url("/js/ours.js").join(URL(name))) as response:
                assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize("path", ["reauth.js", "/ably/auth"])
def test_a_script_path_that_cannot_work_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"/ably/reauth\.js"):
        make_app(ServerStored(_nothing, store=MemoryStore()), script_path=path)


def test_types_lie_beside_the_script() -> None:
    types = (aiohttp_ably.static_path / "reauth.d.ts").read_text()
    script = (aiohttp_ably.static_path / "reauth.js").read_text()
    for name in ("need", "drop", "attach", "publish", "enter", "guard", "fetch", "bind", "clear", "holds"):
        assert f"  {name}(" in script.replace("async ", "")
        assert f"  {name}" in types


async def _nothing(auth: aiohttp_ably.AuthRequest, requested: aiohttp_ably.Capability) -> dict[str, str]:
    return {}
