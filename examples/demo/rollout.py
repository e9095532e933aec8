"""One rollout of the shop: starts everything, moves the traffic, lets the gate decide, and obeys."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from examples.demo.processes import Processes, StartError, free_ports
from examples.demo.stories import Story

__all__ = ["Options", "Rollout"]

STABLE_VERSION, CANARY_VERSION = "1.1.0", "1.2.0"
INVENTORY_FAILS_AFTER_SECONDS = 12.0
POLICY = Path(__file__).parent / "policy.yaml"
LOCUSTFILE = Path(__file__).parent / "locustfile.py"
JOURNEY = Path(__file__).parents[1] / "shop" / "journey.py"


@dataclass(frozen=True, slots=True)
class Options:
    """How large the demo is."""

    folder: Path
    """Where the report, the verdict and the logs go."""
    browser: bool = True
    """Whether real browsers visit the shop and walk the synthetic journey."""
    users_per_second: float = 10.0
    """Arrivals of shoppers; each makes about six requests."""
    visits_per_second: float = 1.2
    history_seconds: float = 20.0
    """How long the gate watches stable alone before the canary gets traffic."""
    deadline_seconds: float | None = None
    """Overrides the story's deadline."""


class Rollout:
    """The processes of one story, and the order in which things happen."""

    def __init__(self, story: Story, options: Options, processes: Processes) -> None:
        self._story = story
        self._options = options
        self._processes = processes
        names = (
            "inventory",
            "shop-stable-1",
            "shop-stable-2",
            "shop-canary",
            "collector",
            "router",
            "checks",
        )
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))

    async def run(self) -> Mapping[str, Any]:
        """Tell the story to its end and return the verdict, as `verdict.json` holds it.

        Raises:
            StartError: a process did not come up, or the gate left no verdict.
        """
        await self._start_stable()
        await self._start_canary()
        gate = await self._start_gate()
        await asyncio.sleep(self._options.history_seconds)
        await self._set_weight(self._story.share)
        async with asyncio.TaskGroup() as tasks:
            failing = tasks.create_task(self._fail_the_inventory())
            await gate.wait()
            failing.cancel()
        verdict = self._read_verdict(gate.returncode)
        await self._obey(str(verdict["decision"]))
        return verdict

    def url(self, name: str) -> str:
        """Return the address of a part."""
        return f"http://127.0.0.1:{self._ports[name]}"

    async def _start_stable(self) -> None:
        inventory = {
            "ROLLOUTOBS_VERSION": "3.0.2",
            "INVENTORY_ERRORS": str(self._story.inventory_errors),
            "INVENTORY_ERRORS_ONCE": str(self._inventory_fails),
        }
        self._inventory_fails.unlink(missing_ok=True)
        await self._uvicorn("inventory", "examples.shop.inventory:app", inventory)
        for name in ("shop-stable-1", "shop-stable-2"):
            await self._uvicorn(name, "examples.shop.app:app", self._shop(STABLE_VERSION, "stable"))
        await self._start("collector", "rum_collector", "--port", str(self._ports["collector"]))
        servers = {
            "ROUTER_STABLE": f"{self.url('shop-stable-1')},{self.url('shop-stable-2')}",
            "ROUTER_CANARY": self.url("shop-canary"),
            **self._story.router,
        }
        await self._uvicorn("router", "examples.demo.router:app", servers)
        for name in ("inventory", "shop-stable-1", "shop-stable-2", "collector"):
            await self._processes.wait_for_http(name, f"{self.url(name)}/healthz")
        await self._processes.wait_for_http("router", f"{self.url('router')}/_router/weight")
        _say(f"shop {STABLE_VERSION} (stable) runs on 2 servers, behind a router at {self.url('router')}")
        await self._start_users()

    async def _start_users(self) -> None:
        # Longer than the story can take; they are stopped when it ends.
        duration = str(self._options.history_seconds + self._deadline + 60)
        users = str(self._options.users_per_second)
        await self._start(
            "users", "synthetic", "users", "--locustfile", str(LOCUSTFILE), "--host", self.url("router"),
            "--rate", users, "--duration", f"{duration}s",
        )  # fmt: skip
        _say(f"{users} shoppers a second arrive (Locust, as users)")
        if self._options.browser:
            rate = str(self._options.visits_per_second)
            await self._start(
                "visitors", "examples.demo.visitors", "--url", self.url("router"), "--rate", rate,
                "--duration", duration,
            )  # fmt: skip
            _say(f"{rate} visitors a second open the page (real Chromium, real-user beacons)")

    async def _start_canary(self) -> None:
        environ = {**self._shop(CANARY_VERSION, "canary"), **self._story.canary}
        await self._uvicorn("shop-canary", "examples.shop.app:app", environ)
        await self._processes.wait_for_http("shop-canary", f"{self.url('shop-canary')}/healthz")
        _say(f"shop {CANARY_VERSION} (canary) runs on 1 server, without traffic yet")
        targets = (
            "--stable", self.url("shop-stable-1"), "--stable-version", STABLE_VERSION,
            "--canary", self.url("shop-canary"), "--canary-version", CANARY_VERSION,
        )  # fmt: skip
        load = await self._start(
            "paired-load", "synthetic", "load", "--locustfile", str(LOCUSTFILE), *targets, "--users", "4",
            "--rate", "5", "--duration", "4s", "--app", "shop",
        )  # fmt: skip
        await load.wait()
        _say("a small paired load went to both tracks:\n" + self._processes.log_end("paired-load"))
        if self._options.browser:
            await self._start(
                "checks", "synthetic", "run", f"{JOURNEY}:checkout", *targets, "--app", "shop",
                "--every", "5s", "--timeout", "8s", "--listen", f"127.0.0.1:{self._ports['checks']}",
                "--artifacts", str(self._options.folder / "artifacts"),
            )  # fmt: skip
            _say("a synthetic journey walks through both tracks in pairs, every 5 s (real Chromium)")

    async def _start_gate(self) -> asyncio.subprocess.Process:
        scraped = ["shop-stable-1", "shop-stable-2", "shop-canary", "collector"]
        if self._options.browser:
            scraped.append("checks")
        _say(
            f"the gate watches; stable alone for {self._options.history_seconds:g} s, then the canary gets "
            f"{self._story.share:.0%} of the traffic\n"
        )
        argv = [
            sys.executable,
            "-m",
            "rolloutobs.cli",
            "gate",
            "--app",
            "shop",
            "--policy",
            str(self._policy()),
        ]
        for name in scraped:
            argv += ["--scrape", f"{self.url(name)}/metrics"]
        argv += ["--interval", "1s", "--deadline", f"{self._deadline:g}s"]
        argv += ["--json", str(self._verdict_file), "--html", str(self._options.folder / "report.html")]
        return await self._processes.start("gate", argv, {}, log=False)

    async def _fail_the_inventory(self) -> None:
        if self._story.inventory_errors:
            await asyncio.sleep(INVENTORY_FAILS_AFTER_SECONDS)
            self._inventory_fails.touch()

    def _policy(self) -> Path:
        """Return the demo's policy; without browsers, one that does not wait for them."""
        if self._options.browser:
            return POLICY
        policy = yaml.safe_load(POLICY.read_text(encoding="utf-8"))
        policy["signals"]["js_errors"]["required"] = "no"
        path = self._options.folder / "policy.yaml"
        path.write_text(yaml.safe_dump(policy), encoding="utf-8")
        return path

    async def _set_weight(self, share: float) -> None:
        async with httpx2.AsyncClient(timeout=5.0) as client:
            answer = await client.put(f"{self.url('router')}/_router/weight", content=f"{share}")
            answer.raise_for_status()

    async def _obey(self, decision: str) -> None:
        shares = {"rollback": 0.0, "promote": 1.0}
        if decision not in shares:
            _say("the router stays as it is: nothing is decided")
            return
        await self._set_weight(shares[decision])
        version = CANARY_VERSION if decision == "promote" else STABLE_VERSION
        _say(f"the router sends everybody to {version} now")

    def _read_verdict(self, code: int | None) -> Mapping[str, Any]:
        try:
            verdict: Mapping[str, Any] = json.loads(self._verdict_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StartError(f"the gate ended with exit code {code} and left no verdict: {error}") from error
        return verdict

    @property
    def _inventory_fails(self) -> Path:
        return self._options.folder / "inventory-fails"

    @property
    def _verdict_file(self) -> Path:
        return self._options.folder / "verdict.json"

    @property
    def _deadline(self) -> float:
        return self._options.deadline_seconds or self._story.deadline_seconds

    def _shop(self, version: str, track: str) -> dict[str, str]:
        return {
            "ROLLOUTOBS_VERSION": version,
            "ROLLOUTOBS_TRACK": track,
            "INVENTORY_URL": self.url("inventory"),
            "COLLECTOR_URL": self.url("collector"),
        }

    async def _start(self, name: str, module: str, *arguments: str) -> asyncio.subprocess.Process:
        return await self._processes.start(name, [sys.executable, "-m", module, *arguments], {})

    async def _uvicorn(self, name: str, app: str, environ: Mapping[str, str]) -> None:
        argv = [sys.executable, "-m", "uvicorn", app, "--port", str(self._ports[name]), "--no-access-log"]
        if name == "router":
            argv += ["--no-server-header", "--no-date-header"]
        await self._processes.start(name, argv, environ)


def _say(text: str) -> None:
    print(f"- {text}", flush=True)
