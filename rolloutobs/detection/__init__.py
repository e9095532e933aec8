"""Who this process is, where nobody said so: its version, service and track from what surrounds it.

Belongs here: what a process can read about itself, in an order, bounded, and with where each value comes
from. Does not belong here: settings, anything that follows changes (`rolloutobs.telemetry.tracking`), or
guesses.

Everything is imported on first use: most processes are told who they are, and import nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rolloutobs.detection.labels import Labels, read_labels
    from rolloutobs.detection.looks import Found, Look, first
    from rolloutobs.detection.modules import AppModule, named_module
    from rolloutobs.detection.resource import instance_id, resource_attributes
    from rolloutobs.detection.search import Surroundings, environment_looks, service_looks, version_looks
    from rolloutobs.detection.track import ResolvedTrack, TrackResolver
    from rolloutobs.settings import Settings

__all__ = [
    "AppModule",
    "Found",
    "Labels",
    "Look",
    "ResolvedTrack",
    "Surroundings",
    "TrackResolver",
    "complete",
    "environment_looks",
    "first",
    "instance_id",
    "named_module",
    "read_labels",
    "resource_attributes",
    "service_looks",
    "version_looks",
]

_HOMES = {
    "AppModule": "modules",
    "Found": "looks",
    "Labels": "labels",
    "Look": "looks",
    "ResolvedTrack": "track",
    "Surroundings": "search",
    "TrackResolver": "track",
    "environment_looks": "search",
    "first": "looks",
    "instance_id": "resource",
    "named_module": "modules",
    "read_labels": "labels",
    "resource_attributes": "resource",
    "service_looks": "search",
    "version_looks": "search",
}


def complete(settings: Settings, environ: Mapping[str, str], app: object = None) -> Settings:
    """Return `settings` with version, service and track filled in where neither argument nor variable named
    them.

    What cannot be found stays unknown; what cannot be read is passed over. A track that the app itself named
    (`Settings.track_is_fixed`) stays; one from the environment gives way to a label of the pod. Must be
    called from `instrument()`, not from a thread: who called tells which distribution the app belongs to.

    Args:
        settings: valid settings, arguments included.
        environ: environment variables; asked again, for `settings` may have been made without them.
        app: the application object.
    """
    if not settings.detection:
        return settings
    from rolloutobs.detection.search import completed

    return completed(settings, environ, app)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
