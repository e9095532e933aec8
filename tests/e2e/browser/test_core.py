"""The small build of the browser script in a real Chromium, posting to a real collector on another origin."""

from __future__ import annotations

import asyncio
import json

import pytest
from playwright.async_api import BrowserContext
from prometheus_client.parser import text_string_to_metric_families

from rum_collector.scrub import scrub, template
from tests.e2e.browser.site import DEADLINE_SECONDS, Recorder, Site, fence, hide, observed

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

STRICT_CSP = (
    "default-src 'none'; script-src {collector} 'nonce-page'; connect-src {collector}; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


async def test_one_beacon_when_the_page_is_left_with_the_identity_that_served_it(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    site.attributes = 'data-app="shop" data-version="0.9.0" data-track="stable"'
    page = await context.new_page()
    await page.goto(f"{site.url}/product/12345?token=secret#me")
    await observed(page, "{type: 'largest-contentful-paint', buffered: true}")
    # The next version takes over while the page is open: it stays a page of the one that served it.
    site.headers["server-timing"] = 'version;desc="2.0.0"'
    await page.goto(f"{site.url}/next")
    await recorder.beacon(lambda beacon: beacon["rt"] == "/product/:id")
    await page.close()
    first, second = await fence(context, site, recorder)

    assert {name: first[name] for name in ("v", "app", "ver", "trk", "sq", "nav", "rt")} == {
        "v": 1,
        "app": "shop",
        "ver": "1.2.0",
        "trk": "canary",
        "sq": 0,
        "nav": "navigate",
        "rt": "/product/:id",
    }
    assert {"lcp", "fcp", "cls", "ttfb", "load"} <= dict(first["m"]).keys()
    assert (second["ver"], second["trk"]) == ("2.0.0", "stable")
    method, _, headers, body = recorder.posts()[0]
    assert (method, headers["content-type"]) == ("POST", "text/plain;charset=UTF-8")
    assert b"secret" not in body
    assert b"12345" not in body
    assert len(body) <= 1200
    # Another origin, and yet no preflight.
    assert [request[0] for request in recorder.posts()] == ["POST"] * 3
    labels = {"app": "shop", "version": "1.2.0", "track": "canary", "route": "/product/:id"}
    assert recorder.value("rum_page_views_total", navigation_type="navigate", **labels) == 1
    assert recorder.value("rum_lcp_seconds_count", **labels) == 1
    assert recorder.value("rum_views_with_errors_total") == 0
    assert recorder.value("rum_beacons_total", outcome="accepted") == 3


async def test_without_server_timing_the_tag_says_who_served_the_page(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    site.headers = {}
    site.attributes = (
        'data-app="shop" data-version="1.1.0" data-track="stable" data-route="/product/{id}" '
        f'data-endpoint="{recorder.url}/b"'
    )
    page = await context.new_page()
    await page.goto(f"{site.url}/product/red-shoes")
    await page.evaluate("document.querySelector('script').dataset.version = '9.9.9'")
    await page.close()
    beacon = await recorder.beacon(lambda beacon: True)
    assert (beacon["ver"], beacon["trk"], beacon["rt"]) == ("1.1.0", "stable", "/product/{id}")
    assert "syn" not in beacon


async def test_a_strict_policy_with_trusted_types_is_not_violated(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    site.headers["content-security-policy"] = STRICT_CSP.format(collector=recorder.url)
    page = await context.new_page()
    console: list[str] = []
    page.on("console", lambda message: console.append(message.text))
    page.on("pageerror", lambda error: console.append(str(error)))
    await page.goto(f"{site.url}/strict")
    await page.evaluate("rolloutobs.event('checkout')")
    await page.close()
    beacon = await recorder.beacon(lambda beacon: beacon["rt"] == "/strict")
    assert beacon["c"] == [["checkout", 1]]
    assert console == []


async def test_errors_are_merged_scrubbed_and_counted_once_per_view(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    site.body = """<script>
      const fail = (message) => { throw new TypeError(message) };
      for (let i = 0; i < 3; i++) setTimeout(() => fail(`order ${i} of ann@example.com "secret" /a?key=1`));
      setTimeout(() => { Promise.reject(Object.create(null)); window.done = true; }, 20);
    </script>"""
    page = await context.new_page()
    await page.goto(f"{site.url}/checkout")
    await page.wait_for_function("window.done")
    await hide(page)
    first = await recorder.beacon(lambda beacon: beacon["rt"] == "/checkout")
    assert [(error["t"], error["m"], error["n"]) for error in first["e"]] == [
        ("TypeError", "order # of # # /a#", 3),
        ("Error", "", 1),
    ]
    assert first["e"][0]["s"].startswith("checkout:")
    assert first["fe"] == 1

    # The tab comes back and fails again: only what is new is sent, and the view is not counted again.
    await page.evaluate("setTimeout(() => fail('order 7'))")
    await page.evaluate("() => new Promise((resolve) => setTimeout(resolve, 20))")
    await page.close()
    second = await recorder.beacon(lambda beacon: beacon["sq"] == 1)
    assert second["pv"] == first["pv"]
    assert second["e"][0]["m"] == "order #"
    assert "fe" not in second
    assert not {name for name, _ in first["m"]} & {name for name, _ in second["m"]}
    labels = {"version": "1.2.0", "track": "canary", "route": "/checkout"}
    assert recorder.value("rum_page_views_total", **labels) == 1
    assert recorder.value("rum_views_with_errors_total", **labels) == 1
    assert recorder.value("rum_js_errors_total", **labels) == 5


async def test_errors_of_extensions_are_nobodys_fault_and_many_errors_stay_small(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    page = await context.new_page()
    await page.goto(f"{site.url}/noise")
    await page.evaluate(
        """() => {
          const failure = (message, filename) => dispatchEvent(new ErrorEvent('error', {message, filename}));
          failure('not ours', 'chrome-extension://abc/content.js');
          for (const word of 'abcdefgh') failure(`${word} `.repeat(400), 'https://cdn.example/app.js');
        }"""
    )
    await page.close()
    beacon = await recorder.beacon(lambda beacon: beacon["rt"] == "/noise")
    assert [error["n"] for error in beacon["e"]] == [1, 1, 1, 1, 4]
    assert beacon["e"][-1]["t"] == "more"
    assert "not ours" not in json.dumps(beacon)
    assert len(json.dumps(beacon)) <= 1200
    assert recorder.value("rum_js_errors_total", fingerprint="other") == 4


async def test_an_event_counts_once_per_view_and_outcome(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    page = await context.new_page()
    await page.goto(f"{site.url}/cart")
    await page.evaluate(
        """() => {
          for (let i = 0; i < 3; i++) rolloutobs.event('checkout', {ok: true});
          rolloutobs.event('checkout', {ok: false});
          rolloutobs.event('search');
        }"""
    )
    await hide(page)
    await recorder.beacon(lambda beacon: beacon["rt"] == "/cart")
    await page.evaluate("rolloutobs.event('checkout')")
    await page.close()
    beacons = [beacon for beacon in await fence(context, site, recorder) if beacon["c"]]
    assert [beacon["c"] for beacon in beacons] == [[["checkout", 1], ["checkout", 0], ["search", 1]]]
    assert recorder.value("rum_events_total", event="checkout", outcome="ok", route="/cart") == 1
    assert recorder.value("rum_events_total", event="checkout", outcome="error", route="/cart") == 1
    assert recorder.value("rum_events_total", event="search", outcome="ok", route="/cart") == 1


async def test_a_page_restored_from_the_back_forward_cache_is_a_view_of_its_own(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    site.body = (
        "<script>addEventListener('pageshow', (e) => { if (e.persisted) window.restored = 1; })</script>"
    )
    page = await context.new_page()
    await page.goto(f"{site.url}/list")
    await page.evaluate("rolloutobs.event('search')")
    await page.goto(f"{site.url}/detail")
    first = await recorder.beacon(lambda beacon: beacon["rt"] == "/list")
    site.headers["server-timing"] = 'version;desc="2.0.0", track;desc="stable"'
    await page.evaluate("() => { setTimeout(() => history.back()) }")
    await page.wait_for_url(f"{site.url}/list", wait_until="commit")
    await page.wait_for_function("window.restored")
    await page.evaluate("rolloutobs.event('search')")
    await page.close()
    second = await recorder.beacon(lambda beacon: beacon["rt"] == "/list" and beacon["nav"] == "bfcache")
    assert (second["sq"], second["ver"], second["trk"]) == (0, "1.2.0", "canary")
    assert second["pv"] != first["pv"]
    assert second["c"] == [["search", 1]]
    assert not {"ttfb", "load"} & dict(second["m"]).keys()
    assert recorder.value("rum_page_views_total", route="/list", navigation_type="bfcache") == 1
    assert recorder.value("rum_page_views_total", route="/list", navigation_type="navigate") == 1


async def test_global_privacy_control_sends_nothing(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    page = await context.new_page()
    await page.add_init_script("Object.defineProperty(navigator, 'globalPrivacyControl', {value: true})")
    await page.goto(f"{site.url}/private")
    await page.evaluate("rolloutobs.event('checkout')")
    await page.close()
    assert await fence(context, site, recorder) == []


@pytest.mark.parametrize("how", ["flag", "server-timing", "attribute", "bare attribute"])
async def test_a_synthetic_view_says_so(
    context: BrowserContext, site: Site, recorder: Recorder, how: str
) -> None:
    page = await context.new_page()
    if how == "flag":
        await page.add_init_script("window.__rolloutobs_synthetic = true")
    elif how == "server-timing":
        site.headers["server-timing"] += ', synthetic;desc="test"'
    else:
        site.attributes += " data-synthetic" + ("=1" if how == "attribute" else "")
    await page.goto(f"{site.url}/checked")
    await page.close()
    await recorder.beacon(lambda beacon: beacon["rt"] == "/checked")
    assert recorder.value("rum_page_views_total", route="/checked", synthetic="true") == 1


async def test_a_page_rendered_before_it_is_asked_for_counts_from_then_on(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    page = await context.new_page()
    await page.add_init_script(
        """let activated = 0;
        Object.defineProperty(document, 'prerendering', {configurable: true, get: () => !activated});
        const timing = PerformanceNavigationTiming.prototype;
        Object.defineProperty(timing, 'activationStart', {get: () => activated});
        window.activate = () => {
          activated = performance.now();
          document.dispatchEvent(new Event('prerenderingchange'));
        };"""
    )
    await page.goto(f"{site.url}/next")
    await hide(page)
    assert await fence(context, site, recorder) == []
    await page.evaluate("activate()")
    await page.close()
    found = await recorder.beacon(lambda beacon: beacon["rt"] == "/next")
    assert (found["nav"], found["sq"]) == ("prerender", 0)
    assert dict(found["m"])["ttfb"] == dict(found["m"])["load"] == 0


async def test_a_json_blob_of_a_page_s_own_is_counted(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    """sendBeacon asks for it with credentials, which takes more than a star to allow."""
    page = await context.new_page()
    await page.goto(f"{site.url}/")
    await page.evaluate(
        """(url) => {
          const body = JSON.stringify({metric: 'page_load_time', value: 1234, version: '1.2.0'});
          navigator.sendBeacon(url, new Blob([body], {type: 'application/json'}));
        }""",
        f"{recorder.url}/api/metrics",
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not recorder.value("rum_page_load_seconds_count", version="1.2.0"):
            await asyncio.sleep(0.05)


async def test_a_monstrous_error_does_not_freeze_the_page(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    site.body = "<script>throw new Error('a'.repeat(300000) + '?'.repeat(300000))</script>"
    page = await context.new_page()
    page.set_default_timeout(DEADLINE_SECONDS * 1000)
    await page.goto(f"{site.url}/monstrous")
    await page.close()
    found = await recorder.beacon(lambda beacon: beacon["rt"] == "/monstrous")
    assert len(found["e"][0]["m"]) <= 120


async def test_where_beacons_are_refused_fetch_takes_over_and_nothing_is_lost(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    page = await context.new_page()
    await page.add_init_script(
        """navigator.sendBeacon = () => { throw new TypeError('blocked') };
        const real = window.fetch;
        window.fetch = (...given) => {
          const answer = real(...given);
          answer.catch(() => setTimeout(() => { window.refused = true; }));
          return answer;
        };"""
    )
    await page.goto(f"{site.url}/blocked")
    # The network is down while the tab goes to the background.
    await context.set_offline(True)
    await hide(page)
    await page.wait_for_function("window.refused")
    await context.set_offline(False)
    await page.evaluate("rolloutobs.event('checkout')")
    await hide(page)
    late = await recorder.beacon(lambda beacon: beacon["sq"] == 0)
    later = await recorder.beacon(lambda beacon: beacon["sq"] == 1)
    assert later["c"] == [["checkout", 1]]
    assert later["pv"] == late["pv"]
    assert [request[0] for request in recorder.posts()] == ["POST", "POST"]
    assert recorder.value("rum_page_views_total", route="/blocked") == 1


async def test_a_slow_interaction_is_measured_and_the_script_is_safe_twice(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    site.body = f"""<script src="{recorder.url}/rolloutobs.js" data-app="shop"></script>
      <button onclick="const end = performance.now() + 150; while (performance.now() < end);">Buy</button>"""
    page = await context.new_page()
    await page.goto(f"{site.url}/slow")
    await page.click("button")
    await observed(page, "{type: 'event', buffered: true, durationThreshold: 40}")
    await page.close()
    beacons = [beacon for beacon in await fence(context, site, recorder) if beacon["rt"] == "/slow"]
    assert len(beacons) == 1
    assert dict(beacons[0]["m"])["inp"] >= 150
    response = await context.request.get(f"{recorder.url}/metrics")
    families = {family.name for family in text_string_to_metric_families(await response.text())}
    assert {"rum_inp_seconds", "rum_vitals", "rum_page_views"} <= families


MESSAGES = (
    "Cannot read properties of undefined (reading 'price')",
    "order 4711 of ann.lee+x@example.com failed",
    "GET /api/cart?token=abc&x=1 failed: 503",
    "Unexpected token 'J', \"John Smith\" is not valid JSON",
    'cut "in the middle of',
    "Bearer eyJhbGciOiJIUzI1NiJ9eyJzdWIiOiIx",
    "id dead8eef-0af7-6519-16cd and @ alone, a@b",
    "word " * 60,
)
PATHS = (
    "/v1/cart",
    "/u/dead8eef/x",
    "/order-12345/items/7/",
    "/blog/a-title-that-is-much-too-long-for-a-name",
)


async def test_page_and_collector_scrub_alike(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    page = await context.new_page()
    await page.goto(site.url)
    for i in range(0, len(MESSAGES), 4):
        await page.evaluate(
            "messages => messages.forEach(message => dispatchEvent(new ErrorEvent('error', {message})))",
            MESSAGES[i : i + 4],
        )
        await hide(page)
    for path in PATHS:
        await page.goto(site.url + path)
    await page.close()
    beacons = await fence(context, site, recorder)
    assert [error["m"] for beacon in beacons for error in beacon["e"]] == [scrub(text) for text in MESSAGES]
    routes = [beacon["rt"] for beacon in beacons if beacon["rt"] != "/"]
    assert routes == [template(path) for path in PATHS]
