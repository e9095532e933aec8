"""The dashboards on a real Prometheus that scrapes shop, collector, check, gate, cluster: none is empty."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric

from examples.demo.processes import Processes, free_ports
from k8s.source import files
from k8s.source.dashboards import BOARDS
from k8s.source.dashboards.model import Board
from k8s.source.rules import GROUPS, Recording
from rolloutobs.analysis.presets import PRESETS
from rolloutobs.cluster.figures import families
from rolloutobs.cluster.model import Phase, Pod, Replicas, Rollout, Workload, WorkloadKind
from rolloutobs.identity import Track
from synthetic.endpoint import serve
from synthetic.journey import StepResult
from synthetic.load.histogram import Histogram
from synthetic.load.metrics import LoadMetrics
from synthetic.load.results import Endpoint, LoadResult, TrackLoad
from synthetic.metrics import CheckMetrics
from synthetic.result import CheckOutcome, Fault, Pair, TrackRun
from synthetic.target import Proof, Proven, Target
from tests.e2e.conftest import Shop
from tests.rules.test_dashboards import filled

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}/recording.yaml", "{rules}/alerts.yaml"]
scrape_configs:
  - job_name: rollout
    honor_labels: true
    static_configs: [{{targets: [{targets}]}}]
  - job_name: pods
    honor_labels: true
    static_configs:
      - {{targets: ["{stable}"], labels: {{namespace: shop, pod: shop-a}}}}
      - {{targets: ["{canary}"], labels: {{namespace: shop, pod: shop-c}}}}
"""
# What kube-state-metrics, cAdvisor and the gate's server say of a rollout that is stuck.
KUBE = """
kube_deployment_spec_replicas{namespace="shop",deployment="shop"} 4
kube_deployment_status_replicas{namespace="shop",deployment="shop"} 5
kube_deployment_status_replicas_updated{namespace="shop",deployment="shop"} 1
kube_deployment_status_replicas_available{namespace="shop",deployment="shop"} 4
kube_deployment_status_condition{namespace="shop",deployment="shop",condition="Progressing",status="false"} 1
rolloutobs_gate_rollback_held{namespace="shop",app="shop",workload="shop",owner="team-shop"} 1
""" + "".join(
    f"""
kube_pod_created{{namespace="shop",pod="{pod}"}} 1.7e9
kube_pod_status_ready{{namespace="shop",pod="{pod}",condition="true"}} 1
kube_pod_container_status_restarts_total{{namespace="shop",pod="{pod}",container="app"}} 2
kube_pod_container_resource_limits{{namespace="shop",pod="{pod}",container="app",resource="memory"}} 2e8
container_memory_working_set_bytes{{namespace="shop",pod="{pod}",container="app",image="shop"}} 1e8
"""
    for pod in ("shop-a", "shop-c")
)
VARIABLES = {
    "$__rate_interval": "1m", "$__range": "1m", "$window": "1m", "$namespace": ".*", "$app": "shop",
    "$version": ".*", "$track": ".*",
}  # fmt: skip
STABLE = Target("http://stable", Track.STABLE, "1.1.0")
CANARY = Target("http://canary", Track.CANARY, "1.2.0")
POLICY = {
    # Ratios within seconds, and a gate that does not end while the test goes on.
    "tick_seconds": 2, "phi_seconds": 2, "warmup_seconds": 1, "restart_seconds": 0,
    "minimum_seconds": 3000, "deadline_seconds": 3600,
    "signals": {name: {"on_failure": "log"} for name in PRESETS["default"]},
}  # fmt: skip
# Generous: other tests use the same cores.
PATIENCE_SECONDS = 240


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


def put(load: LoadMetrics, number: int) -> None:
    """What a load has counted after so many seconds; some of the canary's requests fail."""
    tracks = []
    for target in (STABLE, CANARY):
        durations = Histogram()
        for _ in range(10 * number):
            durations.add(0.05)
        failures = number if target is CANARY else 0
        endpoints = (Endpoint("GET", "/", failures, durations),)
        proven = {Proven.WRONG.value: number}
        tracks.append(TrackLoad(target, endpoints, durations, durations, failures, proven))
    load.update(LoadResult(tuple(tracks), float(number), late=number))


def bare(url: str) -> str:
    """Return an address as Prometheus' configuration has it."""
    return url.removeprefix("http://").removesuffix("/metrics")


