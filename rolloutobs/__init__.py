"""Is the new version worse than the old one?

Public here: what an app team writes. Everything is imported on first use, so that the command line and the
analysis do not pay for OpenTelemetry.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rolloutobs.identity import Identity, Track
    from rolloutobs.instrumentation import instrument
    from rolloutobs.operations import operation
    from rolloutobs.settings import Settings
    from rolloutobs.telemetry.pushing import push_metrics
    from rolloutobs.telemetry.serving import serve_metrics

__all__ = ["Identity", "Settings", "Track", "instrument", "operation", "push_metrics", "serve_metrics"]

_HOMES = {
    "Identity": "rolloutobs.identity",
    "Settings": "rolloutobs.settings",
    "Track": "rolloutobs.identity",
    "instrument": "rolloutobs.instrumentation",
    "operation": "rolloutobs.operations",
    "push_metrics": "rolloutobs.telemetry.pushing",
    "serve_metrics": "rolloutobs.telemetry.serving",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
