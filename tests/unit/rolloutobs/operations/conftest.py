"""A process whose spans are kept in memory, and what it exposes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from prometheus_client.samples import Sample

from rolloutobs.settings import Settings
from rolloutobs.telemetry import hub
from rolloutobs.telemetry.starting import start
from rolloutobs.testing import SpanRecorder, parse_metrics, sample_value


@pytest.fixture
def recorded() -> Iterator[SpanRecorder]:
    """The spans of this process, which is the worker of version 1.2.0 on the canary track."""
    recorder = SpanRecorder()
    start(Settings(service="worker", version="1.2.0", track="canary"), tracer_provider=recorder.provider)
    yield recorder
    assert failures() == {}, "telemetry failed"


def samples() -> Sequence[Sample]:
    return parse_metrics(hub.process().render().body.decode())


def operations(metric: str = "app_operations_total", /, **labels: str) -> float | None:
    return sample_value(samples(), metric, app="worker", version="1.2.0", track="canary", **labels)


def outcomes(kind: str, name: str, **labels: str) -> dict[str, float]:
    """What the counter says of one operation, without zeros."""
    return {
        s.labels["outcome"]: s.value
        for s in samples()
        if s.name == "app_operations_total"
        and s.value
        and {**s.labels, **labels, "kind": kind, "name": name} == s.labels
        and ("synthetic" in s.labels) == ("synthetic" in labels)
    }


def timed(kind: str, name: str) -> float | None:
    return operations("app_operation_duration_seconds_count", kind=kind, name=name)


def failures() -> dict[str, float]:
    return {
        s.labels["where"]: s.value
        for s in samples()
        if s.name == "rolloutobs_internal_errors_total" and s.value
    }
