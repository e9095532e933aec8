"""A scrape with 10,000 series: ours against `prometheus_client.generate_latest` of the very same series.

The other side is a plain registry of prometheus_client's own counters, gauges and histograms with every label
given when they were made, app, version and track included; it is refused if its samples differ from ours.
Both are measured from the request to the last byte, as CPU time of the whole process, first decile of
interleaved rounds. "blocked" is the longest time for which nothing else could run on the event loop during a
scrape (wall time, median over the scrapes; lowest quarter where the machine is busy).
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any

from bench.overhead.rounds import first_decile
from bench.overhead.table import Table, Target
from bench.overhead.traffic import Caller

__all__ = ["exposition"]

SERIES_PER_ROUTE = 25
"""Two counters from zero (200, 500), and one histogram: 20 bounds, +Inf, count, sum."""
TEXT, OPEN_METRICS = "text", "OpenMetrics"
PLAIN = "prometheus_client"
ACCEPT = {
    TEXT: "text/plain;version=0.0.4",
    OPEN_METRICS: "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.1",
}
Scrape = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True)
class _Cost:
    milliseconds: float
    blocked_milliseconds: float
    size: int


async def _app(series: int) -> Any:
    """Return an instrumented app of which about `series` series are in use."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from rolloutobs import Settings, instrument

    async def answer(request: Any) -> PlainTextResponse:
        return PlainTextResponse("ok")

    count = max(1, series // SERIES_PER_ROUTE)
    routes = [Route(f"/shop/section-{i}/items/{{item_id}}", answer) for i in range(count)]
    settings = Settings(service="bench", version="1.2.0", track="canary", max_label_sets=2 * count + 10)
    app = instrument(Starlette(routes=routes), settings=settings)
    caller = Caller(3)
    for i in range(count):
        await caller.get(app, f"/shop/section-{i}/items/7")
    return app


def _scraping(app: Any, accept: str) -> Scrape:
    caller = Caller(3)
    caller.headers.append((b"accept", accept.encode()))

    async def scrape() -> bytes:
        return await caller.get(app, "/metrics")

    return scrape


def plain_registry(text: str) -> Any:
    """Return a prometheus_client registry with the series of a text exposition.

    Raises:
        RuntimeError: the registry's samples are not those of `text`.
    """
    from prometheus_client import CollectorRegistry
    from prometheus_client.parser import text_string_to_metric_families

    registry = CollectorRegistry()
    families = list(text_string_to_metric_families(text))
    for family in families:
        if family.samples:
            _fill(family, registry)

    def shape(found: Any) -> set[Any]:
        samples = (sample for metric in found for sample in metric.samples)
        return {(s.name, frozenset(s.labels.items())) for s in samples if not s.name.endswith("_created")}

    difference = shape(families) ^ shape(registry.collect())
    if difference:
        raise RuntimeError(f"not the same series: {sorted(map(str, difference))[:5]}")
    return registry


def _fill(family: Any, registry: Any) -> None:
    from prometheus_client import Counter, Gauge, Histogram

    samples = family.samples
    if family.type == "histogram":
        bounds = sorted({float(s.labels["le"]) for s in samples if "le" in s.labels})
        names = [name for name in samples[0].labels if name != "le"]
        metric: Any = Histogram(family.name, family.documentation, names, buckets=bounds, registry=registry)
        for sample in samples:
            if sample.name.endswith("_sum"):
                _child(metric, sample.labels).observe(sample.value)
        return
    kind = Counter if family.type == "counter" else Gauge
    metric = kind(family.name, family.documentation, list(samples[0].labels), registry=registry)
    for sample in samples:
        _child(metric, sample.labels).inc(sample.value)


def _child(metric: Any, labels: dict[str, str]) -> Any:
    return metric.labels(**labels) if labels else metric


def _plain_scrape(registry: Any, accept: str) -> Scrape:
    from prometheus_client.exposition import choose_encoder

    async def scrape() -> bytes:
        encoder, _ = choose_encoder(accept)
        return bytes(encoder(registry))

    return scrape


async def _measure(scrapes: dict[str, Scrape], rounds: int) -> dict[str, _Cost]:
    used: dict[str, list[float]] = {name: [] for name in scrapes}
    blocked: dict[str, list[float]] = {name: [] for name in scrapes}
    sizes = {name: len(await scrape()) for name, scrape in scrapes.items()}
    for _ in range(rounds):
        for name in random.sample(list(scrapes), len(scrapes)):
            gc.collect()
            start = process_time()
            await scrapes[name]()
            used[name].append(process_time() - start)
            blocked[name].append(await _blocked(scrapes[name]))
    return {
        name: _Cost(first_decile(used[name]) * 1e3, _lower_quarter(blocked[name]) * 1e3, sizes[name])
        for name in scrapes
    }


def _lower_quarter(values: list[float]) -> float:
    return statistics.quantiles(values, n=4)[0] if len(values) > 1 else values[0]


async def _blocked(scrape: Scrape) -> float:
    """Return the longest time in seconds between two turns of the event loop during a scrape."""
    done = False
    longest = 0.0

    async def turns() -> None:
        nonlocal longest
        last = perf_counter()
        while not done:
            await asyncio.sleep(0)
            now = perf_counter()
            longest = max(longest, now - last)
            last = now

    watching = asyncio.ensure_future(turns())
    await asyncio.sleep(0)
    await scrape()
    done = True
    await watching
    return longest


def exposition(series: int = 10_000, rounds: int = 20) -> tuple[list[Table], list[Target]]:
    """Return what a scrape of `series` series costs."""
    return asyncio.run(_exposition(series, rounds))


async def _exposition(series: int, rounds: int) -> tuple[list[Table], list[Target]]:
    from prometheus_client import disable_created_metrics

    # Ours has none either. For the whole process, which is that of the bench.
    disable_created_metrics()
    app = await _app(series)
    text = (await _scraping(app, ACCEPT[TEXT])()).decode()
    registry = plain_registry(text)
    count = sum(1 for line in text.splitlines() if line and not line.startswith("#"))
    scrapes: dict[str, Scrape] = {}
    for form, accept in ACCEPT.items():
        scrapes[f"ours, {form}"] = _scraping(app, accept)
        scrapes[f"{PLAIN}, {form}"] = _plain_scrape(registry, accept)
    costs = await _measure(scrapes, rounds)
    ratios = {
        form: costs[f"ours, {form}"].milliseconds / costs[f"{PLAIN}, {form}"].milliseconds for form in ACCEPT
    }
    rows = tuple(
        (
            name,
            f"{cost.milliseconds:.1f}",
            f"{ratios[form]:.2f}" if name.startswith("ours") else "1.00",
            f"{cost.blocked_milliseconds:.1f}",
            f"{cost.size / 1024:.0f}",
        )
        for form in ACCEPT
        for name, cost in costs.items()
        if name.endswith(form)
    )
    table = Table(
        "exposition",
        f"one scrape of {count:,} series",
        ("", "CPU ms", "ratio", "blocked ms", "KiB"),
        rows,
    )
    targets = [
        Target(f"/metrics with {count:,} series, times {PLAIN}'s own, {form}", ratio, 1.0)
        for form, ratio in ratios.items()
    ]
    return [table], targets
