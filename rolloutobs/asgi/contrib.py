"""`spans="contrib"`: OpenTelemetry's own ASGI middleware makes the server span, with its hooks and options.

What it lacks is added: the route, which it cannot know when it names the span. Its spans for every message
are left out.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import Span, TracerProvider

from rolloutobs.asgi.types import ASGIApp, Scope
from rolloutobs.http.attributes import span_method

__all__ = ["name_by_route", "with_contrib"]

_SPAN_KEY = "rolloutobs.span"


def with_contrib(app: ASGIApp, provider: TracerProvider | None) -> ASGIApp:
    """Return `app` inside of OpenTelemetry's middleware."""
    # Imported here: it costs, and most apps do without.
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    wrapped: ASGIApp = OpenTelemetryMiddleware(
        app,
        default_span_details=_details,
        server_request_hook=_remember,
        tracer_provider=provider,
        exclude_spans=["receive", "send"],
    )
    return wrapped


def _details(scope: Any) -> tuple[str, dict[str, Any]]:
    if scope["type"] == "websocket":
        return "WS", {}
    return span_method(str(scope.get("method", ""))), {}


def _remember(span: Span, scope: Any) -> None:
    scope[_SPAN_KEY] = span


def name_by_route(scope: Scope, method: str, route: str) -> None:
    """Give the span that the middleware has made for `scope` its route, if there is one and it is open."""
    span = scope.get(_SPAN_KEY)
    if route and span is not None and span.is_recording():
        span.set_attribute("http.route", route)
        span.update_name(f"{span_method(method)} {route}")
