"""Who else traces in this process: OpenTelemetry's own middleware, ddtrace, Sentry, Logfire.

There must be exactly one server span. Where OpenTelemetry's middleware sits in the app, or ddtrace stands
behind OpenTelemetry, the span is left to it and only stamped; an agent with a backend of its own keeps its
own trace, which gets version and track as tags.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context

from rolloutobs.telemetry.current import Stamp
from rolloutobs.telemetry.propagation import Inbound
from rolloutobs.telemetry.traces import Start, stamp_spans_of

__all__ = ["OthersSpans", "Tag", "layers", "taggers", "traced_by"]

Tag = Callable[[Stamp], None]
_MAX_DEPTH = 100
_MIDDLEWARE = {
    ("opentelemetry.instrumentation.asgi", "OpenTelemetryMiddleware"): "opentelemetry-instrumentation-asgi",
    ("opentelemetry.instrumentation.wsgi", "OpenTelemetryMiddleware"): "opentelemetry-instrumentation-wsgi",
}
"""Module and name of the classes that make a server span, and the package to name."""
_INNER = ("app", "wsgi_app", "wsgi", "application", "_app")
"""Where middleware keeps the app inside."""


def traced_by(app: object, provider: object) -> str | None:
    """Return the package that makes the server spans of `app` already; ``None``: nobody does.

    Args:
        app: the app, with its middleware built where the framework builds it late.
        provider: the tracer provider that our spans would go to.
    """
    # A bridge: spans made on the OpenTelemetry API become those of the agent, which has patched the
    # framework.
    if type(provider).__module__.partition(".")[0] == "ddtrace":
        return "ddtrace"
    for layer in layers(app):
        found = _MIDDLEWARE.get((type(layer).__module__, type(layer).__name__))
        if found is not None:
            return found
    return None


def layers(app: object) -> Iterator[object]:
    """Yield `app` and what it wraps, outermost first."""
    seen: set[int] = set()
    # The stack that Starlette has built, or builds with its first request; never anything that has to be
    # called.
    layer: Any = getattr(app, "__dict__", {}).get("middleware_stack") or app
    while layer is not None and id(layer) not in seen and len(seen) < _MAX_DEPTH:
        seen.add(id(layer))
        yield layer
        inside = getattr(layer, "__dict__", {})
        layer = next((inside[name] for name in _INNER if inside.get(name) is not None), None)


class OthersSpans:
    """Stands in for `ServerSpans` where someone else makes the span: only the context is ours.

    Args:
        provider: where their spans go; ``None``: the global provider, as soon as there is one.
        base: context of every request.
    """

    def __init__(self, provider: trace.TracerProvider | None, base: Context) -> None:
        self._provider = provider
        self._base = base
        self._stamps = False

    def start(self, scope: Mapping[str, Any], inbound: Inbound, local: Context) -> Start:
        """Return no span, and the context in which they make theirs; the parent they read themselves."""
        if not self._stamps:
            self._stamp_theirs()
        return None, Context({**local, **(inbound.context or {}), **self._base})

    def _stamp_theirs(self) -> None:
        provider = self._provider or trace.get_tracer_provider()
        if not isinstance(provider, trace.ProxyTracerProvider):
            stamp_spans_of(provider)
            self._stamps = True


def taggers() -> tuple[Tag, ...]:
    """Return what puts version and track on the traces of agents that are active in this process."""
    found: list[Tag] = []
    if "ddtrace" in sys.modules and hasattr(sys.modules["ddtrace"], "tracer"):
        found.append(_tag_ddtrace)
    sentry = sys.modules.get("sentry_sdk")
    if sentry is not None and hasattr(sentry, "get_client") and sentry.get_client().is_active():
        found.append(_tag_sentry)
    return tuple(found)


def _tag_ddtrace(stamp: Stamp) -> None:
    span = sys.modules["ddtrace"].tracer.current_root_span()
    if span is not None:
        for name, value in stamp.attributes.items():
            span.set_tag(name, value)


def _tag_sentry(stamp: Stamp) -> None:
    scope = sys.modules["sentry_sdk"].get_isolation_scope()
    for name, value in stamp.attributes.items():
        scope.set_tag(name, value)
