"""Opens one page with Playwright and nothing else, as its own introduction does; says so and ends."""

from __future__ import annotations

import asyncio
import sys

from playwright.async_api import async_playwright


async def main(url: str, chromium: str) -> None:
    """Open the page."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium, chromium_sandbox=False, args=["--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page()
        await page.goto(url)
        print("first page", flush=True)
        await browser.close()


asyncio.run(main(*sys.argv[1:]))
