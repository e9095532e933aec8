"""The only door to Playwright: finds Chromium, opens it, and walks a journey in a fresh context.

A visit is marked (a synthetic check) or not (the demo's users, who differ from people only in not being one).
Marks go on requests to the target's own origin only, at the network layer and after the CORS decision: a
header set by script would turn a simple cross-origin call into one with a preflight, and third parties have
no business with our trace. Playwright's own ``route`` is not used for it because it answers preflights itself
and switches the HTTP cache off, which would hide a canary's broken CORS and change what is measured.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from rolloutobs.errors import ConfigurationError, MissingExtraError
from synthetic.chromium import find_chromium
from synthetic.journey import JourneyFunction, StepResult, Walk, first_line
from synthetic.marking import Marking, marked_headers, new_trace_id
from synthetic.result import Fault
from synthetic.settings import BrowserSettings
from synthetic.target import Answer, origin_of

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, CDPSession, Page, Playwright, Response

__all__ = ["Visit", "available", "find_chromium", "open_browser", "unavailable_reason", "visit"]

log = logging.getLogger(__name__)

_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SYNTHETIC_FLAG = "window.__rolloutobs_synthetic = true;"
"""Tells our RUM script that its beacons are synthetic."""
_CHECKED_TYPES = frozenset({"document", "xhr", "fetch", "eventsource"})
"""Resource types whose answers prove identity: pages and API calls; assets may come from anywhere."""
_UNREACHABLE = (
    "ERR_CONNECTION_", "ERR_EMPTY_RESPONSE", "ERR_ADDRESS_UNREACHABLE", "ERR_TIMED_OUT",
    "ERR_SOCKET_NOT_CONNECTED", )  # fmt: skip
"""Source: https://source.chromium.org/chromium/chromium/src/+/main:net/base/net_error_list.h"""
_HARNESS = ("ERR_NAME_", "ERR_INTERNET_DISCONNECTED", "ERR_NETWORK_CHANGED", "Target crashed", "Page crashed")
_ACTION_SECONDS = 10.0
"""Longest click, wait or navigation; half of the journey's limit where that is less, so that the failing step
is named before the whole journey is cut off. A journey may set its own (``page.set_default_timeout``)."""
_MAX_CONSOLE_LINES = 500
_LEAVE_SECONDS = 5.0
"""Longest wait for the beacons of a page that is left."""
_SCREENSHOT_SECONDS = 2.0
"""A page that never loaded gives no picture, and Playwright would wait for it."""
_QUIET_SECONDS = 0.15
"""A page is gone when nothing has been in flight for so long; handlers of pagehide run before that begins."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What one walk through a browser left behind, before anything is concluded from it."""

    steps: tuple[StepResult, ...]
    seconds: float
    fault: Fault
    error: str
    """One line; empty when the journey was walked to its end."""
    answers: tuple[Answer, ...]
    trace_id: str
    """Empty for unmarked visits, which carry no trace of ours."""
    console: tuple[str, ...] = ()
    """What the page wrote to its console and the errors that it did not catch, oldest first, at most 500
    lines."""
    page_error: str = ""
    """The first error that the page did not catch; empty when there was none."""
    screenshot: bytes | None = field(default=None, repr=False)
    """PNG of a failed marked visit; ``None`` where none could be taken."""
    details: str = ""
    """The whole message of what went wrong."""


def unavailable_reason(environ: Mapping[str, str] | None = None) -> str:
    """Return why no browser can be opened here, as one line; empty when one can.

    Starts nothing but, where the system has no Chromium, Playwright itself to ask for its own. Not for use
    inside a running event loop.
    """
    try:
        settings = BrowserSettings.from_env(os.environ if environ is None else environ)
        _require_playwright()
        try:
            find_chromium(settings)
        except ConfigurationError:
            find_chromium(settings, asyncio.run(_playwrights_own()))
    except ConfigurationError as problem:
        return str(problem)
    return ""


def available(environ: Mapping[str, str] | None = None) -> bool:
    """Return whether a browser can be opened here; `unavailable_reason` says why not."""
    return not unavailable_reason(environ)


def _require_playwright() -> None:
    if importlib.util.find_spec("playwright") is None:
        raise MissingExtraError("synthetic", "a browser", "playwright")


async def _playwrights_own() -> str:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        return playwright.chromium.executable_path


