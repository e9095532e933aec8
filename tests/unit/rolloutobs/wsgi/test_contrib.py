"""`spans="contrib"` and `spans="off"` for WSGI apps."""

import sys

import pytest
from flask import Flask
from opentelemetry.trace import SpanKind

from rolloutobs import Settings, instrument
from rolloutobs.errors import ConfigurationError
from rolloutobs.testing import SpanRecorder, call_wsgi, parse_metrics, sample_value


def flask(recorder, spans):
    app = Flask("shop")
    app.add_url_rule("/items/<int:item_id>", view_func=lambda item_id: str(item_id), endpoint="item")
    settings = Settings(service="shop", version="1.2.0", track="canary", spans=spans, labels_file=None)
    return instrument(app, settings=settings, tracer_provider=recorder.provider)


def test_opentelemetrys_own_middleware_makes_the_span_which_gets_stamp_and_route():
    recorder = SpanRecorder()
    app = flask(recorder, "contrib")
    for number in (7, 8):
        assert call_wsgi(app, f"/items/{number}").body == str(number).encode()
    assert [span.name for span in recorder.spans] == ["GET /items/<int:item_id>"] * 2
    for span in recorder.spans:
        assert span.kind is SpanKind.SERVER
        assert span.instrumentation_scope.name == "opentelemetry.instrumentation.wsgi"
        assert span.attributes["http.route"] == "/items/<int:item_id>"
        assert span.attributes["app.version"] == "1.2.0"
    samples = parse_metrics(call_wsgi(app, "/metrics").body.decode())
    assert sample_value(samples, "http_requests_total", status="200") == 2


def test_a_middleware_that_is_missing_is_said_at_start_up(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.wsgi", None)
    with pytest.raises(ConfigurationError, match="pip install opentelemetry-instrumentation-wsgi"):
        flask(SpanRecorder(), "contrib")


def test_a_middleware_that_the_app_has_already_keeps_its_span():
    from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware

    recorder = SpanRecorder()
    app = Flask("shop")
    app.add_url_rule("/", view_func=lambda: "ok", endpoint="root")
    traced = OpenTelemetryMiddleware(app.wsgi_app, tracer_provider=recorder.provider)
    app = instrument(traced, service="shop", version="1.2.0", tracer_provider=recorder.provider)
    for _ in range(2):
        assert call_wsgi(app).body == b"ok"
    scopes = {span.instrumentation_scope.name for span in recorder.spans}
    assert scopes == {"opentelemetry.instrumentation.wsgi"}
    assert len(recorder.server_spans) == 2
    assert recorder.spans[0].attributes["app.version"] == "1.2.0"


def test_without_spans_everything_else_is_there():
    recorder = SpanRecorder()
    app = flask(recorder, "off")
    for _ in range(2):
        assert (
            call_wsgi(app, "/items/7").header("server-timing") == 'version;desc="1.2.0", track;desc="canary"'
        )
    assert recorder.spans == ()
    samples = parse_metrics(call_wsgi(app, "/metrics").body.decode())
    assert sample_value(samples, "http_requests_total", route="/items/<int:item_id>", status="200") == 2
