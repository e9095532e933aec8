"""Identity across processes: W3C ``traceparent`` and ``baggage``.

Outwards, `IdentityPropagator` wraps the global propagator, so that whatever injects headers (an OpenTelemetry
client instrumentation, ``propagate.inject``, `inject` below) also says which service, version and track is
calling. With a client that has no instrumentation::

    await client.get(url, headers=inject())          # httpx2, httpx, requests, aiohttp: any client

``opentelemetry-instrumentation-httpx`` from 0.66b2 on knows httpx2 (`HTTPX2ClientInstrumentor`); with it,
nothing is left to do. It adds a client span per call, `inject` does not.

Inwards, `Extractor` reads the caller and the trace. The three ``rolloutobs.*`` entries are taken out of the
baggage that the app sees: they speak of the caller, and are written anew at each hop. ``synthetic=test``
stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_plus

from opentelemetry import baggage, propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, get_current
from opentelemetry.propagate import get_global_textmap
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import (
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import SpanContext, TraceFlags, TraceState, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rolloutobs import semconv
from rolloutobs.identity import Track
from rolloutobs.telemetry.callers import with_caller
from rolloutobs.telemetry.current import current

__all__ = ["NOTHING", "Caller", "Extractor", "IdentityPropagator", "Inbound", "inject", "install_propagator"]

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case, as ASGI demands."""

