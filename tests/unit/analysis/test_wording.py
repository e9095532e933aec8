"""Sentences for what the stories do not tell: fewer conversions, nothing on one side, endless waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rolloutobs.analysis.forecast import horizon
from rolloutobs.analysis.model import Missing, PairCount, Ratio
from rolloutobs.analysis.policy import Kind, Policy
from rolloutobs.analysis.summary import Headline
from rolloutobs.analysis.wording import Tracks, guarded, needs, promoted, within, worse

TRACKS = Tracks("1.2.0", "1.1.0")
ERRORS = Policy().signal("errors")
PAID = replace(
    ERRORS,
    name="paid",
    title="payments",
    kind=Kind.CONVERSION,
    phrase="completes a checkout on {stratum}",
    everywhere="all pages together",
    unit="page views",
)
SEEN = PairCount(3, 1234.0, 5, 4321.0)


def shown(ratio: tuple[float | None, float | None, float | None], total: PairCount) -> Headline:
    return Headline(None, None, total, Ratio(*ratio, confidence=0.99), 0)


@pytest.mark.parametrize(
    ("ratio", "total", "sentence"),
    [
        (
            (0.25, 0.1, 0.6),
            PairCount(5, 100.0, 40, 200.0),
            "canary 1.2.0 completes a checkout on all pages together 0.25x as often as stable 1.1.0 "
            "(at most 0.6x, 99 % sure): 5 of 100 page views against 40 of 200",
        ),
        (
            (0.0, None, 0.2),
            PairCount(0, 100.0, 40, 200.0),
            "canary 1.2.0 completes a checkout on all pages together not once, unlike stable 1.1.0 "
            "(at most 0.2x, 99 % sure): none of 100 page views against 40 of 200",
        ),
    ],
)
def test_fewer_conversions(
    ratio: tuple[float | None, float | None, float | None], total: PairCount, sentence: str
) -> None:
    assert worse(PAID, shown(ratio, total), TRACKS) == sentence


def test_an_unknown_bound_is_left_out() -> None:
    said = worse(ERRORS, shown((2.0, None, None), PairCount(2, 10.0, 1, 10.0)), TRACKS)
    assert said == (
        "canary 1.2.0 answers 5xx on all routes together 2x as often as stable 1.1.0: "
        "2 of 10 requests against 1 of 10"
    )


def test_versions_that_nobody_set_are_left_out() -> None:
    said = worse(ERRORS, shown((2.0, 1.5, None), PairCount(2, 10.0, 1, 10.0)), Tracks())
    assert said.startswith(
        "canary answers 5xx on all routes together 2x as often as stable (at least 1.5x, 99 %"
    )


def test_a_forecast_looks_as_far_again_once_the_deadline_has_passed() -> None:
    assert within(horizon(1800.0, 1500.0), 1800.0) == "within the deadline of 30 min"
    assert within(horizon(1800.0, 1801.0), 1800.0) == "within another 30 min"
    assert horizon(1800.0, 1500.0).seconds == 300.0
    assert horizon(1800.0, 1801.0).seconds == 1800.0


def test_guard_and_promotion_of_conversions_point_the_other_way() -> None:
    signal = replace(PAID, guard_ratio=5.0)
    assert "less often than 1/5 of stable 1.1.0's rate - 10 % (99 % sure)" in guarded(
        signal, SEEN, TRACKS, 0.01
    )
    policy = Policy(signals=(ERRORS, PAID))
    said = promoted(policy, {"paid": shown((1.0, 0.9, 1.1), SEEN)}, TRACKS)
    assert said.endswith(
        "(95 % sure): payments at least 1/1.5 - 0.1 %: 3 of 1,234 page views against 5 of 4,321"
    )


@pytest.mark.parametrize(
    ("missing", "end"),
    [
        (
            Missing("errors", "not proven", 2.0, 600.0, 300.0, 0.2),
            "not proven: about 300 more requests are needed, 10 min at the present rate "
            "(20 % of the traffic would do within the deadline of 30 min)",
        ),
        (
            Missing("errors", "not proven", 2.0, 600.0, 300.0, None),
            "not proven: about 300 more requests are needed, 10 min at the present rate",
        ),
        (
            Missing("errors", "not proven", 2.0, None, None, 0.5),
            "not proven: at the present rate that takes for ever; 50 % of the traffic would do "
            "within the deadline of 30 min",
        ),
        (
            Missing("errors", "not proven", 2.0),
            "not proven: as the canary looks now, more of the same will not prove it",
        ),
        (Missing("errors", "nothing was seen"), "nothing was seen, so nothing can be proven yet"),
    ],
)
def test_what_a_proof_needs(missing: Missing, end: str) -> None:
    said = needs(missing, ERRORS, TRACKS, SEEN, within(horizon(1800.0, 60.0), 1800.0))
    assert said.endswith(end)
    assert said.startswith(
        "nothing was seen" if missing.nats is None else "canary 1.2.0 has had 1,234 requests; "
    )
