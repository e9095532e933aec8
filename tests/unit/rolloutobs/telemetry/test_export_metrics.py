import gc
import json
import os
import threading
import weakref

import pytest
from opentelemetry import context as context_api
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExporter, MetricExportResult

from rolloutobs.http.metrics import HttpMetrics, exemplify
from rolloutobs.identity import Track
from rolloutobs.settings import Naming, OnConflict, Settings
from rolloutobs.telemetry import export_metrics
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry.export_metrics import MetricsSender, Starts, send_metrics
from rolloutobs.testing import FakeClock, SpanRecorder, parse_metrics, sample_value
from tests.serving import OtlpReceiver, serving

SETTINGS = Settings(
    service="shop",
    version="1.2.0",
    track="canary",
    environment="prod",
    export_metrics=True,
    caller_label=False,
)
BEGAN = 1_000_000.0


class Receiver(MetricExporter):
    """Keeps what it is given; encodes it, as the real exporter does."""

    def __init__(self, result=MetricExportResult.SUCCESS):
        super().__init__()
        self.result = result
        self.received = []
        self.suppressed = []
        self.got = threading.Event()

    def export(self, metrics_data, timeout_millis=10_000, **kwargs):
        encode_metrics(metrics_data).SerializeToString()
        self.received.append(metrics_data)
        self.suppressed.append(context_api.get_value(context_api._SUPPRESS_INSTRUMENTATION_KEY))
        self.got.set()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def force_flush(self, timeout_millis=10_000):
        return True

    def shutdown(self, timeout_millis=30_000, **kwargs):
        pass

    def metrics(self):
        (resource,) = self.received[-1].resource_metrics
        (scope,) = resource.scope_metrics
        return {metric.name: metric for metric in scope.metrics}

    def points(self, name):
        return list(self.metrics()[name].data.data_points)


@pytest.fixture
def clock():
    return FakeClock(BEGAN)


@pytest.fixture
def sending(clock):
    def make(settings=SETTINGS, result=MetricExportResult.SUCCESS):
        hub = hubs.new_hub(settings)
        hub._clock = clock
        receiver = Receiver(result)
        return hub, MetricsSender(hub, lambda: receiver, clock), receiver

    return make


def served(http, *what, seconds=0.2, times=1):
    for _ in range(times):
        counter, histogram = http.pair(what)
        counter.inc()
        histogram.observe(seconds)
    return histogram


def test_requests_have_the_names_of_the_conventions(sending, clock):
    hub, sender, receiver = sending()
    http = HttpMetrics(hub)
    served(http, "GET", "/items/{id}", 200, False, "http", seconds=0.2, times=3)
    served(http, "GET", "/items/{id}", 503, True, "https", seconds=7.0)
    served(http, "_OTHER", "", 404, False, "gopher", seconds=99.0)
    clock.advance(60)
    assert sender.force_flush()
    metric = receiver.metrics()["http.server.request.duration"]
    assert metric.unit == "s"
    assert metric.data.aggregation_temporality is AggregationTemporality.CUMULATIVE
    good, failed, odd = metric.data.data_points
    stamp = {"app.version": "1.2.0", "rolloutobs.track": "canary"}
    assert good.attributes == stamp | {
        "http.request.method": "GET", "http.route": "/items/{id}", "http.response.status_code": 200,
        "url.scheme": "http",
    }  # fmt: skip
    assert failed.attributes == stamp | {
        "http.request.method": "GET", "http.route": "/items/{id}", "http.response.status_code": 503,
        "url.scheme": "https", "error.type": "503", "user_agent.synthetic.type": "test",
    }  # fmt: skip
    assert odd.attributes == stamp | {
        "http.request.method": "_OTHER", "http.response.status_code": 404, "url.scheme": "_OTHER"
    }  # fmt: skip
    assert (good.count, good.sum, sum(good.bucket_counts)) == (3, pytest.approx(0.6), 3)
    assert good.explicit_bounds == SETTINGS.bounds
    assert len(good.bucket_counts) == len(good.explicit_bounds) + 1
    assert odd.bucket_counts[-1] == 1
    assert (good.start_time_unix_nano, good.time_unix_nano) == (BEGAN * 1e9, (BEGAN + 60) * 1e9)
    active = receiver.metrics()["http.server.active_requests"]
    assert not active.data.is_monotonic
    assert "http_requests" not in receiver.metrics()
    assert receiver.suppressed == [True]


