import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState

from rolloutobs.identity import Identity, Track
from rolloutobs.ratios import Ratios
from rolloutobs.telemetry.current import Live, current, set_process_identity, with_identity
from rolloutobs.telemetry.propagation import NOTHING, Inbound
from rolloutobs.telemetry.sampling import RolloutSampler
from rolloutobs.telemetry.traces import ServerSpans, UnsampledSpan, stamp_spans_of
from rolloutobs.testing import SpanRecorder

STAMP = Live(Identity("shop", "1.2.0", Track.CANARY))
BASE = with_identity(STAMP, Context())


def describe(scope):
    return "GET", {"url.path": scope["path"], **STAMP.stamp.attributes}


def spans_of(provider):
    return ServerSpans(provider, BASE, describe)


def start(spans, inbound=NOTHING, local=None):
    return spans.start({"path": "/x"}, inbound, Context() if local is None else local)


def remote(sampled, trace_id=0x1234, state=None):
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else 0)
    return Inbound(SpanContext(trace_id, 0x99, True, flags, TraceState(state or [])))


def test_without_a_provider_there_is_no_span_but_the_trace_is_passed_on():
    spans = ServerSpans(None, BASE, describe)
    span, context = start(spans, remote(sampled=True))
    assert span is None
    assert trace.get_current_span(context).get_span_context().trace_id == 0x1234
    assert current(context) is STAMP.stamp
    span, context = start(spans)
    assert not trace.get_current_span(context).get_span_context().is_valid


def test_a_sampled_span_is_recorded_with_its_attributes_and_is_current():
    recorder = SpanRecorder()
    span, context = start(spans_of(recorder.provider))
    assert trace.get_current_span(context) is span
    assert current(context) is STAMP.stamp
    span.end()
    (ended,) = recorder.spans
    assert ended.name == "GET"
    assert ended.kind is SpanKind.SERVER
    assert ended.parent is None
    assert ended.attributes == {"url.path": "/x", "app.version": "1.2.0", "rolloutobs.track": "canary"}
    assert ended.context.trace_flags == TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID


def test_an_unsampled_span_has_one_context_that_children_follow():
    recorder = SpanRecorder(ParentBasedTraceIdRatio(0.0))
    span, context = start(spans_of(recorder.provider))
    assert isinstance(span, UnsampledSpan)
    assert not span.is_recording()
    own = span.get_span_context()
    assert own is span.get_span_context()
    assert own.is_valid
    assert not own.is_remote
    assert own.trace_flags == TraceFlags.RANDOM_TRACE_ID
    child = recorder.provider.get_tracer("t").start_span("child", context)
    assert not child.is_recording()
    assert child.get_span_context().trace_id == own.trace_id
    assert f"{own.trace_id:032x}" in repr(span)
    other, _ = start(spans_of(recorder.provider))
    assert other.get_span_context().trace_id != own.trace_id


@pytest.mark.parametrize("sampled", [True, False])
def test_a_remote_parent_is_followed(sampled):
    recorder = SpanRecorder(ParentBasedTraceIdRatio(0.5))
    span, _ = start(spans_of(recorder.provider), remote(sampled, state=[("vendor", "1")]))
    context = span.get_span_context()
    assert context.trace_id == 0x1234
    assert context.span_id != 0x99
    assert context.trace_flags.sampled is sampled
    assert context.trace_state == {"vendor": "1"}
    assert not context.is_remote
    span.end()
    assert [s.parent.span_id for s in recorder.spans] == ([0x99] if sampled else [])


SAMPLERS = [
    ALWAYS_ON,
    ALWAYS_OFF,
    TraceIdRatioBased(0.3),
    ParentBasedTraceIdRatio(0.3),
    ParentBased(
        TraceIdRatioBased(0.3), remote_parent_sampled=ALWAYS_OFF, remote_parent_not_sampled=ALWAYS_ON
    ),
    ParentBased(ALWAYS_OFF, remote_parent_not_sampled=TraceIdRatioBased(0.6)),
    RolloutSampler(Ratios(stable=0.0, canary=0.5, baseline=1.0, none=1.0)),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.get_description())
def test_our_decision_is_that_of_the_sampler(sampler):
    """For hundreds of trace ids, with every kind of parent; for new traces by the id that was drawn."""
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    spans = spans_of(provider)
    step = (1 << 64) // 97
    for number in range(1, 97):
        for sampled in (True, False):
            inbound = remote(sampled, trace_id=number * step)
            span, _ = start(spans, inbound)
            parent = trace.set_span_in_context(NonRecordingSpan(inbound.parent), BASE)
            expected = sampler.should_sample(parent, number * step, "GET").decision
            assert span.is_recording() is (expected is Decision.RECORD_AND_SAMPLE)
        span, _ = start(spans)
        drawn = span.get_span_context().trace_id
        expected = sampler.should_sample(BASE, drawn, "GET").decision
        assert span.is_recording() is (expected is Decision.RECORD_AND_SAMPLE)


