"""One request: the ``start_response`` that the app is given, and what becomes of its answer.

A request lasts until the last part of its body was taken, which a server does after it has sent the part
before; where it stops earlier, the client has left. The app may compute each part when it is asked for, so it
runs in the request's context then, too, and whatever it has put into that context stays there.
"""

from __future__ import annotations

from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Span, StatusCode

from rolloutobs import semconv
from rolloutobs.http.app import ERROR_KEY, SCOPE_KEY
from rolloutobs.http.attributes import error_type, span_method, status_attributes
from rolloutobs.http.contrib import name_by_route
from rolloutobs.http.hooks import ROUTE_KEY
from rolloutobs.http.metrics import Outcome, exemplify
from rolloutobs.http.responding import responded
from rolloutobs.http.server_timing import HTML, is_shared
from rolloutobs.telemetry.current import context_calls
from rolloutobs.telemetry.error_counts import record_exception
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.propagation import NOTHING
from rolloutobs.telemetry.traces import UnsampledSpan
from rolloutobs.wsgi.types import Environ, Headers, StartResponse, Write

if TYPE_CHECKING:
    from rolloutobs.wsgi.wrapper import Wrapper

__all__ = ["Exchange"]

_get_current, _attach, _detach = context_calls()
# Source: nginx, ngx_http_request.h.
_CLIENT_CLOSED_REQUEST = 499
_INTERNAL_SERVER_ERROR = 500
_NO_CONTENT, _NOT_MODIFIED = 204, 304


