from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import binom

from rolloutobs.identity import Track
from synthetic.load.histogram import Histogram
from synthetic.load.judging import Thresholds, judge_load, quantile_bounds, share_bounds
from synthetic.load.metrics import LoadMetrics
from synthetic.load.results import Endpoint, LoadError, LoadResult, TrackLoad, parse_report
from synthetic.load.tables import load_as_dict, load_html, load_junit, load_markdown, load_text
from synthetic.load.tally import Sample, Tally
from synthetic.result import ExitCode
from synthetic.target import Target

STABLE, CANARY = Target("http://s", Track.STABLE), Target("http://c", Track.CANARY)
TICKS = 20


def load(
    target: Target, requests: int, failures: int = 0, *, slower: float = 1.0, **more: object
) -> TrackLoad:
    """Return requests of 10 to 30 ms, spread evenly over 20 seconds."""
    track = Tally([target.track.value]).tracks[target.track.value]
    for number in range(requests):
        seconds = (0.010 + 0.020 * (number * 0.618034 % 1.0)) * slower
        failed = number * failures // requests != (number + 1) * failures // requests
        track.add(Sample("GET", "/pay", seconds, seconds, "boom" if failed else ""), number % TICKS)
    endpoint = track.endpoints["GET", "/pay"]
    return replace(
        TrackLoad(
            target=target,
            endpoints=(Endpoint("GET", "/pay", failures, endpoint.corrected),),
            corrected=endpoint.corrected,
            service=endpoint.service,
            failures=failures,
            proven={"right": requests - failures},
            errors=dict(track.errors),
            version="1.2.0",
            arrivals=requests,
            ticks=track.ticks,
        ),
        **more,
    )


def result(stable: TrackLoad, canary: TrackLoad, **more: object) -> LoadResult:
    return replace(LoadResult((stable, canary), 20.0, is_open=True), **more)


@pytest.mark.parametrize(
    ("stable", "canary", "more", "code", "words"),
    [
        (load(STABLE, 500), load(CANARY, 500), {}, ExitCode.PASS, "the canary is not shown to be worse"),
        (load(STABLE, 500, 5), load(CANARY, 500, 7), {}, ExitCode.PASS, ""),
        (load(STABLE, 500, 5), load(CANARY, 500, 40), {}, ExitCode.PRODUCT, "40 of 500 failed against"),
        (load(STABLE, 500), load(CANARY, 500, 500), {}, ExitCode.PRODUCT, "500 of 500 failed"),
        (load(STABLE, 500, 400), load(CANARY, 500), {}, ExitCode.PASS, ""),
        (load(STABLE, 500, 400), load(CANARY, 500, 500), {}, ExitCode.INFRASTRUCTURE, "most requests fail"),
        (load(STABLE, 500), load(CANARY, 500, slower=1.1), {}, ExitCode.PASS, ""),
        (load(STABLE, 500), load(CANARY, 500, slower=2.0), {}, ExitCode.PRODUCT, "slower than 1.25 times"),
        (load(STABLE, 500, slower=2.0), load(CANARY, 500), {}, ExitCode.PASS, ""),
        (load(STABLE, 500), load(CANARY, 500, 100, doubt="who?"), {}, ExitCode.INCONCLUSIVE, "canary: who?"),
        (load(STABLE, 500, proven={}), load(CANARY, 500), {}, ExitCode.INCONCLUSIVE, "no answer says"),
        (load(STABLE, 40), load(CANARY, 500), {}, ExitCode.INCONCLUSIVE, "too few"),
        (load(STABLE, 500), load(CANARY, 500), {"stopped": True}, ExitCode.INCONCLUSIVE, "stopped before"),
        (load(STABLE, 500, 5), load(CANARY, 500, 40), {"stopped": True}, ExitCode.PRODUCT, "more often"),
        (load(STABLE, 500), load(CANARY, 500), {"workers": 3, "lost": 1}, ExitCode.INCONCLUSIVE, "1 of 3"),
        (load(STABLE, 500), load(CANARY, 500), {"late": 51}, ExitCode.INCONCLUSIVE, "did not keep up"),
        (load(STABLE, 500), load(CANARY, 500), {"late": 50}, ExitCode.PASS, ""),
        (load(STABLE, 500, crowded=6), load(CANARY, 500), {}, ExitCode.INCONCLUSIVE, "raise --users"),
        (load(STABLE, 500), load(CANARY, 500, crowded=400), {}, ExitCode.PASS, ""),
    ],
)  # fmt: skip
def test_verdicts(stable, canary, more, code, words):
    verdict = judge_load(result(stable, canary, **more), Thresholds())
    assert verdict.code is code
    assert words in verdict.reason


