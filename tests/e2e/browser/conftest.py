"""A browser, a collector that remembers, and a site, for the tests of the browser script."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, async_playwright

from rum_collector.bundle import Bundle
from synthetic.browser import find_chromium
from synthetic.settings import BrowserSettings
from tests.e2e.browser.site import FLAGS, Recorder, Site, serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    assert Bundle.read() is not None, "run `make install`: the browser script is not built"
    async with async_playwright() as playwright:
        settings = BrowserSettings.from_env(os.environ)
        chromium = find_chromium(settings, playwright.chromium.executable_path)
        launched = await playwright.chromium.launch(
            executable_path=chromium, args=FLAGS, ignore_default_args=["--disable-back-forward-cache"]
        )
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="module")
async def recorder() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    async with serving(recorder) as recorder.url:
        yield recorder


@pytest_asyncio.fixture(loop_scope="module")
async def site(recorder: Recorder) -> AsyncIterator[Site]:
    site = Site(recorder)
    async with serving(site) as site.url:
        yield site
        # A server waits for its answers.
        site.held.set()


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context()
    yield context
    await context.close()
