"""Spans of ours against spans of the SDK: what one does, the other does."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import sampling as sdk_sampling
from opentelemetry.trace import NonRecordingSpan as Remote
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from rolloutobs.telemetry.spans import ENOUGH_ATTRIBUTES, RecordedSpan, recorded_span_class

PARENT = SpanContext(
    7, 8, True, TraceFlags(TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID), TraceState([("vendor", "x")])
)
ATTRIBUTES = {"http.request.method": "GET", "url.path": "/items/7", "server.port": 8080}


class Keep(SpanProcessor):
    def __init__(self) -> None:
        self.started: list[Any] = []
        self.ending: list[Any] = []
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        span.set_attribute("set.by", "processor")
        self.started.append((span, parent_context))

    def _on_ending(self, span: Span) -> None:
        self.ending.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


class Pair:
    """The same provider's tracer, used through `RecordedSpan` and through ``start_span``."""

    def __init__(self, limits: SpanLimits | None = None) -> None:
        self.keep = Keep()
        provider = TracerProvider(sampler=sdk_sampling.ALWAYS_ON, span_limits=limits, shutdown_on_exit=False)
        provider.add_span_processor(self.keep)
        self.tracer: Any = provider.get_tracer("rolloutobs", "1", "https://schema")
        self.make = recorded_span_class(self.tracer)

    def ours(self, parent: SpanContext | None = None) -> RecordedSpan:
        assert self.make is not None
        trace_id = 5 if parent is None else parent.trace_id
        return self.make.begin("GET", (trace_id, 6), parent, dict(ATTRIBUTES), Context())

    def theirs(self, parent: SpanContext | None = None) -> Span:
        context = Context() if parent is None else set_span_in_context(Remote(parent), Context())
        return self.tracer.start_span("GET", context, SpanKind.SERVER, dict(ATTRIBUTES))


def told(span: ReadableSpan) -> dict[str, Any]:
    """Return all that a span tells, but for its ids and times."""
    found = json.loads(span.to_json())
    for name in ("start_time", "end_time"):
        assert found.pop(name)
    for event in found["events"]:
        assert event.pop("timestamp")
    context = found.pop("context")
    assert span.context is not None
    return {
        **found,
        "trace_state": context["trace_state"],
        "flags": span.context.trace_flags,
        "valid": (span.context.is_valid, span.context.is_remote),
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "scope": span.instrumentation_scope,
        "attributes in order": list((span.attributes or {}).items()),
        "types": (type(span), isinstance(span, Span)),
        "status": span.status.status_code,
    }


def fail(span: Span) -> None:
    try:
        raise ValueError("no stock")
    except ValueError as error:
        span.record_exception(error, escaped=True)
    span.set_status(StatusCode.ERROR)


CHANGES: dict[str, Callable[[Span], object]] = {
    "nothing": lambda span: None,
    "plain": lambda span: span.set_attribute("http.route", "/items/{id}"),
    "several": lambda span: span.set_attributes({"a": 1, "b": 2.5, "c": True}),
    "sequence": lambda span: span.set_attribute("list", ["a", "b"]),
    "mixed": lambda span: span.set_attributes({"a": 1, "b": ["x"], "c": None, "": 3}),
    "not an attribute": lambda span: span.set_attribute("object", object),
    "empty name": lambda span: span.set_attribute("", 1),
    "name": lambda span: span.update_name("GET /items/{id}"),
    "event": lambda span: span.add_event("tick", {"n": 1}),
    "exception": fail,
    "link": lambda span: span.add_link(PARENT, {"why": "retry"}),
    "status": lambda span: span.set_status(Status(StatusCode.ERROR, "broken")),
    "ok is final": lambda span: (span.set_status(StatusCode.OK), span.set_status(StatusCode.ERROR)),
    "many": lambda span: [span.set_attribute(f"n{i}", i) for i in range(200)],
}


