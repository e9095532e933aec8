"""Real visitors of the shop: Chromium walks the checkout journey again and again, unmarked, as users do.

python -m examples.demo.visitors --url http://127.0.0.1:8000 --rate 1 --duration 60
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random

from examples.shop.journey import checkout
from synthetic.browser import open_browser, visit

log = logging.getLogger("visitors")


PATIENCE_SECONDS = 8.0
"""A visitor whose page does not get on leaves after this; the beacon tells why."""


async def main(url: str, rate: float, duration: float) -> None:
    """Start visits at `rate` a second for `duration` seconds, at most six at a time."""
    slots = asyncio.Semaphore(6)
    loop = asyncio.get_running_loop()
    end = loop.time() + duration
    async with open_browser() as browser, asyncio.TaskGroup() as visits:

        async def one() -> None:
            async with slots:
                seen = await visit(browser, url, checkout, marked=False, timeout_seconds=PATIENCE_SECONDS)
                log.info("%s after %.1f s %s", seen.fault.value, seen.seconds, seen.error)

        while loop.time() < end:
            visits.create_task(one())
            await asyncio.sleep(random.expovariate(rate))


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
