import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from rolloutobs.identity import Identity, Track
from rolloutobs.telemetry import metrics
from rolloutobs.telemetry.cells import CounterFamily
from rolloutobs.telemetry.failures import Failures
from rolloutobs.telemetry.metrics import exposition
from rolloutobs.testing import FakeClock, parse_metrics

SHOP = Identity("shop", "1.2.0", Track.CANARY)
STAMP = {"app": "shop", "version": "1.2.0", "track": "canary"}


@pytest.fixture(autouse=True)
def _nothing_warned(monkeypatch):
    monkeypatch.setattr(metrics, "_warned", set())


def registry_of_an_app():
    registry = CollectorRegistry()
    Counter("checkouts_completed", "Orders.", ["plan"], registry=registry).labels("gold").inc(3)
    Gauge("queue_length", "Waiting.", registry=registry).set(7)
    Histogram("price", "Euros.", buckets=[1, 2], registry=registry).observe(1.5)
    Info("python", "Platform.", registry=registry).info({"version": "3.11.7"})
    return registry


def test_every_sample_is_stamped_and_own_labels_win():
    samples = parse_metrics(exposition([registry_of_an_app()], SHOP).body.decode())
    assert {sample.name for sample in samples} >= {
        "checkouts_completed_total",
        "queue_length",
        "price_bucket",
        "price_count",
        "python_info",
    }
    for sample in samples:
        expected = STAMP | ({"version": "3.11.7"} if sample.name == "python_info" else {})
        assert expected.items() <= sample.labels.items(), sample
    orders = next(s for s in samples if s.name == "checkouts_completed_total")
    assert orders.labels == STAMP | {"plan": "gold"}
    assert orders.value == 3


def test_an_empty_track_is_no_label():
    samples = parse_metrics(exposition([registry_of_an_app()], Identity("shop", "1.2.0")).body.decode())
    assert all("track" not in sample.labels for sample in samples)


def test_the_registry_itself_is_left_as_it_was():
    registry = registry_of_an_app()
    before = [metric.samples for metric in registry.collect()]
    exposition([registry], SHOP)
    assert [metric.samples for metric in registry.collect()] == before


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
    ],
)
def test_the_format_follows_the_accept_header(accept, content_type):
    answer = exposition([registry_of_an_app()], SHOP, accept)
    assert answer.content_type == content_type
    if "openmetrics" in content_type:
        families = list(parse_openmetrics(answer.body.decode()))
        assert all(STAMP.keys() <= sample.labels.keys() for family in families for sample in family.samples)


def test_of_two_metrics_of_one_name_the_first_is_shown(caplog):
    ours = CounterFamily("http_requests_total", "Ours.", ("route",))
    ours.cell("/").inc()
    registry = CollectorRegistry()
    Counter("http_requests", "Theirs.", ["handler"], registry=registry).labels("/").inc(5)
    for _ in range(2):
        samples = parse_metrics(exposition([ours, registry], SHOP).body.decode())
        assert [s.value for s in samples if s.name == "http_requests_total"] == [1.0]
    assert len([r for r in caplog.records if "exposed twice" in r.getMessage()]) == 1


class Broken:
    def collect(self):
        raise RuntimeError("database is down")


def test_a_source_that_raises_is_left_out_and_counted():
    failures = Failures(clock=FakeClock())
    samples = parse_metrics(exposition([Broken(), registry_of_an_app()], SHOP, "", failures).body.decode())
    assert any(sample.name == "queue_length" for sample in samples)
    assert {values[0]: cell.value for values, cell in failures.family.items()}["metrics"] == 1


def test_without_a_guard_the_exception_is_raised():
    with pytest.raises(RuntimeError, match="database is down"):
        exposition([Broken()], SHOP)
