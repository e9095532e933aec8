"""What a beacon costs the collector, beside servers that do less and more with it: `python -m bench.beacon`.

Each subject is a server with one worker, in a process of its own, that gets the same beacon of 1.2 KB (10
measurements, 1 error, 1 event) over 32 kept-alive connections, each with a view id of its own:

bare         uvicorn with uvloop and httptools reads the body and answers 204: a body that nobody looks at
bare again   the same once more (A/A): what it shows is noise
rolloutobs   `rolloutobs-collector` as it is installed; "with a folder": with `--data-dir`
FastAPI      what a tutorial would write: a pydantic model and prometheus_client

They take turns in an order that is shuffled each time, for who comes after whom matters: a turn is two
batches that are not looked at, as a loaded server's caches are never those of another program, and six that
are. What counts is the CPU time of the server's process per beacon (system calls included, waiting not): of
the turns of one start the first decile, as the one that others have disturbed least. Processes of the same
program differ by some percent for their whole life (where memory lies, how text hashes): so all are started
`--starts` times, and each number is the median of the starts, each ratio that of the ratios within one start.
Before, each collector gets as many beacons as it takes for most of its table of repeats to have been touched
once, as it is after an hour. At the end the collectors must have counted every beacon.

The load waits for its answers once per batch, not once per answer: waking it would be charged to whichever
server writes an answer while it sleeps, which is one that answers at once, not one that reads all bodies
first.
Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.overhead.table import Table, Target, as_text, write_docs

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs" / "rum.md"
BODY = ROOT / "tests" / "fixtures" / "rum" / "bench-beacon-1195B.json"
VIEW = b"c1a9e2d4f0b84e7d"
CONNECTIONS = 32
BATCHES = 6
SETTLING_BATCHES = 2
WARM_UP_BATCHES = 40
TABLE_BATCHES = 120
"""The 4 MB of the table have 1,024 pages: after 3,840 beacons 98 % of them have been touched."""
START_SECONDS = 90
BARE, AGAIN, OURS, FOLDER, NAIVE = (
    "bare uvicorn",
    "bare again (A/A)",
    "**rolloutobs**",
    "**rolloutobs**, with a folder",
    "FastAPI, prometheus_client",
)


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """Read the body and answer 204."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def naive() -> Any:
    """Return the collector of a tutorial."""
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


def _commands(folder: str) -> dict[str, list[str]]:
    """Return what starts each subject, but for its port."""
    # Nobody is cut off for waiting for its turn.
    uvicorn = ["uvicorn", "--no-access-log", "--log-level", "warning", "--timeout-keep-alive", "600"]
    # All beacons come from one address here: its bucket is kept and counted, and never empty.
    ours = ["rum_collector", "--client-rate", "1000000", "--client-burst", "1000000"]
    ours += ["--total-rate", "1000000", "--last-scrape-seconds", "0", "--body-seconds", "600"]
    return {
        BARE: [*uvicorn, "bench.beacon:bare"],
        AGAIN: [*uvicorn, "bench.beacon:bare"],
        OURS: ours,
        FOLDER: [*ours, "--data-dir", folder],
        NAIVE: [*uvicorn, "--factory", "bench.beacon:naive"],
    }