def test_the_resource_is_who_runs_without_the_track(sending):
    _, sender, receiver = sending()
    sender.force_flush()
    (resource,) = receiver.received[0].resource_metrics
    attributes = resource.resource.attributes
    assert attributes["service.name"] == "shop"
    assert attributes["service.version"] == "1.2.0"
    assert attributes["deployment.environment.name"] == "prod"
    assert not [name for name in attributes if "track" in name]
    assert resource.scope_metrics[0].scope.name == "rolloutobs"


def test_metrics_shows_the_default_names_merged_from_what_is_sent(sending):
    hub, _, _ = sending()
    http = HttpMetrics(hub)
    for status, scheme in ((200, "http"), (201, "http"), (200, "https"), (500, "http")):
        served(http, "GET", "/", status, False, scheme, seconds=0.2)
    samples = parse_metrics(hub.render().body.decode())
    name = "http_request_duration_seconds_count"
    assert sample_value(samples, name, status_class="2xx", route="/", track="canary") == 3
    assert sample_value(samples, name, status_class="5xx") == 1
    assert sample_value(samples, "http_request_duration_seconds_bucket", status_class="2xx", le="+Inf") == 3
    assert sample_value(samples, "http_requests_total", status="200") == 2
    assert not [s for s in samples if "http_server" in s.name]
    # The same after a change of the track, when values are differences.
    hub.retrack(Track.STABLE)
    served(http, "GET", "/", 200, False, "http")
    samples = parse_metrics(hub.render().body.decode())
    assert sample_value(samples, name, status_class="2xx", track="canary") == 3
    assert sample_value(samples, name, status_class="2xx", track="stable") == 1
    assert not [s for s in samples if "http_server" in s.name]


def test_the_overflow_of_label_sets_is_marked_in_both(sending):
    hub, sender, receiver = sending(
        Settings(service="shop", version="1", export_metrics=True, max_label_sets=2)
    )
    http = HttpMetrics(hub)
    for route in ("/a", "/b", "/c", "/d"):
        served(http, "GET", route, 200, False, "http")
    sender.force_flush()
    *_, overflow = receiver.points("http.server.request.duration")
    assert overflow.attributes == {"app.version": "1", "otel.metric.overflow": True}
    assert overflow.count == 2
    samples = parse_metrics(hub.render().body.decode())
    assert sample_value(samples, "http_request_duration_seconds_count", route="_overflow") == 2


@pytest.mark.parametrize(
    "settings", [SETTINGS, Settings(naming=Naming.SEMCONV, on_conflict=OnConflict.PREFIX)]
)
def test_exemplars_go_along(sending, settings):
    hub, sender, receiver = sending(settings)
    http = HttpMetrics(hub)
    recorder = SpanRecorder()
    with recorder.provider.get_tracer("t").start_as_current_span("request") as span:
        histogram = served(http, "GET", "/", 200, False, "http", seconds=0.3)
        exemplify(histogram, span, 0.3)
    sender.force_flush()
    (point,) = receiver.points("http.server.request.duration")
    (exemplar,) = point.exemplars
    context = span.get_span_context()
    assert (exemplar.trace_id, exemplar.span_id) == (context.trace_id, context.span_id)
    assert exemplar.value == 0.3


def test_other_metrics_keep_names_that_lead_back(sending):
    hub, sender, receiver = sending(
        Settings(service="shop", version="1", export_metrics=True, caller_label=True)
    )
    http = HttpMetrics(hub)
    served(http, "GET", "/", 200, (False, "gateway", "7"), "http")
    hub.counter("app_operations_total", "Operations.", ("kind", "name")).cell("task", "mail").inc(4)
    hub.histogram("app_operation_duration_seconds", "Time.", ("kind",)).cell("task").observe(1)
    hub.gauge("app_memory_bytes", "Bytes.", ()).cell().value = 5
    sender.force_flush()
    metrics = receiver.metrics()
    assert metrics["app_operations"].data.is_monotonic
    assert [p.value for p in metrics["app_operations"].data.data_points] == [4]
    assert receiver.points("app_operations")[0].attributes == {
        "app.version": "1", "kind": "task", "name": "mail",
    }  # fmt: skip
    assert (metrics["app_operation_duration"].unit, metrics["app_memory"].unit) == ("s", "By")
    assert metrics["rolloutobs_internal_errors"].data.data_points
    called = [p for p in receiver.points("http_requests") if p.value]
    assert called[0].attributes == {
        "app.version": "1", "http.request.method": "GET", "http.route": "/",
        "http.response.status_code": 200, "rolloutobs.caller.service": "gateway",
        "rolloutobs.caller.version": "7",
    }  # fmt: skip


