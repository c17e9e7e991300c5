"""`python -m aiohttp_ably check`: what it says, and its exit status."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web
from apps import KEY

from aiohttp_ably import ApiKey
from aiohttp_ably.__main__ import check, main
from aiohttp_ably.emulator import Emulator, ManualClock

SECRET = KEY.partition(":")[2]


async def findings(key: str, emulator: Emulator) -> dict[str, str]:
    """The level of each subject."""
    reach = {"endpoint": emulator.host, "port": emulator.port, "tls": False}
    found = {}
    async for finding in check(key, reach):
        assert SECRET not in str(finding)
        found[finding.subject] = finding.level
    return found


async def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit status and output of the command as a shell sees them."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "aiohttp_ably",
        *arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_a_key_that_may_what_it_needs_is_fine() -> None:
    key = ApiKey(KEY, revocable=True)
    async with Emulator({key: {"chat:*": ["publish", "subscribe"]}}) as emulator:
        expected = dict.fromkeys(("key", "reach", "clock", "rights", "revocation"), "ok")
        assert await findings(KEY, emulator) == expected


async def test_a_key_that_may_everything_and_revoke_nothing_is_warned_of() -> None:
    async with Emulator([KEY]) as emulator:
        found = await findings(KEY, emulator)
        assert (found["rights"], found["revocation"]) == ("warning", "warning")


@pytest.mark.parametrize("seconds", [-300, 300])
async def test_a_clock_that_is_off_is_warned_of(seconds: int) -> None:
    clock = ManualClock()
    await clock.advance(seconds)
    async with Emulator([KEY], clock=clock) as emulator:
        found = await findings(KEY, emulator)
        assert found["clock"] == "warning"
        assert "failed" not in found.values()


@pytest.mark.parametrize("key", [f"{KEY}x", "app9.key9:another0secret0altogether"], ids=["secret", "name"])
async def test_a_key_that_ably_does_not_know_fails(key: str) -> None:
    async with Emulator([KEY]) as emulator:
        assert (await findings(key, emulator))["rights"] == "failed"


async def test_what_is_not_a_key_fails_before_anybody_is_asked(unused_tcp_port: int) -> None:
    nowhere = {"endpoint": "127.0.0.1", "port": unused_tcp_port, "tls": False}
    assert [one.subject async for one in check(SECRET, nowhere)] == ["key"]
    last = [one async for one in check(KEY, nowhere)][-1]
    assert (last.level, last.subject) == ("failed", "reach")


async def test_an_answer_that_is_no_ably_fails(aiohttp_server: Any) -> None:
    async def time(request: web.Request) -> web.Response:
        return web.json_response([1_800_000_000_000])

    async def token(request: web.Request) -> web.Response:
        return web.json_response({"token": "x", "issued": 1, "expires": 2, "capability": "everything"})

    app = web.Application()
    app.router.add_get("/time", time)
    app.router.add_post("/keys/{key}/requestToken", token)
    server = await aiohttp_server(app)
    reach: Mapping[str, Any] = {"endpoint": "127.0.0.1", "port": server.port, "tls": False}
    last = [one async for one in check(KEY, reach)][-1]
    assert (last.level, last.subject) == ("failed", "rights")


async def test_the_command_needs_nothing_with_the_emulator() -> None:
    status, output = await run("check", "--emulator")
    assert status == 0, output
    subjects = [line.split()[1] for line in output.splitlines()]
    assert subjects == ["key", "reach", "clock", "rights", "revocation"]


async def test_the_command_takes_its_key_from_the_environment() -> None:
    async with Emulator({KEY: {"chat:*": ["publish"]}}) as emulator:
        where = ("--endpoint", emulator.host, "--port", str(emulator.port), "--no-tls")
        status, output = await run("check", *where, ABLY_API_KEY=KEY)
        assert status == 0, output
        assert SECRET not in output
        status, output = await run("check", *where, ABLY_API_KEY=f"{KEY}x")
        assert status == 1, output
        assert "Traceback" not in output


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["check"], 1, "ABLY_API_KEY is not set"),
        ([], 2, "command"),
        (["check", "--endpoint", "ably.example.com", "--no-tls"], 2, "without encryption"),
    ],
)
def test_what_cannot_be_checked_says_so(
    arguments: list[str],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if len(arguments) > 1:
        monkeypatch.setenv("ABLY_API_KEY", KEY)
    else:
        monkeypatch.delenv("ABLY_API_KEY", raising=False)
    try:
        got = main(arguments)
    except SystemExit as end:
        got = int(end.code or 0)
    assert got == status
    assert said in capsys.readouterr().err
