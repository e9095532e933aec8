"""Which view is what: soft navigations, aborted loads, hidden tabs; values as web-vitals has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page

from rum_collector.bundle import BUNDLE_PATH
from tests.e2e.browser.site import DEADLINE_SECONDS, Recorder, Site, fence, hide, observed

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

# Every click goes to another route, which paints something large.
SINGLE_PAGE = """<button style="width:9em;height:4em">Next</button><main></main><script>
  let number = 0;
  document.querySelector('button').onclick = () => {
    number++;
    history.pushState({}, '', `/product/${number}?token=secret`);
    if (window.named) rolloutobs.route(`/${window.named}/{id}`);
    const text = document.createElement('h1');
    text.style.font = '60px serif';
    text.textContent = `Product ${number}, to be looked at for a long time`;
    document.querySelector('main').replaceChildren(text);
  };
</script>"""


async def navigate_softly(page: Page, times: int) -> None:
    """Click, and wait until the browser has seen that many soft navigations."""
    await page.evaluate(
        """() => {
          window.soft = 0;
          new PerformanceObserver((list) => { window.soft += list.getEntries().length; })
            .observe({type: 'soft-navigation', buffered: true});
        }"""
    )
    for number in range(1, times + 1):
        await page.click("button")
        await page.wait_for_function(f"window.soft >= {number}", timeout=DEADLINE_SECONDS * 1000)
        # The script's own observers have it a microtask later.
        await page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


async def test_a_soft_navigation_is_a_view_of_its_own(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    site.body = SINGLE_PAGE
    page = await context.new_page()
    await page.goto(f"{site.url}/list")
    await observed(page, "{type: 'largest-contentful-paint', buffered: true}")
    await page.evaluate("rolloutobs.event('listed')")
    await navigate_softly(page, 1)
    await page.evaluate(
        """() => new Promise((done) => {
          rolloutobs.event('seen');
          addEventListener('error', () => done());
          setTimeout(() => { throw new Error('no price') });
        })"""
    )
    await page.close()
    beacons = await fence(context, site, recorder)
    first, second = (next(b for b in beacons if b["rt"] == route) for route in ("/list", "/product/:id"))

    assert (first["nav"], first["c"], first["e"]) == ("navigate", [["listed", 1]], [])
    assert (second["nav"], second["c"], second["sq"]) == ("soft", [["seen", 1]], 0)
    assert [error["m"] for error in second["e"]] == ["no price"]
    assert (second["ver"], second["trk"]) == (first["ver"], first["trk"])
    assert second["pv"] != first["pv"]
    assert {"ttfb", "load", "lcp", "inp"} <= dict(first["m"]).keys()
    assert {"fcp", "lcp", "cls"} <= dict(second["m"]).keys()
    assert not {"ttfb", "load"} & dict(second["m"]).keys()
    assert "secret" not in str(beacons)
    assert recorder.value("rum_page_views_total", route="/product/:id", navigation_type="soft") == 1


async def test_many_soft_navigations_keep_their_routes_and_are_sent_as_they_end(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    site.body = SINGLE_PAGE + "<script>window.named = 'product'</script>"
    page = await context.new_page()
    await page.goto(f"{site.url}/list")
    await navigate_softly(page, 3)
    # Two views are kept: the present one, and the one before it for what is still to be measured.
    await recorder.beacon(lambda beacon: beacon["rt"] == "/list")
    await recorder.beacon(lambda beacon: beacon["rt"] == "/product/{id}")
    assert len({beacon["pv"] for beacon in recorder.beacons()}) == 2
    await page.close()
    beacons = await fence(context, site, recorder)
    assert [beacon["rt"] for beacon in beacons] == ["/list", *["/product/{id}"] * 3]
    assert {beacon["sq"] for beacon in beacons} == {0}
    assert len({beacon["pv"] for beacon in beacons}) == 4


async def test_the_values_are_those_of_web_vitals_itself(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    """The unmodified library beside ours, over a soft navigation, a slow click and a layout that shifts."""
    modules = BUNDLE_PATH.parents[1] / "node_modules"
    library = Path(modules / "web-vitals/dist/web-vitals.iife.js")
    assert library.exists(), "run `make install`: the packages of the browser script are not there"
    site.answers["/vitals.js"] = (200, {"content-type": "text/javascript"}, library.read_bytes())
    site.body = (
        """<script src="/vitals.js"></script><script>
          const own = {};
          for (const name of ['CLS', 'FCP', 'INP', 'LCP', 'TTFB']) {
            webVitals['on' + name]((metric) => {
              (own[metric.navigationStartTime] ||= {})[metric.name.toLowerCase()] = metric.value;
            }, {reportAllChanges: true, reportSoftNavs: true});
          }
          addEventListener('click', () => {
            const end = performance.now() + 120;
            while (performance.now() < end);
          });
        </script>"""
        + SINGLE_PAGE
    )
    page = await context.new_page()
    await page.goto(f"{site.url}/list")
    await observed(page, "{type: 'largest-contentful-paint', buffered: true}")
    await page.evaluate(
        """() => {
          const pushed = document.createElement('p');
          pushed.style.height = '150px';
          document.body.prepend(pushed);
        }"""
    )
    await observed(page, "{type: 'layout-shift', buffered: true}")
    await navigate_softly(page, 1)
    await observed(page, "{type: 'event', buffered: true, durationThreshold: 40}")
    await hide(page)
    own: dict[str, dict[str, float]] = await page.evaluate("own")
    await page.close()
    beacons = await fence(context, site, recorder)
    assert len(own) == 2
    for (_, theirs), navigation in zip(
        sorted(own.items(), key=lambda item: float(item[0])), ("navigate", "soft"), strict=True
    ):
        (ours,) = [dict(beacon["m"]) for beacon in beacons if beacon["nav"] == navigation]
        ours.pop("load", None)
        if navigation == "soft":
            # Nothing was requested, so web-vitals' zero is not sent.
            assert theirs.pop("ttfb") == 0
        assert ours == {name: pytest.approx(value, abs=1e-4) for name, value in theirs.items()}
    assert dict(beacons[0]["m"])["cls"] > 0 or dict(beacons[1]["m"])["cls"] > 0


async def test_back_without_the_cache_loads_again(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    # A page that listens for unload never enters the back-forward cache.
    site.headers["cache-control"] = "no-store"
    site.headers["permissions-policy"] = "unload=(self)"
    site.body = "<script>addEventListener('unload', () => undefined)</script>"
    page = await context.new_page()
    await page.goto(f"{site.url}/list")
    await page.goto(f"{site.url}/detail")
    await page.go_back()
    await page.close()
    beacons = await fence(context, site, recorder)
    assert [(beacon["rt"], beacon["nav"]) for beacon in beacons] == [
        ("/list", "navigate"),
        ("/detail", "navigate"),
        ("/list", "back-forward"),
    ]
    assert "ttfb" in dict(beacons[2]["m"])


async def test_a_page_that_is_left_before_it_is_loaded_says_so(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    site.body = '<h1>Slow</h1><img src="/never" alt="">'
    page = await context.new_page()
    await page.goto(f"{site.url}/slow", wait_until="commit")
    await page.wait_for_function("window.rolloutobs")
    site.body = "<h1>Quick</h1>"
    await page.goto(f"{site.url}/quick")
    await page.close()
    beacons = {beacon["rt"]: beacon for beacon in await fence(context, site, recorder)}
    assert beacons["/slow"]["ab"] == 1
    assert "load" not in dict(beacons["/slow"]["m"])
    assert "ab" not in beacons["/quick"]


async def test_a_tab_that_is_hidden_early_is_neither_aborted_nor_fast(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    site.body = """<script>
      for (const state of ['hidden', 'visible']) {
        Object.defineProperty(document, 'visibilityState', {configurable: true, value: state});
        document.dispatchEvent(new Event('visibilitychange', {bubbles: true}));
      }
      delete document.visibilityState;
    </script><h1>Nobody saw me load</h1>"""
    page = await context.new_page()
    await page.goto(f"{site.url}/hidden")
    await observed(page, "{type: 'largest-contentful-paint', buffered: true}")
    await page.close()
    beacons = await fence(context, site, recorder)
    assert [beacon["sq"] for beacon in beacons] == [0, 1]
    assert len({beacon["pv"] for beacon in beacons}) == 1
    assert not any("ab" in beacon for beacon in beacons)
    names = {name for beacon in beacons for name, _ in beacon["m"]}
    # What was painted after the tab had been hidden once tells how long the user was away.
    assert not {"lcp", "fcp"} & names
    assert "load" in names


async def test_offline_then_online_sends_what_was_kept(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    page = await context.new_page()
    # Where sendBeacon is not to be had; a queue that the browser has taken cannot be watched from the page.
    await page.add_init_script(
        """navigator.sendBeacon = () => false;
        const real = window.fetch;
        window.refused = 0;
        window.fetch = (...given) => {
          const answer = real(...given);
          answer.catch(() => setTimeout(() => { window.refused++; }));
          return answer;
        };"""
    )
    await page.goto(f"{site.url}/train")
    await context.set_offline(True)
    for number in (1, 2):
        await page.evaluate("(name) => rolloutobs.event(name)", f"step {number}")
        await page.evaluate("(name) => rolloutobs.event(name)", "abc"[number])
        await hide(page)
        await page.wait_for_function(f"window.refused >= {number}")
    await context.set_offline(False)
    await page.evaluate("rolloutobs.event('arrived')")
    await hide(page)
    await recorder.beacon(lambda beacon: ["arrived", 1] in beacon["c"])
    found = sorted(await fence(context, site, recorder), key=lambda beacon: int(beacon["sq"]))
    assert [beacon["sq"] for beacon in found] == [0, 1, 2]
    assert [name for beacon in found for name, _ in beacon["c"]] == ["step #", "b", "c", "arrived"]
    assert recorder.value("rum_page_views_total", route="/train") == 1


async def test_a_frame_is_a_document_with_a_view_of_its_own(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    site.answers["/shell"] = (
        200,
        {"content-type": "text/html", "server-timing": 'version;desc="1.1.0", track;desc="stable"'},
        f'<!doctype html><script src="{site.script}" data-app="shop"></script>'.encode()
        + b'<iframe src="/inner"></iframe>',
    )
    page = await context.new_page()
    await page.goto(f"{site.url}/shell")
    await page.frames[1].evaluate(
        """() => new Promise((done) => {
          rolloutobs.event('inside');
          addEventListener('error', () => done());
          setTimeout(() => { throw new Error('in it') });
        })"""
    )
    await page.close()
    beacons = {beacon["rt"]: beacon for beacon in await fence(context, site, recorder)}
    assert {route: (b["ver"], b["trk"]) for route, b in beacons.items()} == {
        "/shell": ("1.1.0", "stable"),
        "/inner": ("1.2.0", "canary"),
    }
    assert (beacons["/shell"]["c"], beacons["/shell"]["e"]) == ([], [])
    assert beacons["/inner"]["c"] == [["inside", 1]]
    assert len(beacons["/inner"]["e"]) == 1


async def test_nothing_keeps_the_page_out_of_the_back_forward_cache(
    context: BrowserContext, site: Site
) -> None:
    for script in (site.script, site.script.replace(".js", "-full.js")):
        site.script = script
        page = await context.new_page()
        await page.goto(f"{site.url}/list")
        session = await context.new_cdp_session(page)
        window = await session.send("Runtime.evaluate", {"expression": "window"})
        listeners: dict[str, Any] = await session.send(
            "DOMDebugger.getEventListeners", {"objectId": window["result"]["objectId"]}
        )
        types = {listener["type"] for listener in listeners["listeners"]}
        assert {"pagehide", "pageshow", "error"} <= types
        assert not {"unload", "beforeunload"} & types
        await page.close()
