"""Server-sent events (HTML standard, 9.2): the response that lasts as long as a browser follows the live page."""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from storage.console.live import Browser, LiveFeed

_RETRY = b"retry: 1000\n\n"  # ms until a browser comes back


class EventStream(Response):
    """Follow the feed, beginning with what a browser lacks that saw `last_event_id`.

    A browser that is too slow is forgotten by the feed at once; its connection ends when its network lets it.
    """

    media_type = "text/event-stream"

    def __init__(self, feed: LiveFeed, last_event_id: str | None) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._feed = feed
        self._last_event_id = last_event_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI calls it
        """Send events until the browser goes or the console ends."""
        browser, missed = self._feed.join(self._last_event_id)
        leaving = asyncio.create_task(_end_with(browser, receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            events = _RETRY + missed
            while events:
                await send({"type": "http.response.body", "body": events, "more_body": True})
                events = await browser.next()
            await send({"type": "http.response.body", "body": b""})
        finally:
            leaving.cancel()
            self._feed.leave(browser)


async def _end_with(browser: Browser, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    browser.end()
