"""What is the same for every request to one app: its configuration, its counts, its answer to a scrape."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import REGISTRY

from rolloutobs.asgi.attributes import request_attributes, span_method
from rolloutobs.asgi.http_metrics import HttpMetrics
from rolloutobs.asgi.routes import RouteReader, known_routes
from rolloutobs.asgi.server_timing import ServerTiming
from rolloutobs.asgi.types import ASGIApp, Message, Receive, Scope, Send
from rolloutobs.settings import Settings
from rolloutobs.telemetry.current import Stamp, stamped
from rolloutobs.telemetry.export import flush
from rolloutobs.telemetry.failures import Failures, Where
from rolloutobs.telemetry.metrics import Exposition, exposition
from rolloutobs.telemetry.propagation import Extractor
from rolloutobs.telemetry.traces import ServerSpans

__all__ = ["SCOPE_KEY", "Wrapper"]

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
        try:
            return exposition(sources, self.settings.identity, accept, self.failures)
        except ValueError as error:
            # An Accept header that prometheus_client cannot read, or a sample that OpenMetrics does not
            # allow.
            self.failures.record(Where.METRICS, error)
            return exposition(sources, self.settings.identity, "", self.failures)
