"""The canary gets the traffic that it was given, or somebody is told."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.simulate import SCENARIOS, World, like_the_study, run, ticks
from rolloutobs.analysis.evidence import Clip
from rolloutobs.analysis.model import Decision, PairCount, Side, Tick
from rolloutobs.analysis.policy import OnSilence, Policy, Share
from rolloutobs.analysis.share import Boundary, ShareTest
from rolloutobs.analysis.verdict import Engine
from rolloutobs.errors import ConfigurationError

POLICY = Policy(share=Share(weight=0.05))


def fed(policy: Policy, canary: list[int], stable: int = 1000, weight: float | None = None) -> ShareTest:
    """Return the test after 15 s intervals with so many canary requests each."""
    test = ShareTest(policy)
    for i, n in enumerate(canary):
        test.observe(15.0 * (i + 1), 15.0, (float(n), float(stable)), weight)
    return test


def first(policy: Policy, canary: list[int], weight: float | None = None) -> float | None:
    test = ShareTest(policy)
    for i, n in enumerate(canary):
        test.observe(15.0 * (i + 1), 15.0, (float(n), 1000.0), weight)
        if test.rollback.nats >= log(100.0):
            return 15.0 * (i + 1)
    return None


@pytest.mark.parametrize("weight", [0.01, 0.2, 0.9])
@pytest.mark.parametrize("total", [1, 4, 9])
def test_it_is_an_e_value_for_any_split_at_the_boundary(weight: float, total: int) -> None:
    """Exact: every outcome of `total` requests that reach the canary with the least share the null grants."""
    share, mean = 0.5 * weight, 0.0
    for outcome in product((0, 1), repeat=total):
        k = sum(outcome)
        boundary = Boundary(0.5, Clip(1e9, 0.0))
        boundary.gain(float(k), float(total), weight, 1.0, 15.0)
        boundary.wealth.log += log(2.0)  # the half that later beginnings get
        mean += exp(boundary.nats) * share**k * (1.0 - share) ** (total - k)
    assert mean <= 1.0 + 1e-9


def test_dead_lossy_and_healthy() -> None:
    assert first(POLICY, [0] * 20) == 135.0
    lossy = first(POLICY, [10] * 40)
    assert lossy is not None
    assert lossy <= 300.0
    late = first(POLICY, [52] * 40 + [10] * 30)
    assert late is not None
    assert 600.0 < late <= 900.0
    assert first(POLICY, [52] * 120) is None
    assert first(POLICY, [30] * 120) is None


def test_without_a_weight_nothing_is_tested() -> None:
    for policy, weight in ((Policy(), None), (POLICY, 0.0)):
        test = fed(policy, [0] * 40, weight=weight)
        assert not test.holds()
        assert not test.rolls_back(600.0)
        assert test.verdict() is None


@given(st.lists(st.integers(0, 80), min_size=8, max_size=20), st.integers(7, 19))
@settings(max_examples=40, deadline=None)
def test_fewer_canary_requests_now_are_never_less_evidence_now(counts: list[int], at: int) -> None:
    at = min(at, len(counts) - 1)
    fewer = [n if i != at else n // 2 for i, n in enumerate(counts)]
    one, other = (fed(POLICY, each[: at + 1]) for each in (counts, fewer))
    assert other.rollback.nats >= one.rollback.nats - 1e-9


def test_a_weight_that_falls_begins_anew_and_one_that_rises_counts_when_it_has_settled() -> None:
    test = fed(POLICY, [0] * 12, weight=0.2)
    assert test.holds()
    test.observe(195.0, 15.0, (0.0, 1000.0), 0.05)
    assert not test.holds()
    rising = ShareTest(Policy())
    for i in range(40):
        weight = 0.05 if i < 20 else 0.5
        lagged = 52.0 if i < 24 else 1000.0
        rising.observe(15.0 * (i + 1), 15.0, (lagged, 1000.0), weight)
        assert not rising.holds()


def test_false_alarms_with_noisy_routing_are_rare() -> None:
    rng, alarms = np.random.default_rng(3), 0
    for _ in range(60):
        shares = 0.05 * rng.gamma(1 / 0.09, 0.09, 120)
        test = ShareTest(POLICY)
        for i, share in enumerate(shares):
            n = float(rng.binomial(1500, min(share, 1.0)))
            test.observe(15.0 * (i + 1), 15.0, (n, 1500.0 - n), None)
            alarms += test.rollback.nats >= log(100.0)
    assert alarms == 0


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (1.0, "canary 1.2.0 has had no requests in the last 5 min where 5 % of the traffic is configured"),
        (0.8, "of the requests where 5 % of the traffic is configured: "),
    ],
)
def test_a_canary_without_its_traffic_is_rolled_back_for_that(lost: float, said: str) -> None:
    world = World(rps=100.0, weighted=True, lost=lost, past_seconds=600.0, seconds=600.0)
    ending = run(like_the_study(), world, 1, explain=True)
    assert ending.decision is Decision.ROLLBACK
    assert ending.seconds == 300.0
    assert said in ending.reason


def test_it_only_holds_where_that_is_wanted_and_says_nothing_where_it_is_ignored() -> None:
    world = World(rps=3000.0, weighted=True, lost=0.8, past_seconds=600.0, seconds=900.0)
    for on_silence, wanted in ((OnSilence.HOLD, Decision.HOLD), (OnSilence.IGNORE, Decision.PROMOTE)):
        policy = replace(like_the_study(), share=Share(on_silence=on_silence))
        ending = run(policy, world, 1, explain=True)
        assert ending.decision is wanted
        assert ("receives" in ending.reason) is (wanted is Decision.HOLD)


def test_targets_that_did_not_answer_are_not_silence() -> None:
    world = World(rps=100.0, weighted=True, lost=1.0, past_seconds=300.0, seconds=600.0)
    engine = Engine(like_the_study())
    for tick in ticks(world, np.random.default_rng(1)):
        verdict = engine.observe(replace(tick, stale=frozenset({"canary"}) if tick.end > 0 else frozenset()))
    assert verdict.decision is Decision.HOLD
    assert verdict.decided_by == ""


def test_the_verdict_tells_weight_share_and_evidence() -> None:
    world = World(rps=100.0, weighted=True, lost=0.8, past_seconds=300.0, seconds=450.0)
    engine = Engine(like_the_study())
    for tick in ticks(world, np.random.default_rng(1)):
        verdict = engine.observe(tick)
    assert verdict.decided_by == "share"
    assert verdict.share is not None
    assert verdict.share.weight == 0.05
    assert verdict.share.received == pytest.approx(0.01, abs=0.005)
    assert [each.side for each in verdict.share.evidence] == [Side.HOLD, Side.ROLLBACK]
    assert all(each.nats >= each.threshold for each in verdict.share.evidence)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigurationError, match=r"share: weight is 1.5"):
        Policy.from_mapping({"share": {"weight": 1.5}})
    with pytest.raises(ConfigurationError, match=r"on_silence is 'panic'; use one of 'rollback', 'hold'"):
        Policy.from_mapping({"share": {"on_silence": "panic"}})
    assert Policy.from_mapping(POLICY.to_mapping()) == POLICY


# --- bake ------------------------------------------------------------------------------------------------


def test_baking_sees_what_begins_late_and_neither_warms_up_nor_asks_for_a_share() -> None:
    policy = replace(like_the_study(), minimum_seconds=1800.0).baking()
    assert policy.warmup_seconds == 0.0
    assert policy.restart_seconds == 180.0
    assert not any(each.past for each in policy.signals)
    late = replace(SCENARIOS["bake_err_0.5to2_late5min"], past_seconds=0.0, seconds=900.0)
    for seed in range(3):
        ending = run(policy, late, seed)
        assert ending.decision is Decision.ROLLBACK
        assert 300.0 < ending.seconds <= 600.0
    good = replace(SCENARIOS["bake_good"], past_seconds=0.0, seconds=900.0, weighted=True, lost=0.9)
    assert run(policy, good, 1).decision is Decision.HOLD


def test_a_baseline_that_is_compared_does_not_hide_how_much_traffic_there_is() -> None:
    """1 % of all requests reach the canary where 5 % are configured; of those compared it has 20 %."""
    engine = Engine(replace(POLICY.only("errors"), warmup_seconds=0.0))
    for i in range(30):
        engine.update(
            Tick(
                15.0 * i,
                15.0 * (i + 1),
                counts={"errors": {(): PairCount(0, 10, 0, 50)}},
                baseline=frozenset({"errors"}),
                aside={"errors": 940.0},
                by_pod_age=True,
            )
        )
    verdict = engine.verdict()
    assert verdict.decision is Decision.ROLLBACK
    assert "receives 1 % of the requests where 5 % of the traffic is configured" in verdict.reason
