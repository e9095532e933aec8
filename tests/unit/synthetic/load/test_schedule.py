from __future__ import annotations

import math
import random
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolloutobs.errors import ConfigurationError
from synthetic.load.schedule import Phase, arrivals, expected, parse_rate, peak

rates = st.floats(0.0, 100.0).map(lambda rate: round(rate, 2))
phases = st.lists(st.builds(Phase, rates, rates, st.floats(0.5, 20.0)), min_size=1, max_size=4)


def even() -> float:
    return 1.0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("20", (Phase(20, 20, 60),)),
        ("10..100", (Phase(10, 100, 60),)),
        ("5@30s,5..50@1m,50@500ms", (Phase(5, 5, 30), Phase(5, 50, 60), Phase(50, 50, 0.5))),
        ("0..8@10s", (Phase(0, 8, 10),)),
    ],
)
def test_rates_and_their_forms(text, found):
    assert parse_rate(text, 60.0, "--rate") == found
    assert peak(found) == max(max(phase.first, phase.last) for phase in found)


@pytest.mark.parametrize("text", ["", "fast", "-1", "nan", "inf", "0", "5,6", "5@30s,6", "5@soon", "1..x"])
def test_what_is_no_rate_says_what_is_one(text):
    with pytest.raises(ConfigurationError, match="--rate is"):
        parse_rate(text, 60.0, "--rate")


def test_a_ramp_without_end_has_no_slope():
    assert parse_rate("7", math.inf, "--rate") == (Phase(7, 7, math.inf),)
    with pytest.raises(ConfigurationError, match="a ramp needs an end"):
        parse_rate("7..9", math.inf, "--rate")


def test_even_arrivals_come_at_equal_distances():
    assert list(arrivals([Phase(4, 4, 1.2)], 1.0, even)) == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert list(islice(arrivals([Phase(2, 2, math.inf)], 1.0, even), 3)) == pytest.approx([0.5, 1.0, 1.5])


def test_a_step_begins_where_the_one_before_ends_and_silence_is_skipped():
    steps = [Phase(2, 2, 1.1), Phase(0, 0, 10), Phase(10, 10, 0.25)]
    assert list(arrivals(steps, 1.0, even)) == pytest.approx([0.5, 1.0, 11.18, 11.28])


@given(phases, st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=60)
def test_as_many_arrive_by_any_moment_as_the_rates_say(steps, share):
    moments = list(arrivals(steps, share, even))
    assert moments == sorted(moments)
    assert abs(len(moments) - expected(steps) * share) <= 1 + 1e-6
    for number, moment in enumerate(moments, 1):
        so_far, start = 0.0, 0.0
        for phase in steps:
            part = min(max(moment - start, 0.0), phase.seconds)
            slope = (phase.last - phase.first) / phase.seconds
            so_far += phase.first * part + slope * part * part / 2
            start += phase.seconds
        assert so_far * share == pytest.approx(number, abs=1e-4)


def test_random_arrivals_are_a_poisson_process():
    draw = random.Random(7)
    moments = list(arrivals([Phase(0, 40, 500)], 1.0, lambda: draw.expovariate(1.0)))
    # 10,000 are expected, with a standard deviation of 100; a quarter of a rising rate's come in its first
    # half.
    assert abs(len(moments) - 10_000) < 500
    assert abs(sum(moment < 250 for moment in moments) - 2_500) < 250
    counts = [0] * 500
    for moment in moments:
        counts[int(moment)] += 1
    # Variance and mean of a Poisson count are equal, so each second's chi2 has mean 1.
    spread = sum((count - 0.08 * (t + 0.5)) ** 2 / (0.08 * (t + 0.5)) for t, count in enumerate(counts)) / 500
    assert 0.7 < spread < 1.4
