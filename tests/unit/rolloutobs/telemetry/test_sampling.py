import logging
from importlib.metadata import entry_points

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk._configuration import _import_sampler
from opentelemetry.sdk.trace.sampling import Decision, ParentBasedTraceIdRatio, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context

from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Identity, Track
from rolloutobs.ratios import Ratios
from rolloutobs.telemetry.current import Live, set_process_identity, with_identity
from rolloutobs.telemetry.sampling import RolloutSampler, rollout_sampler, sampler_for

RATIOS = Ratios(stable=0.05, canary=0.5, baseline=0.25, none=0.1)
TRACE_IDS = [number * ((1 << 64) // 199) for number in range(1, 199)]


def kept(sampler, context):
    return [
        trace_id
        for trace_id in TRACE_IDS
        if sampler.should_sample(context, trace_id, "GET").decision is Decision.RECORD_AND_SAMPLE
    ]


@pytest.mark.parametrize("track", list(Track))
def test_new_traces_are_kept_as_by_trace_id_ratio(track):
    context = with_identity(Live(Identity("shop", "1", track)), Context())
    assert kept(RolloutSampler(RATIOS), context) == kept(TraceIdRatioBased(RATIOS.of(track)), context)


def test_it_follows_the_track_of_the_process():
    sampler, live = RolloutSampler(RATIOS), Live(Identity("shop", "1"))
    assert len(kept(sampler, Context())) == 19
    set_process_identity(live)
    live.retrack(Track.CANARY)
    assert len(kept(sampler, Context())) == 99
    live.retrack(Track.STABLE)
    assert len(kept(sampler, Context())) == 9


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("remote", [True, False])
def test_a_parent_is_followed(sampled, remote):
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else 0)
    parent = SpanContext(1, 2, remote, flags, TraceState([("vendor", "1")]))
    context = set_span_in_context(NonRecordingSpan(parent), Context())
    for ratios in (Ratios(0, 0, 0, 0), Ratios(1, 1, 1, 1)):
        result = RolloutSampler(ratios).should_sample(context, 1 << 63, "GET", attributes={"a": 1})
        assert result.decision.is_sampled() is sampled
        assert result.trace_state == {"vendor": "1"}
        assert result.attributes == ({"a": 1} if sampled else {})


def test_opentelemetry_finds_it_by_name(monkeypatch):
    assert [point.value for point in entry_points(group="opentelemetry_traces_sampler", name="rollout")] == [
        "rolloutobs.telemetry.sampling:rollout_sampler"
    ]
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "stable=0.05,canary=0.5")
    sampler = _import_sampler("rollout")
    assert sampler.get_description() == "RolloutSampler{stable=0.05,canary=0.5,baseline=0.5,none=0.05}"


def test_nonsense_is_said_at_start_up(monkeypatch, caplog):
    with pytest.raises(ConfigurationError, match="OTEL_TRACES_SAMPLER_ARG is 'blue=1'"):
        rollout_sampler("blue=1")
    # OpenTelemetry's own start-up takes no error from a sampler; it logs the message.
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "blue=1")
    with caplog.at_level(logging.WARNING):
        assert _import_sampler("rollout") is None
    assert "OTEL_TRACES_SAMPLER_ARG is 'blue=1'" in caplog.text


def test_no_argument_is_the_default():
    assert rollout_sampler().get_description() == rollout_sampler("").get_description()


def test_one_share_for_all_needs_no_track():
    sampler = sampler_for(Ratios(0.1, 0.1, 0.1, 0.1))
    assert type(sampler) is ParentBasedTraceIdRatio
    assert type(sampler_for(RATIOS)) is RolloutSampler
