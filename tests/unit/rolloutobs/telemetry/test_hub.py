import pytest
from prometheus_client import REGISTRY, Counter

from rolloutobs.identity import Track
from rolloutobs.settings import Settings
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry.current import current
from rolloutobs.testing import parse_metrics, sample_value

SETTINGS = Settings(service="shop", version="1.2.0", track="canary", revision="abc")


@pytest.fixture
def orders():
    counter = Counter("test_orders", "Orders of the app itself.")
    yield counter
    REGISTRY.unregister(counter)


def shown(hub):
    return parse_metrics(hub.render().body.decode())


def test_the_first_hub_speaks_for_the_process():
    first = hubs.new_hub(SETTINGS)
    hubs.new_hub(Settings(service="admin"))
    assert hubs.process() is first
    assert current().identity == SETTINGS.identity


def test_a_process_without_an_app_has_a_hub_from_the_environment(monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "worker")
    monkeypatch.setenv("ROLLOUTOBS_VERSION", "7")
    hub = hubs.process()
    assert hub.settings.service == "worker"
    assert hubs.process() is hub


def test_each_app_has_its_own_counts_and_shows_those_of_the_process():
    shop, admin = hubs.new_hub(SETTINGS), hubs.new_hub(Settings(service="admin", version="3"))
    for hub, count in ((shop, 1), (admin, 2)):
        hub.counter("orders_total", "Orders.", ()).cell().inc(count)
    hubs.process_store().counter("jobs_total", "Jobs.").cell().inc(5)
    assert sample_value(shown(shop), "orders_total", app="shop", version="1.2.0", track="canary") == 1
    assert sample_value(shown(admin), "orders_total", app="admin", version="3", track="") == 2
    assert sample_value(shown(shop), "jobs_total", app="shop") == 5
    assert sample_value(shown(admin), "jobs_total", app="admin") == 5
    assert sample_value(shown(shop), "app_build_info", revision="abc", version="1.2.0") == 1


def test_a_change_of_the_track_reaches_every_signal_and_the_metrics_of_the_app(orders):
    hub = hubs.new_hub(SETTINGS)
    mine = hub.counter("orders_total", "Orders.", ())
    mine.cell().inc(3)
    orders.inc(4)
    hub.retrack(Track.STABLE)
    mine.cell().inc()
    orders.inc(2)
    after = shown(hub)
    for name, old, new in (("orders_total", 3, 1), ("test_orders_total", 4, 2)):
        assert sample_value(after, name, track="canary") == old
        assert sample_value(after, name, track="stable") == new
    assert sample_value(after, "app_build_info", track="stable") == 1
    assert sample_value(after, "app_build_info", track="canary") is None
    stamp = current()
    assert stamp.attributes["rolloutobs.track"] == "stable"
    assert stamp.baggage["rolloutobs.track"] == "stable"
    assert stamp.server_timing == 'version;desc="1.2.0", track;desc="stable"'


def test_counts_from_before_a_track_was_known_have_no_track():
    hub = hubs.new_hub(Settings(service="shop", version="1"))
    hub.counter("orders_total", "Orders.", ()).cell().inc(3)
    hub.retrack(Track.CANARY)
    text = hub.render().body.decode()
    assert 'orders_total{app="shop",version="1"} 3.0' in text
    assert 'orders_total{app="shop",track="canary",version="1"} 0.0' in text


def test_a_refresh_that_raises_is_counted_and_the_rest_is_shown():
    hub = hubs.new_hub(SETTINGS)
    hub.before_collect.append(lambda: 1 / 0)
    assert sample_value(shown(hub), "app_build_info") == 1
    assert sample_value(shown(hub), "rolloutobs_internal_errors_total", where="metrics") == 2