@asynccontextmanager
async def open_browser(settings: BrowserSettings | None = None) -> AsyncIterator[Browser]:
    """Start Chromium; it is closed, with everything it started, when the block ends.

    Args:
        settings: ``None`` reads the environment.

    Raises:
        ConfigurationError: there is no Chromium, or it does not start.
    """
    _require_playwright()
    from playwright.async_api import Error, async_playwright

    given = BrowserSettings.from_env(os.environ) if settings is None else settings
    async with async_playwright() as playwright:
        try:
            browser = await _launch(playwright, given)
        except Error as problem:
            hint = "; in a container without user namespaces set ROLLOUTOBS_CHROMIUM_NO_SANDBOX=1"
            raise ConfigurationError(f"Chromium does not start: {first_line(problem)}{hint}") from problem
        try:
            yield browser
        finally:
            try:
                await browser.close()
            except Error as problem:
                # It was gone already: killed, or taken along by a Ctrl-C.
                log.debug("closing Chromium: %s", first_line(problem))


async def _launch(playwright: Playwright, settings: BrowserSettings) -> Browser:
    no_sandbox = os.geteuid() == 0 if settings.no_sandbox is None else settings.no_sandbox
    return await playwright.chromium.launch(
        executable_path=find_chromium(settings, playwright.chromium.executable_path),
        headless=True,
        chromium_sandbox=not no_sandbox,
        args=[*_FLAGS, *(["--no-sandbox"] if no_sandbox else [])],
        timeout=settings.launch_timeout_seconds * 1000,
        # The process that uses the browser decides when it ends.
        handle_sigint=False,
        handle_sigterm=False,
        handle_sighup=False,
    )


async def visit(
    browser: Browser,
    url: str,
    journey: JourneyFunction,
    *,
    track: str = "",
    marked: bool | Marking = False,
    timeout_seconds: float = 30.0,
) -> Visit:
    """Walk `journey` at `url` in a fresh context, then leave the page so that its last beacons are sent.

    Args:
        browser: as `open_browser` gives it; visits may run at the same time.
        url: base URL without trailing slash.
        journey: ``async def journey(page, shop)``.
        track: what the journey is told it walks on.
        marked: whether this is synthetic traffic (baggage, traceparent, the flag for the RUM script) or a
            user's; a `Marking` signs the baggage.
        timeout_seconds: limit of the whole journey.

    Returns:
        What happened. A journey that fails is a result, never an exception.
    """
    marking = Marking() if marked is True else marked or None
    visitor = _Visitor(url, marking, min(_ACTION_SECONDS, timeout_seconds / 2))
    started = perf_counter()
    problem: Exception | SystemExit | None = None
    walk = Walk(url, track, None)
    screenshot = None
    try:
        try:
            walk.page = await visitor.enter(browser)
            started = perf_counter()
            async with asyncio.timeout(timeout_seconds):
                await journey(walk.page, walk)
        except (Exception, SystemExit) as caught:
            # A journey that calls sys.exit() ends itself, not the check.
            problem = caught
        seconds = perf_counter() - started
        if marked and (problem is not None or any(step.error for step in walk.steps)):
            screenshot = await visitor.screenshot()
        await visitor.leave()
    finally:
        await visitor.close()
    fault, error = _judge(problem, timeout_seconds)
    if walk.page is None:
        # Nothing was asked of the target yet.
        fault, error = Fault.HARNESS, "" if problem is None else first_line(problem)
    return Visit(
        steps=walk.steps,
        seconds=seconds,
        fault=fault,
        error=error,
        answers=tuple(visitor.answers),
        trace_id=visitor.trace_id,
        console=tuple(visitor.console),
        page_error=visitor.page_error,
        screenshot=screenshot,
        details="" if problem is None else str(problem),
    )


def _judge(problem: Exception | SystemExit | None, timeout_seconds: float) -> tuple[Fault, str]:
    """Return whose fault an exception is, and one line for the reader."""
    from playwright.async_api import Error

    if problem is None:
        return Fault.NONE, ""
    text = first_line(problem)
    if isinstance(problem, TimeoutError) and not isinstance(problem, Error):
        return Fault.PRODUCT, f"the journey took longer than {timeout_seconds:g} s"
    if isinstance(problem, Error):
        if type(problem).__name__ == "TargetClosedError" or any(word in text for word in _HARNESS):
            return Fault.HARNESS, text
        if any(word in text for word in _UNREACHABLE):
            return Fault.UNREACHABLE, text
    return Fault.PRODUCT, text


