"""Names of the server metrics, and exemplars."""

import asyncio

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import get_current_span
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rolloutobs import instrument, semconv
from rolloutobs.settings import Naming, OnConflict, Settings, SpanMode
from rolloutobs.testing import SpanRecorder, call, sample_value, scrape

OPENMETRICS = (b"accept", b"application/openmetrics-text;version=1.0.0")
SYNTHETIC = (b"baggage", b"synthetic=test")


def shop(provider=None, **settings):
    seen = []

    async def item(request):
        seen.append(get_current_span().get_span_context())
        # Two at a time overlap here.
        await asyncio.sleep(0)
        return PlainTextResponse("x", int(request.query_params.get("status", 200)))

    async def broken(request):
        raise RuntimeError("broken")

    app = Starlette(routes=[Route("/items/{item}", item), Route("/broken", broken)])
    app.state.seen = seen
    settings = Settings(service="shop", version="1.2.0", track="canary", **settings)
    return instrument(app, settings=settings, tracer_provider=provider)


async def requests(app):
    await asyncio.gather(call(app, "/items/1"), call(app, "/items/2", scheme="https"))
    await call(app, "/items/3?status=404", headers=[SYNTHETIC])
    with pytest.raises(RuntimeError):
        await call(app, "/broken")


async def test_opentelemetrys_names():
    app = shop(naming=Naming.SEMCONV)
    await requests(app)
    samples = await scrape(app)
    count = semconv.HTTP_SERVER_REQUEST_DURATION_SECONDS + "_count"
    shown = [s.labels for s in samples if s.name == count]
    stamp = {"app": "shop", "version": "1.2.0", "track": "canary", "http_request_method": "GET"}
    item = stamp | {"http_route": "/items/{item}"}
    assert sorted(shown, key=str) == sorted(
        [
            item | {"http_response_status_code": "200", "url_scheme": "http"},
            item | {"http_response_status_code": "200", "url_scheme": "https"},
            item | {"http_response_status_code": "404", "url_scheme": "http", "synthetic": "true"},
            stamp
            | {
                "http_route": "/broken",
                "http_response_status_code": "500",
                "url_scheme": "http",
                "error_type": "500",
            },
        ],
        key=str,
    )
    assert sample_value(samples, count) == 4
    bounds = {s.labels["le"] for s in samples if s.name == count.replace("_count", "_bucket")}
    assert bounds == {str(b) for b in semconv.SEMCONV_DURATION_BOUNDS} | {"+Inf"}
    assert sample_value(samples, semconv.HTTP_SERVER_ACTIVE_REQUESTS) == 0
    assert not [s.name for s in samples if s.name.startswith(("http_request", "rolloutobs_http"))]


async def test_callers_are_told_apart_under_opentelemetrys_names_too():
    app = shop(naming=Naming.SEMCONV, caller_label=True)
    caller = (b"baggage", b"rolloutobs.service=gateway,rolloutobs.version=7,rolloutobs.track=stable")
    for _ in range(2):
        await call(app, "/items/1", headers=[caller])
    samples = await scrape(app)
    labels = {"caller": "gateway", "caller_version": "7", "http_response_status_code": "200"}
    assert sample_value(samples, semconv.HTTP_SERVER_REQUESTS_TOTAL, **labels) == 2


async def test_a_prefix_for_the_server_metrics():
    app = shop(on_conflict=OnConflict.PREFIX)
    await requests(app)
    samples = await scrape(app)
    assert sample_value(samples, "rolloutobs_http_requests_total") == 4
    assert sample_value(samples, "rolloutobs_http_request_duration_seconds_count", status_class="5xx") == 1
    assert sample_value(samples, "rolloutobs_http_requests_in_flight") == 0
    assert sample_value(samples, "app_build_info") == 1
    assert not [s.name for s in samples if s.name.startswith("http_")]


async def test_the_default_names_are_the_same_where_metrics_are_sent_as_well():
    shown = []
    for sent in (False, True):
        app = shop(export_metrics=sent, export_interval_seconds=3600.0)
        for sender in app._rolloutobs.hub.flushed:
            sender.stop()
        assert app._rolloutobs.by_scheme is sent
        await requests(app)
        shown.append(
            sorted(
                (s.name, sorted(s.labels.items()), s.value)
                for s in await scrape(app)
                if s.name.startswith("http_") and not s.name.endswith(("_bucket", "_sum"))
            )
        )
    assert shown[0] == shown[1]
    assert len(shown[0]) > 5


async def exemplars(app):
    body = (await call(app, "/metrics", headers=[OPENMETRICS])).body.decode()
    return {
        sample.exemplar.labels["trace_id"]
        for family in parse_openmetrics(body)
        for sample in family.samples
        if sample.exemplar is not None
    }


@pytest.mark.parametrize("naming", list(Naming))
async def test_a_sampled_request_is_an_exemplar(naming):
    recorder = SpanRecorder()
    app = shop(recorder.provider, naming=naming)
    await asyncio.gather(call(app, "/items/1"), call(app, "/items/2"))
    ids = {f"{span.context.trace_id:032x}" for span in recorder.server_spans}
    assert len(ids) == 2
    found = await exemplars(app)
    # Two requests may share a bucket, which has one exemplar.
    assert found
    assert found <= ids
    assert b"trace_id" not in (await call(app, "/metrics")).body


@pytest.mark.parametrize(
    ("sampler", "changes"), [(ALWAYS_OFF, {}), (None, {"exemplars": False}), (None, {"sdk_disabled": True})]
)
async def test_no_exemplars_without_a_trace_to_show(sampler, changes):
    recorder = SpanRecorder(sampler) if sampler else SpanRecorder()
    app = shop(recorder.provider, **changes)
    for _ in range(2):
        await call(app, "/items/1")
    assert await exemplars(app) == set()
    assert sample_value(await scrape(app), "http_requests_total", status="200") == 2


async def test_the_span_of_another_instrumentation_is_an_exemplar():
    recorder = SpanRecorder()
    app = shop(recorder.provider, spans=SpanMode.OFF)
    with recorder.provider.get_tracer("theirs").start_as_current_span("request") as span:
        await call(app, "/items/1")
    assert await exemplars(app) == {f"{span.get_span_context().trace_id:032x}"}


async def test_odd_statuses_and_schemes_are_bounded():
    async def app(scope, receive, send):
        await Response(status_code=200)(scope, receive, send)

    app = instrument(app, settings=Settings(service="s", version="1", naming=Naming.SEMCONV))
    for scheme in ("gopher", "x" * 999, "http"):
        await call(app, "/", scheme=scheme)
    count = semconv.HTTP_SERVER_REQUEST_DURATION_SECONDS + "_count"
    assert {s.labels["url_scheme"] for s in await scrape(app) if s.name == count} == {"_OTHER", "http"}
