"""`spans="contrib"`: OpenTelemetry's own ASGI middleware makes the server span, with its hooks and options.

What it lacks is added: the route, which it cannot know when it names the span. Its spans for every message
are left out.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import TracerProvider

from rolloutobs.asgi.types import ASGIApp
from rolloutobs.http.attributes import span_method
from rolloutobs.http.contrib import remember

__all__ = ["with_contrib"]


def with_contrib(app: ASGIApp, provider: TracerProvider | None) -> ASGIApp:
    """Return `app` inside of OpenTelemetry's middleware."""
    # Imported here: it costs, and most apps do without.
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    wrapped: ASGIApp = OpenTelemetryMiddleware(
        app,
        default_span_details=_details,
        server_request_hook=remember,
        tracer_provider=provider,
        exclude_spans=["receive", "send"],
    )
    return wrapped


def _details(scope: Any) -> tuple[str, dict[str, Any]]:
    if scope["type"] == "websocket":
        return "WS", {}
    return span_method(str(scope.get("method", ""))), {}
