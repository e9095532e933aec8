"""Size, requests, bytes and evaluation time of browser agents on the same page: `make bench-rum`.

Sizes are brotli 11 of one minified bundle. Evaluation is the CPU time of the main thread in the script's
EvaluateScript (compiling and running it once, in a context without caches); agents take turns, and the
quickest of all rounds counts, as the one that others have disturbed least. A page view is: load, two errors,
one click, one call, one route change, leaving; its collector is on another origin.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import brotli
from playwright.async_api import Browser, async_playwright

from bench.rum.bundles import bundled
from bench.rum.server import Collector, Pages, Traffic, serving
from rum_collector.bundle import BUNDLE_PATH, FULL_BUNDLE_PATH
from synthetic.browser import find_chromium
from synthetic.settings import BrowserSettings

DOCS = Path(__file__).parents[2] / "docs" / "rum.md"
BEGIN, END = "<!-- bench:rum -->", "<!-- /bench -->"
BASE = "web-vitals.js"
TITLES = {
    BASE: "web-vitals 6, five vitals, one beacon",
    "rolloutobs.js": "**rolloutobs**",
    "rolloutobs-full.js": "**rolloutobs, full**",
    "opentelemetry.js": "OpenTelemetry browser events",
    "faro.js": "Grafana Faro",
    "sentry.js": "Sentry with tracing",
}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
QUIET_MILLISECONDS = 6000
"""Longer than any of these agents holds back what it has."""


@dataclass
class Measured:
    """What is known of one agent."""

    brotli_bytes: int
    milliseconds: list[float] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)


async def main(rounds: int, write: bool) -> None:
    """Measure and print the table; tests/e2e/browser/test_evaluation.py holds the limit."""
    folder = bundled()
    scripts = {path.name: path for path in (*folder.glob("*.js"), BUNDLE_PATH, FULL_BUNDLE_PATH)}
    agents = {name: Measured(len(brotli.compress(scripts[name].read_bytes()))) for name in TITLES}
    collector = Collector()
    pages = Pages(scripts, collector)
    async with serving(collector), serving(pages), async_playwright() as playwright:
        path = find_chromium(BrowserSettings.from_env(os.environ), playwright.chromium.executable_path)
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        for name, measured in agents.items():
            measured.traffic = await _page_view(browser, pages, name)
        for number in range(rounds + 1):
            # The first one warms the machine, not the scripts.
            await _round(browser, pages, agents if number else {name: Measured(0) for name in agents})
        await browser.close()
    table = _table(agents)
    print(table)
    if write:
        _write(table)


async def _page_view(browser: Browser, pages: Pages, name: str) -> Traffic:
    """Let a visitor do a little of everything, and return what the agent sent."""
    pages.collector.traffic = traffic = Traffic()
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(f"{pages.url}/page/{name}?token=secret")
    await page.evaluate("setTimeout(() => fail('one')); setTimeout(() => fail('two'))")
    await page.click("button")
    await page.evaluate("fetch('/api/cart').then((answer) => answer.json())")
    await page.evaluate("history.pushState({}, '', '/page/next')")
    await page.wait_for_timeout(QUIET_MILLISECONDS)
    await page.goto("about:blank")
    await page.wait_for_timeout(1000)
    await context.close()
    pages.collector.traffic = Traffic()
    return traffic


async def _round(browser: Browser, pages: Pages, agents: dict[str, Measured]) -> None:
    """Evaluate each agent once, in random order."""
    taken = {}
    for name in random.sample(list(agents), len(agents)):
        context = await browser.new_context()
        page = await context.new_page()
        await browser.start_tracing(page=page, categories=["devtools.timeline"])
        await page.goto(f"{pages.url}/page/{name}")
        trace: dict[str, Any] = json.loads(await browser.stop_tracing())
        await context.close()
        (taken[name],) = [
            event["tdur"] / 1000
            for event in trace["traceEvents"]
            if event["name"] == "EvaluateScript" and event["args"]["data"]["url"] == f"{pages.url}/{name}"
        ]
    for name, milliseconds in taken.items():
        agents[name].milliseconds.append(milliseconds)


def _table(agents: dict[str, Measured]) -> str:
    lines = [
        "| agent | brotli | x | evaluation, CPU | x | POSTs | preflights | bytes sent |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base, quickest = agents[BASE].brotli_bytes, min(agents[BASE].milliseconds)
    for name, measured in sorted(agents.items(), key=lambda item: item[1].brotli_bytes):
        sent, taken = measured.traffic, min(measured.milliseconds)
        lines.append(
            f"| {TITLES[name]} | {measured.brotli_bytes:,} | {measured.brotli_bytes / base:.1f} "
            f"| {taken:.1f} ms | {taken / quickest:.1f} "
            f"| {sent.posts} | {sent.preflights} | {sent.body_bytes:,} |"
        )
    return "\n".join(lines)


def _write(table: str) -> None:
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCS.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="evaluations of each agent (default: 20)")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/rum.md")
    options = parser.parse_args()
    asyncio.run(main(options.rounds, options.docs))
