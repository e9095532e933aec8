"""The wrapper around an app, and the one object per request.

The order of things in a request: read the headers, decide on sampling, count it as in flight, run the app; at
the last message of the answer take the time, read the route and count; after the app has returned end what is
still open. All recording runs in guards that count and log; what the app does and answers is never touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter, time_ns
from typing import Any

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, StatusCode
from prometheus_client import REGISTRY

from rolloutobs import semconv
from rolloutobs.asgi.attributes import error_type, request_attributes, span_method
from rolloutobs.asgi.http_metrics import HttpMetrics
from rolloutobs.asgi.routes import RouteReader, known_routes
from rolloutobs.asgi.server_timing import ServerTiming, is_private_html
from rolloutobs.asgi.types import ASGIApp, Message, Receive, Scope, Send
from rolloutobs.settings import Settings
from rolloutobs.telemetry.current import Stamp, stamped
from rolloutobs.telemetry.export import flush
from rolloutobs.telemetry.failures import Failures, Where
from rolloutobs.telemetry.metrics import Exposition, exposition
from rolloutobs.telemetry.propagation import NOTHING, Extractor
from rolloutobs.telemetry.traces import ServerSpans, UnsampledSpan

__all__ = ["SCOPE_KEY", "Exchange", "Wrapper"]

SCOPE_KEY = "rolloutobs"
"""In the scope of every request that a wrapper has seen: an instrumented app that is mounted leaves it
alone.
"""
CLIENT_CLOSED_REQUEST = 499
# Source: nginx, ngx_http_request.h.
INTERNAL_SERVER_ERROR = 500
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
        attributes = request_attributes(scope)
        attributes.update(self.stamp.attributes)
        return span_method(scope.get("method", "")), attributes

    def excludes(self, scope: Scope) -> bool:
        """Return whether a request is not recorded: its path is excluded, or is that of the metrics."""
        if scope["path"] in self.special:
            return True
        root_path = scope.get("root_path")
        return bool(root_path) and scope["path"].removeprefix(root_path) in self.special

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
    """One request and its answer: the ``receive`` and ``send`` of the app, and what is known so far."""

    __slots__ = (
        "_active",
        "_done",
        "_ended_ns",
        "_error",
        "_gone",
        "_inbound",
        "_method",
        "_receive",
        "_scope",
        "_send",
        "_span",
        "_start",
        "_status",
        "_token",
        "_trailers",
        "_wrapper",
    )

    def __init__(self, wrapper: Wrapper, scope: Scope, receive: Receive, send: Send) -> None:
        self._start = perf_counter()
        self._wrapper = wrapper
        self._scope = scope
        self._receive = receive
        self._send = send
        self._status = self._ended_ns = 0
        self._done = self._gone = self._trailers = False
        self._error: BaseException | None = None
        method = scope.get("method", "")
        self._method: str = method if method in semconv.METHODS else semconv.METHOD_OTHER
        scope[SCOPE_KEY] = True
        # The keys by which the two frameworks keep themselves from tracing a request twice.
        scope["fastapi.telemetry"] = None
        scope["starlette.opentelemetry"] = True
        inbound = NOTHING
        span: Span | None = None
        try:
            inbound = wrapper.extractor.extract(scope["headers"])
            span, context = wrapper.spans.start(scope, inbound, get_current())
        except Exception as error:
            # Metrics go on without a span: they need neither headers nor a sampler.
            wrapper.failures.record(Where.REQUEST, error)
            context = wrapper.base
        self._inbound = inbound
        self._active = span
        self._span = None if span.__class__ is UnsampledSpan else span
        wrapper.http.in_flight.value += 1.0
        self._token = attach(context)

    async def receive(self) -> Message:
        """Receive for the app; remember a client that is gone before its answer was complete."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._done:
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
            if not (message.get("more_body") or self._trailers or self._done):
                self._complete(self._status)
        elif kind != "http.response.start" and _is_last(message) and not self._done:
            self._complete(self._status)

    def _started(self, message: Message) -> Message:
        try:
            self._status = message["status"]
            if "trailers" in message:
                self._trailers = message["trailers"]
            timing = self._wrapper.timing
            if timing is None:
                return message
            headers: Iterable[tuple[bytes, bytes]] = message.get("headers", ())
            if not isinstance(headers, (list, tuple)):
                headers = list(headers)
                message = {**message, "headers": headers}
            if self._inbound.synthetic or is_private_html(headers):
                return timing.add(message, None if self._active is None else self._active.get_span_context())
        except Exception as error:
            self._wrapper.failures.record(Where.REQUEST, error)
        return message

    def _complete(self, outcome: int) -> None:
        """Take time and counts; called once, at the last message or when the app has returned without one.

        Args:
            outcome: the status to count: the one sent, 499 or 500.
        """
        self._done = True
        wrapper = self._wrapper
        http = wrapper.http
        http.in_flight.value -= 1.0
        seconds = perf_counter() - self._start
        try:
            route = wrapper.routes.read(self._scope)
            http.record(self._method, route, outcome, self._inbound.synthetic, seconds)
            if self._span is not None and self._span.is_recording():
                self._ended_ns = time_ns()
                self._finish_span(self._span, route, outcome)
        except Exception as error:
            wrapper.failures.record(Where.REQUEST, error)

    def _finish_span(self, span: Span, route: str, outcome: int) -> None:
        attributes: dict[str, Any] = {}
        if self._status:
            attributes["http.response.status_code"] = int(self._status)
        if route:
            attributes["http.route"] = route
            span.update_name(f"{span_method(self._method)} {route}")
        inbound = self._inbound
        if inbound.caller is not None:
            attributes.update(inbound.caller.attributes)
        if inbound.synthetic:
            attributes[semconv.ATTR_SYNTHETIC_TYPE] = semconv.SYNTHETIC_TYPE_TEST
        if outcome >= INTERNAL_SERVER_ERROR:
            attributes["error.type"] = str(int(outcome))
            span.set_status(StatusCode.ERROR)
        span.set_attributes(attributes)
        if outcome < INTERNAL_SERVER_ERROR and self._error is None:
            span.end(self._ended_ns)
        # Else it stays open until the app has returned: Starlette sends a 500 first, then raises what is
        # behind it.

    def failed(self, error: BaseException) -> None:
        """Remember what the app has raised."""
        self._error = error

    def close(self) -> None:
        """Complete what the app has left open, after it has returned or raised."""
        detach(self._token)
        if not self._done:
            # Returned without an end of the answer and the client still there: servers make a 500 or a cut
            # connection of it, so it counts as one, as does an exception in the middle of a stream.
            self._complete(CLIENT_CLOSED_REQUEST if self._gone else INTERNAL_SERVER_ERROR)
        span = self._span
        if span is None or not span.is_recording():
            return
        try:
            if self._error is not None:
                span.record_exception(self._error, escaped=True)
                if not self._gone:
                    span.set_attribute("error.type", error_type(self._error))
                    span.set_status(StatusCode.ERROR)
            if not self._status and not self._gone:
                # What the server sends in place of the answer that the app did not give.
                span.set_attribute("http.response.status_code", INTERNAL_SERVER_ERROR)
            span.end(self._ended_ns or None)
        except Exception as error:
            self._wrapper.failures.record(Where.REQUEST, error)


def _is_last(message: Message) -> bool:
    """Return whether a message of an ASGI extension ends the answer."""
    kind = message["type"]
    if kind == "http.response.pathsend":
        return True
    if kind == "http.response.zerocopysend":
        return not message.get("more_body", False)
    return kind == "http.response.trailers" and not message.get("more_trailers", False)
