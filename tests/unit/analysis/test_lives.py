"""Processes, networks and the baseline, from readings to ticks."""

from __future__ import annotations

from dataclasses import replace

from rolloutobs.analysis.model import HistogramPair, PairCount, PodUse, Reading, Sample, Tick
from rolloutobs.analysis.policy import Policy, Signal
from rolloutobs.analysis.ticks import Ticker, TickSettings

POLICY = Policy()
ERRORS, LATENCY, RESTARTS = (POLICY.signal(name) for name in ("errors", "latency", "restarts"))
GET = (("method", "GET"), ("route", "/a"))
BEGAN = 1000.0


def process(track: str, requests: float, **more: float) -> list[Sample]:
    """What a process of ours exposes; `more` by the name of the metric, or ``started``."""
    labels = {"app": "shop", "track": track, "version": "1"}
    found = [Sample("app_start_time_seconds", labels, more.pop("started", BEGAN))]
    route = {**labels, "method": "GET", "route": "/a", "status": "200"}
    found.append(Sample("http_requests_total", route, requests))
    return [*found, *(Sample(name, labels, value) for name, value in more.items())]


def told(
    signals: list[Signal], *readings: tuple[float, dict[str, list[Sample]]], warmup: float = 0.0
) -> list[Tick]:
    ticker = Ticker(signals, TickSettings(warmup_seconds=warmup, zero=0.0))
    steps = [
        ticker.advance(Reading(at, {name: tuple(samples) for name, samples in targets.items()}))
        for at, targets in readings
    ]
    return [tick for step in steps for tick in step.ready]


# --- processes -------------------------------------------------------------------------------------------


def test_a_process_that_began_anew_at_its_address_is_a_restart_and_never_too_young_to_count() -> None:
    first, second = told(
        [ERRORS, RESTARTS],
        (2000.0, {"c": process("canary", 5), "s": process("stable", 9), "s2": process("stable", 1)}),
        (2015.0, {"c": process("canary", 6), "s": process("stable", 9), "s2": process("stable", 1)}),
        (
            2030.0,
            {
                "c": process("canary", 1, started=2020.0),
                "s": process("stable", 9),
                "s2": process("stable", 1),
            },
        ),
        warmup=90.0,
    )
    assert first.counts["restarts"] == {(): PairCount(0, 15, 0, 30)}
    assert second.counts["restarts"] == {(): PairCount(1, 15, 0, 30)}
    assert "restarts" not in second.cold_counts


def test_a_new_pod_is_no_restart_and_a_process_without_a_track_is_nobody() -> None:
    nobody = [Sample("process_start_time_seconds", {}, 5.0)]
    reborn = [Sample("process_start_time_seconds", {}, 2012.0)]
    (tick,) = told(
        [ERRORS, RESTARTS],
        (2000.0, {"s": process("stable", 9), "rum": nobody}),
        (2015.0, {"s": process("stable", 9), "rum": reborn, "new": process("canary", 1, started=2010.0)}),
    )
    assert tick.counts["restarts"] == {(): PairCount(0, 0, 0, 15)}


def test_a_new_version_at_a_known_address_was_deployed_and_is_no_restart() -> None:
    """A rolling update of machines, whose addresses stay."""

    def machine(track: str, version: str, started: float) -> list[Sample]:
        return [
            replace(sample, labels={**sample.labels, "version": version})
            for sample in process(track, 1, started=started)
        ]

    old = {name: machine("stable", "1", BEGAN) for name in ("one", "two")}
    (tick, later) = told(
        [ERRORS, RESTARTS],
        (2000.0, old),
        (2015.0, {**old, "one": machine("canary", "2", 2010.0)}),
        (2030.0, {**old, "one": machine("canary", "2", 2025.0)}),
    )
    assert tick.counts["restarts"] == {(): PairCount(0, 15, 0, 15)}
    assert later.counts["restarts"] == {(): PairCount(1, 15, 0, 15)}


def test_running_without_traffic_does_not_begin_the_rollout() -> None:
    ticker = Ticker([ERRORS, RESTARTS])
    for at in (2000.0, 2015.0, 2030.0):
        targets = {"c": tuple(process("canary", 0)), "s": tuple(process("stable", at))}
        assert ticker.advance(Reading(at, targets)).ready == ()
    assert ticker.zero is None


def test_memory_and_cpu_of_each_process_with_its_age_and_its_requests() -> None:
    memory, cpu = "app_process_resident_memory_bytes", "app_process_cpu_seconds_total"
    one, other = told(
        [ERRORS],
        (2000.0, {"c": process("canary", 5, **{memory: 1e8, cpu: 3.0}), "s": process("stable", 9)}),
        (2015.0, {"c": process("canary", 35, **{memory: 2e8, cpu: 4.5}), "s": process("stable", 9)}),
        (
            2030.0,
            {"c": process("canary", 7, started=2020.0, **{memory: 1e8, cpu: 9.0}), "s": process("stable", 9)},
        ),
    )
    assert one.uses == (PodUse("c", True, 1015.0, 15.0, 2e8, 1.5, 30.0),)
    # What a new process has used is not what was used since the last reading.
    assert other.uses == (PodUse("c", True, 10.0, 15.0, 1e8, None, 7.0),)


