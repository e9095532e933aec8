"""A WSGI environ in the form of an ASGI scope, which is what spans are described from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.propagate import get_global_textmap
from opentelemetry.propagators.textmap import TextMapPropagator

from rolloutobs.wsgi.types import Environ

__all__ = ["PropagatedHeaders", "path_of", "raw_headers", "scope_of"]

Raw = list[tuple[bytes, bytes]]
_WITHOUT_PREFIX = {"CONTENT_TYPE": b"content-type", "CONTENT_LENGTH": b"content-length"}
_W3C = {"traceparent": "HTTP_TRACEPARENT", "tracestate": "HTTP_TRACESTATE", "baggage": "HTTP_BAGGAGE"}


def path_of(environ: Mapping[str, Any]) -> str:
    """Return the path below the app's root; ``/`` for an empty one."""
    return _decoded(environ.get("PATH_INFO", "")) or "/"


def _decoded(text: str) -> str:
    # Bytes as latin-1. Source: PEP 3333, "Unicode issues".
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def raw_headers(environ: Mapping[str, Any]) -> Raw:
    """Return the headers of a request as ASGI has them: bytes, names in lower case."""
    headers: Raw = []
    for key, value in environ.items():
        if key.startswith("HTTP_") and isinstance(value, str):
            name = key[5:].replace("_", "-").lower().encode("latin-1", "replace")
        elif value and key in _WITHOUT_PREFIX:
            name = _WITHOUT_PREFIX[key]
        else:
            continue
        headers.append((name, value.encode("latin-1", "replace")))
    return headers


def scope_of(environ: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ASGI scope of a request; what the environ lacks is left out."""
    root = _decoded(environ.get("SCRIPT_NAME", ""))
    scope: dict[str, Any] = {
        "type": "http",
        "method": environ["REQUEST_METHOD"],
        "path": root + path_of(environ),
        "root_path": root,
        "scheme": environ.get("wsgi.url_scheme", "http"),
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1", "replace"),
        "http_version": environ.get("SERVER_PROTOCOL", "HTTP/1.1").rpartition("/")[2],
        "headers": raw_headers(environ),
    }
    if environ.get("REMOTE_ADDR"):
        scope["client"] = (environ["REMOTE_ADDR"], _port(environ.get("REMOTE_PORT")))
    if environ.get("SERVER_NAME"):
        scope["server"] = (environ["SERVER_NAME"], _port(environ.get("SERVER_PORT")))
    return scope


def _port(text: object) -> int | None:
    digits = str(text)
    return int(digits) if digits.isascii() and digits.isdigit() else None


class PropagatedHeaders:
    """Picks the headers that the global propagator may read, without looking at the others where it is the
    usual one.
    """

    def __init__(self) -> None:
        self._seen: TextMapPropagator | None = None
        self._is_w3c = False

    def of(self, environ: Environ) -> Raw:
        """Return the headers of a request that may carry a trace or baggage."""
        textmap = get_global_textmap()
        if textmap is not self._seen:
            self._is_w3c = textmap.fields <= _W3C.keys()
            self._seen = textmap
        if not self._is_w3c:
            return raw_headers(environ)
        return [
            (name.encode("ascii"), environ[key].encode("latin-1", "replace"))
            for name, key in _W3C.items()
            if key in environ
        ]
