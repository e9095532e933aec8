"""Real Celery: a worker in a thread with a broker in memory, tasks from producer to end, and eager mode."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import WorkerLostError
from celery import Celery, signals
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Ignore, Reject, TimeLimitExceeded
from inline_snapshot import snapshot
from opentelemetry import baggage, context, trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.trace import SpanKind, StatusCode

from rolloutobs import Settings, operation
from rolloutobs.operations import set_outcome
from rolloutobs.operations.celery import instrument_celery, uninstrument_celery
from rolloutobs.telemetry import hub
from rolloutobs.testing import SpanRecorder
from tests.unit.rolloutobs.operations.conftest import failures, outcomes, samples, timed

SECONDS = 30


@pytest.fixture
def instrumented() -> Iterator[None]:
    instrument_celery()
    instrument_celery()
    yield
    uninstrument_celery()


@pytest.fixture(scope="module")
def app() -> Celery:
    made = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    made.conf.update(
        task_default_queue=f"q{uuid.uuid4().hex[:8]}",
        broker_connection_retry_on_startup=False,
        broker_transport_options={"polling_interval": 0.01},
        worker_hijack_root_logger=False,
    )

    @made.task(shared=False, name="add")
    def add(a: int, b: int) -> int:
        return a + b

    @made.task(shared=False, name="trace")
    def trace_() -> dict[str, Any]:
        where = trace.get_current_span().get_span_context()
        return {"trace": f"{where.trace_id:032x}", "tenant": baggage.get_baggage("tenant")}

    @made.task(shared=False, name="boom")
    def boom() -> None:
        raise ValueError("no stock")

    @made.task(shared=False, name="expected", throws=(KeyError,))
    def expected() -> None:
        raise KeyError("no such product")

    @made.task(shared=False, name="again", bind=True, max_retries=1, default_retry_delay=0)
    def again(self: Any) -> str:
        if self.request.retries == 0:
            raise self.retry(exc=TimeoutError("busy"))
        return "done"

    @made.task(shared=False, name="ignored")
    def ignored() -> None:
        raise Ignore

    @made.task(shared=False, name="refused")
    def refused() -> None:
        raise Reject("bad", requeue=False)

    @made.task(shared=False, name="said")
    def said() -> None:
        set_outcome("rejected")

    return made


@pytest.fixture(scope="module")
def worker(app: Celery) -> Iterator[Callable[..., Any]]:
    """Runs tasks in a worker; returns how to send one and wait until its run has ended."""
    ended: dict[str, threading.Event] = {}

    def at_end(task_id: str, **_: Any) -> None:
        ended.setdefault(task_id, threading.Event()).set()

    signals.task_postrun.connect(at_end, weak=False, dispatch_uid="test-ended")

    def run(name: str, *args: Any, **options: Any) -> Any:
        result = app.send_task(name, args=args, **options)
        assert ended.setdefault(result.id, threading.Event()).wait(SECONDS), f"{name} was not run"
        return result

    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=SECONDS):
        yield run
    # A worker sets up the logging of its process, which here is that of all further tests.
    root.setLevel(level)
    root.handlers[:] = handlers
    signals.task_postrun.disconnect(dispatch_uid="test-ended")


@pytest.fixture
def eager(app: Celery) -> Iterator[Celery]:
    app.conf.task_always_eager = True
    yield app
    app.conf.task_always_eager = app.conf.task_eager_propagates = False


def test_from_a_producer_to_a_worker(
    instrumented: None, worker: Callable[..., Any], recorded: SpanRecorder
) -> None:
    token = context.attach(baggage.set_baggage("tenant", "a b"))
    with operation("job", "produce") as job:
        first = worker("trace").get(SECONDS)
    context.detach(token)
    assert worker("add", 1, 2).get(SECONDS) == 3
    where = job.span.get_span_context()
    assert first == {"trace": f"{where.trace_id:032x}", "tenant": "a b"}
    assert outcomes("task", "trace") == outcomes("task", "add") == {"ok": 1.0}
    assert timed("task", "trace") == 1.0
    span = next(span for span in recorded.spans if span.name == "trace")
    assert span.kind is SpanKind.CONSUMER
    assert span.parent is not None
    assert span.parent.span_id == where.span_id
    attributes = dict(span.attributes or {})
    assert attributes.pop("messaging.message.id")
    assert attributes.pop("messaging.destination.name")
    assert attributes == snapshot(
        {
            "messaging.system": "celery",
            "messaging.operation.type": "process",
            "messaging.operation.name": "run",
            "celery.retries": 0,
            "app.version": "1.2.0",
            "rolloutobs.track": "canary",
            "rolloutobs.caller.service": "worker",
            "rolloutobs.caller.version": "1.2.0",
            "rolloutobs.caller.track": "canary",
            "celery.state": "SUCCESS",
        }
    )
    # The second one came from nowhere: nothing of the first is left over.
    assert next(span for span in recorded.spans if span.name == "add").parent is None


def test_how_tasks_end(instrumented: None, worker: Callable[..., Any], recorded: SpanRecorder) -> None:
    for name in ("boom", "expected", "ignored", "refused", "said", "boom"):
        worker(name)
    assert outcomes("task", "boom") == {"error": 2.0}
    assert outcomes("task", "expected") == {"rejected": 1.0}
    assert outcomes("task", "ignored") == {"ok": 1.0}
    assert outcomes("task", "refused") == {"rejected": 1.0}
    assert outcomes("task", "said") == {"rejected": 1.0}
    failed = next(span for span in recorded.spans if span.name == "boom")
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.attributes or {})["error.type"] == "ValueError"
    assert [event.name for event in failed.events] == ["exception"]
    errors = [s for s in samples() if s.name == "app_errors_total" and s.labels["type"] == "ValueError"]
    assert sum(s.value for s in errors) == 2.0
    assert len(errors) == 1


def test_a_retry_is_a_run_of_its_own(
    instrumented: None, app: Celery, worker: Callable[..., Any], recorded: SpanRecorder
) -> None:
    result = worker("again")
    assert result.get(SECONDS) == "done"
    # The state is stored before the run ends; the next task ends after it.
    worker("add", 1, 1)
    assert outcomes("task", "again") == {"retry": 1.0, "ok": 1.0}
    first, second = (span for span in recorded.spans if span.name == "again")
    assert first.status.status_code is StatusCode.UNSET
    assert second.parent is not None
    assert first.context is not None
    assert second.parent.span_id == first.context.span_id
    assert (second.attributes or {})["celery.retries"] == 1


def test_what_never_runs_is_counted(
    instrumented: None, app: Celery, worker: Callable[..., Any], recorded: SpanRecorder
) -> None:
    app.send_task("add", args=(1, 1), expires=datetime(2020, 1, 1, tzinfo=UTC))
    app.send_task("of_the_next_version")
    worker("add", 2, 2)
    assert outcomes("task", "add") == {"cancelled": 1.0, "ok": 1.0}
    assert outcomes("task", "_unregistered") == {"error": 1.0}
    assert timed("task", "_unregistered") is None


def test_a_check_is_told_apart(
    instrumented: None, worker: Callable[..., Any], recorded: SpanRecorder
) -> None:
    with operation("job", "check", carrier={"baggage": "synthetic=test"}):
        worker("add", 1, 1)
    worker("add", 1, 1)
    assert outcomes("task", "add", synthetic="true") == {"ok": 1.0}
    assert outcomes("task", "add") == {"ok": 1.0}


def test_a_pool_process_that_is_gone_is_told_by_the_main_one(
    instrumented: None, app: Celery, recorded: SpanRecorder
) -> None:
    """The signals that a prefork worker's main process sends, for runs that began in another process."""
    task = app.tasks["add"]
    for error in (TimeLimitExceeded(3), WorkerLostError("signal 9"), Reject("bad", requeue=False)):
        signals.task_failure.send(sender=task, task_id="1", exception=error)
    signals.task_revoked.send(sender=task, request=SimpleNamespace(), terminated=True)
    # A refusal was counted where it was raised.
    assert outcomes("task", "add") == {"error": 2.0, "cancelled": 1.0}


