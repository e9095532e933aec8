"""The dashboards on a real Prometheus that scrapes shop, collector, check and gate: no panel is empty."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from examples.demo.processes import Processes, free_ports
from k8s.source import files
from k8s.source.dashboards import BOARDS
from k8s.source.dashboards.model import Board
from rolloutobs.analysis.presets import PRESETS
from rolloutobs.identity import Track
from synthetic.journey import StepResult
from synthetic.metrics import CheckMetrics, serve
from synthetic.result import CheckOutcome, Fault, Pair, TrackRun
from synthetic.target import Proof, Proven, Target
from tests.e2e.conftest import Shop
from tests.rules.test_dashboards import filled

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: rollout
    static_configs: [{{targets: [{targets}]}}]
"""
VARIABLES = {
    "$__rate_interval": "20s", "$__range": "1m", "$window": "20s", "$namespace": ".*", "$app": "shop",
    "$version": ".*", "$track": ".*",
}  # fmt: skip
FULL = ("version-comparison", "real-users", "synthetic")
STABLE = Target("http://stable", Track.STABLE, "1.1.0")
CANARY = Target("http://canary", Track.CANARY, "1.2.0")
POLICY = {
    # Ratios within seconds, and a gate that does not end while the test goes on.
    "tick_seconds": 2, "phi_seconds": 2, "warmup_seconds": 1, "restart_seconds": 0,
    "minimum_seconds": 3000, "deadline_seconds": 3600,
    "signals": {name: {"on_failure": "log"} for name in PRESETS["default"]},
}  # fmt: skip
# Generous: other tests use the same cores.
PATIENCE_SECONDS = 120


def queries(board: Board) -> list[str]:
    return [
        filled(q.expression, VARIABLES) for row in board.rows for panel in row.panels for q in panel.queries
    ]


def run(target: Target, outcome: CheckOutcome, proven: Proven = Proven.RIGHT) -> TrackRun:
    step = StepResult("pay", 0.4, "" if outcome is CheckOutcome.PASS else "no receipt")
    proof = Proof(proven, target.version, "")
    return TrackRun(target, outcome, 0.7, (step,), proof, Fault.NONE, "", "", ended=time.time())


def publish(metrics: CheckMetrics) -> None:
    """One pair that both pass, and one that the canary fails."""
    passed, failed = CheckOutcome.PASS, CheckOutcome.FAIL
    metrics.publish(Pair(0.0, Track.CANARY, run(STABLE, passed), run(CANARY, passed)))
    metrics.publish(Pair(0.0, Track.CANARY, run(STABLE, passed), run(CANARY, failed)))


def beacons(number: int) -> list[dict[str, Any]]:
    """Views of both versions; those of the canary have everything wrong that a view can have."""
    vitals = [["lcp", 900], ["inp", 80], ["cls", 0.02], ["fcp", 500], ["ttfb", 90], ["load", 1200]]
    view = {"app": "shop", "rt": "/", "nav": "navigate", "m": vitals}
    bad: dict[str, Any] = {
        "m": [["lcp", 5000], *vitals[1:]], "e": [{"t": "TypeError", "m": "x is null", "s": "app.js:1:2"}],
        "fe": 1, "re": [["script", 1]], "rf": 1, "c": [["checkout", 0]],
    }  # fmt: skip
    return [
        {**view, "pv": f"s{number}", "ver": "1.1.0", "trk": "stable", "c": [["checkout", 1]]},
        {**view, "pv": f"c{number}", "ver": "1.2.0", "trk": "canary", **(bad if number % 2 else {})},
    ]


async def use(shop: Shop, collector: str, metrics: CheckMetrics, number: int) -> None:
    """Some seconds' worth of users and checks."""
    # A server ends the connection of a request that has raised; the next one must not run into that.
    async with httpx2.AsyncClient(trust_env=False, timeout=20, headers={"connection": "close"}) as client:
        for url in (shop.stable, shop.canary):
            for _ in range(8):
                await client.get(f"{url}/catalog")
                await client.post(f"{url}/checkout", json={"lines": [{"product": 3}]})
        for each in range(4):
            for body in beacons(4 * number + each):
                assert (await client.post(f"{collector}/b", json=body)).status_code == 204
    publish(metrics)


async def empty(client: httpx2.AsyncClient, wanted: list[str]) -> list[str]:
    """Return the queries that still return nothing."""
    found = []
    for query in wanted:
        answer = await client.get("/api/v1/query", params={"query": query})
        answer.raise_for_status()
        if not answer.json()["data"]["result"]:
            found.append(query)
    return found


@pytest.mark.prometheus
async def test_no_panel_is_empty(processes: Processes, shop: Shop, tmp_path: Path) -> None:
    await shop.start({"SHOP_ERRORS": "POST /checkout=0.5"})
    collector_port, gate_port, port = free_ports(3)
    collector, url = f"http://127.0.0.1:{collector_port}", f"http://127.0.0.1:{port}"
    python = [sys.executable, "-m"]
    await processes.start(
        "collector",
        [*python, "rum_collector", "--port", str(collector_port), "--last-scrape-seconds", "0"],
        {},
    )
    await processes.wait_for_http("collector", f"{collector}/healthz")
    policy = tmp_path / "policy.yaml"
    policy.write_text(json.dumps(POLICY), "utf-8")
    gate = [
        *python, "rolloutobs.cli", "gate", "--app", "shop", "--scrape", shop.stable, "--scrape", shop.canary,
        "--policy", str(policy), "--interval", "1s", "--listen", f"127.0.0.1:{gate_port}", "--quiet",
    ]  # fmt: skip
    await processes.start("gate", gate, {})
    await processes.wait_for_http("gate", f"http://127.0.0.1:{gate_port}/metrics")

    metrics = CheckMetrics("shop", "checkout", (STABLE, CANARY))
    with serve(metrics, "127.0.0.1", 0) as checks:
        scraped = (shop.stable, shop.canary, collector, f"http://127.0.0.1:{gate_port}", checks())
        targets = ", ".join(f'"{u.removeprefix("http://").removesuffix("/metrics")}"' for u in scraped)
        config = tmp_path / "prometheus.yml"
        rules = files.FOLDER / "rules" / "recording.yaml"
        config.write_text(CONFIG.format(rules=rules, targets=targets), "utf-8")
        argv = [
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        await processes.start("prometheus", argv, {})
        await processes.wait_for_http("prometheus", f"{url}/-/ready")

        wanted = [query for board in BOARDS if board.name in FULL for query in queries(board)]
        deadline, number = time.monotonic() + PATIENCE_SECONDS, 0
        async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
            missing = wanted
            while missing and time.monotonic() < deadline:
                await use(shop, collector, metrics, number)
                number += 1
                missing = await empty(client, missing)
                await asyncio.sleep(0.5)
            assert missing == []
            # All the other dashboards' queries are at least answered.
            others = [query for board in BOARDS if board.name not in FULL for query in queries(board)]
            await empty(client, others)
