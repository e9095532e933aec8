"""Where a call is going, at the moment its headers are injected.

A propagator is not told. OpenTelemetry's client instrumentations know, so the one that is injecting is asked:
by its own variables, a few frames up the stack. The client span would say it too, but nine of ten are not
recorded and have no attributes; it is the second thing that is looked at, for instrumentations that are not
known here. Whatever is not found this way is unknown, and unknown is outside (`rolloutobs.telemetry.hosts`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from opentelemetry.context import Context, create_key
from opentelemetry.trace import SpanKind, get_current_span

__all__ = ["OWN", "target_of", "to_target"]

OWN = "localhost"
"""A target for what only our own services read, such as a queue of tasks."""

_TARGET_KEY = create_key("rolloutobs-target")
# Deeper than any of the known instrumentations; a bound on the work.
_MAX_FRAMES = 12
_OURS = ("opentelemetry.", "rolloutobs.")
_CALLS = frozenset({SpanKind.CLIENT, SpanKind.PRODUCER})
# Source: OpenTelemetry semantic conventions, HTTP and RPC client spans: stable, then those before 1.21.
_ATTRIBUTES = ("server.address", "url.full", "net.peer.name", "http.url", "http.host", "net.peer.ip")
# What a gRPC multi-callable is called by the interceptors around it.
_WRAPPED = "_base_callable"

Variables = Mapping[str, Any]


def to_target(target: object, context: Context) -> Context:
    """Return `context` for a call to `target`: a URL, ``host:port`` or a gRPC target, or an object whose text
    is one.
    """
    return Context({**context, _TARGET_KEY: str(target)})


def target_of(context: Context) -> str | None:
    """Return the URL, host or gRPC target of the call that is being made; ``None``: not known."""
    given = context.get(_TARGET_KEY)
    if given is not None:
        return str(given)
    return _from_instrumentation(sys._getframe(1)) or _from_span(context)


def _from_instrumentation(frame: FrameType | None) -> str | None:
    for _ in range(_MAX_FRAMES):
        if frame is None:
            return None
        module = frame.f_globals.get("__name__", "")
        read = _READERS.get(module)
        if read is not None:
            try:
                target = read(frame.f_locals)
            except (AttributeError, IndexError, KeyError, TypeError, ValueError):
                # A release with other variables: unknown, which is safe.
                target = None
            if target:
                return target
        elif not module.startswith(_OURS):
            # The app's own code; what is above it may be another call.
            return None
        frame = frame.f_back
    return None


def _from_span(context: Context) -> str | None:
    span = get_current_span(context)
    # A server span names our own address.
    if getattr(span, "kind", None) not in _CALLS:
        return None
    attributes = getattr(span, "attributes", None) or {}
    return next((str(attributes[name]) for name in _ATTRIBUTES if attributes.get(name)), None)


def _httpx(variables: Variables) -> str | None:
    request = variables["args"][0]
    return str(request.url.host)


def _requests(variables: Variables) -> str | None:
    return str(variables["request"].url)


def _urllib3(variables: Variables) -> str | None:
    url = str(variables["bound_args"].arguments["url"])
    # A path, of the host of this pool of connections; under a proxy the pool is the proxy's, and this a URL.
    return str(variables["instance"].host) if url.startswith("/") else url


def _aiohttp(variables: Variables) -> str | None:
    return str(variables["params"].url.host)


def _grpc(variables: Variables) -> str | None:
    for cell in variables["invoker"].__closure__:
        multi_callable = getattr(cell.cell_contents, _WRAPPED, None)
        target = getattr(multi_callable, "_target", None)
        if target:
            return _text(target)
    return None


def _grpc_aio(variables: Variables) -> str | None:
    call = variables["continuation"].func.__self__
    return _text(call._channel.target)


def _celery(variables: Variables) -> str | None:
    # Tasks are read by workers that run the same code.
    return OWN


def _text(target: str | bytes) -> str:
    return target.decode("utf-8", "replace") if isinstance(target, bytes) else str(target)


_READERS: Mapping[str, Callable[[Variables], str | None]] = {
    "opentelemetry.instrumentation.httpx": _httpx,
    "opentelemetry.instrumentation.requests": _requests,
    "opentelemetry.instrumentation.urllib3": _urllib3,
    "opentelemetry.instrumentation.aiohttp_client": _aiohttp,
    "opentelemetry.instrumentation.grpc._client": _grpc,
    "opentelemetry.instrumentation.grpc._aio_client": _grpc_aio,
    "opentelemetry.instrumentation.celery": _celery,
}
"""By module: the target, from the variables of a function in it."""
