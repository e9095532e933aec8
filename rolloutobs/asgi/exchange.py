"""One request: the ``receive`` and ``send`` that the app is given.

The order of things: read the headers, decide on sampling, count the request as in flight, run the app; at the
last message of the answer take the time, read the route and count; after the app has returned end what is
still open. All recording runs in guards that count and log; what the app does and answers is never touched.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from time import perf_counter, time_ns

from opentelemetry.trace import Span, StatusCode

from rolloutobs import semconv
from rolloutobs.asgi.types import Message, Receive, Scope, Send, headers_of
from rolloutobs.asgi.wrapper import Wrapper
from rolloutobs.http.app import ERROR_KEY, SCOPE_KEY
from rolloutobs.http.attributes import error_type, span_method, status_attributes
from rolloutobs.http.contrib import name_by_route
from rolloutobs.http.metrics import Outcome, exemplify
from rolloutobs.http.responding import responded
from rolloutobs.http.server_timing import FROM_SCRIPT, HTML, SAME_ORIGIN, is_shared
from rolloutobs.telemetry.current import context_calls
from rolloutobs.telemetry.error_counts import record_exception
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.propagation import NOTHING
from rolloutobs.telemetry.traces import UnsampledSpan

__all__ = ["Exchange"]

_get_current, _attach, _detach = context_calls()
# Source: nginx, ngx_http_request.h.
CLIENT_CLOSED_REQUEST = 499
INTERNAL_SERVER_ERROR = 500
REDIRECTS = frozenset({307, 308})
"""Of routers that add a slash to a path, or take one away."""
_COMPLETE, _BODY, _TRAILERS, _ENDING = 0, 1, 2, 3
"""What an answer still waits for: nothing, the end of its body, the trailers after it, the server to have
taken its last message."""


class Exchange:
    """One request and its answer: the ``receive`` and ``send`` of the app, and what is known so far.

    Few attributes and few calls: this class is most of what a request costs (``bench/overhead.py``).
    """

    __slots__ = (
        "_ended_ns",
        "_gone",
        "_inbound",
        "_method",
        "_open",
        "_receive",
        "_scope",
        "_send",
        "_span",
        "_start",
        "_status",
        "_token",
        "_wrapper",
    )

    def __init__(self, wrapper: Wrapper, scope: Scope, receive: Receive, send: Send) -> None:
        self._start = perf_counter()
        self._wrapper = wrapper
        self._scope = scope
        self._receive = receive
        self._send = send
        self._status = 0
        self._ended_ns: int | None = None
        self._gone = False
        self._open = _BODY
        method = scope["method"]
        self._method = method if method in semconv.METHODS else semconv.METHOD_OTHER
        scope[SCOPE_KEY] = True
        inbound, span, context = NOTHING, None, wrapper.base
        try:
            inbound = wrapper.extractor.extract(headers_of(scope))
            spans = wrapper.spans or wrapper.choose_spans()
            span, context = spans.start(scope, inbound, _get_current())
            if span is not None:
                # The keys by which the two frameworks keep themselves from tracing a request twice.
                scope["fastapi.telemetry"] = None
                scope["starlette.opentelemetry"] = True
        except Exception as error:
            # Metrics go on without a span: they need neither headers nor a sampler.
            wrapper.failures.record(Where.REQUEST, error)
        self._inbound = inbound
        self._span = span
        wrapper.http.in_flight.value += 1.0
        self._token = _attach(context)

    async def receive(self) -> Message:
        """Receive for the app; remember a client that is gone before its answer was complete."""
        message = await self._receive()
        try:
            if message["type"] == "http.disconnect" and self._open in (_BODY, _TRAILERS):
                # Not once the last message is on its way: Hypercorn says it before that one returns.
                self._gone = True
        except (KeyError, TypeError):
            # No message of ASGI: the app will say so, or not mind.
            pass
        return message

    async def send(self, message: Message) -> None:
        """Send for the app; the answer is complete with its last message."""
        try:
            kind = message["type"]
        except (KeyError, TypeError):
            # The server will say what is wrong with it.
            kind = ""
        ends = False
        if kind == "http.response.body":
            ends = self._open == _BODY and not message.get("more_body")
        elif kind == "http.response.start" and not self._status:
            # Else a second start, which the server refuses.
            message = self._started(message)
        elif self._open:
            ends = _is_last(kind, message)
        if ends:
            self._open = _ENDING
        try:
            await self._send(message)
        except OSError:
            # What servers raise when the client is gone. Source: ASGI HTTP message format 2.4.
            self._gone = True
            raise
        if ends:
            self._complete(self._status or INTERNAL_SERVER_ERROR, None)

    def _started(self, message: Message) -> Message:
        try:
            status = message["status"]
            self._status = status if status.__class__ is int else int(status)
            if message.get("trailers"):
                self._open = _TRAILERS
            headers = message.get("headers", ())
            if headers.__class__ is not list and headers.__class__ is not tuple:
                # One that can be read once only.
                headers = list(headers)
                message = {**message, "headers": headers}
            wrapper = self._wrapper
            if wrapper.sees_answers:
                message = self._seen(message)
            timing = wrapper.timing
            if timing is None:
                return message
            synthetic = self._inbound.synthetic
            told = synthetic or (_is_for_a_page(self._scope, headers) and not is_shared(headers))
            return timing.add(message, self._span, synthetic) if told else message
        except Exception as error:
            self._wrapper.failures.record(Where.REQUEST, error)
            return message

    def _seen(self, message: Message) -> Message:
        wrapper, span = self._wrapper, self._span
        wrapper.tag()
        if span is None:
            return message
        if wrapper.captured is not None and span.is_recording():
            span.set_attributes(wrapper.captured.of_response(message.get("headers", ())))
        if wrapper.responder is not None:
            added = responded(wrapper.responder, (), span)
            raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in added]
            return {**message, "headers": [*message.get("headers", ()), *raw]}
        return message

    def _complete(self, outcome: int, error: BaseException | None) -> None:
        """Take time and counts; called once, at the last message or when the app has returned without one.

        Args:
            outcome: the status to count: the one sent, or 500; 499 takes its place if the client was gone.
            error: what the app has raised.
        """
        self._open = _COMPLETE
        seconds = perf_counter() - self._start
        wrapper = self._wrapper
        wrapper.http.in_flight.value -= 1.0
        if self._gone:
            outcome = CLIENT_CLOSED_REQUEST
        try:
            scope = self._scope
            route = None
            if "app_root_path" not in scope and "fastapi" not in scope:
                # What `read` would return as well, for most requests of most apps.
                route = getattr(scope.get("route"), "path_format", None)
            if route is None:
                route = self._route(outcome)
            what: Outcome = (self._method, route, outcome, self._inbound.mark)
            if wrapper.by_scheme:
                what = (*what, scope.get("scheme", "http"))
            counter, histogram = wrapper.pairs.get(what) or wrapper.http.pair(what)
            counter.value += 1.0
            histogram.counts[bisect_left(histogram.bounds, seconds)] += 1.0
            histogram.sum += seconds
            span = self._span
            if span.__class__ is UnsampledSpan:
                self._span = None
            else:
                if wrapper.exemplars:
                    exemplify(histogram, span, seconds)
                self._finish(span, route, outcome, error)
        except Exception as failure:
            wrapper.failures.record(Where.REQUEST, failure)

    def _route(self, outcome: int) -> str:
        templates = self._wrapper.templates
        try:
            route = templates.read(self._scope)
            if not route and outcome in REDIRECTS:
                return templates.read_redirect(self._scope)
        except Exception as failure:
            # It is counted all the same.
            self._wrapper.failures.record(Where.REQUEST, failure)
            return ""
        return route

    def _finish(self, span: Span | None, route: str, outcome: int, error: BaseException | None) -> None:
        if span is None or not span.is_recording():
            self._span = None
            name_by_route(self._scope, self._method, route)
            return
        self._ended_ns = time_ns()
        self._describe(span, route, outcome)
        if outcome < INTERNAL_SERVER_ERROR and error is None:
            span.end(self._ended_ns)
            self._span = None
        # Else it stays open until the app has returned: Starlette sends a 500, then raises what is behind.

    def _describe(self, span: Span, route: str, outcome: int) -> None:
        # What the server sends in place of an answer that the app did not give.
        status = int(self._status) or (0 if self._gone else INTERNAL_SERVER_ERROR)
        if status:
            legacy = self._wrapper.settings.legacy_attributes
            span.set_attributes(status_attributes(status, legacy=legacy))
        if route:
            span.set_attribute("http.route", route)
            span.update_name(f"{span_method(self._method)} {route}")
        inbound = self._inbound
        if inbound.caller is not None:
            span.set_attributes(inbound.caller.attributes)
        if inbound.synthetic:
            span.set_attribute(semconv.ATTR_SYNTHETIC_TYPE, semconv.SYNTHETIC_TYPE_TEST)
        if outcome >= INTERNAL_SERVER_ERROR:
            span.set_attribute("error.type", str(int(outcome)))
            span.set_status(StatusCode.ERROR)

    def close(self, error: BaseException | None) -> None:
        """Complete what the app has left open, after it has returned or raised `error`."""
        try:
            _detach(self._token)
        except Exception as failure:
            # The task was torn down in another context, which ends with it.
            self._wrapper.failures.record(Where.REQUEST, failure)
        try:
            if self._status >= INTERNAL_SERVER_ERROR and error is None:
                # What the framework has made an answer of.
                error = self._scope.pop(ERROR_KEY, None)
            if self._open:
                # Returned without an end of the answer and the client still there: servers make a 500 or a
                # cut connection of it, so it counts as one, as does an exception in the middle of a stream.
                # Not so if the last message was given to the server: then only its return was cancelled.
                whole = self._open == _ENDING and error is None
                self._complete(
                    self._status or INTERNAL_SERVER_ERROR if whole else INTERNAL_SERVER_ERROR, error
                )
            if error is not None:
                record_exception(error, self._wrapper.hub, self._span)
        except Exception as failure:
            self._wrapper.failures.record(Where.REQUEST, failure)
        if self._span is not None:
            self._end(self._span, error)

    def _end(self, span: Span, error: BaseException | None) -> None:
        try:
            if error is not None:
                if not self._gone:
                    span.set_attribute("error.type", error_type(error))
                    span.set_status(StatusCode.ERROR)
                span.record_exception(error, escaped=True)
        except Exception as failure:
            # One that has no text, for example.
            self._wrapper.failures.record(Where.REQUEST, failure)
        try:
            span.end(self._ended_ns)
        except Exception as failure:
            self._wrapper.failures.record(Where.REQUEST, failure)


def _is_last(kind: str, message: Message) -> bool:
    """Return whether a message of an ASGI extension ends the answer."""
    if kind == "http.response.pathsend":
        return True
    if kind == "http.response.zerocopysend":
        return not message.get("more_body", False)
    return kind == "http.response.trailers" and not message.get("more_trailers", False)


def _is_for_a_page(scope: Scope, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether the answer with these `headers` is a page, or what a page's own script asked for."""
    for name, value in headers:
        # Names are in lower case, as ASGI demands.
        if name == b"content-type":
            if value.startswith(HTML):
                return True
            break
    asked = scope.get("headers", ())
    return FROM_SCRIPT in asked and SAME_ORIGIN in asked
