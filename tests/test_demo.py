"""The demo with each strategy, in Chromium, against the emulator."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from demo_pages import Demo, chromium, demo
from playwright.async_api import Browser, expect
from real_parts import require_ably_js
from yarl import URL

from aiohttp_ably.emulator import ManualClock

pytestmark = pytest.mark.asyncio(loop_scope="module")

STRATEGIES = ["server-determined", "server-stored", "client-stored", "client-signed"]
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    require_ably_js()
    async with chromium() as launched:
        yield launched


@pytest_asyncio.fixture(loop_scope="module")
async def chat(browser: Browser) -> AsyncIterator[Demo]:
    async with demo(browser) as running:
        yield running
        assert running.errors == []


def rooms_at_start(strategy: str, name: str) -> list[str]:
    """The rooms in the first token, before the client requests any."""
    if strategy != "server-determined":
        return ["lobby"]
    return ["garden", "lobby", *(["workshop"] if name == "Ben" else [])]


@every_strategy
async def test_two_people_talk(chat: Demo, strategy: str) -> None:
    ada = await chat.person("Ada", strategy, room="garden")
    ben = await chat.person("Ben", strategy)
    before = await ben.connection()
    await ben.go("garden")
    await ada.sees("Ben came in")
    await ada.say("Good morning")
    await ben.sees("Good morning")
    await ben.say("And to you")
    await ada.sees("And to you")
    await expect(ada.room("garden").locator(".people li")).to_have_text(["AAda (you)", "BBen"])
    assert await ben.connection() == before
    await ben.press("Leave")
    await ada.sees("Ben left")


@every_strategy
async def test_a_room_is_granted_and_withdrawn_on_one_connection(chat: Demo, strategy: str) -> None:
    ada = await chat.person("Ada", strategy, room="studio")
    ben = await chat.person("Ben", strategy)
    connection = await ben.connection()

    # Not a member: the room shows the error, and the connection and the other rooms go on.
    await ben.go("studio", "refused")
    await ben.sees("The Studio is for its members")
    await ben.sees("40160: denied")
    await expect(ben.page.locator("#connection-state")).to_contain_text("connected")
    await ben.go("lobby")
    await ben.say("Still here")
    await ben.sees("Still here")

    # Admitted: the page joins the room without a click.
    await ben.go("studio", "refused")
    await ben.press("Ask Ada to let you in")
    await ada.press("Admit Ben")
    await ben.is_in("studio")
    await ben.say("Thank you")
    await ada.sees("Thank you")
    assert (await ben.timeline())[-2:] == ["Reauthorized", "Attached"]

    # Removed: the room shows the error of its channel.
    await ada.press("Remove Ben")
    await ben.is_in("studio", "removed")
    await ben.sees("Ada removed you from the Studio")
    await ben.sees("40160: channel 'chat:studio' is not permitted")
    await ben.may(*rooms_at_start(strategy, "Ben"))
    await ada.sees("Ben left")
    assert await ben.connection() == connection

    # After a reload the room is still withdrawn.
    await ben.page.reload()
    await ben.is_in("studio", "refused")
    capability = chat.emulator.connections[await ben.connection()].capability
    assert not capability.allows("subscribe", "chat:studio")


@every_strategy
async def test_signing_out_stops_the_client(chat: Demo, strategy: str) -> None:
    ben = await chat.person("Ben", strategy, fake_time=True)
    connection = await ben.connection()
    await ben.press("Sign out")
    await expect(ben.page.get_by_label("Your name")).to_be_focused()
    assert connection not in chat.emulator.connections
    urls: list[str] = []
    ben.page.on("request", lambda request: urls.append(request.url))
    ben.page.on("websocket", lambda socket: urls.append(socket.url))
    await ben.page.clock.fast_forward("01:00:00")
    session = await ben.page.evaluate("fetch('/api/session').then((answer) => answer.json())")
    assert session["user"] is None
    # The browser may fetch the page's icon at any time.
    assert [url for url in urls if not url.startswith(f"{chat.url}/static/")] == [f"{chat.url}/api/session"]


@every_strategy
async def test_the_next_user_of_a_browser_has_none_of_the_previous_capability(
    chat: Demo, strategy: str
) -> None:
    person = await chat.person("Ada", strategy, room="studio")
    await person.press("Sign out")
    await person.press("Cleo owns nothing")
    await person.is_in("lobby")
    await person.choose(strategy)
    await person.is_in("lobby")
    await person.may(*rooms_at_start(strategy, "Cleo"))
    await expect(person.page.locator("#client-id")).to_have_text("Cleo")
    await person.go("studio", "refused")


@every_strategy
async def test_a_token_is_renewed_on_the_same_connection(browser: Browser, strategy: str) -> None:
    clock = ManualClock()
    async with demo(browser, clock=clock) as running:
        ben = await running.person("Ben", strategy, room="garden")
        before = await ben.connection()
        connection = running.emulator.connections[before]
        first = connection.access.expires
        assert first is not None
        await clock.advance((first - clock.now()) / 1000 - 20)
        renewed = ben.page.locator("#timeline > li").first
        await expect(renewed).to_have_attribute("data-what", "Reauthorized")
        await clock.advance(60)
        assert connection.is_connected
        assert connection.access.expires is not None
        assert connection.access.expires > clock.now() > first
        await ben.say("Nobody noticed")
        await ben.sees("Nobody noticed")
        assert await ben.connection() == before
        assert "Disconnected" not in await ben.timeline()
        assert running.errors == []


async def test_the_time_line_shows_the_recovery_from_40160(chat: Demo) -> None:
    ben = await chat.person("Ben", "server-stored")
    before = len(await ben.timeline())
    await ben.go("garden")
    assert (await ben.timeline())[before:] == ["Refused by Ably", "Auth request", "Reauthorized", "Attached"]
    facts = ben.page.locator("#timeline > li", has_text="Auth request").first.locator("dd")
    await expect(facts).to_have_text(
        ["chat:garden (all)", "chat:garden (all)", "chat:garden (presence, publish, subscribe)"]
    )


async def test_leaving_a_room_releases_it(chat: Demo) -> None:
    ben = await chat.person("Ben", "client-signed", room="garden")
    await ben.may("garden", "lobby")
    await ben.press("Leave")
    await ben.may("lobby")
    await ben.press("Join the Garden")
    await ben.is_in("garden")
    await ben.may("garden", "lobby")


async def test_the_chat_is_usable_by_keyboard(chat: Demo) -> None:
    ben = await chat.visitor()
    await ben.open()
    keyboard = ben.page.keyboard
    await expect(ben.page.get_by_label("Your name")).to_be_focused()
    await keyboard.type("Ben")
    await keyboard.press("Enter")
    await expect(ben.page.get_by_label("Say something in the Lobby")).to_be_focused()
    await keyboard.type("Typed")
    await keyboard.press("Enter")
    await ben.sees("Typed")
    await ben.page.locator("nav [data-room=studio]").focus()
    await keyboard.press("Enter")
    await ben.is_in("studio", "refused")
    await expect(ben.room("studio").locator(".outside")).to_be_focused()
    await ben.page.get_by_role("link", name="Skip to the conversation").focus()
    await keyboard.press("Enter")
    await keyboard.press("Tab")
    await expect(ben.page.get_by_role("button", name="Ask Ada to let you in")).to_be_focused()
    await keyboard.press("Enter")
    await ben.sees("Ada has been asked")
    await expect(ben.page.locator("#status")).to_have_text("Ada has been asked.")
    await ben.page.locator("#strategies :checked").focus()
    await keyboard.press("ArrowRight")
    await expect(ben.page.locator("#strategies [value=client-stored]")).to_be_focused()
    await expect(ben.page.locator("#connection-state")).to_have_text("connected")
    await expect(ben.page.locator("#strategies [value=client-stored]")).to_be_checked()


async def test_on_a_phone_the_panel_is_a_sheet(chat: Demo) -> None:
    ben = await chat.person("Ben", "server-stored", viewport={"width": 390, "height": 844})
    panel, toggle = (
        ben.page.locator("#panel"),
        ben.page.get_by_role("button", name="connected · Server-stored"),
    )
    await expect(panel).to_be_hidden()
    await toggle.click()
    await expect(panel).to_be_focused()
    await expect(toggle).to_have_attribute("aria-expanded", "true")
    await ben.page.keyboard.press("Escape")
    await expect(panel).to_be_hidden()
    await expect(toggle).to_be_focused()
    assert await ben.page.evaluate("document.documentElement.scrollWidth") == 390


async def test_tabs_of_one_browser_sign_out_together(chat: Demo) -> None:
    ben = await chat.person("Ben", "server-stored")
    other = await chat.tab(ben.page.context)
    await other.open()
    await other.is_in("lobby")
    await ben.press("Sign out")
    await expect(other.page.get_by_label("Your name")).to_be_focused()


async def test_an_old_grant_does_not_restore_a_withdrawn_room(chat: Demo) -> None:
    async with chat.signed_in("Ada") as ada, chat.signed_in("Ben", "client-signed") as ben:
        requested = {"capability": {"chat:studio": ["*"]}}
        await ada.post("/api/rooms/studio/members", json={"name": "Ben"})
        async with ben.post("/ably/auth", json=requested) as response:
            assert "chat:studio" in json.loads((await response.json())["capability"])
            grant = response.cookies["ably_grant"].value
        await ada.delete("/api/rooms/studio/members/Ben")
        ben.cookie_jar.update_cookies({"ably_grant": grant}, URL(chat.url))
        async with ben.post("/ably/auth", json={}) as response:
            assert list(json.loads((await response.json())["capability"])) == ["chat:lobby"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/rooms/studio/members", {"name": "Ben"}, 403),
        ("DELETE", "/api/rooms/studio/members/Ada", None, 403),
        ("POST", "/api/rooms/cellar/knocks", {}, 404),
        ("POST", "/api/session", {"name": "*"}, 400),
        ("POST", "/api/session", ["Ben"], 400),
        ("PUT", "/api/strategy", {"strategy": "hope"}, 400),
    ],
    ids=["admits", "removes", "unknown room", "invalid name", "not an object", "unknown strategy"],
)
async def test_the_api_rejects_a_request(
    chat: Demo, method: str, path: str, body: object, status: int
) -> None:
    async with chat.signed_in("Ben") as ben, ben.request(method, path, json=body) as response:
        assert response.status == status
        assert await response.text()


async def test_a_session_that_ended_elsewhere_ends_the_client(chat: Demo) -> None:
    ben = await chat.person("Ben", "server-stored")
    await ben.page.context.request.delete(f"{chat.url}/api/session")
    await ben.page.locator("nav [data-room=garden]").click()
    await expect(ben.page.get_by_role("alert").first).to_have_text("Your session has ended. Sign in again.")
    await expect(ben.page.locator("#connection-state")).to_have_text("closed")


async def test_a_missing_sdk_is_reported(browser: Browser) -> None:
    async with demo(browser, sdk="/static/nowhere.js") as running:
        visitor = await running.visitor()
        await visitor.open()
        await expect(visitor.page.get_by_role("alert").first).to_contain_text("ably-js is missing")
        [error] = running.errors  # Chromium logs a failed load
        assert "nowhere.js" in error


async def test_the_command_serves_the_chat_and_ends_when_interrupted() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples", "--port", "0", "--ttl", "20"),
        cwd=Path(__file__).parents[1],
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    first = (await process.stdout.readline()).decode()
    async with aiohttp.ClientSession() as session, session.get(first.split()[-1]) as response:
        assert "<title>Rooms</title>" in await response.text()
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0
