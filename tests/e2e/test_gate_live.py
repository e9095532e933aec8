"""The gate on a live rollout, with a real Prometheus and two versions of the shop.

The gate is killed and started again, Prometheus is gone for a while, a pod is replaced, so that its counters
begin from zero, and the canary is promoted without a restart, by its label. A good version must be promoted
and stay; one that breaks must be rolled back, before and after.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from examples.demo.processes import Processes, free_ports

pytestmark = pytest.mark.prometheus

PODS = ("stable-1", "stable-2", "canary")
BROKEN = {"SHOP_ERRORS": "POST /checkout=0.6"}
LIMIT_SECONDS = 240.0
"""Of anything that is waited for; far beyond what it takes."""
POLICY: dict[str, Any] = {
    # A rollout in seconds, as in examples/demo/policy.yaml.
    # Nor may a test fail in one of a hundred runs.
    "alpha": 0.0001,
    "tick_seconds": 1,
    "phi_seconds": 2,
    "clip_nats": 2.0,
    "clip_refill": 1.0,
    "warmup_seconds": 1,
    "restart_seconds": 10,
    "deadline_seconds": 600,
    "signals": {
        "errors": {"margin_ratio": 2.0, "margin_difference": 0.1},
        # Pods that share a busy machine with other tests differ by anything.
        "latency": {"required": "no", "on_failure": "log"},
    },
}
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: shop
    static_configs:
      - targets: [{targets}]
"""


@dataclass
class Live:
    """A rollout of the shop: two old pods, a new one, users of all three, a Prometheus, and a gate."""

    processes: Processes
    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    starts: int = 0

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    @property
    def state(self) -> dict[str, Any]:
        """What the gate has written last."""
        path = self.folder / "state.json"
        return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}

    @property
    def labels(self) -> Path:
        """The labels of the new pod."""
        return self.folder / "labels"

    async def start(self) -> None:
        """Start everything but the gate, and wait until Prometheus has seen every pod."""
        names = (*PODS, "inventory", "prometheus")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.labels.write_text('track="canary"\n', encoding="utf-8")
        await self._uvicorn("inventory", "examples.shop.inventory:app", {"ROLLOUTOBS_VERSION": "3.0.2"})
        for name in PODS:
            await self.start_pod(name)
        targets = ", ".join(f'"127.0.0.1:{self.ports[name]}"' for name in PODS)
        (self.folder / "prometheus.yml").write_text(CONFIG.format(targets=targets), encoding="utf-8")
        await self.start_prometheus()
        for name in PODS:
            await self.processes.wait_for_http(name, f"{self.url(name)}/healthz")
        await self.until(self._is_scraped)

    async def start_pod(self, name: str, faults: dict[str, str] | None = None) -> None:
        environ = {"INVENTORY_URL": self.url("inventory"), "ROLLOUTOBS_LABELS_FILE": "", **(faults or {})}
        environ["ROLLOUTOBS_VERSION"] = "1.2.0" if name == "canary" else "1.1.0"
        if name == "canary":
            environ["ROLLOUTOBS_LABELS_FILE"] = str(self.labels)
        else:
            environ["ROLLOUTOBS_TRACK"] = "stable"
        await self._uvicorn(name, "examples.shop.app:app", environ)

    async def replace_pod(self, name: str, faults: dict[str, str] | None = None) -> None:
        """Replace a pod by one at the same address, whose counters begin from zero."""
        await self.processes.stop(name)
        await self.start_pod(name, faults)
        await self.processes.wait_for_http(name, f"{self.url(name)}/healthz")

    async def start_prometheus(self) -> None:
        argv = [
            "prometheus", f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.ports['prometheus']}",
        ]  # fmt: skip
        await self.processes.start("prometheus", argv, {})
        await self.processes.wait_for_http("prometheus", f"{self.url('prometheus')}/-/ready")

    async def start_gate(self, policy: dict[str, Any], *arguments: str) -> asyncio.subprocess.Process:
        (self.folder / "policy.json").write_text(json.dumps(policy), encoding="utf-8")
        self.starts += 1
        argv = [
            sys.executable, "-m", "rolloutobs.cli", "gate", "--app", "shop", "--prometheus",
            self.url("prometheus"), "--policy", str(self.folder / "policy.json"), "--interval", "1s",
            "--state", str(self.folder / "state.json"), "--json", str(self.folder / "verdict.json"),
            *arguments,
        ]  # fmt: skip
        return await self.processes.start(f"gate-{self.starts}", argv, {})

    async def disturb(self, start_gate: Callable[[], Awaitable[asyncio.subprocess.Process]]) -> Any:
        """Kill the gate, take Prometheus away, and replace the new pod; return the gate that goes on."""
        gate = await start_gate()
        await self.until(lambda: self.traffic() > 20)
        gate.send_signal(signal.SIGKILL)
        await gate.wait()
        before = self.state["at"]
        gate = await start_gate()
        await self.until(lambda: self.state["at"] > before)
        await self.processes.stop("prometheus")
        log = self.folder / "logs" / f"gate-{self.starts}.log"
        await self.until(lambda: "cannot connect" in log.read_text("utf-8"))
        await self.start_prometheus()
        before = self.traffic()
        await self.until(lambda: self.traffic() > before)
        return gate

    def traffic(self) -> int:
        """Requests of the canary that the gate has seen."""
        return int(self.state.get("traffic", {}).get("canary", 0))

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                found = condition()
                if await found if isinstance(found, Awaitable) else found:
                    return
                await asyncio.sleep(0.1)

    async def ended(self, gate: asyncio.subprocess.Process) -> tuple[int, dict[str, Any]]:
        """Wait for the gate; return its exit code and its verdict."""
        code = await asyncio.wait_for(gate.wait(), LIMIT_SECONDS)
        path = self.folder / "verdict.json"
        assert path.exists(), self.processes.log_end(f"gate-{self.starts}")
        return code, json.loads(path.read_text("utf-8"))

    async def ask(self, query: str) -> list[Any]:
        async with httpx2.AsyncClient(base_url=self.url("prometheus"), timeout=10) as client:
            answer = await client.get("/api/v1/query", params={"query": query})
        return list(answer.json()["data"]["result"])

    async def _is_scraped(self) -> bool:
        return len(await self.ask("up == 1")) == len(PODS)

    async def _uvicorn(self, name: str, app: str, environ: dict[str, str]) -> None:
        argv = [sys.executable, "-m", "uvicorn", app, "--port", str(self.ports[name]), "--no-access-log"]
        await self.processes.start(name, argv, environ)

    async def users(self, name: str) -> None:
        """Shop at one pod for ever, whatever it answers."""
        async with httpx2.AsyncClient(base_url=self.url(name), timeout=10) as client:
            while True:
                # A pod that is being replaced refuses.
                with contextlib.suppress(httpx2.TransportError):
                    await client.get("/catalog")
                    await client.post("/checkout", json={"lines": [{"product": 3}]})
                await asyncio.sleep(0.05)


