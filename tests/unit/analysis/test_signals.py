"""The signals beside errors and latency, each through the engine: restarts, logs, vitals; and two rollouts at
once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pytest

from rolloutobs.analysis.judge import SignalJudge
from rolloutobs.analysis.model import Decision, HistogramPair, PairCount, PodCount, Stratum, Tick, Verdict
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.verdict import Engine

ROOT: Stratum = (("method", "GET"), ("route", "/"))
PAGE: Stratum = (("device", "mobile"), ("route", "/"))
GOOD = {"errors": {ROOT: PairCount(0, 600, 2, 1200)}}
PODS = {"errors": {"a": PodCount(1, 600), "b": PodCount(1, 600)}}


def told(policy: Policy, ticks: Iterable[Mapping[str, object]], past: int = 40) -> Verdict:
    """Give the engine good requests, and beside them what each of `ticks` says."""
    engine = Engine(policy)
    for i in range(-past, 0):
        stable = {"errors": {ROOT: PairCount(0, 0, 2, 1200)}}
        engine.update(Tick(15.0 * i, 15.0 * (i + 1), counts=stable, stable_pods=PODS))
    for i, more in enumerate(ticks):
        counts = {**GOOD, **more.get("counts", {})}  # type: ignore[dict-item]
        tick = Tick(
            15.0 * i,
            15.0 * (i + 1),
            counts=counts,
            histograms=more.get("histograms", {}),  # type: ignore[arg-type]
            stable_pods={**PODS, **more.get("stable_pods", {})},  # type: ignore[dict-item]
            by_pod_age=True,
            canary_version="1.2.0",
            stable_version="1.1.0",
        )
        if engine.update(tick) is Decision.ROLLBACK:
            break
    return engine.verdict()


# --- restarts --------------------------------------------------------------------------------------------

RESTARTS = Policy().only("errors", "restarts")


def lives(restarts: int) -> Mapping[str, object]:
    return {"counts": {"restarts": {(): PairCount(restarts, 15, 0, 45)}}}


def test_a_canary_that_crashes_again_and_again_is_rolled_back() -> None:
    crashes = [lives(i % 3 == 0) for i in range(60)]
    verdict = told(RESTARTS, crashes)
    assert verdict.decision is Decision.ROLLBACK
    assert verdict.decided_by == "restarts"
    assert "canary 1.2.0 restarts far more often than stable 1.1.0" in verdict.reason
    assert "process seconds against none in" in verdict.reason


def test_one_restart_is_not_enough_and_none_are_no_proof_that_is_asked_for() -> None:
    once = told(RESTARTS, [lives(i == 20) for i in range(40)])
    assert once.decision is Decision.PROMOTE
    unseen = told(RESTARTS, [{} for _ in range(40)])
    assert unseen.decision is Decision.PROMOTE
    assert [metric.signal for metric in unseen.metrics] == ["errors", "restarts"]


# --- log records -----------------------------------------------------------------------------------------


def test_more_error_records_than_requests_are_a_count_and_pause() -> None:
    policy = Policy().only("errors", "log_errors")
    noisy = [{"counts": {"log_errors": {(): PairCount(2000, 600, 1300, 1200)}}} for _ in range(40)]
    verdict = told(policy, noisy)
    assert verdict.decision is Decision.HOLD
    assert "canary 1.2.0 logs errors 3.1x as often as stable 1.1.0" in verdict.reason
    assert "on_failure: pause" in verdict.reason
    assert "2,000 in" not in verdict.reason
    alike = [{"counts": {"log_errors": {(): PairCount(650, 600, 1300, 1200)}}} for _ in range(40)]
    assert told(policy, alike).decision is Decision.PROMOTE


# --- vitals ----------------------------------------------------------------------------------------------


def vital(name: str, bounds: tuple[float, ...], canary: tuple[int, ...]) -> Mapping[str, object]:
    stable = tuple(10 * n for n in (60, 20, 10, 6, 4))
    pair = HistogramPair(bounds, canary, stable)
    return {"histograms": {name: {PAGE: pair}}}


@pytest.mark.parametrize(
    ("name", "bounds", "words"),
    [
        ("lcp", (1.5, 2.5, 4.0, 6.0), "shows its largest content after more than 2.5 s on mobile /"),
        ("cls", (0.025, 0.1, 0.25, 0.5), "shifts its layout by more than 0.1 on mobile /"),
        ("inp", (0.104, 0.2, 0.5, 1.0), "answers an interaction after more than 200 ms on mobile /"),
    ],
)
def test_a_vital_that_is_worse_beyond_its_threshold_holds(
    name: str, bounds: tuple[float, ...], words: str
) -> None:
    policy = Policy().only("errors", name)
    worse = told(policy, [vital(name, bounds, (60, 20, 60, 6, 4))] * 40)
    assert worse.decision is Decision.HOLD
    assert words in worse.reason
    assert told(policy, [vital(name, bounds, (60, 20, 10, 6, 4))] * 40).decision is Decision.PROMOTE


@pytest.mark.parametrize(
    ("exposed", "compared"),
    [
        ((0.5, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0), (1.5, 2.5, 4.0, 6.0)),
        ((1.0, 3.0), (1.0, 3.0)),
    ],
)
def test_of_a_long_histogram_only_the_named_bounds_are_compared(
    exposed: tuple[float, ...], compared: tuple[float, ...]
) -> None:
    policy = Policy()
    judge = SignalJudge(policy.signal("lcp"), policy)
    n = len(exposed) + 1
    judge.observe(Tick(0.0, 15.0, histograms={"lcp": {PAGE: HistogramPair(exposed, (5,) * n, (50,) * n)}}))
    assert judge.frame.bounds == compared


# --- two rollouts at once: docs/verdict.md, "confounded rollouts" ----------------------------------------


def two_rollouts(seed: int, policy: Policy, *, own: float = 0.01) -> Verdict:
    """This service's canary gets 10 % of the old callers' requests and 80 % of the new ones': callers of the
    new version prefer new callees. Whatever the new callers send fails in 8 of 100 requests, on both tracks;
    other requests in 1 of 100, on this canary in `own`.
    """
    rng = np.random.default_rng(seed)

    def tick(i: int) -> Mapping[str, object]:
        strata, pods = {}, {"a": [0, 0.0], "b": [0, 0.0]}
        callers = (("1.0", 1200, 0.01, 0.1), ("2.0", 300 * (i >= 0), 0.08, 0.8))
        for caller, total, rate, share in callers:
            n_c = rng.binomial(total, share * (i >= 0))
            n_s = total - n_c
            bad = rate + own - 0.01
            labels = {"method": "GET", "route": "/", "caller_version": caller}
            kept = {name: labels[name] for name in policy.signal("errors").strata}
            key = tuple(sorted(kept.items()))
            old = strata.get(key, PairCount(0, 0, 0, 0))
            k_c, k_s = int(rng.binomial(n_c, bad)), int(rng.binomial(n_s, rate))
            strata[key] = PairCount(
                old.canary_events + k_c,
                old.canary_exposures + n_c,
                old.stable_events + k_s,
                old.stable_exposures + n_s,
            )
            for pod in pods.values():
                pod[0] += k_s // 2
                pod[1] += n_s / 2
        return {
            "counts": {"errors": strata},
            "stable_pods": {"errors": {p: PodCount(*v) for p, v in pods.items()}},
        }

    return told(policy, [tick(i) for i in range(80)], past=0)


ONE = Policy.from_mapping({"alpha": 0.05}).only("errors")
BOTH = Policy.from_mapping({"alpha": 0.05, "strata_labels": ["caller_version"]}).only("errors")


def test_a_caller_that_rolls_out_at_the_same_time_is_not_blamed_on_this_canary() -> None:
    for seed in range(5):
        assert two_rollouts(seed, BOTH).decision is not Decision.ROLLBACK
        # The test can fail: without the caller's version the canary is blamed.
        assert two_rollouts(seed, ONE).decision is Decision.ROLLBACK


def test_a_canary_that_is_worse_itself_is_found_whoever_calls() -> None:
    for seed in range(5):
        verdict = two_rollouts(seed, BOTH, own=0.05)
        assert verdict.decision is Decision.ROLLBACK
        assert verdict.at <= 240.0


def test_further_strata_are_those_of_signals_that_have_any_and_only_once() -> None:
    policy = Policy(strata_labels=("cluster", "method"))
    assert policy.signal("errors").strata == ("method", "route", "cluster")
    assert policy.signal("restarts").strata == ()
    assert Policy.from_mapping(policy.to_mapping()) == policy
