"""Real servers for minutes: workers are killed, the track flaps, the collector comes and goes, and scrapes
never stop. No answer is wrong, no counter goes back, memory stays flat.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import rotel

from examples.demo.processes import Processes, free_ports
from rolloutobs.testing import parse_metrics, sample_value
from tests.e2e.test_workers import fetch

HERE = str(Path(__file__).parent)
WORKERS = 2
SERVERS = {
    "uvicorn": ("-m", "uvicorn", "soak_app:app", "--no-access-log", "--workers", "2", "--port", "{port}"),
    "gunicorn": (
        "-m", "gunicorn", "soak_app:app", "--workers", "2", "--bind", "127.0.0.1:{port}",
        "--worker-class", "uvicorn_worker.UvicornWorker",
    ),
}  # fmt: skip
REQUESTS, KILLS, FLIPS, OUTAGES = 60_000, 60, 300, 40
CLIENTS = 6
COUNTERS = ("_total", "_count", "_bucket", "_sum")
# A worker that has served thousands of requests may have more than one that has just begun, once.
GROWTH_BYTES = 32 << 20


@dataclass
class Seen:
    """What has happened so far."""

    answered: int = 0
    in_doubt: int = 0
    killed: set[int] = field(default_factory=set)
    pids: set[int] = field(default_factory=set)
    scrapes: int = 0
    tracks: set[str] = field(default_factory=set)
    backwards: list[tuple[str, float, float]] = field(default_factory=list)
    resident: dict[int, list[int]] = field(default_factory=dict)
    """Bytes of each worker, in time."""


async def load(url: str, seen: Seen, budget: list[int]) -> None:
    while budget:
        number = budget.pop()
        try:
            answer = await fetch(url + (f"stream/{number}" if number % 3 == 0 else ""))
        except OSError:
            seen.in_doubt += 1
            continue
        assert answer.text == "hello"
        seen.answered += 1
        seen.pids.add(answer.pid)


async def scrape(url: str, seen: Seen, done: asyncio.Event) -> None:
    """Read the metrics of whichever worker answers, again and again, as several Prometheus servers do."""
    last: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    while not done.is_set():
        try:
            text = (await fetch(url)).text
        except OSError:
            continue
        for sample in parse_metrics(text):
            if sample.name.endswith(COUNTERS) and sample.name.startswith(
                ("http_", "orders", "app_gc", "log_")
            ):
                key = (sample.name, frozenset(sample.labels.items()))
                before = last.get(key, 0.0)
                if sample.value < before - 1e-9:
                    seen.backwards.append((f"{sample.name}{sample.labels}", before, sample.value))
                last[key] = sample.value
                seen.tracks.add(sample.labels.get("track", ""))
        seen.scrapes += 1
        await asyncio.sleep(0.02)


async def at(parts: int, seen: Seen, total: int, do: Callable[[int], object]) -> None:
    """Call `do` that many times, evenly among the requests."""
    for i in range(parts):
        while seen.answered + seen.in_doubt < total * (i + 1) // (parts + 2):
            await asyncio.sleep(0.005)
        found = do(i)
        if asyncio.iscoroutine(found):
            await found


def measure(seen: Seen) -> None:
    for pid in seen.pids - seen.killed:
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
        seen.resident.setdefault(pid, []).append(pages * os.sysconf("SC_PAGE_SIZE"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVERS)
async def test_servers(name: str, processes: Processes, tmp_path: Path, scaled: Callable[[int], int]) -> None:
    port, http, grpc = free_ports(3)
    url, count = f"http://127.0.0.1:{port}/", scaled(REQUESTS)
    labels, folder = tmp_path / "labels", tmp_path / "temporary"
    folder.mkdir()
    labels.write_text('role="canary"\n')
    environ = {
        "PYTHONPATH": HERE, "TMPDIR": str(folder), "OTEL_SERVICE_NAME": "shop", "ROLLOUTOBS_VERSION": "1.2.0",
        "ROLLOUTOBS_LABELS_FILE": str(labels), "ROLLOUTOBS_LABELS_INTERVAL_SECONDS": "0.05",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{http}", "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_METRIC_EXPORT_INTERVAL": "300", "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2", "ROLLOUTOBS_DETECTION": "on",
    }  # fmt: skip
    receiver = [
        str(Path(rotel.__file__).with_name("rotel-agent")), "start", "--exporter", "blackhole",
        "--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}",
    ]  # fmt: skip
    argv = [sys.executable, *(word.format(port=port) for word in SERVERS[name])]
    await processes.start(name, argv, environ)
    await processes.wait_for_http(name, url)
    seen, done, chance = Seen(), asyncio.Event(), random.Random(name)

    def kill(_: int) -> None:
        victims = sorted(seen.pids - seen.killed)
        # One is spared, to see what it has after all of this.
        if len(victims) > 1:
            seen.killed.add(victims[-1])
            os.kill(victims[-1], signal.SIGKILL)

    def flip(turn: int) -> None:
        fresh = labels.with_name("labels.new")
        fresh.write_text(f'role="{("stable", "canary", "baseline")[turn % 3]}"\n')
        fresh.rename(labels)
        measure(seen)

    async def outage(turn: int) -> None:
        await processes.stop("receiver")
        if turn % 2 == 0:
            await processes.start("receiver", receiver, {})

    scraping = [asyncio.ensure_future(scrape(url + "metrics", seen, done)) for _ in range(2)]
    budget = list(range(count))
    chance.shuffle(budget)
    events = [
        at(scaled(KILLS), seen, count, kill),
        at(max(3, scaled(FLIPS)), seen, count, flip),
        at(max(2, scaled(OUTAGES)), seen, count, outage),
    ]
    async with asyncio.timeout(60 + count / 20):
        await asyncio.gather(*(load(url, seen, budget) for _ in range(CLIENTS)), *events)
    done.set()
    await asyncio.gather(*scraping)
    assert {each[0].partition("{")[0] for each in seen.backwards} == set(), seen.backwards[:5]
    assert seen.answered + seen.in_doubt == count
    assert seen.in_doubt <= CLIENTS * len(seen.killed)
    assert seen.scrapes > 1
    assert len(seen.tracks) >= 2
    samples = await settled(url, seen)
    # Under whichever track: nothing is lost but what a worker that was killed had sent and not counted.
    answered = sample_value(samples, "http_requests_total", status="200")
    assert seen.answered - CLIENTS * len(seen.killed) <= answered <= count + 1
    assert sample_value(samples, "http_request_duration_seconds_count") == answered
    errors = [s for s in samples if s.name == "rolloutobs_internal_errors_total"]
    # While there was no receiver.
    assert {s.labels["where"] for s in errors if s.value} <= {"export"}
    (server,) = next(folder.iterdir()).iterdir()
    files = [path for path in server.iterdir() if path.suffix == ".cells"]
    assert len(files) <= WORKERS + 1, files
    for pid, sizes in seen.resident.items():
        half = len(sizes) // 2
        if half > 20:
            assert max(sizes[half:]) - max(sizes[:half]) < GROWTH_BYTES, (pid, sizes[:: len(sizes) // 10])


async def settled(url: str, seen: Seen) -> list[object]:
    """Return the samples of a scrape once nothing is in flight, and all that was answered is counted."""
    async with asyncio.timeout(30):
        while True:
            samples = parse_metrics((await fetch(url + "metrics")).text)
            in_flight = sample_value(samples, "http_requests_in_flight")
            counted = sample_value(samples, "http_requests_total", status="200") or 0
            if in_flight == 0 and counted >= seen.answered - CLIENTS * len(seen.killed):
                return samples
            await asyncio.sleep(0.05)
