"""The full build of the browser script: calls and their traces, long frames, phases, consent."""

from __future__ import annotations

import json
import re

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page

from tests.e2e.browser.site import Recorder, Site, fence, hide
from tests.e2e.browser.test_core import STRICT_CSP

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

JSON = {"content-type": "application/json"}
CANARY = 'version;desc="1.2.0", track;desc="canary"'
STABLE = 'version;desc="1.1.0", track;desc="stable"'


@pytest_asyncio.fixture(loop_scope="module")
async def full(site: Site) -> Site:
    site.script = site.script.replace(".js", "-full.js")
    return site


async def recorded(page: Page, calls: int) -> None:
    """Wait until the browser has listed that many finished calls of the page."""
    await page.wait_for_function(
        """(calls) => performance.getEntriesByType('resource')
          .filter(({initiatorType}) => /^(fetch|xml)/.test(initiatorType)).length >= calls""",
        arg=calls,
    )
    # The script's observer is told in a task of its own.
    await page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


async def test_calls_are_counted_by_path_with_those_that_failed(
    context: BrowserContext, full: Site, recorder: Recorder
) -> None:
    full.answers |= {
        "/api/item/12345": (200, JSON, b"{}"),
        "/api/item/67890": (404, JSON, b"{}"),
        "/api/cart": (503, JSON, b"{}"),
    }
    page = await context.new_page()
    await page.goto(f"{full.url}/calls")
    await page.evaluate(
        """async (other) => {
          const xhr = (path) => new Promise((done) => {
            const request = new XMLHttpRequest();
            request.open('POST', path);
            request.onloadend = done;
            request.send('{}');
          });
          await fetch('/api/item/12345?token=secret');
          await fetch(new Request('/api/item/67890'));
          await xhr('/api/cart');
          // Nobody answers there; and what the page itself gives up is no failure.
          await fetch('http://127.0.0.1:1/refused').catch(() => 0);
          const gone = new AbortController();
          setTimeout(() => gone.abort(), 20);
          await fetch('/never', {signal: gone.signal}).catch(() => 0);
          await fetch(other + '/healthz', {mode: 'no-cors'});
        }""",
        recorder.url,
    )
    await recorded(page, 6)
    await page.close()
    (beacon,) = await fence(context, full, recorder)
    assert {target: (total, failed) for target, total, failed, _ in beacon["f"]} == {
        "/api/item/:id": (2, 1),
        "/api/cart": (1, 1),
    }
    assert all(0 < milliseconds < 60_000 for *_, milliseconds in beacon["f"])
    assert beacon["xp"] == [0, 0]
    assert "secret" not in json.dumps(beacon)


async def test_a_call_that_nobody_answers_has_failed(
    context: BrowserContext, full: Site, recorder: Recorder
) -> None:
    page = await context.new_page()
    await page.goto(f"{full.url}/offline")
    await context.set_offline(True)
    await page.evaluate(
        """async () => {
          await fetch('/api/cart').catch(() => 0);
          await new Promise((done) => {
            const request = new XMLHttpRequest();
            request.open('GET', '/api/stock');
            request.onloadend = done;
            request.send();
          });
        }"""
    )
    await context.set_offline(False)
    await page.close()
    (beacon,) = await fence(context, full, recorder)
    assert beacon["f"] == [["/api/cart", 1, 1, 0], ["/api/stock", 1, 1, 0]]


async def test_a_request_object_that_is_used_again_counts_its_last_call(
    context: BrowserContext, full: Site, recorder: Recorder
) -> None:
    full.answers["/api/poll"] = (200, JSON, b"{}")
    page = await context.new_page()
    await page.goto(f"{full.url}/polling")
    await page.evaluate(
        """() => {
          const request = new XMLHttpRequest();
          window.poll = () => new Promise((done) => {
            request.open('GET', '/api/poll');
            request.onloadend = done;
            request.send();
          });
          return poll().then(poll).then(poll);
        }"""
    )
    await recorded(page, 3)
    await context.set_offline(True)
    await page.evaluate("() => poll()")
    await context.set_offline(False)
    await page.close()
    (beacon,) = await fence(context, full, recorder)
    ((target, total, failed, _),) = beacon["f"]
    assert (target, total, failed) == ("/api/poll", 4, 1)


async def test_an_address_that_is_none_fails_as_it_does_without_us(
    context: BrowserContext, full: Site, recorder: Recorder
) -> None:
    page = await context.new_page()
    await page.goto(f"{full.url}/wrong")
    message = await page.evaluate("fetch('http://[').catch((error) => error.message)")
    assert message == "Failed to execute 'fetch' on 'Window': Failed to parse URL from http://["
    await page.close()
    (beacon,) = await fence(context, full, recorder)
    assert beacon["f"] == []


