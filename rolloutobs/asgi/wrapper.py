"""The wrapper around an app, and the one object per request.

The order of things in a request: read the headers, decide on sampling, count it as in flight, run the app; at
the last message of the answer take the time, read the route and count; after the app has returned end what is
still open. All recording runs in guards that count and log; what the app does and answers is never touched.
"""

from __future__ import annotations

from bisect import bisect_left
from time import perf_counter, time_ns
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, StatusCode
from prometheus_client import REGISTRY

from rolloutobs import semconv
from rolloutobs.asgi.attributes import error_type, request_attributes, span_method
from rolloutobs.asgi.http_metrics import HttpMetrics
from rolloutobs.asgi.routes import RouteReader, known_routes
from rolloutobs.asgi.server_timing import HTML, ServerTiming, is_shared
from rolloutobs.asgi.types import ASGIApp, Message, Receive, Scope, Send
from rolloutobs.settings import Settings
from rolloutobs.telemetry.current import Stamp, context_calls, stamped
from rolloutobs.telemetry.export import flush
from rolloutobs.telemetry.failures import Failures, Where
from rolloutobs.telemetry.metrics import Exposition, exposition
from rolloutobs.telemetry.propagation import NOTHING, Extractor
from rolloutobs.telemetry.traces import ServerSpans, UnsampledSpan

__all__ = ["SCOPE_KEY", "Exchange", "Wrapper"]

_get_current, _attach, _detach = context_calls()
SCOPE_KEY = "rolloutobs"
"""In the scope of every request that a wrapper has seen: an instrumented app that is mounted leaves it
alone.
"""
CLIENT_CLOSED_REQUEST = 499
# Source: nginx, ngx_http_request.h.
INTERNAL_SERVER_ERROR = 500
_COMPLETE, _BODY, _TRAILERS = 0, 1, 2
"""What an answer still waits for: nothing, the end of its body, the trailers after it."""
_SHUTDOWN = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


