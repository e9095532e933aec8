"""Work that is not HTTP, under the version and track of its process: tasks, consumers, gRPC calls, jobs.

Belongs here: `operation`, and one adapter per library (`rolloutobs.operations.grpc`, ``.celery``,
``.kafka``), each imported by those who use that library only. Does not belong here: HTTP, and how counts are
kept and shown (`rolloutobs.telemetry`)."""

from rolloutobs.operations.api import operation, set_outcome
from rolloutobs.operations.outcome import Kind, Outcome
from rolloutobs.operations.run import Run

__all__ = ["Kind", "Outcome", "Run", "operation", "set_outcome"]
