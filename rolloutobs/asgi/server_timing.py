"""`Server-Timing`: how a page, and a synthetic check, learn who answered them.

Goes on HTML that no shared cache may keep (a cache would hand one user's trace, and after the rollout the
wrong version, to everyone), and on every answer to synthetic traffic. Source: W3C Server Timing, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.trace import SpanContext

from rolloutobs import semconv
from rolloutobs.asgi.types import Message
from rolloutobs.identity import Identity

__all__ = ["ServerTiming"]

Headers = list[tuple[bytes, bytes]]
_HTML = (b"text/html", b"application/xhtml+xml")
# Source: RFC 9111 section 3, RFC 9213 (targeted cache control), and the headers that CDNs read before it.
_SHARED_CACHE_HEADERS = frozenset({b"cdn-cache-control", b"surrogate-control"})


class ServerTiming:
    """Adds identity and trace of the answer to response headers; existing ``Server-Timing`` headers stay."""

    def __init__(self, identity: Identity) -> None:
        entries = [(semconv.SERVER_TIMING_VERSION, identity.version)]
        if identity.track:
            entries.append((semconv.SERVER_TIMING_TRACK, identity.track.value))
        self._identity = ", ".join(f'{name};desc="{value}"' for name, value in entries)

    def add(self, message: Message, span_context: SpanContext | None) -> Message:
        """Return a copy of the ``http.response.start`` in `message` with the header added.

        Args:
            message: left as it is; its headers may be any iterable.
            span_context: of the server span; ``None`` or an invalid one sends no ``traceparent``.
        """
        value = self._identity
        if span_context is not None and span_context.is_valid:
            traceparent = (
                f"00-{span_context.trace_id:032x}-{span_context.span_id:016x}-{span_context.trace_flags:02x}"
            )
            value += f', {semconv.SERVER_TIMING_TRACEPARENT};desc="{traceparent}"'
        return {
            **message,
            "headers": [*message.get("headers", ()), (b"server-timing", value.encode("ascii"))],
        }


def is_private_html(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a response is HTML that shared caches do not keep.

    Names are in lower case, as ASGI demands. Without any freshness information it counts as private: caches
    in front of an app do not keep HTML by default.
    """
    for name, value in headers:
        if name == b"content-type":
            return value[:21].lower().startswith(_HTML) and not _is_shared(headers)
    return False


def _is_shared(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    directives: set[str] = set()
    for name, value in headers:
        if name == b"cache-control":
            directives.update(part.strip() for part in value.decode("latin-1").lower().split(","))
        elif name in _SHARED_CACHE_HEADERS and b"no-store" not in value.lower():
            return True
        elif name == b"expires" and value.strip() not in (b"0", b"-1"):
            directives.add("max-age=expires")
    names = {directive.partition("=")[0] for directive in directives}
    if not names.isdisjoint({"no-store", "private", "no-cache"}):
        return False
    fresh = {"max-age", "s-maxage"} & names and not {"max-age=0", "s-maxage=0"} & directives
    return "public" in names or bool(fresh)
