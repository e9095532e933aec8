"""What other tools do with the same numbers, by their published rules. None of their code is used.

They see errors and latency of all routes together, every 15 s, as they would in Prometheus.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np

from bench.rollouts.course import Course, Floats, Rule, Totals, first

__all__ = ["RULES"]

_MINUTE = 60.0


def flagger(totals: Totals) -> Course:
    """Each minute: success rate of the last minute at least 99 %, p99 at most 500 ms; no data fails.
    The fifth failed check rolls back, ten good ones promote (steps of 5 % up to 50 %).

    Source: Flagger's documentation, "Metrics analysis" (builtin metrics) and "Canary analysis".
    """
    checks = np.flatnonzero(np.isclose(totals.ends % _MINUTE, 0.0))
    errors, requests = (totals.window(s, _MINUTE) for s in (totals.canary_errors, totals.canary))
    p99 = totals.quantile(0.99, totals.window(totals.canary_buckets, _MINUTE))
    with np.errstate(invalid="ignore", divide="ignore"):
        good = (errors / requests <= 0.01) & (p99 <= 0.5)
    failed = passed = 0
    for check in checks:
        failed, passed = failed + (not good[check]), passed + bool(good[check])
        if failed >= 5:
            return Course(rollback=float(totals.ends[check]))
        if passed >= 10:
            return Course(promote=float(totals.ends[check]))
    return Course()


def _ratio(totals: Totals, lasting: float) -> Course:
    """Over 5 minutes the canary has more than twice stable's share of errors, or more than 1.5 times its
    p99, and that for `lasting` seconds; what did not roll back in 10 minutes is promoted.

    The usual relative condition of an Argo AnalysisTemplate or an alert. Sources: documentation of Argo
    Rollouts, "Analysis" (stable against canary by pod template hash); of Prometheus, "Alerting rules".
    """
    window = 300.0
    sums = [
        totals.window(each, window)
        for each in (totals.canary_errors, totals.canary, totals.stable_errors, totals.stable)
    ]
    ours, theirs = (
        totals.quantile(0.99, totals.window(each, window))
        for each in (totals.canary_buckets, totals.stable_buckets)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        # Comparisons with NaN are false, as in PromQL.
        bad = ((sums[0] / sums[1]) / (sums[2] / sums[3]) > 2.0) | (ours / theirs > 1.5)
    needed = round(lasting / totals.seconds) + 1
    run, back = 0, None
    for i, each in enumerate(bad):
        run = run + 1 if each else 0
        if run >= needed:
            back = float(totals.ends[i])
            break
    if back is not None and back <= 600.0:
        return Course(rollback=back)
    return Course(promote=600.0)


def ratio_at_once(totals: Totals) -> Course:
    """The ratio rule without waiting."""
    return _ratio(totals, 0.0)


def ratio_for_5min(totals: Totals) -> Course:
    """The ratio rule that must hold for 5 minutes."""
    return _ratio(totals, 300.0)


def kayenta(totals: Totals) -> Course:
    """Every 5 minutes: Mann-Whitney on all 1-minute points so far of the share of errors and of p99, half of
    the marks each; below the marginal mark of 75 rolls back, 95 at the end of 30 minutes promotes.

    A metric is High if the lower end of the 98 % Hodges-Lehmann interval is above a quarter of the estimate,
    and the mean of the canary at least stable's; no points, or the same ones, pass. The interval is that of
    order statistics of the pairwise differences, without correction for ties.
    Source: Kayenta's documentation, "Canary judge" and "Canary config".
    """
    minute = round(_MINUTE / totals.seconds)
    sums = [
        each.reshape(-1, minute, *each.shape[1:]).sum(axis=1)
        for each in (
            totals.canary_errors,
            totals.canary,
            totals.stable_errors,
            totals.stable,
            totals.canary_buckets,
            totals.stable_buckets,
        )
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        metrics = [
            (sums[0] / sums[1], sums[2] / sums[3]),
            (totals.quantile(0.99, sums[4]), totals.quantile(0.99, sums[5])),
        ]
    points = len(sums[0])
    marks = 0.0
    for until in range(5, points + 1, 5):
        high = [_is_high(ours[:until], theirs[:until]) for ours, theirs in metrics]
        marks = 100.0 * high.count(False) / len(high)
        if marks < 75.0:
            return Course(rollback=until * _MINUTE)
    return Course(promote=points * _MINUTE) if marks >= 95.0 else Course()


def _is_high(ours: Floats, theirs: Floats) -> bool:
    ours, theirs = ours[~np.isnan(ours)], theirs[~np.isnan(theirs)]
    if not len(ours) or not len(theirs) or len(np.unique(np.concatenate([ours, theirs]))) == 1:
        return False
    if len(ours) == len(theirs) and np.array_equal(np.sort(ours), np.sort(theirs)):
        return False
    differences = np.sort((ours[:, None] - theirs[None]).ravel())
    low = differences[max(_mann_whitney_quantile(len(ours), len(theirs)), 1) - 1]
    return bool(low > 0.25 * abs(np.median(differences)) and ours.mean() >= theirs.mean())


@cache
def _mann_whitney_quantile(n: int, m: int, p: float = 0.01) -> int:
    """Return the p-quantile of the Mann-Whitney statistic of n and m values.

    Source: Mann and Whitney 1947: the number of orderings with statistic u is the coefficient of a Gaussian
    binomial, here as a product of (1 - x^(m+i)) / (1 - x^i).
    """
    ways = np.zeros(n * m + 1)
    ways[0] = 1.0
    for i in range(1, n + 1):
        for u in range(n * m, m + i - 1, -1):
            ways[u] -= ways[u - m - i]
        for u in range(i, n * m + 1):
            ways[u] += ways[u - i]
    return int(np.searchsorted(np.cumsum(ways) / ways.sum(), p))


def repeated_z(totals: Totals) -> Course:
    """At every look a two-sample z-test at 1.96 on all requests so far: failed, or slower than 250 ms."""
    slow = totals.bounds.index(0.25) + 1
    fires = np.zeros(len(totals.ends), dtype=bool)
    n_c, n_s = np.cumsum(totals.canary), np.cumsum(totals.stable)
    for ours, theirs in (
        (totals.canary_errors, totals.stable_errors),
        (totals.canary_buckets[:, slow:].sum(axis=1), totals.stable_buckets[:, slow:].sum(axis=1)),
    ):
        k_c, k_s = np.cumsum(ours), np.cumsum(theirs)
        p = (k_c + k_s) / (n_c + n_s)
        with np.errstate(invalid="ignore", divide="ignore"):
            fires |= (k_c / n_c - k_s / n_s) / np.sqrt(p * (1 - p) * (1 / n_c + 1 / n_s)) > 1.96
    return Course(rollback=first(totals, fires))


RULES: Mapping[str, Rule] = {
    "Flagger": flagger,
    "ratio at once": ratio_at_once,
    "ratio for 5 min": ratio_for_5min,
    "Kayenta": kayenta,
    "repeated z": repeated_z,
}
