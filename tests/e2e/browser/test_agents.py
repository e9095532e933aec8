"""Grafana Faro and OpenTelemetry's browser packages, as npm has them, in a real Chromium.

What they send is theirs; what becomes of it is compared as a whole. A page is loaded, fails once, is clicked,
makes one call of its own and is left. The collector is on another origin.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from bench.rum.bundles import bundled
from rolloutobs import semconv
from rum_collector.settings import Settings
from tests.e2e.browser.site import DEADLINE_SECONDS, Recorder, Site, hide, observed, serving
from tests.e2e.test_collector import Receiver

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

BODY = """<h1>Bean and Kettle</h1><button>Buy</button><script>
  const fail = () => { throw new TypeError('no cart for jo@example.com') };
  const work = (end) => { while (performance.now() < end); };
  document.querySelector('button').onclick = () => work(performance.now() + 150);
</script>"""
ERROR = "TypeError-b1e0cacf"
CALL = b"/api/cart"
STAMP = {semconv.ATTR_VERSION: "1.2.0", semconv.ATTR_TRACK: "canary"}
Sent = Callable[[str, bytes], bool]
"""Whether a body that was posted to a path is the one."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def collector(receiver: Receiver) -> AsyncIterator[Recorder]:
    collector = Recorder(Settings(count_bots=True, forward_url=f"http://127.0.0.1:{receiver.port}"))
    async with serving(collector) as collector.url:
        yield collector
    await collector.collector.upkeep.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(collector: Recorder) -> AsyncIterator[Site]:
    folder = bundled()
    shop = Site(collector)
    shop.headers = {}
    shop.answers["/api/cart"] = (200, {"content-type": "application/json"}, b"{}")
    for name in ("faro-tracing", "opentelemetry-all"):
        script = (folder / f"{name}.js").read_bytes()
        shop.answers[f"/{name}.js"] = (200, {"content-type": "text/javascript"}, script)
        page = f"<!doctype html><script>window.COLLECTOR = '{collector.url}'</script>"
        page += f'<script src="/{name}.js"></script>{BODY}'
        shop.answers[f"/page/{name}"] = (200, {"content-type": "text/html"}, page.encode())
    async with serving(shop) as shop.url:
        yield shop


async def visit(browser: Browser, shop: Site, agent: str, spans: Sent, also: str = "") -> None:
    """Let a visitor do a little of everything, with a secret in the address, and leave when all is out."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(f"{shop.url}/page/{agent}?token=secret")
    await page.evaluate("setTimeout(fail)")
    await page.click("button")
    await observed(page, "{type: 'event', durationThreshold: 104, buffered: true}")
    await page.evaluate(f"fetch('/api/cart').then((answer) => answer.json()); {also}")
    # Both send when the page is hidden; what needs a preflight then does not outlive its page.
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not posted(shop.collector, spans):
            await hide(page)
            await asyncio.sleep(0.1)
    # The preflight is known by now: the last interaction arrives from a page that is gone.
    await page.goto("about:blank")
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not posted(shop.collector, lambda _, body: b'"inp"' in body):
            await asyncio.sleep(0.02)
    await context.close()


def posted(collector: Recorder, wanted: Sent) -> bool:
    """Return whether the collector was sent what is `wanted`."""
    return any(wanted(path, body) for _, path, _, body in collector.posts())


def counted(collector: Recorder, app: str, route: str) -> dict[str, float]:
    """Return what was counted of an app's canary on a route: names with what else their labels say.

    A vital that OpenTelemetry sends alone says of no page where it was measured.
    """
    found: dict[str, float] = {}
    for metric in collector.collector.ingest.instruments.collect():
        for sample in metric.samples:
            labels = {"route": route} | dict(sample.labels)
            if sample.name.startswith("rum_js_error_"):
                labels["track"] = "canary"
            known = [labels.pop(name, "") for name in ("app", "version", "track", "route")]
            if (
                known != [app, "1.2.0", "canary", route]
                or not sample.value
                or labels.keys() & {"le", "source"}
            ):
                continue
            # How fast it was depends on who else uses the machine.
            said = [value for name, value in labels.items() if name not in ("device", "rating")]
            key = " ".join((sample.name, *said))
            found[key] = found.get(key, 0.0) + sample.value
    return {name: value for name, value in found.items() if not name.endswith("_sum")}


def vitals(*names: str) -> dict[str, float]:
    """Return what is counted where each of these was seen once, good or not."""
    units = {name: "" if name == "cls" else "_seconds" for name in names}
    return {f"rum_{name}{unit}_count": 1.0 for name, unit in units.items()} | {
        f"rum_vitals_total {name}": 1.0 for name in names if name != "page_load"
    }


def failed(page: str) -> dict[str, float]:
    """Return what is counted of one view with one error."""
    return {
        "rum_page_views_total navigate": 1.0,
        "rum_views_with_errors_total": 1.0,
        f"rum_js_errors_total {ERROR}": 1.0,
        f"rum_js_error_info {ERROR} TypeError: no cart for #": 1.0,
        f"rum_js_error_location_info {ERROR} {page}:2:30": 1.0,
    }


async def forwarded(receiver: Receiver, app: str, spans: set[str]) -> str:
    """Return the message of the error that was sent on, once these spans were, too: all of them stamped."""
    names: set[str] = set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (logs := _of(receiver, "/v1/logs", "resourceLogs", app)) or names != spans:
            await asyncio.sleep(0.02)
            found = [span for s in _of(receiver, "/v1/traces", "resourceSpans", app) for span in s["spans"]]
            names = {span["name"] for span in found}
    (record,) = [record for scope in logs for record in scope["logRecords"]]
    for holder in (record, *found):
        assert STAMP.items() <= _said(holder).items()
    assert _said(record)[semconv.ATTR_ERROR_FINGERPRINT] == ERROR
    assert not re.search("secret|jo@", json.dumps(receiver.received))
    message: str = _said(record)["exception.message"]
    return message


def _of(receiver: Receiver, path: str, groups: str, app: str) -> list[dict[str, Any]]:
    return [
        scope
        for body in receiver.received.get(path, ())
        for group in body[groups]
        if _said(group["resource"]).get("service.name") == app
        for key in ("scopeLogs", "scopeSpans")
        for scope in group.get(key, ())
    ]


def _said(holder: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: next(iter(pair["value"].values()), None) for pair in holder["attributes"]}


async def test_faro(browser: Browser, shop: Site, collector: Recorder, receiver: Receiver) -> None:
    await visit(browser, shop, "faro-tracing", lambda _, body: b'"resourceSpans"' in body, "converted()")
    assert await forwarded(receiver, "faro-shop", {"GET"}) == "no cart for #"
    assert counted(collector, "faro-shop", "/page/faro-tracing") == {
        **failed("faro-tracing"),
        **vitals("lcp", "inp", "cls", "fcp", "ttfb"),
        "rum_events_total checkout ok": 1.0,
    }


async def test_opentelemetry(browser: Browser, shop: Site, collector: Recorder, receiver: Receiver) -> None:
    await visit(browser, shop, "opentelemetry-all", lambda path, body: path == "/v1/traces" and CALL in body)
    names = {"documentLoad", "documentFetch", "resourceFetch", "GET"}
    assert await forwarded(receiver, "otel-shop", names) == "no cart for #"
    assert counted(collector, "otel-shop", "/page/opentelemetry-all") == {
        **failed("opentelemetry-all"),
        **vitals("lcp", "inp", "cls", "fcp", "ttfb", "page_load"),
    }
