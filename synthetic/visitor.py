"""One visitor of a target: a fresh browser context with its pages, told what to send, and what came back.

Belongs here: the life of one context. Playwright is imported inside functions only,
once `synthetic.browser` has found it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from synthetic.journey import Walk, first_line
from synthetic.marking import marked_headers, new_trace_id
from synthetic.measuring import Measuring
from synthetic.recording import HIDE, Recording
from synthetic.redaction import HIDDEN
from synthetic.routing import Route
from synthetic.session import Session
from synthetic.target import Answer, origin_of
from synthetic.visit import Trip, find_track, is_of_a_handler
from synthetic.wire import Wire

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page, Response

__all__ = ["Visitor"]

log = logging.getLogger(__name__)

_SYNTHETIC_FLAG = "window.__rolloutobs_synthetic = true;"
"""Tells our RUM script that its beacons are synthetic."""
CHECKED_TYPES = frozenset({"document", "xhr", "fetch", "eventsource"})
"""Resource types whose answers prove identity: pages and API calls; assets may come from anywhere."""
_ACTION_SECONDS = 10.0
"""Longest click, wait or navigation; half of the journey's limit where that is less, so that the failing step
is named before the whole journey is cut off. A journey may set its own (``page.set_default_timeout``)."""
_MAX_CONSOLE_LINES = 500
_CLOSE_SECONDS = 10.0
"""Longest wait for a trace to be written, and for a context to be closed."""
_LEAVE_SECONDS = 5.0
"""Longest wait for the beacons of a page that is left."""
_SCREENSHOT_SECONDS = 2.0
"""A page that never loaded gives no picture, and Playwright would wait for it."""


class Visitor:
    """One context with its pages: marks what goes out, notes what comes back, waits for the last beacons."""

    def __init__(self, trip: Trip, journey: Walk) -> None:
        self._trip = trip
        self._journey = journey
        # Half of the journey's limit where that is less, so that the failing step is named before the whole
        # journey is cut off.
        self._action_seconds = min(_ACTION_SECONDS, trip.timeout_seconds / 2)
        self.trace_id = "" if trip.marking is None else new_trace_id()
        """Empty: unmarked."""
        self.answers: list[Answer] = []
        self.statuses: set[int] = set()
        """Of the target's documents and API calls."""
        self.console: list[str] = []
        self.page_error = ""
        self.session: Session | None = None
        self.screenshot: bytes | None = None
        self.recording = Recording(trip.record, trip.secrets)
        self.measuring = Measuring(trip.url, lambda: journey.step_under_way, trip.secrets.clean)
        self._origin = origin_of(trip.url)
        self._context: BrowserContext | None = None
        self._close_seconds = _CLOSE_SECONDS
        self._wires: dict[Page, Wire] = {}

    async def enter(self, browser: Browser) -> Page:
        """Open a fresh context with one page."""
        # A service worker's requests pass by the page's marks and its answers by the proof.
        workers: Any = "block" if self._trip.marking else "allow"
        given: Any = None if self._trip.session is None else self._trip.session.state
        context = await browser.new_context(
            base_url=self._trip.url, service_workers=workers, storage_state=given, **self.recording.options()
        )
        self._context = context
        context.set_default_timeout(self._action_seconds * 1000)
        context.on("response", self._note_answer)
        context.on("console", lambda message: self._note(f"{message.type}: {message.text}"))
        context.on("weberror", lambda error: self._note_page_error(str(error.error)))
        # Scripts run in each document that is opened from now on, in pages that are there already, too.
        page, _ = await asyncio.gather(context.new_page(), self._prepare(context))
        await self._attach(page)
        context.on("page", self._attach)
        return page

    async def _prepare(self, context: BrowserContext) -> None:
        if self._trip.marking:
            await asyncio.gather(context.add_init_script(_SYNTHETIC_FLAG), self.measuring.start(context))
        await self._take_cookies()
        await self.recording.start(context)

    async def find(self) -> None:
        """Ask until the wanted track answers, each time as a new visitor, and keep its cookies; without
        attempts ask only what has to be asked for.

        Raises:
            Lost: it did not.
            playwright.async_api.Error: nothing answered at all.
        """
        context = self._open_context()

        async def renew() -> None:
            await context.clear_cookies()
            if self._trip.session is not None:
                kept: Any = self._trip.session.cookies
                await context.add_cookies(kept)
            await self._take_cookies()

        answer = await find_track(self._trip, renew, self._ask)
        self.answers += [] if answer is None else [answer]

    async def identify_again(self) -> None:
        """Ask once more after a journey, for the witnesses that have to be asked."""
        if self._context is None or not self._trip.witness.path:
            return
        try:
            self.answers.append(await self._ask(self._trip.witness.path))
        except Exception as problem:
            # Who does not answer now says nothing; what it said before still counts. Here and below
            # Playwright also hands on what a handler of the journey raised.
            self._put_aside("asking who answers", problem)

    async def keep_session(self) -> None:
        """Keep what a login leaves, if it is wanted; its values are kept out of all else."""
        if self._trip.wants_session:
            state: Any = await self._open_context().storage_state()
            self.session = Session(self._journey.authorization, state)
            self.session.hide(self._trip.secrets.hide)

    async def measure(self) -> None:
        """Let the pages tell the last of their web vitals."""
        if self._trip.marking:
            try:
                await self.measuring.finish(self._context)
            except Exception as problem:
                self._put_aside("measuring", problem)

    async def photograph(self) -> None:
        """Take a PNG of the first page, if the browser can still give one; secrets on it are replaced
        first."""
        try:
            page = next(iter(self._wires))
            async with asyncio.timeout(_SCREENSHOT_SECONDS):
                if self._trip.secrets.used:
                    for frame in page.frames:
                        await frame.evaluate(HIDE, [self._trip.secrets.values, HIDDEN])
            async with asyncio.timeout(2 * _SCREENSHOT_SECONDS):
                self.screenshot = await page.screenshot(timeout=_SCREENSHOT_SECONDS * 1000)
        except Exception as problem:
            self._note(f"no screenshot: {first_line(problem, self._trip.secrets.clean)}")
            self._put_aside("taking a screenshot", problem)
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.recording.keep(self._context)
        except Exception as problem:
            self._put_aside("stopping the trace", problem)

    async def leave(self) -> None:
        """Go from every page to an empty one and wait, within limits, until the beacons of that are
        answered."""
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                for page, wire in list(self._wires.items()):
                    await wire.leave(page)
        except Exception as problem:
            self._put_aside("leaving the page", problem)

    def give_up(self) -> None:
        """Wait for the browser no more: it hangs."""
        self._close_seconds = 0.0

    async def close(self) -> None:
        """Close the context; one that is gone already is closed."""
        if self._context is None:
            self.recording.drop()
            return
        try:
            await self._close(self._context)
        finally:
            await asyncio.to_thread(self.recording.finish)

    def _put_aside(self, what: str, problem: Exception) -> None:
        """Go on after something that failed once the journey had ended."""
        log.debug("%s: %s", what, first_line(problem))
        if is_of_a_handler(problem):
            self._journey.stray = problem

    async def _close(self, context: BrowserContext) -> None:
        for _ in range(3):
            try:
                async with asyncio.timeout(self._close_seconds):
                    await context.close()
            except TimeoutError as problem:
                # The browser hangs: it is ended as a whole.
                self._put_aside("closing the context", problem)
                return
            except Exception as problem:
                self._put_aside("closing the context", problem)
            else:
                return

    def _open_context(self) -> BrowserContext:
        if self._context is None:
            raise RuntimeError("the visitor has not entered")
        return self._context

    async def _take_cookies(self) -> None:
        cookies: list[Any] = [
            {"name": name, "value": value, "url": self._trip.url} for name, value in self._trip.route.cookies
        ]
        if cookies:
            await self._open_context().add_cookies(cookies)

    async def _ask(self, path: str) -> Answer:
        """Ask for a page beside the journey, with its cookies, marks and route."""
        trip = self._trip
        headers = {} if trip.marking is None else marked_headers({}, self.trace_id, trip.marking.baggage())
        # Balancers that choose by connection are given a new one.
        if self._journey.authorization:
            headers["authorization"] = self._journey.authorization
        headers |= {"connection": "close"} | dict(trip.route.headers)
        url = trip.route.url(trip.url + path)
        answer = await self._open_context().request.get(
            url, headers=headers, timeout=self._action_seconds * 1000, max_redirects=0
        )
        said = trip.witness.of_headers(answer.headers)
        if trip.witness.path and answer.ok:
            said = trip.witness.of_body(await answer.text())
        return Answer(url, answer.status, said)

    async def _attach(self, page: Page) -> None:
        from playwright.async_api import Error

        if page in self._wires:
            return
        try:
            session = await page.context.new_cdp_session(page)
            wire = self._wires[page] = Wire(session, self._trip, self.trace_id, self._journey)
            if self._trip.marking or self._trip.route != Route():
                await wire.mark_own_origin()
        except Error as problem:
            told = first_line(problem, self._trip.secrets.clean)
            self._note(f"a page was gone before it could be marked: {told}")

    def _note_answer(self, response: Response) -> None:
        request = response.request
        if request.resource_type not in CHECKED_TYPES or origin_of(response.url) != self._origin:
            return
        self.statuses.add(response.status)
        if not self._trip.witness.path:
            said = self._trip.witness.of_headers(response.headers)
            self.answers.append(Answer(response.url, response.status, said))

    def _note_page_error(self, text: str) -> None:
        line = f"uncaught: {text.strip().partition(chr(10))[0]}"
        self.page_error = self.page_error or line
        self._note(line)

    def _note(self, line: str) -> None:
        if len(self.console) < _MAX_CONSOLE_LINES:
            self.console.append(line)
