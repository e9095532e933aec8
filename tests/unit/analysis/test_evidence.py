"""The arithmetic: exact where it can be enumerated, scipy as the oracle, seeded Monte Carlo for the rest."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from rolloutobs.analysis.evidence import (
    Clip,
    Counts,
    DesignEffect,
    Null,
    Wealth,
    fewer_than,
    growth_weights,
    log_e,
    log_e_split,
    log_e_sum,
    log_mean_exp,
    log_mix,
    more_than,
    not_fewer_than,
    not_more_than,
)
from rolloutobs.analysis.intervals import RatioSequence

FAIR = Null(1.0, 0.0, np.exp(np.linspace(-2.0, 2.0, 9)))
CLIP = Clip(1.5, 0.1)


def counts(*rows: tuple[int, int, int, int]) -> Counts:
    """Rows of canary events, canary exposures, stable events, stable exposures; one channel."""
    table = np.array(rows, dtype=float)
    return Counts(table[:, :1], table[:, 1], table[:, 2:3], table[:, 3])


exposures = st.integers(1, 500)
row = exposures.flatmap(
    lambda n_c: exposures.flatmap(
        lambda n_s: st.tuples(st.integers(0, n_c), st.just(n_c), st.integers(0, n_s), st.just(n_s))
    )
)
tables = st.lists(row, min_size=1, max_size=6)
nulls = st.sampled_from(
    [more_than(1.1, 0.0002), more_than(5.0, 0.1), not_more_than(1.5, 0.001), fewer_than(1.1, 0.01), FAIR]
)


# --- the e-value -----------------------------------------------------------------------------------------


def expected_e(null: Null, n_c: int, n_s: int, p_c: float, p_s: float) -> float:
    """Return the largest mean over the alternatives, and of their mixture, by enumeration."""
    cells = list(itertools.product(range(n_c + 1), range(n_s + 1)))
    values = np.exp(log_e(counts(*((k_c, n_c, k_s, n_s) for k_c, k_s in cells)), null)[:, 0, :])
    canary, stable = (stats.binom.pmf(np.arange(n + 1), n, p) for n, p in ((n_c, p_c), (n_s, p_s)))
    means = np.outer(canary, stable).ravel() @ values
    return float(max(means.max(), means.mean()))


@pytest.mark.parametrize(("n_c", "n_s"), [(1, 1), (2, 7), (5, 5), (8, 3), (1, 12)])
@pytest.mark.parametrize("ratio", [1.0, 1.1, 1.5])
@pytest.mark.parametrize("difference", [0.0, 0.0002, 0.05])
def test_mean_is_at_most_one_wherever_the_null_is_true(
    n_c: int, n_s: int, ratio: float, difference: float
) -> None:
    rates = [0.0, 1e-4, 0.01, 0.1, 0.3, 0.6, 0.9]
    most = 0.0
    for p_s in rates:
        high = min(ratio * p_s + difference, 1.0)
        low = max(p_s / ratio - difference, 0.0)
        for p_c in (high, 0.5 * high, 0.0):
            most = max(most, expected_e(more_than(ratio, difference), n_c, n_s, p_c, p_s))
        for p_c in (high, min(1.5 * high, 1.0), 1.0):
            if p_c >= ratio * p_s + difference:
                most = max(most, expected_e(not_more_than(ratio, difference), n_c, n_s, p_c, p_s))
        for p_c in (low, min(2.0 * low, 1.0), 1.0):
            most = max(most, expected_e(fewer_than(ratio, difference), n_c, n_s, p_c, p_s))
        for p_c in (low, 0.5 * low, 0.0):
            if p_c <= p_s / ratio - difference:
                most = max(most, expected_e(not_fewer_than(ratio, difference), n_c, n_s, p_c, p_s))
    assert most <= 1.0 + 1e-9
    assert most > 0.99  # the bound is sharp: rare events reach it


def test_mean_exceeds_one_beyond_the_null() -> None:
    """The check above can fail: outside the null the same numbers do."""
    assert expected_e(more_than(1.1, 0.0), 8, 8, 0.6, 0.1) > 2.0
    assert expected_e(not_more_than(1.5, 0.01), 8, 8, 0.0, 0.3) > 1.5


@given(row, st.floats(1.01, 30.0), st.sampled_from([1.0, 1.25, 2.0]))
def test_without_slack_it_is_the_conditional_binomial_likelihood_ratio(
    one: tuple[int, int, int, int], factor: float, r0: float
) -> None:
    k_c, n_c, k_s, n_s = one
    r = r0 * factor

    def theta(ratio: float) -> float:
        return n_c * ratio / (n_c * ratio + n_s)

    expected = stats.binom.logpmf(k_c, k_c + k_s, theta(r)) - stats.binom.logpmf(k_c, k_c + k_s, theta(r0))
    found = log_e(counts(one), Null(r0, 0.0, np.array([r])))[0, 0, 0]
    assert found == pytest.approx(expected, abs=1e-8)


@given(row)
def test_swapping_the_tracks_flips_the_sign(one: tuple[int, int, int, int]) -> None:
    """Signed evidence = for "more" minus for "less"; the grid of FAIR is symmetric in log ratio."""

    def signed(values: tuple[int, int, int, int]) -> float:
        logs = log_e(counts(values), FAIR)[0, 0]
        return float(log_mean_exp(logs[5:]) - log_mean_exp(logs[:4]))

    k_c, n_c, k_s, n_s = one
    assert signed(one) == pytest.approx(-signed((k_s, n_s, k_c, n_c)), abs=1e-8)


@given(tables, st.integers(0, 5), st.integers(1, 50))
def test_more_canary_events_never_lower_the_evidence(
    table: list[tuple[int, int, int, int]], at: int, more: int
) -> None:
    at %= len(table)
    k_c, n_c, k_s, n_s = table[at]
    worse = [*table[:at], (k_c + more, n_c + more, k_s, n_s), *table[at + 1 :]]
    same_exposures = [*table[:at], (k_c, n_c + more, k_s, n_s), *table[at + 1 :]]
    null = more_than(1.1, 0.0002)
    before = log_e(counts(*same_exposures), null).sum(axis=0)
    after = log_e(counts(*worse), null).sum(axis=0)
    assert np.all(after >= before - 1e-9)


@given(tables, st.randoms(use_true_random=False), nulls)
def test_order_of_strata_and_empty_ones_change_nothing(
    table: list[tuple[int, int, int, int]], random: object, null: Null
) -> None:
    mixed = [*table, (0, 0, 0, 0), (0, 0, 7, 100), (0, 30, 0, 0)]
    random.shuffle(mixed)  # type: ignore[attr-defined]
    expected = log_e(counts(*table), null).sum(axis=0)
    np.testing.assert_allclose(log_e(counts(*mixed), null).sum(axis=0), expected, atol=1e-9)


@given(hnp.arrays(float, (3, 5), elements=st.floats(-800.0, 800.0)))
def test_mixtures_neither_overflow_nor_leave_their_range(logs: np.ndarray) -> None:
    mean = log_mean_exp(logs)
    assert np.all(np.isfinite(mean))
    assert np.all(mean <= logs.max(axis=1) + 1e-9)
    assert np.all(mean >= logs.max(axis=1) - np.log(5.0) - 1e-9)


def test_weights_of_zero_are_left_out() -> None:
    logs = np.array([700.0, 1.0, 3.0])
    assert log_mix(logs, np.array([0.0, 0.5, 0.5])) == pytest.approx(np.log(0.5 * np.e + 0.5 * np.exp(3.0)))


# --- wealth over time ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "gains"),
    [
        (15.0, [1.5, 1.5, 1.5]),
        (1.0, [1.5, 0.1, 0.1]),
        (60.0, [3.0, 3.0, 3.0]),
        (300.0, [3.0, 3.0, 3.0]),
    ],
)
def test_no_interval_gains_more_than_the_bucket_holds(seconds: float, gains: list[float]) -> None:
    wealth = Wealth((1,), more_than(1.1, 0.0), CLIP)
    for total in np.cumsum(gains):
        wealth.gain(np.full((1, 14), 50.0), seconds)
        np.testing.assert_allclose(wealth.log, total)


def test_losses_do_not_fill_the_bucket() -> None:
    wealth = Wealth((1,), more_than(1.1, 0.0), CLIP)
    wealth.gain(np.full((1, 14), -9.0), 15.0)
    wealth.gain(np.full((1, 14), 9.0), 15.0)
    np.testing.assert_allclose(wealth.log, -7.5)


def test_restarts_spend_the_kept_half_and_no_more() -> None:
    wealth = Wealth((1,), more_than(1.1, 0.0), CLIP, restarts=True)
    assert wealth.nats[0] == pytest.approx(np.log(0.5))
    for start in range(1, 200):
        wealth.restart()
        # 1/2 + sum of 1/2/(j(j+1)) telescopes.
        assert wealth.nats[0] == pytest.approx(np.log(1.0 - 0.5 / (start + 1)))


def test_restart_forgets_a_long_good_past() -> None:
    old, new = (Wealth((1,), more_than(1.1, 0.0), CLIP, restarts=each) for each in (False, True))
    for wealth in (old, new):
        wealth.gain(np.full((1, 14), -40.0), 15.0)
        wealth.restart() if wealth is new else None
        for _ in range(6):
            wealth.gain(np.full((1, 14), 1.5), 15.0)
    assert old.nats[0] < -30.0
    assert new.nats[0] > 7.0


# --- Monte Carlo, one row per rollout --------------------------------------------------------------------


def rollouts(
    rng: np.random.Generator, runs: int, means: tuple[float, float], rates: tuple[float, float]
) -> Counts:
    n_c, n_s = (rng.poisson(mean, runs) for mean in means)
    return Counts(
        rng.binomial(n_c, rates[0])[:, None].astype(float),
        n_c.astype(float),
        rng.binomial(n_s, rates[1])[:, None].astype(float),
        n_s.astype(float),
    )


@pytest.mark.parametrize("rate", [0.0, 0.0002, 0.005, 0.05, 0.4])
@pytest.mark.parametrize(
    "null", [not_more_than(1.5, 0.001), not_more_than(1.5, 0.01), not_fewer_than(1.5, 0.01)]
)
def test_growth_weights_favour_the_alternative_that_grows_fastest(null: Null, rate: float) -> None:
    weights = growth_weights(null, np.array([rate]))[0]
    assert weights.sum() == pytest.approx(1.0)
    assert weights.min() >= 0.3 / len(weights) - 1e-12
    like_stable = Counts(np.array([[rate * 1e3]]), np.array([1e3]), np.array([[rate * 1e9]]), np.array([1e9]))
    growth = log_e(like_stable, null)[0, 0]
    # The best alternative lies between points of the grid: the neighbour may be favoured.
    assert abs(int(weights.argmax()) - int(growth.argmax())) <= 1


def test_weights_spend_the_capital_once() -> None:
    null = not_more_than(1.5, 0.001)
    wealth = Wealth((2,), null, CLIP, weights=growth_weights(null, np.array([0.005, 0.0])))
    np.testing.assert_allclose(wealth.nats, 0.0, atol=1e-12)


def looks_until_proven(null: Null, rate: float, weights: np.ndarray | None) -> float:
    """Return the mean number of looks until a canary like stable is proven at 5 %; 400 if it never is."""
    rng, runs = np.random.default_rng(11), 300
    wealth = Wealth((runs, 1), null, CLIP, weights=weights)
    found = np.full(runs, 400.0)
    for look in range(1, 400):
        wealth.gain(log_e(rollouts(rng, runs, (75.0, 1425.0), (rate, rate)), null), 15.0)
        found = np.minimum(found, np.where(wealth.nats[:, 0] >= -np.log(0.05), look, 400.0))
    return float(found.mean())


@pytest.mark.parametrize(("rate", "sooner"), [(0.0002, 0.95), (0.005, 0.95), (0.05, 0.99)])
def test_growth_weights_prove_a_good_canary_sooner(rate: float, sooner: float) -> None:
    null = not_more_than(1.5, 0.001)
    weights = growth_weights(null, np.array([rate]))
    assert looks_until_proven(null, rate, weights) < sooner * looks_until_proven(null, rate, None)


def test_growth_weights_are_honest_on_the_margin() -> None:
    null = not_more_than(1.5, 0.001)
    for past in (0.0, 0.2):
        assert ever_above(null, 0.05, (1.5, 0.005), weights=growth_weights(null, np.array([past]))) <= 0.05


def ever_above(
    null: Null,
    alpha: float,
    rates: tuple[float, float],
    runs: int = 3000,
    weights: np.ndarray | None = None,
) -> float:
    """Return the share of rollouts of 120 looks, at drifting rates and a ramp, that ever reach 1/alpha."""
    rng = np.random.default_rng(7)
    wealth = Wealth((runs, 1), null, CLIP, restarts=True, weights=weights)
    found = np.zeros(runs, dtype=bool)
    for look in range(120):
        wave = 1.0 + 0.6 * np.sin(look / 20.0)
        ramp = 0.05 + 0.4 * look / 120
        p_s = rates[1] * wave
        p_c = rates[0] * p_s + (null.difference if rates[0] == null.ratio else 0.0)
        one = rollouts(rng, runs, (1500.0 * ramp, 1500.0 * (1 - ramp)), (p_c, p_s))
        wealth.gain(log_e(one, null), 15.0)
        found |= wealth.nats[:, 0] >= -np.log(alpha)
        if look % 12 == 11:
            wealth.restart()
    return float(found.mean())


@pytest.mark.parametrize("null", [more_than(1.1, 0.0002), more_than(1.0, 0.0), not_more_than(1.5, 0.001)])
def test_false_alarms_stay_below_alpha_on_the_boundary_at_any_look(null: Null) -> None:
    assert ever_above(null, 0.05, (null.ratio, 0.005)) <= 0.05
    assert ever_above(null, 0.05, (4.0 if null.grid[0] > null.ratio else 0.1, 0.005)) >= 0.99


def test_bounds_of_the_ratio_cover_it_at_every_look() -> None:
    rng, runs, truth, alpha = np.random.default_rng(11), 400, 2.0, 0.1
    sequence = RatioSequence((runs, 1))
    missed = np.zeros(runs, dtype=bool)
    widths = []
    for look in range(60):
        p_s = 0.02 * (1.0 + 0.5 * np.sin(look / 10.0))
        one = rollouts(rng, runs, (100.0 + look, 400.0), (truth * p_s, p_s))
        sequence.add_rows(RatioSequence.terms(one), np.arange(runs), np.ones(1))
        if look % 6 == 5:
            pairs = [sequence.interval((i, 0), -np.log(alpha / 2)) for i in range(runs)]
            missed |= [(low or 0.0) > truth or (high or np.inf) < truth for low, high in pairs]
            widths.append(np.median([(high or np.inf) / (low or 1e-9) for low, high in pairs]))
    assert missed.mean() <= alpha
    assert widths[-1] < 2.5
    assert widths[-1] < widths[0]


# --- bounds of the ratio ---------------------------------------------------------------------------------


def interval(*rows: tuple[int, int, int, int], nats: float = 4.6) -> tuple[float | None, float | None]:
    sequence = RatioSequence((1,))
    sequence.add_pool(RatioSequence.terms(counts(*rows)), np.ones(1))
    return sequence.interval((0,), nats)


def test_no_events_bound_nothing() -> None:
    assert interval((0, 1000, 0, 1000)) == (None, None)
    assert interval((5, 10, 0, 0)) == (None, None)


def test_no_stable_events_bound_from_below_only() -> None:
    low, high = interval((12, 100, 0, 300))
    assert high is None
    assert low is not None
    assert low > 3.0


def test_bounds_enclose_the_ratio_and_narrow() -> None:
    few, many = interval((8, 100, 4, 100)), interval((800, 10_000, 400, 10_000))
    for low, high in (few, many):
        assert low is not None
        assert high is not None
        assert low < 2.0 < high
    assert many[0] > few[0]  # type: ignore[operator]
    assert many[1] < few[1]  # type: ignore[operator]


@given(tables)
@settings(max_examples=60)
def test_swapped_tracks_mirror_the_bounds(table: list[tuple[int, int, int, int]]) -> None:
    low, high = interval(*table)
    other_low, other_high = interval(*((k_s, n_s, k_c, n_c) for k_c, n_c, k_s, n_s in table))
    assert (other_low is None) == (high is None)
    assert (other_high is None) == (low is None)
    if low is not None:
        assert other_high == pytest.approx(1.0 / low)


@given(tables)
@settings(max_examples=60)
def test_pooled_is_the_sum_over_strata(table: list[tuple[int, int, int, int]]) -> None:
    pool, strata = RatioSequence((1,)), RatioSequence((len(table), 1))
    terms, phi = RatioSequence.terms(counts(*table)), np.array([1.7])
    pool.add_pool(terms, phi)
    strata.add_rows(terms, np.arange(len(table)), phi)
    together = RatioSequence((1,))
    for row in table:
        together.add_pool(RatioSequence.terms(counts(row)), phi)
    one_by_one = [strata.interval((row, 0), 3.0) for row in range(len(table))]
    assert strata.intervals((np.arange(len(table)), 0), np.full(len(table), 3.0)) == one_by_one
    np.testing.assert_allclose(pool._normal, together._normal, rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(pool._normal, strata._normal.sum(axis=0), rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(pool._canary, strata._canary.sum(axis=0), rtol=1e-9, atol=1e-7)


@given(tables)
@settings(max_examples=60)
def test_split_is_the_same_evidence_strata_apart(table: list[tuple[int, int, int, int]]) -> None:
    each = log_e(counts(*table), FAIR)
    np.testing.assert_allclose(log_e_sum(counts(*table), FAIR), each.sum(axis=0), rtol=1e-9, atol=1e-7)
    named, rest = log_e_split(counts(*table), FAIR, np.arange(1))
    np.testing.assert_allclose(named, each[:1], rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(rest, each[1:].sum(axis=0), rtol=1e-9, atol=1e-7)


# --- the design effect -----------------------------------------------------------------------------------


def stable_pods(rng: np.random.Generator, size: int, ticks: int = 400) -> DesignEffect:
    """Four pods, about 8 errors per tick in clusters of `size`, each cluster in one pod."""
    phi = DesignEffect(1)
    for _ in range(ticks):
        events = np.bincount(rng.integers(0, 4, rng.poisson(8.0 / size)), minlength=4)[:, None] * size
        phi.add_pods(events.astype(float), np.full(4, 400.0))
    return phi


def test_independent_events_have_no_design_effect() -> None:
    assert stable_pods(np.random.default_rng(1), 1).from_pods[0] == pytest.approx(1.0, abs=0.12)


def test_clusters_show_between_pods() -> None:
    assert stable_pods(np.random.default_rng(2), 5).value[0] == pytest.approx(5.0, rel=0.25)


def test_one_pod_or_no_events_say_nothing() -> None:
    phi = DesignEffect(1)
    phi.add_pods(np.array([[5.0]]), np.array([100.0]))
    phi.add_pods(np.array([[5.0], [0.0]]), np.array([100.0, 0.0]))
    phi.add_pods(np.array([[0.0], [0.0]]), np.array([100.0, 100.0]))
    assert np.all(phi.pods_df == 0)
    assert phi.value[0] == pytest.approx(1.2)


def test_a_worse_canary_does_not_inflate_its_own_design_effect() -> None:
    rng, phi = np.random.default_rng(3), DesignEffect(1)
    for _ in range(120):
        phi.add(Counts(*(part[None] for part in _summed(rollouts(rng, 1, (300.0, 3000.0), (0.05, 0.01))))))
    assert phi.value[0] < 1.3


def _summed(one: Counts) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return one.canary_events[0], one.canary[0], one.stable_events[0], one.stable[0]


def test_clusters_on_the_canary_show_online() -> None:
    rng, phi = np.random.default_rng(4), DesignEffect(1)
    for _ in range(200):
        k_c, k_s = rng.poisson(1.0) * 6, rng.poisson(4.0) * 6
        phi.add(counts((k_c, 500, k_s, 2000)))
    assert phi.value[0] > 3.0
    assert phi.for_promotion[0] == pytest.approx(1.5 * phi.value[0])


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 400), st.integers(0, 90), st.integers(1, 900)),
        max_size=6,
    )
)
@settings(max_examples=12, deadline=None)
def test_bounds_are_those_of_a_search_through_the_whole_grid(
    intervals: list[tuple[int, int, int, int]],
) -> None:
    sequence, nats = RatioSequence((1,)), 5.3
    for k_c, n_c, k_s, n_s in intervals:
        counts = Counts(
            np.array([[float(k_c)]]), np.array([float(n_c)]), np.array([[float(k_s)]]), np.array([float(n_s)])
        )
        sequence.add_pool(RatioSequence.terms(counts), np.ones(1))

    def log_likelihood(ratios: np.ndarray) -> np.ndarray:
        found = np.zeros_like(ratios)
        for k_c, n_c, k_s, n_s in intervals:
            found += k_c * np.log(ratios) - (k_c + k_s) * np.log((n_c * ratios + n_s) / (n_c + n_s))
        return found

    steps = np.exp(RatioSequence._STEP * RatioSequence._OFFSETS)
    grid, low, high = RatioSequence.GRID, None, None
    for ratio in grid:
        own = log_likelihood(np.array([ratio]))[0] + nats
        if np.exp(np.minimum(log_likelihood(ratio * steps) - own, 700.0)).mean() >= 1.0:
            low = ratio
        if high is None and np.exp(np.minimum(log_likelihood(ratio / steps) - own, 700.0)).mean() >= 1.0:
            high = ratio
    assert sequence.interval((0,), nats) == (pytest.approx(low), pytest.approx(high))


def test_counts_of_which_an_exposure_may_have_many_vary_as_poisson_counts_do() -> None:
    rng, effects = np.random.default_rng(5), [DesignEffect(1, many=True), DesignEffect(1)]
    clustered = DesignEffect(1, many=True)
    for _ in range(400):
        k_c, k_s = rng.poisson([3.0 * 20, 3.0 * 80])
        for effect in effects:
            effect.add(counts((k_c, 20, k_s, 80)))
        k_c, k_s = 6 * rng.poisson([0.5 * 20, 0.5 * 80])
        clustered.add(counts((k_c, 20, k_s, 80)))
    assert effects[0].online_df[0] == 400
    assert effects[0].online_chi2[0] / 400 == pytest.approx(1.0, abs=0.2)
    # Events out of exposures that have at most one: three in each cannot be, and say nothing.
    assert effects[1].online_df[0] == 0
    assert clustered.value[0] > 4.0
