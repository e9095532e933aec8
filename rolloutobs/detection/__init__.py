"""Who this process is, where nobody said so: its version, service and track from what surrounds it.

Belongs here: what a process can read about itself, in an order, bounded, and with where each value comes
from. Does not belong here: settings, anything that follows changes (`rolloutobs.telemetry.tracking`), or
guesses.
"""

from rolloutobs.detection.labels import Labels, read_labels
from rolloutobs.detection.looks import Found, Look, first
from rolloutobs.detection.modules import AppModule, named_module
from rolloutobs.detection.resource import instance_id, resource_attributes
from rolloutobs.detection.search import (
    Surroundings,
    complete,
    environment_looks,
    service_looks,
    version_looks,
)
from rolloutobs.detection.track import ResolvedTrack, TrackResolver

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
