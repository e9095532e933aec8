"""A first journey to begin with.

Belongs here: its text, and writing it where nothing is yet.
"""

from __future__ import annotations

from pathlib import Path

from rolloutobs.errors import ConfigurationError

__all__ = ["FIRST_JOURNEY", "write_first_journey"]

FIRST_JOURNEY = '''"""Journeys: what users do, walked on stable and canary at the same moment."""

from synthetic.journey import journey


@journey(tags=("smoke",))
async def start_page(page, shop):
    """Open the start page in a browser, and see that it has a title and something on it."""
    async with shop.step("open the start page"):
        await shop.open("/")
    async with shop.step("see something", budget="10s"):
        assert await page.title(), "the page has no title"
        await page.locator("body *:visible").first.wait_for()


@journey(tags=("smoke", "api"))
async def start_page_answers(api, shop):
    """Ask for the start page without a browser; api is an httpx2.AsyncClient."""
    async with shop.step("ask for the start page"):
        (await api.get("/")).raise_for_status()
'''


def write_first_journey(file: Path) -> None:
    """Write a first journey.

    Raises:
        ConfigurationError: there is something already, or it is no Python file.
        OSError: it cannot be written.
    """
    if file.suffix != ".py":
        raise ConfigurationError(f"the journey's file is {str(file)!r}; use a name that ends in .py")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(FIRST_JOURNEY)
    except FileExistsError:
        raise ConfigurationError(f"{file} exists already; choose another name") from None
