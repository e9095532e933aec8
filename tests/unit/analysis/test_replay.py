"""Rollouts of the past, and stable's pods against each other."""

import numpy as np
import pytest

from rolloutobs.analysis.calibrate import Run, Spread, runs, span, spreads, stable_pods, windows
from rolloutobs.analysis.model import Decision, Reading, Sample
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.replay import Replayed, replay

POLICY = Policy.from_mapping(
    {
        "deadline_seconds": 600,
        "warmup_seconds": 0,
        "past": {"minimum_seconds": 300},
        "signals": {"latency": None, "js_errors": None, "journey": None},
    }
)
STEP = 15.0


def sample(track, version, status, value):
    labels = {"app": "shop", "track": track, "version": version, "route": "/", "status": status}
    return Sample("http_requests_total", labels, float(value))


def readings(rates, *, end, canary=None, per_tick=600, seed=1):
    """Return counters of one pod for each rate of errors; `canary` is (start, version, rate)."""
    rng = np.random.default_rng(seed)
    totals = {name: np.zeros(2) for name in (*(f"pod-{i}" for i in range(len(rates))), "canary")}
    found = []
    for step in range(int(end / STEP) + 1):
        at = step * STEP
        targets = {}
        for i, rate in enumerate(rates):
            totals[f"pod-{i}"] += (per_tick, rng.binomial(per_tick, rate))
            n, k = totals[f"pod-{i}"]
            targets[f"pod-{i}"] = (
                sample("stable", "1.1.0", "200", n - k),
                sample("stable", "1.1.0", "503", k),
            )
        if canary and at >= canary[0]:
            totals["canary"] += (per_tick, rng.binomial(per_tick, canary[2]))
            n, k = totals["canary"]
            targets["canary"] = (
                sample("canary", canary[1], "200", n - k),
                sample("canary", canary[1], "503", k),
            )
        found.append(Reading(at, targets))
    return found


@pytest.mark.parametrize(
    ("rate", "decision"), [(0.05, Decision.ROLLBACK), (0.01, Decision.PROMOTE)], ids=["bad", "good"]
)
def test_a_past_rollout_ends_as_the_gate_would_have_ended_it(rate, decision):
    past = readings((0.01, 0.01, 0.01), end=1500, canary=(900, "1.2.0", rate))
    found = replay(past, 890.0, POLICY, 60.0)
    assert found.decision is decision
    # The pod's first reading is where its counters begin.
    assert found.zero == 900
    assert found.verdict.canary_version == "1.2.0"
    assert found.verdict.at <= 600


def test_an_earlier_canary_is_not_this_rollouts():
    earlier = readings((0.01, 0.01), end=600, canary=(0, "1.2.0-rc1", 0.5))
    later = [
        Reading(r.at + 615, r.targets) for r in readings((0.01, 0.01), end=300, canary=(0, "1.2.0", 0.01))
    ]
    offset = {name: {s.labels["status"]: s.value for s in v} for name, v in earlier[-1].targets.items()}
    later = [
        Reading(
            r.at,
            {
                name: tuple(
                    Sample(
                        s.name,
                        s.labels,
                        s.value + (offset[name][s.labels["status"]] if name != "canary" else 0),
                    )
                    for s in v
                )
                for name, v in r.targets.items()
            },
        )
        for r in later
    ]
    found = replay([*earlier, *later], 615.0, POLICY, 60.0)
    assert found.verdict.canary_version == "1.2.0"
    assert found.decision is not Decision.ROLLBACK
    assert found.zero == 615


def test_no_canary_is_a_hold_without_a_verdict():
    found = replay(readings((0.01, 0.01), end=300), 100.0, POLICY, 60.0)
    assert (found.decision, found.verdict, found.zero) == (Decision.HOLD, None, None)


def windowed(past):
    """Return the runs of every pod in every window, each with no more than it has to be given."""
    found = []
    for start in windows(past[0].at, past[-1].at, POLICY):
        first, last = span(start, POLICY)
        seen = [each for each in past if first <= each.at <= last]
        found += runs(seen, stable_pods(past), start, POLICY)
    return found


def test_windows_leave_room_for_the_past_where_there_is_one():
    assert windows(0.0, 2100.0, POLICY) == [600.0, 1200.0]
    assert windows(0.0, 900.0, POLICY) == [300.0]
    assert windows(0.0, 100.0, POLICY) == [0.0]


def test_equal_pods_raise_no_alarm_and_need_no_more_tolerance():
    past = readings((0.02,) * 4, end=2100)
    assert stable_pods(past) == ("pod-0", "pod-1", "pod-2", "pod-3")
    found = windowed(past)
    assert len(found) == 8
    assert {run.result.decision for run in found} <= {Decision.HOLD, Decision.PROMOTE}
    errors = spreads(found, POLICY)[0]
    assert errors.runs == 8
    assert errors.pods < 1.1
    assert errors.suggested == POLICY.signal("errors").tolerance_ratio


def test_what_a_pod_did_before_it_takes_the_canarys_place_is_not_compared():
    """A pod that is younger than the window's past would bring all of its life into one tick."""
    start = 600.0
    past = readings((0.02,) * 3, end=1200)
    young = [
        Reading(
            each.at,
            {
                **each.targets,
                "young": (
                    Sample("app_start_time_seconds", {"app": "shop", "track": "stable"}, 100.0),
                    sample("stable", "1.1.0", "200", each.at),
                    # An incident of all pods, long before the window.
                    sample("stable", "1.1.0", "503", 500.0 + each.at / 50),
                ),
            },
        )
        if each.at >= 105
        else each
        for each in past
    ]
    (run,) = runs(young, ["young"], start, POLICY)
    assert run.result.verdict.requests.canary_events < 20
    assert run.result.decision is not Decision.ROLLBACK


def test_pods_that_differ_are_found_and_named_by_a_tolerance():
    past = readings((0.02, 0.02, 0.02, 0.06), end=2100)
    found = windowed(past)
    assert {run.pod for run in found if run.result.decision is Decision.ROLLBACK} == {"pod-3"}
    errors = spreads(found, POLICY)[0]
    assert errors.pods > 1.5
    assert errors.suggested >= errors.pods
    assert errors.observed > errors.pods * 0.5


def test_too_few_events_say_nothing():
    past = readings((0.0001, 0.0001), end=1500)
    errors = spreads(windowed(past), POLICY)[0]
    assert errors == Spread("errors", 0, None, None, 1.1)
    assert errors.suggested == 1.1
    assert spreads([Run("pod-0", Replayed(0.0, None, None))], POLICY)[0].runs == 0
