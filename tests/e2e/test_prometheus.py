"""A real Prometheus scrapes both versions of the shop and answers the questions that everybody asks."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import httpx2
import pytest

from examples.demo.processes import Processes, free_ports
from tests.e2e.conftest import Shop

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: shop
    static_configs:
      - targets: [{targets}]
"""
RATE = "sum by (version) (rate(http_requests_total[1m]))"
P99 = "histogram_quantile(0.99, sum by (version, le) (rate(http_request_duration_seconds_bucket[1m])))"
BUSINESS = "sum by (app, version, track) (checkouts_completed_total)"


async def _ask(client: httpx2.AsyncClient, query: str, by: str = "version") -> dict[str, float]:
    answer = await client.get("/api/v1/query", params={"query": query})
    answer.raise_for_status()
    return {row["metric"].get(by, ""): float(row["value"][1]) for row in answer.json()["data"]["result"]}


async def _ask_until_both(client: httpx2.AsyncClient, query: str) -> dict[str, float]:
    found: dict[str, float] = {}
    async with asyncio.timeout(45):
        while not (
            set(found) == {"1.1.0", "1.2.0"} and all(v > 0 and math.isfinite(v) for v in found.values())
        ):
            await asyncio.sleep(0.5)
            found = await _ask(client, query)
    return found


async def _shop_around(url: str) -> None:
    async with httpx2.AsyncClient(base_url=url, timeout=10) as client:
        for _ in range(15):
            await client.get("/catalog")
            await client.get("/product/3")
            await client.post("/checkout", json={"lines": [{"product": 3}]})


@pytest.mark.prometheus
async def test_a_real_prometheus_answers_by_version(processes: Processes, shop: Shop, tmp_path: Path) -> None:
    await shop.start()
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    config = tmp_path / "prometheus.yml"
    targets = ", ".join(f'"{u.removeprefix("http://")}"' for u in (shop.stable, shop.canary))
    config.write_text(CONFIG.format(targets=targets), encoding="utf-8")
    argv = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]  # fmt: skip
    await processes.start("prometheus", argv, {})
    await processes.wait_for_http("prometheus", f"{url}/-/ready")

    async with httpx2.AsyncClient(base_url=url, timeout=10) as client:
        up: dict[str, float] = {}
        async with asyncio.timeout(30):
            while sum(up.values()) < 2:
                await asyncio.sleep(0.2)
                up = await _ask(client, "up", by="instance")
        # Only after the first scrape: a counter that a scrape has never seen at zero has no rate yet.
        await asyncio.gather(_shop_around(shop.stable), _shop_around(shop.canary))
        await _ask_until_both(client, RATE)
        quantiles = await _ask_until_both(client, P99)
        assert all(0.005 < q < 11 for q in quantiles.values())
        checkouts = await _ask_until_both(client, BUSINESS)
        assert all(1 <= c <= 15 for c in checkouts.values())
        rows = (await client.get("/api/v1/query", params={"query": BUSINESS})).json()["data"]["result"]
        labels = {(row["metric"]["app"], row["metric"]["version"], row["metric"]["track"]) for row in rows}
        assert labels == {("shop", "1.1.0", "stable"), ("shop", "1.2.0", "canary")}
        unmatched = await _ask(
            client, 'count by (route) (http_requests_total{route=~"/product/[0-9].*"})', by="route"
        )
        assert unmatched == {}, "a raw path became a label"
