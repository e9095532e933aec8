"""The corpus itself: without a fault an instrumented app does what the bare one does."""

from __future__ import annotations

import pytest

from rolloutobs import Settings, instrument
from rolloutobs.testing import SpanRecorder

from .asgi_corpus import CORPUS, HTTP, WEBSOCKETS, all_at_once, all_of, assert_same, make_app
from .watching import total

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
