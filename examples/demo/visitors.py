"""Real visitors of the shop: Chromium walks the checkout journey again and again, unmarked, as users do.

    python -m examples.demo.visitors --url http://127.0.0.1:8000 --rate 1 --duration 60

A visit in a tab that is kept costs a third of the processor time of one in a context of its own, which
matters when the browser, the shop and the load share two cores. Without its cookies it is a new visitor all
the same.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
from typing import Any

from examples.shop.journey import checkout
from synthetic.browser import open_browser
from synthetic.journey import Walk

log = logging.getLogger("visitors")

TABS = 3
PATIENCE_SECONDS = 3.0
"""Who sees nothing happen for so long leaves; the beacon tells why."""


async def main(url: str, rate: float, duration: float) -> None:
    """Visit `url` about `rate` times a second for `duration` seconds; a slow machine makes it fewer."""
    end = asyncio.get_running_loop().time() + duration
    async with open_browser() as browser, asyncio.TaskGroup() as tabs:
        for _ in range(TABS):
            tabs.create_task(_visit_again_and_again(browser, url, rate / TABS, end))


async def _visit_again_and_again(browser: Any, url: str, rate: float, end: float) -> None:
    loop = asyncio.get_running_loop()
    context = await browser.new_context()
    context.set_default_timeout(PATIENCE_SECONDS * 1000)
    # A browser that says it is driven counts as a bot, and these are to be people.
    await context.add_init_script("delete Object.getPrototypeOf(navigator).webdriver")
    page = await context.new_page()
    due = loop.time()
    while due < end:
        due = max(due + random.expovariate(rate), loop.time())
        await asyncio.sleep(due - loop.time())
        await context.clear_cookies()
        try:
            await checkout(page, Walk(url, "", page))
        except Exception as problem:
            log.info("left: %s", str(problem).partition("\n")[0])
        # Hides the page, which sends its beacon.
        await page.goto("about:blank")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True)
    parser.add_argument("--rate", type=float, default=1.0, help="visits a second (default: 1)")
    parser.add_argument("--duration", type=float, default=60.0, help="seconds (default: 60)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(options.url, options.rate, options.duration))
