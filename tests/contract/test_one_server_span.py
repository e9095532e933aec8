"""Exactly one server span, whoever else traces. Real frameworks and agents; those that patch the process
run in one of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as StarletteTelemetry
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rolloutobs import Settings, instrument
from rolloutobs.testing import SpanRecorder, call, isolated_telemetry, sample_value, scrape

SETTINGS = Settings(service="shop", version="1.2.0", track="canary")
CALLED = [
    (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    (b"baggage", b"rolloutobs.service=gateway,rolloutobs.version=1.1.0,synthetic=test"),
]
AGENTS = Path(__file__).parent / "agents"


@pytest.fixture(autouse=True)
def _isolated():
    with isolated_telemetry():
        yield


def settings(spans):
    return Settings(service="shop", version="1.2.0", track="canary", spans=spans)


async def item(request):
    return PlainTextResponse("ok")


def starlette_app(**given):
    return Starlette(routes=[Route("/items/{item_id}", item)], **given)


def fastapi_app(recorder=None):
    app = FastAPI(telemetry={"tracer_provider": recorder.provider, "logs": False} if recorder else None)

    @app.get("/items/{item_id}")
    async def read(item_id: int):
        return {"id": item_id}

    return app


async def served(app, recorder):
    """The server spans of two requests, the second one called by an instrumented service."""
    assert (await call(app, "/items/7")).status == 200
    assert (await call(app, "/items/8", headers=CALLED)).status == 200
    assert sample_value(await scrape(app), "http_requests_total", route="/items/{item_id}", status="200") >= 1
    spans = recorder.server_spans
    assert len(spans) == 2
    for span in spans:
        assert span.name == "GET /items/{item_id}"
        assert span.attributes["http.route"] == "/items/{item_id}"
        assert span.attributes["app.version"] == "1.2.0"
        assert span.attributes["rolloutobs.track"] == "canary"
    called = spans[1].attributes
    assert called["rolloutobs.caller.version"] == "1.1.0"
    assert called["user_agent.synthetic.type"] == "test"
    assert f"{spans[1].context.trace_id:032x}" == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert spans[1].parent.span_id == 0x00F067AA0BA902B7
    return spans


async def test_fastapi_keeps_quiet_where_the_span_is_ours():
    recorder = SpanRecorder()
    app = instrument(fastapi_app(recorder), settings=SETTINGS, tracer_provider=recorder.provider)
    spans = await served(app, recorder)
    assert {span.instrumentation_scope.name for span in spans} == {"rolloutobs"}


async def test_starlettes_middleware_keeps_quiet_where_the_span_is_ours():
    recorder = SpanRecorder()
    middleware = [Middleware(StarletteTelemetry, tracer_provider=recorder.provider)]
    app = starlette_app(middleware=middleware)
    instrument(app, settings=SETTINGS, tracer_provider=recorder.provider)
    spans = await served(app, recorder)
    assert {span.instrumentation_scope.name for span in spans} == {"rolloutobs"}
    assert len(recorder.spans) == 2


@pytest.mark.parametrize("mode", ["own", "contrib", "off"])
@pytest.mark.parametrize("first", ["ours", "theirs"])
async def test_opentelemetrys_instrumentor_keeps_its_span_and_it_is_stamped(mode, first):
    recorder = SpanRecorder()
    app = fastapi_app()
    if first == "ours":
        instrument(app, settings=settings(mode), tracer_provider=recorder.provider)
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=recorder.provider, exclude_spans=["receive", "send"]
    )
    if first == "theirs":
        instrument(app, settings=settings(mode), tracer_provider=recorder.provider)
    try:
        await call(app, "/items/7")
        await call(app, "/items/8", headers=CALLED)
    finally:
        # It has patched Starlette's background tasks for the whole process.
        FastAPIInstrumentor.uninstrument_app(app)
    assert len(recorder.spans) == len(recorder.server_spans) == 2
    for span in recorder.spans:
        assert span.instrumentation_scope.name == "opentelemetry.instrumentation.fastapi"
        assert span.attributes["rolloutobs.track"] == "canary"
    assert recorder.spans[1].attributes["rolloutobs.caller.service"] == "gateway"


async def test_opentelemetrys_middleware_around_any_app_is_recognised():
    recorder = SpanRecorder()
    app = OpenTelemetryMiddleware(
        starlette_app(), tracer_provider=recorder.provider, exclude_spans=["receive", "send"]
    )
    app = instrument(app, settings=SETTINGS, tracer_provider=recorder.provider)
    await call(app, "/items/7")
    (span,) = recorder.spans
    assert span.kind is SpanKind.SERVER
    assert span.attributes["app.version"] == "1.2.0"


async def test_contrib_makes_the_span_and_we_add_the_route():
    recorder = SpanRecorder()
    app = instrument(starlette_app(), settings=settings("contrib"), tracer_provider=recorder.provider)
    spans = await served(app, recorder)
    assert {span.instrumentation_scope.name for span in spans} == {"opentelemetry.instrumentation.asgi"}


async def test_off_leaves_the_span_to_fastapi_and_stamps_it():
    recorder = SpanRecorder()
    app = instrument(fastapi_app(recorder), settings=settings("off"), tracer_provider=recorder.provider)
    spans = await served(app, recorder)
    assert {span.instrumentation_scope.name for span in spans} == {"fastapi"}


async def test_off_makes_no_span_where_nobody_does():
    recorder = SpanRecorder()
    app = instrument(starlette_app(), settings=settings("off"), tracer_provider=recorder.provider)
    assert (await call(app, "/items/7")).status == 200
    assert recorder.spans == ()
    assert sample_value(await scrape(app), "http_requests_total", status="200") == 1


async def test_a_disabled_sdk_makes_no_spans_and_keeps_the_metrics():
    recorder = SpanRecorder()
    disabled = Settings.from_env({"OTEL_SDK_DISABLED": "true", "OTEL_SERVICE_NAME": "shop"})
    app = instrument(starlette_app(), settings=disabled, tracer_provider=recorder.provider)
    await call(app, "/items/7")
    assert recorder.spans == ()
    assert sample_value(await scrape(app), "http_requests_total", status="200") == 1


async def test_fastapi_with_a_provider_of_its_own_is_left_alone_where_we_have_none():
    recorder = SpanRecorder()
    app = instrument(fastapi_app(recorder), settings=SETTINGS)
    await call(app, "/items/7")
    (span,) = recorder.server_spans
    assert span.instrumentation_scope.name == "fastapi"


async def test_an_unsampled_request_has_no_span_of_anyone():
    recorder = SpanRecorder(ALWAYS_OFF)
    app = instrument(fastapi_app(recorder), settings=SETTINGS, tracer_provider=recorder.provider)
    await call(app, "/items/7")
    assert recorder.spans == ()


@pytest.mark.parametrize("agent", ["logfire", "sentry", "ddtrace", "ddtrace_otel"])
def test_agents_that_patch_the_process(agent, tmp_path):
    program = [sys.executable, str(AGENTS / f"with_{agent}.py")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    assert seen == {"server_spans": 1, "track": "canary", "version": "1.2.0", "requests": 1.0}
