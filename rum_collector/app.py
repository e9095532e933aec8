"""The collector as an ASGI app: HTTP in front of `Ingest`, the script, and ``/metrics``.

POST /b                 the script's beacon          204, or 4xx with {"error": reason, "message": ...}
POST /api/metrics       one hand-written metric      the same
GET  /rolloutobs.js     the browser script; beside it rolloutobs-full.js
GET  /metrics           what was counted             keep this one inside the cluster
GET  /healthz           200 while it runs
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from rolloutobs.errors import BeaconError
from rum_collector.agents import device_of
from rum_collector.bundle import FULL_BUNDLE_PATH, Bundle
from rum_collector.ingest import Ingest
from rum_collector.limits import read_body
from rum_collector.settings import Settings
from rum_collector.words import BeaconOutcome

__all__ = ["CollectorApp", "create_app"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_logger = logging.getLogger("rum_collector")

_STATUS: Final = {BeaconOutcome.TOO_LARGE: 413, BeaconOutcome.ENCODED: 415, BeaconOutcome.ERROR: 500}
"""400 for all others."""

# Any page may post: what it can do is bounded by the admission, and no cookie is read.
_CORS: Final = {b"access-control-allow-origin": b"*"}
# Chromium caps it at two hours: https://developer.mozilla.org/docs/Web/HTTP/Headers/Access-Control-Max-Age
_PREFLIGHT_SECONDS: Final = b"7200"
# A list of field names (RFC 9110 section 5.1): reflected, so that no client breaks on a header it adds later.
_FIELD_NAMES: Final = re.compile(rb"[\w!#$%&'*+.^`|~-]{1,64}(?:\s*,\s*[\w!#$%&'*+.^`|~-]{1,64}){0,31}")
_BUILD_HINT: Final = "run 'npm ci && npm run build' in rum_collector/browser"
_SCRIPT_HEADERS: Final = {
    **_CORS,
    b"content-type": b"text/javascript; charset=utf-8",
    b"cache-control": b"public, max-age=3600, stale-while-revalidate=86400",
    b"cross-origin-resource-policy": b"cross-origin",
    b"vary": b"accept-encoding",
}
_Headers = Mapping[bytes, bytes]
"""The headers of one request or answer, by name in lower case."""


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    headers: _Headers
    body: bytes = b""


class _Handler(Protocol):
    async def __call__(self, headers: _Headers, receive: Receive) -> _Response | None:
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


class CollectorApp:
    """Holds configuration and counts; each request is one call that shares nothing else."""

    def __init__(self, settings: Settings, bundle: Bundle | None, full: Bundle | None = None) -> None:
        self.settings = settings
        self.ingest = Ingest(settings)
        self._bundle = bundle
        self._registry = CollectorRegistry()
        self._registry.register(self.ingest.instruments)
        ProcessCollector(registry=self._registry)
        self._routes: dict[str, tuple[str, _Handler]] = {
            settings.beacon_path: ("POST", self._beacon),
            settings.simple_path: ("POST", self._simple),
            settings.script_path: ("GET", _Script(bundle)),
            f"{settings.script_path.removesuffix('.js')}-full.js": ("GET", _Script(full)),
            "/metrics": ("GET", self._metrics),
            "/healthz": ("GET", self._health),
        }

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
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: _Headers = dict(scope["headers"])
        method: str = scope["method"]
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        allowed, handler = self._routes.get(path, ("", None))
        response: _Response | None
        if handler is None:
            response = _refusal(404, "not_found", "nothing is served at this path")
        elif method == "OPTIONS":
            response = _preflight(allowed, headers)
        elif method != allowed and not (method == "HEAD" and allowed == "GET"):
            response = _refusal(405, "method", f"use {allowed}", {b"allow": f"{allowed}, OPTIONS".encode()})
        else:
            response = await handler(headers, receive)
        if response is None:
            return
        raw = list(response.headers.items())
        if response.status not in (204, 304):
            raw.append((b"content-length", b"%d" % len(response.body)))
            raw.append((b"x-content-type-options", b"nosniff"))
        await send({"type": "http.response.start", "status": response.status, "headers": raw})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else response.body})

    async def _beacon(self, headers: _Headers, receive: Receive) -> _Response | None:
        return await self._post(headers, receive, simple=False)

    async def _simple(self, headers: _Headers, receive: Receive) -> _Response | None:
        return await self._post(headers, receive, simple=True)

    async def _post(self, headers: _Headers, receive: Receive, simple: bool) -> _Response | None:
        """Count a body whatever its content type: text/plain is what a page can post without a preflight."""
        try:
            body = await self._body(headers, receive)
            device = device_of(_text(headers, b"user-agent"), _text(headers, b"sec-ch-ua-mobile"))
            self.ingest.accept(body, simple, device)
        except BeaconError as error:
            outcome = BeaconOutcome(error.reason)
            self.ingest.reject(outcome)
            if outcome is BeaconOutcome.DISCONNECTED:
                return None
            return _refusal(_STATUS.get(outcome, 400), outcome.value, str(error), _cors(headers))
        except Exception:
            _logger.exception("a beacon could not be counted")
            self.ingest.reject(BeaconOutcome.ERROR)
            text = "the collector failed; its log says why"
            return _refusal(500, BeaconOutcome.ERROR.value, text, _cors(headers))
        return _Response(204, _cors(headers))

    async def _body(self, headers: _Headers, receive: Receive) -> bytes:
        coding = _text(headers, b"content-encoding")
        if coding and coding.strip().lower() != "identity":
            raise BeaconError(
                BeaconOutcome.ENCODED, f"content-encoding is {coding[:40]!r}; send the body as it is"
            )
        return await read_body(receive, self.settings.max_body_bytes, headers.get(b"content-length", b""))

    async def _metrics(self, headers: _Headers, receive: Receive) -> _Response:
        try:
            encode, content_type = choose_encoder(_text(headers, b"accept"))
        except (TypeError, ValueError):
            # prometheus_client compares a version that is no number with numbers.
            encode, content_type = choose_encoder("")
        return _Response(200, {b"content-type": content_type.encode()}, encode(self._registry))

    async def _health(self, headers: _Headers, receive: Receive) -> _Response:
        return _Response(200, {b"content-type": b"text/plain; charset=utf-8"}, b"ok\n")


class _Script:
    """Serves one build of the browser script."""

    def __init__(self, bundle: Bundle | None) -> None:
        self._bundle = bundle

    async def __call__(self, headers: _Headers, receive: Receive) -> _Response:
        if self._bundle is None:
            return _refusal(404, "not_built", _BUILD_HINT)
        variant = self._bundle.best(_text(headers, b"accept-encoding"))
        fields = {**_SCRIPT_HEADERS, b"etag": variant.etag.encode()}
        known = {tag.strip().removeprefix("W/") for tag in _text(headers, b"if-none-match").split(",")}
        if variant.etag in known or "*" in known:
            return _Response(304, fields)
        if variant.coding:
            fields[b"content-encoding"] = variant.coding.encode()
        return _Response(200, fields, variant.body)


def _text(headers: _Headers, name: bytes) -> str:
    """Return the value of a header; one that is not there is the empty string."""
    return headers.get(name, b"").decode("latin-1")


def _cors(headers: _Headers) -> dict[bytes, bytes]:
    """Return what lets any page read the answer.

    sendBeacon sends a JSON Blob with credentials, and for those "*" means nothing to a browser
    (https://fetch.spec.whatwg.org/#cors-protocol-and-credentials). We read no cookie, so none is at risk.
    """
    origin = headers.get(b"origin")
    if not origin:
        return _CORS
    return {
        b"access-control-allow-origin": origin,
        b"access-control-allow-credentials": b"true",
        b"vary": b"origin",
    }


def _preflight(allowed: str, headers: _Headers) -> _Response:
    fields = {
        **_cors(headers),
        b"access-control-allow-methods": f"{allowed}, OPTIONS".encode(),
        b"access-control-max-age": _PREFLIGHT_SECONDS,
        b"vary": b"origin, access-control-request-headers",
    }
    requested = headers.get(b"access-control-request-headers", b"").strip()
    if _FIELD_NAMES.fullmatch(requested):
        fields[b"access-control-allow-headers"] = requested
    return _Response(204, fields)


def _refusal(status: int, reason: str, message: str, further: _Headers | None = None) -> _Response:
    body = json.dumps({"error": reason, "message": message}).encode() + b"\n"
    return _Response(status, {**_CORS, b"content-type": b"application/json", **(further or {})}, body)
