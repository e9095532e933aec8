from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rolloutobs import semconv
from rolloutobs.errors import BeaconError
from rolloutobs.identity import Track
from rum_collector.beacon import parse_beacon, parse_simple
from rum_collector.families import THRESHOLDS
from rum_collector.ingest import Ingest, Sender
from rum_collector.model import Batch, Beacon
from rum_collector.settings import Settings
from rum_collector.words import BeaconOutcome, Device, Vital


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Fixture:
    """An ingest with short ways in and out."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.ingest = Ingest(Settings(**{"max_views": 1000, **settings}), clock=self.clock)
        self._views = 0

    def post(self, **beacon: Any) -> BeaconOutcome:
        self._views += 1
        filled = {"pv": f"view-{self._views}", "app": "shop", "ver": "1.2.0", "trk": "canary", "rt": "/"}
        body = json.dumps(filled | beacon).encode()
        return self.ingest.accept(parse_beacon(body), Sender(Device.DESKTOP))

    def samples(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return the samples of `name` as Prometheus reads them, without the labels that are always equal."""
        registry = CollectorRegistry()
        registry.register(self.ingest.instruments)
        constant = {"app": "shop", "device": "desktop"}
        return {
            tuple(sorted((k, v) for k, v in sample.labels.items() if constant.get(k) != v)): sample.value
            for family in text_string_to_metric_families(generate_latest(registry).decode())
            for sample in family.samples
            if sample.name == name
        }

    def total(self, name: str, **labels: str) -> float:
        return sum(
            value for found, value in self.samples(name).items() if labels.items() <= dict(found).items()
        )


CANARY = (("route", "/"), ("track", "canary"), ("version", "1.2.0"))


def test_a_view_without_errors_leaves_zeros_that_can_be_divided() -> None:
    fixture = Fixture()
    assert fixture.post() is BeaconOutcome.ACCEPTED
    assert fixture.samples("rum_page_views_total") == {(("navigation_type", "navigate"), *CANARY): 1}
    assert fixture.samples("rum_views_with_errors_total") == {CANARY: 0}
    assert fixture.samples("rum_js_errors_total") == {CANARY: 0}


def test_errors_count_each_throw_and_their_view_once() -> None:
    fixture = Fixture()
    failure = {"t": "TypeError", "m": "x is null", "n": 40}
    fixture.post(pv="a", e=[failure, {"t": "Error", "m": "y"}], fe=1)
    fixture.post(pv="a", sq=1, e=[failure])
    fixture.post(pv="b")
    assert fixture.total("rum_page_views_total") == 2
    assert fixture.total("rum_views_with_errors_total") == 1
    assert fixture.total("rum_js_errors_total") == 81
    (info,) = (
        labels
        for labels in fixture.samples("rum_js_error_info")
        if "TypeError: x is null" in dict(labels).values()
    )
    fingerprint = dict(info)["fingerprint"]
    assert fixture.total("rum_js_errors_total", fingerprint=fingerprint) == 80


def test_a_new_error_is_logged_once_per_version(caplog: pytest.LogCaptureFixture) -> None:
    fixture = Fixture()
    with caplog.at_level(logging.INFO, "rum_collector"):
        for version in ("1.1.0", "1.2.0", "1.2.0"):
            fixture.post(ver=version, e=[{"t": "TypeError", "m": "x is null", "s": "app.js:1:2"}], fe=1)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "new JavaScript error in shop 1.2.0: TypeError: x is null at app.js:1:2" in lines[1]


def test_an_event_of_one_version_is_zero_in_the_other() -> None:
    fixture = Fixture()
    fixture.post(ver="1.1.0", trk="stable")
    fixture.post(ver="1.2.0")
    fixture.post(ver="1.1.0", trk="stable", c=[["checkout", 1]])
    fixture.post(ver="1.3.0")
    found = {
        (dict(labels)["version"], dict(labels)["outcome"]): value
        for labels, value in fixture.samples("rum_events_total").items()
    }
    assert found == {
        ("1.1.0", "ok"): 1,
        ("1.1.0", "error"): 0,
        ("1.2.0", "ok"): 0,
        ("1.2.0", "error"): 0,
        ("1.3.0", "ok"): 0,
        ("1.3.0", "error"): 0,
    }


def test_vitals_with_their_ratings() -> None:
    fixture = Fixture()
    for lcp, cls in ((2500, 0.1), (2501, 0.25), (4000, 0.2501), (4001, 0)):
        fixture.post(m=[["lcp", lcp], ["cls", cls], ["load", 100]])
    ratings = {
        (dict(labels)["vital"], dict(labels)["rating"]): value
        for labels, value in fixture.samples("rum_vitals_total").items()
    }
    assert ratings == {
        ("lcp", "good"): 1,
        ("lcp", "needs-improvement"): 2,
        ("lcp", "poor"): 1,
        ("cls", "good"): 2,
        ("cls", "needs-improvement"): 1,
        ("cls", "poor"): 1,
    }
    buckets = {
        dict(labels)["le"]: value for labels, value in fixture.samples("rum_lcp_seconds_bucket").items()
    }
    assert (buckets["2.25"], buckets["2.5"], buckets["4.0"], buckets["+Inf"]) == (0, 1, 3, 4)
    assert fixture.samples("rum_lcp_seconds_sum") == {CANARY: pytest.approx(13.002)}
    assert fixture.samples("rum_page_load_seconds_count") == {CANARY: 4}


