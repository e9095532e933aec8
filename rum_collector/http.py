"""Answers of the collector: status, headers, bodies, CORS. Knows no bodies of requests."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

__all__ = ["MAX_ORIGIN_BYTES", "Headers", "Response", "cors", "cors_of", "preflight", "refusal", "text_of"]

Headers = Mapping[bytes, bytes]
"""The headers of one request or answer, by name in lower case."""

_ANY: Final = {b"access-control-allow-origin": b"*"}
# Chromium caps it at two hours: https://developer.mozilla.org/docs/Web/HTTP/Headers/Access-Control-Max-Age
_PREFLIGHT_SECONDS: Final = b"7200"
# A list of field names (RFC 9110 section 5.1): reflected, so that no client breaks on a header it adds later.
_FIELD_NAMES: Final = re.compile(rb"[\w!#$%&'*+.^`|~-]{1,64}(?:\s*,\s*[\w!#$%&'*+.^`|~-]{1,64}){0,31}")
# Of an origin (RFC 6454 section 6.2), and nothing that could end a header.
_ORIGIN: Final = re.compile(rb"null|[a-z][a-z0-9+.-]{0,20}://[^\s/?#\x00-\x20\x7f]{1,260}", re.IGNORECASE)
MAX_ORIGIN_BYTES: Final = 300
"""No origin that is reflected is as long."""


class Response:
    """One answer.

    Args:
        status: of HTTP.
        headers: without the length of the body.
        body: empty where the status has none.
    """

    __slots__ = ("_lines", "body", "headers", "status")

    def __init__(self, status: int, headers: Headers, body: bytes = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self._lines = b""

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Return all headers, with those that every answer with a body has."""
        found = list(self.headers.items())
        if self.status not in (204, 304):
            found.append((b"content-length", b"%d" % len(self.body)))
            found.append((b"x-content-type-options", b"nosniff"))
        return found

    def lines(self) -> bytes:
        """Return all headers as HTTP/1.1 writes them; an answer that is given again has them from before."""
        if not self._lines:
            self._lines = b"".join([b"%b: %b\r\n" % field for field in self.fields()])
        return self._lines


def text_of(headers: Headers, name: bytes) -> str:
    """Return the value of a header; one that is not there is the empty string."""
    value = headers.get(name)
    return value.decode("latin-1") if value else ""


def cors(headers: Headers) -> dict[bytes, bytes]:
    """Return what lets any page read the answer, as every answer has it: a page must see why it was refused.

    sendBeacon sends a JSON Blob with credentials, and for those "*" means nothing to a browser
    (https://fetch.spec.whatwg.org/#cors-protocol-and-credentials). We read no cookie, so none is at risk.
    """
    return cors_of(headers.get(b"origin", b""))


def cors_of(origin: bytes) -> dict[bytes, bytes]:
    """Return the same for a request from `origin`; empty: it has not said."""
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
