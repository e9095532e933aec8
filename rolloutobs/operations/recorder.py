"""Counting, timing and tracing of operations: one `Recorder` per process."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from time import time
from typing import Any

from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, TracerProvider

from rolloutobs import semconv
from rolloutobs.operations.carriers import Headers
from rolloutobs.operations.outcome import Kind, Outcome
from rolloutobs.operations.run import Run, Work, failed, get_current, identity_attributes
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry.cells import Exemplar
from rolloutobs.telemetry.hub import Hub
from rolloutobs.telemetry.logs import record_exception
from rolloutobs.telemetry.propagation import NOTHING, Extractor, Inbound
from rolloutobs.telemetry.traces import ServerSpans, UnsampledSpan

__all__ = ["Recorder", "begin", "count_only", "recorder"]

FROM_ZERO = (Outcome.OK, Outcome.ERROR)
"""Exposed at 0 from the first run on: else the first error is no increase to Prometheus."""
_SYNTHETIC = {True: semconv.SYNTHETIC_TRUE, False: ""}
# Source: OpenTelemetry semantic conventions, RPC and messaging spans; a job answers nobody.
_SPAN_KINDS: Mapping[Kind, SpanKind] = {
    Kind.GRPC: SpanKind.SERVER,
    Kind.TASK: SpanKind.CONSUMER,
    Kind.CONSUMER: SpanKind.CONSUMER,
    Kind.JOB: SpanKind.INTERNAL,
}


class _Spans(ServerSpans):
    """Spans of the kind of the work, where `ServerSpans` would make a server span."""

    other_kinds = True

    def _ask(self, tracer: trace.Tracer, scope: Mapping[str, Any], context: Context, kind: SpanKind) -> Any:
        if kind is SpanKind.SERVER:
            kind = _SPAN_KINDS[scope["work"].kind]
        return super()._ask(tracer, scope, context, kind)


class Recorder:
    """What is the same for every operation of a process.

    Args:
        hub: of the process.
        provider: where spans go; ``None``: the global provider, whenever one is set.
    """

    def __init__(self, hub: Hub, provider: TracerProvider | None = None) -> None:
        settings = hub.settings
        labels = (semconv.LABEL_KIND, semconv.LABEL_NAME, semconv.LABEL_OUTCOME, semconv.LABEL_SYNTHETIC)
        self._operations = hub.store.counter(
            semconv.APP_OPERATIONS_TOTAL,
            "Operations that have ended: gRPC calls, tasks, consumed messages and jobs.",
            labels,
            max_sets=settings.max_label_sets,
        )
        self._durations = hub.store.histogram(
            semconv.APP_OPERATION_DURATION_SECONDS,
            "Time from the begin of an operation to its end; of a stream, to its last message.",
            labels,
            settings.bounds,
            max_sets=settings.max_label_sets,
        )
        self._hub = hub
        self._cap = settings.max_label_sets
        self._exemplars = settings.exemplars
        self._seen: set[tuple[Kind, str, bool]] = set()
        self._extractor = Extractor(hub)
        # An empty base: an operation inside of a request speaks for the app of that request.
        self._spans = _Spans(provider, Context(), _named)

    def inbound(self, headers: Callable[[], Headers]) -> Inbound:
        """Return what headers carry; nothing where they cannot be read, which is counted."""
        try:
            return self._extractor.extract(headers())
        except Exception as error:
            failed(error)
            return NOTHING

    def begin(self, work: Work, inbound: Inbound = NOTHING) -> Run:
        """Return a run that has started now, and is not attached yet."""
        run = Run(self._count, work, inbound)
        try:
            self._start(run, get_current())
        except Exception as error:
            failed(error)
        return run

    def _start(self, run: Run, local: Context) -> None:
        inbound = run.inbound
        if local and not inbound.synthetic and _is_synthetic(local):
            run.inbound = inbound = inbound._replace(synthetic=True)
        self._expect((run.work.kind, run.work.name, inbound.synthetic))
        if not run.work.traced:
            return
        active = _adopted(run.work.adopts, local)
        if active is None:
            run.recorded_span, context = self._spans.start({"work": run.work}, inbound, local)
        else:
            run.adopt(active)
            context = Context({**(inbound.context or {}), **local})
        run.runs_in(context)

    def _expect(self, key: tuple[Kind, str, bool]) -> None:
        if key in self._seen:
            return
        if len(self._seen) < self._cap:
            self._seen.add(key)
        kind, name, synthetic = key
        for outcome in FROM_ZERO:
            self._operations.cell(kind.value, name, outcome.value, _SYNTHETIC[synthetic])

    def _count(self, run: Run, outcome: Outcome, seconds: float, error: BaseException | None) -> None:
        values = (run.work.kind.value, run.work.name, outcome.value, _SYNTHETIC[run.inbound.synthetic])
        self._operations.cell(*values).inc()
        cell = self._durations.cell(*values)
        cell.observe(seconds)
        span = run.recorded_span
        if self._exemplars and span is not None and span.__class__ is not UnsampledSpan:
            where = span.get_span_context()
            if where.trace_flags.sampled:
                cell.exemplify(Exemplar(where.trace_id, where.span_id, seconds, time()))
        if error is not None and outcome is Outcome.ERROR:
            record_exception(error, self._hub, run.span)

    def count_only(self, work: Work, outcome: Outcome) -> None:
        """Count an operation that has no run here: without a span, and without a duration."""
        self._expect((work.kind, work.name, False))
        self._operations.cell(work.kind.value, work.name, outcome.value, "").inc()


def _named(scope: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    work: Work = scope["work"]
    attributes = dict(work.attributes()) if work.attributes is not None else {}
    return work.span_name or work.name, {**attributes, **identity_attributes()}


def _is_synthetic(context: Context) -> bool:
    return baggage.get_baggage(semconv.BAGGAGE_SYNTHETIC, context) == semconv.BAGGAGE_SYNTHETIC_TEST


def _adopted(scope_name: str, local: Context) -> Span | None:
    """Return the active span if another instrumentation has made it for the same call."""
    if not scope_name or not local:
        return None
    active = trace.get_current_span(local)
    scope = getattr(active, "instrumentation_scope", None)
    return active if scope is not None and str(scope.name).startswith(scope_name) else None


_recorders: weakref.WeakKeyDictionary[Hub, Recorder] = weakref.WeakKeyDictionary()


def recorder() -> Recorder:
    """Return the recorder of this process, made on first use.

    Where no app is instrumented, identity, exporters and the metrics port are set up from the environment, as
    `instrument()` does it.

    Raises:
        ConfigurationError: no app is instrumented, and a variable has a value that cannot be used.
    """
    hub = hubs.process()
    found = _recorders.get(hub)
    if found is None:
        found = _recorders.setdefault(hub, Recorder(hub, hub.tracer_provider))
    return found


def begin(work: Work, headers: Callable[[], Headers] | None = None) -> Run:
    """Return a run that has started now, and is not attached yet; one that records nothing where that cannot
    be.

    Args:
        work: what is done.
        headers: gives what came along with the message or the call; ``None``: nothing did.
    """
    try:
        found = recorder()
    except Exception as error:
        failed(error)
        return Run(None, work)
    return found.begin(work, NOTHING if headers is None else found.inbound(headers))


def count_only(work: Work, outcome: Outcome) -> None:
    """Count an operation that ran elsewhere, or not at all; never raises."""
    try:
        recorder().count_only(work, outcome)
    except Exception as error:
        failed(error)
