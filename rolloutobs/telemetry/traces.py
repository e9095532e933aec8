"""Server spans on the OpenTelemetry API, and the processor that stamps every other span.

A request that is not sampled costs two random numbers and one object. That needs the sampling decision before
any attribute is computed, so for the samplers of the SDK it is made here, by their own rule; every other
sampler, and every other provider, is asked through ``start_span`` as usual.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import getrandbits
from typing import Any

from opentelemetry import trace
from opentelemetry.baggage import get_baggage
from opentelemetry.context import (
    _SUPPRESS_HTTP_INSTRUMENTATION_KEY,
    _SUPPRESS_INSTRUMENTATION_KEY,
    Context,
    get_current,
)
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

from rolloutobs import semconv
from rolloutobs._version import __version__
from rolloutobs.telemetry.callers import caller_of
from rolloutobs.telemetry.current import current
from rolloutobs.telemetry.propagation import Inbound
from rolloutobs.telemetry.sampling import RolloutSampler
from rolloutobs.telemetry.spans import RecordedSpan, recorded_span_class

__all__ = ["ServerSpans", "StampProcessor", "UnsampledSpan", "stamp_spans_of"]

SCOPE_NAME = "rolloutobs"
# Source: semantic conventions of the release that the attributes in `rolloutobs.http.attributes` follow.
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

_ALWAYS = 1 << 64
_NEVER = 0
_LOW_64_BITS = _ALWAYS - 1
# Reentrant: a finalizer that logs needs the context while it is made.
_making = threading.RLock()
_UNSAMPLED = TraceFlags(TraceFlags.DEFAULT)
_UNSAMPLED_RANDOM = TraceFlags(TraceFlags.RANDOM_TRACE_ID)

Describe = Callable[[Mapping[str, Any]], tuple[str, dict[str, Any]]]
"""Name and attributes of a request, from its ASGI scope; called for requests that may be recorded."""
Start = tuple[Span | None, Context]


class StampProcessor(SpanProcessor):
    """Puts ``app.version`` and ``rolloutobs.track`` on every span that is not ours (ours carry them from the
    start), and the caller on server spans that someone else makes.
    """

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        """Stamp `span` with the identity of the request that it belongs to, else of the process."""
        scope = span.instrumentation_scope
        if scope is not None and scope.name == SCOPE_NAME:
            return
        stamp = current(parent_context)
        if stamp is None:
            return
        span.set_attributes(stamp.attributes)
        if span.kind is SpanKind.SERVER:
            context = get_current() if parent_context is None else parent_context
            caller = caller_of(context)
            if caller is not None:
                span.set_attributes(caller.attributes)
            if get_baggage(semconv.BAGGAGE_SYNTHETIC, context) == semconv.BAGGAGE_SYNTHETIC_TEST:
                span.set_attribute(semconv.ATTR_SYNTHETIC_TYPE, semconv.SYNTHETIC_TYPE_TEST)


# By identity: not every provider can be hashed (Logfire's is a dataclass that compares).
_stamped_providers: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def stamp_spans_of(provider: object) -> None:
    """Add a `StampProcessor` to `provider`, once; a provider that takes no processors is left as it is."""
    add = getattr(provider, "add_span_processor", None)
    if callable(add) and id(provider) not in _stamped_providers:
        _stamped_providers[id(provider)] = provider
        add(StampProcessor())


@dataclass(frozen=True, slots=True)
class _Rule:
    """The decision of an SDK sampler as numbers: sampled if the low 64 bits of the trace id are below the
    bound.
    """

    tracer: SdkTracer
    sampler: Sampler
    root: int
    sampled_parent: int | None
    """Bound under a remote parent that is sampled; ``None``: the sampler does not look at the parent."""
    unsampled_parent: int | None
    ids: IdGenerator
    spans: type[RecordedSpan] | None
    """Makes the spans that are sampled; ``None``: the SDK does."""
    by_track: Callable[[Context | None], int] | None = None
    """Gives the bound of a new trace where it depends on the track; it takes the place of `root`."""

    def bound(self, parent: SpanContext) -> int:
        """Return the bound under a remote parent."""
        bound = self.sampled_parent if parent.trace_flags & TraceFlags.SAMPLED else self.unsampled_parent
        return self.root if bound is None else bound


def _bound(sampler: Sampler) -> int | None:
    if isinstance(sampler, StaticSampler):
        # Its subclasses in the SDK only fix the constructor's argument.
        return _ALWAYS if sampler._decision is Decision.RECORD_AND_SAMPLE else _NEVER
    return sampler.bound if type(sampler) is TraceIdRatioBased else None


def _rule(tracer: trace.Tracer) -> _Rule | None:
    """Return the rule of `tracer`, or ``None`` if it must be asked through ``start_span``."""
    try:
        if type(tracer) is not SdkTracer or not tracer._is_enabled():
            return None
        if type(tracer.id_generator) is not RandomIdGenerator:
            # Ids that are not plain random numbers (those of X-Ray start with the time) are left to their
            # generator.
            return None
        if type(tracer._tracer_metrics).__name__ != "NoOpTracerMetrics":
            # The SDK's own metrics count every span that is started, sampled or not.
            return None
        return _rule_of(tracer, tracer.sampler, recorded_span_class(tracer))
    except AttributeError:
        # A release of the SDK with other internals: slower, and right all the same.
        return None


def _rule_of(tracer: SdkTracer, sampler: Sampler, spans: type[RecordedSpan] | None) -> _Rule | None:
    if type(sampler) is RolloutSampler:
        return _Rule(tracer, sampler, _NEVER, _ALWAYS, _NEVER, tracer.id_generator, spans, sampler.bound)
    if not isinstance(sampler, ParentBased):
        root = _bound(sampler)
        return None if root is None else _Rule(tracer, sampler, root, None, None, tracer.id_generator, spans)
    if type(sampler).should_sample is not ParentBased.should_sample:
        return None
    inner = (sampler._root, sampler._remote_parent_sampled, sampler._remote_parent_not_sampled)
    root, sampled, unsampled = (_bound(part) for part in inner)
    if root is None or sampled is None or unsampled is None:
        return None
    return _Rule(tracer, sampler, root, sampled, unsampled, tracer.id_generator, spans)


class _GivenTraceId(IdGenerator):
    """Returns the trace id for which the decision was made, as samplers by ratio downstream decide by it
    again.
    """

    def __init__(self, trace_id: int, inner: IdGenerator) -> None:
        self._trace_id = trace_id
        self._inner = inner

    def generate_trace_id(self) -> int:
        return self._trace_id

    def generate_span_id(self) -> int:
        return self._inner.generate_span_id()

    def is_trace_id_random(self) -> bool:
        return self._inner.is_trace_id_random()


class UnsampledSpan(NonRecordingSpan):
    """A span that is not recorded; its context is made when something asks for it, which few requests do."""

    __slots__ = ("_low", "_made", "_parent")

    def __init__(self, low: int, parent: SpanContext | None = None) -> None:
        self._low = low
        self._parent = parent
        self._made: SpanContext | None = None

    def get_span_context(self) -> SpanContext:
        """Return the context, always the same one."""
        made = self._made
        return self._make() if made is None else made

    def _make(self) -> SpanContext:
        with _making:
            # Two threads that ask at once get the same.
            if self._made is None:
                made = self._new_context()
                if self._made is None:
                    self._made = made
            return self._made

    def _new_context(self) -> SpanContext:
        parent = self._parent
        if parent is None:
            trace_id, state, random = getrandbits(64) << 64 | self._low, None, True
        else:
            trace_id, state, random = parent.trace_id, parent.trace_state, parent.trace_flags.random_trace_id
        return SpanContext(
            # All zeros is not an id; it comes up once in 2 ** 64.
            trace_id or 1,
            getrandbits(64) or 1,
            is_remote=False,
            trace_flags=_UNSAMPLED_RANDOM if random else _UNSAMPLED,
            trace_state=state,
        )

    def __repr__(self) -> str:
        return f"NonRecordingSpan({self.get_span_context()!r})"


# Set around calls that must not be traced. Source: opentelemetry.instrumentation.utils.
_SUPPRESSED = (_SUPPRESS_INSTRUMENTATION_KEY, _SUPPRESS_HTTP_INSTRUMENTATION_KEY, "suppress_instrumentation")
# The key under which the API keeps the current span, learnt from the API.
(_SPAN_KEY,) = trace.set_span_in_context(trace.INVALID_SPAN, Context())


class ServerSpans:
    """Starts the server span of each request.

    Args:
        provider: where spans go; ``None``: the global provider, as soon as there is one.
        base: context of every request, to which baggage and span are added.
        describe: name and attributes of a request; not called where it is known not to be recorded.
    """

    other_kinds = False
    """Whether a subclass makes spans of other kinds, which the SDK then has to make."""

    def __init__(self, provider: trace.TracerProvider | None, base: Context, describe: Describe) -> None:
        self._given = provider
        self._base = base
        self._describe = describe
        self._tracer: trace.Tracer | None = None
        self._rule: _Rule | None = None
        if provider is not None:
            self._use(provider)

    def start(self, scope: Mapping[str, Any], inbound: Inbound, local: Context) -> Start:
        """Return the span of a request and the context to run it in; no span where no provider is set.

        Args:
            scope: ASGI scope, handed to `describe` if the span is recorded.
            inbound: what the headers carry.
            local: context of the caller of the app: empty under a server, not so in a call inside of the
            process.
        """
        rule = self._rule
        if rule is None or local or rule.tracer.sampler is not rule.sampler:
            return self._start_anywhere(scope, inbound, local)
        parent = inbound.parent
        if parent is None:
            low = getrandbits(64)
            by_track = rule.by_track
            if low >= (rule.root if by_track is None else by_track(self._base)):
                span = UnsampledSpan(low)
                if inbound.context is None:
                    return span, Context({**self._base, _SPAN_KEY: span})
                return span, self._with(span, inbound, local)
            trace_id = getrandbits(64) << 64 | low or 1
            context = (
                self._base if inbound.context is None else self._with(trace.INVALID_SPAN, inbound, local)
            )
        else:
            trace_id = parent.trace_id
            if trace_id & _LOW_64_BITS >= rule.bound(parent):
                span = UnsampledSpan(0, parent)
                return span, self._with(span, inbound, local)
            context = self._context(inbound, local)
        return self._record(rule, trace_id, scope, parent, context)

    def _record(
        self,
        rule: _Rule,
        trace_id: int,
        scope: Mapping[str, Any],
        parent: SpanContext | None,
        context: Context,
    ) -> Start:
        """Begin a span of which it is decided that it is sampled."""
        make = rule.spans
        if make is None or self.other_kinds or make.made_for is not rule.tracer.resource:
            ids = rule.ids if parent is not None else _GivenTraceId(trace_id, rule.ids)
            return self._ask(_decided(rule, ids), scope, context, SpanKind.SERVER)
        name, attributes = self._describe(scope)
        span = make.begin(name, (trace_id, getrandbits(64) or 1), parent, attributes, context)
        return span, Context({**context, _SPAN_KEY: span})

    def _start_anywhere(self, scope: Mapping[str, Any], inbound: Inbound, local: Context) -> Start:
        tracer = self._tracer or self._resolve()
        context = self._context(inbound, local)
        if tracer is None or any(local.get(key) for key in _SUPPRESSED):
            return None, context
        kind = SpanKind.SERVER
        outer = trace.get_current_span(local)
        if _is_parent(outer, inbound.parent):
            context = trace.set_span_in_context(outer, context)
            # What is around us has a server span already, or may have (the kind of an unsampled one is not
            # known): then ours is a part of it, so that there is one server span.
            if getattr(outer, "kind", SpanKind.SERVER) is SpanKind.SERVER:
                kind = SpanKind.INTERNAL
        return self._ask(tracer, scope, context, kind)

    def _ask(self, tracer: trace.Tracer, scope: Mapping[str, Any], context: Context, kind: SpanKind) -> Start:
        name, attributes = self._describe(scope)
        span = tracer.start_span(name, context, kind, attributes)
        return span, Context({**context, _SPAN_KEY: span})

    def _context(self, inbound: Inbound, local: Context) -> Context:
        """Return the context in which the SDK finds the remote parent, or none."""
        parent = trace.INVALID_SPAN if inbound.parent is None else NonRecordingSpan(inbound.parent)
        return self._with(parent, inbound, local)

    def _with(self, span: Span, inbound: Inbound, local: Context) -> Context:
        """Return the base context with `span`, and with what `local` and the headers carry."""
        carried = inbound.context
        if carried is None and not local:
            return Context({**self._base, _SPAN_KEY: span})
        return Context({**local, **(carried or {}), **self._base, _SPAN_KEY: span})

    def _resolve(self) -> trace.Tracer | None:
        if self._given is not None:
            return self._use(self._given)
        provider = trace.get_tracer_provider()
        return None if isinstance(provider, trace.ProxyTracerProvider) else self._use(provider)

    def _use(self, provider: trace.TracerProvider) -> trace.Tracer:
        stamp_spans_of(provider)
        tracer = provider.get_tracer(SCOPE_NAME, __version__, SCHEMA_URL)
        self._rule = _rule(tracer)
        self._tracer = tracer
        return tracer


def _decided(rule: _Rule, ids: IdGenerator) -> SdkTracer:
    """Return a copy of the tracer, with its processor and resource of this moment, for a request that is
    sampled.
    """
    tracer = SdkTracer.__new__(SdkTracer)
    tracer.__dict__.update(rule.tracer.__dict__)
    tracer.sampler = ALWAYS_ON
    tracer.id_generator = ids
    return tracer


def _is_parent(span: Span, remote: SpanContext | None) -> bool:
    """Return whether an active span of this process, and not the one in the headers, is the parent."""
    context = span.get_span_context()
    if not context.is_valid or context.is_remote:
        return False
    return remote is None or remote.trace_id == context.trace_id