async def test_a_beacon_is_no_call_of_the_page(
    context: BrowserContext, full: Site, recorder: Recorder
) -> None:
    full.attributes += ' data-endpoint="/api/metrics"'
    page = await context.new_page()
    await page.add_init_script("navigator.sendBeacon = () => false")
    await page.goto(f"{full.url}/first-party")
    await hide(page)
    await recorded(page, 1)
    await page.evaluate("rolloutobs.event('checkout')")
    await hide(page)
    await recorded(page, 2)
    await page.close()
    full.attributes = full.attributes.partition(" data-endpoint")[0]
    await fence(context, full, recorder)
    beacons = [json.loads(body) for *_, path, _, body in recorder.requests if path == "/api/metrics"]
    assert [beacon["sq"] for beacon in beacons[:2]] == [0, 1]
    assert [target for beacon in beacons for target in beacon["f"]] == []


async def test_own_calls_carry_trace_and_identity_and_others_do_not(
    context: BrowserContext, full: Site, recorder: Recorder
) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    full.headers["server-timing"] = f'{CANARY}, traceparent;desc="00-{trace}-b7ad6b7169203331-01"'
    full.answers |= dict.fromkeys(("/api/a", "/api/b", "/api/c"), (200, JSON, b"{}"))
    page = await context.new_page()
    await page.goto(f"{full.url}/traced")
    answers = await page.evaluate(
        """async (other) => {
          await fetch('/api/a', {method: 'POST', headers: {'x-mine': '1'}, body: '{}'});
          await fetch(new Request('/api/b', {headers: {baggage: 'mine=1', 'x-mine': '2'}}));
          await fetch('/api/c', {headers: [['traceparent', `00-${'1'.repeat(32)}-${'2'.repeat(16)}-00`]]});
          await (await fetch(other + '/rolloutobs.js')).text();
          return fetch('').then((answer) => answer.status);
        }""",
        recorder.url,
    )
    assert answers == 200
    await page.close()
    await fence(context, full, recorder)
    identity = "rolloutobs.service=shop, rolloutobs.version=1.2.0, rolloutobs.track=canary"
    first, second, third = (full.seen[path] for path in ("/api/a", "/api/b", "/api/c"))
    assert (first["x-mine"], first["baggage"]) == ("1", identity)
    assert (second["x-mine"], second["baggage"]) == ("2", f"mine=1, {identity}")
    for seen in (first, second):
        match = re.fullmatch(r"00-([0-9a-f]{32})-[0-9a-f]{16}-01", seen["traceparent"])
        assert match is not None, seen["traceparent"]
        # Each click is a trace of its own; whether it is kept was decided for the document.
        assert match[1] != trace
    assert third["traceparent"].startswith("00-1111")
    # A header of ours on a stranger's request would also have asked for a preflight.
    assert {request[0] for request in recorder.requests} == {"GET", "POST"}
    assert not [headers for *_, headers, _ in recorder.requests if "baggage" in headers]


async def test_listed_origins_are_traced_too(context: BrowserContext, full: Site, recorder: Recorder) -> None:
    full.attributes += f' data-trace="https://api.example.com {recorder.url}"'
    page = await context.new_page()
    await page.goto(f"{full.url}/listed")
    await page.evaluate(
        "(url) => fetch(url).then((answer) => answer.text())", f"{recorder.url}/rolloutobs.js"
    )
    await page.close()
    await recorder.beacon(lambda beacon: beacon["rt"] == "/listed")
    asked = [headers for method, _, headers, _ in recorder.requests if method == "OPTIONS"]
    assert [headers["access-control-request-headers"] for headers in asked] == ["baggage,traceparent"]
    # The beacon itself stays a request that needs none.
    assert [request[0] for request in recorder.requests if request[1] == "/b"] == ["POST"]


async def test_a_view_knows_who_answered_its_calls(
    context: BrowserContext, full: Site, recorder: Recorder
) -> None:
    full.answers |= {
        "/api/canary": (200, {**JSON, "server-timing": CANARY}, b"{}"),
        "/api/stable": (200, {**JSON, "server-timing": STABLE}, b"{}"),
        "/api/silent": (200, JSON, b"{}"),
    }
    page = await context.new_page()
    await page.goto(f"{full.url}/mixed")
    await page.evaluate(
        """async () => {
          for (const who of ['canary', 'canary', 'stable', 'silent']) await fetch('/api/' + who);
        }"""
    )
    await recorded(page, 4)
    await page.close()
    (beacon,) = await fence(context, full, recorder)
    assert beacon["xp"] == [2, 1]


