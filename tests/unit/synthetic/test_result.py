from __future__ import annotations

import itertools

import pytest

from rolloutobs.identity import Track
from synthetic.journey import StepResult
from synthetic.result import CheckOutcome as O
from synthetic.result import ExitCode, Fault, Pair, PairVerdict, TrackRun, exit_code, outcome_of
from synthetic.target import Proof, Proven, Target

RIGHT = Proof(Proven.RIGHT, "1.2.0", "")
SILENT = Proof(Proven.SILENT, None, "nothing answered")
WRONG = Proof(Proven.WRONG, None, "version '1.1.0' answered")
UNKNOWN = Proof(Proven.UNKNOWN, "1.1.0", "who?")


def run(
    track: Track, outcome: O, fault: Fault = Fault.NONE, proof: Proof = RIGHT, version: str | None = None
) -> TrackRun:
    return TrackRun(Target("http://x", track, version), outcome, 1.0, (), proof, fault, "", "")


def pair(stable: TrackRun, canary: TrackRun) -> Pair:
    return Pair(0.0, Track.STABLE, stable, canary)


@pytest.mark.parametrize(
    ("fault", "proof", "outcome"),
    [
        (Fault.NONE, RIGHT, O.PASS),
        (Fault.PRODUCT, RIGHT, O.FAIL),
        (Fault.UNREACHABLE, RIGHT, O.FAIL),
        (Fault.UNREACHABLE, SILENT, O.FAIL),
        (Fault.PRODUCT, SILENT, O.FAIL),
        (Fault.NONE, SILENT, O.INCONCLUSIVE),
        (Fault.NONE, WRONG, O.INCONCLUSIVE),
        (Fault.PRODUCT, WRONG, O.INCONCLUSIVE),
        (Fault.NONE, UNKNOWN, O.INCONCLUSIVE),
        (Fault.PRODUCT, UNKNOWN, O.INCONCLUSIVE),
        (Fault.HARNESS, RIGHT, O.ERROR),
        (Fault.HARNESS, SILENT, O.ERROR),
    ],
)
def test_outcome_of_a_run(fault, proof, outcome):
    assert outcome_of(fault, proof, ()) is outcome


def test_nothing_but_proof_passes():
    for fault, proof in itertools.product(Fault, (RIGHT, SILENT, WRONG, UNKNOWN)):
        passed = outcome_of(fault, proof, ()) is O.PASS
        assert passed == (fault is Fault.NONE and proof is RIGHT)


def test_a_failed_step_that_the_journey_swallowed_fails_the_run():
    assert outcome_of(Fault.NONE, RIGHT, [StepResult("pay", 1.0, "no")]) is O.FAIL


@pytest.mark.parametrize(
    ("stable", "canary", "verdict", "published"),
    [
        (O.PASS, O.PASS, PairVerdict.PASS, (O.PASS, O.PASS)),
        (O.PASS, O.FAIL, PairVerdict.CANARY_FAILED, (O.PASS, O.FAIL)),
        (O.FAIL, O.PASS, PairVerdict.PASS, (O.FAIL, O.PASS)),
        (O.FAIL, O.FAIL, PairVerdict.BOTH_FAILED, (O.FAIL, O.FAIL)),
        (O.PASS, O.INCONCLUSIVE, PairVerdict.INCONCLUSIVE, (O.INCONCLUSIVE, O.INCONCLUSIVE)),
        (O.INCONCLUSIVE, O.FAIL, PairVerdict.INCONCLUSIVE, (O.INCONCLUSIVE, O.INCONCLUSIVE)),
        (O.ERROR, O.INCONCLUSIVE, PairVerdict.ERROR, (O.ERROR, O.ERROR)),
        (O.PASS, O.ERROR, PairVerdict.ERROR, (O.ERROR, O.ERROR)),
    ],
)
def test_pairs(stable, canary, verdict, published):
    both = pair(run(Track.STABLE, stable), run(Track.CANARY, canary))
    assert both.verdict is verdict
    assert both.published == published


def test_one_side_refused_is_the_products_and_both_sides_are_infrastructure():
    refused = [run(track, O.FAIL, Fault.UNREACHABLE, SILENT) for track in (Track.STABLE, Track.CANARY)]
    assert pair(run(Track.STABLE, O.PASS), refused[1]).verdict is PairVerdict.CANARY_FAILED
    assert pair(refused[0], run(Track.CANARY, O.PASS)).verdict is PairVerdict.PASS
    assert pair(*refused).verdict is PairVerdict.ERROR
    assert pair(*refused).published == (O.ERROR, O.ERROR)


def test_passes_and_failures_of_both_tracks_stay_equal_in_number():
    counted = {O.PASS, O.FAIL}
    for stable, canary in itertools.product(O, O):
        published = pair(run(Track.STABLE, stable), run(Track.CANARY, canary)).published
        assert len(counted & set(published)) != 1 or set(published) <= counted


def test_the_version_label_is_proven_else_expected_else_unknown():
    assert run(Track.CANARY, O.PASS).version == "1.2.0"
    assert run(Track.CANARY, O.INCONCLUSIVE, proof=UNKNOWN, version="1.2.0").version == "1.2.0"
    assert run(Track.CANARY, O.INCONCLUSIVE, proof=UNKNOWN).version == "unknown"


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], ExitCode.INFRASTRUCTURE),
        ([PairVerdict.PASS], ExitCode.PASS),
        ([PairVerdict.PASS, PairVerdict.INCONCLUSIVE], ExitCode.INCONCLUSIVE),
        ([PairVerdict.INCONCLUSIVE, PairVerdict.ERROR], ExitCode.INFRASTRUCTURE),
        ([PairVerdict.PASS, PairVerdict.BOTH_FAILED], ExitCode.INFRASTRUCTURE),
        ([PairVerdict.ERROR, PairVerdict.CANARY_FAILED, PairVerdict.PASS], ExitCode.PRODUCT),
    ],
)
def test_exit_codes(verdicts, code):
    assert exit_code(verdicts) is code


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([PairVerdict.CANARY_FAILED, PairVerdict.PASS], ExitCode.INCONCLUSIVE),
        ([PairVerdict.CANARY_FAILED, PairVerdict.ERROR], ExitCode.INFRASTRUCTURE),
    ],
)
def test_failures_that_chance_explains_are_inconclusive_and_come_after_what_could_not_run(verdicts, code):
    assert exit_code(verdicts, needs_evidence=True) is code


def test_exit_codes_are_the_designs():
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3]
