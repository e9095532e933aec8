"""A small simulator of rollouts: what the engine decides, and when, on traffic that we know the truth about.

`python bench/simulate.py` prints a table; tests use `World` and `run`. Everything is seeded.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rolloutobs import semconv
from rolloutobs.analysis.model import (
    Decision,
    HistogramPair,
    PairCount,
    PodCount,
    PodHistogram,
    Stratum,
    Tick,
)
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.verdict import Engine

OTEL_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
Mixture = tuple[tuple[float, float, float], ...]
"""(share, median in seconds, sigma of the logarithm) of each part of a latency distribution."""
USUAL: Mixture = ((0.97, 0.080, 0.6), (0.03, 0.300, 0.5))


@dataclass(frozen=True)
class Route:
    """One route: its share of the traffic, and how both tracks answer it. `canary_*` None: as stable."""

    stratum: Stratum = ()
    weight: float = 1.0
    errors: float = 0.005
    canary_errors: float | None = None
    latency: Mixture = USUAL
    canary_latency: Mixture | None = None


@dataclass(frozen=True)
class Stream:
    """Events that are not requests: views with JavaScript errors, conversions, synthetic checks."""

    signal: str
    stratum: Stratum
    per_second: float
    rate: float
    canary_rate: float | None = None
    paired: bool = False
    """Both tracks get the same exposures, whatever their share of the traffic (synthetic checks)."""


@dataclass(frozen=True)
class World:
    """The truth about one rollout."""

    rps: float = 100.0
    share: float = 0.05
    routes: tuple[Route, ...] = (Route(),)
    streams: tuple[Stream, ...] = ()
    bounds: tuple[float, ...] = OTEL_BOUNDS
    tick_seconds: float = 15.0
    past_seconds: float = 1800.0
    seconds: float = 1800.0
    pods: int = 4
    onset: float = 0.0
    """When the canary's faults begin."""
    shared_at: float = math.inf
    """From then on `shared_errors` of all requests fail on both tracks, and those of both get `shared_slow`
    times slower."""
    shared_errors: float = 0.0
    shared_slow: float = 1.0
    cluster: float = 1.0
    """Errors come in clusters of this mean size, each in one pod."""
    drift: float = 0.0
    """Amplitude of a slow wave (30 min) in the error rate of both tracks, and in the traffic."""
    canary_pod_slow: float = 0.0
    """Standard deviation of the log latency of one pod against another (one canary pod)."""


@dataclass(frozen=True)
class Ending:
    """What came out of one run."""

    decision: Decision
    seconds: float
    extra_failures: float
    reason: str = ""


def ticks(world: World, rng: np.random.Generator) -> Iterator[Tick]:
    """Yield the ticks of one rollout, pre-history first."""
    shift = math.exp(rng.normal(0.0, world.canary_pod_slow)) if world.canary_pod_slow else 1.0
    steps = round((world.past_seconds + world.seconds) / world.tick_seconds)
    first = -round(world.past_seconds / world.tick_seconds)
    shapes: dict[tuple[Mixture, float], np.ndarray] = {}

    def shape(mixture: Mixture, factor: float) -> np.ndarray:
        key = (mixture, factor)
        if key not in shapes:
            shapes[key] = bucket_shares(mixture, world.bounds, factor)
        return shapes[key]

    for step in range(first, first + steps):
        start, end = step * world.tick_seconds, (step + 1) * world.tick_seconds
        yield _tick(world, rng, (start, end), shape, shift)