async def test_with_a_secret_the_collector_judges_who_answered(
    context: BrowserContext, full: Site, recorder: Recorder
) -> None:
    full.headers["server-timing"] = 'view;desc="token", answer;desc="of the page"'
    for number in range(12):
        said = f'view;desc="another", answer;desc="mark {number}"'
        full.answers[f"/api/{number}"] = (200, {**JSON, "server-timing": said}, b"{}")
    page = await context.new_page()
    await page.goto(f"{full.url}/mixed")
    await page.evaluate("async () => { for (let i = 0; i < 12; i++) await fetch('/api/' + i) }")
    await recorded(page, 12)
    await page.close()
    (beacon,) = await fence(context, full, recorder)
    same, other, *marks = beacon["xp"]
    assert (beacon["tk"], same, other) == ("token", 0, 0)
    # The browser tells of answers when it has time to, on a busy machine not always in their order.
    assert len(set(marks)) == len(marks) == 10
    assert set(marks) <= {f"mark {number}" for number in range(12)}


async def test_long_frames_are_a_share_of_the_time_that_was_watched(
    context: BrowserContext, full: Site, recorder: Recorder
) -> None:
    page = await context.new_page()
    await page.goto(f"{full.url}/stuck")
    await page.evaluate(
        """() => new Promise((done) => {
          new PerformanceObserver(() => setTimeout(done)).observe({type: 'long-animation-frame'});
          requestAnimationFrame(() => {
            const end = performance.now() + 200;
            while (performance.now() < end);
          });
        }).then(() => 1)"""
    )
    await page.close()
    (beacon,) = await fence(context, full, recorder)
    long, observed = beacon["lf"]
    assert 200 <= long <= observed


async def page_without(context: BrowserContext, full: Site, path: str) -> tuple[Page, str]:
    """Return a page on which the script has not begun, and the address from which a test may load it."""
    script, full.script = full.script, f"{full.url}/nothing.js"
    full.answers["/nothing.js"] = (200, {"content-type": "text/javascript"}, b"")
    page = await context.new_page()
    await page.goto(f"{full.url}{path}")
    full.script = script
    return page, script


async def test_what_was_stuck_before_anybody_watched_is_no_share_of_what_was_watched(
    context: BrowserContext, full: Site, recorder: Recorder
) -> None:
    page, script = await page_without(context, full, "/late")
    await page.evaluate(
        """(script) => new Promise((done) => {
          const first = new PerformanceObserver(() => {
            first.disconnect();
            window.watched = 0;
            new PerformanceObserver((list) => {
              for (const {duration} of list.getEntries()) watched += duration;
            }).observe({type: 'long-animation-frame'});
            const late = document.createElement('script');
            Object.assign(late, {src: script, onload: done});
            late.dataset.app = 'shop';
            document.head.append(late);
          });
          first.observe({type: 'long-animation-frame'});
          requestAnimationFrame(() => {
            const end = performance.now() + 500;
            while (performance.now() < end);
          });
        }).then(() => 1)""",
        script,
    )
    await hide(page)
    watched = await page.evaluate("watched")
    await page.close()
    beacon = next(beacon for beacon in await fence(context, full, recorder) if beacon["rt"] == "/late")
    assert beacon["lf"][0] <= watched + 1


async def test_of_the_frame_in_which_it_begins_counts_what_came_after(
    context: BrowserContext, full: Site, recorder: Recorder
) -> None:
    """A page that is slow to load has its tag in the middle of a long frame, and that is the one to know."""
    page, script = await page_without(context, full, "/middle")
    stuck = """async (script) => {
      const late = document.createElement('script');
      late.dataset.app = 'shop';
      late.dataset.endpoint = new URL('b', script).href;
      late.textContent = await (await fetch(script)).text();
      const told = new Promise((done) => {
        new PerformanceObserver((list) => {
          if (list.getEntries().some(({duration}) => duration > 1000)) setTimeout(done);
        }).observe({type: 'long-animation-frame'});
      });
      const busy = (milliseconds) => {
        const end = performance.now() + milliseconds;
        while (performance.now() < end);
      };
      requestAnimationFrame(() => {
        busy(1000);
        document.head.append(late);
        busy(100);
      });
      await told;
    }"""
    await page.evaluate(stuck, script)
    await page.close()
    beacon = next(beacon for beacon in await fence(context, full, recorder) if beacon["rt"] == "/middle")
    long, observed = beacon["lf"]
    assert 100 <= long <= observed