class Exchange:
    """One request and its answer, and what is known so far. Used by one thread at a time."""

    __slots__ = (
        "_context",
        "_environ",
        "_gone",
        "_inbound",
        "_method",
        "_open",
        "_span",
        "_start",
        "_start_response",
        "_status",
        "_token",
        "_wrapper",
        "_write",
    )

    def __init__(self, wrapper: Wrapper, environ: Environ, start_response: StartResponse) -> None:
        self._start = perf_counter()
        self._wrapper = wrapper
        self._environ = environ
        self._start_response = start_response
        self._write: Write | None = None
        self._status = 0
        self._gone = False
        self._open = True
        method = environ["REQUEST_METHOD"]
        self._method = method if method in semconv.METHODS else semconv.METHOD_OTHER
        environ[SCOPE_KEY] = True
        self._inbound, context = NOTHING, wrapper.base
        self._span: Span | None = None
        try:
            self._inbound = wrapper.extractor.extract(wrapper.propagated.of(environ))
            spans = wrapper.spans or wrapper.choose_spans()
            self._span, context = spans.start(environ, self._inbound, _get_current())
        except Exception as error:
            # Metrics go on without a span: they need neither headers nor a sampler.
            wrapper.failures.record(Where.REQUEST, error)
        wrapper.http.began()
        self._context = context
        self._token: Any = None
        self.enter()

    def enter(self) -> None:
        """Go into the context of the request; each call is followed by `leave`, in the same thread."""
        self._token = _attach(self._context)

    def leave(self) -> None:
        """Go out of the context of the request; what the app has put into it is kept for the next time."""
        try:
            self._context = _get_current()
            _detach(self._token)
        except Exception as failure:
            # A greenlet or thread that is not the one that has entered: its context ends with it.
            self._wrapper.failures.record(Where.REQUEST, failure)

    def start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Write:
        """Start the answer for the app, with ``Server-Timing`` where it is told.

        Raises:
            what the server raises: `exc_info` itself where the headers are sent already.
        """
        told = self._told(status, headers)
        if exc_info is None:
            self._write = self._start_response(status, told)
        else:
            try:
                self._write = self._start_response(status, told, exc_info)
            finally:
                # Else the traceback and this frame would keep each other alive. Source: PEP 3333.
                exc_info = None
        # Only now: a second status that comes too late is not the one that was sent.
        self._status = _number(status)
        return self.write

    def write(self, data: bytes) -> object:
        """Write for the app; remember a client that is gone."""
        try:
            return self._write(data)  # type: ignore[misc]
        except OSError:
            self._gone = True
            raise

    def _told(self, status: str, headers: Headers) -> Headers:
        wrapper = self._wrapper
        try:
            if self._span is None:
                name_by_route(self._environ, self._method, self._environ.get(ROUTE_KEY, ""))
            if wrapper.sees_answers:
                headers = self._seen(headers)
            timing = wrapper.timing
            if timing is None or headers.__class__ is not list:
                # The server will say what is wrong with headers that are no list.
                return headers
            if self._inbound.synthetic or (
                _is_for_a_page(self._environ, headers) and not is_shared(_raw(headers))
            ):
                return [*headers, ("Server-Timing", timing.value(self._span, self._inbound.synthetic))]
        except Exception as error:
            wrapper.failures.record(Where.REQUEST, error)
        return headers

    def _seen(self, headers: Headers) -> Headers:
        wrapper, span = self._wrapper, self._span
        wrapper.tag()
        if span is None:
            return headers
        if wrapper.captured is not None and span.is_recording():
            span.set_attributes(wrapper.captured.of_response(_raw(headers)))
        return headers if wrapper.responder is None else responded(wrapper.responder, headers, span)

    def taken(self) -> None:
        """Complete the answer: all of its body was taken."""
        if self._open:
            # Without a status the server has nothing to send, and makes a 500 of it.
            self._complete(self._status or _INTERNAL_SERVER_ERROR, None)

    def closed(self) -> None:
        """Complete the answer that the server has closed before it was taken."""
        if not self._open:
            return
        if self._has_no_body():
            self._complete(self._status, None)
        else:
            self._gone = True
            self._complete(_CLIENT_CLOSED_REQUEST, None)

    def failed(self, error: BaseException) -> None:
        """Complete the answer of an app that has raised."""
        if self._open:
            self._complete(_INTERNAL_SERVER_ERROR, error)

    def _has_no_body(self) -> bool:
        # Source: RFC 9110, section 6.4.1; servers need not take the parts of such an answer.
        return self._status != 0 and (self._method == "HEAD" or self._status in (_NO_CONTENT, _NOT_MODIFIED))

    def _complete(self, outcome: int, error: BaseException | None) -> None:
        """Take time and counts; called once."""
        self._open = False
        seconds = perf_counter() - self._start
        wrapper = self._wrapper
        if self._gone:
            outcome = _CLIENT_CLOSED_REQUEST
        route = self._environ.get(ROUTE_KEY, "")
        try:
            what: Outcome = (self._method, route, outcome, self._inbound.mark)
            if wrapper.by_scheme:
                what = (*what, self._environ.get("wsgi.url_scheme", "http"))
            histogram = wrapper.http.ended(what, seconds)
            if wrapper.exemplars:
                exemplify(histogram, self._span, seconds)
        except Exception as failure:
            wrapper.failures.record(Where.REQUEST, failure)
        try:
            self._finish(route, outcome, error)
        except Exception as failure:
            wrapper.failures.record(Where.REQUEST, failure)

    def _finish(self, route: str, outcome: int, error: BaseException | None) -> None:
        if self._status >= _INTERNAL_SERVER_ERROR and error is None:
            # What the framework has made an answer of.
            error = self._environ.pop(ERROR_KEY, None)
        span = self._span
        if error is not None:
            record_exception(error, self._wrapper.hub, span)
        if span is None or span.__class__ is UnsampledSpan or not span.is_recording():
            return
        ended = time_ns()
        try:
            self._describe(span, route, outcome, error)
            if error is not None:
                # Last, as one that has no text raises another.
                span.record_exception(error, escaped=True)
        finally:
            span.end(ended)

    def _describe(self, span: Span, route: str, outcome: int, error: BaseException | None) -> None:
        if self._status or not self._gone:
            # Else what the server sends in place of the answer that the app did not give.
            legacy = self._wrapper.settings.legacy_attributes
            span.set_attributes(status_attributes(self._status or _INTERNAL_SERVER_ERROR, legacy=legacy))
        if route:
            span.set_attribute("http.route", route)
            span.update_name(f"{span_method(self._method)} {route}")
        inbound = self._inbound
        if inbound.caller is not None:
            span.set_attributes(inbound.caller.attributes)
        if inbound.synthetic:
            span.set_attribute(semconv.ATTR_SYNTHETIC_TYPE, semconv.SYNTHETIC_TYPE_TEST)
        if outcome >= _INTERNAL_SERVER_ERROR:
            span.set_attribute("error.type", str(outcome) if error is None else error_type(error))
            span.set_status(StatusCode.ERROR)


def _number(status: str) -> int:
    """Return the status as a number; 0 for what no server would send."""
    try:
        digits = status[:3]
        return int(digits) if digits.isascii() and digits.isdigit() else 0
    except (AttributeError, TypeError):
        return 0


def _raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


_HTML = tuple(kind.decode("ascii") for kind in HTML)


def _is_for_a_page(environ: Environ, headers: Headers) -> bool:
    """Return whether the answer with these `headers` is a page, or what a page's own script asked for."""
    if environ.get("HTTP_SEC_FETCH_DEST") == "empty" and environ.get("HTTP_SEC_FETCH_SITE") == "same-origin":
        return True
    return any(name.lower() == "content-type" and value.startswith(_HTML) for name, value in headers)
