"""Simulated rollouts: what the engine decides, and when, on traffic of which the truth is known.

Belongs here: the truth (`World`), what is counted of it (`ticks`), and how it ends (`run`, `study`). Random
by an explicit seed: the same for the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

__all__ = [
    "USUAL",
    "Ending",
    "Mixture",
    "Route",
    "Stream",
    "World",
    "bucket_shares",
    "run",
    "slower",
    "study",
    "ticks",
]

Floats = NDArray[np.float64]
Shape = Callable[["Mixture", float], Floats]
Mixture = tuple[tuple[float, float, float], ...]
"""(share, median in seconds, sigma of the logarithm) of each part of a latency distribution."""
USUAL: Mixture = ((0.97, 0.080, 0.6), (0.03, 0.300, 0.5))


@dataclass(frozen=True, slots=True)
class Route:
    """One route: its share of the traffic, and how both tracks answer it. `canary_*` None: as stable."""

    stratum: Stratum = ()
    weight: float = 1.0
    canary_weight: float | None = None
    """Its share of the canary's traffic, where that has another mix of routes."""
    errors: float = 0.005
    canary_errors: float | None = None
    latency: Mixture = USUAL
    canary_latency: Mixture | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """Events that are not requests: views with JavaScript errors, conversions, synthetic checks."""

    signal: str
    stratum: Stratum
    per_second: float
    rate: float
    canary_rate: float | None = None
    paired: bool = False
    """Both tracks get the same exposures, whatever their share of the traffic (synthetic checks)."""


@dataclass(frozen=True, slots=True)
class World:
    """The truth about one rollout."""

    rps: float = 100.0
    share: float = 0.05
    routes: tuple[Route, ...] = (Route(),)
    streams: tuple[Stream, ...] = ()
    bounds: tuple[float, ...] = semconv.SEMCONV_DURATION_BOUNDS
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
    noise: float = 0.0
    """Coefficient of variation of each track's error rate from tick to tick (beta-binomial counts)."""
    cold_seconds: float = 0.0
    """So long the canary is cold: `cold_errors` of its requests fail besides, and all take `cold_slow` times
    as long."""
    cold_errors: float = 0.0
    cold_slow: float = 1.0
    canary_pod_slow: float = 0.0
    """Standard deviation of the log latency of one pod against another (one canary pod)."""
    weighted: bool = False
    """The ticks say which share is configured, so that it is tested."""
    lost: float = 0.0
    """Part of the canary's requests that never reach it from `onset` on; 1 is a dead canary."""
    routing: float = 0.0
    """Coefficient of variation of the canary's share from tick to tick."""
    sticky: float = 0.0
    """Correlation of that share with the tick before; 0: independent."""
    share_end: float | None = None
    """The share at the end of a steady ramp that begins at `share`; ``None``: no ramp."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What came out of one run."""

    decision: Decision
    seconds: float
    extra_failures: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Moment:
    """What holds for all routes between `start` and `end`, seconds since the canary took traffic."""

    start: float
    end: float
    wave: float
    """Factor on rates of errors and traffic."""
    share: float
    shared_errors: float
    slow: float
    canary_errors: float
    """What fails besides on the canary."""
    canary_slow: float
    """Factor on the canary's latency alone."""
    noise: tuple[float, float]
    """Factors on the error rates of canary and stable."""


def ticks(world: World, rng: np.random.Generator) -> Iterator[Tick]:
    """Yield the ticks of one rollout, pre-history first."""
    shift = math.exp(rng.normal(0.0, world.canary_pod_slow)) if world.canary_pod_slow else 1.0
    steps = round((world.past_seconds + world.seconds) / world.tick_seconds)
    first = -round(world.past_seconds / world.tick_seconds)
    shapes: dict[tuple[Mixture, float], Floats] = {}

    def shape(mixture: Mixture, factor: float) -> Floats:
        key = (mixture, factor)
        if key not in shapes:
            shapes[key] = bucket_shares(mixture, world.bounds, factor)
        return shapes[key]

    wander = rng.normal() if world.sticky else 0.0
    for step in range(first, first + steps):
        start, end = step * world.tick_seconds, (step + 1) * world.tick_seconds
        shared, cold = start >= world.shared_at, 0.0 <= start < world.cold_seconds
        if world.sticky:
            wander = world.sticky * wander + math.sqrt(1.0 - world.sticky**2) * rng.normal()
        yield _tick(
            world,
            rng,
            shape,
            _Moment(
                start=start,
                end=end,
                wave=1.0 + world.drift * math.sin(2.0 * math.pi * end / 1800.0),
                share=_share(world, rng, start, wander) if end > 0 else 0.0,
                shared_errors=world.shared_errors if shared else 0.0,
                slow=world.shared_slow if shared else 1.0,
                canary_errors=world.cold_errors if cold else 0.0,
                canary_slow=shift * (world.cold_slow if cold else 1.0),
                noise=(_gamma(rng, world.noise), _gamma(rng, world.noise)),
            ),
        )


def _gamma(rng: np.random.Generator, cv: float) -> float:
    """Return a factor of mean 1 with that coefficient of variation."""
    return float(rng.gamma(1.0 / cv**2, cv**2)) if cv else 1.0


