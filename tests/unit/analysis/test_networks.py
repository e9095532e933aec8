"""Evidence that no single network can make up, and what signed views may do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolloutobs.analysis.evidence import Counts, log_e, more_than
from rolloutobs.analysis.model import Decision, PairCount, Tick, Verdict
from rolloutobs.analysis.networks import Networks
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.verdict import Engine

NAME = "js_errors_signed"
POLICY = Policy().only("errors", "js_errors")
SIGNED = POLICY.signal(NAME)
NULL = more_than(SIGNED.tolerance_ratio, SIGNED.tolerance_difference)
PLAIN = replace(SIGNED, lag_seconds=0.0)
ROOT = (("route", "/"),)
GOOD = PairCount(0, 50, 5, 950)


def nats(*ticks: dict[str, PairCount], policy: Policy = POLICY) -> float:
    networks = Networks(PLAIN, replace(policy, restart_seconds=0.0), NULL)
    for groups in ticks:
        networks.read(groups)
        networks.gain(1.0, 15.0)
    return networks.nats


# --- the arithmetic --------------------------------------------------------------------------------------


def test_one_network_alone_proves_nothing_however_loud() -> None:
    loud = {"03": PairCount(40, 40, 0, 40), "07": PairCount(0, 40, 0, 400)}
    assert nats(*[loud] * 20) < 0.0
    assert nats(*[{"03": PairCount(40, 40, 0, 400)}] * 20) <= 0.0


def test_what_every_network_shows_is_evidence_without_any_of_them() -> None:
    broken = {f"{i:02}": PairCount(3, 10, 0, 100) for i in range(8)}
    assert nats(*[broken] * 6) > 5.0


def test_nobody_who_says_where_views_came_from_is_no_evidence() -> None:
    assert nats({}, {}) == 0.0


groups = st.dictionaries(
    st.sampled_from(["00", "01", "02", "03"]),
    st.tuples(st.integers(0, 9), st.integers(1, 30), st.integers(0, 9), st.integers(1, 60)).map(
        lambda n: PairCount(min(n[0], n[1]), n[1], min(n[2], n[3]), n[3])
    ),
    max_size=4,
)


def one_by_one(ticks: list[dict[str, PairCount]]) -> float:
    """The least of all views together and all but one group, each added up by hand."""
    names = {name for tick in ticks for name in tick}
    found = []
    for left_out in ("", *names):
        total = np.zeros(len(NULL.grid))
        for tick in ticks:
            kept = [pair for name, pair in tick.items() if name != left_out]
            values = [float(sum(getattr(p, f) for p in kept)) for f in PairCount.__dataclass_fields__]
            k_c, n_c, k_s, n_s = (np.array([value]) for value in values)
            total += log_e(Counts(k_c[:, None], n_c, k_s[:, None], n_s), NULL)[0, 0]
        found.append(float(np.log(np.mean(np.exp(total)))))
    return min(found) if names else 0.0


@given(st.lists(groups, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_it_is_the_least_of_all_views_and_all_but_one_group_also_of_those_that_come_late(
    ticks: list[dict[str, PairCount]],
) -> None:
    unclipped = replace(POLICY, clip_nats=1e6)
    assert nats(*ticks, policy=unclipped) == pytest.approx(one_by_one(ticks), abs=1e-9)


@given(groups, st.permutations(["00", "01", "02", "03"]))
@settings(max_examples=40, deadline=None)
def test_the_names_of_the_groups_do_not_matter(tick: dict[str, PairCount], order: list[str]) -> None:
    renamed = dict(zip(["00", "01", "02", "03"], order, strict=True))
    again = {renamed[name]: tick[name] for name in sorted(tick, reverse=True)}
    assert nats(tick, tick) == pytest.approx(nats(again, again), abs=1e-9)


# --- the engine: forged beacons, docs/verdict.md "signed views" ------------------------------------------


def rollout(
    rng: np.random.Generator, *, rate: float = 0.005, forged: int = 0, networks: int = 1, signed: bool = True
) -> Verdict:
    """Half an hour of 50 views/s, 5 % of them on the canary, errors .5 %; `forged` bad views in 120 s."""
    engine = Engine(replace(POLICY, alpha=0.05))
    for i in range(-40, 120):
        sources = {}
        for group in range(16):
            n_c, n_s = rng.poisson([2.5 * 15 / 16 * (i >= 0), 47.5 * 15 / 16])
            sources[f"{group:02}"] = [rng.binomial(n_c, rate), n_c, rng.binomial(n_s, 0.005), n_s]
        if 10 <= i < 18:
            for group, more in enumerate(rng.multinomial(round(forged / 8), [1 / networks] * networks)):
                sources[f"{group:02}"][0] += more
                sources[f"{group:02}"][1] += more
        pairs = {name: PairCount(*map(int, values)) for name, values in sources.items()}
        total = PairCount(*(sum(getattr(p, f) for p in pairs.values()) for f in GOOD.__dataclass_fields__))
        counts = {"errors": {ROOT: GOOD if i >= 0 else replace(GOOD, canary_exposures=0)}}
        counts["js_errors"] = {ROOT: total}
        more = {}
        if signed:
            counts[NAME] = {ROOT: total}
            more["sources"] = {NAME: pairs}
        if engine.update(Tick(15.0 * i, 15.0 * (i + 1), counts=counts, **more)) is Decision.ROLLBACK:
            break
    return engine.verdict()


SEEDS = range(4)


def test_a_page_that_is_broken_everywhere_is_rolled_back_on_signed_views() -> None:
    for seed in SEEDS:
        verdict = rollout(np.random.default_rng(seed), rate=0.05)
        assert verdict.decision is Decision.ROLLBACK
        assert verdict.decided_by == NAME
        assert verdict.at <= 360.0
        assert "signed page views against" in verdict.reason


def test_forged_views_from_one_network_never_roll_back() -> None:
    for seed in SEEDS:
        verdict = rollout(np.random.default_rng(seed), forged=200)
        assert verdict.decision is not Decision.ROLLBACK


def test_unsigned_views_never_roll_back_and_hold() -> None:
    for seed in SEEDS:
        verdict = rollout(np.random.default_rng(seed), rate=0.05, signed=False)
        assert verdict.decision is Decision.HOLD
        assert "as anyone can post what browsers say" in verdict.reason


def test_signed_views_of_unknown_origin_only_hold() -> None:
    engine = Engine(POLICY)
    for i in range(20):
        bad = {ROOT: PairCount(30, 50, 0, 950)}
        verdict = engine.observe(
            Tick(15.0 * i, 15.0 * (i + 1), counts={"errors": {ROOT: GOOD}, "js_errors": bad, NAME: bad})
        )
    assert verdict.decision is Decision.HOLD
