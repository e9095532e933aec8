"""What a request is made of: nanoseconds per piece, in a tight loop.

In a tight loop everything is in the processor's caches. In an app, where other code runs between two
requests, the same piece takes about twice as long: FLOOR's pieces add up to 3 us here and cost 6 us there.
So these figures are for comparing pieces with each other; `rounds` says what a request costs.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable
from contextvars import Context as Variables
from time import perf_counter, thread_time_ns
from typing import Any

from bench.overhead.rounds import first_decile
from bench.overhead.subject import App, failures
from bench.overhead.table import Table, Target
from bench.overhead.traffic import CASES

__all__ = ["pieces"]

CALLS = 200
"""Per slice."""
Piece = Callable[[], object]


def _nothing() -> None:
    """Cost a call, which is taken off the others."""


def _floor_pieces() -> dict[str, Piece]:
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = CollectorRegistry()
    counter = Counter("requests", "d", ["status"], registry=registry).labels("200")
    bounds = [5e-6 * 1.6**i for i in range(16)]
    histogram = Histogram("seconds", "d", ["method"], buckets=bounds, registry=registry).labels("GET")
    return {
        "perf_counter()": perf_counter,
        "prometheus_client, Counter.inc, bound": counter.inc,
        "prometheus_client, Histogram.observe, bound, fifth bucket": lambda: histogram.observe(3e-5),
    }


class _Route:
    path_format = "/items/{item_id}"


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    """Answer as Starlette does, without its work."""
    scope["route"] = _Route
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Any) -> None:
    """Drop the answer."""


def _calling(app: Any, case: str) -> Piece:
    caller = CASES[case]

    def call() -> None:
        try:
            app(caller.scope("/items/7"), _receive, _send).send(None)
        except StopIteration:
            return
        raise RuntimeError("the app waits")

    return call


def _request_pieces(settle: list[Callable[[], None]], apps: list[App]) -> dict[str, Piece]:
    from bench.overhead.spans import Spans
    from rolloutobs import Settings, instrument

    plain, _, called = CASES
    found: dict[str, Piece] = {"an app that answers at once": _calling(_answer, plain)}
    for ratio, name in ((0.0, "not sampled"), (1.0, "sampled")):
        spans = Spans(ratio)
        settle.append(spans.settle)
        settings = Settings(service="bench", version="1.2.0", track="canary")
        app = instrument(_answer, settings=settings, tracer_provider=spans.provider)
        apps.append(app)
        found[f"the same, instrumented, {name}"] = _calling(app, plain)
        if not ratio:
            found["the same, instrumented, called by an instrumented service"] = _calling(app, called)
    return found


def _sdk_span(settle: list[Callable[[], None]]) -> dict[str, Piece]:
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind

    from bench.overhead.spans import Spans
    from rolloutobs.http.attributes import request_attributes

    spans = Spans(1.0)
    settle.append(spans.settle)
    tracer = spans.provider.get_tracer("bench")
    scope = CASES["3 headers"].scope("/items/7")
    stamp = {"app.version": "1.2.0", "rolloutobs.track": "canary"}
    context = Context()

    def span() -> None:
        attributes = request_attributes(scope, stamp)
        started = tracer.start_span("GET", context, SpanKind.SERVER, attributes)
        started.set_attribute("http.response.status_code", 200)
        started.set_attribute("http.route", "/items/{item_id}")
        started.update_name("GET /items/{item_id}")
        started.end()

    return {"the SDK's own span with the attributes of ours": span}


def pieces(rounds: int = 60) -> tuple[list[Table], list[Target]]:
    """Return nanoseconds per piece: first decile of the rounds, the cost of a call taken off.

    Raises:
        RuntimeError: telemetry of ours has failed.
    """
    settle: list[Callable[[], None]] = []
    apps: list[App] = []
    every = {"": _nothing, **_floor_pieces(), **_request_pieces(settle, apps), **_sdk_span(settle)}
    used: dict[str, list[float]] = {name: [] for name in every}
    for _ in range(max(2, rounds)):
        for name in random.sample(list(every), len(every)):
            for flush in settle:
                flush()
            gc.collect()
            gc.disable()
            # Variables of its own: what a piece leaves set is not seen by the next.
            used[name].append(Variables().run(_slice, every[name]))
            gc.enable()
    for app in apps:
        failed = failures(asyncio.run(CASES["3 headers"].get(app, "/metrics")).decode())
        if failed:
            raise RuntimeError(f"telemetry did not work: {failed}")
    low = {name: first_decile(values) for name, values in used.items()}
    rows = tuple((name, f"{ns - low['']:.0f}") for name, ns in low.items() if name)
    return [Table("pieces", "pieces, ns in a tight loop", ("", "ns"), rows)], []


def _slice(piece: Piece) -> float:
    start = thread_time_ns()
    for _ in range(CALLS):
        piece()
    return (thread_time_ns() - start) / CALLS