def test_the_share_of_new_traces_follows_the_track():
    live = Live(Identity("shop", "1.2.0", Track.STABLE))
    recorder = SpanRecorder(RolloutSampler(Ratios(stable=0.0, canary=1.0, baseline=0.0, none=0.0)))
    spans = ServerSpans(recorder.provider, with_identity(live, Context()), describe)
    for track in (Track.STABLE, Track.CANARY, Track.BASELINE, Track.NONE, Track.CANARY):
        live.retrack(track)
        for _ in range(3):
            span, context = start(spans)
            assert span.is_recording() is (track is Track.CANARY)
            # Spans inside of the request are kept or not as a whole.
            child = recorder.provider.get_tracer("t").start_span("child", context)
            assert child.is_recording() is span.is_recording()
            # Callers are followed on every track.
            assert start(spans, remote(sampled=True))[0].is_recording()
            assert not start(spans, remote(sampled=False))[0].is_recording()


class Choosy(Sampler):
    """A sampler of a team: sees attributes, adds its own."""

    def __init__(self):
        self.asked = []

    def should_sample(
        self, parent_context, trace_id, name, kind=None, attributes=None, links=None, trace_state=None
    ):
        self.asked.append(attributes["url.path"])
        return SamplingResult(Decision.RECORD_AND_SAMPLE, {**attributes, "why": "chosen"})

    def get_description(self):
        return "Choosy"


def test_any_other_sampler_is_asked():
    sampler = Choosy()
    recorder = SpanRecorder(sampler)
    span, _ = start(spans_of(recorder.provider))
    span.end()
    assert sampler.asked == ["/x"]
    assert recorder.spans[0].attributes["why"] == "chosen"


def test_a_sampler_that_is_replaced_is_asked_from_then_on():
    recorder = SpanRecorder(ALWAYS_OFF)
    spans = spans_of(recorder.provider)
    assert not start(spans)[0].is_recording()
    recorder.provider.get_tracer("rolloutobs")
    spans._tracer.sampler = ALWAYS_ON
    assert start(spans)[0].is_recording()


class Counted(IdGenerator):
    def __init__(self):
        self.number = 0

    def generate_span_id(self):
        self.number += 1
        return self.number

    def generate_trace_id(self):
        return 0xFEED


def test_another_id_generator_is_used():
    provider = TracerProvider(id_generator=Counted(), shutdown_on_exit=False)
    span, _ = start(spans_of(provider))
    assert span.get_span_context().trace_id == 0xFEED


def test_baggage_and_values_of_the_caller_in_the_process_stay_in_the_context():
    recorder = SpanRecorder()
    inbound = Inbound(context=baggage.set_baggage("tenant", "acme", Context()))
    local = Context({"mine": 1})
    for spans in (spans_of(recorder.provider), ServerSpans(None, BASE, describe)):
        _, context = start(spans, inbound, local)
        assert context["mine"] == 1
        assert baggage.get_baggage("tenant", context) == "acme"
        assert current(context) is STAMP.stamp


def in_span(provider, kind, sampler_on=True):
    span = provider.get_tracer("outer").start_span("outer", Context(), kind)
    return span, trace.set_span_in_context(span, Context())


@pytest.mark.parametrize(
    ("outer_kind", "kind"),
    [
        (SpanKind.SERVER, SpanKind.INTERNAL),
        (SpanKind.INTERNAL, SpanKind.SERVER),
        (SpanKind.CLIENT, SpanKind.SERVER),
    ],
)
def test_a_span_around_the_app_is_the_parent_and_there_is_one_server_span(outer_kind, kind):
    recorder = SpanRecorder()
    outer, local = in_span(recorder.provider, outer_kind)
    span, _ = start(spans_of(recorder.provider), local=local)
    span.end()
    assert recorder.spans[0].kind is kind
    assert recorder.spans[0].parent.span_id == outer.get_span_context().span_id


def test_headers_of_another_trace_win_over_a_span_around_the_app():
    recorder = SpanRecorder()
    _, local = in_span(recorder.provider, SpanKind.CLIENT)
    span, _ = start(spans_of(recorder.provider), remote(sampled=True), local)
    span.end()
    assert recorder.spans[0].parent.span_id == 0x99
    assert recorder.spans[0].kind is SpanKind.SERVER


def test_below_an_unsampled_server_span_nothing_is_sampled():
    recorder = SpanRecorder(ParentBasedTraceIdRatio(0.0))
    outer, local = in_span(recorder.provider, SpanKind.SERVER)
    span, _ = start(spans_of(recorder.provider), local=local)
    assert not span.is_recording()
    assert span.get_span_context().trace_id == outer.get_span_context().trace_id


def test_spans_of_others_are_stamped_with_the_identity_of_their_request():
    recorder = SpanRecorder()
    stamp_spans_of(recorder.provider)
    stamp_spans_of(recorder.provider)
    tracer = recorder.provider.get_tracer("database")
    tracer.start_span("select", BASE).end()
    tracer.start_span("nobody", Context()).end()
    set_process_identity(Live(Identity("worker", "7")))
    tracer.start_span("background", Context()).end()
    assert [dict(span.attributes) for span in recorder.spans] == [
        {"app.version": "1.2.0", "rolloutobs.track": "canary"},
        {},
        {"app.version": "7"},
    ]
    processors = recorder.provider._active_span_processor._span_processors
    assert len([p for p in processors if type(p).__name__ == "StampProcessor"]) == 1


def test_a_provider_that_takes_no_processors_is_left_alone():
    stamp_spans_of(trace.NoOpTracerProvider())
    span, _ = start(spans_of(trace.NoOpTracerProvider()))
    assert not span.is_recording()
