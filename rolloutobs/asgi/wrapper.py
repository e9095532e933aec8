"""What is the same for every request to one ASGI app: configuration, counts, the answer to a scrape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rolloutobs.asgi.contrib import with_contrib
from rolloutobs.asgi.routes import RouteReader, known_routes, known_websockets
from rolloutobs.asgi.scrapes import Scrapes
from rolloutobs.asgi.types import ASGIApp, Message, Receive, Scope, Send, headers_of
from rolloutobs.asgi.websockets import WebsocketMetrics
from rolloutobs.http.app import SCOPE_KEY, HttpApp
from rolloutobs.http.attributes import legacy_attributes, request_attributes, span_method, url_of
from rolloutobs.http.listing import listed_routes
from rolloutobs.telemetry.export import flush
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.hub import Hub
from rolloutobs.telemetry.process_metrics import watch_loop

__all__ = ["SCOPE_KEY", "Wrapper"]

_SHUTDOWN = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


class Wrapper(HttpApp):
    """What is the same for every request to one ASGI app; holds configuration and the app's counts.

    Args:
        app: the app inside.
        listed: object whose routes are listed for the counters that start from zero.
        hub: what the app records, and its settings.
    """

    app: ASGIApp

    def __init__(self, app: ASGIApp, listed: object, hub: Hub) -> None:
        super().__init__(app, listed, hub)
        self.templates = RouteReader()
        self.websockets = WebsocketMetrics(hub)
        self.scrapes = Scrapes(hub, self.routes, listed)

    def describe(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return name and attributes of a server span, from the scope of its request."""
        attributes = request_attributes(request, self.live.stamp.attributes)
        if self.settings.legacy_attributes:
            attributes |= legacy_attributes(attributes)
        if self.captured is not None:
            attributes |= self.captured.of_request(request["headers"])
        if request["type"] == "websocket":
            return "WS", attributes
        return span_method(request["method"]), attributes

    def routes(self) -> Iterator[tuple[str, str]]:
        """Yield (method, template) of all routes that the app is known to have."""
        yield from known_routes(self.listed)
        yield from listed_routes(self.listed)

    def expect_routes(self) -> None:
        """Expose the counters of known routes from zero."""
        super().expect_routes()
        self.websockets.expect(known_websockets(self.listed))

    def with_contrib(self) -> ASGIApp:
        """Return the app inside of OpenTelemetry's own middleware."""
        return with_contrib(self.app, self.provider)

    def again(self, app: ASGIApp, listed: object) -> Wrapper:
        """Return one for a copy of the app, which counts into the same metrics."""
        return Wrapper(app, listed, self.hub)

    def excludes(self, scope: Scope) -> bool:
        """Return whether a request is excluded, or asks for the metrics.

        Paths count from the root path on; regular expressions are looked for in the whole URL.
        """
        if _path_below_root(scope) in self.special:
            return True
        if self.excluded_urls is None:
            return False
        headers_of(scope)
        return self.excluded_urls.search(url_of(scope)) is not None

    async def unrecorded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer everything that is not recorded: metrics, excluded paths, lifespan."""
        kind = scope.get("type")
        if kind == "lifespan":
            watch_loop(self.hub)
            await self.app(scope, receive, self._flushing(send) if self.hub.flushed else send)
            return
        if kind == "http" and SCOPE_KEY not in scope:
            asked = False
            try:
                scope[SCOPE_KEY] = None
                # Excluded means excluded from FastAPI's own telemetry too.
                scope["fastapi.telemetry"] = None
                scope["starlette.opentelemetry"] = True
                asked = self._asks_for_metrics(scope)
            except Exception as error:
                self.failures.record(Where.REQUEST, error)
            if asked:
                watch_loop(self.hub)
                await self.scrapes.serve(self.app, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _flushing(self, send: Send) -> Send:
        async def flushing(message: Message) -> None:
            # Before the message, not after: servers exit as soon as they have it, uvicorn by the signal that
            # it got.
            try:
                if message["type"] in _SHUTDOWN:
                    for provider in self.hub.flushed:
                        flush(provider)
            except Exception as error:
                self.failures.record(Where.EXPORT, error)
            await send(message)

        return flushing

    def _asks_for_metrics(self, scope: Scope) -> bool:
        wanted = self.settings.metrics_path
        if wanted is None or scope.get("method") not in ("GET", "HEAD"):
            return False
        return scope["path"] == wanted or _path_below_root(scope) == wanted


def _path_below_root(scope: Scope) -> str:
    return str(scope["path"]).removeprefix(scope.get("root_path") or "")
