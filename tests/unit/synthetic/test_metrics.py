from __future__ import annotations

import threading

from rolloutobs.identity import Track
from synthetic.journey import StepResult
from synthetic.metrics import CheckMetrics
from synthetic.result import CheckOutcome, Fault, Pair, TrackRun
from synthetic.target import Proof, Proven, Target

STABLE = Target("http://s", Track.STABLE, "1.1.0")
CANARY = Target("http://c", Track.CANARY, "1.2.0")
FOUND, PAID = StepResult("find", 0.2), StepResult("pay", 0.4)
NOT_PAID = StepResult("pay", 4.0, "no receipt")


def run(target: Target, outcome: CheckOutcome, *steps: StepResult, proven: Proven = Proven.RIGHT) -> TrackRun:
    version = target.version if proven is Proven.RIGHT else None
    proof = Proof(proven, version, "" if proven is Proven.RIGHT else "who?")
    return TrackRun(target, outcome, 0.7, steps, proof, Fault.NONE, "", "", ended=1000.0)


def pair(stable: TrackRun, canary: TrackRun) -> Pair:
    return Pair(0.0, Track.CANARY, stable, canary, "checkout")


def good() -> Pair:
    passed = CheckOutcome.PASS
    return pair(run(STABLE, passed, FOUND, PAID), run(CANARY, passed, FOUND, PAID))


def values(metrics: CheckMetrics, name: str, *keys: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.get(key, "") for key in keys): sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.name == name
    }


def runs(metrics: CheckMetrics) -> dict[tuple[str, ...], float]:
    return values(metrics, "synthetic_check_runs_total", "track", "version", "step", "outcome")


def test_expected_versions_exist_from_zero_on_both_tracks():
    assert runs(CheckMetrics("shop", ["checkout"], (STABLE, CANARY))) == {
        (track, version, "", outcome): 0.0
        for track, version in (("stable", "1.1.0"), ("canary", "1.2.0"))
        for outcome in ("pass", "fail", "inconclusive")
    }


def test_versions_that_are_not_expected_exist_once_they_are_proven():
    targets = (Target("http://s", Track.STABLE), Target("http://c", Track.CANARY))
    metrics = CheckMetrics("shop", ["checkout"], targets)
    assert runs(metrics) == {}
    metrics.publish(good())
    assert runs(metrics)["canary", "1.2.0", "", "fail"] == 0.0
    assert runs(metrics)["canary", "1.2.0", "", "pass"] == 1.0


def test_a_failed_pair():
    metrics = CheckMetrics("shop", ["checkout"], (STABLE, CANARY))
    metrics.publish(good())
    metrics.publish(
        pair(run(STABLE, CheckOutcome.PASS, FOUND, PAID), run(CANARY, CheckOutcome.FAIL, FOUND, NOT_PAID))
    )
    nonzero = {key: value for key, value in runs(metrics).items() if value}
    assert nonzero == {
        ("stable", "1.1.0", "", "pass"): 2,
        ("stable", "1.1.0", "find", "pass"): 2,
        ("stable", "1.1.0", "pay", "pass"): 2,
        ("canary", "1.2.0", "", "pass"): 1,
        ("canary", "1.2.0", "", "fail"): 1,
        ("canary", "1.2.0", "find", "pass"): 2,
        ("canary", "1.2.0", "pay", "pass"): 1,
        ("canary", "1.2.0", "pay", "fail"): 1,
    }
    assert runs(metrics)["stable", "1.1.0", "pay", "fail"] == 0.0
    counts = values(metrics, "synthetic_check_duration_seconds_count", "track", "step")
    assert counts == {
        ("stable", ""): 2, ("stable", "find"): 2, ("stable", "pay"): 2,
        ("canary", ""): 1, ("canary", "find"): 2, ("canary", "pay"): 1,
    }  # fmt: skip
    assert values(metrics, "synthetic_check_last_success_timestamp_seconds", "app", "check", "track") == {
        ("shop", "checkout", "stable"): 1000.0,
        ("shop", "checkout", "canary"): 1000.0,
    }


def test_a_wrong_version_voids_the_pair_and_is_counted_for_its_track_only():
    metrics = CheckMetrics("shop", ["checkout"], (STABLE, CANARY))
    wrong = run(CANARY, CheckOutcome.INCONCLUSIVE, FOUND, proven=Proven.WRONG)
    metrics.publish(pair(run(STABLE, CheckOutcome.PASS, FOUND), wrong))
    nonzero = {key for key, value in runs(metrics).items() if value}
    assert nonzero == {
        ("stable", "1.1.0", "", "inconclusive"),
        ("stable", "1.1.0", "find", "inconclusive"),
        ("canary", "1.2.0", "", "inconclusive"),
        ("canary", "1.2.0", "find", "inconclusive"),
    }
    # No duration of one track without the other's either.
    assert set(values(metrics, "synthetic_check_duration_seconds_count", "track").values()) == {0}
    assert values(metrics, "synthetic_check_identity_mismatch_total", "track") == {
        ("stable",): 0,
        ("canary",): 1,
    }
    assert values(metrics, "synthetic_check_last_success_timestamp_seconds", "track") == {("stable",): 1000.0}


def test_no_scrape_sees_half_a_pair():
    """Scrapes while pairs are published: passes of both tracks are equal at each one."""
    metrics = CheckMetrics("shop", ["checkout"], (STABLE, CANARY))
    done = threading.Event()

    def publish() -> None:
        for _ in range(300):
            metrics.publish(good())
        done.set()

    thread = threading.Thread(target=publish)
    thread.start()
    seen = []
    while not done.is_set():
        now = runs(metrics)
        seen.append((now["stable", "1.1.0", "", "pass"], now["canary", "1.2.0", "", "pass"]))
    thread.join()
    assert all(stable == canary for stable, canary in seen)
    assert runs(metrics)["canary", "1.2.0", "", "pass"] == 300


def test_steps_that_are_named_by_number_do_not_become_series_without_end():
    metrics = CheckMetrics("shop", ["checkout"], (STABLE, CANARY))
    for number in range(40):
        steps = [StepResult(f"order {2 * number + more}", 0.1) for more in range(2)]
        metrics.publish(pair(run(STABLE, CheckOutcome.PASS, *steps), run(CANARY, CheckOutcome.PASS, *steps)))
    found = {key: value for key, value in runs(metrics).items() if key[0] == "canary" and key[3] == "pass"}
    assert len(found) == 52
    assert found["canary", "1.2.0", "order 49", "pass"] == 1
    assert found["canary", "1.2.0", "_others", "pass"] == 30
    assert found["canary", "1.2.0", "", "pass"] == 40