def _tick(
    world: World,
    rng: np.random.Generator,
    times: tuple[float, float],
    shape: Callable[[Mixture, float], np.ndarray],
    shift: float,
) -> Tick:
    start, end = times
    wave = 1.0 + world.drift * math.sin(2.0 * math.pi * end / 1800.0)
    share = world.share if end > 0 else 0.0
    total = sum(route.weight for route in world.routes)
    shared = world.shared_errors if start >= world.shared_at else 0.0
    slow = world.shared_slow if start >= world.shared_at else 1.0
    counts: dict[Stratum, PairCount] = {}
    histograms: dict[Stratum, HistogramPair] = {}
    pods = np.zeros((world.pods, 2))
    pod_buckets = np.zeros((world.pods, len(world.bounds) + 1))
    for route in world.routes:
        mean = world.rps * wave * world.tick_seconds * route.weight / total
        n_c = int(rng.poisson(mean * share))
        n_p = rng.poisson(mean * (1.0 - share) / world.pods, world.pods)
        bad = start >= world.onset
        p_s = min(route.errors * wave + shared, 1.0)
        own = route.errors if route.canary_errors is None or not bad else route.canary_errors
        p_c = min(own * wave + shared, 1.0)
        k_c = int(_events(rng, np.array([n_c]), p_c, world.cluster)[0])
        k_p = _events(rng, n_p, p_s, world.cluster)
        mixture = route.latency if route.canary_latency is None or not bad else route.canary_latency
        h_c = rng.multinomial(n_c, shape(mixture, slow * shift))
        h_p = rng.multinomial(n_p, shape(route.latency, slow))
        counts[route.stratum] = PairCount(k_c, n_c, int(k_p.sum()), int(n_p.sum()))
        histograms[route.stratum] = HistogramPair(
            world.bounds, tuple(h_c.tolist()), tuple(h_p.sum(axis=0).tolist())
        )
        pods += np.stack([k_p, n_p], axis=1)
        pod_buckets += h_p
    others = {each.signal: _stream(world, each, rng, times) for each in world.streams}
    return Tick(
        start=start,
        end=end,
        counts={"errors": counts, **others},
        histograms={"latency": histograms},
        stable_pods={"errors": {f"pod-{i}": PodCount(int(k), float(n)) for i, (k, n) in enumerate(pods)}},
        stable_pod_histograms={
            "latency": {
                f"pod-{i}": PodHistogram(world.bounds, tuple(int(c) for c in row))
                for i, row in enumerate(pod_buckets)
            }
        },
        canary_version="1.2.0",
        stable_version="1.1.0",
    )


def _stream(
    world: World, stream: Stream, rng: np.random.Generator, times: tuple[float, float]
) -> dict[Stratum, PairCount]:
    share = world.share if times[1] > 0 else 0.0
    mean = stream.per_second * world.tick_seconds
    n_c = int(rng.poisson(mean * share))
    n_s = int(rng.poisson(mean * (1.0 - share)))
    if stream.paired:
        n_c = n_s = int(rng.poisson(mean)) if share else 0
    own = stream.rate if stream.canary_rate is None or times[0] < world.onset else stream.canary_rate
    return {
        stream.stratum: PairCount(int(rng.binomial(n_c, own)), n_c, int(rng.binomial(n_s, stream.rate)), n_s)
    }


def _events(rng: np.random.Generator, n: np.ndarray, p: float, cluster: float) -> np.ndarray:
    if cluster <= 1.0:
        return rng.binomial(n, p)
    beginnings = rng.poisson(n * p / cluster)
    sizes = np.array([rng.geometric(1.0 / cluster, b).sum() for b in beginnings])
    return np.minimum(sizes, n)


def bucket_shares(mixture: Mixture, bounds: tuple[float, ...], factor: float = 1.0) -> np.ndarray:
    """Return the probability of each bucket, one more than `bounds`, of `factor` times the mixture."""
    below = np.zeros(len(bounds))
    for part, median, sigma in mixture:
        z = (np.log(np.array(bounds)) - math.log(median * factor)) / sigma
        below += part * np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in z])
    shares = np.diff(np.concatenate([[0.0], below, [1.0]]))
    return shares / shares.sum()


def run(policy: Policy, world: World, seed: int, *, explain: bool = False) -> Ending:
    """Return how one rollout ends: at the first decision, or undecided at its end."""
    engine = Engine(policy)
    extra = 0.0
    for tick in ticks(world, np.random.default_rng(seed)):
        decision = engine.update(tick)
        if tick.end <= 0:
            continue
        for route, pair in zip(world.routes, tick.counts["errors"].values(), strict=True):
            if route.canary_errors is not None and tick.start >= world.onset:
                extra += pair.canary_exposures * (route.canary_errors - route.errors)
        if decision is not Decision.HOLD:
            return Ending(decision, tick.end, extra, engine.verdict().reason if explain else "")
    return Ending(Decision.HOLD, tick.end, extra, engine.verdict().reason if explain else "")


