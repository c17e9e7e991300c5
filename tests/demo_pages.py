"""Run the demo with its emulator, and use its pages in a browser."""

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

TIMEOUT = 10_000  # milliseconds


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser. Launching it takes seconds, so tests share one."""
    path = require_chromium()
    expect.set_options(timeout=TIMEOUT)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        try:
            yield browser
        finally:
            await browser.close()


class Demo:
    """The running chat, its emulator, and the pages that are open."""

    def __init__(self, browser: Browser, emulator: Emulator, url: str) -> None:
        self.browser = browser
        self.emulator = emulator
        self.url = url
        self.contexts: list[BrowserContext] = []
        self.errors: list[str] = []

    async def visitor(self, **options: Any) -> Person:
        """A person with a browser profile of their own, not signed in."""
        context = await self.browser.new_context(reduced_motion="reduce", **options)
        context.set_default_timeout(TIMEOUT)
        self.contexts.append(context)
        return await self.tab(context)

    async def tab(self, context: BrowserContext) -> Person:
        """A page in a profile; its errors are collected in `errors`."""
        page = await context.new_page()
        page.on("console", self._collect_error)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        return Person(page, self)

    async def person(
        self, name: str, strategy: str, *, room: str = "lobby", fake_time: bool = False, **options: Any
    ) -> Person:
        """A person who is signed in and in a room. `fake_time`: the test can advance the page's clock."""
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
        """A person who is signed in, with an HTTP client in place of a browser."""
        async with ClientSession(self.url, cookie_jar=CookieJar(unsafe=True)) as session:
            await session.post("/api/session", json={"name": name})
            await session.put("/api/strategy", json={"strategy": strategy})
            yield session

    async def close(self) -> None:
        """Close all windows."""
        for context in self.contexts:
            await context.close()

    def _collect_error(self, message: ConsoleMessage) -> None:
        if message.type != "error":
            return
        # Chromium logs every response of 400 and above; a denied auth request gets 401 or 403.
        expected = message.location["url"].endswith("/ably/auth") and re.search(
            "status of 40[13]", message.text
        )
        if not expected:
            self.errors.append(f"{message.text} ({message.location['url']})")


class Person:
    """A page, and the actions of a person on it."""

    def __init__(self, page: Page, demo: Demo) -> None:
        self.page = page
        self.demo = demo

    async def open(self, where: str = "") -> None:
        """Open the chat."""
        await self.page.goto(f"{self.demo.url}/{where}")

    def room(self, name: str, state: str | None = None) -> Locator:
        """The section of a room, in any state or in `state`."""
        return self.page.locator(f"section[data-room={name}]" + (f"[data-state={state}]" if state else ""))

    async def is_in(self, name: str, state: str = "in") -> None:
        """Wait until the page shows a room in `state`."""
        await expect(self.room(name, state)).to_be_visible()

    async def go(self, name: str, state: str = "in") -> None:
        """Choose a room, and wait until it is in `state`."""
        await self.page.locator(f"nav [data-room={name}]").click()
        await self.is_in(name, state)

    async def say(self, text: str) -> None:
        """Send a message to the visible room."""
        await self.page.locator("section.room:visible input").fill(text)
        await self.page.locator("section.room:visible").get_by_role("button", name="Send").click()

    async def press(self, name: str) -> None:
        """Press a button."""
        await self.page.get_by_role("button", name=name, exact=True).click()

    async def choose(self, strategy: str) -> None:
        """Choose a strategy, and wait for the connection that uses it."""
        before = await self.connection()
        choice = self.page.locator(f"#strategies [value={strategy}]")
        if await choice.is_checked():
            return
        await choice.check(force=True)
        await expect(self.page.locator("#connection-id")).not_to_have_text(before)
        await expect(self.page.locator("#connection-state")).to_have_text("connected")

    async def sees(self, text: str) -> None:
        """Wait for a text in the visible room."""
        await expect(self.page.locator("section.room:visible")).to_contain_text(text)

    async def connection(self) -> str:
        """Wait for the connection id in the panel; returns it."""
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
            "items => items.map(item => item.dataset.what)"
        )
        return list(reversed(entries))


@asynccontextmanager
async def demo(browser: Browser, *, clock: ManualClock | None = None, **options: Any) -> AsyncIterator[Demo]:
    """The running demo. `clock`: the time of the emulator and the auth server."""
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
