"""What the watcher costs: memory and CPU time with 500 Deployments and 5,000 pods, at 50 changes a second.

    python -m bench.cluster [--seconds 20] [--rate 50] [--deployments 500] [--pods 10]

The API server is a process of its own and sends a generated stream: Deployments that roll out one after the
other, each change as an API server writes it, managed fields included. The watcher runs as `rolloutobs watch`
does, scraped every 15 seconds. Exit code 1: over budget.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.kubernetes_api import FakeCluster
from tests.unit.rolloutobs.cluster.made import deployment, done, event, pod, progressing, replica_set

BUDGET_MB = 150.0
BUDGET_CORE = 0.05
SCRAPE_SECONDS = 15.0
# What else there is in an object of a real cluster: kubectl's last-applied configuration and managed fields.
BALLAST = {
    "managedFields": [{"manager": "kubelet", "fieldsV1": {f"f:field{n}": {} for n in range(120)}}],
}


def padded(plain: dict[str, Any], uid: str) -> dict[str, Any]:
    plain["metadata"] = {**plain["metadata"], **BALLAST, "uid": uid}
    return plain


class Load:
    """A cluster whose Deployments roll out one after the other."""

    def __init__(self, cluster: FakeCluster, deployments: int, pods: int) -> None:
        self.cluster, self.pods = cluster, pods
        self.names = [f"app-{n}" for n in range(deployments)]
        self.versions = dict.fromkeys(self.names, 1)

    def list(self) -> None:
        sets, pods, controllers = [], [], []
        for name in self.names:
            sets.append(replica_set("1.0", 1, 0, owner=name, available=self.pods))
            controllers.append(self.controller(name, 1, "NewReplicaSetAvailable", self.pods))
            pods += [padded(pod("1.0", n, 0, owner=name, ready=1), f"{name}-1-{n}") for n in range(self.pods)]
        self.cluster.put("replicasets", sets)
        self.cluster.put("pods", pods)
        self.cluster.put("deployments", controllers)
        self.cluster.put("events", [])

    def controller(self, name: str, revision: int, reason: str, updated: int) -> dict[str, Any]:
        counts = {**done(self.pods), "updatedReplicas": updated}
        conditions = [progressing(reason, revision * 60 + updated)]
        made = deployment(f"{revision}.0", revision, conditions, name=name, desired=self.pods, **counts)
        return padded(made, f"uid-{name}")

    def changes(self) -> Any:
        """Yield (plural, word, object) for ever: about seven for each pod that is replaced."""
        for name in itertools.cycle(self.names):
            revision = self.versions[name] = self.versions[name] + 1
            version, old = f"{revision}.0", f"{revision - 1}.0"
            yield "replicasets", "ADDED", replica_set(version, revision, revision * 60, owner=name)
            yield "deployments", "MODIFIED", self.controller(name, revision, "NewReplicaSetCreated", 0)
            for n in range(self.pods):
                uid, gone = f"{name}-{revision}-{n}", f"{name}-{revision - 1}-{n}"
                at = revision * 60 + n
                yield "pods", "ADDED", padded(pod(version, n, at, owner=name), uid)
                about = ("Pod", f"{name}-hash{version}-{n:05}")
                yield "events", "ADDED", event(f"e-{uid}", 1, about, "Started", at)
                yield "pods", "MODIFIED", padded(pod(version, n, at, owner=name, ready=at + 1), uid)
                yield "deployments", "MODIFIED", self.controller(name, revision, "ReplicaSetUpdated", n + 1)
                yield (
                    "replicasets",
                    "MODIFIED",
                    replica_set(version, revision, at, owner=name, available=n + 1),
                )
                yield "pods", "DELETED", padded(pod(old, n, at, owner=name), gone)
            yield (
                "deployments",
                "MODIFIED",
                self.controller(name, revision, "NewReplicaSetAvailable", self.pods),
            )
            yield "replicasets", "DELETED", replica_set(old, revision - 1, 0, owner=name)


async def serve(arguments: argparse.Namespace) -> None:
    async with FakeCluster() as cluster:
        load = Load(cluster, arguments.deployments, arguments.pods)
        load.list()
        print(cluster.url, flush=True)
        changes, sent, began = load.changes(), 0, None
        while True:
            await asyncio.sleep(0.1)
            if began is None:
                began = time.monotonic() if Path(arguments.go).exists() else None
                continue
            while sent < (time.monotonic() - began) * arguments.rate:
                plural, word, plain = next(changes)
                cluster.say(plural, word, plain)
                sent += 1
            for kept in cluster.kinds.values():
                # All watches are up: what they have been told need not be kept.
                del kept.lines[:-200]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int, key: str = "VmHWM") -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024.0
    raise ValueError(f"no {key}")


def scrape(port: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def settle(port: str, pods: int) -> None:
    """Wait until the past has been told."""
    while True:
        text = scrape(port)
        if changes_seen(text) >= 2 * pods and changes_seen(text) == changes_seen(scrape(port)):
            return
        time.sleep(0.5)


def changes_seen(text: str) -> float:
    lines = [line for line in text.splitlines() if line.startswith("rolloutobs_watcher_changes_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    go = folder / "go"
    options = ["--deployments", str(arguments.deployments), "--pods", str(arguments.pods)]
    command = [
        sys.executable,
        "-m",
        "bench.cluster",
        "--serve",
        "--go",
        str(go),
        "--rate",
        str(arguments.rate),
    ]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as server:
        url = server.stdout.readline().strip()  # type: ignore[union-attr]
        config = {
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "x"}}],
            "clusters": [{"name": "x", "cluster": {"server": url}}],
        }
        (folder / "config").write_text(json.dumps(config))
        watch = [sys.executable, "-m", "rolloutobs.cli", "watch", "--listen", "127.0.0.1:0"]
        watch += ["--kubeconfig", str(folder / "config"), "--data-dir", str(folder / "data")]
        with subprocess.Popen(watch, stdout=subprocess.PIPE, text=True) as watcher:
            try:
                port = watcher.stdout.readline().rpartition(" ")[2].strip()  # type: ignore[union-attr]
                settle(port, arguments.deployments * arguments.pods)
                started = cpu_seconds(watcher.pid)
                go.touch()
                time.sleep(1.0)
                before, seen, began = cpu_seconds(watcher.pid), changes_seen(scrape(port)), time.monotonic()
                while time.monotonic() - began < arguments.seconds:
                    time.sleep(min(SCRAPE_SECONDS, arguments.seconds))
                    text = scrape(port)
                passed = time.monotonic() - began
                used = cpu_seconds(watcher.pid) - before
                return {
                    "start_cpu_seconds": started,
                    "core": used / passed,
                    "memory_mb": memory_mb(watcher.pid),
                    "changes_told_per_second": (changes_seen(text) - seen) / passed,
                    "metrics_kb": len(text) / 1024.0,
                }
            finally:
                watcher.terminate()
                server.terminate()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--deployments", type=int, default=500)
    parser.add_argument("--pods", type=int, default=10)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--go", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(arguments))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments, Path(folder))
    for name, value in found.items():
        print(f"{name:<24} {value:8.3f}")
    good = found["memory_mb"] <= BUDGET_MB and found["core"] <= BUDGET_CORE
    print("within" if good else "over", f"the budget of {BUDGET_MB:.0f} MB and {BUDGET_CORE:.0%} of a core")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
