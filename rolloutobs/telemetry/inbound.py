"""What the headers of a request carry: the trace, the app's baggage, who called, and whether it is synthetic.

Any bytes give an `Inbound`. What of it counts is decided in `rolloutobs.telemetry.trust`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_plus

from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagate import get_global_textmap
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from opentelemetry.trace import DEFAULT_TRACE_STATE, SpanContext, TraceFlags, TraceState, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rolloutobs.telemetry.trust import NOTHING, OWN_KEYS, Inbound, Judged, Trust

if TYPE_CHECKING:
    from rolloutobs.telemetry.hub import Hub

__all__ = ["Extractor"]

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case, as ASGI demands."""

# Source: W3C Trace Context level 2, section 3.2.2 (version 00; anything else goes to the propagator itself).
_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_FLAGS = {b"%02x" % number: TraceFlags(number) for number in range(256)}
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16
# Source: W3C Baggage, section 3.3.1 (baggage-octet, and properties after ";") and RFC 9110 (token).
_BAGGAGE_KEY = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAGGAGE_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e \t]*")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Source: W3C Baggage, section 3.3.2, limits.
_MAX_BAGGAGE_BYTES = 8192
_MAX_BAGGAGE_MEMBERS = 180
# Source: opentelemetry's own limit; a longer list is dropped, as there.
_MAX_TRACESTATE_BYTES = 8192
_MAX_KNOWN = 256
_MAX_KNOWN_BYTES = 768
_W3C = [TraceContextTextMapPropagator, W3CBaggagePropagator]
_PROPAGATED = frozenset({b"traceparent", b"tracestate", b"baggage"})
_TRACE_CONTEXT = TraceContextTextMapPropagator()


class _RawHeaders(Getter[Headers]):
    def get(self, carrier: Headers, key: str) -> list[str] | None:
        wanted = key.lower().encode("latin-1", "replace")
        values = [value.decode("latin-1") for name, value in carrier if name == wanted]
        if len(values) > 1 and wanted == b"baggage":
            # The baggage propagator reads the first header only; RFC 9110 section 5.3 joins them.
            return [",".join(values)]
        return values or None

    def keys(self, carrier: Headers) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


_RAW_HEADERS = _RawHeaders()


class Extractor:
    """Reads `Inbound` from raw headers.

    Where the global propagator is the default pair (``tracecontext``, ``baggage``) the headers are read in
    one pass; any other goes through its own ``extract``. Both give the same result.

    Args:
        hub: of the app that is called; ``None``: no secret, everything is believed.
        clock: Unix time in seconds.
    """

    def __init__(self, hub: Hub | None = None, clock: Callable[[], float] = time.time) -> None:
        self._trust = Trust(hub, clock)
        self._seen: TextMapPropagator | None = None
        self._is_w3c = False
        self._known: dict[bytes, Judged] = {}

    def extract(self, headers: Headers) -> Inbound:
        """Return what `headers` carry; headers that are not valid count as absent."""
        textmap = get_global_textmap()
        if textmap is not self._seen:
            self._is_w3c = _is_w3c(textmap)
            self._seen = textmap
        if not self._is_w3c:
            return self._generic(textmap, headers)
        for name, _ in headers:
            if name in _PROPAGATED:
                return self._from_w3c([item for item in headers if item[0] in _PROPAGATED])
        return NOTHING

    def _from_w3c(self, found: Headers) -> Inbound:
        by_name: dict[bytes, bytes] = dict(found)
        if len(by_name) == len(found):
            carried = by_name.get(b"baggage")
            parent = _parent(by_name, found)
        else:
            # RFC 9110 section 5.3 joins lists; which of two traces is meant is the propagator's business.
            carried = b",".join(value for name, value in found if name == b"baggage")
            parent = _valid(_TRACE_CONTEXT.extract(found, Context(), _RAW_HEADERS))
        if not carried:
            return Inbound(parent) if parent is not None else NOTHING
        inbound = self._read(carried)
        if parent is None:
            return inbound
        return Inbound._make((parent, *inbound[1:]))

    def _read(self, carried: bytes) -> Inbound:
        """Return what a ``baggage`` header carries."""
        # The same callers send the same few headers over and over.
        known = self._known.get(carried)
        if known is None or (known.expires is not None and known.expires <= self._trust.clock()):
            known = self._trust.judge(_parse_baggage(carried), Context())
            if len(carried) <= _MAX_KNOWN_BYTES:
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[carried] = known
        if known.doubt is not None:
            self._trust.count(known.doubt)
        return known.inbound

    def _generic(self, textmap: TextMapPropagator, headers: Headers) -> Inbound:
        # Past `IdentityPropagator.extract`, which would judge as well.
        inner: TextMapPropagator = getattr(textmap, "inner", textmap)
        context = inner.extract(headers, context=Context(), getter=_RAW_HEADERS)
        parent = _valid(context)
        entries = {name: str(value) for name, value in baggage.get_all(context).items()}
        if not OWN_KEYS.isdisjoint(entries):
            raw = _parse_baggage(b",".join(value for name, value in headers if name == b"baggage"))
            entries |= {name: value for name, value in raw.items() if name in OWN_KEYS}
        known = self._trust.judge(entries, context)
        if known.doubt is not None:
            self._trust.count(known.doubt)
        inbound = known.inbound
        return Inbound(parent, inbound.context, inbound.caller, inbound.synthetic, inbound.mark)


