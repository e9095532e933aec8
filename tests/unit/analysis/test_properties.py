"""What holds for the whole engine, whatever the numbers are: time, order, sides, chance."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import logsumexp

from rolloutobs.analysis.evidence import (
    Counts,
    Null,
    fewer_than,
    log_e,
    more_than,
    not_fewer_than,
    not_more_than,
)
from rolloutobs.analysis.model import HistogramPair, PairCount, PodCount, Side, Stratum, Tick, Verdict
from rolloutobs.analysis.policy import Past, Policy
from rolloutobs.analysis.verdict import Engine

POLICY = replace(
    Policy(),
    warmup_seconds=0.0,
    minimum_seconds=30.0,
    past=Past(minimum_seconds=30.0, block_seconds=15.0, after_seconds=30.0, windows_seconds=(30.0, 60.0)),
).only("errors", "latency", "log_errors", "restarts", "js_errors")
BOUNDS = (0.1, 0.5)
A, B, C = ((("method", "GET"), ("route", path)) for path in ("/a", "/b", "/c"))
PAGE: Stratum = (("route", "/"),)

few = st.integers(0, 6)
some = st.integers(20, 200)
pair = st.tuples(few, some, few, some).map(lambda n: PairCount(*n))
bucket = st.tuples(some, few, few)
histogram = st.builds(HistogramPair, st.just(BOUNDS), bucket, bucket)
tick_of = st.fixed_dictionaries(
    {
        "errors": st.dictionaries(st.sampled_from([A, B, C]), pair, min_size=1, max_size=3),
        "latency": st.dictionaries(st.sampled_from([A, B]), histogram, max_size=2),
        "log_errors": st.dictionaries(st.just(()), pair, max_size=1),
        "restarts": st.dictionaries(st.just(()), pair, max_size=1),
        "js_errors_signed": st.dictionaries(st.just(PAGE), pair, max_size=1),
        "sources": st.dictionaries(st.sampled_from(["00", "01", "02"]), pair, max_size=3),
    }
)
histories = st.lists(tick_of, min_size=6, max_size=9)

Told = dict[str, dict[object, object]]


def made(start: float, end: float, told: Told) -> Tick:
    return Tick(
        start,
        end,
        counts={name: told[name] for name in ("errors", "log_errors", "restarts", "js_errors_signed")},
        histograms={"latency": told["latency"]},
        sources={"js_errors_signed": told["sources"]},
        stable_pods={"errors": {"a": PodCount(1, 50.0), "b": PodCount(2, 50.0)}},
        by_pod_age=True,
    )  # type: ignore[arg-type]


def judged(ticks: list[Tick]) -> dict[tuple[str, Side], float]:
    """Return every piece of evidence after `ticks`."""
    engine = Engine(POLICY)
    for tick in ticks:
        engine.update(tick)
    return evidence(engine.verdict())


def evidence(verdict: Verdict) -> dict[tuple[str, Side], float]:
    return {(m.signal, e.side): e.nats for m in verdict.metrics for e in m.evidence}


def whole(history: list[Told]) -> list[Tick]:
    return [made(15.0 * (i - 3), 15.0 * (i - 2), told) for i, told in enumerate(history)]


def _split(value: object, rng: np.random.Generator) -> tuple[object, object]:
    """Return two parts of a pair or a histogram that add up to it."""
    if isinstance(value, PairCount):
        all_ = [value.canary_events, value.canary_exposures, value.stable_events, value.stable_exposures]
        first = [int(rng.integers(0, int(n) + 1)) for n in all_]
        return PairCount(*first), PairCount(*(int(n) - f for n, f in zip(all_, first, strict=True)))
    assert isinstance(value, HistogramPair)
    parts: list[HistogramPair] = []
    canary = tuple(int(rng.integers(0, n + 1)) for n in value.canary)
    stable = tuple(int(rng.integers(0, n + 1)) for n in value.stable)
    parts.append(HistogramPair(BOUNDS, canary, stable))
    rest = [
        tuple(n - f for n, f in zip(a, b, strict=True))
        for a, b in ((value.canary, canary), (value.stable, stable))
    ]
    return parts[0], HistogramPair(BOUNDS, *rest)


@given(histories, st.integers(0, 2**32 - 1), st.integers(1, 14))
@settings(max_examples=15, deadline=None)
def test_splitting_what_a_tick_has_seen_changes_nothing(history: list[Told], seed: int, cut: int) -> None:
    rng, parts = np.random.default_rng(seed), []
    for i, told in enumerate(history):
        split = {
            name: {key: _split(value, rng) for key, value in strata.items()} for name, strata in told.items()
        }
        start = 15.0 * (i - 3)
        for half, (low, high) in enumerate(((start, start + cut), (start + cut, start + 15.0))):
            kept = {name: {key: both[half] for key, both in strata.items()} for name, strata in split.items()}
            tick = made(low, high, kept)
            parts.append(tick if half else replace(tick, stable_pods={}))
    assert judged(parts) == pytest.approx(judged(whole(history)), abs=1e-9)


@given(histories, st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_order_of_strata_and_networks_and_empty_ones_change_nothing(
    history: list[Told], random: object
) -> None:
    def shuffled(strata: dict[object, object], empty: object) -> dict[object, object]:
        items = [*strata.items(), *([] if empty is None or not strata else [empty])]
        random.shuffle(items)  # type: ignore[attr-defined]
        return dict(items)

    nothing = {
        "errors": ((("method", "PUT"), ("route", "/new")), PairCount(0, 0, 0, 0)),
        "sources": ("15", PairCount(0, 0, 0, 0)),
    }
    other = [{name: shuffled(strata, nothing.get(name)) for name, strata in told.items()} for told in history]
    assert judged(whole(other)) == pytest.approx(judged(whole(history)), abs=1e-9)


def _worse(told: Told, signal: str, more: int) -> Told:
    strata = {
        key: replace(value, canary_events=value.canary_events + more)  # type: ignore[type-var]
        for key, value in told[signal].items()
    }
    return {**told, signal: strata}


@given(tick_of, st.sampled_from(["errors", "log_errors", "restarts"]), st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_more_events_of_the_canary_never_lower_the_raw_evidence_against_it_nor_raise_that_for_it(
    told: Told, signal: str, more: int
) -> None:
    """Raw: before the design effect, which they do change, and the clip."""
    own = POLICY.signal(signal)
    against = more_than(own.tolerance_ratio, own.tolerance_difference)
    within = not_more_than(own.margin_ratio, own.margin_difference)

    def raw(told: Told) -> tuple[np.ndarray, np.ndarray]:
        values = [
            [p.canary_events, p.canary_exposures, p.stable_events, p.stable_exposures]  # type: ignore[attr-defined]
            for p in told[signal].values()
        ]
        table = np.array(values, dtype=float).reshape(-1, 4)
        counts = Counts(table[:, :1], table[:, 1], table[:, 2:3], table[:, 3])
        return log_e(counts, against), log_e(counts, within)

    (before_against, before_within), (after_against, after_within) = (
        raw(told),
        raw(_worse(told, signal, more)),
    )
    assert (after_against >= before_against - 1e-12).all()
    assert (after_within <= before_within + 1e-12).all()


# --- chance: counts, of which one exposure may have many -------------------------------------------------


def log_mean(null: Null, n_c: float, n_s: float, canary: float, stable: float) -> float:
    """Return the log of the largest mean over the alternatives: every pair of counts, with its probability
    from scipy. Log e is linear in the counts, so the mean is a product of two sums."""

    def of(k_c: np.ndarray, k_s: np.ndarray) -> np.ndarray:
        full = np.ones(len(k_c))
        return log_e(Counts(k_c[:, None], n_c * full, k_s[:, None], n_s * full), null)[:, 0, :]

    none = of(np.zeros(1), np.zeros(1))
    total = none[0].copy()
    for n, rate, is_canary in ((n_c, canary, True), (n_s, stable, False)):
        # An alternative multiplies a rate by at most 64.
        k = np.arange(64.0 * n * rate + 12.0 * np.sqrt(64.0 * n * rate) + 40.0)
        each = of(k, 0.0 * k) if is_canary else of(0.0 * k, k)
        total += logsumexp(stats.poisson.logpmf(k, n * rate)[:, None] + each - none, axis=0)
    return float(total.max())


@pytest.mark.parametrize(("n_c", "n_s"), [(1.0, 1.0), (15.0, 45.0), (3.0, 90.0)])
@pytest.mark.parametrize("stable", [0.0, 0.01, 0.4, 2.0])
def test_mean_of_poisson_counts_is_at_most_one_wherever_the_null_is_true(
    n_c: float, n_s: float, stable: float
) -> None:
    for ratio, difference in itertools.product([1.1, 1.5, 2.0], [0.0, 1.0 / 86400.0, 0.05]):
        high, low = ratio * stable + difference, stable / ratio - difference
        cases = [(more_than(ratio, difference), high), (not_more_than(ratio, difference), high)]
        if low >= 0:
            cases += [(fewer_than(ratio, difference), low), (not_fewer_than(ratio, difference), low)]
        for null, canary in cases:
            # On the boundary, where the mean is largest: it is one but for rounding, so the bound is sharp.
            found = log_mean(null, n_c, n_s, canary, stable)
            assert found == pytest.approx(0.0, abs=1e-9), (null, canary)
            assert log_mean(more_than(ratio, difference), n_c, n_s, 0.5 * high, stable) <= 1e-9


def test_mean_of_poisson_counts_exceeds_one_beyond_the_null() -> None:
    rng = np.random.default_rng(1)
    counts = Counts(
        rng.poisson(15 * 0.4, (4000, 1)).astype(float),
        np.full(4000, 15.0),
        rng.poisson(45 * 0.1, (4000, 1)).astype(float),
        np.full(4000, 45.0),
    )
    assert np.exp(log_e(counts, more_than(2.0, 0.0))).mean(axis=0)[0, 3] > 1.5


@pytest.mark.parametrize("rate", [0.003, 0.05])
def test_good_canaries_are_rarely_accused_by_any_signal_at_any_look(rate: float) -> None:
    """Monte Carlo through the engine at alpha = .5: the share of accused is below it, on the tolerance's
    inner side, over 40 looks. (At .01 it would take ten thousand runs to see anything.)"""
    policy = replace(POLICY, alpha=0.5, restart_seconds=0.0).only("errors", "restarts", "log_errors")
    rng, accused, runs = np.random.default_rng(7), 0, 20
    for _ in range(runs):
        engine = Engine(policy)
        for i in range(40):

            def drawn(n_c: int, n_s: int) -> PairCount:
                return PairCount(int(rng.poisson(n_c * rate)), n_c, int(rng.poisson(n_s * rate)), n_s)

            counts = {
                "errors": {A: drawn(50, 400)},
                "restarts": {(): drawn(15, 45)},
                "log_errors": {(): drawn(50, 400)},
            }
            engine.update(Tick(15.0 * i, 15.0 * (i + 1), counts=counts, by_pod_age=True))
        accused += engine.decision == "rollback"
    assert accused <= 0.5 * runs
