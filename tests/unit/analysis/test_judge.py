"""One signal over a rollout: the grid of time, what is compared, warm-up, lag, pods."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolloutobs.analysis.evidence import Counts
from rolloutobs.analysis.frame import Frame, Lag
from rolloutobs.analysis.judge import Grid, SignalJudge
from rolloutobs.analysis.model import HistogramPair, PairCount, PodCount, PodHistogram, Stratum, Tick
from rolloutobs.analysis.policy import Kind, Policy, Selector, Signal

POLICY = Policy(warmup_seconds=0.0, restart_seconds=0.0)
ERRORS, LATENCY = POLICY.signal("errors"), POLICY.signal("latency")
BOUNDS = (0.1, 0.2, 0.4)


def path(name: str) -> Stratum:
    return (("method", "GET"), ("route", name))


def errors(start: float, end: float, pairs: dict[Stratum, PairCount], **more: object) -> Tick:
    return Tick(start, end, counts={"errors": pairs}, **more)  # type: ignore[arg-type]


def slow(start: float, end: float, pairs: dict[Stratum, HistogramPair], **more: object) -> Tick:
    return Tick(start, end, histograms={"latency": pairs}, **more)  # type: ignore[arg-type]


# --- the grid of time ------------------------------------------------------------------------------------


def test_grid_closes_at_multiples_and_gives_the_whole_time() -> None:
    grid = Grid(15.0)
    found = [grid.passed(t, t + 4.0) for t in np.arange(0.0, 32.0, 4.0)]
    assert found == [None, None, None, 16.0, None, None, None, 16.0]


def test_grid_takes_a_scrape_that_is_slightly_early() -> None:
    grid = Grid(15.0)
    assert grid.passed(0.0, 14.99) == pytest.approx(14.99)
    assert grid.passed(14.99, 30.01) == pytest.approx(15.02)


def test_no_grid_closes_every_time() -> None:
    assert [Grid(0.0).passed(0.0, 0.2), Grid(0.0).passed(0.2, 0.7)] == [0.2, pytest.approx(0.5)]


halves = st.integers(0, 30).flatmap(
    lambda k: st.tuples(st.just(k), st.integers(k, 200), st.integers(0, 20), st.integers(20, 400))
)


@given(st.lists(st.tuples(halves, halves), min_size=2, max_size=6), st.integers(1, 14))
@settings(max_examples=40, deadline=None)
def test_splitting_an_interval_changes_nothing(parts: list[tuple[tuple[int, ...], ...]], cut: int) -> None:
    whole, split = (SignalJudge(ERRORS, POLICY) for _ in range(2))
    for judge in (whole, split):
        judge.prehistory(errors(-15.0, 0.0, {path("/"): PairCount(0, 0, 2, 500)}))
    for i, (a, b) in enumerate(parts):
        start, end = 15.0 * i, 15.0 * (i + 1)
        both = PairCount(*(x + y for x, y in zip(a, b, strict=True)))
        whole.observe(errors(start, end, {path("/"): both}))
        split.observe(errors(start, start + cut, {path("/"): PairCount(*a)}))
        split.observe(errors(start + cut, end, {path("/"): PairCount(*b)}))
    assert split.nats == pytest.approx(whole.nats, abs=1e-9)
    assert split.promotion_nats == pytest.approx(whole.promotion_nats, abs=1e-9)
    assert split.guard_nats == pytest.approx(whole.guard_nats, abs=1e-9)


@given(st.permutations(["/a", "/b", "/c", "/d"]), st.lists(halves, min_size=8, max_size=8))
@settings(max_examples=40, deadline=None)
def test_order_of_strata_and_empty_ones_change_nothing(
    order: list[str], values: list[tuple[int, ...]]
) -> None:
    one, other = (SignalJudge(ERRORS, POLICY) for _ in range(2))
    past = {path(name): PairCount(0, 0, 1, 100 * (i + 1)) for i, name in enumerate(["/a", "/b", "/c", "/d"])}
    one.prehistory(errors(-15.0, 0.0, past))
    other.prehistory(errors(-15.0, 0.0, {path(name): past[path(name)] for name in order}))
    for i in range(2):
        names = ["/a", "/b", "/c", "/d"]
        pairs = {path(n): PairCount(*values[4 * i + j]) for j, n in enumerate(names)}
        one.observe(errors(15.0 * i, 15.0 * (i + 1), pairs))
        shuffled = {path("/none"): PairCount(0, 0, 0, 0), **{path(n): pairs[path(n)] for n in order}}
        other.observe(errors(15.0 * i, 15.0 * (i + 1), shuffled))
    assert other.nats == pytest.approx(one.nats, abs=1e-9)
    assert other.promotion_nats == pytest.approx(one.promotion_nats, abs=1e-9)


# --- warm-up ---------------------------------------------------------------------------------------------


def test_without_pod_ages_the_rollouts_first_seconds_are_warm_up_but_for_the_guard() -> None:
    judge = SignalJudge(ERRORS, replace(POLICY, warmup_seconds=90.0))
    judge.prehistory(errors(-15.0, 0.0, {path("/"): PairCount(0, 0, 2, 500)}))
    for i in range(6):
        judge.observe(errors(15.0 * i, 15.0 * (i + 1), {path("/"): PairCount(50, 100, 1, 900)}))
    assert judge.nats == 0.0
    assert judge.guard_nats is not None
    assert judge.guard_nats > 5.0
    assert judge.total.canary.sum() == 0.0
    assert judge.seen.canary.sum() == 600.0
    judge.observe(errors(90.0, 105.0, {path("/"): PairCount(50, 100, 1, 900)}))
    assert judge.nats > 0.5


def test_with_pod_ages_cold_counts_reach_the_guard_only() -> None:
    judge = SignalJudge(ERRORS, replace(POLICY, warmup_seconds=90.0))
    judge.prehistory(errors(-15.0, 0.0, {path("/"): PairCount(0, 0, 2, 500)}))
    warm = {path("/"): PairCount(0, 40, 1, 900)}
    cold = {"errors": {path("/"): PairCount(50, 100, 0, 0)}}
    for i in range(6):
        tick = errors(15.0 * i, 15.0 * (i + 1), warm, by_pod_age=True, cold_counts=cold)
        judge.observe(tick)
    assert judge.nats < 0.1
    assert judge.guard_nats is not None
    assert judge.guard_nats > 3.0
    assert judge.total.canary.sum() == 240.0
    assert judge.seen.canary.sum() == 840.0


# --- what is compared ------------------------------------------------------------------------------------


def test_latency_bounds_come_from_stables_past() -> None:
    judge = SignalJudge(LATENCY, POLICY)
    judge.prehistory(slow(-15.0, 0.0, {path("/"): HistogramPair(BOUNDS, (0, 0, 0, 0), (100, 800, 99, 1))}))
    judge.observe(slow(0.0, 15.0, {path("/"): HistogramPair(BOUNDS, (1, 8, 1, 0), (10, 80, 9, 1))}))
    assert judge.choice is not None
    # 90 %, 10 % and 0.1 % of the past were slower than the bounds; only the second is within 0.2 to 75 %.
    assert [BOUNDS[i] for i in judge.choice.channels] == [0.2]
    assert judge.choice.pool.tolist() == [1.0]


def test_a_busy_stratum_has_bounds_of_its_own() -> None:
    judge = SignalJudge(LATENCY, POLICY)
    past = {
        path("/fast"): HistogramPair(BOUNDS, (0, 0, 0, 0), (900, 95, 5, 0)),
        path("/slow"): HistogramPair(BOUNDS, (0, 0, 0, 0), (0, 10, 190, 50)),
        path("/rare"): HistogramPair(BOUNDS, (0, 0, 0, 0), (0, 0, 0, 9)),
    }
    judge.prehistory(slow(-15.0, 0.0, past))
    judge.observe(slow(0.0, 15.0, {path("/fast"): HistogramPair(BOUNDS, (9, 1, 0, 0), (90, 9, 1, 0))}))
    assert judge.choice is not None
    used = {
        judge.frame.strata[row][1][1]: [BOUNDS[c] for c in judge.choice.channels[weights > 0]]
        for row, weights in zip(judge.choice.rows, judge.choice.strata, strict=False)
    }
    assert used == {"/fast": [0.1, 0.2], "/slow": [0.4], "/rare": [0.1, 0.2, 0.4]}
    np.testing.assert_allclose(judge.choice.strata.sum(axis=1), 1.0)


def test_busiest_strata_are_judged_alone_and_the_rest_together() -> None:
    judge = SignalJudge(ERRORS, replace(POLICY, strata_limit=2))
    names = {"/a": 100, "/b": 300, "/c": 200, "/d": 50}
    judge.prehistory(errors(-15.0, 0.0, {path(n): PairCount(0, 0, 1, size) for n, size in names.items()}))
    for i in range(4):
        bad = {path(n): PairCount(9 if n == "/d" else 0, 20, 0, 200) for n in names}
        judge.observe(errors(15.0 * i, 15.0 * (i + 1), bad))
    assert judge.choice is not None
    assert judge.against is not None
    assert [judge.frame.strata[row] for row in judge.choice.rows] == [path("/b"), path("/c")]
    own = judge.against.strata_nats
    assert own.shape == (3,)
    assert own[2] > 3.0 > 0.0 > max(own[:2])


def test_without_history_what_shows_the_strata_is_not_evidence() -> None:
    judge = SignalJudge(ERRORS, POLICY)
    bad = {path("/"): PairCount(50, 100, 0, 900)}
    judge.observe(errors(0.0, 15.0, bad))
    assert judge.nats == 0.0
    judge.observe(errors(15.0, 30.0, bad))
    assert judge.nats > 0.5


def test_histograms_with_other_bounds_are_brought_to_the_first_ones_or_counted() -> None:
    frame = Frame(LATENCY, POLICY)
    frame.read(slow(0.0, 1.0, {path("/"): HistogramPair(BOUNDS, (1, 2, 3, 4), (4, 3, 2, 1))}))
    finer = HistogramPair((0.05, 0.1, 0.2, 0.3, 0.4), (1, 0, 2, 1, 2, 4), (0, 4, 3, 2, 0, 1))
    coarse = HistogramPair((0.1, 0.4), (1, 2, 3), (1, 2, 3))
    same, _ = frame.read(slow(1.0, 2.0, {path("/"): finer, path("/old"): coarse}))
    assert same.canary_events[0].tolist() == [9.0, 7.0, 4.0]
    assert same.stable_events[0].tolist() == [6.0, 3.0, 1.0]
    assert same.canary.tolist() == [10.0]
    assert frame.ignored == 1


# --- pods and lag ----------------------------------------------------------------------------------------


def test_pods_of_the_past_and_the_present_make_the_design_effect() -> None:
    judge = SignalJudge(ERRORS, POLICY)
    for i in range(-20, 0):
        pods = {"errors": {"a": PodCount(12 if i % 2 else 0, 500), "b": PodCount(0 if i % 2 else 12, 500)}}
        pair = {path("/"): PairCount(0, 0, 12, 1000)}
        judge.prehistory(errors(15.0 * i, 15.0 * (i + 1), pair, stable_pods=pods))
    assert judge.has_pods
    assert judge.phi is not None
    assert judge.phi.value[0] > 6.0


def test_latency_takes_the_histograms_of_pods() -> None:
    judge = SignalJudge(LATENCY, POLICY)
    pods = {"a": PodHistogram(BOUNDS, (50, 40, 10, 0)), "b": PodHistogram(BOUNDS, (90, 9, 1, 0))}
    pair = {path("/"): HistogramPair(BOUNDS, (0, 0, 0, 0), (140, 49, 11, 0))}
    judge.prehistory(slow(-15.0, 0.0, pair, stable_pod_histograms={"latency": pods}))
    assert judge.phi is not None
    # The last bound was exceeded by nobody: it has no degree of freedom.
    assert judge.phi.pods_df.tolist() == [1.0, 1.0, 0.0]


def test_lag_compares_late_events_with_the_views_of_before() -> None:
    lag = Lag(20.0)
    steps = [(10.0, 0.0), (0.0, 10.0), (10.0, 10.0), (4.0, 4.0)]
    found = [lag.exposures(10.0, np.array([c]), np.array([s])) for c, s in steps]
    assert [(float(c[0]), float(s[0])) for c, s in found] == [
        (10.0, 0.0),
        (5.0, 5.0),
        (5.0, 10.0),
        (7.0, 7.0),
    ]


def test_lagging_conversions_of_a_good_canary_are_no_evidence() -> None:
    """Views and their conversions in different ticks, three views a second: no false rollback in 40 runs."""
    signal = replace(
        Policy.from_mapping(
            {
                "signals": {
                    "paid": {
                        "title": "payments",
                        "kind": "conversion",
                        "exposures": {"metric": "rum_page_views_total"},
                        "events": {"metric": "rum_events_total"},
                    }
                }
            }
        ).signal("paid"),
        lag_seconds=30.0,
    )
    policy = replace(POLICY, signals=(ERRORS, signal), tick_seconds=5.0, phi_seconds=5.0, warmup_seconds=30.0)
    most = []
    for seed in range(40):
        rng, judge = np.random.default_rng(seed), SignalJudge(signal, policy)
        views = rng.poisson(7.5, (120, 2))
        paid = np.roll(rng.binomial(views, 0.5), 2, axis=0)
        paid[:2] = 0
        judge.prehistory(Tick(-5.0, 0.0, counts={"paid": {(): PairCount(0, 0, 4, 8)}}))
        for i, ((n_c, n_s), (k_c, k_s)) in enumerate(zip(views.tolist(), paid.tolist(), strict=True)):
            pair = PairCount(k_c, n_c, k_s, n_s)
            judge.observe(Tick(5.0 * i, 5.0 * (i + 1), counts={"paid": {(): pair}}))
        most.append(judge.nats)
    assert max(most) < np.log(20.0)
    assert np.median(most) < 0.0


def test_counts_pad_rows_that_came_later() -> None:
    early, late = Counts.zeros(1, 1), Counts(*(np.ones(shape) for shape in ((3, 1), 3, (3, 1), 3)))
    assert early.plus(late).canary.tolist() == [1.0, 1.0, 1.0]
    assert late.plus(early).stable.tolist() == [1.0, 1.0, 1.0]


# --- warm and cold pods together --------------------------------------------------------------------------


def test_a_pod_that_warms_up_does_not_dilute_the_conversions_of_the_warm_ones() -> None:
    """Half of the canary's traffic goes to a new pod: the warm one's events are out of its own exposures."""
    orders = Signal(
        "orders",
        "checkouts",
        Kind.CONVERSION,
        Selector("http_requests_total"),
        Selector("checkouts_completed_total"),
    )
    judge = SignalJudge(orders, Policy(signals=(*POLICY.signals, orders), restart_seconds=0.0))
    for i in range(-8, 40):
        canary = PairCount(50, 500, 0, 0) if i >= 0 else PairCount(0, 0, 0, 0)
        pair = replace(canary, stable_events=100, stable_exposures=1000.0)
        cold = {"orders": {(): PairCount(50, 500, 0, 0)}} if i >= 0 else {}
        tick = Tick(15.0 * i, 15.0 * (i + 1), {"orders": {(): pair}}, by_pod_age=True, cold_counts=cold)
        if i < 0:
            judge.prehistory(tick)
        else:
            judge.observe(tick)
    assert judge.nats < 0
    assert judge.ratios_of([np.array([0])], 0)[0] == pytest.approx(1.0)
