"""Server spans on the OpenTelemetry API, and the processor that stamps every other span.

A request that is not sampled costs two random numbers and one object. That needs the sampling decision before
any attribute is computed, so for the samplers of the SDK it is made here, by their own rule; every other
sampler, and every other provider, is asked through ``start_span`` as usual.
"""

from __future__ import annotations

import copy
import logging
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, StaticSampler, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

from rolloutobs._version import __version__
from rolloutobs.telemetry.current import current
from rolloutobs.telemetry.propagation import Inbound

__all__ = ["ServerSpans", "StampProcessor", "stamp_spans_of"]

SCOPE_NAME = "rolloutobs"
# Source: semantic conventions of the release that the attributes in `rolloutobs.asgi.attributes` follow.
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

_logger = logging.getLogger("rolloutobs")
_ALWAYS = 1 << 64
_NEVER = 0
_LOW_64_BITS = _ALWAYS - 1
_UNSAMPLED = TraceFlags(TraceFlags.DEFAULT)
_UNSAMPLED_RANDOM = TraceFlags(TraceFlags.RANDOM_TRACE_ID)

Describe = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Attributes of a request, from its ASGI scope; called for requests that are recorded."""
Start = tuple[Span | None, Context]


class StampProcessor(SpanProcessor):
    """Puts ``app.version`` and ``rolloutobs.track`` on every span that is not ours (ours carry them from the
    start).
    """

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        """Stamp `span` with the identity of the request that it belongs to, else of the process."""
        scope = span.instrumentation_scope
        if scope is not None and scope.name == SCOPE_NAME:
            return
        stamp = current(parent_context)
        if stamp is not None:
            span.set_attributes(stamp.attributes)


_stamped_providers: weakref.WeakSet[Any] = weakref.WeakSet()


def stamp_spans_of(provider: object) -> None:
    """Add a `StampProcessor` to `provider`, once; a provider that takes no processors is left as it is."""
    add = getattr(provider, "add_span_processor", None)
    if callable(add) and provider not in _stamped_providers:
        _stamped_providers.add(provider)
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
        if type(tracer._tracer_metrics).__name__ != "NoOpTracerMetrics":
            # The SDK's own metrics count every span that is started, sampled or not.
            return None
        sampler = tracer.sampler
        if not isinstance(sampler, ParentBased):
            root = _bound(sampler)
            return None if root is None else _Rule(tracer, sampler, root, None, None)
        if type(sampler).should_sample is not ParentBased.should_sample:
            return None
        inner = (sampler._root, sampler._remote_parent_sampled, sampler._remote_parent_not_sampled)
        root, sampled, unsampled = (_bound(part) for part in inner)
        if root is None or sampled is None or unsampled is None:
            return None
        return _Rule(tracer, sampler, root, sampled, unsampled)
    except AttributeError:
        # A release of the SDK with other internals: slower, and right all the same.
        return None


class _GivenTraceId(IdGenerator):
    """Returns the trace id for which the decision was made; everything else as the tracer's own generator."""

    def __init__(self, trace_id: int, inner: IdGenerator) -> None:
        self._trace_id = trace_id
        self._inner = inner

    def generate_trace_id(self) -> int:
        return self._trace_id

    def generate_span_id(self) -> int:
        return self._inner.generate_span_id()

    def is_trace_id_random(self) -> bool:
        return self._inner.is_trace_id_random()


