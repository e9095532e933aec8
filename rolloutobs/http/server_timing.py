"""`Server-Timing`: how a page, and a synthetic check, learn who answered them.

Goes on HTML that no shared cache may keep (a cache would hand one user's trace, and after the rollout the
wrong version, to everyone), on what a page's own script asks for under the same condition (the page may come
from a CDN that knows no version, and a page of the canary wants to know who answers it), and on every answer
to synthetic traffic. Source: W3C Server Timing, section 3.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, MutableMapping
from typing import Any

from opentelemetry.trace import Span

from rolloutobs import semconv
from rolloutobs.telemetry.current import Live
from rolloutobs.telemetry.view_tokens import mark, seal

__all__ = ["FROM_SCRIPT", "HTML", "SAME_ORIGIN", "ServerTiming", "is_shared"]

Message = MutableMapping[str, Any]
HTML = (b"text/html", b"application/xhtml+xml")
# Browsers set both, and no script can. Source: Fetch Metadata, sections 2.1 and 2.3.
FROM_SCRIPT = (b"sec-fetch-dest", b"empty")
SAME_ORIGIN = (b"sec-fetch-site", b"same-origin")
_NOT_SHARED = frozenset({"no-store", "private", "no-cache"})
# Source: RFC 9213 (targeted cache control), and the header that CDNs read before it.
_SHARED_CACHE_HEADERS = frozenset({b"cdn-cache-control", b"surrogate-control"})


_SYNTHETIC = f', {semconv.SERVER_TIMING_SYNTHETIC};desc="{semconv.SYNTHETIC_TYPE_TEST}"'


class ServerTiming:
    """Adds identity and trace of the answer to response headers; existing ``Server-Timing`` headers stay.

    Args:
        live: the identity.
        secret: where one is set, users are given a signed token in the place of version and track, which
            nobody but the collector can read; checks are told in plain words.
    """

    def __init__(self, live: Live, secret: str = "") -> None:
        self._live = live
        self._secret = secret

    def value(self, span: Span | None, synthetic: bool = False) -> str:
        """Return the header's value.

        Args:
            span: server span; ``None``, or one without a valid context, sends no ``traceparent``.
            synthetic: whether a check asked: a page then counts what its visitor does as synthetic too.
        """
        value = self._identity() if self._secret and not synthetic else self._live.stamp.server_timing
        if synthetic:
            value += _SYNTHETIC
        span_context = None if span is None else span.get_span_context()
        if span_context is not None and span_context.is_valid:
            traceparent = (
                f"00-{span_context.trace_id:032x}-{span_context.span_id:016x}-{span_context.trace_flags:02x}"
            )
            value += f', {semconv.SERVER_TIMING_TRACEPARENT};desc="{traceparent}"'
        return value

    def _identity(self) -> str:
        who = self._live.stamp.identity
        token = seal(self._secret, who.service, who.version, who.track, time.time())
        answer = mark(self._secret, who.version, who.track)
        return f'{semconv.SERVER_TIMING_VIEW};desc="{token}", {semconv.SERVER_TIMING_ANSWER};desc="{answer}"'

    def add(self, message: Message, span: Span | None, synthetic: bool = False) -> Message:
        """Return a copy of the ``http.response.start`` in `message` with the header added.

        Args:
            message: left as it is; its headers may be any iterable.
            span: server span, as for `value`.
            synthetic: as for `value`.
        """
        header = (b"server-timing", self.value(span, synthetic).encode("ascii"))
        return {**message, "headers": [*message.get("headers", ()), header]}


def is_shared(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether shared caches may keep a response, by its headers.

    Without any freshness information they may not: caches in front of an app do not keep HTML by default.
    """
    directives: dict[str, str] = {}
    for name, value in headers:
        if name == b"cache-control":
            parts = (part.strip().partition("=") for part in value.decode("latin-1").lower().split(","))
            directives.update((directive, argument) for directive, _, argument in parts)
        elif name in _SHARED_CACHE_HEADERS and b"no-store" not in value.lower():
            return True
        elif name == b"expires" and value.strip() not in (b"0", b"-1"):
            directives.setdefault("expires", value.decode("latin-1"))
    if not _NOT_SHARED.isdisjoint(directives):
        return False
    # Source: RFC 9111 section 4.2.1: s-maxage is before max-age, and that before Expires.
    age = directives.get("s-maxage", directives.get("max-age", directives.get("expires", "0")))
    return "public" in directives or age != "0"
