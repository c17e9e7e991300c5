"""The command `python -m aiohttp_ably check`: its findings and its exit status."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web
from apps import KEY, KEY_SECRET

from aiohttp_ably import ApiKey
from aiohttp_ably.__main__ import check, main
from aiohttp_ably.emulator import Emulator, ManualClock
from aiohttp_ably.testing import client_options


async def findings(key: str, emulator: Emulator) -> dict[str, str]:
    """The level of each subject that is checked."""
    found = {}
    async for finding in check(key, client_options(emulator, sdk="python")):
        assert KEY_SECRET not in str(finding)
        found[finding.subject] = finding.level
    return found


async def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the command; returns its exit status and output."""
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


async def test_a_key_with_limited_rights_is_ok() -> None:
    key = ApiKey(KEY, revocable=True)
    async with Emulator({key: {"chat:*": ["publish", "subscribe"]}}) as emulator:
        expected = dict.fromkeys(("key", "reach", "clock", "rights", "revocation"), "ok")
        assert await findings(KEY, emulator) == expected


async def test_a_key_with_all_rights_and_no_revocation_is_a_warning() -> None:
    async with Emulator([KEY]) as emulator:
        found = await findings(KEY, emulator)
        assert (found["rights"], found["revocation"]) == ("warning", "warning")


@pytest.mark.parametrize("seconds", [-300, 300])
async def test_a_wrong_clock_is_a_warning(seconds: int) -> None:
    clock = ManualClock()
    await clock.advance(seconds)
    async with Emulator([KEY], clock=clock) as emulator:
        found = await findings(KEY, emulator)
        assert found["clock"] == "warning"
        assert "failed" not in found.values()


@pytest.mark.parametrize(
    "key", [f"{KEY}x", "app9.key9:another0secret0of0another0key"], ids=["secret", "name"]
)
async def test_a_key_that_ably_refuses_is_a_failure(key: str) -> None:
    async with Emulator([KEY]) as emulator:
        assert (await findings(key, emulator))["rights"] == "failed"


async def test_an_invalid_key_is_a_failure_before_any_request(unused_tcp_port: int) -> None:
    nowhere = {"endpoint": "127.0.0.1", "port": unused_tcp_port, "tls": False}
    assert [one.subject async for one in check(KEY_SECRET, nowhere)] == ["key"]
    last = [one async for one in check(KEY, nowhere)][-1]
    assert (last.level, last.subject) == ("failed", "reach")


async def test_an_answer_that_is_not_understood_is_a_failure(aiohttp_server: Any) -> None:
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


async def test_the_command_checks_the_emulator_without_a_key() -> None:
    status, output = await run("check", "--emulator")
    assert status == 0, output
    subjects = [line.split()[1] for line in output.splitlines()]
    assert subjects == ["key", "reach", "clock", "rights", "revocation"]


async def test_the_command_reads_the_key_from_the_environment() -> None:
    async with Emulator({KEY: {"chat:*": ["publish"]}}) as emulator:
        where = ("--endpoint", emulator.host, "--port", str(emulator.port), "--no-tls")
        status, output = await run("check", *where, ABLY_API_KEY=KEY)
        assert status == 0, output
        assert KEY_SECRET not in output
        status, output = await run("check", *where, ABLY_API_KEY=f"{KEY}x")
        assert status == 1, output
        assert "Traceback" not in output


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["check"], 1, "ABLY_API_KEY is not set"),
        ([], 2, "command"),
        (["check", "--endpoint", "ably.example.com", "--no-tls"], 2, "without encryption"),
    ],
)
def test_invalid_arguments_are_an_error_with_a_message(
    arguments: list[str],
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if len(arguments) > 1:
        monkeypatch.setenv("ABLY_API_KEY", KEY)
    else:
        monkeypatch.delenv("ABLY_API_KEY", raising=False)
    try:
        returned = main(arguments)
    except SystemExit as end:
        returned = int(end.code or 0)
    assert returned == status
    assert message in capsys.readouterr().err
