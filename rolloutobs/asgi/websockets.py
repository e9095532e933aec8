"""Websockets: connections counted by how they ended, timed, and one span each; none per message.

A connection lasts from its handshake until the first of these: the app has closed it, the app was told that
it is gone, the app has returned or raised.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from time import perf_counter, time_ns
from typing import TYPE_CHECKING

from opentelemetry.trace import Span, StatusCode

from rolloutobs import semconv
from rolloutobs.asgi.types import Message, Receive, Scope, Send, headers_of
from rolloutobs.http.app import SCOPE_KEY
from rolloutobs.http.attributes import error_type
from rolloutobs.telemetry.cells import CounterFamily, GaugeFamily, HistogramFamily
from rolloutobs.telemetry.current import context_calls
from rolloutobs.telemetry.error_counts import record_exception
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.hub import Hub
from rolloutobs.telemetry.propagation import NOTHING

if TYPE_CHECKING:
    from rolloutobs.asgi.wrapper import Wrapper

__all__ = ["Connection", "Outcome", "WebsocketMetrics"]

_get_current, _attach, _detach = context_calls()
_SWITCHING_PROTOCOLS = 101
_FORBIDDEN = 403
_INTERNAL_SERVER_ERROR = 500
# Source: RFC 6455, section 7.4.1: normal, going away (a page that is left), no code given.
_GOOD_CODES = frozenset({1000, 1001, 1005})
# Internal error, service restart, try again later, bad gateway. Source: the IANA registry of close codes.
_OUR_FAULT = frozenset({1011, 1012, 1013, 1014})
_FIRST_CODE_OF_APPS = 3000
_NO_CODE = 1005
_TOLD_GONE = "WebSocketDisconnect"


class Outcome(StrEnum):
    """How a connection ended: the label ``outcome`` of ``ws_connections_total``."""

    OK = "ok"
    """Closed by either side with a code that is no complaint (1000, 1001, none, or one of the app's own from
    3000 on), or by the app's return."""
    REJECTED = "rejected"
    """Refused by the app: at the handshake, or later with a code that blames the client (1002 to 1010)."""
    DISCONNECTED = "disconnected"
    """Lost: no closing handshake (1006), or a code from the other side that is a complaint."""
    ERROR = "error"
    """The app raised, answered the handshake with a 5xx or not at all, or closed with 1011 to 1014."""


def _of_sent_code(code: int) -> Outcome:
    if code in _GOOD_CODES or code >= _FIRST_CODE_OF_APPS:
        return Outcome.OK
    return Outcome.ERROR if code in _OUR_FAULT else Outcome.REJECTED


def _of_received_code(code: int) -> Outcome:
    return Outcome.OK if code in _GOOD_CODES or code >= _FIRST_CODE_OF_APPS else Outcome.DISCONNECTED


