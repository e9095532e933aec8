"""The same over loopback: uvicorn (one worker, uvloop, httptools) on one processor, the load on another.

The load is one raw-socket client with keep-alive connections, each of which sends its next request when it
has the answer to the last. What counts is the CPU time of the server's process, read from its own clock, per
request; servers take turns in random order, as in `rounds`. The wall time depends on both processors and on
everything else that runs there, and is not reported.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.overhead.own import BARE, FLOOR
from bench.overhead.rounds import first_decile, processors
from bench.overhead.subject import Subject
from bench.overhead.table import Table

__all__ = ["loopback"]

CONNECTIONS = 16
REQUEST = (
    b"GET /items/%d HTTP/1.1\r\nHost: shop.example\r\nAccept: */*\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0\r\n\r\n"
)


class _Client(asyncio.Protocol):
    """One connection: one request at a time, until `budget` is used up."""

    def __init__(self, budget: list[int], done: asyncio.Future[None]) -> None:
        self._budget = budget
        self._done = done
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def _next(self) -> None:
        assert self._transport is not None
        if self._budget[0] <= 0:
            self._transport.close()
            return
        self._budget[0] -= 1
        self._transport.write(REQUEST % self._budget[0])

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            self._fail(f"answered {head[:60]!r}")
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(body) >= int(length):
            self._buffer = b""
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if self._budget[0] > 0:
            self._fail(f"closed the connection: {error}")
        elif not self._done.done():
            self._done.set_result(None)

    def _fail(self, what: str) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(f"the server {what}"))


async def load(port: int, requests: int) -> None:
    """Send `requests` requests over several connections.

    Raises:
        RuntimeError: an answer is not 200.
    """
    loop = asyncio.get_running_loop()
    budget = [requests]
    finished: list[asyncio.Future[None]] = []
    for _ in range(CONNECTIONS):
        done: asyncio.Future[None] = loop.create_future()
        finished.append(done)
        await loop.create_connection(lambda done=done: _Client(budget, done), "127.0.0.1", port)
    await asyncio.gather(*finished)


class _Server:
    def __init__(self, subject: Subject) -> None:
        command = [sys.executable, "-m", "bench.overhead.server", subject.home, subject.name, processors()[0]]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": "0", **subject.env},
        )
        self._subject = subject
        self._asked = 0
        self.port = 0
        self.unavailable = ""

    def wait(self) -> None:
        answer = self._answer()
        self.port, self.unavailable = answer.get("port", 0), answer.get("unavailable", "")

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._subject.name}: the server ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process so far."""
        if sys.platform == "linux":
            # Source: Linux, include/linux/posix-timers_types.h: the clock of a process is ~pid << 3, of the
            # kind CPUCLOCK_SCHED (2); in nanoseconds, where /proc/PID/stat has hundredths of a second.
            return time.clock_gettime((~self._process.pid << 3) | 2)
        import psutil

        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    async def slice(self, requests: int) -> float:
        """Return the CPU seconds of the server per request."""
        start = self.cpu_seconds()
        await load(self.port, requests)
        self._asked += requests
        return (self.cpu_seconds() - start) / requests

    def close(self) -> str:
        """Stop the server; return what is wrong with its telemetry, empty for nothing."""
        try:
            last, _ = self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            last, _ = self._process.communicate()
        if self.unavailable:
            return ""
        answer = last.strip().rpartition("\n")[2]
        if not answer:
            return f"{self._subject.name}: the server ended"
        wrong = self._subject.missing(json.loads(answer).get("recorded"), self._asked)
        return f"{self._subject.name}: {wrong}" if wrong else ""


@contextmanager
def _servers(subjects: Sequence[Subject]) -> Iterator[dict[str, _Server]]:
    servers: dict[str, _Server] = {}
    wrong: list[str] = []
    try:
        for subject in subjects:
            servers[subject.name] = _Server(subject)
        for name, server in servers.items():
            server.wait()
            if server.unavailable:
                print(f"not measured: {name}: {server.unavailable}", file=sys.stderr)
        yield {name: server for name, server in servers.items() if not server.unavailable}
    finally:
        wrong += (server.close() for server in servers.values())
    if any(wrong):
        raise RuntimeError("telemetry did not work: " + "; ".join(filter(None, wrong)))


def loopback(subjects: Sequence[Subject], rounds: int = 20, requests: int = 800) -> Table:
    """Return what each subject adds to the server's CPU time per request; the bare app must be among them.

    Raises:
        RuntimeError: a server fails, or its telemetry did not record what it was asked.
    """
    load_on = processors()[1]
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if before is not None:
        os.sched_setaffinity(0, {int(load_on)})
    try:
        used = asyncio.run(_measure(subjects, rounds, requests))
    finally:
        if before is not None:
            os.sched_setaffinity(0, before)
    low = {name: first_decile(values) * 1e6 for name, values in used.items()}
    unit = low[FLOOR] - low[BARE]

    def line(name: str) -> tuple[str, ...]:
        added = low[name] - low[BARE]
        return name, f"{low[name]:.0f}", f"{added:.1f}", f"{added / unit:.1f}", f"{low[BARE] / low[name]:.2f}"

    rows = tuple(map(line, low))
    columns = ("", "CPU us", "added us", "x FLOOR", "capacity")
    return Table("loopback", "uvicorn over loopback, per request", columns, rows)


async def _measure(subjects: Sequence[Subject], rounds: int, requests: int) -> dict[str, list[float]]:
    with _servers(subjects) as servers:
        used: dict[str, list[float]] = {name: [] for name in servers}
        for server in servers.values():
            await server.slice(requests)
        for _ in range(rounds):
            for name in random.sample(list(servers), len(servers)):
                gc.collect()
                used[name].append(await servers[name].slice(requests))
    return used
