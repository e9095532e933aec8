"""What a look costs: `python -m bench.analysis_cost` prints the table in docs/performance.md.

Thread CPU time, the first decile of some looks, so that what else the machine does stays out; after the looks
that intern series and fix bounds. Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bench.overhead.table import Table, Target, as_text, write_docs
from rolloutobs.analysis.exposition import Exposition
from rolloutobs.analysis.model import HistogramPair, PairCount, Reading, Stratum, Tick
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.signals import Kind, Selector, Signal
from rolloutobs.analysis.ticks import Ticker
from rolloutobs.analysis.verdict import Engine

__all__ = ["Fleet", "engine_ticks", "main", "many_signals"]

TICK_SECONDS = 15.0
BOUNDS = tuple(round(0.005 * 1.5**i, 6) for i in range(20))


def many_signals(signals: int) -> Policy:
    """Return a policy of so many signals, half of them of latency."""
    return Policy(
        signals=tuple(
            Signal(
                f"s{i}",
                f"signal {i}",
                Kind.LATENCY if i % 2 else Kind.RATIO,
                Selector(f"m{i}"),
                None if i % 2 else Selector(f"e{i}"),
                ("route",),
            )
            for i in range(signals)
        ),
        traffic="s0",
    )


def engine_ticks(policy: Policy, routes: int, ticks: int) -> Iterator[Tick]:
    """Yield ticks in which every route has traffic, a quarter of them of the past."""
    rng = np.random.default_rng(1)
    strata: list[Stratum] = [(("route", f"/r{i}"),) for i in range(routes)]

    def buckets(mean: float) -> tuple[int, ...]:
        return tuple(int(n) for n in rng.poisson(mean / (len(BOUNDS) + 1), len(BOUNDS) + 1))

    for number in range(-ticks // 4, ticks):
        canary = 0.0 if number < 0 else 20.0
        counts, histograms = {}, {}
        for signal in policy.signals:
            if signal.kind is Kind.LATENCY:
                histograms[signal.name] = {
                    s: HistogramPair(BOUNDS, buckets(canary), buckets(200)) for s in strata
                }
            else:
                counts[signal.name] = {
                    s: PairCount(
                        int(rng.binomial(int(canary), 0.01)), canary, int(rng.binomial(200, 0.01)), 200
                    )
                    for s in strata
                }
        start = number * TICK_SECONDS
        yield Tick(start, start + TICK_SECONDS, counts, histograms, by_pod_age=True)


@dataclass
class Fleet:
    """Bodies of ``/metrics`` of processes that count: the canary's first."""

    pods: int
    series: int

    def body(self, pod: int, look: int) -> str:
        """Return what `pod` shows at a look: two counters and a histogram a route, and metrics of others."""
        own = f'app="shop",version="1.{int(pod == 0)}",track="{"stable" if pod else "canary"}"'
        lines = [f"app_start_time_seconds{{{own}}} 1700000000.5"]
        # A route has two counters, 21 buckets, a count and a sum; a third of all series are of others.
        for route in range(self.series * 2 // 3 // 25):
            of = f'{own},method="GET",route="/r{route}"'
            lines += [
                f'http_requests_total{{{of},status="{s}"}} {n}' for s, n in ((200, look * 50), (500, look))
            ]
            of += ',status_class="2xx"'
            for i, le in enumerate((*BOUNDS, "+Inf")):
                lines.append(f'http_request_duration_seconds_bucket{{{of},le="{le}"}} {look * 2 * (i + 1)}')
            lines.append(f"http_request_duration_seconds_count{{{of}}} {look * 42}")
            lines.append(f"http_request_duration_seconds_sum{{{of}}} {look * 4.2}")
        lines += [f'db_pool_{i}{{{own},pool="main"}} {look}' for i in range(self.series - len(lines))]
        return "\n".join(lines) + "\n"


def _spent(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _engine(looks: int) -> list[float]:
    policy = many_signals(12)
    engine = Engine(policy)
    spent = [_spent(partial(engine.observe, tick)) for tick in engine_ticks(policy, 200, looks)]
    return spent[-looks // 2 :]


class _Looks:
    """Straight scraping of a fleet, one step after the other."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, policy = fleet, Policy()
        self._ticker, self._engine = Ticker(policy.compared), Engine(policy)
        self._parsers = [Exposition(self._ticker.metrics, "shop") for _ in range(fleet.pods)]
        self._bodies: list[str] = []
        self._reading = Reading(0.0, {})
        self._ticks: tuple[Tick, ...] = ()

    def next(self, look: int) -> dict[str, float]:
        """Return what each step of a look cost, in seconds."""
        self._bodies = [self._fleet.body(pod, look + 1) for pod in range(self._fleet.pods)]
        self._reading = Reading(1_700_000_100.0 + look * TICK_SECONDS, {})
        steps = {"parsing": self._parse, "ticks": self._advance, "judging": self._judge}
        return {name: _spent(step) for name, step in steps.items()}

    def _parse(self) -> None:
        parsed = (parser.parse(body) for parser, body in zip(self._parsers, self._bodies, strict=True))
        targets = {f"pod-{pod}": samples for pod, samples in enumerate(parsed)}
        self._reading = replace(self._reading, targets=targets)

    def _advance(self) -> None:
        self._ticks = self._ticker.advance(self._reading).ready

    def _judge(self) -> None:
        for tick in self._ticks:
            self._engine.observe(tick)


def _scraped(number: int) -> dict[str, float]:
    looks = _Looks(Fleet(50, 2000))
    spent = [looks.next(look) for look in range(number)][number // 2 :]
    return {name: _first_decile(each[name] for each in spent) for name in spent[0]}


def _first_decile(seconds: Iterable[float]) -> float:
    return statistics.quantiles(seconds, n=10, method="inclusive")[0]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.analysis_cost", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--looks", type=int, default=40)
    parser.add_argument("--docs", action="store_true", help="write the table into docs/performance.md")
    options = parser.parse_args(argv)
    engine = _first_decile(_engine(options.looks))
    parts = _scraped(options.looks)
    rows = [("a tick of 12 signals, 200 routes, 20 bounds", engine)]
    rows += [(f"50 processes of 2,000 series: {name}", seconds) for name, seconds in parts.items()]
    rows.append(("50 processes of 2,000 series: a look", sum(parts.values())))
    table = Table(
        "analysis",
        "The analysis, thread CPU time",
        ("", "ms", "of a core, every 15 s"),
        tuple((name, f"{1e3 * s:.1f}", f"{100 * s / TICK_SECONDS:.2f} %") for name, s in rows),
    )
    targets = [
        Target("a tick of 12 signals, 200 routes, 20 bounds, ms", 1e3 * engine, 25.0),
        Target("50 processes of 2,000 series, % of a core", 100 * rows[-1][1] / TICK_SECONDS, 10.0),
    ]
    print(as_text(table), *targets, sep="\n")
    if options.docs:
        for name in write_docs([table]):
            print(f"no place for {name} in docs/performance.md", file=sys.stderr)
    return 0 if all(target.kept for target in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
