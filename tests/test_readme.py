"""The README's quick start runs as it is printed, and answers as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ably import AblyRest
from apps import error

from aiohttp_ably.emulator import Emulator
from aiohttp_ably.testing import client_options

README = (Path(__file__).parent.parent / "README.md").read_text()
QUICK_START, IN_HANDLERS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[:2]


@pytest.fixture
def names(ably_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("ABLY_API_KEY", ably_emulator.key)
    names: dict[str, Any] = {"__name__": "app"}
    exec(QUICK_START, names)
    exec(IN_HANDLERS, names)
    return names


async def test_the_quick_start_serves_tokens_to_curl_and_to_an_sdk(
    names: dict[str, Any], ably_emulator: Emulator, aiohttp_client: Any
) -> None:
    client = await aiohttp_client(names["app"])
    (path,) = re.findall(r"curl -H 'X-User: alice' 'http://localhost:8080(\S+)'", README)
    answer = await (await client.get(path, headers={"X-User": "alice"})).json()
    (shown,) = re.findall(r"^(\{\"keyName\".*\})$", README, re.MULTILINE)
    assert answer.keys() == json.loads(shown).keys()
    assert answer["capability"] == json.loads(shown)["capability"]
    assert await error(await client.get(path)) == (403, 40300)

    rest = AblyRest(
        auth_url=str(client.make_url("/ably/auth")),
        auth_headers={"X-User": "alice"},
        **client_options(ably_emulator, sdk="python"),
    )
    async with rest:
        details = await rest.auth.authorize({"capability": {"room:tea": ["subscribe", "publish"]}})
        assert json.loads(str(details.capability)) == {
            "lobby": ["subscribe"],
            "room:tea": ["publish", "subscribe"],
        }


async def test_the_handlers_grant_and_guard(names: dict[str, Any], aiohttp_client: Any) -> None:
    app = names["app"]
    app.router.add_post("/join", names["join"])
    app.router.add_post("/rooms/{room}", names["post_message"])
    client = await aiohttp_client(app)
    alice = {"X-User": "alice"}
    assert await error(await client.post("/rooms/staff", headers=alice)) == (401, 40160)
    response = await client.post("/join", headers=alice)
    assert response.headers["Ably-Reauthorize"] == "1"
    assert (await client.post("/rooms/staff", headers=alice)).status == 200
