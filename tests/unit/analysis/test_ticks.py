"""Readings become ticks: tracks, resets, targets that come and go, time zero, warm-up, shared bounds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloutobs.analysis.displays import Display
from rolloutobs.analysis.model import HistogramPair, PairCount, PodCount, PodHistogram, Reading, Sample
from rolloutobs.analysis.policy import Kind, Selector, Signal
from rolloutobs.analysis.ticks import Ticker, TickSettings

USERS = {"synthetic": ""}
ERRORS = Signal(
    name="errors",
    title="5xx answers",
    kind=Kind.RATIO,
    exposures=Selector("http_requests_total", USERS),
    events=Selector("http_requests_total", {"status": "~5..", **USERS}),
    strata=("route", "method"),
)
LATENCY = Signal("latency", "slow answers", Kind.LATENCY, Selector("http_request_duration_seconds", USERS))
VIEWS = Signal(
    "js", "JS errors", Kind.RATIO, Selector("rum_page_views_total"), Selector("rum_views_with_errors_total")
)
PAIRS = Signal(
    "journey", "checks", Kind.PAIRS, Selector("runs"), Selector("runs", {"outcome": "fail"}), ("check",)
)
GET = (("method", "GET"), ("route", "/a"))


def requests(track, value, status="200", version="", **labels):
    version = version or {"stable": "1.1.0", "canary": "1.2.0"}.get(track, "")
    found = {
        "app": "shop",
        "track": track,
        "version": version,
        "method": "GET",
        "route": "/a",
        "status": status,
    }
    return Sample("http_requests_total", {**found, **labels}, value)


def started(value, name="app_start_time_seconds"):
    return Sample(name, {"app": "shop"}, value)


def buckets(track, counts, **labels):
    return [
        Sample("http_request_duration_seconds_bucket", {"track": track, "le": le, **labels}, value)
        for le, value in counts.items()
    ]


def reading(at, targets, failed=None):
    return Reading(at, {name: tuple(samples) for name, samples in targets.items()}, failed or {})


def run(ticker, *readings):
    """Return every tick that the readings give."""
    return [tick for r in readings for tick in ticker.advance(r).ready]


def test_counts_of_both_tracks_between_two_readings():
    ticker = Ticker([ERRORS])
    first = {"s": [requests("stable", 100), requests("stable", 5, "500")], "c": [requests("canary", 10)]}
    second = {
        "s": [requests("stable", 130), requests("stable", 6, "500")],
        "c": [requests("canary", 14), requests("canary", 2, "503")],
    }
    (tick,) = run(ticker, reading(1000, first), reading(1015, second))
    assert (tick.start, tick.end) == (0, 15)
    assert tick.counts == {"errors": {GET: PairCount(2, 6, 1, 31)}}
    assert tick.stable_pods == {"errors": {"s": PodCount(1, 31)}}
    assert (tick.canary_version, tick.stable_version) == ("1.2.0", "1.1.0")
    assert tick.by_pod_age
    assert not tick.stale
    assert ticker.apps == {"shop"}
    assert ticker.tracks == {"stable", "canary"}


def test_synthetic_traffic_and_series_without_track_are_not_compared():
    ticker = Ticker([ERRORS])
    samples = {"c": [requests("canary", 5, synthetic="true"), requests("", 9), requests("canary", 1)]}
    later = {"c": [requests("canary", 50, synthetic="true"), requests("", 99), requests("canary", 2)]}
    (tick,) = run(ticker, reading(0, samples), reading(1, later))
    assert tick.counts == {"errors": {GET: PairCount(0, 1, 0, 0)}}


def test_baseline_pods_are_the_old_version():
    ticker = Ticker([ERRORS])
    pods = [{"b": [requests("baseline", n)], "c": [requests("canary", n)]} for n in (0, 7)]
    (tick,) = run(ticker, reading(0, pods[0]), reading(1, pods[1]))
    assert tick.counts["errors"][GET] == PairCount(0, 7, 0, 7)


def test_a_value_that_falls_was_reset_and_grew_by_its_new_value():
    ticker = Ticker([ERRORS])
    values = (100, 110, 4, 9)
    ticks = run(ticker, *(reading(i, {"c": [requests("canary", v)]}) for i, v in enumerate(values)))
    assert [t.counts["errors"][GET].canary_exposures for t in ticks] == [10, 4, 5]


def test_buckets_of_one_histogram_reset_together():
    """After a restart a low bucket may stand higher than before, while the others fell."""
    ticker = Ticker([LATENCY])
    readings = [
        reading(0, {"c": buckets("canary", {"0.1": 1, "1.0": 90, "+Inf": 100})}),
        reading(1, {"c": buckets("canary", {"0.1": 3, "1.0": 4, "+Inf": 5})}),
    ]
    (tick,) = run(ticker, *readings)
    assert tick.histograms["latency"][()] == HistogramPair((0.1, 1.0), (3, 1, 1), (0, 0, 0))


def test_a_restart_resets_every_counter_of_the_process():
    ticker = Ticker([ERRORS])
    (tick,) = run(
        ticker,
        reading(0, {"c": [started(5), requests("canary", 100), requests("canary", 1, "500")]}),
        reading(10, {"c": [started(8), requests("canary", 20), requests("canary", 3, "500")]}),
    )
    assert tick.counts["errors"][GET] == PairCount(3, 23, 0, 0)


def test_a_series_that_a_restarted_process_shows_late_counts_from_zero():
    ticker = Ticker([ERRORS])
    ticks = run(
        ticker,
        reading(0, {"c": [started(5), requests("canary", 100), requests("canary", 10, "503")]}),
        reading(10, {"c": [started(8), requests("canary", 20)]}),
        reading(20, {"c": [started(8), requests("canary", 40), requests("canary", 12, "503")]}),
    )
    assert [t.counts["errors"][GET] for t in ticks] == [PairCount(0, 20, 0, 0), PairCount(12, 32, 0, 0)]


def test_a_new_worker_behind_a_target_resets_nothing():
    ticker = Ticker([ERRORS])
    (tick,) = run(
        ticker,
        reading(0, {"c": [started(5), requests("canary", 100)]}),
        reading(10, {"c": [started(8), requests("canary", 103)]}),
    )
    assert tick.counts["errors"][GET] == PairCount(0, 3, 0, 0)


def test_a_series_born_on_a_known_target_counts_from_zero():
    ticker = Ticker([ERRORS])
    (tick,) = run(
        ticker,
        reading(0, {"c": [requests("canary", 100)]}),
        reading(1, {"c": [requests("canary", 104), requests("canary", 3, "500")]}),
    )
    assert tick.counts["errors"][GET] == PairCount(3, 7, 0, 0)


def test_a_target_that_was_empty_when_first_read_counts_from_zero():
    ticker = Ticker([VIEWS])
    (tick,) = run(
        ticker,
        reading(0, {"rum": []}),
        reading(1, {"rum": [Sample("rum_page_views_total", {"track": "canary"}, 4)]}),
    )
    assert tick.counts["js"][()].canary_exposures == 4


@pytest.mark.parametrize(
    ("start", "expected"),
    [(1005, 40), (900, None), (None, None)],
    ids=["born while we watched", "seen late", "age unknown"],
)
@pytest.mark.parametrize("metric", ["app_start_time_seconds", "process_start_time_seconds"])
def test_a_target_that_appears_late_counts_in_full_only_if_it_is_young(start, expected, metric):
    ticker = Ticker([ERRORS])
    age = [started(start, metric)] if start else []
    stable = [[requests("stable", n)] for n in (0, 5, 6)]
    ticks = run(
        ticker,
        reading(1000, {"s": stable[0]}),
        reading(1015, {"s": stable[1], "c": [*age, requests("canary", 40)]}),
        reading(1030, {"s": stable[2], "c": [*age, requests("canary", 41)]}),
    )
    seen = [t.counts["errors"][GET].canary_exposures for t in ticks if t.end > 0]
    assert seen == ([expected, 1] if expected else [1])


def test_time_zero_is_the_canarys_first_traffic_and_what_was_before_is_prehistory():
    ticker = Ticker([ERRORS])
    steps = []
    for i, canary in enumerate((0, 0, 0, 8, 9)):
        pods = {"s": [requests("stable", 10 * i)], "c": [requests("canary", canary)]}
        steps.append(ticker.advance(reading(100 + 5 * i, pods)).ready)
    assert [len(ready) for ready in steps] == [0, 0, 0, 3, 1]
    ticks = [tick for ready in steps for tick in ready]
    assert [(t.start, t.end) for t in ticks] == [(-10, -5), (-5, 0), (0, 5), (5, 10)]
    assert ticker.zero == 110


def test_prehistory_that_the_canary_never_ended_is_flushed():
    ticker = Ticker([ERRORS])
    assert run(ticker, *(reading(i, {"s": [requests("stable", i)]}) for i in range(4))) == []
    assert [t.end for t in ticker.flush()] == [-2, -1, 0]
    assert ticker.flush() == ()


def test_prehistory_is_bounded():
    ticker = Ticker([ERRORS], TickSettings(prehistory_seconds=3))
    run(ticker, *(reading(i, {"s": [requests("stable", i)]}) for i in range(100)))
    assert len(ticker.flush()) == 4


def test_checks_that_count_among_all_requests_do_not_start_the_rollout():
    logged = Signal(
        "logged", "logs", Kind.COUNT, Selector("http_requests_total"), Selector("log_records_total")
    )
    ticker = Ticker([ERRORS, logged])
    counts = ((5, 0), (50, 0), (60, 3))
    for at, (checks, users) in enumerate(counts):
        ticker.advance(
            reading(at, {"c": [requests("canary", checks, synthetic="true"), requests("canary", users)]})
        )
    assert ticker.zero == 1


def test_synthetic_pairs_alone_do_not_start_the_rollout():
    ticker = Ticker([ERRORS, PAIRS])
    pair = [
        [Sample("runs", {"track": t, "check": "buy", "outcome": "pass"}, n) for t in ("stable", "canary")]
        for n in (0, 1)
    ]
    assert run(ticker, reading(0, {"x": pair[0]}), reading(1, {"x": pair[1]})) == []
    assert run(Ticker([PAIRS]), reading(0, {"x": pair[0]}), reading(1, {"x": pair[1]}))[0].counts == {
        "journey": {(("check", "buy"),): PairCount(0, 1, 0, 1)}
    }


def test_warmup_keeps_cold_canary_pods_apart_and_stable_ones_not():
    ticker = Ticker([ERRORS, LATENCY], TickSettings(warmup_seconds=10))

    def pods(n):
        histogram = {"1.0": n, "+Inf": n}
        return {
            "s": [started(99), requests("stable", n), *buckets("stable", histogram)],
            "c": [
                started(100),
                requests("canary", n),
                requests("canary", n, "500"),
                *buckets("canary", histogram),
            ],
        }

    ticks = run(
        ticker, reading(100, pods(0)), reading(108, pods(3)), reading(116, pods(5)), reading(124, pods(9))
    )
    assert [t.cold_counts.get("errors") for t in ticks] == [
        {GET: PairCount(3, 6, 0, 0)},
        {GET: PairCount(2, 4, 0, 0)},
        None,
    ]
    assert [t.counts["errors"][GET] for t in ticks] == [
        PairCount(0, 0, 0, 3),
        PairCount(0, 0, 0, 2),
        PairCount(4, 8, 0, 4),
    ]
    assert [t.histograms["latency"][()].canary for t in ticks] == [(0, 0), (0, 0), (4, 0)]


def test_warmup_of_a_canary_of_unknown_age_runs_from_its_first_traffic():
    ticker = Ticker([ERRORS], TickSettings(warmup_seconds=10))
    ticks = run(ticker, *(reading(i * 5, {"c": [requests("canary", i)]}) for i in range(5)))
    assert [bool(t.cold_counts) for t in ticks] == [True, True, False, False]


def test_histograms_are_compared_over_the_bounds_that_all_targets_share():
    ticker = Ticker([LATENCY])

    def pods(n):
        return {
            "c": buckets("canary", {"0.1": n, "0.5": 2 * n, "2.5": 3 * n, "+Inf": 4 * n}),
            "s1": buckets("stable", {"0.1": n, "0.25": n, "2.5": 2 * n, "+Inf": 2 * n}),
            "s2": buckets("stable", {"0.10": n, "2.5": n, "+Inf": n}),
            "idle": buckets("stable", {"7": 0, "+Inf": 0}),
        }

    (tick,) = run(ticker, reading(0, pods(0)), reading(1, pods(10)))
    assert tick.histograms["latency"][()] == HistogramPair((0.1, 2.5), (10, 20, 10), (20, 10, 0))
    assert tick.stable_pod_histograms["latency"] == {
        "s1": PodHistogram((0.1, 0.25, 2.5), (10, 0, 10, 0)),
        "s2": PodHistogram((0.1, 2.5), (10, 0, 0)),
    }


def test_a_histogram_without_an_upper_bucket_or_with_an_odd_le_is_left_out():
    ticker = Ticker([LATENCY])
    pods = [{"c": buckets("canary", {"0.1": n, "NaN": n, "wat": n})} for n in (0, 5)]
    assert run(ticker, reading(0, pods[0]), reading(1, pods[1])) == []
    assert ticker.flush()[0].histograms == {}


def test_nan_is_not_there_and_the_next_number_makes_up_for_it():
    ticker = Ticker([ERRORS])
    values = (1, math.nan, 5, math.inf, 6)
    ticks = run(ticker, *(reading(i, {"c": [requests("canary", v)]}) for i, v in enumerate(values)))
    assert [t.counts.get("errors", {}).get(GET, PairCount(0, 0, 0, 0)).canary_exposures for t in ticks] == [
        0,
        4,
        0,
        1,
    ]


def test_a_target_that_misses_a_reading_makes_its_tracks_stale_and_both_tracks_wait_for_it():
    ticker = Ticker([ERRORS], TickSettings(patience_seconds=30))
    pods = [{"s": [requests("stable", n)], "c": [requests("canary", n)]} for n in (0, 10, 20, 30)]
    steps = [
        ticker.advance(reading(0, pods[0])),
        ticker.advance(reading(15, pods[1])),
        ticker.advance(reading(30, {"s": pods[2]["s"]}, {"c": "timed out"})),
        ticker.advance(reading(45, pods[3])),
    ]
    assert [s.failed for s in steps] == [{}, {}, {"c": "timed out"}, {}]
    ticks = [t for s in steps for t in s.ready]
    assert [t.stale for t in ticks] == [frozenset(), frozenset({"canary"}), frozenset()]
    assert [t.counts for t in ticks] == [
        {"errors": {GET: PairCount(0, 10, 0, 10)}},
        {},
        {"errors": {GET: PairCount(0, 20, 0, 20)}},
    ]


def test_a_silent_target_of_one_signal_does_not_hold_up_the_others():
    ticker = Ticker([ERRORS, VIEWS])

    def rum(n):
        return [Sample("rum_page_views_total", {"track": t}, n) for t in ("canary", "stable")]

    pods = [{"c": [requests("canary", n)], "rum": rum(n)} for n in (0, 10, 20)]
    ticks = run(
        ticker, reading(0, pods[0]), reading(1, pods[1]), reading(2, {"c": pods[2]["c"]}, {"rum": "refused"})
    )
    assert set(ticks[0].counts) == {"errors", "js"}
    assert set(ticks[1].counts) == {"errors"}
    assert ticks[1].stale == {"canary", "stable"}


def test_after_the_patience_the_others_go_on_and_the_gap_is_discarded_and_counted():
    ticker = Ticker([ERRORS], TickSettings(patience_seconds=10))
    gone = {"c": "refused"}
    ticks = run(
        ticker,
        reading(0, {"s": [requests("stable", 0)], "c": [requests("canary", 0)]}),
        reading(5, {"s": [requests("stable", 1)], "c": [requests("canary", 1)]}),
        reading(10, {"s": [requests("stable", 2)]}, gone),
        reading(20, {"s": [requests("stable", 3)]}, gone),
        reading(30, {"s": [requests("stable", 4)], "c": [requests("canary", 51)]}),
        reading(40, {"s": [requests("stable", 5)], "c": [requests("canary", 52)]}),
    )
    assert [t.counts.get("errors", {}).get(GET) for t in ticks] == [
        PairCount(0, 1, 0, 1),
        None,
        PairCount(0, 0, 0, 2),
        PairCount(0, 0, 0, 1),
        PairCount(0, 1, 0, 1),
    ]
    assert ticker.discarded == {"canary": 50}


def test_a_process_that_was_replaced_during_the_silence_counts_in_full():
    ticker = Ticker([ERRORS], TickSettings(patience_seconds=10))
    ticks = run(
        ticker,
        reading(0, {"c": [started(-9), requests("canary", 0)], "s": []}),
        reading(5, {"c": [started(-9), requests("canary", 9)], "s": []}),
        reading(20, {"s": []}, {"c": "refused"}),
        reading(40, {"c": [started(38), requests("canary", 12)], "s": []}),
    )
    assert [t.counts.get("errors", {}).get(GET) for t in ticks] == [
        PairCount(0, 9, 0, 0),
        None,
        PairCount(0, 12, 0, 0),
    ]
    assert not ticker.discarded


def test_when_nothing_answers_everything_is_stale_and_nothing_is_lost():
    ticker = Ticker([ERRORS], TickSettings(patience_seconds=10))
    pods = [{"s": [requests("stable", n)], "c": [requests("canary", n)]} for n in (0, 1, 31)]
    down = {"s": "down", "c": "down"}
    ticks = run(
        ticker,
        reading(0, pods[0]),
        reading(1, pods[1]),
        *(reading(at, {}, down) for at in (20, 40, 60)),
        reading(61, pods[2]),
    )
    assert [sorted(t.stale) for t in ticks] == [[], *[["canary", "stable"]] * 3, []]
    assert ticks[-1].counts["errors"][GET] == PairCount(0, 30, 0, 30)
    assert all(not t.counts for t in ticks[1:-1])
    assert not ticker.discarded


def test_a_lost_pod_of_stable_makes_it_stale_only_until_the_others_go_on_without_it():
    """A node is gone, and service discovery still has its pod."""
    ticker = Ticker([ERRORS], TickSettings(patience_seconds=10))
    lost = "up is 0"

    def pods(at, *names):
        tracks = {"c": "canary"}
        return {name: [requests(tracks.get(name, "stable"), at)] for name in names}

    ticks = run(
        ticker,
        reading(0, pods(0, "s1", "s2", "s3", "c")),
        reading(5, pods(5, "s1", "s2", "s3", "c")),
        reading(15, pods(15, "s1", "s2", "c"), {"s3": lost}),
        reading(20, pods(20, "s1", "s2", "c"), {"s3": lost}),
        reading(25, pods(25, "s1", "s2"), {"s3": lost, "c": lost}),
        reading(40, pods(40, "s1", "s2"), {"s3": lost, "c": lost}),
        reading(45, pods(45, "s1", "c"), {"s2": lost, "s3": lost}),
        reading(60, pods(60, "s1", "c"), {"s2": lost, "s3": lost}),
    )
    assert [sorted(tick.stale) for tick in ticks] == [
        [],
        ["stable"],
        [],
        # The canary's silence matters as long as it lasts, ...
        ["canary"],
        ["canary"],
        # ... and stable's where as many are lost as are there.
        ["stable"],
        ["stable"],
    ]


def test_a_target_that_left_is_not_stale():
    ticker = Ticker([ERRORS])
    pods = [{"s": [requests("stable", n)], "c": [requests("canary", n)]} for n in (0, 1)]
    ticks = run(ticker, reading(0, pods[0]), reading(1, pods[1]), reading(2, {"s": [requests("stable", 2)]}))
    assert ticks[-1].stale == frozenset()
    assert ticks[-1].counts["errors"][GET] == PairCount(0, 0, 0, 1)


def test_an_address_with_several_processes_behind_it_is_refused():
    ticker = Ticker([ERRORS])
    steps = [
        ticker.advance(reading(at, {"c": [started(start), requests("canary", n)]}))
        for at, start, n in ((100, 50, 5), (101, 20, 900), (102, 50, 7))
    ]
    assert "several processes" in steps[1].failed["c"]
    ticks = [t for s in steps for t in s.ready]
    assert [t.stale for t in ticks] == [{"canary"}, set()]
    assert ticks[1].counts["errors"][GET].canary_exposures == 2


def rollout(at, canary, stable, promoted=None, old="1.1.0", new="1.2.0"):
    """Return a reading of a new pod and an old one; a promoted pod shows its old generation, frozen."""
    pod = [requests("canary", canary, version=new)]
    if promoted is not None:
        pod.append(requests("stable", promoted, version=new))
    return reading(at, {"p": pod, "q": [requests("stable", stable, version=old)]})


def test_a_promoted_pod_stays_on_the_canarys_side():
    """A track change starts a new generation: the old series stay, frozen; the new ones start from zero."""
    (first, second, third) = run(
        Ticker([ERRORS]),
        rollout(0, 10, 100),
        rollout(1, 12, 110),
        rollout(2, 13, 120, promoted=4),
        rollout(3, 13, 130, promoted=9),
    )
    assert first.counts["errors"][GET] == PairCount(0, 2, 0, 10)
    assert second.counts["errors"][GET] == PairCount(0, 5, 0, 10)
    assert third.counts["errors"][GET] == PairCount(0, 5, 0, 10)
    assert (third.canary_version, third.stable_version) == ("1.2.0", "1.1.0")


def test_a_gate_that_goes_on_knows_which_version_was_the_canarys():
    settings = TickSettings(zero=0.0, canary_versions=frozenset({"1.2.0"}))
    first, second = rollout(0, 13, 100, promoted=4), rollout(1, 13, 110, promoted=9)
    (known,) = run(Ticker([ERRORS], settings), first, second)
    (unknown,) = run(Ticker([ERRORS], TickSettings(zero=0.0)), first, second)
    assert known.counts["errors"][GET] == PairCount(0, 5, 0, 10)
    assert unknown.counts["errors"][GET] == PairCount(0, 0, 0, 15)


def test_one_version_on_both_tracks_is_two_sides():
    (tick,) = run(Ticker([ERRORS]), rollout(0, 10, 100, old="1.2.0"), rollout(1, 12, 110, old="1.2.0"))
    assert tick.counts["errors"][GET] == PairCount(0, 2, 0, 10)


def test_what_the_last_rollout_promoted_is_stable_in_the_next():
    def following(at, stable, canary):
        pod = [requests("canary", 12), requests("stable", stable, version="1.2.0")]
        return reading(at, {"p": pod, "r": [requests("canary", canary, version="1.3.0")]})

    *_, last = run(
        Ticker([ERRORS]),
        rollout(0, 10, 100),
        rollout(1, 12, 110, promoted=5),
        following(2, 10, 1),
        following(3, 16, 4),
    )
    assert last.counts["errors"][GET] == PairCount(0, 3, 0, 6)


def test_a_reading_that_is_not_later_changes_nothing():
    ticker = Ticker([ERRORS])
    ticks = run(
        ticker,
        reading(5, {"c": [requests("canary", 1)]}),
        reading(5, {"c": [requests("canary", 9)]}),
        reading(6, {"c": [requests("canary", 11)]}),
    )
    assert [t.counts["errors"][GET].canary_exposures for t in ticks] == [10]


def test_displays_are_summed_by_side_and_labels():
    display = Display("outcomes", Selector("runs", {"check": "~b.*"}), ("outcome",))
    ticker = Ticker([], displays=[display])

    def runs(n):
        return [
            Sample("runs", {"track": track, "check": check, "outcome": "fail"}, n)
            for track in ("canary", "stable")
            for check in ("buy", "browse", "pay")
        ]

    ticker.advance(reading(0, {"x": runs(0)}))
    step = ticker.advance(reading(1, {"x": runs(3)}))
    assert step.displays == {"outcomes": {("canary", "fail"): 6, ("stable", "fail"): 6}}
    assert ticker.advance(reading(2, {"x": runs(3)})).displays == {}


def test_the_wanted_metrics_name_buckets_start_times_and_texts():
    assert Ticker([ERRORS, LATENCY], displays=[]).metrics == {
        "http_requests_total",
        "http_request_duration_seconds_bucket",
        "app_start_time_seconds",
        "process_start_time_seconds",
        "app_process_resident_memory_bytes",
        "process_resident_memory_bytes",
        "app_process_cpu_seconds_total",
        "process_cpu_seconds_total",
        "rum_js_error_info",
    }


GROWTH = st.lists(st.integers(0, 5), min_size=3, max_size=3)


@given(steps=st.lists(st.tuples(st.booleans(), GROWTH), max_size=9))
def test_every_request_is_in_exactly_one_tick_whatever_restarts(steps):
    """As long as one counter is seen to fall, which is what a restart looks like."""
    values, total, born = [9, 9, 9], 0, 1.0

    def pod():
        # A new process shows a series when it has counted something.
        shown = [requests("canary", v, str(200 + i)) for i, v in enumerate(values) if v]
        return {"c": [started(born), *shown]}

    ticker = Ticker([ERRORS])
    ticks = run(ticker, reading(10, pod()))
    for at, (restarts, growth) in zip(range(20, 999, 10), steps, strict=False):
        if restarts and any(0 < g < v for g, v in zip(growth, values, strict=True)):
            values, born = [0, 0, 0], float(at)
        values = [v + g for v, g in zip(values, growth, strict=True)]
        total += sum(growth)
        ticks += run(ticker, reading(at, pod()))
    assert sum(t.counts["errors"][GET].canary_exposures for t in ticks if "errors" in t.counts) == total


def test_a_target_that_never_answered_makes_an_unknown_track_stale():
    ticker = Ticker([ERRORS])
    pods = [{"c": [requests("canary", n)]} for n in (0, 1)]
    (tick,) = run(ticker, reading(0, pods[0], {"x": "refused"}), reading(1, pods[1], {"x": "refused"}))
    assert tick.stale == {"an unknown track"}
    assert tick.counts["errors"][GET].canary_exposures == 1


def test_messages_of_errors_are_kept_as_texts():
    ticker = Ticker([VIEWS])
    info = Sample("rum_js_error_info", {"fingerprint": "a81f", "message": "TypeError: x"}, 1)
    assert "rum_js_error_info" in ticker.metrics
    ticker.advance(reading(0, {"rum": [info]}))
    assert ticker.texts == {"a81f": "TypeError: x"}


def test_buckets_of_a_display_keep_their_zeros():
    display = Display("took", Selector("took_bucket"), ("le",))
    ticker = Ticker([], displays=[display])

    def took(n):
        counts = {"0.1": 0, "1.0": n, "+Inf": n}
        return [Sample("took_bucket", {"track": "canary", "le": le}, v) for le, v in counts.items()]

    ticker.advance(reading(0, {"x": took(0)}))
    step = ticker.advance(reading(1, {"x": took(3)}))
    assert step.displays == {"took": {("canary", "0.1"): 0, ("canary", "1.0"): 3, ("canary", "+Inf"): 3}}


@pytest.mark.parametrize("value", [-5.0, 1e300, math.inf])
def test_a_value_that_no_counter_has_is_not_there(value):
    ticker = Ticker([ERRORS])
    ticks = run(
        ticker,
        reading(0, {"c": [requests("canary", 1)]}),
        reading(1, {"c": [requests("canary", 2), requests("canary", value, "500")]}),
        reading(2, {"c": [requests("canary", value)]}),
        reading(3, {"c": [requests("canary", 9)]}),
    )
    found = [t.counts.get("errors", {}).get(GET) for t in ticks]
    assert found == [PairCount(0, 1, 0, 0), None, PairCount(0, 7, 0, 0)]


def test_a_target_that_is_back_before_the_others_went_on_loses_nothing():
    """The others waited at 20; that it took until 35 for the next look is not the target's silence."""
    ticker = Ticker([ERRORS], TickSettings(patience_seconds=30))
    ticks = run(
        ticker,
        reading(0, {"s": [requests("stable", 0)], "c": [requests("canary", 0)]}),
        reading(1, {"s": [requests("stable", 1)], "c": [requests("canary", 1)]}),
        reading(20, {"s": [requests("stable", 20)]}, {"c": "timeout"}),
        reading(35, {"s": [requests("stable", 35)], "c": [requests("canary", 35)]}),
    )
    assert ticks[-1].counts["errors"][GET] == PairCount(0, 34, 0, 34)
    assert not ticker.discarded


def test_a_young_collector_or_checker_is_no_young_canary():
    """Both count both tracks: cold pods are the canary's own, and only their counts are kept apart."""
    ticker = Ticker([VIEWS, PAIRS], TickSettings(warmup_seconds=90))

    def both(n):
        found = [started(99)]
        for track in ("stable", "canary"):
            found.append(Sample("rum_page_views_total", {"track": track}, n))
            found += [
                Sample("runs", {"track": track, "check": "buy", "outcome": o}, n) for o in ("pass", "fail")
            ]
        return found

    (tick,) = run(ticker, reading(100, {"x": both(0)}), reading(101, {"x": both(4)}))
    assert tick.counts == {
        "js": {(): PairCount(0, 4, 0, 4)},
        "journey": {(("check", "buy"),): PairCount(4, 8, 4, 8)},
    }
    assert not tick.cold_counts