@pytest.mark.parametrize("parent", [None, PARENT], ids=["root", "child"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_span_tells_what_one_of_the_sdk_tells(change: str, parent: SpanContext | None) -> None:
    pair = Pair()
    for span in (pair.ours(parent), pair.theirs(parent)):
        CHANGES[change](span)
        span.end()
    ours, theirs = pair.keep.ended
    assert told(ours) == told(theirs)


@given(st.lists(st.sampled_from(sorted(CHANGES)), max_size=6))
def test_in_any_order(changes: list[str]) -> None:
    pair = Pair(SpanLimits(max_span_attributes=ENOUGH_ATTRIBUTES, max_events=2, max_links=1))
    for span in (pair.ours(), pair.theirs()):
        for change in changes:
            CHANGES[change](span)
        span.end()
    ours, theirs = (told(span) for span in pair.keep.ended)
    for found in (ours, theirs):
        # An attribute that is set again keeps its place here and goes to the end there.
        found["attributes in order"].sort(key=repr)
        for event in found["events"]:
            event["attributes"].pop("exception.stacktrace", None)
    if "many" not in changes:
        assert ours == theirs
    else:
        # Which attributes are dropped depends on that order; how many does not.
        assert (ours["dropped"], len(ours["attributes"])) == (theirs["dropped"], len(theirs["attributes"]))


def test_otlp_is_the_same_but_for_ids_and_times() -> None:
    pair = Pair()
    for span in (pair.ours(PARENT), pair.theirs(PARENT)):
        fail(span)
        span.end()
    found = []
    for span in pair.keep.ended:
        (encoded,) = encode_spans([span]).resource_spans[0].scope_spans[0].spans
        for name in ("span_id", "start_time_unix_nano", "end_time_unix_nano"):
            assert getattr(encoded, name)
            encoded.ClearField(name)
        for event in encoded.events:
            event.time_unix_nano = 0
        found.append(encoded)
    assert found[0] == found[1]


def test_an_ended_span_does_not_change(caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair()
    span = pair.ours()
    span.end(9)
    before = told(pair.keep.ended[0])
    with caplog.at_level(logging.WARNING, "opentelemetry.sdk.trace"):
        for change in ("plain", "several", "name", "event", "exception", "link", "status"):
            CHANGES[change](span)
        span.end(10)
    assert len(pair.keep.ended) == 1
    assert told(pair.keep.ended[0]) == before
    assert len(caplog.records) >= 8
    assert not span.is_recording()
    assert span.end_time == 9


def test_processors_see_the_span_and_its_context() -> None:
    pair = Pair()
    span = pair.ours(PARENT)
    assert isinstance(span, Span)
    assert pair.keep.started == [(span, Context())]
    assert span.attributes == {**ATTRIBUTES, "set.by": "processor"}
    span.end()
    assert pair.keep.ending == [span]


@pytest.mark.parametrize(
    "limits",
    [SpanLimits(max_span_attributes=ENOUGH_ATTRIBUTES - 1), SpanLimits(max_span_attribute_length=10)],
    ids=["few", "short"],
)
def test_tight_limits_are_left_to_the_sdk(limits: SpanLimits) -> None:
    assert Pair(limits).make is None


def test_a_span_of_the_sdk_with_another_field_is_left_to_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    import opentelemetry.sdk.trace as sdk

    original = sdk.ReadableSpan.__init__

    def with_more(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        self._news = True

    assert Pair().make is not None
    monkeypatch.setattr(sdk.ReadableSpan, "__init__", with_more)
    assert Pair().make is None


def test_links_of_one_span_are_not_those_of_another() -> None:
    pair = Pair()
    first, second = pair.ours(), pair.ours()
    first.add_link(PARENT)
    first.add_event("only here")
    assert (list(second.links), list(second.events)) == ([], [])
    assert ([link.context for link in first.links], len(first.events)) == ([PARENT], 1)
