from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolloutobs.identity import Track
from synthetic.claims import Claim
from synthetic.load.histogram import Histogram
from synthetic.load.tally import BAND, SMALLEST_SECONDS, Sample, Tally, band
from synthetic.target import Answer, Target

CANARY = Target("http://c", Track.CANARY)
durations = st.floats(1e-5, 1e3)


@given(st.lists(durations, min_size=1, max_size=200), st.floats(0.0, 1.0))
@settings(max_examples=100)
def test_a_quantile_is_right_to_half_a_percent(seconds, share):
    found = Histogram()
    for each in seconds:
        found.add(each)
    rank = max(1, -int(-(share * len(seconds)) // 1))
    exact = sorted(seconds)[rank - 1]
    assert found.total == len(seconds)
    assert found.quantile(share) == pytest.approx(exact, rel=0.0051)
    assert Histogram().quantile(share) is None
    assert found.rank(len(seconds) + 1) is None


@given(st.lists(st.tuples(st.integers(0, 3), durations, st.booleans(), st.integers(0, 5)), max_size=80))
@settings(max_examples=50)
def test_several_processes_count_what_one_would(samples):
    one, several = Tally(["canary"]), [Tally(["canary"]) for _ in range(4)]
    for worker, seconds, failed, tick in samples:
        sample = Sample("GET", f"/{tick % 2}", seconds, seconds / 2, "boom" if failed else "")
        for tally in (one, several[worker]):
            tally.tracks["canary"].add(sample, tick)
            tally.note_arrival("canary", seconds)
            tally.tracks["canary"].note(CANARY, Answer("/", 200, Claim("1.2.0", "canary")))
    parts = [json.loads(json.dumps(each.plain())) for each in several]
    assert ordered(Tally.merged(parts).plain()) == ordered(one.plain())


def ordered(plain):
    """Return it with lists in an order of their own: they stand for sets."""
    if isinstance(plain, dict):
        return {key: ordered(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return sorted((ordered(each) for each in plain), key=repr)
    return plain


def test_the_memory_of_messages_is_bounded():
    track = Tally(["canary"]).tracks["canary"]
    for number in range(100):
        track.add(Sample("GET", "/", 1.0, 1.0, f"request {number} failed"), 0)
    assert len(track.errors) == 51
    assert track.errors["other errors"] == 50
    assert track.endpoints["GET", "/"].failures == track.ticks[0].failures == 100


def test_who_answers_is_counted_and_the_first_doubt_kept():
    track = Tally(["canary"]).tracks["canary"]
    for claim in (Claim("1.2.0", "canary"), Claim(), Claim("1.1.0", "stable")):
        track.note(CANARY, Answer("/", 200, claim))
    assert track.proven == {"right": 1, "unknown": 1, "wrong": 1}
    assert (track.versions, track.doubt) == ({"1.2.0"}, "the answer does not prove who gave it: 200 /")


def test_what_arrives_late_is_counted():
    tally = Tally(["canary"])
    for lag in (0.0, 0.049, 0.051, 2.0):
        tally.note_arrival("canary", lag)
    assert (tally.late, tally.worst_lag_seconds, tally.tracks["canary"].arrivals) == (2, 2.0, 4)


def test_four_bands_are_a_slow_down_of_a_quarter():
    assert [band(seconds) for seconds in (0.0, SMALLEST_SECONDS, SMALLEST_SECONDS * 1.25, 1.0)] == [
        0,
        0,
        4,
        124,
    ]
    assert band(1.25) - band(1.0) == 4
    assert pytest.approx(0.0558, abs=1e-4) == BAND
