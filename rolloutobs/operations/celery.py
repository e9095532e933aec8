"""Celery: each run of a task is an operation, in workers of every pool and in eager mode.

    app = Celery("shop", broker=...)
    instrument_celery()                     # in the module that workers and producers import

Producers send trace, baggage and identity along with each task; workers go on from there. The operation is
``app_operations_total{kind="task",name=<task>,outcome}``. The metrics of a worker are served where
``ROLLOUTOBS_METRICS_PORT`` is set, by the worker's main process.

What never runs is counted as well, without a duration: a revoked or expired task as ``cancelled``, one that
hit the hard time limit or whose process died as ``error``, a task that this worker does not know (a newer
producer's, or a removed one) as ``error`` under the name ``_unregistered``, a message that is none as
``rejected`` under ``_invalid``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from celery import signals

from rolloutobs.operations.carriers import Headers, picked
from rolloutobs.operations.outcome import Kind, Outcome, outcome_of
from rolloutobs.operations.recorder import begin, count_only, recorder
from rolloutobs.operations.run import Run, Work, failed, running
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry.export import flush
from rolloutobs.telemetry.propagation import inject
from rolloutobs.telemetry.targets import OWN

__all__ = ["instrument_celery", "uninstrument_celery"]

UNREGISTERED = "_unregistered"
INVALID = "_invalid"
"""Names where the real one is whatever a producer has sent."""
CONTRIB = "opentelemetry.instrumentation.celery"
_PREFORK = frozenset({"prefork", "processes", "celery.concurrency.prefork"})
_RUN = "_rolloutobs_run"
# Source: celery.states; IGNORED is a task that raised Ignore, on purpose.
_OUTCOMES: Mapping[object, Outcome] = {
    "SUCCESS": Outcome.OK,
    "IGNORED": Outcome.OK,
    "FAILURE": Outcome.ERROR,
    "RETRY": Outcome.RETRY,
    "REJECTED": Outcome.REJECTED,
}
_ENDED_FROM_OUTSIDE = frozenset({"TimeLimitExceeded", "WorkerLostError"})
"""Failures of which the main process tells, because the one that ran the task is gone."""


class _Tasks:
    """The receivers of Celery's signals. Celery logs a receiver that raises; none does."""

    def __init__(self) -> None:
        self._connected: list[tuple[Any, Callable[..., None]]] = []
        self._comes_last = False

    def connect(self) -> None:
        """Receive; again changes nothing."""
        if self._connected:
            return
        self._connected = [
            (signals.before_task_publish, self.published),
            (signals.task_prerun, self.started),
            (signals.task_failure, self.raised),
            (signals.task_postrun, self.ended),
            (signals.task_revoked, self.revoked),
            (signals.task_unknown, self.unknown),
            (signals.task_rejected, self.rejected),
            (signals.worker_init, self.worker_started),
            (signals.worker_before_create_process, self.pool_forks),
            (signals.worker_process_shutdown, self.process_ends),
        ]
        for signal, receiver in self._connected:
            signal.connect(receiver, weak=False, dispatch_uid=_uid(receiver))

    def disconnect(self) -> None:
        """Receive no longer."""
        for signal, receiver in self._connected:
            signal.disconnect(receiver, dispatch_uid=_uid(receiver))
        self._connected = []
        self._comes_last = False

    def published(self, headers: Any = None, **_: Any) -> None:
        """Send along who asks for the task."""
        try:
            # So that a producer without an app has an identity, too.
            recorder()
            if isinstance(headers, dict):
                inject(headers, url=OWN)
        except Exception as error:
            failed(error)

    def started(self, task: Any = None, task_id: Any = None, **_: Any) -> None:
        """Begin the run of a task."""
        try:
            request = task.request
            work = Work(
                Kind.TASK,
                str(task.name),
                attributes=lambda: _attributes(task_id, request),
                adopts=CONTRIB,
                traced=not self._comes_too_early(),
            )
            run = begin(work, lambda: _sent_along(request))
            run.attach()
            setattr(request, _RUN, run)
        except Exception as error:
            failed(error)

    def _comes_too_early(self) -> bool:
        """Return whether OpenTelemetry's own instrumentation is told of this task only after us; move behind
        it.

        Receivers are called in the order in which they were connected, at the end of a task too: the one that
        comes last can see what the others have made, and put back the context behind them.
        """
        if self._comes_last or not _contrib_is_active():
            return False
        self._comes_last = True
        receivers = [receiver for _, receiver in signals.task_prerun.receivers]
        names = [getattr(receiver, "__module__", "") for receiver in receivers]
        if CONTRIB not in names[receivers.index(self.started) :]:
            return False
        for signal, receiver in self._connected:
            signal.disconnect(receiver, dispatch_uid=_uid(receiver))
            signal.connect(receiver, weak=False, dispatch_uid=_uid(receiver))
        return True

    def raised(self, sender: Any = None, exception: Any = None, **_: Any) -> None:
        """Remember what a task has raised; count one whose process is gone."""
        try:
            run = _run_of(sender)
            if run is not None:
                setattr(sender.request, f"{_RUN}_error", exception)
            elif type(exception).__name__ in _ENDED_FROM_OUTSIDE:
                count_only(Work(Kind.TASK, str(sender.name)), Outcome.ERROR)
        except Exception as error:
            failed(error)

    def ended(self, task: Any = None, state: Any = None, **_: Any) -> None:
        """End the run of a task."""
        try:
            run = _run_of(task)
            if run is None:
                return
            error = task.request.__dict__.pop(f"{_RUN}_error", None)
            if error is None and state is None:
                # It is on its way through Celery: an exit, or an eager task that lets its caller have it.
                error = sys.exc_info()[1]
            outcome = _OUTCOMES.get(state) or outcome_of(error)
            if outcome is Outcome.ERROR and isinstance(error, tuple(getattr(task, "throws", ()) or ())):
                # What the task says it raises in normal operation.
                outcome = Outcome.REJECTED
            if running() is run:
                # Else the context is another receiver's, who has put back what was before us both.
                run.detach()
            run.end(error, outcome, {"celery.state": str(state)} if state else None)
            delattr(task.request, _RUN)
        except Exception as error:
            failed(error)

    def revoked(self, sender: Any = None, **_: Any) -> None:
        """Count a task that was revoked or has expired."""
        count_only(Work(Kind.TASK, _name(sender)), Outcome.CANCELLED)

    def unknown(self, **_: Any) -> None:
        """Count a task that this worker does not know."""
        count_only(Work(Kind.TASK, UNREGISTERED), Outcome.ERROR)

    def rejected(self, **_: Any) -> None:
        """Count a message that is no task."""
        count_only(Work(Kind.TASK, INVALID), Outcome.REJECTED)

    def worker_started(self, sender: Any = None, **_: Any) -> None:
        """Set up the main process of a worker: its metrics port among others."""
        try:
            recorder()
            if _is_prefork(getattr(sender, "pool_cls", None)):
                hubs.share_with_children()
        except Exception as error:
            failed(error)

    def pool_forks(self, **_: Any) -> None:
        """Answer scrapes for the pool processes, one of which is about to be forked.

        Celery tells of it with brokers that have an event loop only; `worker_started` is for the others.
        """
        try:
            hubs.share_with_children()
        except Exception as error:
            failed(error)

    def process_ends(self, **_: Any) -> None:
        """Send the last spans of a pool process, which ends without the interpreter's own clean-up."""
        try:
            for provider in hubs.process().flushed:
                flush(provider)
        except Exception as error:
            failed(error)


