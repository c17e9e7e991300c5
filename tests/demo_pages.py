"""The demo with its emulator for Ably, and people who look at it in browsers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiohttp import ClientSession, CookieJar, web
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    async_playwright,
    expect,
)
from real_parts import CHROMIUM_ARGS, require_chromium

from aiohttp_ably.emulator import Emulator, ManualClock
from examples.chat import make_app

PATIENCE = 10_000


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser; launching it takes long, so one is enough for many."""
    path = require_chromium()
    expect.set_options(timeout=PATIENCE)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        try:
            yield browser
        finally:
            await browser.close()


class Demo:
    """The chat and its emulator, on ports of their own, and the people in it."""

    def __init__(self, browser: Browser, emulator: Emulator, url: str) -> None:
        self.browser = browser
        self.emulator = emulator
        self.url = url
        self.contexts: list[BrowserContext] = []
        self.errors: list[str] = []

    async def visitor(self, **options: Any) -> Person:
        """Somebody with a browser profile of their own, before the door."""
        context = await self.browser.new_context(reduced_motion="reduce", **options)
        context.set_default_timeout(PATIENCE)
        self.contexts.append(context)
        return await self.tab(context)

    async def tab(self, context: BrowserContext) -> Person:
        """A page in a profile; what goes wrong in it is noted."""
        page = await context.new_page()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        return Person(page, self)

    async def person(
        self, name: str, strategy: str, *, room: str = "lobby", fake_time: bool = False, **options: Any
    ) -> Person:
        """Somebody who has signed in and is in a room; with `fake_time` the test can turn the page's clock."""
        person = await self.visitor(**options)
        if fake_time:
            await person.page.clock.install()
        api = person.page.context.request
        await api.post(f"{self.url}/api/session", data={"name": name})
        await api.put(f"{self.url}/api/strategy", data={"strategy": strategy})
        await person.open(f"#{room}")
        await person.is_in(room)
        return person

    @asynccontextmanager
    async def signed_in(self, name: str, strategy: str = "server-stored") -> AsyncIterator[ClientSession]:
        """Somebody without a browser."""
        async with ClientSession(self.url, cookie_jar=CookieJar(unsafe=True)) as session:
            await session.post("/api/session", json={"name": name})
            await session.put("/api/strategy", json={"strategy": strategy})
            yield session

    async def close(self) -> None:
        """Close all windows."""
        for context in self.contexts:
            await context.close()

    def _note(self, message: ConsoleMessage) -> None:
        if message.type != "error":
            return
        # Chromium itself notes every answer of 400 and more; what is denied is answered with 401 or 403.
        expected = message.location["url"].endswith("/ably/auth") and re.search(
            "status of 40[13]", message.text
        )
        if not expected:
            self.errors.append(f"{message.text} ({message.location['url']})")


class Person:
    """What somebody does with a page and sees there."""

    def __init__(self, page: Page, demo: Demo) -> None:
        self.page = page
        self.demo = demo

    async def open(self, where: str = "") -> None:
        """Go to the chat."""
        await self.page.goto(f"{self.demo.url}/{where}")

    def room(self, name: str, state: str | None = None) -> Locator:
        """The section of a room."""
        return self.page.locator(f"section[data-room={name}]" + (f"[data-state={state}]" if state else ""))

    async def is_in(self, name: str, state: str = "in") -> None:
        """Wait until a room is shown in that state."""
        await expect(self.room(name, state)).to_be_visible()

    async def go(self, name: str, state: str = "in") -> None:
        """Choose a room, and wait for what comes of it."""
        await self.page.locator(f"nav [data-room={name}]").click()
        await self.is_in(name, state)

    async def say(self, text: str) -> None:
        """Write into the room that is shown."""
        await self.page.locator("section.room:visible input").fill(text)
        await self.page.locator("section.room:visible").get_by_role("button", name="Send").click()

    async def press(self, name: str) -> None:
        """Press a button."""
        await self.page.get_by_role("button", name=name, exact=True).click()

    async def choose(self, strategy: str) -> None:
        """Put another strategy in force, and wait until it is."""
        before = await self.connection()
        choice = self.page.locator(f"#strategies [value={strategy}]")
        if await choice.is_checked():
            return
        await choice.check(force=True)
        await expect(self.page.locator("#connection-id")).not_to_have_text(before)
        await expect(self.page.locator("#connection-state")).to_have_text("connected")

    async def sees(self, text: str) -> None:
        """Wait for a text in the room that is shown."""
        await expect(self.page.locator("section.room:visible")).to_contain_text(text)

    async def connection(self) -> str:
        """The connection id that the panel shows, once there is one."""
        shown = self.page.locator("#connection-id")
        await expect(shown).not_to_have_text("none yet")
        return await shown.inner_text()

    def may(self, *rooms: str) -> Any:
        """Wait until the token's capability names exactly the channels of these rooms."""
        channels = sorted(f"chat:{room}" for room in rooms)
        return expect(self.page.locator("#capability tbody th")).to_have_text(channels)

    async def timeline(self) -> list[str]:
        """The titles of the time line, oldest first."""
        entries = await self.page.locator("#timeline > li").evaluate_all(
            "all => all.map(one => one.dataset.what)"
        )
        return list(reversed(entries))


@asynccontextmanager
async def demo(browser: Browser, *, clock: ManualClock | None = None, **options: Any) -> AsyncIterator[Demo]:
    """The demo, running; `clock` is the time for the emulator and the auth server."""
    async with AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(Emulator(clock=clock))
        if clock is not None:
            options["clock"] = lambda: clock.now() / 1000
        app = make_app(emulator, **options)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        running = Demo(browser, emulator, f"http://127.0.0.1:{runner.addresses[0][1]}")
        stack.push_async_callback(running.close)
        yield running
