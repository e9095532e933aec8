"""The collector as an ASGI app: HTTP in front of `Ingest`, the script, and ``/metrics``.

POST /b                 the script's beacon          204, or 4xx with {"error": reason, "message": ...}
POST /api/metrics       one hand-written metric      the same
POST /collect           Grafana's Faro SDK           202
POST /v1/logs, traces   OTLP/HTTP, JSON or protobuf  200
GET  /rolloutobs.js     the browser script; beside it rolloutobs-full.js
GET  /metrics           what was counted             keep this one inside the cluster
GET  /healthz           200 while it runs
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol
from urllib.parse import quote

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from rum_collector.bundle import FULL_BUNDLE_PATH, Bundle
from rum_collector.configuration import configured
from rum_collector.formats import Format, formats_of
from rum_collector.http import Headers, Response, cors, preflight, refusal, text_of
from rum_collector.last_scrape import LastScrape
from rum_collector.posting import Posting
from rum_collector.reception import Reception
from rum_collector.settings import Settings
from rum_collector.upkeep import Upkeep

__all__ = ["CollectorApp", "collector", "create_app", "for_command"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_logger = logging.getLogger("rum_collector")

_BUILD_HINT: Final = "run 'npm ci && npm run build' in rum_collector/browser"
_SCRIPT_HEADERS: Final = {
    b"access-control-allow-origin": b"*",
    b"content-type": b"text/javascript; charset=utf-8",
    b"cache-control": b"public, max-age=3600, stale-while-revalidate=86400",
    b"cross-origin-resource-policy": b"cross-origin",
    b"vary": b"accept-encoding",
}
_PLAIN: Final = {b"content-type": b"text/plain; charset=utf-8"}


class _Handler(Protocol):
    async def __call__(self, scope: Scope, headers: Headers, receive: Receive) -> Response | None:
        """Answer one request; ``None`` where nobody is there to hear."""


def create_app(
    settings: Settings | None = None, bundle: Bundle | None = None, full: Bundle | None = None
) -> CollectorApp:
    """Return the collector as an ASGI app.

    Args:
        settings: ``None`` for the defaults.
        bundle: the browser script; ``None`` reads the one that npm built or the wheel carries. Where there is
            none, its path answers 404 and the rest works.
        full: the same for the full build of the script.
    """
    return CollectorApp(
        settings or Settings(), bundle or Bundle.read(), full or Bundle.read(FULL_BUNDLE_PATH)
    )


def collector(*apps: str, **settings: Any) -> CollectorApp:
    """Return the collector, to be mounted in another app: ``app.mount("/b", collector("shop"))``.

    Args:
        apps: whose beacons are accepted; any without one.
        settings: fields of `Settings`.
    """
    return create_app(Settings(**({"apps": apps} | settings)))


def for_command(settings: Settings | None = None) -> CollectorApp:
    """Return the collector as the command runs it: it waits for a last scrape when it is told to end.

    Args:
        settings: ``None`` reads those of the environment, as workers do.
    """
    app = create_app(configured(os.environ, {}).settings if settings is None else settings)
    app.waits_for_last_scrape = app.settings.last_scrape_seconds > 0
    return app


class CollectorApp:
    """Holds configuration and counts; each request is one call that shares nothing else."""

    def __init__(self, settings: Settings, bundle: Bundle | None, full: Bundle | None = None) -> None:
        self.settings = settings
        self.waits_for_last_scrape = False
        """Whether this process is ours to end late; a team's own app is not."""
        self._bundle = bundle
        self._begin()
        self._routes: dict[str, tuple[str, _Handler]] = {
            settings.script_path: ("GET", _Script(bundle)),
            f"{settings.script_path.removesuffix('.js')}-full.js": ("GET", _Script(full)),
            "/metrics": ("GET", self._metrics),
            "/healthz": ("GET", self._health),
        }
        self.formats = formats_of(settings)
        """By the path that bodies of it are posted to."""
        # One that would have to be escaped is found the usual way.
        self.formats_by_raw_path = {
            path.encode(): form for path, form in self.formats.items() if quote(path) == path
        }
        """The same by the bytes of the path as they come."""
        for path, form in self.formats.items():
            self._routes[path] = ("POST", self._poster(form))
        # What is mounted at a path of its own is posted to at that path, too.
        self._mounted = self._routes[settings.beacon_path]

    def _begin(self) -> None:
        self._pid = os.getpid()
        self.reception = Reception(self.settings)
        self.ingest = self.reception.ingest
        self.posting = Posting(self.reception)
        self.upkeep = Upkeep(self.settings, self.reception)
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or the lifespan of the server; websockets are closed."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        if self._bundle is None:
            _logger.warning(
                "%s answers 404, for the script is not built: %s", self.settings.script_path, _BUILD_HINT
            )
        self.awake()
        if self.waits_for_last_scrape:
            LastScrape(self.upkeep, self.settings.last_scrape_seconds).install()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.upkeep.stop()
        await send({"type": "lifespan.shutdown.complete"})

    def awake(self) -> None:
        """Begin in this process, unless it has: it may have been forked, and a mounted app is told of no
        lifespan.
        """
        pid = os.getpid()
        if self.upkeep.runs_here(pid):
            return
        if self._pid != pid:
            self._begin()
        self.upkeep.start()

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.awake()
        headers: Headers = dict(scope["headers"])
        method: str = scope["method"]
        root: str = scope.get("root_path", "")
        path: str = scope["path"].removeprefix(root)
        found = self._routes.get(path)
        if found is None and root and path in ("", "/"):
            found = self._mounted
        response: Response | None
        if found is None:
            response = refusal(404, "not_found", "nothing is served at this path", cors(headers))
        elif method == "OPTIONS":
            response = preflight(found[0], headers)
        elif method != found[0] and not (method == "HEAD" and found[0] == "GET"):
            further = {b"allow": f"{found[0]}, OPTIONS".encode(), **cors(headers)}
            response = refusal(405, "method", f"use {found[0]}", further)
        else:
            response = await found[1](scope, headers, receive)
        if response is None:
            return
        await send({"type": "http.response.start", "status": response.status, "headers": response.fields()})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else response.body})

    def _poster(self, form: Format) -> _Handler:
        async def post(scope: Scope, headers: Headers, receive: Receive) -> Response | None:
            peer = scope.get("client")
            return await self.posting.receive(form, str(peer[0]) if peer else "", headers, receive)

        return post

    async def _metrics(self, scope: Scope, headers: Headers, receive: Receive) -> Response:
        try:
            encode, content_type = choose_encoder(text_of(headers, b"accept"))
        except (TypeError, ValueError):
            # prometheus_client compares a version that is no number with numbers.
            encode, content_type = choose_encoder("")
        openmetrics = content_type.startswith("application/openmetrics-text")
        counted = self.upkeep.counted()
        # In a thread: beacons must not wait for a hundred thousand lines.
        own = await asyncio.to_thread(lambda: "".join(self.ingest.instruments.text(openmetrics=openmetrics)))
        self.upkeep.scraped(counted)
        return Response(200, {b"content-type": content_type.encode()}, own.encode() + encode(self._registry))

    async def _health(self, scope: Scope, headers: Headers, receive: Receive) -> Response:
        return Response(200, _PLAIN, b"ok\n")


class _Script:
    """Serves one build of the browser script."""

    def __init__(self, bundle: Bundle | None) -> None:
        self._bundle = bundle

    async def __call__(self, scope: Scope, headers: Headers, receive: Receive) -> Response:
        if self._bundle is None:
            return refusal(404, "not_built", _BUILD_HINT, cors(headers))
        variant = self._bundle.best(text_of(headers, b"accept-encoding"))
        fields = {**_SCRIPT_HEADERS, b"etag": variant.etag.encode()}
        known = {tag.strip().removeprefix("W/") for tag in text_of(headers, b"if-none-match").split(",")}
        if variant.etag in known or "*" in known:
            return Response(304, fields)
        if variant.coding:
            fields[b"content-encoding"] = variant.coding.encode()
        return Response(200, fields, variant.body)
