"""The words of operations: what kinds there are, and how one can end."""

from __future__ import annotations

import asyncio
import concurrent.futures
from enum import StrEnum

__all__ = ["Kind", "Outcome", "outcome_of"]


class Kind(StrEnum):
    """What an operation is: the label ``kind``."""

    GRPC = "grpc"
    """One gRPC call, served."""
    TASK = "task"
    """One run of a task that a queue has handed out, such as Celery's."""
    CONSUMER = "consumer"
    """One message of a log or a topic, processed."""
    JOB = "job"
    """Work that starts by itself: a cron job, a migration, one round of a loop."""


class Outcome(StrEnum):
    """How an operation ended: the label ``outcome``. Only ``error`` speaks against a version."""

    OK = "ok"
    """It has done what was asked."""
    ERROR = "error"
    """It failed, and that is this app's fault as far as can be told: the counterpart of a 5xx."""
    REJECTED = "rejected"
    """It was refused on purpose, because what was asked for cannot be done: the counterpart of a 4xx."""
    CANCELLED = "cancelled"
    """Whoever waited for it gave up, or the process was told to stop."""
    RETRY = "retry"
    """It will be tried again."""


def outcome_of(error: BaseException | None) -> Outcome:
    """Return what an exception that leaves an operation means; ``None``: there was none.

    Cancellation (asyncio's, trio's, Ctrl-C, a generator that is closed) is no error. ``sys.exit()`` is how a
    job ends: ok with status 0 or none, an error with any other.
    """
    if error is None:
        return Outcome.OK
    if isinstance(error, SystemExit):
        return Outcome.OK if error.code in (None, 0) else Outcome.ERROR
    cancellations = (
        asyncio.CancelledError,
        concurrent.futures.CancelledError,
        GeneratorExit,
        KeyboardInterrupt,
    )
    if isinstance(error, cancellations) or _is_trio_cancelled(type(error)):
        return Outcome.CANCELLED
    return Outcome.ERROR


def _is_trio_cancelled(kind: type) -> bool:
    # By name: trio is not a dependency.
    return kind.__name__ == "Cancelled" and kind.__module__.partition(".")[0] == "trio"
