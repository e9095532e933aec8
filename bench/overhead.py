"""What `instrument(app)` costs per request, against doing nothing and against the least that metrics can
cost.

    python -m bench.overhead [--rounds 150] [--requests 200] [--json]

FLOOR is what a careful team would write by hand: `perf_counter`, the status from `send`, one bound
`Counter.inc` and one bound `Histogram.observe` with 16 buckets of prometheus_client; no route, no version, no
trace. The row above it leaves out the status, which a counter of errors cannot.

Method: all subjects are Starlette apps in one process, pinned to one core where the system lets it, and each
request is a task of its own, as under uvicorn. A round runs a slice of requests of each subject in random
order, with the garbage collector between slices, and takes the CPU time of the thread (not wall time). Other
work on the machine only ever adds to a slice, so the first decile over the rounds is compared, as `added`
above the bare app's; the median is shown beside it. The A/A row is the bare app against itself: what it shows
is noise. Spans go through a real SDK and a batch processor to an exporter that drops them, in a thread of
their own: encoding and sending are not part of the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter, thread_time
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

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
        start = thread_time()
        for number in range(requests):
            await loop.create_task(app(self.scope(number), self.receive, self.send))
        used = (thread_time() - start) / requests
        if self.last_status != 200:
            raise RuntimeError(f"the app answered {self.last_status}")
        return used


@dataclass(frozen=True)
class Row:
    subject: str
    added_us: float
    """First decile over the rounds, above the bare app's."""
    added_median_us: float
    ratio: float
    """To FLOOR, of the first deciles."""


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


async def measure(caller: Caller, rounds: int, requests: int) -> list[Row]:
    apps = {name: make() for name, make in SUBJECTS.items()}
    used: dict[str, list[float]] = {name: [] for name in apps}
    for app in apps.values():
        await caller.slice(app, requests)
    gc.disable()
    for _ in range(rounds):
        for name in random.sample(list(apps), len(apps)):
            used[name].append(await caller.slice(apps[name], requests) * 1e6)
        gc.collect()
    gc.enable()
    for name, app in apps.items():
        check(name, app)
    low = {name: statistics.quantiles(values, n=10)[0] for name, values in used.items()}
    middle = {name: statistics.median(values) for name, values in used.items()}
    unit = low["FLOOR"] - low["bare"]
    return [
        Row(name, low[name] - low["bare"], middle[name] - middle["bare"], (low[name] - low["bare"]) / unit)
        for name in apps
        if name != "bare"
    ]


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
    lines = [title, f"{'':26}{'added us':>9}{'median':>8}{'x FLOOR':>9}"]
    lines += [
        f"{row.subject:26}{row.added_us:9.1f}{row.added_median_us:8.1f}{row.ratio:9.2f}" for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--requests", type=int, default=200, help="per slice")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    results = {
        case: asyncio.run(measure(caller, options.rounds, options.requests)) for case, caller in CASES.items()
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
