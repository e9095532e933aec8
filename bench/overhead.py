"""What `instrument(app)` costs per request, against doing nothing and against the least that metrics can
cost.

    python bench/overhead.py [--rounds 40] [--requests 400] [--json]

FLOOR is what a careful team would write by hand: `perf_counter`, the status from `send`, one bound
`Counter.inc` and one bound `Histogram.observe` with 16 buckets of prometheus_client; no route, no version, no
trace. The row above it leaves out the status, which a counter of errors cannot.

Method: every subject is the same Starlette app in a process of its own, and each request is a task of its
own, as under uvicorn. A round runs a slice of requests in each process, one after the other in random order,
and pairs it with the bare app of that round; reported is the median over rounds of the paired differences of
process CPU time (not wall time: a loaded machine changes it less). The A/A row is the bare app against
itself: what it shows is noise. Spans go through a real SDK and a batch processor to an exporter that drops
them, so encoding and sending are not part of the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rolloutobs import Settings, instrument

TARGET_RATIO = 3.5
"""At most this many times FLOOR, sampling 10 % of the traces."""
App = Callable[[Any, Any, Any], Awaitable[None]]


class Discard(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


async def item(request: Any) -> PlainTextResponse:
    return PlainTextResponse("ok")


def bare() -> Starlette:
    return Starlette(routes=[Route("/items/{item_id}", item)])


def no_op(app: App) -> App:
    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def forward(message: Any) -> None:
            await send(message)

        await app(scope, receive, forward)

    return wrapped


def bound_children() -> tuple[dict[int, Counter], Histogram]:
    registry = CollectorRegistry()
    counter = Counter("requests", "d", ["method", "status"], registry=registry)
    # The bare app takes some 20 us: the fifth bucket, as 30 ms would in usual bounds (observe() looks one by
    # one).
    bounds = [5e-6 * 1.6**i for i in range(16)]
    histogram = Histogram("seconds", "d", ["method"], buckets=bounds, registry=registry)
    return {status: counter.labels("GET", str(status)) for status in (200, 404, 500)}, histogram.labels("GET")


def floor(app: App) -> App:
    requests, durations = bound_children()

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        start = perf_counter()
        status = 500

        async def observed(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, observed)
        finally:
            requests[status].inc()
            durations.observe(perf_counter() - start)

    return wrapped


def blind_floor(app: App) -> App:
    requests, durations = bound_children()
    counter = requests[200]

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        start = perf_counter()
        try:
            await app(scope, receive, send)
        finally:
            counter.inc()
            durations.observe(perf_counter() - start)

    return wrapped


def instrumented(ratio: float, settings: Settings | None = None) -> App:
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Discard()))
    chosen = settings or Settings(service="bench", version="1.2.0", track="canary")
    return instrument(bare(), settings=chosen, tracer_provider=provider)


SUBJECTS: dict[str, Callable[[], App]] = {
    "bare": bare,
    "bare again (A/A)": bare,
    "no-op wrapper and send": lambda: no_op(bare()),
    "two calls, status unseen": lambda: blind_floor(bare()),
    "FLOOR": lambda: floor(bare()),
    "instrument, 0 %": lambda: instrumented(0.0),
    "instrument, 10 %": lambda: instrumented(0.1),
    "instrument, 100 %": lambda: instrumented(1.0),
}


class Caller:
    """Calls an app as a server does."""

    def __init__(self, header_count: int, extra: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._headers = [
            (b"host", b"shop.example"),
            (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"),
            (b"accept", b"*/*"),
            *((f"x-header-{i}".encode(), b"value of some length") for i in range(header_count - 3)),
            *extra,
        ]
        self._received = {"type": "http.request", "body": b"", "more_body": False}
        self.last_status = 0

    def scope(self, number: int) -> dict[str, Any]:
        path = f"/items/{number}"
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": self._headers,
            "client": ("10.0.0.1", 40000),
            "server": ("10.0.0.2", 8000),
            "state": {},
        }

    async def receive(self) -> dict[str, Any]:
        return self._received

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.last_status = message["status"]

    async def slice(self, app: App, requests: int) -> float:
        """Return CPU seconds per request."""
        loop = asyncio.get_running_loop()
        start = process_time()
        for number in range(requests):
            await loop.create_task(app(self.scope(number), self.receive, self.send))
        used = (process_time() - start) / requests
        if self.last_status != 200:
            raise RuntimeError(f"the app answered {self.last_status}")
        return used


@dataclass(frozen=True)
class Row:
    subject: str
    added_us: float
    low_us: float
    high_us: float
    ratio: float
    """To FLOOR."""


CASES: dict[str, Caller] = {
    "3 headers": Caller(3),
    "15 headers": Caller(15),
    "15 headers, called by an instrumented service (unsampled traceparent, baggage)": Caller(
        15,
        [
            (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
            (b"baggage", b"rolloutobs.service=gateway,rolloutobs.version=1.1.0,rolloutobs.track=stable"),
        ],
    ),
}


async def work(name: str, case: str) -> None:
    """Measure one slice per line of standard input, which gives its number of requests."""
    app, caller = SUBJECTS[name](), CASES[case]
    gc.disable()  # collected between slices
    for line in sys.stdin:
        print(await caller.slice(app, int(line)), flush=True)
        gc.collect()
    check(name, app)


class Worker:
    """A process with one subject."""

    def __init__(self, name: str, case: str) -> None:
        command = [sys.executable, __file__, "--worker", name, case]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, requests: int) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{requests}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate()
        if self._process.returncode:
            raise RuntimeError("a subject failed, see above")


def measure(case: str, rounds: int, requests: int) -> list[Row]:
    workers = {name: Worker(name, case) for name in SUBJECTS}
    differences: dict[str, list[float]] = {name: [] for name in workers}
    for worker in workers.values():
        worker.measure(requests)
    for _ in range(rounds):
        order = random.sample(list(workers), len(workers))
        used = {name: workers[name].measure(requests) for name in order}
        for name, seconds in used.items():
            differences[name].append((seconds - used["bare"]) * 1e6)
    for worker in workers.values():
        worker.end()
    unit = statistics.median(differences["FLOOR"])
    rows = []
    for name, values in differences.items():
        deciles = statistics.quantiles(values, n=10)
        middle = statistics.median(values)
        rows.append(Row(name, middle, deciles[0], deciles[-1], middle / unit))
    return rows[1:]


def check(name: str, app: App) -> None:
    """Refuse figures of telemetry that failed: failing is quick."""
    wrapper = getattr(app, "_rolloutobs", None)
    if wrapper is not None:
        samples = {
            sample.name: sample.value for metric in wrapper.http.collect() for sample in metric.samples
        }
        failures = sum(cell.value for _, cell in wrapper.failures.family.items())
        if failures or not samples["http_requests_total"]:
            raise RuntimeError(f"{name}: telemetry did not work, {failures:.0f} failures")


def table(title: str, rows: list[Row]) -> str:
    lines = [title, f"{'':26}{'added us':>9}{'p10':>8}{'p90':>8}{'x FLOOR':>9}"]
    lines += [
        f"{row.subject:26}{row.added_us:9.1f}{row.low_us:8.1f}{row.high_us:8.1f}{row.ratio:9.2f}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--requests", type=int, default=400, help="per slice")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=2, metavar=("SUBJECT", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        asyncio.run(work(*options.worker))
        return 0
    results = {case: measure(case, options.rounds, options.requests) for case in CASES}
    if options.json:
        print(json.dumps({title: [asdict(row) for row in rows] for title, rows in results.items()}, indent=1))
    else:
        print("\n\n".join(table(title, rows) for title, rows in results.items()))
    ratio = next(row.ratio for row in results["3 headers"] if row.subject == "instrument, 10 %")
    verdict = "within" if ratio <= TARGET_RATIO else "ABOVE"
    print(f"\n10 % sampling: {ratio:.2f}x FLOOR, {verdict} the target of {TARGET_RATIO}x", file=sys.stderr)
    return 0 if ratio <= TARGET_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