@pytest.fixture
async def live(processes: Processes, tmp_path: Path) -> AsyncIterator[Live]:
    """A rollout under way, with users at every pod."""
    found = Live(processes, tmp_path)
    await found.start()
    users = [asyncio.create_task(found.users(name)) for name in PODS]
    try:
        yield found
    finally:
        for each in users:
            each.cancel()
        await asyncio.gather(*users, return_exceptions=True)


def promoting(live: Live) -> tuple[str, ...]:
    """Return what makes the gate promote the canary pod as a controller does: its label says stable."""
    return ("--on-promote", f"echo 'track=\"stable\"' > {shlex.quote(str(live.labels))}")


async def test_a_good_version_is_promoted_through_it_all_and_stays(live: Live) -> None:
    arguments = (*promoting(live), "--on-rollback", f"touch {live.folder}/rolled-back", "--bake", "8s")
    policy = {**POLICY, "minimum_seconds": 15}
    gate = await live.disturb(lambda: live.start_gate(policy, *arguments))
    await live.replace_pod("canary")
    code, verdict = await live.ended(gate)
    assert (code, verdict["decision"]) == (0, "promote"), verdict["reason"]
    assert verdict["bake"]["canary_version"] == "1.2.0"
    assert verdict["bake"]["requests"]["canary"]["exposures"] > 0
    assert verdict["bake"]["requests"]["stable"]["exposures"] > 0
    assert not (live.folder / "rolled-back").exists()


async def test_a_version_that_breaks_is_rolled_back_through_it_all(live: Live) -> None:
    policy = {**POLICY, "minimum_seconds": 600}
    gate = await live.disturb(lambda: live.start_gate(policy))
    assert live.state["decision"] == "hold"
    await live.replace_pod("canary", BROKEN)
    code, verdict = await live.ended(gate)
    assert (code, verdict["decided_by"]) == (1, "errors"), verdict["reason"]
    assert "canary 1.2.0 answers 5xx on POST /checkout" in verdict["reason"]


async def test_a_version_that_breaks_after_its_promotion_is_rolled_back(live: Live) -> None:
    policy = {**POLICY, "minimum_seconds": 5}
    gate = await live.start_gate(policy, *promoting(live), "--bake", "10m")
    await live.until(lambda: live.ask('http_requests_total{version="1.2.0",track="stable"} > 0'))
    await live.until(lambda: live.state.get("bake", {}).get("traffic", {}).get("canary", 0) > 0)
    await live.replace_pod("canary", BROKEN)
    code, verdict = await live.ended(gate)
    assert (code, verdict["decision"], verdict["decided_by"]) == (1, "rollback", "errors"), verdict["reason"]
    assert "canary 1.2.0 answers 5xx on POST /checkout" in verdict["reason"]
    assert "That was in the bake: it had been promoted after" in verdict["reason"]
    assert verdict["bake"]["stable_version"] == "1.1.0"