@pytest.mark.parametrize(
    ("stable", "canary", "thresholds", "code", "words"),
    [
        (500, 500, Thresholds(quantiles={0.99: 0.05}), ExitCode.PASS, ""),
        (500, 500, Thresholds(quantiles={0.95: 0.005}), ExitCode.INFRASTRUCTURE, "and stable misses it, too"),
        (200, 200, Thresholds(quantiles={0.99: 0.05}), ExitCode.INCONCLUSIVE, "too few requests to tell"),
        (500, 500, Thresholds(quantiles={0.5: 0.02}), ExitCode.INCONCLUSIVE, "too few requests to tell"),
        (500, 500, Thresholds(max_error_share=0.05), ExitCode.PASS, ""),
        (500, 500, Thresholds(max_error_share=0.001), ExitCode.INCONCLUSIVE, "canary is 0.00%"),
    ],
)  # fmt: skip
def test_absolute_thresholds(stable, canary, thresholds, code, words):
    verdict = judge_load(result(load(STABLE, stable), load(CANARY, canary)), thresholds)
    assert (verdict.code, words in verdict.reason) == (code, True)


def test_an_absolute_threshold_that_the_canary_alone_misses_is_its_own():
    tracks = load(STABLE, 500), load(CANARY, 500, slower=1.2)
    thresholds = Thresholds(quantiles={0.95: 0.0315})
    assert judge_load(result(*tracks), thresholds).code is ExitCode.PRODUCT
    # A generator that was late has measured its own lateness.
    for some in (11, 500):
        late = judge_load(result(*tracks, late=some), thresholds)
        assert late.code is ExitCode.INCONCLUSIVE
        assert "but the generator did not keep up" in late.reason
    # Failures are none of its doing.
    failing = result(load(STABLE, 500), load(CANARY, 500, 20), late=500)
    failed = judge_load(failing, Thresholds(max_error_share=0.02))
    codes = {finding.name: finding.code for finding in failed.findings}
    assert codes["generator"] is ExitCode.INCONCLUSIVE
    assert codes["error share"] is codes["errors"] is failed.code is ExitCode.PRODUCT


def test_a_good_canary_is_seldom_blamed_even_when_requests_come_in_bursts():
    draw, blamed = random.Random(3), 0
    for _ in range(60):
        tracks = []
        for target in (STABLE, CANARY):
            track = Tally([target.track.value]).tracks[target.track.value]
            for tick in range(30):
                slow = draw.random() < 0.1  # a second in which half of this side's requests fail and are slow
                for _ in range(20):
                    bad = slow and draw.random() < 0.5
                    sample = Sample("GET", "/", 0.5 if bad else 0.02, 0.02, "boom" if bad else "")
                    track.add(sample, tick)
            endpoint = track.endpoints["GET", "/"]
            tracks.append(
                TrackLoad(target, (), endpoint.corrected, endpoint.service, endpoint.failures, {"right": 9},
                          arrivals=600, ticks=track.ticks)
            )  # fmt: skip
        blamed += judge_load(result(*tracks), Thresholds()).code is ExitCode.PRODUCT
    assert blamed <= 60 * 0.05 + 3


def test_bounds_of_a_quantile_miss_it_as_seldom_as_they_say():
    draw = np.random.default_rng(5)
    for quantile in (0.5, 0.95, 0.99):
        above = below = 0
        truth = -math.log(1 - quantile)
        for _ in range(200):
            counts = Histogram()
            for seconds in draw.exponential(size=500):
                counts.add(float(seconds))
            bounds = quantile_bounds(TrackLoad(CANARY, (), counts, counts), quantile, 0.05, 1.0)
            assert bounds.low is not None
            assert bounds.low <= bounds.value <= (bounds.high or math.inf)
            above += bounds.low > truth * 1.006
            below += bounds.high is not None and bounds.high * 1.006 < truth
        assert above <= 20
        assert below <= 20
    few = Histogram(Counter({700: 298}))
    # 0.99^298 is a trifle above 5 %, 0.99^299 below.
    assert quantile_bounds(TrackLoad(CANARY, (), few, few), 0.99, 0.05, 1.0).high is None
    enough = Histogram(Counter({700: 299}))
    assert quantile_bounds(TrackLoad(CANARY, (), enough, enough), 0.99, 0.05, 1.0).high is not None