class Server:
    """One subject in a process, and the connections to it."""

    def __init__(self, command: Sequence[str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        argv = [sys.executable, "-m", *command, "--port", str(self.port)]
        self.process = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.DEVNULL)
        # The clock of another process. Source: Linux, include/linux/posix-timers.h, CPUCLOCK_SCHED.
        self._clock = (~self.process.pid << 3) | 2
        self.posted = 0

    def connect(self) -> None:
        """Wait until the server listens."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._connections = [
                    socket.create_connection(("127.0.0.1", self.port)) for _ in range(CONNECTIONS)
                ]
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{self.process.args!r} does not answer") from None
                time.sleep(0.1)

    def turn(self, before: bytes, after: bytes, batches: int) -> float:
        """Post batches of as many beacons as there are connections, as a loaded server sees them; return the
        seconds of CPU time that the server took for each beacon.
        """
        began = time.clock_gettime(self._clock)
        for _ in range(batches):
            for connection in self._connections:
                self.posted += 1
                connection.sendall(b"%b%016d%b" % (before, self.posted, after))
            # The last one first: the others have come by then, and nobody had to be woken for them.
            for connection in reversed(self._connections):
                answer = connection.recv(65_536)
                if not answer.startswith(b"HTTP/1.1 204") or not answer.endswith(b"\r\n\r\n"):
                    raise SystemExit(f"the beacon was answered {answer!r}")
        return (time.clock_gettime(self._clock) - began) / (batches * CONNECTIONS)

    def counted(self) -> int:
        """Return how many page views the collector has counted."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_SECONDS)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return sum(int(float(n)) for n in re.findall(r"^rum_page_views_total\{.*\} (\S+)$", text, re.M))

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait()


@dataclass
class Costs:
    """Seconds of CPU time per beacon of each subject, one number per start."""

    starts: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, turns: Sequence[float]) -> None:
        """Take down the turns of one start: the first decile."""
        decile = statistics.quantiles(turns, n=10, method="inclusive")[0]
        self.starts.setdefault(name, []).append(decile)

    def of(self, name: str) -> float:
        """Return what a beacon takes."""
        return statistics.median(self.starts[name])

    def ratio(self, name: str, to: str) -> float:
        """Return how many times of what `to` takes."""
        pairs = zip(self.starts[name], self.starts[to], strict=True)
        return statistics.median(a / b for a, b in pairs)


@contextlib.contextmanager
def _started(folder: str) -> Iterator[dict[str, Server]]:
    servers = {name: Server(command) for name, command in _commands(folder).items()}
    try:
        for server in servers.values():
            server.connect()
        yield servers
    finally:
        for server in servers.values():
            server.stop()


def measure(starts: int, rounds: int) -> Costs:
    """Return what all subjects took.

    Raises:
        SystemExit: one does not answer, or has not counted what it was sent.
    """
    body = json.dumps(json.loads(BODY.read_text()), separators=(",", ":")).encode()
    head = b"POST /b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    before, after = (head % len(body) + body).split(VIEW)
    costs = Costs()
    order = random.Random(1)
    for _ in range(starts):
        with tempfile.TemporaryDirectory() as folder, _started(folder) as servers:
            for name, server in servers.items():
                server.turn(before, after, TABLE_BATCHES if name in (OURS, FOLDER) else WARM_UP_BATCHES)
            turns: dict[str, list[float]] = {name: [] for name in servers}
            for _ in range(rounds):
                for name in order.sample(list(servers), len(servers)):
                    servers[name].turn(before, after, SETTLING_BATCHES)
                    turns[name].append(servers[name].turn(before, after, BATCHES))
            for name, found in turns.items():
                costs.add(name, found)
            for name in (OURS, FOLDER):
                if servers[name].counted() != servers[name].posted:
                    raise SystemExit(f"{name} has not counted what it was sent")
    return costs


def _table(costs: Costs) -> Table:
    return Table(
        "beacon",
        "One beacon of 1.2 KB, CPU time of the server, one worker each",
        ("", "CPU µs", "x bare", "capacity, of bare's", "beacons/s per core"),
        tuple(
            (
                name,
                f"{1e6 * costs.of(name):.0f}",
                f"{costs.ratio(name, BARE):.2f}",
                f"{1 / costs.ratio(name, BARE):.2f}",
                f"{round(1 / costs.of(name), -2):,.0f}",
            )
            for name in costs.starts
        ),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table and whether the targets are kept."""
    summary = str(__doc__).splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m bench.beacon", description=summary)
    parser.add_argument("--starts", type=int, default=5, help="times that all servers are started")
    parser.add_argument("--rounds", type=int, default=16, help="turns of each server per start")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/rum.md")
    options = parser.parse_args(argv)
    costs = measure(options.starts, options.rounds)
    table = _table(costs)
    # Source: docs/rum.md, "What a beacon costs".
    targets = [
        Target("a beacon, in memory, x a bare endpoint", costs.ratio(OURS, BARE), 1 / 0.6),
        Target("a beacon, with a folder, x a bare endpoint", costs.ratio(FOLDER, BARE), 1 / 0.6),
        Target("a beacon, in memory, x FastAPI and prometheus_client", costs.ratio(OURS, NAIVE), 1 / 4),
    ]
    print(as_text(table), *targets, sep="\n")
    if options.docs:
        for name in write_docs([table], DOCS):
            print(f"no place for {name} in {DOCS.name}", file=sys.stderr)
    return 0 if all(target.kept for target in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