def test_a_promoted_pod_uses_memory_on_the_canarys_side() -> None:
    def pod(track: str, used: float) -> list[Sample]:
        labels = {"app": "shop", "track": track, "version": "2"}
        return [
            Sample("app_start_time_seconds", labels, BEGAN),
            Sample("process_resident_memory_bytes", labels, used),
            Sample("http_requests_total", {**labels, "method": "GET", "route": "/a", "status": "200"}, used),
        ]

    one, other = told(
        [ERRORS],
        (2000.0, {"p": pod("canary", 1.0), "s": process("stable", 9)}),
        (2015.0, {"p": pod("canary", 2.0), "s": process("stable", 9)}),
        (2030.0, {"p": pod("stable", 3.0), "s": process("stable", 9)}),
    )
    assert [use.canary for tick in (one, other) for use in tick.uses] == [True, True]


# --- the baseline ----------------------------------------------------------------------------------------


def histogram(track: str, fast: float, total: float) -> list[Sample]:
    name = "http_request_duration_seconds_bucket"
    labels = {"track": track, "method": "GET", "route": "/a"}
    return [Sample(name, {**labels, "le": le}, n) for le, n in (("0.5", fast), ("+Inf", total))]


def three(canary: float, stable: float, baseline: float, **more: float) -> dict[str, list[Sample]]:
    return {
        "c": [*process("canary", canary, started=1.0), *histogram("canary", canary, canary)],
        "s": [*process("stable", stable, started=1.0), *histogram("stable", stable, stable)],
        "b": [
            *process("baseline", baseline, **{"started": 1.0, **more}),
            *histogram("baseline", 0, baseline),
        ],
    }


def test_where_the_baseline_has_traffic_it_stands_for_stable() -> None:
    both, stable_only = told(
        [ERRORS, LATENCY],
        (2000.0, three(0, 0, 0)),
        (2015.0, three(10, 200, 12)),
        (2030.0, three(20, 400, 12)),
    )
    assert both.counts["errors"][GET] == PairCount(0, 10, 0, 12)
    assert both.histograms["latency"][GET] == HistogramPair((0.5,), (10, 0), (0, 12))
    assert both.baseline == {"errors", "latency"}
    assert both.aside == {"errors": 200.0, "latency": 200.0}
    # How much stable's pods scatter is seen between all that run the old version.
    assert set(both.stable_pods["errors"]) == {"s", "b"}
    assert stable_only.counts["errors"][GET] == PairCount(0, 10, 0, 200)
    assert stable_only.baseline == frozenset()
    assert stable_only.aside == {}


def test_a_baseline_that_warms_up_is_not_compared() -> None:
    (tick,) = told(
        [ERRORS],
        (2000.0, three(0, 0, 0, started=1995.0)),
        (2015.0, three(10, 200, 12, started=1995.0)),
        warmup=90.0,
    )
    assert tick.counts["errors"][GET] == PairCount(0, 10, 0, 200)
    assert tick.aside == {"errors": 12.0}


# --- networks --------------------------------------------------------------------------------------------


def test_views_by_groups_of_networks() -> None:
    signed = POLICY.signal("js_errors_signed")

    def views(track: str, group: str, views: float, errors: float, **labels: str) -> list[Sample]:
        own = {"app": "shop", "track": track, "source": group, **labels}
        return [
            Sample("rum_source_page_views_total", own, views),
            Sample("rum_source_views_with_errors_total", own, errors),
        ]

    def rum(*parts: list[Sample]) -> dict[str, list[Sample]]:
        return {"rum": [sample for part in parts for sample in part]}

    yes = {"signed": "true"}
    (tick,) = told(
        [ERRORS, signed],
        (2000.0, rum(views("canary", "03", 0, 0, **yes), views("stable", "03", 0, 0, **yes))),
        (
            2015.0,
            rum(
                views("canary", "03", 4, 2, **yes),
                views("stable", "03", 30, 1, **yes),
                views("stable", "11", 20, 0, **yes),
                views("canary", "05", 9, 9),
            ),
        ),
    )
    assert tick.sources == {"js_errors_signed": {"03": PairCount(2, 4, 1, 30), "11": PairCount(0, 0, 0, 20)}}


def test_signals_are_signed_only_where_the_policy_says_so() -> None:
    names = [each.name for each in POLICY.compared if each.is_signed]
    assert names == [
        f"{name}_signed" for name in ("js_errors", "resource_errors", "lcp", "inp", "cls", "fcp", "ttfb")
    ]
    assert all(POLICY.may_roll_back(POLICY.signal(name)) for name in names)
    hold = replace(POLICY, real_users=type(POLICY.real_users).HOLD)
    assert [each.name for each in hold.compared] == [each.name for each in POLICY.signals]
