"""Answers of the collector: status, headers, bodies, CORS. Knows no bodies of requests."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["Headers", "Response", "cors", "preflight", "refusal", "text_of"]

Headers = Mapping[bytes, bytes]
"""The headers of one request or answer, by name in lower case."""

_ANY: Final = {b"access-control-allow-origin": b"*"}
# Chromium caps it at two hours: https://developer.mozilla.org/docs/Web/HTTP/Headers/Access-Control-Max-Age
_PREFLIGHT_SECONDS: Final = b"7200"
# A list of field names (RFC 9110 section 5.1): reflected, so that no client breaks on a header it adds later.
_FIELD_NAMES: Final = re.compile(rb"[\w!#$%&'*+.^`|~-]{1,64}(?:\s*,\s*[\w!#$%&'*+.^`|~-]{1,64}){0,31}")
# Of an origin (RFC 6454 section 6.2), and nothing that could end a header.
_ORIGIN: Final = re.compile(rb"null|[a-z][a-z0-9+.-]{0,20}://[^\s/?#\x00-\x20\x7f]{1,260}", re.IGNORECASE)


class Response(NamedTuple):
    """One answer."""

    status: int
    headers: Headers
    body: bytes = b""


def text_of(headers: Headers, name: bytes) -> str:
    """Return the value of a header; one that is not there is the empty string."""
    value = headers.get(name)
    return value.decode("latin-1") if value else ""


def cors(headers: Headers) -> dict[bytes, bytes]:
    """Return what lets any page read the answer, as every answer has it: a page must see why it was refused.

    sendBeacon sends a JSON Blob with credentials, and for those "*" means nothing to a browser
    (https://fetch.spec.whatwg.org/#cors-protocol-and-credentials). We read no cookie, so none is at risk.
    """
    origin = headers.get(b"origin", b"")
    if not _ORIGIN.fullmatch(origin):
        return dict(_ANY)
    return {
        b"access-control-allow-origin": origin,
        b"access-control-allow-credentials": b"true",
        # Or a page of another origin cannot read when it may come again.
        b"access-control-expose-headers": b"retry-after",
        b"vary": b"origin",
    }


def preflight(allowed: str, headers: Headers) -> Response:
    """Return the answer to OPTIONS: the method, and whatever valid header names are asked for."""
    fields = {
        **cors(headers),
        b"access-control-allow-methods": f"{allowed}, OPTIONS".encode(),
        b"access-control-max-age": _PREFLIGHT_SECONDS,
        b"vary": b"origin, access-control-request-headers",
    }
    requested = headers.get(b"access-control-request-headers", b"").strip()
    if _FIELD_NAMES.fullmatch(requested):
        fields[b"access-control-allow-headers"] = requested
    return Response(204, fields)


def refusal(status: int, reason: str, message: str, further: Headers | None = None) -> Response:
    """Return a refusal that says why, in JSON."""
    body = json.dumps({"error": reason, "message": message}).encode() + b"\n"
    return Response(status, {b"content-type": b"application/json", **(further or {})}, body)
