"""A sampled server span of the OpenTelemetry SDK, without the detours by which the SDK makes one.

`RecordedSpan` is an `opentelemetry.sdk.trace.Span`: processors, exporters and code that asks `isinstance`
see no difference. A span that the SDK makes costs 61 us per request of an app, four times all else we do;
this one costs 24 (``bench/overhead``). What is different:

* What all spans of one tracer have in common is in a class made once per tracer, not set anew in each span.
* Attributes are a plain dict as long as they are known to be valid: ours are, and others of plain types.
  Any other value, and a full dict, make them the SDK's `BoundedAttributes`, which goes on from there.
* There are no lists of events and links before there is an event or a link.

Where the SDK's spans are not what this module knows (another release, tight limits), the SDK makes them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from time import time_ns
from typing import Any, ClassVar

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, Tracer, _Span
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import (
    DEFAULT_TRACE_STATE,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

__all__ = ["ENOUGH_ATTRIBUTES", "RecordedSpan", "recorded_span_class"]

# The SDK's own, so that what it says about a span that has ended is found where it always is.
_logger = logging.getLogger("opentelemetry.sdk.trace")
ENOUGH_ATTRIBUTES = 64
"""More than ours are; a limit below it is left to the SDK."""
_PLAIN = frozenset({str, int, float, bool})
_READABLE = (
    "_name",
    "_context",
    "_kind",
    "_instrumentation_info",
    "_instrumentation_scope",
    "_parent",
    "_start_time",
    "_end_time",
    "_attributes",
    "_events",
    "_links",
    "_resource",
    "_status",
)
_RECORDED = (
    "_sampler",
    "_trace_config",
    "_record_exception",
    "_set_status_on_exception",
    "_span_processor",
    "_limits",
    "_lock",
    "_record_end_metrics",
)
_FLAGS = {
    random: TraceFlags(TraceFlags.SAMPLED | (TraceFlags.RANDOM_TRACE_ID if random else 0))
    for random in (False, True)
}


class RecordedSpan(SdkSpan):
    """A server span; made by a class of `recorded_span_class`, with `begin`.

    Args:
        name: until the route is known.
        context: of this span.
        parent: remote parent; ``None``: this span begins its trace.
        attributes: valid ones of plain types, fewer than `ENOUGH_ATTRIBUTES`; the dict is kept.
    """

    _end_time: int | None = None
    _events: Any = ()
    _links: Any = ()
    _status = Status(StatusCode.UNSET)
    _trace_config = None
    _record_exception = True
    _set_status_on_exception = True
    _record_end_metrics = None
    made_for: ClassVar[Resource]
    """Resource of the tracer when the class was made; with another one it is out of date."""
    _most: float
    """Most attributes that the limits allow."""

    def __init__(
        self, name: str, context: SpanContext, parent: SpanContext | None, attributes: dict[str, Any]
    ) -> None:
        self._name = name
        self._context = context
        self._parent = parent
        self._attributes: Any = attributes
        self._lock = threading.Lock()
        self._start_time = time_ns()

    @classmethod
    def begin(
        cls,
        name: str,
        ids: tuple[int, int],
        parent: SpanContext | None,
        attributes: dict[str, Any],
        context: Context,
    ) -> RecordedSpan:
        """Return a span that has begun, sampled; processors have seen it.

        Args:
            name: until the route is known.
            ids: of trace and span, both valid.
            parent: remote parent; ``None``: this span begins its trace.
            attributes: see the class.
            context: in which it begins, for the processors.
        """
        random, state = (True, DEFAULT_TRACE_STATE) if parent is None else _inherited(parent)
        # What SpanContext(...) makes of them after checks that they pass.
        own = tuple.__new__(SpanContext, (*ids, False, _FLAGS[random], state, True))
        span = cls(name, own, parent, attributes)
        span._span_processor.on_start(span, parent_context=context)
        return span

    def set_attribute(self, key: str, value: Any) -> None:
        """Set one attribute, unless the span has ended."""
        with self._lock:
            if self._end_time is not None:
                _logger.warning("Setting attribute on ended span.")
            elif not self._plainly(key, value):
                self._bounded()[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set several attributes, unless the span has ended."""
        with self._lock:
            if self._end_time is not None:
                _logger.warning("Setting attribute on ended span.")
                return
            for key, value in attributes.items():
                if not self._plainly(key, value):
                    # Those before are set again, to the same values.
                    self._bounded()._set_items(attributes)
                    return

    def _plainly(self, key: str, value: Any) -> bool:
        attributes = self._attributes
        if (
            attributes.__class__ is dict
            and value.__class__ in _PLAIN
            and key.__class__ is str
            and key
            and len(attributes) < self._most
        ):
            attributes[key] = value
            return True
        return False

    def _bounded(self) -> BoundedAttributes:
        if self._attributes.__class__ is dict:
            limits = self._limits
            self._attributes = BoundedAttributes(
                limits.max_span_attributes,
                self._attributes,
                immutable=False,
                max_value_len=limits.max_span_attribute_length,
            )
        found: BoundedAttributes = self._attributes
        return found

    def _add_event(self, event: Any) -> None:
        if not self._events:
            # One list, whichever of two threads is first.
            self.__dict__.setdefault("_events", BoundedList(self._limits.max_events))
        super()._add_event(event)

    def _add_link(self, link: Any) -> None:
        if not self._links:
            self.__dict__.setdefault("_links", BoundedList(self._limits.max_links))
        super()._add_link(link)

    def _readable_span(self) -> ReadableSpan:
        span = ReadableSpan.__new__(ReadableSpan)
        span._name = self._name
        span._context = self._context
        span._kind = self._kind
        span._instrumentation_info = self._instrumentation_info
        span._instrumentation_scope = self._instrumentation_scope
        span._parent = self._parent
        span._start_time = self._start_time
        span._end_time = self._end_time
        span._attributes = self._attributes
        span._events = self._events
        span._links = self._links
        span._resource = self._resource
        span._status = self._status
        return span

    def end(self, end_time: int | None = None) -> None:
        """End the span once, and hand it to the processors.

        Args:
            end_time: nanoseconds since 1970; ``None``: now.
        """
        with self._lock:
            if self._end_time is not None:
                _logger.warning("Calling end() on an ended span.")
                return
            self._end_time = time_ns() if end_time is None else end_time
            if self._attributes.__class__ is not dict:
                self._attributes._immutable = True
        processor = self._span_processor
        processor._on_ending(self)
        processor.on_end(self._readable_span())