async def test_the_phases_of_the_load_are_sent_once(
    context: BrowserContext, full: Site, recorder: Recorder
) -> None:
    page = await context.new_page()
    await page.goto(f"{full.url}/phases")
    await hide(page)
    await page.evaluate("rolloutobs.event('checkout')")
    await page.close()
    first, second = await fence(context, full, recorder)
    phases = dict(first["np"])
    assert {"request", "response", "dom"} <= phases.keys()
    assert phases.keys() <= {"redirect", "dns", "connect", "tls", "request", "response", "dom"}
    assert all(0 < milliseconds < 60_000 for milliseconds in phases.values())
    # They cannot take longer than the whole.
    assert sum(phases.values()) <= dict(first["m"])["load"] + 1
    assert "np" not in second


async def test_a_session_is_sampled_as_a_whole_where_storage_is_allowed(
    context: BrowserContext, full: Site, recorder: Recorder
) -> None:
    full.attributes += ' data-sample="0.5" data-session'
    page = await context.new_page()
    await page.add_init_script("Math.random = () => (location.pathname == '/in' ? 0.4 : 0.6)")
    for path in ("/in", "/still"):
        await page.goto(full.url + path)
    assert await page.evaluate("sessionStorage.rolloutobs") == "0.4"
    await page.close()
    full.attributes = 'data-app="shop"'
    beacons = await fence(context, full, recorder)
    assert [(beacon["rt"], beacon["sr"]) for beacon in beacons] == [("/in", 0.5), ("/still", 0.5)]


async def test_nothing_is_sent_before_consent_and_nothing_is_lost_by_waiting(
    context: BrowserContext, full: Site, recorder: Recorder
) -> None:
    full.attributes += " data-consent"
    full.answers["/api/a"] = (200, JSON, b"{}")
    page = await context.new_page()
    await page.goto(f"{full.url}/asking")
    await page.evaluate("fetch('/api/a').then(() => rolloutobs.event('asked'))")
    await hide(page)
    await page.evaluate("rolloutobs.event('asked again')")
    await hide(page)
    full.attributes = full.attributes.removesuffix(" data-consent")
    assert await fence(context, full, recorder) == []
    assert not {"traceparent", "baggage"} & full.seen["/api/a"].keys()
    assert await page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    await page.evaluate("rolloutobs.consent(true)")
    await recorder.beacon(lambda beacon: beacon["sq"] == 1)
    await page.evaluate("rolloutobs.event('told')")
    await page.close()
    beacons = await fence(context, full, recorder)
    assert [(beacon["sq"], beacon["c"]) for beacon in beacons] == [
        (0, [["asked", 1]]),
        (1, [["asked again", 1]]),
        (2, [["told", 1]]),
    ]


async def test_who_refuses_is_not_counted(context: BrowserContext, full: Site, recorder: Recorder) -> None:
    full.attributes += " data-consent"
    page = await context.new_page()
    await page.goto(f"{full.url}/refused")
    await hide(page)
    await page.evaluate("rolloutobs.consent(false); rolloutobs.event('checkout')")
    await page.close()
    full.attributes = full.attributes.removesuffix(" data-consent")
    assert await fence(context, full, recorder) == []


async def test_a_strict_policy_and_a_page_full_of_trouble(
    context: BrowserContext, full: Site, recorder: Recorder
) -> None:
    full.headers["content-security-policy"] = STRICT_CSP.format(collector=recorder.url).replace(
        "connect-src", "connect-src 'self'"
    )
    # As an app with a secret tells who it is: in more letters.
    full.headers["server-timing"] = f'view;desc="{"t" * 107}", traceparent;desc="00-{"1" * 32}-{"2" * 16}-01"'
    said = {**JSON, "server-timing": f'view;desc="{"t" * 107}", answer;desc="{"m" * 11}"'}
    full.answers |= {f"/api/a-rather-long-name/{word}": (500, said, b"{}") for word in "abcdefgh"}
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(f"{full.url}/checkout/a-title-of-some-length/")
    await page.evaluate(
        """async () => {
          const failure = (message) => dispatchEvent(new ErrorEvent('error', {message, filename: 'https://x/app.js'}));
          for (const word of 'abcdefgh') {
            failure(`${word} cannot read properties of undefined (reading price)`);
            await fetch('/api/a-rather-long-name/' + word);
            rolloutobs.event('event ' + word);
          }
        }"""
    )
    await recorded(page, 8)
    await page.close()
    (beacon,) = await fence(context, full, recorder)
    assert len(beacon["f"]) == 6
    assert sum(total for _, total, _, _ in beacon["f"]) == 8
    assert errors == []
    (body,) = [body for method, path, _, body in recorder.requests if path == "/b" and b"a-rather" in body]
    # Marks of answers and phases are what there is no room for.
    assert (beacon["xp"], "np" in beacon) == ([0, 0], False)
    assert len(body) <= 1200, body
