"""The Emulator and its command: start, log, keys, TLS."""

import asyncio
import re
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from emulator_helpers import KEY, basic, call, connected, issue, jwt_of

from aiohttp_ably import ApiKey, Capability
from aiohttp_ably import emulator as emulator_package
from aiohttp_ably.emulator import Certificate, Emulator
from aiohttp_ably.emulator.__main__ import main
from aiohttp_ably.emulator.wire import Action


async def read_until(stream: asyncio.StreamReader, pattern: str) -> str:
    """The output up to a line that matches `pattern`."""
    shown = ""
    while not re.search(pattern, shown):
        line = await asyncio.wait_for(stream.readline(), 20)
        assert line, f"{pattern!r} was not in: {shown}"
        shown += line.decode()
    return shown


async def test_the_command_logs_events_and_stops_on_a_signal(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiohttp_ably.emulator", "--port", "0", "--key", KEY),
        *("--tls-port", "0", "--write-ca", str(ca), "--refuse-basic-over-http"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        shown = await read_until(process.stdout, "ably-python")
        assert f"API key          {KEY}" in shown
        ports = re.findall(r"https?://127\.0\.0\.1:(\d+)", shown)
        context = ssl.create_default_context(cafile=str(ca))
        async with aiohttp.ClientSession(headers=basic()) as client:
            url = f"http://127.0.0.1:{ports[0]}/channels/room"
            async with client.get(url) as response:
                assert response.status == 401
            url = f"https://127.0.0.1:{ports[1]}"
            async with client.get(f"{url}/channels/room", ssl=context) as response:
                assert response.status == 200
            async with client.ws_connect(f"{url}/?key={KEY}", ssl=context) as socket:
                await socket.receive()
                shown = await read_until(process.stdout, "connected")
        refused, accepted = shown.splitlines()
        assert re.fullmatch(
            r"\d\d:\d\d:\d\d  refused +request=GET /channels/room  code=40103  why=.+", refused
        )
        assert re.search(r"  connected +client=\*  connection=\w+  key=app1\.key1  capability=", accepted)
        assert KEY.partition(":")[2] not in shown
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0


@pytest.mark.parametrize(
    "arguments",
    [["--key", "nonsense"], ["--tls-port", "0", "--tls-cert", "/none.pem"], ["--host", "192.0.2.1"]],
)
def test_the_command_prints_why_it_cannot_start(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--port", "0", *arguments]) == 1
    assert capsys.readouterr().err.startswith("the emulator cannot start: ")


async def test_an_emulator_has_several_keys_and_apps() -> None:
    other = "app2.key1:secret"
    async with Emulator([KEY, ApiKey(other)]) as emulator:
        assert (emulator.key, emulator.keys) == (KEY, [KEY, other])
        assert set(emulator.apps) == {"app1", "app2"}
        assert emulator.add_key("app3.new:secret", Capability({"a": "*"})) == "app3.new:secret"
        for key in emulator.keys:
            status, _ = await call(emulator, "GET", "/channels/a", headers=basic(key))
            assert status == 200


async def test_messages_stay_within_their_app() -> None:
    other = "app2.key1:secret"
    async with Emulator([KEY, other]) as emulator, connected(emulator, key=KEY) as peer:
        await peer.attach("room")
        assert (await call(emulator, "POST", "/channels/room/messages", {}, basic(other)))[0] == 201
        assert await peer.is_quiet()


async def test_events_are_recorded_without_credentials() -> None:
    async with Emulator(KEY) as emulator:
        await issue(emulator, clientId="alice")
        async with connected(emulator, {"room": "subscribe"}, client_id="alice") as peer:
            await peer.attach("room")
            await peer.publish("room", {"name": "n"})
            await peer.expect(Action.NACK)
            token = jwt_of(emulator, {"room": "*"}, client_id="alice")
            await peer.request(Action.AUTH, Action.ATTACHED, auth={"accessToken": token})
            await peer.expect(Action.CONNECTED)
            await peer.request(Action.CLOSE, Action.CLOSED)
        assert [event.kind for event in emulator.events] == [
            "token issued",
            "connected",
            "attached",
            "refused",
            "reauthorized",
            "closed",
        ]
        assert {event.details["client"] for event in emulator.events} == {"alice"}
        assert emulator.events[3].details["code"] == 40160
        assert token not in "".join(map(str, emulator.events))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"keys": "app.key"}, ValueError, "not an Ably API key"),
        ({"keys": {KEY: "x"}}, ValueError, "capability"),
        ({"keys": 7}, TypeError, "keys must be API keys.*got int"),
    ],
)
def test_malformed_keys_are_an_error(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Emulator(**options)


@pytest.mark.parametrize("tls", [False, True])
async def test_an_emulator_listens_on_its_ports_only(tls: bool) -> None:
    async with Emulator(tls=Certificate().context() if tls else None) as emulator:
        assert emulator._runner is not None
        ports = [address[1] for address in emulator._runner.addresses]
        assert ports == [emulator.port, *([emulator.tls_port] if tls else [])]


async def test_an_emulator_that_is_not_started_has_no_ports() -> None:
    emulator = Emulator(KEY)
    with pytest.raises(RuntimeError, match="not been started"):
        _ = emulator.url
    async with emulator:
        with pytest.raises(RuntimeError, match="no TLS"):
            _ = emulator.tls_url
        with pytest.raises(OSError, match=str(emulator.port)):
            await Emulator(port=emulator.port).start()


def test_modules_import_only_modules_above_them() -> None:
    """The order is that of the table in the docstring of the package."""
    folder = Path(emulator_package.__file__).parent
    rows = re.findall(r"^    (\w+(?:, \w+)*)   ", emulator_package.__doc__ or "", re.MULTILINE)
    order = ", ".join(rows).split(", ")
    assert {path.stem for path in folder.glob("*.py")} == {*order, "__init__", "__main__"}
    for number, name in enumerate(order):
        source = (folder / f"{name}.py").read_text()
        assert set(re.findall(r"^ *from \.(\w+) import", source, re.MULTILINE)) <= set(order[:number])
        outside = set(re.findall(r"^ *from \.\.(\w+) import", source, re.MULTILINE))
        assert outside <= {"capability", "errors", "keys", "tokens"}


async def test_a_certificate_is_valid_for_its_hosts(tmp_path: Path) -> None:
    certificate = Certificate(["localhost", "127.0.0.1"])
    context = ssl.create_default_context(cafile=str(certificate.write(tmp_path / "ca.pem")))
    assert b"PRIVATE" not in certificate.certificate
    async with Emulator(tls=certificate.context()) as emulator, aiohttp.ClientSession() as client:
        for host in ("localhost", "127.0.0.1"):
            async with client.get(f"https://{host}:{emulator.tls_port}/time", ssl=context) as response:
                assert response.status == 200
