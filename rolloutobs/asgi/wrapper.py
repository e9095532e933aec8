"""What is the same for every request to one app: its configuration, its counts, its answer to a scrape."""

from __future__ import annotations

import logging
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider

from rolloutobs.asgi.contrib import with_contrib
from rolloutobs.asgi.routes import RouteReader, known_routes
from rolloutobs.asgi.types import ASGIApp, Message, Receive, Scope, Send
from rolloutobs.http.attributes import request_attributes, span_method
from rolloutobs.http.metrics import HttpMetrics
from rolloutobs.http.server_timing import ServerTiming
from rolloutobs.settings import SpanMode
from rolloutobs.telemetry.current import with_identity
from rolloutobs.telemetry.export import flush
from rolloutobs.telemetry.hub import Hub
from rolloutobs.telemetry.others import OthersSpans, Tag, taggers, traced_by
from rolloutobs.telemetry.propagation import Extractor
from rolloutobs.telemetry.traces import ServerSpans

__all__ = ["SCOPE_KEY", "Wrapper"]

_logger = logging.getLogger("rolloutobs")

SCOPE_KEY = "rolloutobs"
"""In the scope of every request that a wrapper has seen: an instrumented app that is mounted leaves it
alone.
"""
_SHUTDOWN = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


class Wrapper:
    """What is the same for every request to one app; holds configuration and the app's counts.

    Args:
        app: the app inside.
        listed: object whose routes are listed for the counters that start from zero.
        hub: what the app records, and its settings.
        provider: where spans go; ``None``: the global provider.
        flushed: tracer provider to flush at the end of the lifespan; ``None`` where the app owns it.
    """

    def __init__(
        self,
        app: ASGIApp,
        listed: object,
        hub: Hub,
        provider: Any,
        flushed: TracerProvider | None,
    ) -> None:
        self.app = app
        settings = hub.settings
        self.hub = hub
        self.settings = settings
        self.failures = hub.failures
        self.http = HttpMetrics(hub)
        self.pairs = self.http.pairs
        self.live = hub.live
        self.base = with_identity(hub.live, Context())
        self.routes = RouteReader()
        self.extractor = Extractor(hub)
        self._provider = provider
        self.spans: ServerSpans | OthersSpans | None = None
        """Who makes the server spans; known with the first request, when the app's middleware is complete."""
        self.tags: tuple[Tag, ...] = ()
        self.timing = ServerTiming(hub.live) if settings.server_timing else None
        self.special = settings.excluded_paths | ({settings.metrics_path} if settings.metrics_path else set())
        self._listed = listed
        hub.before_collect.append(self._expect_routes)
        self._flushed = flushed

    def _describe(self, scope: Any) -> tuple[str, dict[str, Any]]:
        return span_method(scope["method"]), request_attributes(scope, self.live.stamp.attributes)

    def choose_spans(self) -> ServerSpans | OthersSpans:
        """Decide who makes the server span of every request to this app."""
        mode = self.settings.spans
        spans: ServerSpans | OthersSpans = OthersSpans(self._provider, self.base)
        if self.settings.sdk_disabled:
            mode = SpanMode.OFF
        if mode is not SpanMode.OFF:
            other = traced_by(self._built(), self._provider or trace.get_tracer_provider())
            if other is None and mode is SpanMode.CONTRIB:
                self.app = with_contrib(self.app, self._provider)
            elif other is None:
                spans = ServerSpans(self._provider, self.base, self._describe)
            elif mode is SpanMode.OWN:
                _logger.info("the server spans are left to %s, and stamped", other)
        self.tags = taggers()
        self.spans = spans
        return spans

    def _built(self) -> object:
        """Return the app with its middleware; Starlette builds it with the first request, which this is."""
        app: Any = self._listed
        if getattr(app, "middleware_stack", app) is None:
            app.middleware_stack = app.build_middleware_stack()
        return app

    def tag(self) -> None:
        """Put version and track on the trace of whichever agent has one."""
        for tag in self.tags:
            tag(self.live.stamp)

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
        answer = self.hub.render(accept.decode("latin-1"))
        headers = [
            (b"content-type", answer.content_type.encode("ascii")),
            (b"content-length", str(len(answer.body)).encode("ascii")),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    def _expect_routes(self) -> None:
        self.http.expect(pair for pair in known_routes(self._listed) if pair[1] not in self.special)
