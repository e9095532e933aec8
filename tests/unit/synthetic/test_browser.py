"""Real Chromium: what is marked, what is seen, and what a page sends when it is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from time import time

import pytest

from rolloutobs.telemetry.signing import Claim, Doubt, Verifier
from synthetic.browser import available, open_browser, unavailable_reason, visit
from synthetic.claims import Claim as Said
from synthetic.marking import Marking
from synthetic.result import Fault

SECRET = "0123456789abcdef"


async def look_around(page, shop):
    async with shop.step("open"):
        await shop.open("/")
    async with shop.step("look"):
        await page.get_by_text("Kettle").wait_for()
        await page.wait_for_load_state("networkidle")


def test_a_configured_chromium_that_is_not_there(tmp_path):
    environ = {"ROLLOUTOBS_CHROMIUM": str(tmp_path / "none")}
    assert not available(environ)
    assert "apt install chromium" in unavailable_reason(environ)


def test_without_playwright_the_pip_line_is_printed(monkeypatch):
    monkeypatch.setitem(sys.modules, "playwright", None)
    assert "pip install 'rolloutobs[synthetic]'" in unavailable_reason()


@pytest.mark.browser
def test_available_here():
    assert unavailable_reason() == ""


@pytest.mark.browser
async def test_only_the_targets_own_origin_sees_marks(serve, shop_type):
    other = serve(shop_type())
    shop = serve(shop_type(others=(other.url,)))
    async with open_browser() as browser:
        seen = await visit(browser, shop.url, look_around, marked=True)
        again = await visit(browser, shop.url, look_around, marked=True)
    assert (seen.fault, seen.error) == (Fault.NONE, "")
    assert [step.name for step in seen.steps] == ["open", "look"]

    own = {line: headers for line, headers, _ in shop.requests}
    assert {"GET /", "GET /api/products", "GET /away", "POST /beacon?hidden"} <= set(own)
    for headers in own.values():
        assert headers["baggage"] == "synthetic=test"
        assert headers["traceparent"].split("-")[1] in (seen.trace_id, again.trace_id)
        assert headers["traceparent"].endswith("-01")
    parents = [headers["traceparent"] for headers in (shop.asked("GET /") + shop.asked("GET /api/products"))]
    assert len(set(parents)) == 4
    assert {parent.split("-")[1] for parent in parents} == {seen.trace_id, again.trace_id}

    # Calls to another origin, a redirect to it among them, stay as the page made them: no mark, and the
    # browser's own preflight only where the page itself asked for one (its answer is the server's, not ours).
    theirs = [line for line, _, _ in other.requests]
    assert set(theirs) == {
        "GET /api/products",
        "GET /api/products?redirected",
        "POST /beacon?preflighted",
        "POST /beacon?hidden",
    }
    assert not [line for line, headers, _ in other.requests if {"baggage", "traceparent"} & set(headers)]
    assert b'{"synthetic":true}' in [body for line, _, body in shop.requests if line == "POST /beacon?hidden"]

    paths = {(answer.url.removeprefix(shop.url), answer.status) for answer in seen.answers}
    assert paths == {("/", 200), ("/api/products", 200), ("/away", 307)}
    assert {answer.claim for answer in seen.answers} == {Said("1.1.0", "stable")}


@pytest.mark.browser
async def test_users_are_not_marked_and_their_last_beacon_arrives(serve, shop_type):
    shop = serve(shop_type())
    async with open_browser() as browser:
        seen = await asyncio.gather(*(visit(browser, shop.url, look_around) for _ in range(3)))
    assert [each.error for each in seen] == ["", "", ""]
    assert not [line for line, headers, _ in shop.requests if {"baggage", "traceparent"} & set(headers)]
    bodies = [body for line, _, body in shop.requests if line == "POST /beacon?hidden"]
    assert bodies == [b'{"synthetic":false}'] * 3
    assert {each.trace_id for each in seen} == {""}


@pytest.mark.browser
async def test_the_last_beacons_are_waited_for_however_late_they_come(serve, shop_type, monkeypatch):
    """A busy machine runs handlers long after the next page is there: a moment of silence proves nothing."""
    monkeypatch.setattr("synthetic.wire._QUIET_SECONDS", 0.0)
    shop = serve(shop_type())

    async def walk(page, _):
        await page.goto(shop.url)

    async with open_browser() as browser:
        for _ in range(3):
            await asyncio.gather(*(visit(browser, shop.url, walk, marked=marked) for marked in (True, False)))
    assert len(shop.asked("POST /beacon?hidden")) == 6
    assert not [line for line, _, _ in shop.requests if "rolloutobs" in line]


@pytest.mark.browser
async def test_what_goes_wrong_is_a_result(serve, shop_type, refused):
    shop = serve(shop_type(checkout_status=500))

    async def buy(page, shop):
        page.set_default_timeout(1500)
        await look_around(page, shop)
        async with shop.step("check out"):
            await page.get_by_role("button", name="Check out").click()
            await page.get_by_text("Thank you.").wait_for()

    async def forever(page, shop):
        async with shop.step("wait"):
            await asyncio.Event().wait()

    async def nowhere(page, shop):
        await page.goto("http://no-such-host.invalid/")

    async with open_browser() as browser:
        failed = await visit(browser, shop.url, buy, marked=True)
        gone = await visit(browser, refused, look_around, marked=True)
        late = await visit(browser, shop.url, forever, marked=True, timeout_seconds=0.2)
        lost = await visit(browser, "http://no-such-host.invalid", nowhere, marked=True)

    assert (failed.fault, failed.steps[-1].name) == (Fault.PRODUCT, "check out")
    assert "Timeout 1500ms exceeded" in failed.error
    assert failed.screenshot is not None
    assert failed.screenshot.startswith(b"\x89PNG")
    assert any("checkout answered 500" in line for line in failed.console)
    assert (gone.fault, gone.answers) == (Fault.UNREACHABLE, ())
    assert "ERR_CONNECTION_REFUSED" in gone.error
    assert (late.fault, late.error) == (Fault.PRODUCT, "the journey took longer than 0.2 s")
    assert late.steps[0].error.startswith("stopped")
    assert lost.fault is Fault.HARNESS


@pytest.mark.browser
async def test_a_browser_that_is_killed_is_not_the_products_fault(serve, shop_type):
    shop = serve(shop_type())

    async def kill(page, shop):
        await shop.open("/")
        session = await page.context.browser.new_browser_cdp_session()
        found = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
        os.kill(next(each["id"] for each in found if each["type"] == "browser"), signal.SIGKILL)
        await page.get_by_text("never there").wait_for()

    async with open_browser() as browser:
        seen = await visit(browser, shop.url, kill, marked=True)
        assert seen.fault is Fault.HARNESS
        after = await visit(browser, shop.url, look_around, marked=True)
        assert after.fault is Fault.HARNESS


@pytest.mark.browser
async def test_a_browser_that_hangs_is_not_the_products_fault_and_does_not_hang_the_check(
    serve, shop_type, monkeypatch
):
    monkeypatch.setattr("synthetic.browser._SIGN_OF_LIFE_SECONDS", 1.0)
    shop, stopped = serve(shop_type()), []

    async def hang(page, shop):
        async with shop.step("open"):
            await shop.open("/")
        session = await page.context.browser.new_browser_cdp_session()
        found = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
        stopped.append(next(each["id"] for each in found if each["type"] == "browser"))
        os.kill(stopped[0], signal.SIGSTOP)
        async with shop.step("look"):
            await page.get_by_text("Kettle").click()

    async with open_browser() as browser:
        try:
            seen = await asyncio.wait_for(visit(browser, shop.url, hang, marked=True, timeout_seconds=4), 60)
            monkeypatch.setattr("synthetic.browser._OPEN_SECONDS", 1.0)
            after = await asyncio.wait_for(visit(browser, shop.url, look_around, marked=True), 60)
        finally:
            for number in stopped:
                os.kill(number, signal.SIGCONT)
    assert seen.fault is Fault.HARNESS
    assert seen.error.startswith("the browser hangs: ")
    assert (after.fault, after.error) == (Fault.HARNESS, "the browser opened no page in 1 s")


@pytest.mark.browser
async def test_whatever_a_journey_raises_is_a_result(serve, shop_type):
    """CancelledError and what pytest.fail() raises are no Exceptions: they would end the check with exit code
    1, which blames the canary."""
    shop = serve(shop_type())

    async def cancelled(page, shop):
        waiting = asyncio.get_running_loop().create_future()
        waiting.cancel()
        await waiting

    async def failed(page, shop):
        pytest.fail("there is no kettle")

    async with open_browser() as browser:
        seen = [await visit(browser, shop.url, walked, marked=True) for walked in (cancelled, failed)]
    assert [(each.fault, each.error) for each in seen] == [
        (Fault.PRODUCT, "the journey waited for something that was cancelled"),
        (Fault.PRODUCT, "Failed: there is no kettle"),
    ]


@pytest.mark.browser
async def test_no_process_is_left_behind():
    async with open_browser() as browser:
        session = await browser.new_browser_cdp_session()
        found = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
        numbers = [each["id"] for each in found]
        assert [number for number in numbers if Path(f"/proc/{number}").exists()]
    assert [number for number in numbers if _runs(number)] == []


def _runs(number: int) -> bool:
    """Whether a process exists and is no zombie, which only waits for its parent to notice."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Closed:
    """A browser whose driver is gone: Playwright then raises bare exceptions."""

    def __init__(self, problem: Exception) -> None:
        self.problem = problem

    async def new_context(self, **_: object) -> None:
        raise self.problem


