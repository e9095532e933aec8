"""Who served the page, whatever it came from, and what could not be loaded with it."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import BrowserContext

from tests.e2e.browser.site import Recorder, Site, fence, hide

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BROKEN = """<link rel="stylesheet" href="/gone/app.3f2a.css">
  <script src="/gone/chunk.8c1e.js?token=secret"></script>
  <img src="/gone/a.png" alt=""><img src="/gone/b.png" alt="">"""


async def test_what_could_not_be_loaded_is_counted_by_kind_and_once_per_view(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    for path in ("app.3f2a.css", "chunk.8c1e.js", "a.png", "b.png", "c.js"):
        site.answers[f"/gone/{path}"] = (404, {"content-type": "text/plain"}, b"not here")
    site.body = BROKEN
    page = await context.new_page()
    await page.goto(f"{site.url}/broken")
    await hide(page)
    await page.evaluate(
        """() => new Promise((done) => {
          const late = document.createElement('script');
          late.onerror = done;
          late.src = '/gone/c.js';
          document.body.append(late);
        }).then(() => 1)"""
    )
    await page.close()
    first, second = await fence(context, site, recorder)
    assert (sorted(first["re"]), first["rf"]) == ([["img", 2], ["link", 1], ["script", 1]], 1)
    assert first["e"] == []
    assert (second["re"], second["sq"]) == ([["script", 1]], 1)
    assert "rf" not in second
    assert "gone" not in json.dumps([first, second])


async def test_a_static_page_takes_the_identity_of_its_first_own_answer(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    """As from a CDN: the document says nothing, the API that it calls does."""
    site.headers = {"cache-control": "public, max-age=600"}
    site.attributes = 'data-app="shop" data-version="0.1.0" data-track="stable"'
    for path, version in (("/api/first", "1.3.0"), ("/api/second", "1.2.0")):
        timing = f'db;dur=3, version;desc="{version}", track;desc="canary"'
        site.answers[path] = (200, {"content-type": "application/json", "server-timing": timing}, b"{}")
    site.answers["/api/silent"] = (200, {"server-timing": "db;dur=3"}, b"{}")
    page = await context.new_page()
    await page.goto(f"{site.url}/static")
    await page.evaluate(
        """async () => {
          for (const path of ['/api/silent', '/api/first', '/api/second']) await (await fetch(path)).text();
          // The app may empty the list: what was found stays.
          const entries = () => performance.getEntriesByType('resource');
          const seen = () => entries().some(({name}) => name.endsWith('second'));
          await new Promise((done) => new PerformanceObserver(() => seen() && done())
            .observe({type: 'resource', buffered: true}));
        }"""
    )
    await hide(page)
    await page.evaluate("performance.clearResourceTimings(); rolloutobs.event('checkout')")
    await page.close()
    beacons = await fence(context, site, recorder)
    assert [(beacon["ver"], beacon["trk"]) for beacon in beacons] == [("1.3.0", "canary")] * 2


async def test_other_peoples_answers_say_nothing_about_this_page(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    """A third party with Timing-Allow-Origin shows its own Server-Timing to us."""
    site.headers = {}
    site.attributes = 'data-app="shop" data-version="1.1.0"'
    other = site.url.replace("127.0.0.1", "localhost")
    allowed = {"access-control-allow-origin": "*", "timing-allow-origin": "*"}
    site.answers["/widget"] = (200, {**allowed, "server-timing": 'version;desc="77"'}, b"{}")
    page = await context.new_page()
    await page.goto(f"{site.url}/static")
    await page.evaluate("async (url) => { await (await fetch(url)).text() }", f"{other}/widget")
    await page.close()
    (beacon,) = await fence(context, site, recorder)
    assert beacon["ver"] == "1.1.0"


async def test_a_signed_token_takes_the_place_of_version_and_track(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    site.headers["server-timing"] = f'view;desc="abc-DEF_123", traceparent;desc="{TRACEPARENT}"'
    page = await context.new_page()
    await page.goto(f"{site.url}/signed")
    await page.close()
    beacon = await recorder.beacon(lambda beacon: beacon["rt"] == "/signed")
    assert (beacon["tk"], beacon["tp"]) == ("abc-DEF_123", TRACEPARENT)
    assert not {"ver", "trk"} & beacon.keys()


async def test_a_page_from_a_service_worker_belongs_to_who_made_it(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    worker = """
      addEventListener('install', (event) => event.waitUntil(
        caches.open('pages').then((cache) => cache.add('/offline')).then(() => skipWaiting())));
      addEventListener('activate', (event) => event.waitUntil(clients.claim()));
      addEventListener('fetch', (event) => {
        if (event.request.mode === 'navigate') event.respondWith(caches.match('/offline'));
      });"""
    site.answers["/worker.js"] = (200, {"content-type": "text/javascript"}, worker.encode())
    site.attributes = 'data-app="shop" data-version="1.2.0" data-track="canary"'
    page = await context.new_page()
    await page.goto(f"{site.url}/install")
    await page.evaluate(
        """async () => {
          const controlled = new Promise((done) =>
            navigator.serviceWorker.addEventListener('controllerchange', () => done()));
          await navigator.serviceWorker.register('/worker.js');
          if (!navigator.serviceWorker.controller) await controlled;
        }"""
    )
    # The server has moved on; the worker still shows what it has kept.
    site.headers["server-timing"] = 'version;desc="2.0.0", track;desc="stable"'
    await page.goto(f"{site.url}/kept")
    assert await page.evaluate("performance.getEntriesByType('navigation')[0].workerStart") > 0
    # While the page is there: what is sent as it goes has to get through the worker, which may go first.
    await hide(page)
    beacon = await recorder.beacon(lambda beacon: beacon["rt"] == "/kept")
    assert (beacon["ver"], beacon["trk"]) == ("1.2.0", "canary")
    await page.close()


@pytest.mark.parametrize("share", [0.4, 0.6])
async def test_a_sample_of_the_views_says_how_large_it_is(
    context: BrowserContext, site: Site, recorder: Recorder, share: float
) -> None:
    page = await context.new_page()
    await page.add_init_script("Math.random = () => 0.5")
    site.attributes = f'data-app="shop" data-sample="{share}"'
    await page.goto(f"{site.url}/sampled")
    await page.evaluate("rolloutobs.event('checkout')")
    await page.close()
    site.attributes = 'data-app="shop"'
    beacons = await fence(context, site, recorder)
    # One that is left out must not look like a view without errors.
    assert [beacon["sr"] for beacon in beacons] == ([share] if share > 0.5 else [])


async def test_a_driven_browser_says_so(context: BrowserContext, site: Site, recorder: Recorder) -> None:
    page = await context.new_page()
    await page.add_init_script("Object.defineProperty(navigator, 'webdriver', {value: true})")
    await page.goto(f"{site.url}/driven")
    await page.close()
    beacon = await recorder.beacon(lambda beacon: beacon["rt"] == "/driven")
    assert beacon["wd"] == 1


async def test_the_page_of_the_tutorial_works(
    context: BrowserContext, site: Site, recorder: Recorder
) -> None:
    site.script = "data:text/javascript,"
    site.body = """<script>addEventListener('load', () => setTimeout(async () => {
      const loadTime = performance.timing.loadEventEnd - performance.timing.navigationStart;
      const answer = await fetch('/api/metrics', {method: 'POST',
        body: JSON.stringify({metric: 'page_load_time', value: loadTime, version: '1.2.0'})});
      window.answered = answer.status;
    }))</script>"""
    page = await context.new_page()
    await page.goto(f"{site.url}/tutorial")
    await page.wait_for_function("window.answered")
    assert await page.evaluate("window.answered") == 204
    assert recorder.value("rum_page_load_seconds_count", app="shop", version="1.2.0") == 1