def study(policy: Policy, world: World, runs: int, seed: int = 1) -> Mapping[str, Any]:
    """Return how often a world ends in each decision, and the median seconds to it."""
    endings = [run(policy, world, seed * 100_000 + i) for i in range(runs)]
    result: dict[str, Any] = {}
    for decision in Decision:
        times = [e.seconds for e in endings if e.decision is decision]
        result[decision.value] = (100.0 * len(times) / runs, float(np.median(times)) if times else math.nan)
    result["extra"] = float(np.mean([e.extra_failures for e in endings]))
    return result


def like_the_study() -> Policy:
    """The policy of the published tables: errors and latency only, alpha 5 %."""
    return Policy.from_mapping(
        {"alpha": 0.05, "promote_alpha": 0.05, "signals": {"js_errors": None, "journey": None}}
    )


ONE = (Route(),)


def _slower(factor: float) -> Mixture:
    return tuple((part, median * factor, sigma) for part, median, sigma in USUAL)


def strata(**labels: str) -> Stratum:
    """Return a stratum from labels."""
    return tuple(sorted(labels.items()))


def route(method: str, path: str) -> Stratum:
    """Return the stratum of a server route."""
    return strata(**{semconv.LABEL_METHOD: method, semconv.LABEL_ROUTE: path})


def _zipf(broken: int, times: float) -> tuple[Route, ...]:
    """Fifty routes with Zipf weights; the one of rank `broken` has so many times the errors on the canary."""
    return tuple(
        Route(route("GET", f"/{rank}"), 1.0 / rank, canary_errors=0.005 * times if rank == broken else None)
        for rank in range(1, 51)
    )


SCENARIOS: Mapping[str, World] = {
    "aa_flat": World(),
    "aa_drift": World(drift=0.5),
    "aa_clusters10": World(cluster=10.0),
    "aa_podeffect5": World(canary_pod_slow=0.05),
    "aa_harmless_3pct": World(routes=(Route(canary_latency=_slower(1.03)),)),
    "ab_err_0.5to1": World(routes=(Route(canary_errors=0.01),)),
    "ab_err_0.1to2": World(routes=(Route(errors=0.001, canary_errors=0.02),)),
    "ab_err_broken30": World(routes=(Route(canary_errors=0.3),)),
    "ab_route10_x20": World(routes=_zipf(10, 20.0)),
    "both_tracks_0.5to10": World(shared_at=0.0, shared_errors=0.095),
    "ab_err_late10min": World(routes=(Route(canary_errors=0.03),), onset=600.0),
    "ab_lat_x1.1": World(routes=(Route(canary_latency=_slower(1.1)),)),
    "ab_lat_x1.5": World(routes=(Route(canary_latency=_slower(1.5)),)),
    "ab_lat_bimodal": World(
        routes=(Route(canary_latency=((0.95, 0.08, 0.6), (0.03, 0.3, 0.5), (0.02, 1.5, 0.3))),)
    ),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--rps", type=float, nargs="*", default=[10.0, 100.0, 1000.0])
    parser.add_argument("scenarios", nargs="*", default=[])
    given = parser.parse_args()
    policy = like_the_study()
    print(f"{'scenario':20}" + "".join(f"{rps:>8g} rps: rollback / promote      " for rps in given.rps))
    for name in given.scenarios or SCENARIOS:
        cells, began = [], time.perf_counter()
        for rps in given.rps:
            found = study(policy, replace(SCENARIOS[name], rps=rps), given.runs)
            back, forth = found["rollback"], found["promote"]
            cells.append(f"{back[0]:5.0f} % @{back[1]:5.0f} / {forth[0]:3.0f} % @{forth[1]:5.0f}    ")
        print(f"{name:20}" + "".join(cells) + f"  ({time.perf_counter() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
