"""A sink that tells each rollout as one trace, once it has ended."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from rolloutobs import semconv
from rolloutobs._version import __version__
from rolloutobs.cluster.delivery import Attempt, Delivery, Outcome, Patience
from rolloutobs.cluster.model import Change
from rolloutobs.cluster.stories import Telling, root_id, span_id, spans_of, trace_id
from rolloutobs.errors import MissingExtraError
from rolloutobs.settings import Settings
from rolloutobs.telemetry.export import resource_of, span_exporter
from rolloutobs.telemetry.failures import Failures, Where

__all__ = ["TraceSink", "read_span", "trace_sink"]

_SERVICE: Final = "rolloutobs-watch"
"""``service.name``, where ``OTEL_SERVICE_NAME`` gives no other."""
_LINGER_SECONDS: Final = 10.0
"""For what is still on its way on another watch when a rollout ends: its last pods."""
_MOST_ROLLOUTS: Final = 2000
"""Under way at once."""
_MOST_CHANGES: Final = 5000
"""Of one rollout."""
_MOST_EVENTS: Final = 64
"""Different warnings of one rollout; of each the last time counts, as a pod that crashes does so for days."""
_MOST_TOLD: Final = 10_000
"""Rollouts of which is remembered that they have been told."""
_MOST_ATTEMPTS: Final = 20
"""With a receiver that takes others; one that is away is waited for. Exporters do not say which of the two it
is."""


@dataclass(slots=True)
class _Trace:
    """What waits to be sent."""

    spans: tuple[ReadableSpan, ...]
    before: int
    """How many traces had been taken when it came."""
    tries: int = 0


def trace_sink(environ: Mapping[str, str]) -> TraceSink | None:
    """Return what sends traces; ``None`` where no exporter for them is configured, or it is not installed.

    Raises:
        ConfigurationError: a variable has a value that cannot be used.
    """
    named = {"OTEL_SERVICE_NAME": _SERVICE, "ROLLOUTOBS_VERSION": __version__, **environ}
    settings = Settings.from_env(named)
    if not settings.export_traces:
        return None
    try:
        exporter = span_exporter(settings)
    except MissingExtraError as error:
        Failures().record(Where.EXPORT, error)
        return None
    return TraceSink(exporter, resource_of(settings))


@dataclass(slots=True)
class _Story:
    """What is known of a rollout that has not been told."""

    changes: list[Change] = field(default_factory=list)
    events: dict[str, Change] = field(default_factory=dict)
    """The last time of each Event of Kubernetes, by its uid."""
    attempt: int = 0
    """How often it had ended before and gone on."""
    timer: asyncio.TimerHandle | None = None
    """Runs once it has ended."""

    def add(self, change: Change, *, is_end: bool) -> bool:
        """Keep a change; return whether there was room for it. Events are examples, and none is missed."""
        event = change.event
        if event is not None:
            is_kept = event.uid in self.events or len(self.events) < _MOST_EVENTS
            if event.type == "Warning" and is_kept:
                self.events[event.uid] = change
            return True
        has_room = is_end or len(self.changes) < _MOST_CHANGES
        if has_room:
            self.changes.append(change)
        return has_room

    def wait(self) -> None:
        """It has not ended after all."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class TraceSink:
    """Sends one trace for each rollout that has ended, with the times of the objects.

    The trace's id and its spans' ids follow from the rollout's: a watcher that is restarted, or a second one,
    sends the same spans and no others.

    Args:
        exporter: sends spans; it may block, and is shut down with the sink.
        resource: who sends them.
        patience: how long and how many wait while the receiver is away.
        linger_seconds: how long a rollout that has ended is waited on for the rest of its pods.
    """

    name = "traces"

    def __init__(
        self,
        exporter: SpanExporter,
        resource: Resource,
        patience: Patience = Patience(most_waiting=200),  # noqa: B008 - frozen
        linger_seconds: float = _LINGER_SECONDS,
    ) -> None:
        self._exporter, self._resource, self._linger = exporter, resource, linger_seconds
        self._stories: OrderedDict[str, _Story] = OrderedDict()
        self._told: OrderedDict[str, int] = OrderedDict()
        """Attempt by id."""
        self._lost = self._taken = 0
        self._delivery: Delivery[_Trace] = Delivery("traces of rollouts", self._send, patience)

    @property
    def failures(self) -> int:
        """Attempts that have failed, traces that were lost, and changes that were too many to keep."""
        return self._delivery.failures + self._lost

    async def take(self, change: Change) -> None:
        """Keep a change until its rollout has ended."""
        story = self._story_of(change)
        rollout = change.rollout
        if story is None or rollout is None:
            return
        if not story.add(change, is_end=rollout.phase.is_end):
            self._lost += 1
        if change.event is not None or change.pod is not None:
            return
        story.wait()
        if rollout.phase.is_end:
            loop = asyncio.get_running_loop()
            story.timer = loop.call_later(self._linger, self._tell, rollout.id)

    async def close(self) -> None:
        """Send what has ended, within a few seconds."""
        for rollout, story in list(self._stories.items()):
            if story.timer is not None:
                story.timer.cancel()
                self._tell(rollout)
        await self._delivery.close()
        await asyncio.to_thread(self._exporter.shutdown)

    def _story_of(self, change: Change) -> _Story | None:
        """Return the story that a change belongs to; ``None``: to none that is still to be told."""
        rollout = change.rollout
        if rollout is None:
            return None
        story = self._stories.get(rollout.id)
        if story is not None:
            return story
        told = self._told.get(rollout.id)
        is_late = rollout.phase.is_end and (told is not None or change.pod is not None)
        if is_late or change.event is not None:
            # What had completed and is taken back later is told by the trace of what takes it back.
            return None
        story = _Story(attempt=0 if told is None else told + 1)
        self._stories[rollout.id] = story
        if len(self._stories) > _MOST_ROLLOUTS:
            _, dropped = self._stories.popitem(last=False)
            dropped.wait()
            self._lost += 1
        return story

    def _tell(self, rollout: str) -> None:
        story = self._stories.pop(rollout)
        self._told[rollout] = story.attempt
        while len(self._told) > _MOST_TOLD:
            self._told.popitem(last=False)
        tellings = spans_of([*story.changes, *story.events.values()], story.attempt)
        spans = tuple(read_span(each, rollout, self._resource) for each in tellings)
        self._delivery.put(f"{rollout}/{story.attempt}", _Trace(spans, self._taken))

    async def _send(self, trace: _Trace) -> Attempt:
        trace.tries += 1
        result = await asyncio.to_thread(self._exporter.export, trace.spans)
        if result is SpanExportResult.SUCCESS:
            self._taken += 1
            return Attempt(Outcome.TAKEN)
        if trace.tries < _MOST_ATTEMPTS or self._taken == trace.before:
            return Attempt(Outcome.LATER, "the receiver has not taken a trace")
        return Attempt(
            Outcome.REFUSED,
            f"the receiver takes others, but not this trace in {trace.tries} attempts; it is lost",
        )


_SCOPE: Final = InstrumentationScope("rolloutobs.rollout", __version__)
"""Of the watcher and of the gate: they tell the same trace."""


def read_span(telling: Telling, rollout: str, resource: Resource) -> ReadableSpan:
    """Return a span of the trace of `rollout` (a `Rollout.id`) as exporters take it."""
    return ReadableSpan(
        telling.name,
        context=_context(rollout, span_id(rollout, telling.key)),
        parent=_context(rollout, span_id(rollout, telling.parent)) if telling.parent else None,
        resource=resource,
        attributes=dict(telling.attributes),
        events=[Event(each.name, dict(each.attributes), _nanoseconds(each.time)) for each in telling.events],
        links=[
            Link(_context(link.rollout, root_id(link.rollout)), {semconv.ROLLOUT_ATTR_LINK: link.name})
            for link in telling.links
        ],
        kind=SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, telling.error) if telling.error else Status(StatusCode.UNSET),
        start_time=_nanoseconds(telling.start),
        end_time=_nanoseconds(telling.end),
        instrumentation_scope=_SCOPE,
    )


def _context(rollout: str, span: int) -> SpanContext:
    return SpanContext(trace_id(rollout), span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
