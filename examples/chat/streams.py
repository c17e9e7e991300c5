"""News for open pages, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from aiohttp import web

from .identity import signed_in

News = Mapping[str, object]
_PING_AFTER = 15.0


class Streams:
    """The event streams of the open pages."""

    def __init__(self) -> None:
        self._pages: dict[asyncio.Queue[News | None], str] = {}

    def tell(self, person: str, news: News) -> None:
        """Send `news` to the pages of `person`."""
        for queue, user in self._pages.items():
            if user == person:
                queue.put_nowait(news)

    def tell_all(self, news: News) -> None:
        """Send `news` to every page."""
        for queue in self._pages:
            queue.put_nowait(news)

    async def handler(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/news`: the event stream of one page, until the page closes it."""
        person = await signed_in(request)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        queue: asyncio.Queue[News | None] = asyncio.Queue()
        self._pages[queue] = person
        try:
            await response.prepare(request)
            await response.write(b": open\n\n")
            while True:
                try:
                    news = await asyncio.wait_for(queue.get(), _PING_AFTER)
                except asyncio.TimeoutError:
                    await response.write(b": still here\n\n")
                    continue
                if news is None:
                    break
                await response.write(f"data: {json.dumps(news)}\n\n".encode())
        except ConnectionError:
            pass  # the page is gone
        finally:
            del self._pages[queue]
        return response

    async def close(self, _app: web.Application) -> None:
        """End all streams, because the server waits for them when it stops."""
        for queue in self._pages:
            queue.put_nowait(None)
