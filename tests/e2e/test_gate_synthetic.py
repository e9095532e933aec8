"""The gate with synthetic checks before and beside it, on the real shop."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import httpx2

from tests.e2e.conftest import Shop

JOURNEYS = """
async def order(api, shop):
    async with shop.step("read the catalog"):
        products = (await api.get("/catalog")).raise_for_status().json()
    async with shop.step("order"):
        lines = [{"product": products[0]["id"]}]
        (await api.post("/checkout", json={"lines": lines})).raise_for_status()
"""
POLICY = """
alpha: 0.01
tick_seconds: 1
phi_seconds: 1
warmup_seconds: 0
clip_nats: 3.0
clip_refill: 3.0
signals:
  # Processes that share a busy machine with other tests differ by anything.
  latency: {required: "no", on_failure: log}
"""


async def use(shop: Shop) -> None:
    """Be a few users of both tracks, until cancelled."""
    async with httpx2.AsyncClient(timeout=60.0) as client:
        while True:
            for url in (shop.stable, shop.canary):
                await client.get(f"{url}/catalog")
            await asyncio.sleep(0.2)


class Watched:
    """A gate in a process of its own, on both tracks of the shop."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self.shop = shop
        self.json = folder / "verdict.json"
        self.did = folder / "did"
        self.policy = folder / "policy.yaml"
        self.policy.write_text(POLICY)
        self.journeys = folder / "journeys.py"
        self.journeys.write_text(JOURNEYS)
        self.checks = f"{self.journeys} --stable {shop.stable} --canary {shop.canary} --canary-version 1.2.0"

    async def start(self, *more: str, checks: str = "") -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rolloutobs.cli", "gate", "--app", "shop",
            "--scrape", self.shop.stable, "--scrape", self.shop.canary, "--interval", "1s",
            "--policy", str(self.policy), "--json", str(self.json),
            "--on-rollback", f"touch {self.did}", "--synthetic", checks or self.checks, *more,
            stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def run(self, *more: str, checks: str = "") -> tuple[int, dict[str, Any], str]:
        """Return the exit code, the verdict, and all that was printed."""
        process = await self.start(*more, checks=checks)
        try:
            out, err = await asyncio.wait_for(process.communicate(), 120)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        verdict = json.loads(self.json.read_text()) if self.json.exists() else {}
        return process.returncode or 0, verdict, (out + err).decode()


async def test_a_canary_that_fails_the_first_pairs_is_rolled_back_before_any_user(
    shop: Shop, tmp_path: Path
) -> None:
    await shop.start()
    watched = Watched(shop, tmp_path)
    code, _, printed = await watched.run(checks=f"{watched.checks} --only nothing")
    assert (code, watched.did.exists()) == (2, False)
    assert "no journey is left by --only" in printed

    broken = JOURNEYS.replace('"/checkout"', '"/checkout" if shop.track == "stable" else "/pay"')
    watched.journeys.write_text(broken)
    code, verdict, printed = await watched.run("--first-pairs", "2")
    assert (code, watched.did.exists()) == (1, True), printed
    assert verdict["reason"].startswith(
        "ROLLBACK by synthetic checks (the canary failed a journey that stable passed); the evidence by then"
    )
    assert "order: product after 2 pairs (2 canary failed)" in printed


async def test_pairs_beside_the_gate_are_a_signal(shop: Shop, tmp_path: Path) -> None:
    """Users see nothing wrong: the journey decides, which fails on the canary from the fourth pair on."""
    await shop.start()
    watched = Watched(shop, tmp_path)
    count = tmp_path / "count"
    watched.journeys.write_text(
        "from pathlib import Path\n"
        + JOURNEYS.replace(
            '    async with shop.step("order")',
            f"    seen = Path({str(count)!r})\n"
            '    if shop.track == "canary":\n'
            '        seen.write_text((seen.read_text() if seen.exists() else "") + "x")\n'
            "        assert len(seen.read_text()) <= 3\n"
            '    async with shop.step("order")',
        )
    )
    users = asyncio.create_task(use(shop))
    try:
        code, verdict, printed = await watched.run(
            "--first-pairs", "3", checks=f"{watched.checks} --every 200ms"
        )
    finally:
        users.cancel()
        await asyncio.wait([users])
    assert code == 1, printed
    assert (verdict["decision"], verdict["decided_by"]) == ("rollback", "journey")
    assert "order: pass after 3 pairs (3 pass)" in printed
    assert watched.did.exists()


async def test_a_gate_that_is_stopped_takes_its_checks_along(shop: Shop, tmp_path: Path) -> None:
    await shop.start()
    watched = Watched(shop, tmp_path)
    process = await watched.start("--first-pairs", "1", checks=f"{watched.checks} --every 200ms")
    try:
        async with asyncio.timeout(120):
            while b"pair 2: " not in await process.stderr.readline():
                assert process.returncode is None
            process.send_signal(signal.SIGTERM)
            rest = await process.stderr.read()
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    # Its end is the end of the pipe that both write to: the checks are gone, and told how they went.
    assert code == 3
    assert b"order: pass after " in rest
