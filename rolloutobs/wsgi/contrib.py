"""`spans="contrib"`: OpenTelemetry's own WSGI middleware makes the server span."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["contrib_middleware"]


def contrib_middleware() -> Any:
    """Return OpenTelemetry's middleware; ``None`` where it is not installed."""
    try:
        return import_module("opentelemetry.instrumentation.wsgi").OpenTelemetryMiddleware
    except ImportError:
        return None
