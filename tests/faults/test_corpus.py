"""The corpus itself: without a fault an instrumented app does what the bare one does."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from rolloutobs import Settings, instrument
from rolloutobs.testing import SpanRecorder

from .asgi_corpus import CORPUS, HTTP, REGULAR, WEBSOCKETS, all_at_once, all_of, assert_same, make_app
from .watching import failures, total

EVERYTHING = Settings(
    service="shop",
    version="1.2.0",
    track="canary",
    captured_request_headers=(".*",),
    captured_response_headers=(".*",),
    caller_label=True,
    secret=("a secret of many characters",),
    excluded_urls=("never-there",),
)


@pytest.fixture
def bare(tmp_path):
    return make_app(tmp_path)


CONTRIB_BREAKS = frozenset({"/raw/generator", "/errors/slots", "/errors-late/slots"})
"""What the middleware of OpenTelemetry changes: headers that can be read once, errors that are frozen."""
MODES = {
    "off": {"spans": "off"},
    "contrib": {"spans": "contrib"},
    "disabled": {"sdk_disabled": True},
    "quiet": {"server_timing": False, "metrics_path": None, "logs": False, "exemplars": False},
    "names": {"naming": "semconv", "on_conflict": "prefix"},
}


@pytest.mark.parametrize("mode", MODES)
async def test_so_it_is_in_every_mode(tmp_path, bare, mode):
    corpus = [ask for ask in REGULAR if mode != "contrib" or ask.path not in CONTRIB_BREAKS]
    expected = await all_of(bare, corpus)
    for sampler in (ALWAYS_ON, ALWAYS_OFF):
        settings = Settings(service="shop", version="1", **MODES[mode])
        app = instrument(
            make_app(tmp_path), settings=settings, tracer_provider=SpanRecorder(sampler).provider
        )
        assert_same(await all_of(app, corpus), expected, corpus)
        assert_same(await all_at_once(app, corpus), expected, corpus)
    assert failures() == {}


@pytest.mark.parametrize(
    "settings", [Settings(service="shop", version="1"), EVERYTHING], ids=["plain", "all"]
)
async def test_an_instrumented_app_is_a_bare_app(tmp_path, bare, settings):
    recorder = SpanRecorder()
    app = instrument(make_app(tmp_path), settings=settings, tracer_provider=recorder.provider)
    expected = await all_of(bare)
    assert_same(await all_of(app), expected)
    assert_same(await all_at_once(app), expected)
    assert len(CORPUS) > 100
    assert total("http_requests_total") == 2 * len(HTTP)
    assert total("http_request_duration_seconds") == 2 * len(HTTP)
    assert total("http_requests_in_flight") == 0
    assert total("ws_connections_total") == 2 * len(WEBSOCKETS)
    assert total("ws_connections_active") == 0
    assert len(recorder.server_spans) == 2 * (len(HTTP) + len(WEBSOCKETS))