def test_a_new_track_starts_new_points_and_the_old_ones_end(sending, clock):
    hub, sender, receiver = sending()
    http = HttpMetrics(hub)
    served(http, "GET", "/", 200, False, "http", times=3)
    sender.force_flush()
    clock.advance(100)
    hub.retrack(Track.STABLE)
    served(http, "GET", "/", 200, False, "http", times=2)
    clock.advance(10)
    sender.force_flush()
    points = {p.attributes["rolloutobs.track"]: p for p in receiver.points("http.server.request.duration")}
    canary, stable = points["canary"], points["stable"]
    assert (canary.count, stable.count) == (3, 2)
    second = 1e9
    assert (canary.start_time_unix_nano, canary.time_unix_nano) == (BEGAN * second, (BEGAN + 100) * second)
    assert stable.start_time_unix_nano == (BEGAN + 100) * second
    assert stable.time_unix_nano == (BEGAN + 110) * second
    # Back within a quarter of an hour: the first one goes on, from its own start.
    hub.retrack(Track.CANARY)
    served(http, "GET", "/", 200, False, "http")
    clock.advance(10)
    sender.force_flush()
    points = {p.attributes["rolloutobs.track"]: p for p in receiver.points("http.server.request.duration")}
    assert points["canary"].count == 4
    assert points["canary"].start_time_unix_nano == BEGAN * second
    # Long after, what is over is gone, and what goes on keeps its start.
    clock.advance(1000)
    sender.force_flush()
    (left,) = receiver.points("http.server.request.duration")
    assert (left.attributes["rolloutobs.track"], left.start_time_unix_nano) == ("canary", BEGAN * second)


def test_starts_of_tracks_that_no_export_has_seen():
    starts = Starts(10.0)
    starts.update("baseline", {"canary": 40.0, "stable": 25.0})
    assert starts.by_track == {"stable": 10.0, "canary": 25.0, "baseline": 40.0}
    again = Starts.from_json(starts.to_json(), 99.0)
    assert (again.began, again.by_track) == (10.0, starts.by_track)
    for torn in ("", "{", '{"began": "x"}', "[]", '{"began": 1, "by_track": 3}'):
        assert Starts.from_json(torn, 99.0).began == 99.0
        assert Starts.from_json(torn, 99.0).by_track == {}


@pytest.mark.parametrize("result", [MetricExportResult.FAILURE, OSError("collector is down")])
def test_an_export_that_fails_is_counted_and_the_next_one_carries_everything(sending, result):
    hub, sender, receiver = sending(result=result)
    http = HttpMetrics(hub)
    served(http, "GET", "/", 200, False, "http")
    assert not sender.force_flush()
    assert {v[0]: c.value for v, c in hub.failures.family.items()}["export"] == 1
    receiver.result = MetricExportResult.SUCCESS
    served(http, "GET", "/", 200, False, "http")
    assert sender.force_flush()
    assert receiver.points("http.server.request.duration")[0].count == 2


def test_the_thread_sends_at_its_interval_and_ends_with_the_sender(sending):
    settings = Settings(service="s", version="1", export_metrics=True, export_interval_seconds=0.01)
    _, sender, receiver = sending(settings)
    sender.start()
    sender.start()
    for _ in range(2):
        assert receiver.got.wait(30)
        receiver.got.clear()
    thread = sender._thread
    sender.stop()
    assert not thread.is_alive()
    count = len(receiver.received)
    sender.run()
    gone, thread = weakref.ref(sender), sender._thread
    del sender
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()
    assert gone() is None
    assert len(receiver.received) >= count