def test_thresholds_are_bounds_of_their_histograms() -> None:
    for bounds, thresholds in (
        (semconv.RUM_LCP_BOUNDS, (2.5, 4.0)),
        (semconv.RUM_INP_BOUNDS, (0.2, 0.5)),
        (semconv.RUM_CLS_BOUNDS, (0.1, 0.25)),
        (semconv.RUM_FCP_BOUNDS, (1.8, 3.0)),
        (semconv.RUM_TTFB_BOUNDS, (0.8, 1.8)),
    ):
        assert set(thresholds) <= set(bounds)
        assert list(bounds) == sorted(set(bounds))


def test_a_repeat_is_counted_as_such_and_nothing_else() -> None:
    fixture = Fixture()
    for expected in (BeaconOutcome.ACCEPTED, BeaconOutcome.DUPLICATE, BeaconOutcome.DUPLICATE):
        assert fixture.post(pv="a", m=[["lcp", 100]], e=[{"m": "x"}], fe=1) is expected
    assert fixture.total("rum_page_views_total") == 1
    assert fixture.total("rum_lcp_seconds_count") == 1
    assert fixture.total("rum_js_errors_total") == 1
    assert fixture.total("rum_beacons_total", outcome="duplicate") == 2


def test_synthetic_views_carry_a_label_that_users_do_not_have() -> None:
    fixture = Fixture()
    fixture.post()
    fixture.post(syn=1)
    assert fixture.samples("rum_views_with_errors_total") == {
        CANARY: 0,
        (("route", "/"), ("synthetic", "true"), ("track", "canary"), ("version", "1.2.0")): 0,
    }


def test_labels_without_a_value_are_not_rendered() -> None:
    fixture = Fixture()
    fixture.post(trk="", rt="")
    assert fixture.samples("rum_views_with_errors_total") == {(("version", "1.2.0"),): 0}


def test_an_app_that_is_not_taken_is_refused_and_a_nameless_one_is_the_first() -> None:
    fixture = Fixture(apps=("shop", "blog"))
    with pytest.raises(BeaconError, match="app is 'evil'; this collector takes shop, blog") as caught:
        fixture.post(app="evil")
    assert caught.value.reason == "unknown_app"
    fixture.post(app="")
    assert fixture.total("rum_page_views_total") == 1
    anyone = Fixture()
    anyone.post(app="")
    assert anyone.total("rum_page_views_total", app="unknown") == 1


def test_a_body_about_several_apps_is_counted_as_a_whole_or_not_at_all() -> None:
    fixture = Fixture(apps=("shop", "blog"))

    def post(*apps: str) -> BeaconOutcome:
        vitals = ((Vital.LCP, 1.0),)
        found = [Beacon(app, "1", Track.NONE, "", False, vitals=vitals, vital_ids=(app,)) for app in apps]
        return fixture.ingest.accept(Batch(tuple(found)), Sender(retry_key="k"))

    with pytest.raises(BeaconError, match="app is 'evil'"):
        post("shop", "evil")
    assert fixture.total("rum_lcp_seconds_count") == 0
    # Nor does anything of it count as sent already.
    assert post("shop", "blog") is BeaconOutcome.ACCEPTED
    assert fixture.total("rum_lcp_seconds_count") == 2


def test_the_simple_body_gives_a_value_and_no_view() -> None:
    fixture = Fixture()
    body = b'{"metric": "page_load_time", "value": 1234, "version": "1.2.0", "app": "shop"}'
    fixture.ingest.accept(parse_simple(body), Sender(Device.DESKTOP))
    fixture.ingest.accept(parse_simple(body), Sender(Device.DESKTOP))
    assert fixture.samples("rum_page_load_seconds_sum") == {(("version", "1.2.0"),): pytest.approx(2.468)}
    assert fixture.total("rum_page_views_total") == 0
    assert fixture.total("rum_js_errors_total") == 0


