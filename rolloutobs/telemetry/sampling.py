"""A sampler that knows about rollouts.

At 5 % of the traffic and a sampling ratio of 5 %, one request in four hundred leaves a trace of the canary:
not enough to see what it does differently. `RolloutSampler` keeps a share of its own on each track, and
follows the track while the process runs.

For OpenTelemetry's own start-up: ``OTEL_TRACES_SAMPLER=rollout`` with
``OTEL_TRACES_SAMPLER_ARG=stable=0.05,canary=0.5``.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    Decision,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from rolloutobs.identity import Track
from rolloutobs.ratios import Ratios
from rolloutobs.telemetry.current import current

__all__ = ["RolloutSampler", "rollout_sampler", "sampler_for"]

_LOW_64_BITS = TraceIdRatioBased.TRACE_ID_LIMIT


class RolloutSampler(Sampler):
    """Follows the parent where there is one; else keeps the share of the track that the process is on now.

    Which traces these are depends on the trace id alone, as for `TraceIdRatioBased`: a service that keeps
    more keeps at least the traces of one that keeps less. A track that is not known has a share too.
    """

    def __init__(self, ratios: Ratios) -> None:
        self._ratios = ratios
        self._bounds = {track: TraceIdRatioBased.get_bound_for_rate(ratios.of(track)) for track in Track}

    def bound(self, context: Context | None) -> int:
        """Return below which low 64 bits of the trace id a new trace in `context` is kept."""
        stamp = current(context)
        return self._bounds[Track.NONE if stamp is None else stamp.identity.track]

    def should_sample(  # noqa: PLR0913 - as OpenTelemetry has it
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Return whether to keep a span."""
        parent = get_current_span(parent_context).get_span_context()
        if parent.is_valid:
            keep = parent.trace_flags.sampled
            trace_state = parent.trace_state
        else:
            keep = trace_id & _LOW_64_BITS < self.bound(parent_context)
            trace_state = None
        if keep:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, trace_state)
        return SamplingResult(Decision.DROP, None, trace_state)

    def get_description(self) -> str:
        """Return the name with the ratios."""
        r = self._ratios
        return f"RolloutSampler{{stable={r.stable},canary={r.canary},baseline={r.baseline},none={r.none}}}"


def rollout_sampler(argument: str | None = None) -> RolloutSampler:
    """Return the sampler that OpenTelemetry's ``OTEL_TRACES_SAMPLER=rollout`` asks for.

    Args:
        argument: value of ``OTEL_TRACES_SAMPLER_ARG`` (`Ratios.parse`); ``None`` as the empty text.

    Raises:
        ConfigurationError: it has no ratios. OpenTelemetry logs that and keeps every trace; `instrument()`
            raises.
    """
    return RolloutSampler(Ratios.parse(argument or "", "OTEL_TRACES_SAMPLER_ARG"))


def sampler_for(ratios: Ratios) -> Sampler:
    """Return the cheapest sampler that keeps these shares."""
    return ParentBasedTraceIdRatio(ratios.stable) if ratios.uniform else RolloutSampler(ratios)
