"""Attributes of a server span. Source: OpenTelemetry semantic conventions, HTTP spans, stable."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from opentelemetry.util.http import redact_query_parameters

from rolloutobs import semconv

__all__ = [
    "error_type",
    "legacy_attributes",
    "request_attributes",
    "span_method",
    "status_attributes",
    "url_of",
]

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
# Source: RFC 1035, section 2.3.4 (255 octets), and a port.
_MAX_HOST = 262


def span_method(method: str) -> str:
    """Return the method for the span's name: ``HTTP`` if it is not a known one."""
    return method if method in semconv.METHODS else "HTTP"


def request_attributes(scope: Mapping[str, Any], stamp: Mapping[str, str]) -> dict[str, Any]:
    """Return `stamp` and what is known of a request before it runs; what the scope lacks is left out.

    Query strings go out redacted, other headers than ``Host`` and ``User-Agent`` are not read.
    """
    websocket = scope.get("type") == "websocket"
    # A handshake is a GET, for which the scope has no method. Source: RFC 6455, section 4.1.
    method = "GET" if websocket else scope["method"]
    attributes: dict[str, Any] = {
        "http.request.method": method,
        "url.path": scope["path"],
        "url.scheme": scope.get("scheme", "ws" if websocket else "http"),
        "network.protocol.version": scope.get("http_version", "1.1"),
        **stamp,
    }
    if websocket:
        attributes["network.protocol.name"] = "websocket"
    if method not in semconv.METHODS:
        attributes["http.request.method"] = semconv.METHOD_OTHER
        attributes["http.request.method_original"] = str(method)
    query = scope.get("query_string")
    if query:
        attributes["url.query"] = redact_query_parameters("?" + query.decode("latin-1"))[1:]
    _add_peers(attributes, scope)
    return attributes


# Source: OpenTelemetry, "HTTP semantic convention stability migration guide".
_LEGACY = {
    "http.request.method": "http.method",
    "url.scheme": "http.scheme",
    "network.protocol.version": "http.flavor",
    "server.address": "net.host.name",
    "server.port": "net.host.port",
    "client.address": "http.client_ip",
    "user_agent.original": "http.user_agent",
}


def legacy_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names that the stable `attributes` had before; for
    ``OTEL_SEMCONV_STABILITY_OPT_IN=http/dup``."""
    old = {_LEGACY[name]: value for name, value in attributes.items() if name in _LEGACY}
    query = attributes.get("url.query")
    old["http.target"] = f"{attributes['url.path']}?{query}" if query else attributes["url.path"]
    return old


def status_attributes(status: int, *, legacy: bool) -> dict[str, int]:
    """Return the attributes of a response's status; `legacy`: under its old name too."""
    if legacy:
        return {"http.response.status_code": status, "http.status_code": status}
    return {"http.response.status_code": status}


def _add_peers(attributes: dict[str, Any], scope: Mapping[str, Any]) -> None:
    """Add what is known of the two ends: the address that was asked for, the client and its program."""
    host = b""
    for name, value in scope["headers"]:
        if name == b"host":
            host = value
        elif name == b"user-agent":
            attributes["user_agent.original"] = value.decode("latin-1")
    address, port = _server(host, scope)
    if address:
        attributes["server.address"] = address
        if port is not None:
            attributes["server.port"] = port
    client = scope.get("client")
    if client:
        attributes["client.address"] = client[0]


def _server(host: bytes, scope: Mapping[str, Any]) -> tuple[str | None, int | None]:
    address, port = _split(host) if host else (None, None)
    if address is None:
        server = scope.get("server") or (None, None)
        return server[0], server[1]
    return address, _DEFAULT_PORTS.get(scope.get("scheme", "http")) if port is None else port


@lru_cache(maxsize=64)
def _split(host: bytes) -> tuple[str | None, int | None]:
    """Return address and port of a ``Host`` header; ``(None, None)`` if it is not one."""
    text = host[:_MAX_HOST].decode("latin-1")
    address, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text, None
    return (address, int(port)) if port.isascii() and port.isdigit() else (None, None)


def url_of(scope: Mapping[str, Any]) -> str:
    """Return the URL of a request without its query, for what excludes URLs."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    if not host:
        address, port = (*(scope.get("server") or ()), None, None)[:2]
        host = f"{address or ''}{'' if port is None else f':{port}'}"
    return f"{scope.get('scheme', 'http')}://{host}{scope['path']}"


def error_type(error: BaseException) -> str:
    """Return the exception's class, with its module unless that is the built-in one."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
