"""What OpenTelemetry's own instrumentations do besides spans: suppression, response propagators, names."""

from __future__ import annotations

import pytest
from flask import Flask
from opentelemetry.instrumentation.propagators import (
    TraceResponsePropagator,
    set_global_response_propagator,
)
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rolloutobs import Settings, instrument
from rolloutobs.testing import SpanRecorder, call, isolated_telemetry, sample_value, scrape


@pytest.fixture(autouse=True)
def _isolated():
    with isolated_telemetry():
        yield
    set_global_response_propagator(None)


async def item(request):
    return PlainTextResponse("ok")


def make(recorder, environ=None):
    settings = Settings.from_env({"OTEL_SERVICE_NAME": "shop", "ROLLOUTOBS_VERSION": "1", **(environ or {})})
    app = Starlette(routes=[Route("/items/{item_id}", item)])
    return instrument(app, settings=settings, tracer_provider=recorder.provider)


@pytest.mark.parametrize("suppress", [suppress_instrumentation, suppress_http_instrumentation])
async def test_a_call_that_must_not_be_traced_is_not(suppress):
    recorder = SpanRecorder()
    app = make(recorder)
    with suppress():
        assert (await call(app, "/items/7")).status == 200
    assert recorder.spans == ()
    await call(app, "/items/7")
    assert len(recorder.server_spans) == 1
    assert sample_value(await scrape(app), "http_requests_total", status="200") == 2


async def test_a_response_propagator_answers_with_the_trace():
    set_global_response_propagator(TraceResponsePropagator())
    recorder = SpanRecorder()
    answer = await call(make(recorder), "/items/7")
    (span,) = recorder.server_spans
    told = answer.header("traceresponse")
    assert (
        told == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"
    )
    assert answer.header("access-control-expose-headers") == "traceresponse"


def test_a_response_propagator_answers_under_wsgi_too():
    set_global_response_propagator(TraceResponsePropagator())
    recorder = SpanRecorder()
    flask = Flask("shop")
    flask.route("/items/<int:item_id>")(lambda item_id: "ok")
    settings = Settings(service="shop", version="1")
    instrument(flask, settings=settings, tracer_provider=recorder.provider)
    with flask.test_client().get("/items/7") as answer:
        assert answer.text == "ok"
    (span,) = recorder.server_spans
    assert f"{span.context.trace_id:032x}" in answer.headers["traceresponse"]


async def test_both_names_are_there_while_a_team_moves():
    recorder = SpanRecorder()
    app = make(recorder, {"OTEL_SEMCONV_STABILITY_OPT_IN": "http/dup,database"})
    await call(app, "/items/7?a=1")
    attributes = recorder.server_spans[0].attributes
    for old, new in (
        ("http.method", "http.request.method"),
        ("http.status_code", "http.response.status_code"),
    ):
        assert attributes[old] == attributes[new]
    assert attributes["http.target"] == "/items/7?a=1"
    await call(make(stable := SpanRecorder()), "/items/7")
    assert "http.method" not in stable.server_spans[0].attributes
