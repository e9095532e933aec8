"""What one beacon costs the collector, against servers that do less and more with the same body.

    python bench/beacon.py [--rounds 5] [--requests 3200]

Every subject is a uvicorn process of its own that gets the same beacon of 1.2 KB (10 measurements, 1 error)
over 32 kept-alive connections, each with a view id of its own. Rounds are interleaved; reported is the
median CPU time of the server process per request (kernel included, so wall time of a noisy machine does not
matter). BARE reads the body and answers 204: no collector in Python can be cheaper. The A/A row is BARE
once more: what it shows is noise. NAIVE is what a tutorial would write: FastAPI, a pydantic model and
prometheus_client. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BODY = ROOT / "tests" / "fixtures" / "rum" / "bench-beacon-1195B.json"
SUBJECTS = {
    "BARE": "bench.beacon:bare",
    "A/A (BARE again)": "bench.beacon:bare",
    "rolloutobs": "bench.beacon:ours",
    "NAIVE": "bench.beacon:naive",
}
CONNECTIONS = 32
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


async def bare(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def ours() -> Any:
    from rum_collector.app import create_app
    from rum_collector.settings import Settings

    # All beacons come from one address here: its bucket is kept and counted, and never empty.
    return create_app(Settings(client_rate=1e6, client_burst=1_000_000, total_rate=1e6))


def naive() -> Any:
    from fastapi import FastAPI
    from prometheus_client import Counter, Histogram
    from pydantic import BaseModel

    labels = ["app", "version", "track", "route"]
    values = Histogram("naive_values", "Values.", [*labels, "metric"])
    errors = Counter("naive_errors", "Errors.", [*labels, "type"])
    views = Counter("naive_views", "Views.", labels)

    class Body(BaseModel):
        app: str
        ver: str
        trk: str
        rt: str
        m: list[list[Any]]
        e: list[dict[str, Any]]

    app = FastAPI()

    async def collect(body: Body) -> None:
        who = (body.app, body.ver, body.trk, body.rt)
        views.labels(*who).inc()
        for name, value, *_ in body.m:
            values.labels(*who, name).observe(value / 1000)
        for error in body.e:
            errors.labels(*who, error["t"]).inc(error["n"])

    # Annotations are strings here, and FastAPI would look the local class up among the globals.
    collect.__annotations__["body"] = Body
    app.post("/b", status_code=204)(collect)
    return app


class Server:
    """One subject in a process, and one connection to it."""

    async def start(self, target: str) -> Server:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        factory = [] if target.endswith(":bare") else ["--factory"]
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "uvicorn", target, *factory, "--port", str(self.port),
            "--no-access-log", "--log-level", "warning", cwd=ROOT,
        )  # fmt: skip
        async with asyncio.timeout(60):
            while True:
                try:
                    self.connections = [
                        await asyncio.open_connection("127.0.0.1", self.port) for _ in range(CONNECTIONS)
                    ]
                    return self
                except OSError:
                    await asyncio.sleep(0.1)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    async def post(self, bodies: list[bytes]) -> None:
        """Post as many bodies as there are connections, all at once, as a loaded server sees them."""
        head = "POST /b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        for (_, writer), body in zip(self.connections, bodies, strict=True):
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        for reader, _ in self.connections:
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 204"):
                raise SystemExit(f"the beacon was answered {answer!r}")

    async def stop(self) -> None:
        for _, writer in self.connections:
            writer.close()
        self.process.terminate()
        await self.process.wait()


async def measure(rounds: int, requests: int) -> dict[str, float]:
    servers = {name: await Server().start(target) for name, target in SUBJECTS.items()}
    beacon = json.loads(BODY.read_text())
    costs: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    try:
        for done in range(rounds + 1):
            for name, server in servers.items():
                bodies = [
                    json.dumps({**beacon, "pv": f"{done}-{i:09}"}, separators=(",", ":")).encode()
                    for i in range(requests)
                ]
                before = server.cpu_seconds()
                for start in range(0, requests, CONNECTIONS):
                    await server.post(bodies[start : start + CONNECTIONS])
                if done:  # The first round warms up.
                    costs[name].append((server.cpu_seconds() - before) / requests)
    finally:
        for server in servers.values():
            await server.stop()
    return {name: statistics.median(found) * 1e6 for name, found in costs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=3200)
    options = parser.parse_args()
    costs = asyncio.run(measure(options.rounds, options.requests))
    print(f"{'subject':<20}{'CPU us/beacon':>14}{'x BARE':>9}{'beacons/s/core':>16}")
    for name, cost in costs.items():
        print(f"{name:<20}{cost:>14.1f}{cost / costs['BARE']:>9.2f}{1e6 / cost:>16.0f}")


if __name__ == "__main__":
    main()
