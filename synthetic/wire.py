"""What a page sends, on its way out: marked, routed, and waited for when the page is left.

Belongs here: interception by Chromium's DevTools protocol. Opening pages is `synthetic.browser`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from synthetic.journey import Walk, first_line
from synthetic.marking import marked_headers
from synthetic.target import origin_of
from synthetic.visit import Trip

if TYPE_CHECKING:
    from playwright.async_api import CDPSession, Page

__all__ = ["Wire"]

log = logging.getLogger(__name__)

_SENDINGS = 5
_QUIET_SECONDS = 0.15
"""A page is gone when nothing has been in flight for so long."""
_LEFT_SECONDS = 2.0
"""Longest wait for a page to say that it is left; a page that hangs or may send nothing does not."""
_LEFT = "/__rolloutobs_left"
# On a busy machine handlers run long after the next page is there. A page's own come before this one, which
# is the last of the last event. Source: https://html.spec.whatwg.org/multipage/document-lifecycle.html#unloading-documents
_SAY_WHEN_LEFT = f"""() => {{
  addEventListener('visibilitychange', () => {{
    if (document.visibilityState === 'hidden') navigator.sendBeacon('{_LEFT}');
  }});
  return true;
}}"""


class Wire:
    """A page's own network interception, by Chromium's DevTools protocol (domain Fetch).

    Source: https://chromedevtools.github.io/devtools-protocol/tot/Fetch/
    """

    def __init__(self, session: CDPSession, trip: Trip, trace_id: str, journey: Walk) -> None:
        self._session = session
        self._origin = origin_of(trip.url)
        self._trace_id = trace_id
        self._marking = trip.marking
        self._journey = journey
        self._route = trip.route
        self._in_flight: set[str] = set()
        self._changed = asyncio.Event()
        self._left = asyncio.Event()
        session.on("Fetch.requestPaused", self._paused)

    async def mark_own_origin(self) -> None:
        """Pause requests to the target's origin, redirects to it included, and send them on with the
        marks."""
        # The default port is never written in a URL as Chromium gives it.
        origin = self._origin.removesuffix(":80") if self._origin.startswith("http:") else self._origin
        origin = origin.removesuffix(":443") if self._origin.startswith("https:") else origin
        await self._session.send("Fetch.enable", {"patterns": [{"urlPattern": f"{origin}/*"}]})

    async def watch_everything(self) -> None:
        """Pause each request and each answer from now on. Beacons of a page being left show up nowhere
        else."""
        stages = [{"urlPattern": "*", "requestStage": stage} for stage in ("Request", "Response")]
        # Answers to what went out before are not announced.
        self._in_flight.clear()
        await self._session.send("Fetch.enable", {"patterns": stages})

    async def leave(self, page: Page) -> None:
        """Go to an empty page, and return when the handlers of the one that is left have run and nothing has
        been in flight for a moment."""
        await self.watch_everything()
        # One that has not loaded anything yet would be waited for, and has nothing to say.
        tells = page.url.startswith("http") and await _within(page.evaluate(_SAY_WHEN_LEFT))
        await page.goto("about:blank")
        if tells:
            await _within(self._left.wait())
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout(_QUIET_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                if not self._in_flight:
                    return

    async def _paused(self, event: Mapping[str, Any]) -> None:
        number = str(event["requestId"])
        if event["request"]["url"].endswith(_LEFT):
            self._left.set()
            await self._send("Fetch.failRequest", {"requestId": number, "errorReason": "Aborted"}, event)
            return
        answered = "responseStatusCode" in event or "responseErrorReason" in event
        self._changed.set()
        going: dict[str, Any] = {"requestId": number}
        if answered:
            self._in_flight.discard(number)
        else:
            self._in_flight.add(number)
            going |= self._marks(event["request"])
        await self._send("Fetch.continueRequest", going, event)

    async def _send(self, method: str, told: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        from playwright.async_api import Error

        for _ in range(_SENDINGS):
            try:
                await self._session.send(method, dict(told))
            except Error as problem:
                # The page gave the request up while it was paused.
                self._in_flight.discard(str(event["requestId"]))
                log.debug("continuing %s: %s", event["request"]["url"], first_line(problem))
            except Exception as problem:
                # Playwright hands what a handler raised to whichever call comes next: nothing was
                # sent, and the page still waits.
                self._journey.stray = problem
                continue
            return

    def _marks(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if origin_of(request["url"]) != self._origin:
            return {}
        headers: dict[str, str] = dict(request["headers"])
        if self._marking is not None:
            headers = marked_headers(headers, self._trace_id, self._marking.baggage())
        given = dict(self._route.headers)
        if self._journey.authorization:
            given = {"authorization": self._journey.authorization} | given
        names = {name.lower() for name in given}
        headers = {name: value for name, value in headers.items() if name.lower() not in names} | given
        changed: dict[str, Any] = {
            "headers": [{"name": name, "value": value} for name, value in headers.items()]
        }
        url = self._route.url(request["url"])
        return changed if url == request["url"] else changed | {"url": url}


async def _within(waiting: Coroutine[Any, Any, Any]) -> Any:
    try:
        async with asyncio.timeout(_LEFT_SECONDS):
            return await waiting
    except TimeoutError:
        log.debug("a page does not say when it is left")
    return None
