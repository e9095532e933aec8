"""Spans on their way out: a real uvicorn, a real exporter, a real receiver on the loopback."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from rolloutobs import Settings
from rolloutobs.telemetry import export
from rolloutobs.telemetry.export import CountedExporter, flush, set_exporting_provider
from rolloutobs.telemetry.failures import Failures
from rolloutobs.testing import FakeClock
from tests.serving import OtlpReceiver, serving

DEADLINE_SECONDS = 60


class Collector(OtlpReceiver):
    """Keeps the spans that are posted to it."""

    def spans(self):
        return [
            (resource.resource, span)
            for received in self.received
            for resource in ExportTraceServiceRequest.FromString(received.body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector():
    with serving(Collector()) as server:
        yield server


APP = """
import sys, uvicorn
from fastapi import FastAPI
from opentelemetry import trace
from rolloutobs import instrument

app = FastAPI()

@app.get("/items/{item_id}")
async def item(item_id: int):
    with trace.get_tracer("database").start_as_current_span("select"):
        return item_id

instrument(app)
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def wait_until_up(port, process):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server has ended"
        try:
            return get(port, "/healthz")
        except OSError:
            threading.Event().wait(0.05)
    raise AssertionError("the server did not come up")


def attributes(items):
    return {item.key: item.value.string_value for item in items}


def test_the_last_spans_of_a_server_that_is_terminated_arrive(collector):
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_SERVICE_NAME": "shop",
        "ROLLOUTOBS_VERSION": "1.2.0",
        "ROLLOUTOBS_TRACK": "canary",
        "ROLLOUTOBS_SAMPLING_RATIO": "1",
        # Nothing goes out before the end by itself.
        "OTEL_BSP_SCHEDULE_DELAY": "600000",
    }
    process = subprocess.Popen([sys.executable, "-c", APP, str(port)], env=environ)
    try:
        wait_until_up(port, process)
        for number in range(3):
            assert get(port, f"/items/{number}") == 200
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_SECONDS)
    finally:
        process.kill()
        process.wait()
    spans = collector.spans()
    assert sorted(span.name for _, span in spans) == ["GET /items/{item_id}"] * 3 + ["select"] * 3
    for resource, span in spans:
        assert {"service.name": "shop", "service.version": "1.2.0"}.items() <= attributes(
            resource.attributes
        ).items()
        assert attributes(span.attributes)["app.version"] == "1.2.0"
        assert attributes(span.attributes)["rolloutobs.track"] == "canary"
    servers = {span.trace_id: span.span_id for _, span in spans if span.name != "select"}
    assert all(servers[span.trace_id] == span.parent_span_id for _, span in spans if span.name == "select")


class Refuses(SpanExporter):
    def __init__(self, answers):
        self.answers = answers

    def export(self, spans):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def force_flush(self, timeout_millis=30000):
        self.answers.append(timeout_millis)
        return True

    def shutdown(self):
        self.answers.append("shut down")


def exports(failures):
    return {values[0]: cell.value for values, cell in failures.family.items()}["export"]


def test_lost_batches_are_counted():
    failures = Failures(clock=FakeClock())
    inner = Refuses([SpanExportResult.SUCCESS, SpanExportResult.FAILURE, OSError("collector is down")])
    exporter = CountedExporter(inner, failures)
    results = [exporter.export([]) for _ in range(3)]
    assert results == [SpanExportResult.SUCCESS, SpanExportResult.FAILURE, SpanExportResult.FAILURE]
    assert exports(failures) == 2
    assert exporter.force_flush(5000)
    exporter.shutdown()
    assert inner.answers == [5000, "shut down"]


def test_no_provider_is_set_where_no_endpoint_is_configured():
    assert set_exporting_provider(Settings(), Failures(clock=FakeClock())) is None


@pytest.mark.parametrize("grpc", [False, True])
def test_a_missing_exporter_is_logged_with_its_pip_line_and_stops_nobody(monkeypatch, caplog, grpc):
    monkeypatch.setattr(export, "_HTTP", "opentelemetry.exporter.missing")
    monkeypatch.setattr(export, "_GRPC", "opentelemetry.exporter.missing")
    failures = Failures(clock=FakeClock())
    settings = Settings(export_traces=True, otlp_grpc=grpc)
    assert set_exporting_provider(settings, failures) is None
    assert exports(failures) == 1
    expected = (
        "pip install opentelemetry-exporter-otlp-proto-grpc" if grpc else "pip install 'rolloutobs[otlp]'"
    )
    assert expected in caplog.text


def test_flushing_a_collector_that_hangs_ends_all_the_same():
    released = threading.Event()

    class Hangs(TracerProvider):
        def force_flush(self, timeout_millis=30000):
            return released.wait(DEADLINE_SECONDS)

    provider = Hangs(shutdown_on_exit=False)
    flush(provider, 0.01)
    assert not released.is_set()
    released.set()
    for thread in threading.enumerate():
        if thread.name == "rolloutobs-flush":
            thread.join()