_tasks = _Tasks()


def instrument_celery() -> None:
    """Count, time and trace the tasks of this process, of all its Celery apps; again changes nothing.

    To be called where the Celery app is made, so that producers, workers and their pool processes all do it.
    Works beside OpenTelemetry's ``CeleryInstrumentor``, in any order: its spans are stamped then, and there
    is one per run."""
    _tasks.connect()


def uninstrument_celery() -> None:
    """Undo `instrument_celery`, for tests."""
    _tasks.disconnect()


def _uid(receiver: Callable[..., None]) -> str:
    return f"rolloutobs.{receiver.__name__}"


def _run_of(task: Any) -> Run | None:
    run = getattr(getattr(task, "request", None), _RUN, None)
    return run if isinstance(run, Run) else None


def _name(task: Any) -> str:
    return str(getattr(task, "name", "") or UNREGISTERED)


def _sent_along(request: Any) -> Headers:
    """Return the headers of a task: attributes of its request, or custom headers of an eager one."""
    custom = request.headers if isinstance(request.headers, Mapping) else {}
    return picked(lambda name: request.__dict__.get(name) or custom.get(name))


def _attributes(task_id: object, request: Any) -> dict[str, Any]:
    """Return attributes of the span. Source: OpenTelemetry semantic conventions, messaging."""
    attributes: dict[str, Any] = {
        "messaging.system": "celery",
        "messaging.operation.type": "process",
        "messaging.operation.name": "run",
        "messaging.message.id": str(task_id),
        "celery.retries": int(request.retries or 0),
    }
    queue = (request.delivery_info or {}).get("routing_key")
    if queue:
        attributes["messaging.destination.name"] = str(queue)
    return attributes


def _is_prefork(pool: object) -> bool:
    """Return whether a worker's pool (a class, or its name) forks."""
    name = pool if isinstance(pool, str) else getattr(pool, "__module__", "")
    return name.partition(":")[0] in _PREFORK


def _contrib_is_active() -> bool:
    module = sys.modules.get(CONTRIB)
    return module is not None and bool(module.CeleryInstrumentor().is_instrumented_by_opentelemetry)
