"""Real servers on loopback for the end-to-end tests."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from examples.demo.processes import Processes, free_ports


class Shop:
    """The shop in two versions, with its inventory: three uvicorn processes."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.inventory, self.stable, self.canary = (f"http://127.0.0.1:{p}" for p in free_ports(3))

    async def start(self, environ: Mapping[str, str] | None = None) -> None:
        """Start all three with `environ` on top of the test's own and wait until they answer."""
        # The payment provider's bad moments would fail a test now and then.
        common = {"INVENTORY_URL": self.inventory, "SHOP_PAYMENT_ERRORS": "0", **(environ or {})}
        rows = (
            ("inventory", "examples.shop.inventory:app", self.inventory, "3.0.2", ""),
            ("stable", "examples.shop.app:app", self.stable, "1.1.0", "stable"),
            ("canary", "examples.shop.app:app", self.canary, "1.2.0", "canary"),
        )
        for name, app, url, version, track in rows:
            identity = {"ROLLOUTOBS_VERSION": version, "ROLLOUTOBS_TRACK": track}
            argv = [sys.executable, "-m", "uvicorn", app, "--port", url.rpartition(":")[2], "--no-access-log"]
            await self.processes.start(name, argv, {**common, **identity})
        for name, _, url, _, _ in rows:
            await self.processes.wait_for_http(name, f"{url}/healthz")


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    """Children that are stopped when the test ends, with their logs in the test's folder."""
    async with Processes(tmp_path / "logs") as running:
        yield running


@pytest.fixture
def shop(processes: Processes) -> Shop:
    """The shop in two versions, not started yet."""
    return Shop(processes)
