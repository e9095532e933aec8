"""Attributes of a server span. Source: OpenTelemetry semantic conventions, HTTP spans, stable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.util.http import redact_query_parameters

from rolloutobs import semconv

__all__ = ["error_type", "request_attributes", "span_method"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


def span_method(method: str) -> str:
    """Return the method for the span's name: ``HTTP`` if it is not a known one."""
    return method if method in semconv.METHODS else "HTTP"


def request_attributes(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a request before it runs; what the scope lacks is left out.

    Query strings go out redacted, other headers than ``Host`` and ``User-Agent`` are not read.
    """
    method = scope.get("method", "")
    attributes: dict[str, Any] = {
        "http.request.method": method if method in semconv.METHODS else semconv.METHOD_OTHER,
        "url.path": scope.get("path", ""),
        "url.scheme": scope.get("scheme", "http"),
    }
    if method not in semconv.METHODS:
        attributes["http.request.method_original"] = str(method)
    host, user_agent = _host_and_agent(scope.get("headers") or ())
    attributes.update(_server(host, scope))
    if user_agent:
        attributes["user_agent.original"] = user_agent
    query = scope.get("query_string")
    if query:
        attributes["url.query"] = redact_query_parameters("?" + query.decode("latin-1"))[1:]
    if scope.get("client"):
        attributes["client.address"] = scope["client"][0]
    if scope.get("http_version"):
        attributes["network.protocol.version"] = scope["http_version"]
    return attributes


def _host_and_agent(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
    found = {name: value for name, value in headers if name in (b"host", b"user-agent")}
    return found.get(b"host", b"").decode("latin-1"), found.get(b"user-agent", b"").decode("latin-1")


def _server(host: str, scope: Mapping[str, Any]) -> dict[str, Any]:
    address, port = _split(host) if host else (None, None)
    if address is None:
        server = scope.get("server") or (None, None)
        address, port = server[0], server[1]
    elif port is None:
        port = _DEFAULT_PORTS.get(scope.get("scheme", "http"))
    attributes: dict[str, Any] = {}
    if address:
        attributes["server.address"] = address
        if port is not None:
            attributes["server.port"] = port
    return attributes


def _split(host: str) -> tuple[str | None, int | None]:
    address, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return host, None
    return (address, int(port)) if port.isascii() and port.isdigit() else (None, None)


def error_type(error: BaseException) -> str:
    """Return the exception's class, with its module unless that is the built-in one."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