class WebsocketMetrics:
    """Counts the websocket connections of one app.

    Its metrics exist once there was a connection, or a route for one.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._families: tuple[CounterFamily, GaugeFamily, HistogramFamily] | None = None

    def _made(self) -> tuple[CounterFamily, GaugeFamily, HistogramFamily]:
        if self._families is None:
            labels = (semconv.LABEL_ROUTE, semconv.LABEL_OUTCOME, semconv.LABEL_SYNTHETIC)
            self._families = (
                self._hub.counter(
                    semconv.WS_CONNECTIONS_TOTAL, "Websocket connections that have ended, by how.", labels
                ),
                self._hub.gauge(semconv.WS_CONNECTIONS_ACTIVE, "Websocket connections that are open.", ()),
                self._hub.histogram(
                    semconv.WS_CONNECTION_DURATION_SECONDS,
                    "Time from the handshake to the end of a websocket connection.",
                    labels,
                    semconv.CONNECTION_BOUNDS,
                ),
            )
            self._families[1].cell()
        return self._families

    def opened(self) -> None:
        """Count a connection as open."""
        self._made()[1].cell().inc()

    def closed(self) -> None:
        """Count an open connection as no longer open."""
        self._made()[1].cell().inc(-1.0)

    def ended(self, route: str, outcome: Outcome, synthetic: bool, seconds: float) -> None:
        """Count a connection that has ended, open before or not, and how long it took."""
        counter, _, histogram = self._made()
        labels = (route, outcome.value, semconv.SYNTHETIC_TRUE if synthetic else "")
        counter.cell(*labels).inc()
        histogram.cell(*labels).observe(seconds)

    def expect(self, routes: Iterable[str]) -> None:
        """Expose the counters of these routes from zero."""
        for route in routes:
            for outcome in (Outcome.OK, Outcome.ERROR):
                self._made()[0].cell(route, outcome.value, "")


def _type_of(message: Message) -> object:
    try:
        return message["type"]
    except (KeyError, TypeError):
        # No message of ASGI: whom it is for will say so, or not mind.
        return None


class Connection:
    """One websocket connection: the ``receive`` and ``send`` of the app, and what is known so far."""

    __slots__ = (
        "_accepted",
        "_inbound",
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
        self._accepted = False
        self._open = True
        self._status = 0
        scope[SCOPE_KEY] = True
        self._inbound, context = NOTHING, wrapper.base
        self._span: Span | None = None
        try:
            self._inbound = wrapper.extractor.extract(headers_of(scope))
            spans = wrapper.spans or wrapper.choose_spans()
            self._span, context = spans.start(scope, self._inbound, _get_current())
            if self._span is not None:
                scope["fastapi.telemetry"] = None
        except Exception as error:
            wrapper.failures.record(Where.REQUEST, error)
        self._token = _attach(context)

    async def receive(self) -> Message:
        """Receive for the app; a connection that is gone has ended."""
        message = await self._receive()
        try:
            if _type_of(message) == "websocket.disconnect" and self._open:
                code = int(message.get("code") or _NO_CODE)
                self._end(_of_received_code(code) if self._accepted else Outcome.DISCONNECTED, code)
        except Exception as error:
            self._wrapper.failures.record(Where.REQUEST, error)
        return message

    async def send(self, message: Message) -> None:
        """Send for the app; the connection has ended when it is closed, or its handshake refused."""
        kind = _type_of(message)
        if kind == "websocket.accept":
            message = self._told(message)
        try:
            await self._send(message)
        except OSError:
            # What servers raise when the client is gone. Source: ASGI WebSocket message format 2.4.
            self._end(Outcome.DISCONNECTED)
            raise
        try:
            self._sent(kind, message)
        except Exception as error:
            self._wrapper.failures.record(Where.REQUEST, error)

    def _sent(self, kind: object, message: Message) -> None:
        if kind == "websocket.accept":
            self._open_now()
        elif kind == "websocket.close":
            self._closed(int(message.get("code") or 1000))
        elif kind == "websocket.http.response.start":
            self._status = int(message["status"])
        elif kind == "websocket.http.response.body" and not message.get("more_body"):
            self._end(self._of_answer())

    def _of_answer(self) -> Outcome:
        """Return what an answer to the handshake that is no websocket means."""
        failed = self._status >= _INTERNAL_SERVER_ERROR or not self._status
        return Outcome.ERROR if failed else Outcome.REJECTED

    def _told(self, message: Message) -> Message:
        timing = self._wrapper.timing
        try:
            # A browser cannot read the headers of a handshake, so only a check is told who answers.
            if timing is None or not self._inbound.synthetic:
                return message
            return timing.add(message, self._span, self._inbound.synthetic)
        except Exception as error:
            self._wrapper.failures.record(Where.REQUEST, error)
            return message

    def _open_now(self) -> None:
        if self._open and not self._accepted:
            self._accepted = True
            self._status = _SWITCHING_PROTOCOLS
            self._wrapper.websockets.opened()

    def _closed(self, code: int) -> None:
        if self._accepted:
            self._end(_of_sent_code(code), code)
        else:
            # Servers answer with this status. Source: ASGI, WebSocket, "Close - send event".
            self._status = _FORBIDDEN
            self._end(Outcome.REJECTED)

    def close(self, error: BaseException | None) -> None:
        """End what the app has left open, after it has returned or raised `error`."""
        try:
            _detach(self._token)
        except Exception as failure:
            # The task was torn down in another context, which ends with it.
            self._wrapper.failures.record(Where.REQUEST, failure)
        if error is not None:
            self._raised(error)
        elif self._accepted:
            # Servers close with 1000.
            self._end(Outcome.OK)
        else:
            self._status = self._status or _INTERNAL_SERVER_ERROR
            self._end(Outcome.ERROR)

    def _raised(self, error: BaseException) -> None:
        if type(error).__name__ == _TOLD_GONE and not self._open:
            # How Starlette tells a handler that the client has left; most let it pass.
            return
        record_exception(error, self._wrapper.hub, self._span)
        # A task that is cancelled is torn down with its connection.
        self._end(Outcome.ERROR if isinstance(error, Exception) else Outcome.DISCONNECTED, error=error)

    def _end(self, outcome: Outcome, code: int = 0, error: BaseException | None = None) -> None:
        if not self._open:
            return
        self._open = False
        wrapper = self._wrapper
        seconds = perf_counter() - self._start
        route = ""
        try:
            if self._accepted:
                wrapper.websockets.closed()
            route = wrapper.templates.read(self._scope)
        except Exception as failure:
            wrapper.failures.record(Where.REQUEST, failure)
        try:
            wrapper.websockets.ended(route, outcome, self._inbound.synthetic, seconds)
            if self._span is not None and self._span.is_recording():
                self._finish(self._span, route, outcome, code, error)
        except Exception as failure:
            wrapper.failures.record(Where.REQUEST, failure)

    def _finish(
        self, span: Span, route: str, outcome: Outcome, code: int, error: BaseException | None
    ) -> None:
        try:
            self._describe(span, route, outcome, code)
            if error is not None:
                span.record_exception(error, escaped=True)
                if outcome is Outcome.ERROR:
                    span.set_attribute("error.type", error_type(error))
        finally:
            span.end(time_ns())

    def _describe(self, span: Span, route: str, outcome: Outcome, code: int) -> None:
        status = self._status or (_INTERNAL_SERVER_ERROR if outcome is Outcome.ERROR else 0)
        if status:
            span.set_attribute("http.response.status_code", int(status))
        if code:
            span.set_attribute(semconv.ATTR_CLOSE_CODE, code)
        if route:
            span.set_attribute("http.route", route)
            span.update_name(f"WS {route}")
        inbound = self._inbound
        if inbound.caller is not None:
            span.set_attributes(inbound.caller.attributes)
        if inbound.synthetic:
            span.set_attribute(semconv.ATTR_SYNTHETIC_TYPE, semconv.SYNTHETIC_TYPE_TEST)
        if outcome is Outcome.ERROR:
            span.set_attribute("error.type", str(code or status))
            span.set_status(StatusCode.ERROR)