def _configured(world: World, start: float) -> float:
    """Return the share of the traffic that the canary is given at `start`."""
    if world.share_end is None:
        return world.share
    return world.share + (world.share_end - world.share) * start / world.seconds


def _share(world: World, rng: np.random.Generator, start: float, wander: float) -> float:
    """Return the share of the traffic that the canary gets in the tick that begins at `start`."""
    if world.sticky:
        sigma = math.sqrt(math.log1p(world.routing**2))
        noise = math.exp(sigma * wander - 0.5 * sigma**2)
    else:
        noise = _gamma(rng, world.routing)
    lost = world.lost if start >= world.onset else 0.0
    return min(_configured(world, start) * noise, 1.0) * (1.0 - lost)


def _tick(world: World, rng: np.random.Generator, shape: Shape, now: _Moment) -> Tick:
    total = sum(route.weight for route in world.routes)
    canary_total = sum(_canary_weight(route) for route in world.routes)
    counts: dict[Stratum, PairCount] = {}
    histograms: dict[Stratum, HistogramPair] = {}
    pods = np.zeros((world.pods, 2))
    pod_buckets = np.zeros((world.pods, len(world.bounds) + 1))
    for route in world.routes:
        traffic = world.rps * now.wave * world.tick_seconds
        n_c = int(rng.poisson(traffic * now.share * _canary_weight(route) / canary_total))
        n_p = rng.poisson(traffic * route.weight / total * (1.0 - now.share) / world.pods, world.pods)
        bad = now.start >= world.onset
        own = route.errors if route.canary_errors is None or not bad else route.canary_errors
        p_c = min(_rate(own * now.noise[0], now) + now.canary_errors, 1.0)
        k_c = int(_events(rng, np.array([n_c]), p_c, world.cluster)[0])
        k_p = _events(rng, n_p, _rate(route.errors * now.noise[1], now), world.cluster)
        mixture = route.latency if route.canary_latency is None or not bad else route.canary_latency
        h_c = rng.multinomial(n_c, shape(mixture, now.slow * now.canary_slow))
        h_p = rng.multinomial(n_p, shape(route.latency, now.slow))
        counts[route.stratum] = PairCount(k_c, n_c, int(k_p.sum()), int(n_p.sum()))
        histograms[route.stratum] = HistogramPair(
            world.bounds, tuple(h_c.tolist()), tuple(h_p.sum(axis=0).tolist())
        )
        pods += np.stack([k_p, n_p], axis=1)
        pod_buckets += h_p
    others = {each.signal: _stream(world, each, rng, now) for each in world.streams}
    return Tick(
        start=now.start,
        end=now.end,
        counts={"errors": counts, **others},
        histograms={"latency": histograms},
        stable_pods={"errors": {f"pod-{i}": PodCount(int(k), float(n)) for i, (k, n) in enumerate(pods)}},
        stable_pod_histograms={
            "latency": {
                f"pod-{i}": PodHistogram(world.bounds, tuple(int(c) for c in row))
                for i, row in enumerate(pod_buckets)
            }
        },
        weight=(_configured(world, now.start) if now.end > 0 else 0.0) if world.weighted else None,
        canary_version="1.2.0",
        stable_version="1.1.0",
    )


def _canary_weight(route: Route) -> float:
    return route.weight if route.canary_weight is None else route.canary_weight


def _rate(errors: float, now: _Moment) -> float:
    return min(errors * now.wave + now.shared_errors, 1.0)


def _stream(world: World, stream: Stream, rng: np.random.Generator, now: _Moment) -> dict[Stratum, PairCount]:
    mean = stream.per_second * world.tick_seconds
    n_c = int(rng.poisson(mean * now.share))
    n_s = int(rng.poisson(mean * (1.0 - now.share)))
    if stream.paired:
        n_c = n_s = int(rng.poisson(mean)) if now.share else 0
    own = stream.rate if stream.canary_rate is None or now.start < world.onset else stream.canary_rate
    return {
        stream.stratum: PairCount(int(rng.binomial(n_c, own)), n_c, int(rng.binomial(n_s, stream.rate)), n_s)
    }


def _events(rng: np.random.Generator, n: NDArray[Any], p: float, cluster: float) -> NDArray[Any]:
    if cluster <= 1.0:
        return np.asarray(rng.binomial(n, p))
    beginnings = rng.poisson(n * p / cluster)
    sizes = np.array([rng.geometric(1.0 / cluster, b).sum() for b in beginnings])
    return np.asarray(np.minimum(sizes, n))


def bucket_shares(mixture: Mixture, bounds: tuple[float, ...], factor: float = 1.0) -> Floats:
    """Return the probability of each bucket, one more than `bounds`, of `factor` times the mixture."""
    below = np.zeros(len(bounds))
    for part, median, sigma in mixture:
        z = (np.log(np.array(bounds)) - math.log(median * factor)) / sigma
        below += part * np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in z])
    shares = np.diff(np.concatenate([[0.0], below, [1.0]]))
    return np.asarray(shares / shares.sum())


def slower(mixture: Mixture, factor: float) -> Mixture:
    """Return the mixture of everything taking `factor` times as long."""
    return tuple((part, median * factor, sigma) for part, median, sigma in mixture)


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