class ServerSpans:
    """Starts the server span of each request.

    Args:
        provider: where spans go; ``None``: the global provider, as soon as there is one.
        base: context of every request, to which baggage and span are added.
        describe: attributes of a request that is recorded.
    """

    def __init__(self, provider: trace.TracerProvider | None, base: Context, describe: Describe) -> None:
        self._given = provider
        self._base = base
        self._describe = describe
        self._tracer: trace.Tracer | None = None
        self._rule: _Rule | None = None
        if provider is not None:
            self._use(provider)

    def start(self, name: str, scope: Mapping[str, Any], inbound: Inbound, local: Context) -> Start:
        """Return the span of a request and the context to run it in; no span where no provider is set.

        Args:
            name: method of the request; the route is not known yet.
            scope: ASGI scope, handed to `describe` if the span is recorded.
            inbound: what the headers carry.
            local: context of the caller of the app: empty under a server, not so in a call inside of the
            process.
        """
        tracer = self._tracer or self._resolve()
        context = self._context(inbound, local)
        if tracer is None:
            return None, context
        if local:
            outer = trace.get_current_span(local)
            if _is_parent(outer, inbound.parent):
                # What is around us has a server span already, or may have (the kind of an unsampled one is
                # not known): then ours is a part of it, so that there is one server span.
                kind = getattr(outer, "kind", SpanKind.SERVER)
                kind = SpanKind.INTERNAL if kind is SpanKind.SERVER else SpanKind.SERVER
                return self._ask(tracer, name, scope, trace.set_span_in_context(outer, context), kind)
        rule = self._rule
        if rule is None or rule.tracer.sampler is not rule.sampler:
            return self._ask(tracer, name, scope, context, SpanKind.SERVER)
        parent = inbound.parent
        if parent is None:
            return self._root(rule, name, scope, context)
        bound = rule.sampled_parent if parent.trace_flags.sampled else rule.unsampled_parent
        if bound is None:
            bound = rule.root
        if parent.trace_id & _LOW_64_BITS < bound:
            return self._ask(tracer, name, scope, context, SpanKind.SERVER)
        flags = _UNSAMPLED_RANDOM if parent.trace_flags.random_trace_id else _UNSAMPLED
        return self._unrecorded(rule, parent.trace_id, flags, context, parent)

    def _root(self, rule: _Rule, name: str, scope: Mapping[str, Any], context: Context) -> Start:
        ids = rule.tracer.id_generator
        trace_id = ids.generate_trace_id()
        if trace_id & _LOW_64_BITS >= rule.root:
            flags = _UNSAMPLED_RANDOM if ids.is_trace_id_random() else _UNSAMPLED
            return self._unrecorded(rule, trace_id, flags, context, None)
        # The same tracer, its processor and its resource of this moment, but the trace id that was drawn:
        # downstream samplers by ratio rely on it.
        tracer = copy.copy(rule.tracer)
        tracer.id_generator = _GivenTraceId(trace_id, ids)
        return self._ask(tracer, name, scope, context, SpanKind.SERVER)

    def _unrecorded(
        self, rule: _Rule, trace_id: int, flags: TraceFlags, context: Context, parent: SpanContext | None
    ) -> Start:
        span_context = SpanContext(
            trace_id,
            rule.tracer.id_generator.generate_span_id(),
            is_remote=False,
            trace_flags=flags,
            trace_state=parent.trace_state if parent is not None else None,
        )
        span = NonRecordingSpan(span_context)
        return span, trace.set_span_in_context(span, context)

    def _ask(
        self, tracer: trace.Tracer, name: str, scope: Mapping[str, Any], context: Context, kind: SpanKind
    ) -> Start:
        span = tracer.start_span(name, context, kind, self._describe(scope))
        return span, trace.set_span_in_context(span, context)

    def _context(self, inbound: Inbound, local: Context) -> Context:
        """Return the base context with what `local` and the headers carry; the remote parent is its span."""
        if inbound.context is None and not local:
            context = self._base
        else:
            context = Context({**local, **(inbound.context or {}), **self._base})
        if inbound.parent is not None:
            return trace.set_span_in_context(NonRecordingSpan(inbound.parent), context)
        return trace.set_span_in_context(trace.INVALID_SPAN, context) if local else context

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


def _is_parent(span: Span, remote: SpanContext | None) -> bool:
    """Return whether an active span of this process, and not the one in the headers, is the parent."""
    context = span.get_span_context()
    if not context.is_valid or context.is_remote:
        return False
    return remote is None or remote.trace_id == context.trace_id
