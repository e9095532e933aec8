"""The journeys that matter in the shop: find a product, put it into the cart, pay.

Synthetic checks walk them against both tracks; the demo's visitors walk the first one as users.
"""

from __future__ import annotations

from typing import Any

from synthetic.journey import journey

__all__ = ["checkout", "order", "read_product"]


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


@journey(tags=("api",))
async def read_product(api: Any, shop: Any) -> None:
    """Read a product without a browser; it has to come in time.

    Args:
        api: an ``httpx2.AsyncClient`` of the target.
        shop: as above.
    """
    async with shop.step("read a product", budget="3s"):
        found = (await api.get("/product/3")).raise_for_status().json()
        assert found["left"] > 0, "the hand grinder is sold out"


@journey(tags=("api",))
async def order(api: Any, shop: Any) -> None:
    """Order a product without a browser.

    Args:
        api: an ``httpx2.AsyncClient`` of the target.
        shop: as above.
    """
    line = {"product": 3, "quantity": 1}
    async with shop.step("add to cart"):
        (await api.post("/cart", json=line)).raise_for_status()
    async with shop.step("pay"):
        (await api.post("/checkout", json={"lines": [line]})).raise_for_status()