class _Visitor:
    """One context with its pages: marks what goes out, notes what comes back, waits for the last beacons."""

    def __init__(self, url: str, marking: Marking | None, action_seconds: float) -> None:
        self._action_seconds = action_seconds
        self._marking = marking
        self.trace_id = "" if marking is None else new_trace_id()
        """Empty: unmarked."""
        self.answers: list[Answer] = []
        self.console: list[str] = []
        self.page_error = ""
        self._origin = origin_of(url)
        self._context: BrowserContext | None = None
        self._wires: dict[Page, _Wire] = {}

    async def enter(self, browser: Browser) -> Page:
        """Open a fresh context with one page."""
        # A service worker's requests pass by the page's marks and its answers by the proof.
        workers: Any = "block" if self.trace_id else "allow"
        context = self._context = await browser.new_context(service_workers=workers)
        context.set_default_timeout(self._action_seconds * 1000)
        if self.trace_id:
            await context.add_init_script(_SYNTHETIC_FLAG)
        context.on("response", self._note_answer)
        context.on("console", lambda message: self._note(f"{message.type}: {message.text}"))
        context.on("weberror", lambda error: self._note_page_error(str(error.error)))
        page = await context.new_page()
        await self._attach(page)
        context.on("page", self._attach)
        return page

    async def screenshot(self) -> bytes | None:
        """Return a PNG of the first page, ``None`` if the browser cannot give one any more."""
        from playwright.async_api import Error

        try:
            return await next(iter(self._wires)).screenshot(timeout=_SCREENSHOT_SECONDS * 1000)
        except (Error, StopIteration) as problem:
            self._note(f"no screenshot: {first_line(problem)}")
            return None

    async def leave(self) -> None:
        """Go from every page to an empty one and wait, within limits, until the beacons of that are
        answered."""
        from playwright.async_api import Error

        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                for page, wire in list(self._wires.items()):
                    await wire.watch_everything()
                    await page.goto("about:blank")
                    await wire.wait_until_quiet()
        except (Error, TimeoutError) as problem:
            log.debug("leaving the page: %s", first_line(problem))

    async def close(self) -> None:
        """Close the context; one that is gone already is closed."""
        from playwright.async_api import Error

        if self._context is None:
            return
        try:
            await self._context.close()
        except Error as problem:
            log.debug("closing the context: %s", first_line(problem))

    async def _attach(self, page: Page) -> None:
        from playwright.async_api import Error

        if page in self._wires:
            return
        try:
            wire = self._wires[page] = _Wire(
                await page.context.new_cdp_session(page), self._origin, self.trace_id, self._marking
            )
            if self.trace_id:
                await wire.mark_own_origin()
        except Error as problem:
            self._note(f"a page was gone before it could be marked: {first_line(problem)}")

    def _note_answer(self, response: Response) -> None:
        request = response.request
        if request.resource_type in _CHECKED_TYPES and origin_of(response.url) == self._origin:
            said = response.headers.get("server-timing", "")
            self.answers.append(Answer(response.url, response.status, said))

    def _note_page_error(self, text: str) -> None:
        line = f"uncaught: {text.strip().partition(chr(10))[0]}"
        self.page_error = self.page_error or line
        self._note(line)

    def _note(self, line: str) -> None:
        if len(self.console) < _MAX_CONSOLE_LINES:
            self.console.append(line)


class _Wire:
    """A page's own network interception, by Chromium's DevTools protocol (domain Fetch).

    Source: https://chromedevtools.github.io/devtools-protocol/tot/Fetch/
    """

    def __init__(self, session: CDPSession, origin: str, trace_id: str, marking: Marking | None) -> None:
        self._session = session
        self._origin = origin
        self._trace_id = trace_id
        self._marking = marking
        self._in_flight: set[str] = set()
        self._changed = asyncio.Event()
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

    async def wait_until_quiet(self) -> None:
        """Return when nothing has been in flight for a moment."""
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout(_QUIET_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                if not self._in_flight:
                    return

    async def _paused(self, event: Mapping[str, Any]) -> None:
        from playwright.async_api import Error

        number = str(event["requestId"])
        answered = "responseStatusCode" in event or "responseErrorReason" in event
        self._changed.set()
        going: dict[str, Any] = {"requestId": number}
        if answered:
            self._in_flight.discard(number)
        else:
            self._in_flight.add(number)
            going |= self._marks(event["request"])
        try:
            await self._session.send("Fetch.continueRequest", going)
        except Error as problem:
            # The page gave the request up while it was paused.
            self._in_flight.discard(number)
            log.debug("continuing %s: %s", event["request"]["url"], first_line(problem))

    def _marks(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self._marking is None or origin_of(request["url"]) != self._origin:
            return {}
        headers = marked_headers(request["headers"], self._trace_id, self._marking.baggage())
        return {"headers": [{"name": name, "value": value} for name, value in headers.items()]}