class Wrapper:
    """What is the same for every request to one app; holds configuration and the app's counts.

    Args:
        app: the app inside.
        listed: object whose routes are listed for the counters that start from zero.
        settings: valid settings.
        provider: where spans go; ``None``: the global provider.
        failures: counts what fails.
        flushed: tracer provider to flush at the end of the lifespan; ``None`` where the app owns it.
    """

    def __init__(
        self,
        app: ASGIApp,
        listed: object,
        settings: Settings,
        provider: Any,
        failures: Failures,
        flushed: TracerProvider | None,
    ) -> None:
        self.app = app
        self.settings = settings
        self.failures = failures
        self.http = HttpMetrics(settings)
        self.in_flight, self.pairs = self.http.in_flight, self.http.pairs
        self.stamp = Stamp.of(settings.identity)
        self.base = stamped(self.stamp, Context())
        self.routes = RouteReader()
        self.extractor = Extractor()
        self.spans = ServerSpans(provider, self.base, self._describe)
        self.timing = ServerTiming(settings.identity) if settings.server_timing else None
        self.special = settings.excluded_paths | ({settings.metrics_path} if settings.metrics_path else set())
        self._listed = listed
        self._flushed = flushed

    def _describe(self, scope: Any) -> tuple[str, dict[str, Any]]:
        return span_method(scope["method"]), request_attributes(scope, self.stamp.attributes)

    def excludes(self, scope: Scope) -> bool:
        """Return whether a path below a root path is excluded, or is that of the metrics."""
        return str(scope["path"]).removeprefix(scope["root_path"]) in self.special

    async def unrecorded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer everything that is not recorded: metrics, excluded paths, websockets, lifespan."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send if self._flushed is None else self._flushing(send))
            return
        if scope["type"] == "http" and SCOPE_KEY not in scope:
            scope[SCOPE_KEY] = None
            # Excluded means excluded from FastAPI's own telemetry too.
            scope["fastapi.telemetry"] = None
            scope["starlette.opentelemetry"] = True
            if self._asks_for_metrics(scope):
                await self._send_metrics(scope, send)
                return
        await self.app(scope, receive, send)

    def _flushing(self, send: Send) -> Send:
        async def flushing(message: Message) -> None:
            # Before the message, not after: servers exit as soon as they have it, uvicorn by the signal that
            # it got.
            if message["type"] in _SHUTDOWN and self._flushed is not None:
                flush(self._flushed)
            await send(message)

        return flushing

    def _asks_for_metrics(self, scope: Scope) -> bool:
        path: str = scope.get("path", "")
        wanted = self.settings.metrics_path
        if wanted is None or scope.get("method") not in ("GET", "HEAD"):
            return False
        return path == wanted or path.removeprefix(scope.get("root_path", "")) == wanted

    async def _send_metrics(self, scope: Scope, send: Send) -> None:
        accept = b",".join(value for name, value in scope.get("headers", ()) if name == b"accept")
        answer = self.render(accept.decode("latin-1"))
        headers = [
            (b"content-type", answer.content_type.encode("ascii")),
            (b"content-length", str(len(answer.body)).encode("ascii")),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    def render(self, accept: str = "") -> Exposition:
        """Return every metric of the process, stamped with the identity of this app."""
        try:
            routes = known_routes(self._listed)
            self.http.expect(pair for pair in routes if pair[1] not in self.special)
        except Exception as error:
            self.failures.record(Where.METRICS, error)
        sources = (self.http, self.failures.family, REGISTRY)
        return exposition(sources, self.settings.identity, accept, self.failures)


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
        # The keys by which the two frameworks keep themselves from tracing a request twice.
        scope["fastapi.telemetry"] = None
        scope["starlette.opentelemetry"] = True
        inbound, span, context = NOTHING, None, wrapper.base
        try:
            inbound = wrapper.extractor.extract(scope["headers"])
            span, context = wrapper.spans.start(scope, inbound, _get_current())
        except Exception as error:
            # Metrics go on without a span: they need neither headers nor a sampler.
            wrapper.failures.record(Where.REQUEST, error)
        self._inbound = inbound
        self._span = span
        wrapper.in_flight.value += 1.0
        self._token = _attach(context)

    async def receive(self) -> Message:
        """Receive for the app; remember a client that is gone before its answer was complete."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and self._open:
            self._gone = True
        return message

    async def send(self, message: Message) -> None:
        """Send for the app; the answer is complete with its last message."""
        kind = message["type"]
        if kind == "http.response.start":
            message = self._started(message)
        try:
            await self._send(message)
        except OSError:
            # What servers raise when the client is gone. Source: ASGI HTTP message format 2.4.
            self._gone = True
            raise
        if kind == "http.response.body":
            if self._open == _BODY and not message.get("more_body"):
                self._complete(self._status, None)
        elif kind != "http.response.start" and self._open and _is_last(message):
            self._complete(self._status, None)

    def _started(self, message: Message) -> Message:
        try:
            self._status = message["status"]
            if message.get("trailers"):
                self._open = _TRAILERS
            timing = self._wrapper.timing
            if timing is None:
                return message
            headers = message.get("headers", ())
            if headers.__class__ is not list:
                headers = list(headers)
                message = {**message, "headers": headers}
            for name, value in headers:
                # Names are in lower case, as ASGI demands.
                if name == b"content-type":
                    told = value.startswith(HTML) and not is_shared(headers)
                    return timing.add(message, self._span) if told or self._inbound.synthetic else message
            return timing.add(message, self._span) if self._inbound.synthetic else message
        except Exception as error:
            self._wrapper.failures.record(Where.REQUEST, error)
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
        wrapper.in_flight.value -= 1.0
        if self._gone:
            outcome = CLIENT_CLOSED_REQUEST
        try:
            scope = self._scope
            route = None
            if "app_root_path" not in scope and "fastapi" not in scope:
                # What `read` would return as well, for most requests of most apps.
                route = getattr(scope.get("route"), "path_format", None)
            if route is None:
                route = wrapper.routes.read(scope)
            what = (self._method, route, outcome, self._inbound.synthetic)
            counter, histogram = wrapper.pairs.get(what) or wrapper.http.pair(what)
            counter.value += 1.0
            histogram.counts[bisect_left(histogram.bounds, seconds)] += 1
            histogram.sum += seconds
            span = self._span
            if span.__class__ is UnsampledSpan or span is None or not span.is_recording():
                self._span = None
                return
            self._ended_ns = time_ns()
            self._describe(span, route, outcome)
            if outcome < INTERNAL_SERVER_ERROR and error is None:
                span.end(self._ended_ns)
                self._span = None
            # Else it stays open until the app has returned: Starlette sends a 500, then raises what is
            # behind.
        except Exception as failure:
            wrapper.failures.record(Where.REQUEST, failure)

    def _describe(self, span: Span, route: str, outcome: int) -> None:
        if self._status:
            span.set_attribute("http.response.status_code", int(self._status))
        elif not self._gone:
            # What the server sends in place of the answer that the app did not give.
            span.set_attribute("http.response.status_code", INTERNAL_SERVER_ERROR)
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
        if self._open:
            # Returned without an end of the answer and the client still there: servers make a 500 or a cut
            # connection of it, so it counts as one, as does an exception in the middle of a stream.
            self._complete(INTERNAL_SERVER_ERROR, error)
        if self._span is not None:
            self._end(self._span, error)

    def _end(self, span: Span, error: BaseException | None) -> None:
        try:
            if error is not None:
                span.record_exception(error, escaped=True)
                if not self._gone:
                    span.set_attribute("error.type", error_type(error))
                    span.set_status(StatusCode.ERROR)
            span.end(self._ended_ns)
        except Exception as failure:
            self._wrapper.failures.record(Where.REQUEST, failure)


def _is_last(message: Message) -> bool:
    """Return whether a message of an ASGI extension ends the answer."""
    kind = message["type"]
    if kind == "http.response.pathsend":
        return True
    if kind == "http.response.zerocopysend":
        return not message.get("more_body", False)
    return kind == "http.response.trailers" and not message.get("more_trailers", False)
