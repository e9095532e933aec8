"""What the tests of ``rolloutobs serve`` run: the process itself, and pods that it scrapes straight.

The pods' counters grow by the same amounts at each scrape.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2

LIMIT_SECONDS = 120.0
"""Of anything that is waited for; far beyond what it takes."""
TOKEN = "a-token-that-nobody-guesses"

POLICY = {
    "tick_seconds": 0,
    "phi_seconds": 1,
    "clip_refill": 5,
    "warmup_seconds": 0,
    "minimum_seconds": 0,
    "signals": {"errors": {"margin_ratio": 2.0, "margin_difference": 0.1}, "latency": {"required": "no"}},
}

PODS = ("stable-1", "stable-2", "canary")
NO, YES, BLIND = 409, 200, 503


@dataclass
class App:
    """What the pods of one app show."""

    version: str = ""
    """Of the canary; empty: there is none."""
    bad: float = 0.0
    """Share of the canary's requests that fail."""
    counts: dict[str, list[float]] = field(default_factory=dict)

    def text(self, name: str, pod: str) -> str:
        track = "canary" if pod == "canary" else "stable"
        version = self.version if track == "canary" else "1.1.0"
        if not version:
            return "# nobody\n"
        requests, bad = (200.0, self.bad) if track == "canary" else (1000.0, 0.005)
        counts = self.counts.setdefault(f"{pod} {version}", [0.0, 0.0])
        counts[0] += requests * (1 - bad)
        counts[1] += requests * bad
        labels = f'app="{name}",track="{track}",version="{version}",method="GET",route="/"'
        pairs = zip(("200", "500"), counts, strict=True)
        return "".join(f'http_requests_total{{{labels},status="{s}"}} {round(c)}\n' for s, c in pairs)


class Pods(ThreadingHTTPServer):
    """The ``/metrics`` of all pods: ``/APP/POD``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.apps: dict[str, App] = {}
        self.posted: list[dict[str, Any]] = []
        """Notifications."""
        self.lock = threading.Lock()

    def set(self, name: str, **changes: Any) -> None:
        with self.lock:
            for key, value in changes.items():
                setattr(self.apps.setdefault(name, App()), key, value)

    def text(self, path: str) -> str:
        name, pod = path.strip("/").split("/")[:2]
        with self.lock:
            return self.apps.setdefault(name, App()).text(name, pod)


class _Handler(BaseHTTPRequestHandler):
    server: Pods

    def do_GET(self) -> None:
        body = self.server.text(self.path).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.server.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@dataclass
class Console:
    """One ``serve``, at the same address and with the same folder after each start."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    options: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    """On top of the test's own."""
    client: httpx2.Client = field(default_factory=lambda: httpx2.Client(timeout=10, verify=False))

    def start(self) -> None:
        (self.folder / "state").mkdir(exist_ok=True)
        argv = [
            sys.executable, "-m", "rolloutobs.cli", "serve",
            "--workloads", str(self.folder / "workloads.yaml"),
            "--state", str(self.folder / "state"), "--listen", f"127.0.0.1:{self.port}",
            "--token-file", str(self.folder / "token"), *self.options,
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, **self.environ})
        self.until(lambda: self.get("/readyz").text == "ok\n")

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(LIMIT_SECONDS)

    def close(self) -> None:
        self.client.close()
        if self.process is not None and self.process.poll() is None:
            self.stop()

    def until(self, condition: Any) -> Any:
        """Wait until `condition` returns something true, and return it."""
        deadline = time.monotonic() + LIMIT_SECONDS
        waiting = threading.Event()
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if found := condition():
                    return found
            assert self.process is None or self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            waiting.wait(0.1)

    def get(self, path: str, token: str = TOKEN) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.client.get(f"http://127.0.0.1:{self.port}{path}", headers=headers)

    def post(self, path: str, body: Any, token: str = TOKEN) -> httpx2.Response:
        # As Flagger has it: in the address, which Go makes basic authentication of.
        url = f"http://flagger:{token}@127.0.0.1:{self.port}{path}"
        return self.client.post(url, json=body)

    def hook(self, hook: str, name: str, checksum: str = "c1", **more: Any) -> int:
        body = {"name": name, "namespace": "shop", "phase": "Progressing", "checksum": checksum, **more}
        return self.post(f"/flagger/{hook}", body).status_code

    def hooks(self, name: str, checksum: str = "c1") -> dict[str, int]:
        """Call what Flagger calls while the canary has traffic; these change nothing."""
        words = ("rollback", "rollout", "confirm-traffic-increase", "confirm-promotion")
        return {word: self.hook(word, name, checksum) for word in words}

    def verdict(self, name: str, rollout: str = "", namespace: str = "shop") -> tuple[int, dict[str, Any]]:
        suffix = f"&rollout={rollout}" if rollout else ""
        answer = self.get(f"/v1/verdict?namespace={namespace}&workload={name}{suffix}")
        return answer.status_code, answer.json()

    def decided(self, name: str, decision: str) -> dict[str, Any]:
        """Wait for a decision of the evidence, and return what is known then."""

        def found() -> dict[str, Any] | None:
            code, answer = self.verdict(name)
            return answer if code == 200 and answer["evidence_decision"] == decision else None

        return dict(self.until(found))


def files(folder: Path, workloads: dict[str, Any]) -> None:
    (folder / "policy.yaml").write_text(json.dumps(POLICY))
    (folder / "workloads.yaml").write_text(json.dumps(workloads))
    (folder / "token").write_text(f"an-old-token-of-before\n{TOKEN}\n")