def test_a_forked_child_sends_for_itself_with_a_connection_of_its_own(clock):
    settings = Settings(service="s", version="1", export_metrics=True, export_interval_seconds=0.01)
    hub = hubs.new_hub(settings)
    made = []

    def make():
        made.append(Receiver())
        return made[-1]

    sender = MetricsSender(hub, make, clock)
    sender.start()
    try:
        while not made:
            assert sender._thread.is_alive()
            sender._stop.wait(0.01)
        before = len(made)
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            fine = sender._thread is not None and sender._thread.is_alive()
            while len(made) == before:
                sender._stop.wait(0.01)
            os.write(write, json.dumps([fine, made[-1].got.wait(30)]).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        assert json.loads(os.read(read, 100)) == [True, True]
        assert sender._thread.is_alive()
        assert len(made) == before
    finally:
        sender.stop()


def test_of_workers_that_share_a_folder_one_sends_and_another_takes_over(sending, tmp_path):
    class Backing:
        folder = tmp_path

    def in_folder():
        hub, sender, receiver = sending()
        leads = sender._leads

        def with_backing():
            # Only what asks for the folder: the counts stay in memory here.
            hub.store.backing = Backing()
            try:
                return leads()
            finally:
                hub.store.backing = None

        sender._leads = with_backing
        hub.book = "app0"
        return sender, receiver

    (first, one), (second, two) = in_folder(), in_folder()
    assert first.force_flush()
    assert second.force_flush()
    assert (len(one.received), len(two.received)) == (1, 0)
    first._starts.by_track["canary"] = 777.0
    first._leadership.write(first._starts.to_json())
    first._leadership.close()
    first._leadership = None
    assert second.force_flush()
    assert len(two.received) == 1
    assert second._starts.by_track == {"canary": 777.0}
    # The folder was removed and made again: whoever comes first leads in the new one.
    (tmp_path / "otlp-app0.lock").unlink()
    assert first.force_flush()
    assert second.force_flush()
    assert (len(one.received), len(two.received)) == (2, 1)


def test_nothing_is_sent_unless_it_is_asked_for():
    hub = hubs.new_hub(Settings(service="s", version="1"))
    assert send_metrics(hub) is None
    assert hub.flushed == []


def test_an_exporter_that_is_not_installed_is_counted_and_explained(monkeypatch, caplog):
    monkeypatch.setattr(export_metrics, "find_spec", lambda name: None)
    hub = hubs.new_hub(Settings(service="s", version="1", export_metrics=True))
    assert send_metrics(hub) is None
    assert "pip install" in caplog.text
    assert {v[0]: c.value for v, c in hub.failures.family.items()}["export"] == 1


def test_the_real_exporter_is_made_and_flushed_with_the_app(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://127.0.0.1:9/v1/metrics")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    hub = hubs.new_hub(Settings(service="s", version="1", export_metrics=True))
    sender = send_metrics(hub)
    try:
        assert hub.flushed == [sender]
        # Nobody listens there.
        assert not sender.force_flush()
        assert {v[0]: c.value for v, c in hub.failures.family.items()}["export"] == 1
    finally:
        sender.stop()


def test_a_collector_reads_what_the_real_exporter_sends(monkeypatch):
    with serving(OtlpReceiver()) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{collector.url}/v1/metrics")
        hub = hubs.new_hub(SETTINGS)
        sender = send_metrics(hub)
        try:
            with SpanRecorder().provider.get_tracer("t").start_as_current_span("request") as span:
                histogram = served(HttpMetrics(hub), "GET", "/", 200, False, "http", seconds=0.3)
                exemplify(histogram, span, 0.3)
            assert sender.force_flush()
        finally:
            sender.stop()
    (received,) = collector.received
    (resource,) = ExportMetricsServiceRequest.FromString(received.body).resource_metrics
    metrics = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
    (point,) = metrics["http.server.request.duration"].histogram.data_points
    assert (point.count, point.sum, sum(point.bucket_counts)) == (1, 0.3, 1)
    assert not point.HasField("min")
    (exemplar,) = point.exemplars
    assert exemplar.trace_id.hex() == f"{span.get_span_context().trace_id:032x}"
    assert exemplar.as_double == 0.3
    assert {a.key: a.value.string_value for a in point.attributes}["rolloutobs.track"] == "canary"