def _inherited(parent: SpanContext) -> tuple[bool, TraceState]:
    return parent.trace_flags.random_trace_id, parent.trace_state


def recorded_span_class(tracer: Tracer) -> type[RecordedSpan] | None:
    """Return the class of the server spans of `tracer`; ``None`` where the SDK has to make them.

    That is so where limits are tighter than what our attributes need, and where a span of the SDK holds
    anything that is not known here.
    """
    limits = tracer._span_limits
    most = limits.max_span_attributes
    if limits.max_span_attribute_length is not None or (most is not None and most < ENOUGH_ATTRIBUTES):
        return None
    own = SpanContext(1, 1, False)
    like = _Span("like", own, resource=tracer.resource, limits=limits, span_processor=SpanProcessor())
    if vars(like).keys() != {*_READABLE, *_RECORDED} or vars(like._readable_span()).keys() != {*_READABLE}:
        return None
    if not isinstance(like._events, BoundedList) or not isinstance(like._attributes, BoundedAttributes):
        return None
    common = {
        "_sampler": tracer.sampler,
        "_span_processor": tracer.span_processor,
        "_limits": limits,
        "_kind": SpanKind.SERVER,
        "_instrumentation_info": tracer.instrumentation_info,
        "_instrumentation_scope": tracer._instrumentation_scope,
        "_resource": tracer.resource,
        "made_for": tracer.resource,
        "_most": float("inf") if most is None else most,
        # As the SDK calls its own, in reprs and logs.
        "__qualname__": "_Span",
        "__module__": _Span.__module__,
    }
    return type("_Span", (RecordedSpan,), common)