@pytest.mark.parametrize("problem", [Exception("Connection closed"), TimeoutError(), OSError("no memory")])
async def test_what_fails_before_the_journey_starts_is_not_the_products_fault(problem):
    seen = await visit(Closed(problem), "http://127.0.0.1:9", look_around, marked=True)
    assert seen.fault is Fault.HARNESS
    assert seen.error


@pytest.mark.browser
async def test_a_journey_that_exits_ends_itself_and_not_the_check(serve, shop_type):
    shop = serve(shop_type())

    async def leave(page, shop):
        await shop.open("/")
        sys.exit(1)

    async with open_browser() as browser:
        seen = await visit(browser, shop.url, leave, marked=True)
        assert (seen.fault, seen.error) == (Fault.PRODUCT, "SystemExit: 1")
        asked = len(shop.requests)
        again = await visit(browser, shop.url, look_around, marked=Marking((SECRET,)))
    assert again.fault is Fault.NONE
    sent = [headers["baggage"].partition(",rolloutobs.sig=") for _, headers, _ in shop.requests[asked:]]
    assert sent
    for mark, _, signature in sent:
        assert mark == "synthetic=test"
        assert not isinstance(Verifier([SECRET]).check(Claim(synthetic="test"), signature, time()), Doubt)


@pytest.mark.browser
async def test_a_handler_that_fails_blames_nobody_and_does_not_end_the_check(serve, shop_type):
    shop = serve(shop_type())

    async def stumble(page, shop):
        def fail(_: object) -> None:
            raise ValueError("in a handler")

        page.on("response", fail)
        await look_around(page, shop)

    async with open_browser() as browser:
        seen = await visit(browser, shop.url, stumble, marked=True)
        again = await visit(browser, shop.url, look_around, marked=True)
    assert (seen.fault, seen.error) == (
        Fault.HARNESS,
        "a handler of the journey raised ValueError: in a handler",
    )
    assert (again.fault, again.error) == (Fault.NONE, "")


@pytest.mark.browser
async def test_a_driver_that_is_killed_is_not_the_products_fault(serve, shop_type):
    shop = serve(shop_type())

    async def kill(page, shop):
        await shop.open("/")
        for number in _drivers():
            os.kill(number, signal.SIGKILL)
        await page.get_by_text("never there").wait_for()

    with contextlib.suppress(Exception):
        async with open_browser() as browser:
            seen = await visit(browser, shop.url, kill, marked=True)
            after = await visit(browser, shop.url, look_around, marked=True)
    assert (seen.fault, after.fault) == (Fault.HARNESS, Fault.HARNESS)


def _drivers() -> list[int]:
    """Return the processes that this one started for Playwright."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [
        int(number) for number in children if b"playwright" in Path(f"/proc/{number}/cmdline").read_bytes()
    ]