def test_eager_tasks_are_part_of_what_runs_them(
    instrumented: None, eager: Celery, recorded: SpanRecorder
) -> None:
    with operation("job", "outer") as outer:
        assert eager.tasks["add"].delay(1, 2).get() == 3
        assert eager.tasks["trace"].apply(headers={"baggage": "tenant=x"}).get()["tenant"] == "x"
        inside = outer.span.get_span_context()
        assert trace.get_current_span().get_span_context() == inside
    eager.conf.task_eager_propagates = True
    with pytest.raises(ValueError, match="no stock"):
        eager.tasks["boom"].delay()
    assert outcomes("task", "add") == {"ok": 1.0}
    assert outcomes("task", "boom") == {"error": 1.0}
    add = next(span for span in recorded.spans if span.name == "add")
    assert add.parent is not None
    assert add.parent.span_id == inside.span_id
    assert context.get_current() == {}


@pytest.mark.parametrize("first", ["theirs", "ours"])
def test_with_opentelemetrys_own_there_is_one_span_per_run(
    first: str, worker: Callable[..., Any], recorded: SpanRecorder
) -> None:
    theirs = CeleryInstrumentor()
    if first == "ours":
        instrument_celery()
    theirs.instrument(tracer_provider=recorded.provider)
    if first == "theirs":
        instrument_celery()
    try:
        for _ in range(3):
            worker("add", 1, 1)
        worker("boom")
        assert worker("trace").get(SECONDS)
    finally:
        theirs.uninstrument()
        uninstrument_celery()
    assert outcomes("task", "add") == {"ok": 3.0}
    assert outcomes("task", "boom") == {"error": 1.0}
    runs = [span for span in recorded.spans if span.kind is SpanKind.CONSUMER]
    assert len(runs) == 5
    for span in runs:
        assert span.instrumentation_scope is not None
        assert span.instrumentation_scope.name == "opentelemetry.instrumentation.celery"
    for span in runs[1:]:
        assert (span.attributes or {})["app.version"] == "1.2.0"
        assert (span.attributes or {})["rolloutobs.caller.version"] == "1.2.0"


def test_recording_that_fails_breaks_no_task(instrumented: None, eager: Celery) -> None:
    hub.new_hub(Settings(service="worker", version="1.2.0", track="canary"))
    signals.task_prerun.send(sender=None, task=None, task_id=None)
    signals.task_postrun.send(sender=None, task=None, task_id=None)
    signals.before_task_publish.send(sender="x", headers=None)
    assert eager.tasks["add"].delay(1, 2).get() == 3
    assert outcomes("task", "add") == {"ok": 1.0}
    assert failures() == {"operation": 1.0}
