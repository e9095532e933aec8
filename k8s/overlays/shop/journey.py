"""The journey that matters most in the shop: find a product, put it into the cart, pay.

The synthetic check walks it against both tracks; the demo's visitors walk it as users.
"""

from __future__ import annotations

from typing import Any

__all__ = ["checkout"]


async def checkout(page: Any, shop: Any) -> None:
    """Find a product, add it to the cart and check out.

    Args:
        page: a Playwright page.
        shop: what `synthetic` hands to a journey: the target's URL and timed steps.
    """
    async with shop.step("find a product"):
        await shop.open("/")
        grinder = page.get_by_role("listitem").filter(has_text="Hand grinder")
        await grinder.wait_for()
    async with shop.step("add to cart"):
        await grinder.get_by_role("button", name="Add to cart").click()
        await page.get_by_text("1 in the cart").wait_for()
    async with shop.step("check out"):
        await page.get_by_role("button", name="Check out").click()
        await page.get_by_text("Thank you.").wait_for()
