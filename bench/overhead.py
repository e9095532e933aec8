"""What `instrument(app)` costs per request, against doing nothing and against the least that metrics can
cost.

    python bench/overhead.py [--rounds 150] [--requests 100] [--json]

FLOOR is what a careful team would write by hand: `perf_counter`, one bound `Counter.inc` and one bound
`Histogram.observe` with 16 buckets of prometheus_client, no route, no version, no trace.

Method: every subject is the same Starlette app in one process, and each request is a task of its own, as
under uvicorn. A round runs a slice of requests of every subject in random order and pairs each with the bare
app of that round; reported is the median over rounds of the paired differences of process CPU time (not wall
time: a loaded machine changes it little). The A/A row is the bare app against itself: what it shows is noise.
Spans go through a real SDK and a batch processor to an exporter that drops them, so encoding and sending are
not part of the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import statistics
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


def floor(app: App) -> App:
    registry = CollectorRegistry()
    labels = {"method": "GET", "status": "200"}
    requests = Counter("requests", "d", list(labels), registry=registry).labels(**labels)
    # The bare app takes some 20 us: the fifth bucket, as 30 ms would in usual bounds (observe() looks one by
    # one).
    bounds = [5e-6 * 1.6**i for i in range(16)]
    durations = Histogram("seconds", "d", list(labels), buckets=bounds, registry=registry).labels(**labels)

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        start = perf_counter()
        try:
            await app(scope, receive, send)
        finally:
            requests.inc()
            durations.observe(perf_counter() - start)

    return wrapped


def instrumented(ratio: float, settings: Settings | None = None) -> App:
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Discard()))
    chosen = settings or Settings(service="bench", version="1.2.0", track="canary")
    return instrument(bare(), settings=chosen, tracer_provider=provider)


def subjects() -> dict[str, App]:
    return {
        "bare": bare(),
        "bare again (A/A)": bare(),
        "no-op wrapper and send": no_op(bare()),
        "FLOOR": floor(bare()),
        "instrument, 0 %": instrumented(0.0),
        "instrument, 10 %": instrumented(0.1),
        "instrument, 100 %": instrumented(1.0),
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


async def measure(apps: dict[str, App], caller: Caller, rounds: int, requests: int) -> list[Row]:
    for app in apps.values():
        await caller.slice(app, requests)
    differences: dict[str, list[float]] = {name: [] for name in apps}
    for number in range(rounds):
        order = list(apps)
        random.shuffle(order)
        if number % 10 == 0:
            gc.collect()
        used = {name: await caller.slice(apps[name], requests) for name in order}
        for name, seconds in used.items():
            differences[name].append((seconds - used["bare"]) * 1e6)
    unit = statistics.median(differences["FLOOR"])
    check(apps)
    rows = []
    for name, values in differences.items():
        deciles = statistics.quantiles(values, n=10)
        middle = statistics.median(values)
        rows.append(Row(name, middle, deciles[0], deciles[-1], middle / unit))
    return rows[1:]


def check(apps: dict[str, App]) -> None:
    """Refuse figures of telemetry that failed: failing is quick."""
    for name, app in apps.items():
        wrapper = getattr(app, "_rolloutobs", None)
        if wrapper is None:
            continue
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


TRACEPARENT = (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
BAGGAGE = (b"baggage", b"rolloutobs.service=gateway,rolloutobs.version=1.1.0,rolloutobs.track=stable")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--requests", type=int, default=100, help="per slice")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cases = {
        "3 headers": Caller(3),
        "15 headers": Caller(15),
        "15 headers, called by an instrumented service (unsampled traceparent, baggage)": Caller(
            15, [TRACEPARENT, BAGGAGE]
        ),
    }
    gc.disable()  # collected between slices: else one subject pays for another's garbage
    results = {
        title: asyncio.run(measure(subjects(), caller, options.rounds, options.requests))
        for title, caller in cases.items()
    }
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