def test_series_stay_bounded_whatever_is_posted() -> None:
    fixture = Fixture(
        max_label_sets=20, max_routes=5, max_versions=4, max_apps=3, max_events=5, max_fingerprints=6
    )
    for i in range(400):
        name = chr(ord("a") + i % 26) + chr(ord("a") + i // 26)
        content = {"m": [["lcp", i]], "c": [[name, 1]], "e": [{"m": name}], "fe": 1}
        fixture.post(app=f"app-{i % 7}", ver=f"1.{i}", rt=f"/{name}", **content)
    assert fixture.total("rum_page_views_total") == 400
    assert fixture.total("rum_views_with_errors_total") == 400
    assert fixture.total("rum_js_errors_total") == 400
    assert fixture.total("rum_events_total") == 400
    assert fixture.total("rum_lcp_seconds_count") == 400
    # 20 sets, and one for each of 4 + 1 versions of 3 + 1 apps.
    assert len(fixture.samples("rum_lcp_seconds_count")) <= 40
    # As many at zero, as many with "other", and twice the bound in details.
    assert len(fixture.samples("rum_js_errors_total")) <= 40 + 40 + 40
    assert len(fixture.samples("rum_js_error_info")) <= 40
    for kind in ("app", "version", "route", "label_set"):
        assert fixture.total("rum_admission_overflow_total", kind=kind) > 0


def test_a_version_that_fell_silent_takes_its_series_with_it() -> None:
    fixture = Fixture(max_versions=2, version_idle_seconds=60)
    for version in ("1", "2"):
        fixture.post(ver=version, m=[["lcp", 1]], c=[["checkout", 1]])
    fixture.clock.now = 61
    fixture.post(ver="2")
    fixture.post(ver="3", m=[["lcp", 1]])
    versions = {dict(labels)["version"] for labels in fixture.samples("rum_page_views_total")}
    assert versions == {"2", "3"}
    assert {dict(labels)["version"] for labels in fixture.samples("rum_events_total")} == {"2", "3"}
    # It comes back later, from zero.
    fixture.clock.now = 200
    fixture.post(ver="1")
    assert fixture.total("rum_views_with_errors_total", version="1") == 0
    assert fixture.total("rum_page_views_total", version="1") == 1


def test_values_left_out_are_counted_by_reason() -> None:
    fixture = Fixture()
    fixture.post(m=[["lcp", -1], ["dcl", 1]], d=3)
    fixture.post(nav="bfcache", m=[["ttfb", 0]])
    found = {
        dict(labels)["reason"]: value
        for labels, value in fixture.samples("rum_values_rejected_total").items()
    }
    assert found == {
        "unknown_metric": 1,
        "out_of_range": 1,
        "no_request": 1,
        "too_many": 3,
        "repeated": 0,
        "unproved": 0,
    }
    assert fixture.total("rum_page_views_total") == 2


def test_every_metric_name_is_one_of_the_project() -> None:
    fixture = Fixture()
    fixture.post(m=[["lcp", 1]])
    names = {metric.name for metric in fixture.ingest.instruments.collect()}
    known = {value.removesuffix("_total") for value in vars(semconv).values() if isinstance(value, str)}
    assert names <= known


def test_where_a_beacon_is_counted_follows_what_is_known_of_versions() -> None:
    fixture = Fixture(version_urls=("http://shop",))
    fixture.post(trk="")
    fixture.ingest.known.found("http://shop", [("shop", "1.2.0", Track.CANARY)])
    fixture.post(trk="")
    fixture.ingest.known.found("http://shop", [("shop", "1.2.0", Track.STABLE)])
    fixture.post(trk="")
    fixture.ingest.known.found("http://shop", [("shop", "1.3.0", Track.STABLE)], now=1e9)
    fixture.post(trk="")
    found = {
        (dict(labels)["version"], dict(labels).get("track", "")): count
        for labels, count in fixture.samples("rum_page_views_total").items()
    }
    assert found == {("1.2.0", ""): 1, ("1.2.0", "canary"): 1, ("1.2.0", "stable"): 1, ("other", ""): 1}


def test_a_version_that_lost_its_place_starts_over_when_it_comes_back() -> None:
    fixture = Fixture(max_versions=1, version_idle_seconds=60)
    fixture.post(ver="1.1.0")
    fixture.clock.now = 59.0
    fixture.post(ver="1.1.0")
    fixture.clock.now = 118.0
    fixture.post(ver="1.2.0")
    fixture.clock.now = 120.0
    fixture.post(ver="1.2.0")
    fixture.clock.now = 181.0
    fixture.post(ver="1.1.0")
    found = {
        dict(labels)["version"]: count for labels, count in fixture.samples("rum_page_views_total").items()
    }
    assert found == {"1.1.0": 1, "other": 1}


@given(st.sampled_from(list(THRESHOLDS)), st.floats(0, 60) | st.sampled_from([0.1, 0.25, 2.5, 4.0]))
@settings(max_examples=60, deadline=None)
def test_a_value_is_rated_by_the_thresholds(vital: Vital, value: float) -> None:
    good, poor = THRESHOLDS[vital]
    fixture = Fixture()
    fixture.post(m=[[vital.value, value if vital is Vital.CLS else value * 1000]])
    seen = (value * 1000) / 1000 if vital is not Vital.CLS else value
    rating = "good" if seen <= good else "needs-improvement" if seen <= poor else "poor"
    assert fixture.total("rum_vitals_total", vital=vital.value, rating=rating) == 1
    assert fixture.total("rum_vitals_total") == 1