def _is_w3c(textmap: TextMapPropagator) -> bool:
    inner = getattr(textmap, "inner", textmap)
    parts = getattr(inner, "_propagators", None) if type(inner) is CompositePropagator else None
    return parts is not None and [type(part) for part in parts] == _W3C


def _valid(context: Context) -> SpanContext | None:
    parent = get_current_span(context).get_span_context()
    return parent if parent.is_valid else None


def _parent(by_name: Mapping[bytes, bytes], found: Headers) -> SpanContext | None:
    traceparent = by_name.get(b"traceparent")
    if traceparent is None:
        return None
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return _valid(_TRACE_CONTEXT.extract(found, Context(), _RAW_HEADERS))
    trace_id, span_id, flags = match.groups()
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    tracestate = by_name.get(b"tracestate")
    if tracestate is None:
        # What SpanContext(...) makes of these: the regular expression has checked what it would.
        ids = (int(trace_id, 16), int(span_id, 16))
        return tuple.__new__(SpanContext, (*ids, True, _FLAGS[flags], DEFAULT_TRACE_STATE, True))
    state = tracestate.decode("latin-1") if tracestate and len(tracestate) <= _MAX_TRACESTATE_BYTES else None
    return SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(flags, 16)),
        trace_state=TraceState.from_header([state]) if state else None,
    )


def _parse_baggage(header: bytes) -> dict[str, str]:
    """Return the entries; those that are not valid are left out. Our own keys are percent-decoded only."""
    if len(header) > _MAX_BAGGAGE_BYTES:
        return {}
    entries: dict[str, str] = {}
    for member in header.decode("latin-1").split(",", _MAX_BAGGAGE_MEMBERS)[:_MAX_BAGGAGE_MEMBERS]:
        name, equals, value = member.partition("=")
        name, value = name.strip(" \t"), value.strip(" \t")
        if not equals or not _BAGGAGE_KEY.fullmatch(name) or not _BAGGAGE_VALUE.fullmatch(value):
            continue
        if name in OWN_KEYS:
            # A "+" is a "+" here ("1.2.0+build.5"); form encoding would read a blank.
            entries[name] = _percent_decoded(value.partition(";")[0].rstrip())
        else:
            entries[unquote_plus(name).strip()] = unquote_plus(value).strip()
    return entries


def _percent_decoded(text: str) -> str:
    """Return `text` decoded; the empty string if it is not percent-encoded UTF-8."""
    if "%" not in text:
        return text
    try:
        return "" if _BAD_PERCENT.search(text) else unquote(text, errors="strict")
    except UnicodeDecodeError:
        return ""
