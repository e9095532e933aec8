"""A worker that starts brings news of the track: nothing that was counted moves to the new one."""

from __future__ import annotations

import pytest

from rolloutobs import Settings, instrument
from rolloutobs.telemetry import export_metrics
from rolloutobs.testing import call, isolated_telemetry, sample_value, scrape

from .asgi_corpus import raw


@pytest.mark.parametrize("sent", [False, True], ids=["", "otlp"])
async def test_what_was_counted_stays_with_its_track_when_a_worker_starts(tmp_path, sent, monkeypatch):
    def worker(track):
        settings = Settings(
            service="shop", version="1", track=track, metrics_dir=str(tmp_path), export_metrics=sent
        )
        return instrument(raw, settings=settings)

    # Nothing is to be sent here: what is looked at is how counts are kept then.
    monkeypatch.setattr(export_metrics, "send_metrics", lambda hub: None)
    one = worker("canary")
    for _ in range(3):
        await call(one, "/tuple")
    name = "http_request_duration_seconds_count"
    assert sample_value(await scrape(one), name, track="canary") == 3
    with isolated_telemetry():
        two = worker("stable")
        await call(two, "/tuple")
        for app in (one, two, one):
            samples = await scrape(app)
            for metric in (name, "http_requests_total"):
                assert sample_value(samples, metric, track="canary") == 3
                assert sample_value(samples, metric, track="stable") == 1
