"""Which series are on which side, without a label track."""

import pytest

from rolloutobs.analysis.model import Reading, Sample
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.presets import PRESETS, bucket_factors
from rolloutobs.analysis.sides import BySelector, ByVersion, NewestVersion, Shape, parse_selector
from rolloutobs.analysis.ticks import Ticker
from rolloutobs.errors import ConfigurationError


def reading(*found, at=0.0):
    return Reading(at, {"pod": tuple(Sample(name, labels, value) for name, labels, value in found)})


def tracks(shown):
    return [sample.labels.get("track") for sample in shown.targets["pod"]]


def test_two_selectors_are_read_as_promql_reads_them():
    canary = parse_selector('{pod=~"shop-canary-.*", reporter!="source"}')
    stable = parse_selector('pod=~"shop-.*"')
    rule = BySelector(canary, stable)
    shown = rule.applied(
        reading(
            ("a", {"pod": "shop-canary-1"}, 1),
            ("a", {"pod": "shop-canary-1", "reporter": "source"}, 1),
            ("a", {"pod": "shop-7"}, 1),
            ("a", {"pod": "xshop-canary-1", "track": "canary"}, 1),
        )
    )
    assert tracks(shown) == ["canary", "stable", "stable", None]
    assert rule.selectors() == ('pod=~"shop-canary-.*",reporter!="source"', 'pod=~"shop-.*"')


def test_escapes_survive_the_way_to_prometheus():
    (matcher,) = parse_selector(r'{route="/a\"b\\c"}')
    assert matcher.value == '/a"b\\c'
    assert str(matcher) == r'route="/a\"b\\c"'


@pytest.mark.parametrize(
    "text", ["", "{}", "{a=b}", '{a="b"', '{a="b" c="d"}', '{a=~"("}', '{a="b"} or {c="d"}']
)
def test_what_is_no_selector(text):
    with pytest.raises(ConfigurationError):
        parse_selector(text)


def test_versions_of_a_rolling_update():
    shown = [("a", {"version": v}, 1) for v in ("1", "2", "3")] + [("a", {}, 1)]
    assert tracks(ByVersion("2").applied(reading(*shown))) == ["stable", "canary", "stable", None]
    assert tracks(ByVersion("2", "1").applied(reading(*shown))) == ["stable", "canary", None, None]
    with pytest.raises(ConfigurationError, match="both version '2'"):
        ByVersion("2", "2")


def test_counters_of_both_tracks_of_one_pod_stay_two_series():
    """A promoted pod shows what it counted as the canary, frozen, beside what it counts as stable."""
    new = {"version": "1.2.0"}
    shown = ByVersion("1.2.0", "1.1.0").applied(
        reading(
            ("a", {**new, "track": "canary"}, 13),
            ("a", {**new, "track": "stable"}, 4),
            ("a", {"version": "1.1.0", "track": "stable"}, 100),
        )
    )
    assert tracks(shown) == ["canary", "canary", "stable"]
    first, second, _ = shown.targets["pod"]
    assert first.labels != second.labels


def started(version, at):
    return ("app_start_time_seconds", {"version": version}, at)


def test_the_version_that_began_last_is_the_canary_and_stays_it():
    rule = NewestVersion()
    one = reading(("a", {"version": "1.9"}, 5), started("1.9", 100))
    assert tracks(rule.applied(one))[0] == "stable"
    # 1.9's pod restarts after 1.10 began: its oldest process counts.
    both = reading(
        ("a", {"version": "1.9"}, 5), ("a", {"version": "1.10"}, 1), started("1.9", 400), started("1.10", 300)
    )
    assert tracks(rule.applied(both))[:2] == ["stable", "canary"]
    third = reading(("a", {"version": "1.11"}, 1), started("1.11", 900))
    assert tracks(rule.applied(third))[0] == "stable"


def test_versions_of_unknown_age_are_refused():
    with pytest.raises(ConfigurationError, match="--canary-version"):
        NewestVersion().applied(reading(("a", {"version": "1"}, 1), ("a", {"version": "2"}, 1)))


def test_the_same_series_is_rewritten_once():
    labels = {"version": "2"}
    rule = ByVersion("2")
    first, second = (rule.applied(reading(("a", labels, n))).targets["pod"][0].labels for n in (1, 2))
    assert first is second
    assert labels == {"version": "2"}


def test_milliseconds_become_seconds():
    name = "istio_request_duration_milliseconds_bucket"
    shape = Shape(factors=bucket_factors(frozenset({name, "x_seconds_bucket", "m_ms_bucket"})))
    assert shape.factors == {name: 0.001, "m_ms_bucket": 0.001}
    shown = shape.applied(reading((name, {"le": "2.5"}, 1), (name, {"le": "+Inf"}, 1), ("x", {"le": "5"}, 1)))
    assert [s.labels["le"] for s in shown.targets["pod"]] == ["0.0025", "inf", "5"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_policy_that_reads_both_signals(preset):
    policy = Policy.from_mapping({"signals": PRESETS[preset]})
    errors, latency = policy.signal("errors"), policy.signal("latency")
    assert errors.is_required
    assert latency.is_required
    assert errors.events is not None
    assert set(errors.exposures.labels) <= set(errors.events.labels)
    assert {errors.exposures.metric, f"{latency.exposures.metric}_bucket"} <= Ticker(policy.signals).metrics


def test_a_mesh_is_compared_from_its_own_series():
    policy = Policy.from_mapping({"signals": PRESETS["istio"]})
    ticker = Ticker(policy.signals, displays=[])
    shape = Shape(
        sides=BySelector(
            parse_selector('destination_workload="shop-canary"'),
            parse_selector('destination_workload="shop"'),
        ),
        factors=bucket_factors(ticker.metrics),
    )

    def at(now, n):
        found = []
        for workload, bad in (("shop", 1), ("shop-canary", 3)):
            labels = {"destination_workload": workload, "reporter": "destination", "request_protocol": "http"}
            found += [
                ("istio_requests_total", {**labels, "response_code": "200"}, 90 * n),
                ("istio_requests_total", {**labels, "response_code": "503"}, bad * n),
                ("istio_requests_total", {**labels, "reporter": "source", "response_code": "503"}, 50 * n),
                ("istio_request_duration_milliseconds_bucket", {**labels, "le": "25"}, 80 * n),
                ("istio_request_duration_milliseconds_bucket", {**labels, "le": "+Inf"}, (90 + bad) * n),
            ]
        return shape.applied(reading(*found, at=now))

    ticker.advance(at(0, 1))
    (tick,) = ticker.advance(at(15, 2)).ready
    (pair,) = tick.counts["errors"].values()
    assert (pair.canary_events, pair.canary_exposures) == (3, 93)
    assert (pair.stable_events, pair.stable_exposures) == (1, 91)
    (histogram,) = tick.histograms["latency"].values()
    assert (histogram.bounds, histogram.canary, histogram.stable) == ((0.025,), (80, 13), (80, 11))
