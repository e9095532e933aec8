"""The route of a span that OpenTelemetry's own middleware has made: it names its span before there is one."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from opentelemetry.trace import Span

from rolloutobs.http.attributes import span_method

__all__ = ["name_by_route", "remember"]

_SPAN_KEY = "rolloutobs.span"


def remember(span: Span, request: MutableMapping[str, Any]) -> None:
    """Keep `span` in the scope or environ of its request; a hook of the middleware."""
    request[_SPAN_KEY] = span


def name_by_route(request: MutableMapping[str, Any], method: str, route: str) -> None:
    """Give the span that the middleware has made for `request` its route, if there is one and it is open."""
    span = request.get(_SPAN_KEY)
    if route and span is not None and span.is_recording():
        span.set_attribute("http.route", route)
        span.update_name(f"{span_method(method)} {route}")
