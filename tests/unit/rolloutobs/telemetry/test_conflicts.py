import logging

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from rolloutobs.settings import OnConflict
from rolloutobs.telemetry.cells import CounterFamily, GaugeFamily
from rolloutobs.telemetry.conflicts import AppText, Conflicts

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def ours():
    return [
        CounterFamily("http_requests_total", "Ours.", ("route",)),
        GaugeFamily("app_build_info", "Ours.", ()),
    ]


def theirs(*names):
    registry = CollectorRegistry()
    for name in names:
        Counter(name, "Theirs.", ["handler"], registry=registry).labels("/").inc()
    return list(registry.collect())


def names(items):
    return [item.name for item in items]


def settled(rule, *their_names):
    mine, others = rule.settle(ours(), theirs(*their_names))
    return names(mine), names(others)


def test_replace_drops_theirs_and_says_so_once(caplog):
    rule = Conflicts(OnConflict.REPLACE)
    for _ in range(2):
        assert settled(rule, "http_requests", "orders") == (
            ["http_requests_total", "app_build_info"], ["orders"],
        )  # fmt: skip
    (record,) = caplog.records
    assert "http_requests" in record.getMessage()
    assert "ROLLOUTOBS_ON_CONFLICT" in record.getMessage()
    assert "orders" not in record.getMessage()


def test_without_a_conflict_nothing_is_said(caplog):
    assert settled(Conflicts(OnConflict.REPLACE), "orders")[1] == ["orders"]
    assert caplog.records == []


def test_adopt_shows_theirs_from_then_on(caplog):
    rule = Conflicts(OnConflict.ADOPT)
    assert settled(rule, "orders")[0] == ["http_requests_total", "app_build_info"]
    assert settled(rule, "http_requests") == (["app_build_info"], ["http_requests"])
    # Ours do not come and go with what a scrape happens to see.
    assert settled(rule, "orders") == (["app_build_info"], ["orders"])
    assert caplog.records == []


@pytest.mark.parametrize("rule", [OnConflict.REPLACE, OnConflict.PREFIX])
def test_what_the_prefix_does_not_reach_is_ours(rule):
    registry = CollectorRegistry()
    Gauge("app_build_info", "Theirs.", registry=registry)
    mine, others = Conflicts(rule).settle(ours(), list(registry.collect()))
    assert names(mine) == ["http_requests_total", "app_build_info"]
    assert others == []


def test_names_conflict_by_their_samples_too(caplog):
    class Odd:
        def collect(self):
            # As some collectors write counters.
            return theirs_of_type("http_requests_total")

    def theirs_of_type(name):
        registry = CollectorRegistry()
        Gauge(name, "Theirs.", registry=registry)
        return list(registry.collect())

    _, others = Conflicts(OnConflict.REPLACE).settle(ours(), Odd().collect())
    assert others == []
    with caplog.at_level(logging.ERROR):
        _, others = Conflicts(OnConflict.REPLACE).settle(ours(), theirs_of_type("http_requests_totals"))
    assert names(others) == ["http_requests_totals"]


def own_registry():
    registry = CollectorRegistry()
    Counter("carts", "Carts.", ["plan"], registry=registry).labels("gold").inc(3)
    Histogram("price", "Euros.", buckets=[1, 2], registry=registry).observe(1.5)
    Summary("weight", "Grams.", registry=registry).observe(7)
    Gauge("order_created", "Not about creation.", registry=registry).set(1)
    return registry


@pytest.mark.parametrize(
    ("content_type", "encode"), [(TEXT, generate_latest), (OPENMETRICS, generate_openmetrics)]
)
def test_what_the_apps_own_text_has_beyond_the_registry(content_type, encode):
    text = AppText(content_type, encode(own_registry()))
    assert text.is_metrics
    found = {metric.name: metric for metric in text.beyond(theirs("orders"))}
    assert set(found) == {"carts", "price", "weight", "order_created"}
    assert [s.value for s in found["carts"].samples if s.name == "carts_total"] == [3]
    assert text.beyond(own_registry().collect()) == []
    registry = own_registry()
    assert set(names(text.beyond([m for m in registry.collect() if m.name != "price"]))) == {"price"}


def test_text_that_is_not_what_it_says():
    with pytest.raises(ValueError, match="could not convert"):
        AppText(OPENMETRICS, b"# TYPE a counter\nno metric at all {\n").beyond([])


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        (TEXT, b"", True), (OPENMETRICS, b"# EOF\n", True), ("text/plain; charset=utf-8", b"hi", False),
        ("text/plain", b"# HELP a b\n# TYPE a counter\na 1\n", True), ("text/html", b"", False),
        ("", b"", False), ("application/json", b"# TYPE a counter", False),
        ("Application/OpenMetrics-Text", b"", True),
    ],
)  # fmt: skip
def test_what_is_metrics(content_type, body, expected):
    assert AppText(content_type, body).is_metrics is expected