def watched() -> Workload:
    """A Deployment in the middle of a rollout that is stuck."""
    now = time.time()
    deployment = WorkloadKind.DEPLOYMENT
    rollout = Rollout("u", "shop", "shop", deployment, "shop", 2, "1.1.0", "1.2.0", now - 700, Phase.STUCK)
    pods = tuple(
        Pod("shop", name, name, "shop", version, track, "h", now, expected_track=Track.STABLE)
        for name, version, track in (("shop-a", "1.1.0", Track.STABLE), ("shop-c", "1.2.0", Track.CANARY))
    )
    return Workload(
        "u", "shop", "shop", WorkloadKind.DEPLOYMENT, "shop", "1.2.0", Replicas(4, 5, 1), (), pods, rollout
    )


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """Serve what `rolloutobs watch` exports, and what others say of the same cluster."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry = CollectorRegistry()
            registry.register(Watched())
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
            self.end_headers()
            self.wfile.write(generate_latest(registry) + KUBE.lstrip().encode())

        def log_message(self, *args: object) -> None:
            """Quiet."""

    class Watched:
        def collect(self) -> Iterator[Metric]:
            return families([watched()], time.time())

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def beacons(number: int) -> list[dict[str, Any]]:
    """Views of both versions; those of the canary have everything wrong that a view can have."""
    vitals = [["lcp", 900], ["inp", 80], ["cls", 0.02], ["fcp", 500], ["ttfb", 90], ["load", 1200]]
    view = {"app": "shop", "rt": "/", "nav": "navigate", "m": vitals, "xp": [3, 1]}
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
async def test_no_panel_and_no_recorded_series_is_empty(
    processes: Processes, shop: Shop, tmp_path: Path
) -> None:
    collector_port, gate_port, port = free_ports(3)
    collector, gate, url = (f"http://127.0.0.1:{each}" for each in (collector_port, gate_port, port))
    metrics, load = CheckMetrics("shop", "checkout", (STABLE, CANARY)), LoadMetrics("shop", "paired")
    serving = serve(metrics, "127.0.0.1", 0), serve(load, "127.0.0.1", 0)
    with serving[0] as checks, serving[1] as loads, cluster() as kube:
        config = tmp_path / "prometheus.yml"
        written = CONFIG.format(
            rules=files.FOLDER / "rules",
            targets=", ".join(f'"{bare(each)}"' for each in (collector, gate, checks.url, loads.url, kube)),
            stable=bare(shop.stable),
            canary=bare(shop.canary),
        )
        config.write_text(written, "utf-8")
        argv = [
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        # First, as it looks for targets after some seconds only.
        await processes.start("prometheus", argv, {})
        python = [sys.executable, "-m"]
        post = [*python, "rum_collector", "--port", str(collector_port), "--last-scrape-seconds", "0"]
        await processes.start("collector", post, {})
        policy = tmp_path / "policy.yaml"
        policy.write_text(json.dumps(POLICY), "utf-8")
        watch = [
            *python, "rolloutobs.cli", "gate", "--app", "shop",
            "--scrape", shop.stable, "--scrape", shop.canary,
            "--policy", str(policy), "--interval", "1s", "--listen", bare(gate), "--quiet",
        ]  # fmt: skip
        await shop.start({"SHOP_ERRORS": "POST /checkout=0.5"})
        await processes.start("gate", watch, {})
        await processes.wait_for_http("collector", f"{collector}/healthz")
        await processes.wait_for_http("gate", f"{gate}/metrics")
        await processes.wait_for_http("prometheus", f"{url}/-/ready")

        wanted = [query for board in BOARDS for query in queries(board)]
        wanted += [rule.name for group in GROUPS for rule in group.rules if isinstance(rule, Recording)]
        deadline, number = time.monotonic() + PATIENCE_SECONDS, 0
        async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
            missing = wanted
            while missing and time.monotonic() < deadline:
                await use(shop, collector, metrics, number)
                number += 1
                put(load, number)
                missing = await empty(client, missing)
                await asyncio.sleep(0.5)
            assert missing == []
            groups = (await client.get("/api/v1/rules")).json()["data"]["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}
            assert {rule["health"] for rule in rules} == {"ok"}
            assert {rule["name"] for rule in rules} == {r.name for group in GROUPS for r in group.rules}