# Source: W3C Trace Context level 2, section 3.2.2 (version 00; anything else goes to the propagator itself).
_TRACEPARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16
# Source: W3C Baggage, section 3.3.1 (baggage-octet, and properties after ";") and RFC 9110 (token).
_BAGGAGE_KEY = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAGGAGE_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e \t]*")
# Source: W3C Baggage, section 3.3.2, limits.
_MAX_BAGGAGE_BYTES = 8192
_MAX_BAGGAGE_MEMBERS = 180
# Source: opentelemetry's own limit; a longer list is dropped, as there.
_MAX_TRACESTATE_BYTES = 8192
_MAX_CALLER_CHARS = 128
_MAX_KNOWN = 256
_MAX_KNOWN_BYTES = 512
_TRACKS = frozenset(track.value for track in Track)
_W3C = [TraceContextTextMapPropagator, W3CBaggagePropagator]
_OWN_KEYS = frozenset({semconv.BAGGAGE_SERVICE, semconv.BAGGAGE_VERSION, semconv.BAGGAGE_TRACK})
_PROPAGATED = frozenset({b"traceparent", b"tracestate", b"baggage"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who called, as the caller says; what it does not say, or says badly, is the empty string."""

    service: str = ""
    version: str = ""
    track: str = ""

    @property
    def attributes(self) -> dict[str, str]:
        """Attributes of the server span."""
        pairs = (
            (semconv.ATTR_CALLER_SERVICE, self.service),
            (semconv.ATTR_CALLER_VERSION, self.version),
            (semconv.ATTR_CALLER_TRACK, self.track),
        )
        return {name: value for name, value in pairs if value}


@dataclass(frozen=True, slots=True)
class Inbound:
    """What the headers of one request carry."""

    parent: SpanContext | None = None
    """The remote parent, valid; ``None``: this request starts a trace."""
    context: Context | None = None
    """Baggage and whatever else a configured propagator reads; ``None``: nothing."""
    caller: Caller | None = None
    synthetic: bool = False


NOTHING = Inbound()


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
    """

    def __init__(self) -> None:
        self._seen: TextMapPropagator | None = None
        self._is_w3c = False
        self._known_baggage: dict[bytes, Inbound] = {}

    def extract(self, headers: Headers) -> Inbound:
        """Return what `headers` carry; headers that are not valid count as absent."""
        textmap = get_global_textmap()
        if textmap is not self._seen:
            self._is_w3c = _is_w3c(textmap)
            self._seen = textmap
        if not self._is_w3c:
            return _generic(textmap, headers)
        for name, _ in headers:
            if name in _PROPAGATED:
                return self._from_w3c(textmap, [item for item in headers if item[0] in _PROPAGATED])
        return NOTHING

    def _from_w3c(self, textmap: TextMapPropagator, found: Headers) -> Inbound:
        by_name: dict[bytes, bytes] = dict(found)
        if len(by_name) != len(found):
            return _generic(textmap, found)
        parent = None
        traceparent = by_name.get(b"traceparent")
        if traceparent is not None:
            match = _TRACEPARENT.fullmatch(traceparent)
            if match is None:
                return _generic(textmap, found)
            parent = _parent(match, by_name.get(b"tracestate"))
        carried = by_name.get(b"baggage")
        if carried is None:
            return Inbound(parent)
        # The same callers send the same few headers over and over.
        known = self._known_baggage.get(carried)
        if known is None:
            known = _with_baggage(None, _parse_baggage(carried), Context())
            if len(carried) <= _MAX_KNOWN_BYTES:
                if len(self._known_baggage) >= _MAX_KNOWN:
                    self._known_baggage.clear()
                self._known_baggage[carried] = known
        return Inbound(parent, known.context, known.caller, known.synthetic)


def _is_w3c(textmap: TextMapPropagator) -> bool:
    inner = textmap.inner if isinstance(textmap, IdentityPropagator) else textmap
    parts = getattr(inner, "_propagators", None) if type(inner) is CompositePropagator else None
    return parts is not None and [type(part) for part in parts] == _W3C


def _parent(match: re.Match[bytes], tracestate: bytes | None) -> SpanContext | None:
    trace_id, span_id, flags = match.groups()
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
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
        if name in _OWN_KEYS:
            # A "+" is a "+" here ("1.2.0+build.5"); form encoding would read a blank.
            entries[name] = unquote(value.partition(";")[0].rstrip())
        else:
            entries[unquote_plus(name).strip()] = unquote_plus(value).strip()
    return entries


def _generic(textmap: TextMapPropagator, headers: Headers) -> Inbound:
    context = textmap.extract(headers, context=Context(), getter=_RAW_HEADERS)
    parent = get_current_span(context).get_span_context()
    entries = {name: str(value) for name, value in baggage.get_all(context).items()}
    for name in _OWN_KEYS & entries.keys():
        context = baggage.remove_baggage(name, context)
    return _with_baggage(parent if parent.is_valid else None, entries, context)


def _with_baggage(parent: SpanContext | None, entries: dict[str, str], context: Context) -> Inbound:
    caller = _caller(entries)
    for name, value in entries.items():
        if name not in _OWN_KEYS:
            context = baggage.set_baggage(name, value, context)
    if caller is not None:
        # For log records; the span has it from `Inbound`.
        context = with_caller(caller, context)
    synthetic = entries.get(semconv.BAGGAGE_SYNTHETIC, "").partition(";")[0] == semconv.BAGGAGE_SYNTHETIC_TEST
    return Inbound(parent, context or None, caller, synthetic)


def _caller(entries: Mapping[str, str]) -> Caller | None:
    if _OWN_KEYS.isdisjoint(entries):
        return None
    track = entries.get(semconv.BAGGAGE_TRACK, "")
    return Caller(
        _word(entries.get(semconv.BAGGAGE_SERVICE, "")),
        _word(entries.get(semconv.BAGGAGE_VERSION, "")),
        track if track in _TRACKS else "",
    )


def _word(text: str) -> str:
    return text if len(text) <= _MAX_CALLER_CHARS and text.isprintable() else ""


class IdentityPropagator(TextMapPropagator):
    """Writes service, version and track of this process into the baggage that `inner` injects.

    Where `inner` carries no baggage (``OTEL_PROPAGATORS`` without ``baggage``) nothing is added.
    """

    def __init__(self, inner: TextMapPropagator) -> None:
        self.inner = inner

    def extract(
        self, carrier: Any, context: Context | None = None, getter: Getter[Any] = default_getter
    ) -> Context:
        """Extract with the inner propagator."""
        return self.inner.extract(carrier, context, getter)

    def inject(
        self, carrier: Any, context: Context | None = None, setter: Setter[Any] = default_setter
    ) -> None:
        """Inject with the inner propagator, the identity overwritten with our own."""
        if context is None:
            context = get_current()
        stamp = current(context)
        if stamp is not None:
            for name, value in stamp.baggage.items():
                if value:
                    context = baggage.set_baggage(name, value, context)
                else:
                    # An unknown track of ours must not go out as that of whoever called us.
                    context = baggage.remove_baggage(name, context)
        self.inner.inject(carrier, context, setter)

    @property
    def fields(self) -> set[str]:
        """Header names that may be set."""
        return self.inner.fields


def install_propagator() -> None:
    """Wrap the global propagator; does nothing when it is wrapped already."""
    textmap = get_global_textmap()
    if not isinstance(textmap, IdentityPropagator):
        propagate.set_global_textmap(IdentityPropagator(textmap))


def inject(headers: MutableMapping[str, str] | None = None) -> MutableMapping[str, str]:
    """Add ``traceparent`` and ``baggage`` of the running request to `headers`, and return them.

    Args:
        headers: of an outgoing request, changed in place (a dict, or the headers object of any HTTP client);
            ``None`` makes a dict.
    """
    carrier: MutableMapping[str, str] = {} if headers is None else headers
    propagate.inject(carrier)
    return carrier
