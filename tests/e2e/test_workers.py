"""Real servers with several workers, which are killed under load."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from examples.demo.processes import Processes, free_ports
from rolloutobs.testing import parse_metrics, sample_value

HERE = str(Path(__file__).parent)
APP = "workers_app:app"
UVICORN = ("-m", "uvicorn", APP, "--no-access-log", "--workers", "3", "--port", "{port}")
GUNICORN = ("-m", "gunicorn", "--workers", "3", "--bind", "127.0.0.1:{port}")
THREADS = 4
SERVERS = {
    "uvicorn": UVICORN,
    "gunicorn": (*GUNICORN, APP, "--worker-class", "uvicorn_worker.UvicornWorker"),
    "gunicorn-preload": (*GUNICORN, APP, "--worker-class", "uvicorn_worker.UvicornWorker", "--preload"),
    "gunicorn-wsgi": (*GUNICORN, "workers_wsgi_app:app", "--threads", f"{THREADS}", "--preload"),
    "hypercorn": ("-m", "hypercorn", APP, "--workers", "3", "--bind", "127.0.0.1:{port}"),
}
RESTARTS = ("uvicorn", "gunicorn", "gunicorn-preload", "gunicorn-wsgi")
"""Servers that replace a worker that was killed."""
REQUESTS, CLIENTS, KILLS = 600, 6, 4


@dataclass
class Seen:
    """What the clients have seen."""

    answered: int = 0
    in_doubt: int = 0
    pids: set[int] = field(default_factory=set)
    killed: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Answer:
    """What a worker has answered."""

    pid: int
    text: str


async def fetch(url: str, accept: str = "*/*") -> Answer:
    """Ask on a connection of its own: any worker may take it.

    Raises:
        OSError: it was cut off; its worker may have been killed.
    """
    _, _, host, path = url.split("/", 3)
    reader, writer = await asyncio.open_connection(*host.split(":"))
    try:
        request = f"GET /{path} HTTP/1.1\r\nhost: {host}\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
        writer.write(request.encode())
        async with asyncio.timeout(20):
            received = await reader.read()
    finally:
        writer.close()
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    if int(headers.get("content-length", -1)) != len(body):
        raise ConnectionResetError(received)
    assert lines[0].split()[1] == "200", lines
    return Answer(int(headers["x-pid"]), body.decode())


async def load(url: str, seen: Seen, budget: list[int]) -> None:
    while budget:
        budget.pop()
        try:
            answer = await fetch(url)
        except OSError:
            # It may have been counted before its worker was killed.
            seen.in_doubt += 1
            continue
        assert answer.text == "hello"
        seen.answered += 1
        seen.pids.add(answer.pid)


async def kill(seen: Seen, done: asyncio.Task[None]) -> None:
    for i in range(KILLS):
        while seen.answered < (i + 1) * REQUESTS // (KILLS + 2) and not done.done():
            await asyncio.sleep(0.002)
        victims = sorted(seen.pids - seen.killed)
        if victims:
            seen.killed.add(victims[0])
            os.kill(victims[0], signal.SIGKILL)


async def watch(url: str, done: asyncio.Event) -> list[tuple[float, float]]:
    """Return the totals of requests and orders, as Prometheus would see them."""
    totals = []
    while not done.is_set():
        try:
            samples = parse_metrics((await fetch(url)).text)
        except OSError:
            continue
        requests = sample_value(samples, "http_requests_total", status="200") or 0.0
        totals.append((requests, sample_value(samples, "orders_total") or 0.0))
        await asyncio.sleep(0.02)
    return totals


async def answers_of(url: str, workers: int) -> dict[int, str]:
    """Return the metrics as each of `workers` workers tells them, once they tell the same."""
    found: dict[int, str] = {}
    deadline = asyncio.get_running_loop().time() + 30
    # A server may count an answer a moment after it was read here.
    while len(found) < workers or len({"\n".join(counts(text)) for text in found.values()}) > 1:
        if asyncio.get_running_loop().time() > deadline:
            break
        try:
            answer = await fetch(url)
        except OSError:
            continue
        found[answer.pid] = answer.text
    return found


def counts(text: str) -> list[str]:
    """Return the lines of what adds up, without what depends on the moment: also their order, which is that
    in which a worker has seen the label sets.
    """
    return sorted(
        line
        for line in text.splitlines()
        if line.startswith(("http_requests_total", "http_request_duration_seconds", "app_build_info"))
    )


@pytest.mark.parametrize("name", SERVERS)
async def test_any_worker_answers_for_all_even_when_workers_are_killed(
    name: str, processes: Processes, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/"
    argv = [sys.executable, *(word.format(port=port) for word in SERVERS[name])]
    folder = tmp_path / "temporary"
    folder.mkdir()
    await processes.start(name, argv, {"PYTHONPATH": HERE, "TMPDIR": str(folder)})
    # Not the page: one that is slow to come up may be asked again, and count both.
    await processes.wait_for_http(name, url + "metrics")
    seen, done = Seen(), asyncio.Event()
    budget = [0] * REQUESTS
    watching = asyncio.ensure_future(watch(url + "metrics", done))
    working = asyncio.ensure_future(_all(url, seen, budget))
    if name in RESTARTS:
        await kill(seen, working)
    await working
    done.set()
    totals = await watching

    for before, after in pairwise(totals):
        assert before[0] <= after[0]
        assert before[1] <= after[1]
    assert len(seen.killed) == (KILLS if name in RESTARTS else 0)
    told = await answers_of(url + "metrics", 3)
    assert len(told) == 3, processes.log_end(name)
    assert not told.keys() & seen.killed
    first, *others = (counts(text) for text in told.values())
    assert others == [first, first]

    # Each has written its own down by now.
    samples = parse_metrics((await fetch(url + "metrics")).text)
    answered = sample_value(samples, "http_requests_total", status="200", route="/", track="canary")
    # A worker counts what it has sent; one that is killed between the two has not, once for each thread.
    in_between = len(seen.killed) * (THREADS if name == "gunicorn-wsgi" else 1)
    assert seen.answered - in_between <= answered <= seen.answered + seen.in_doubt
    assert seen.in_doubt <= CLIENTS * len(seen.killed)
    # Killed after the one and before the other.
    timed = sample_value(samples, "http_request_duration_seconds_count", route="/")
    assert answered - in_between <= timed <= answered
    assert sample_value(samples, "app_build_info") == 1
    assert sample_value(samples, "app_start_time_seconds") > 1e9
    assert sample_value(samples, "http_requests_in_flight") == 0
    failures = [s for s in samples if s.name == "rolloutobs_internal_errors_total" and s.value]
    assert not failures, (failures, processes.log_end(name, 200))
    if not seen.killed:
        # 1000 by the module, in each process that has imported it.
        assert sample_value(samples, "orders_total") == answered + 3000
    is_preloaded = "--preload" in argv
    if is_preloaded:
        assert sample_value(samples, "orders_total") <= answered + 1000

    openmetrics = await fetch(url + "metrics", "application/openmetrics-text; version=1.0.0")
    exemplars = [line for line in openmetrics.text.splitlines() if " # {" in line]
    assert exemplars
    assert all(line.startswith("http_request_duration_seconds_bucket") for line in exemplars)
    assert 'trace_id="' in exemplars[0]

    (server,) = next(folder.iterdir()).iterdir()
    files = [path.name for path in server.iterdir()]
    # The master's, where it has imported the app.
    assert len([file for file in files if file.endswith(".cells")]) == 3 + is_preloaded, files


async def _all(url: str, seen: Seen, budget: list[int]) -> None:
    await asyncio.gather(*(load(url, seen, budget) for _ in range(CLIENTS)))