@pytest.mark.parametrize(("requests", "failures"), [(100, 0), (100, 3), (1000, 20), (50, 50)])
def test_bounds_of_a_share_hold_by_the_exact_tail(requests, failures):
    bounds = share_bounds(load(CANARY, requests, failures), 0.05, 1.0)
    assert binom.cdf(failures, requests, bounds.high) <= 0.05 + 1e-9 or bounds.high == 1.0
    assert binom.sf(failures - 1, requests, bounds.low) <= 0.05 + 1e-9 or bounds.low == 0.0
    assert bounds.low <= bounds.value <= bounds.high


def test_no_bounds_without_requests():
    nothing = TrackLoad(CANARY, (), Histogram(), Histogram())
    assert share_bounds(nothing, 0.05, 1.0).value is None


REPORT = """{"tally": {"tracks": {"canary": {"endpoints": [["GET", "/", 1, [[700, 3]], [[690, 3]]]], "ticks":
  [[0, 3, 1, [[10, 3]]]], "proven": {"right": 3}, "versions": ["1.1", "1.2"], "doubt": "", "errors": {"x": 1},
  "arrivals": 3, "crowded": 0, "cut": 0}}, "late": 1, "worst_lag_seconds": 0.2, "foreign": 0, "problems": {}},
  "seconds": 3.5, "over": true, "early": false, "workers": 2, "lost": 0, "locust": {"requests": 3}}"""


def test_what_a_process_left():
    found = parse_report(REPORT, (STABLE, CANARY), stopped=False)
    stable, canary = found.tracks
    assert (stable.requests, canary.requests, canary.failures, found.workers) == (0, 3, 1, 2)
    assert canary.doubt == "more than one version answered: 1.1, 1.2"
    assert canary.version is None


@pytest.mark.parametrize(
    "text", ["", "{", "7", "{}", REPORT.replace('"GET"', ""), REPORT.replace("3.5", "null")]
)
def test_what_is_no_report_says_so(text):
    with pytest.raises(LoadError, match="cannot be read"):
        parse_report(text, (STABLE, CANARY), stopped=False)


def test_how_it_is_told():
    told = result(load(STABLE, 500, 5), load(CANARY, 500, 40), problems={"the locustfile raised <x>": 2})
    verdict = judge_load(told, Thresholds(quantiles={0.99: 0.4}))
    text = load_text(told, verdict)
    assert "canary   1.2.0              500       40     20 ms     29 ms     30 ms" in text
    assert "canary / stable: p50 1.00 (between " in text
    assert "=> product: the canary fails more often: 40 of 500 failed against 5 of 500" in text
    plain = load_as_dict("shop", "pay", told, verdict)
    assert (plain["exit_code"], plain["result"], plain["model"]) == (1, "product", "open")
    assert [each["name"] for each in plain["findings"]] == [
        "course", "identity", "generator", "errors", "duration", "p99"
    ]  # fmt: skip
    suite = ElementTree.fromstring(load_junit("shop", "pay", told, verdict))[0]
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6", "failures": "1", "errors": "0", "skipped": "0"
    }  # fmt: skip
    assert "### The pay load on shop: product" in load_markdown("shop", "pay", told, verdict)
    page = load_html("shop", "<pay>", told, verdict)
    assert "&lt;pay&gt;" in page
    assert "<pay>" not in page
    assert page.count("<polyline") == 2


def test_metrics_only_grow_and_name_both_tracks():
    metrics = LoadMetrics("shop", "pay")
    full = result(
        load(STABLE, 500, 5), load(CANARY, 500, 40, proven={"right": 400, "wrong": 3}), late=2, lost=1
    )
    metrics.update(full)
    metrics.update(replace(full, tracks=(load(STABLE, 100), load(CANARY, 100))))
    metrics.end(judge_load(full, Thresholds()), 1000.0)
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.collect()
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }
    identity = ("shop", "1.2.0", "canary", "pay")
    assert found["synthetic_load_requests_total", *identity, "GET /pay", "fail"] == 40
    assert found["synthetic_load_requests_total", *identity, "GET /pay", "pass"] == 460
    assert found["synthetic_load_identity_mismatch_total", *identity] == 3
    assert found["synthetic_load_late_arrivals_total", "shop", "pay"] == 2
    assert found["synthetic_load_lost_workers_total", "shop", "pay"] == 1
    assert found["synthetic_load_last_end_timestamp_seconds", "shop", "pay", "product"] == 1000.0
