"""Which identity speaks: of the request that is running, else of the process; and which track it is on now.

Two instrumented apps in one process (tests, an admin app) each keep their own identity this way; code
outside of any request, such as a background thread, speaks for the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import opentelemetry.context as context_api
from opentelemetry.context import Context, attach, create_key, detach, get_current, get_value, set_value
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

from rolloutobs import semconv
from rolloutobs.identity import Identity, Track

__all__ = [
    "LIVE_KEY",
    "Live",
    "Stamp",
    "context_calls",
    "current",
    "process_identity",
    "set_process_identity",
    "with_identity",
]

ContextCalls = tuple[Callable[[], Context], Callable[[Context], Any], Callable[[Any], None]]

LIVE_KEY = create_key("rolloutobs-identity")


@dataclass(frozen=True, slots=True)
class Stamp:
    """An identity in the forms in which signals carry it, made once."""

    identity: Identity
    attributes: Mapping[str, str]
    """Of every span: ``app.version``, and ``rolloutobs.track`` where a track is known."""
    baggage: Mapping[str, str]
    """Entries for the next hop; a track that is not known is the empty string, and not sent."""
    server_timing: str
    """Entries of a ``Server-Timing`` header: version, and track where one is known."""

    @classmethod
    def of(cls, identity: Identity) -> Stamp:
        """Return the stamp of `identity`."""
        attributes = {semconv.ATTR_VERSION: identity.version}
        if identity.track:
            attributes[semconv.ATTR_TRACK] = identity.track.value
        baggage = {
            semconv.BAGGAGE_SERVICE: identity.service,
            semconv.BAGGAGE_VERSION: identity.version,
            semconv.BAGGAGE_TRACK: identity.track.value,
        }
        timing = [(semconv.SERVER_TIMING_VERSION, identity.version)]
        if identity.track:
            timing.append((semconv.SERVER_TIMING_TRACK, identity.track.value))
        return cls(
            identity,
            MappingProxyType(attributes),
            MappingProxyType(baggage),
            ", ".join(f'{name};desc="{value}"' for name, value in timing),
        )


class Live:
    """The identity of one app as it is now. `stamp` is replaced as a whole when the track changes, so whoever
    reads it once has values that belong together.
    """

    __slots__ = ("stamp",)

    def __init__(self, identity: Identity) -> None:
        self.stamp = Stamp.of(identity)

    def retrack(self, track: Track) -> None:
        """Put the app on `track`; requests that are running follow at once."""
        self.stamp = Stamp.of(replace(self.stamp.identity, track=track))


class _Process:
    live: Live | None = None


def set_process_identity(live: Live | None) -> None:
    """Set who speaks outside of requests; ``None``: nobody (spans and baggage are left alone there)."""
    _Process.live = live


def current(context: Context | None = None) -> Stamp | None:
    """Return the stamp of `context` (default: the current one), else of the process, else ``None``."""
    found = get_value(LIVE_KEY, context)
    live = found if isinstance(found, Live) else _Process.live
    return None if live is None else live.stamp


def process_identity() -> Live | None:
    """Return who speaks outside of requests."""
    return _Process.live


def with_identity(live: Live, context: Context) -> Context:
    """Return `context` in which `live` speaks."""
    return set_value(LIVE_KEY, live, context)


def context_calls() -> ContextCalls:
    """Return get_current, attach and detach of the OpenTelemetry context, as direct as they can be had.

    The API goes through two Python functions for each, 1.5 us per request together; its usual context is a
    plain context variable. With any other (``OTEL_PYTHON_CONTEXT``, a later release) these are the API's own
    functions.
    """
    runtime = getattr(context_api, "_RUNTIME_CONTEXT", None)
    variable = getattr(runtime, "_current_context", None)
    if type(runtime) is ContextVarsRuntimeContext and isinstance(variable, ContextVar):
        return variable.get, variable.set, variable.reset
    return get_current, attach, detach
