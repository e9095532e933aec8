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
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

from rolloutobs.errors import ConfigurationError, MissingExtraError
from synthetic.chromium import find_chromium
from synthetic.journey import CheckFailedError, JourneyFunction, Walk, first_line
from synthetic.marking import Marking
from synthetic.result import Fault
from synthetic.settings import BrowserSettings
from synthetic.visit import (
    BrowserHungError,
    Lost,
    Trip,
    Visit,
    as_result,
    common_fault,
    is_of_a_handler,
    is_signed_out,
)
from synthetic.visitor import Visitor
from synthetic.vitals import over_budget

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, Playwright

__all__ = ["Visit", "available", "find_chromium", "open_browser", "unavailable_reason", "visit", "walk"]

log = logging.getLogger(__name__)

_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_OPEN_SECONDS = 30.0
"""A browser that opens no page in this time hangs, or its machine cannot run the check."""
_SIGN_OF_LIFE_SECONDS = 10.0
_UNREACHABLE = (
    "ERR_CONNECTION_", "ERR_EMPTY_RESPONSE", "ERR_ADDRESS_UNREACHABLE", "ERR_TIMED_OUT",
    "ERR_SOCKET_NOT_CONNECTED", )  # fmt: skip
"""Source: https://source.chromium.org/chromium/chromium/src/+/main:net/base/net_error_list.h"""
_UNREACHABLE_WITHOUT_PAGE = ("ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "socket hang up")
"""What Node.js, in which Playwright asks for something beside the page, says of the same."""
_HARNESS = (
    "ERR_NAME_", "ERR_INTERNET_DISCONNECTED", "ERR_NETWORK_CHANGED", "Target crashed", "Page crashed",
    "ENOTFOUND", "EAI_AGAIN", )  # fmt: skip


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
    async with AsyncExitStack() as stack:
        try:
            playwright = await stack.enter_async_context(async_playwright())
        except Exception as problem:
            # Playwright raises bare exceptions when its driver dies, of a Ctrl-C for instance.
            raise ConfigurationError(f"Playwright does not start: {first_line(problem)}") from problem
        try:
            browser = await _launch(playwright, given)
        except Error as problem:
            hint = "; in a container without user namespaces set ROLLOUTOBS_CHROMIUM_NO_SANDBOX=1"
            hint = "; --headed needs a display (DISPLAY)" if given.headed else hint
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
        headless=not settings.headed,
        slow_mo=settings.slow_seconds * 1000,
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
    return await walk(browser, Trip(url, journey, track, None, marking, timeout_seconds))


async def walk(browser: Browser, trip: Trip) -> Visit:
    """Walk a trip in a fresh context, then leave the page so that its last beacons are sent.

    Returns:
        What happened. A journey that fails is a result, never an exception.
    """
    journey = Walk(trip.url, trip.track, None, secrets=trip.secrets)
    if trip.session is not None:
        journey.authorize(trip.session.authorization)
    visitor = Visitor(trip, journey)
    try:
        problem, seconds = await _walk(browser, visitor, journey, trip)
        if not isinstance(problem, BrowserHungError | None) and not await _is_alive(browser):
            problem = BrowserHungError(f"the browser hangs: {first_line(problem, trip.secrets.clean)}")
        is_hung = isinstance(problem, BrowserHungError)
        if is_hung:
            visitor.give_up()
        else:
            await visitor.measure()
        failed = problem is not None or any(step.error for step in journey.steps)
        if not failed and (missed := over_budget(visitor.measuring.pages, trip.budgets)):
            problem, failed = CheckFailedError(missed), True
        if not is_hung:
            await _leave(visitor, photograph=failed and trip.marking is not None)
    finally:
        await visitor.close()
    problem = journey.stray or problem
    if is_of_a_handler(problem):
        # What it raised last, while the context was closed, would be raised in the next walk.
        await _is_alive(browser)
    fault, error = judge(problem, trip)
    if journey.page is None:
        # Nothing was asked of the target yet.
        fault = Fault.HARNESS
    clean = trip.secrets.clean
    astray = isinstance(problem, Lost)
    return Visit(
        steps=journey.steps,
        seconds=seconds,
        fault=Fault.NONE if astray else fault,
        error="" if astray else error,
        answers=tuple(replace(answer, url=clean(answer.url)) for answer in visitor.answers),
        trace_id=visitor.trace_id,
        console=tuple(map(clean, visitor.console)),
        page_error=clean(visitor.page_error),
        screenshot=visitor.screenshot,
        details="" if problem is None else clean(str(problem)),
        astray=str(problem) if astray else "",
        files=visitor.recording.files() if failed else {},
        pages=visitor.measuring.pages,
        session=visitor.session,
        signed_out=is_signed_out(problem, visitor.statuses),
    )


async def _leave(visitor: Visitor, *, photograph: bool) -> None:
    if photograph:
        await visitor.photograph()
    await visitor.identify_again()
    await visitor.leave()


async def _walk(
    browser: Browser, visitor: Visitor, journey: Walk, trip: Trip
) -> tuple[BaseException | None, float]:
    """Return what ended the journey early, and its seconds."""
    started = perf_counter()
    try:
        page = await _enter(browser, visitor)
        journey.page = page
        async with asyncio.timeout(trip.timeout_seconds):
            await visitor.find()
        started = perf_counter()
        async with asyncio.timeout(trip.timeout_seconds):
            await trip.walk(page, journey)
            await visitor.keep_session()
    except BaseException as caught:
        return as_result(caught), perf_counter() - started
    return None, perf_counter() - started


async def _enter(browser: Browser, visitor: Visitor) -> Page:
    try:
        async with asyncio.timeout(_OPEN_SECONDS):
            return await visitor.enter(browser)
    except TimeoutError:
        raise BrowserHungError(f"the browser opened no page in {_OPEN_SECONDS:g} s") from None


async def _is_alive(browser: Browser) -> bool:
    """Return whether a browser in which a journey failed still answers; one that is gone says so itself."""
    try:
        async with asyncio.timeout(_SIGN_OF_LIFE_SECONDS):
            session = await browser.new_browser_cdp_session()
            await session.send("Browser.getVersion")
            await session.detach()
    except TimeoutError:
        return False
    except Exception as problem:
        log.debug("a sign of life: %s", first_line(problem))
    return True


def judge(problem: BaseException | None, trip: Trip) -> tuple[Fault, str]:
    """Return whose fault an exception is, and one line for the reader."""
    from playwright.async_api import Error

    fault, text = common_fault(problem, trip.secrets, trip.timeout_seconds)
    if isinstance(problem, Error):
        if type(problem).__name__ == "TargetClosedError" or any(word in text for word in _HARNESS):
            return Fault.HARNESS, text
        if any(word in text for word in (*_UNREACHABLE, *_UNREACHABLE_WITHOUT_PAGE)):
            return Fault.UNREACHABLE, text
    return fault, text
