from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from rolloutobs.identity import Track
from synthetic.load.results import (
    Endpoint,
    LoadError,
    TrackLoad,
    _chance_of_more,
    judge_load,
    parse_child,
    percentile_seconds,
)
from synthetic.load.tables import load_as_dict, load_text
from synthetic.result import ExitCode
from synthetic.target import Target

STABLE, CANARY = Target("http://s", Track.STABLE), Target("http://c", Track.CANARY)
ENTRY = {
    "name": "/pay", "method": "POST", "num_requests": 4, "num_failures": 1, "start_time": 1.0,
    "response_times": {"5": 2, "120": 1, "2000": 1},
}  # fmt: skip
REPORT = {"proven": {"right": 4}, "versions": ["1.2.0"], "doubt": "", "errors": {"POST /pay: 500": 1}}


def load(target: Target, requests: int, failures: int, doubt: str = "", right: int = 1) -> TrackLoad:
    endpoint = Endpoint("GET", "/", requests, failures, {5.0: requests})
    return TrackLoad(target, (endpoint,), {"right": right}, doubt, {}, "1.2.0")


def test_what_a_child_left():
    found = parse_child(
        json.dumps([ENTRY, {**ENTRY, "name": "/"}]), json.dumps(REPORT), CANARY, stopped=False
    )
    assert (found.requests, found.failures, found.version) == (8, 2, "1.2.0")
    assert found.percentile_seconds(0.5) == 0.005
    assert found.percentile_seconds(0.99) == 2.0
    assert load_as_dict("shop", [found], None)["tracks"]["canary"]["p95_seconds"] == 2.0


@pytest.mark.parametrize(
    ("stats", "report", "words"),
    [
        ("[]", json.dumps(REPORT), "no request was made"),
        (json.dumps([ENTRY]), "", "derive its users from RolloutUser"),
        ("{", json.dumps(REPORT), "cannot be read"),
        ('[{"name": "/"}]', json.dumps(REPORT), "cannot be read"),
        ("7", json.dumps(REPORT), "cannot be read"),
    ],
)
def test_what_is_no_result_is_never_a_pass(stats, report, words):
    with pytest.raises(LoadError, match=words):
        parse_child(stats, report, CANARY, stopped=False)


def test_percentiles_are_nearest_ranks():
    times = {10.0: 1, 20.0: 1, 30.0: 1, 40.0: 1}
    assert [percentile_seconds(times, share) for share in (0.0, 0.25, 0.5, 0.51, 1.0)] == [
        0.01,
        0.01,
        0.02,
        0.03,
        0.04,
    ]
    assert percentile_seconds({}, 0.5) is None


@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_the_chance_is_fishers(stable, canary, data):
    a, b = data.draw(st.integers(0, stable)), data.draw(st.integers(0, canary))
    oracle = fisher_exact([[b, canary - b], [a, stable - a]], alternative="greater").pvalue
    assert _chance_of_more(load(STABLE, stable, a), load(CANARY, canary, b)) == pytest.approx(
        oracle, abs=1e-9
    )


@pytest.mark.parametrize(
    ("stable", "canary", "code"),
    [
        (load(STABLE, 500, 0), load(CANARY, 500, 0), ExitCode.PASS),
        (load(STABLE, 500, 5), load(CANARY, 500, 7), ExitCode.PASS),
        (load(STABLE, 500, 5), load(CANARY, 500, 40), ExitCode.PRODUCT),
        (load(STABLE, 500, 0), load(CANARY, 500, 500, right=0), ExitCode.PRODUCT),
        (load(STABLE, 500, 400), load(CANARY, 500, 0), ExitCode.PASS),
        (load(STABLE, 500, 400), load(CANARY, 500, 500), ExitCode.INFRASTRUCTURE),
        (load(STABLE, 500, 500), load(CANARY, 500, 500), ExitCode.INFRASTRUCTURE),
        (load(STABLE, 500, 0), load(CANARY, 500, 0, doubt="version '1.1.0' answered"), ExitCode.INCONCLUSIVE),
        (
            load(STABLE, 500, 0),
            load(CANARY, 500, 100, doubt="version '1.1.0' answered"),
            ExitCode.INCONCLUSIVE,
        ),
        (load(STABLE, 500, 0, right=0), load(CANARY, 500, 0), ExitCode.INCONCLUSIVE),
    ],
)
def test_verdicts(stable, canary, code):
    assert judge_load(stable, canary).code is code


def test_a_load_that_was_stopped_is_no_pass_but_what_it_saw_counts():
    stable = replace(load(STABLE, 500, 5), stopped=True)
    assert judge_load(stable, load(CANARY, 500, 7)).code is ExitCode.INCONCLUSIVE
    assert judge_load(stable, load(CANARY, 500, 40)).code is ExitCode.PRODUCT


def test_the_table():
    loads = [load(STABLE, 500, 5), load(CANARY, 500, 40)]
    text = load_text(loads, judge_load(*loads))
    assert "canary   1.2.0              500       40      5 ms      5 ms      5 ms" in text
    assert "=> product: the canary fails more often: 40 of 500 failed against 5 of 500 (p = " in text
