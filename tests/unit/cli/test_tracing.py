"""What `rolloutobs serve` sends of its decisions, and what it gives up."""

import threading
import time
from dataclasses import replace

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from rolloutobs.analysis.model import Decision
from rolloutobs.cli.tracing import Tracer
from rolloutobs.cluster.stories import root_id, span_id, trace_id
from rolloutobs.console.board import Board
from rolloutobs.console.failures import Failures
from rolloutobs.console.keeping import Folder
from rolloutobs.console.model import Workload
from tests.kubernetes_api import served
from tests.serving import OtlpReceiver, serving
from tests.unit.console.test_board import KEY, SHOP, seen
from tests.unit.rolloutobs.cluster.made import deployment, progressing

NOW = 1795391207.0
LIMIT_SECONDS = 60.0


@pytest.fixture
def receiver(monkeypatch):
    with serving(OtlpReceiver()) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
        yield server


def spans(receiver):
    found = [
        span
        for received in receiver.received
        for resource in ExportTraceServiceRequest.FromString(received.body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert len(found) == len(receiver.received)
    return found


def until(condition):
    deadline, waiting = time.monotonic() + LIMIT_SECONDS, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        waiting.wait(0.01)


def test_a_decision_after_another_has_a_span_of_its_own_and_one_without_a_rollout_is_given_up(
    tmp_path, receiver
):
    failures = Failures()
    (tmp_path / "state").mkdir()

    def started(cluster):
        board = Board(Folder(tmp_path / "state"), lambda: NOW)
        for workload in (SHOP, Workload("shop", "nowhere", "nowhere")):
            board.put(workload)
        tracer = Tracer(cluster.connection(), board, failures, lambda: NOW)
        tracer.start()
        return board, tracer

    with served(tmp_path / "kubeconfig") as cluster:
        cluster.put("deployments", [deployment("2.0", 7, [progressing("x")])])
        board, tracer = started(cluster)
        for _ in range(3):
            board.tell(("shop", "nowhere"), 1, seen(Decision.ROLLBACK, NOW))
        promoted = seen(Decision.PROMOTE, NOW)
        board.tell(KEY, 1, promoted)
        receiver.until(1)
        tracer.close()
        # The next process sends nothing again, and what comes later beside it.
        board, tracer = started(cluster)
        worse = seen(Decision.ROLLBACK, NOW + 30)
        worse = replace(worse, report=replace(worse.report, began=promoted.report.began))
        for look in (promoted, worse, worse):
            board.tell(KEY, 1, look)
        receiver.until(2)
        tracer.close()
    uid = "uid-shop-7"
    assert [
        (
            int.from_bytes(span.trace_id),
            int.from_bytes(span.parent_span_id),
            int.from_bytes(span.span_id),
            span.start_time_unix_nano / 1e9,
            span.end_time_unix_nano / 1e9,
            span.status.message,
        )
        for span in spans(receiver)
    ] == [
        (trace_id(uid), root_id(uid), span_id(uid, f"verdict/{began:.0f}"), began, ended, message)
        for began, ended, message in ((NOW - 60, NOW, ""), (NOW, NOW + 30, "ROLLBACK."))
    ]
    assert board.get(KEY).rollout.traced == "rollback"
    assert failures.totals()["traces"] == 1
    assert board.get(("shop", "nowhere")).rollout.traced == ""


def test_the_trace_of_another_rollout_gets_nothing(tmp_path, receiver):
    """A cluster that could not be read, and can be once the canary is gone, may be in the next one."""
    failures = Failures()
    with served(tmp_path / "kubeconfig") as cluster:
        cluster.put("deployments", [deployment("2.0", 7, [progressing("x")])])
        cluster.forbidden.add("deployments")
        board = Board(None, lambda: NOW)
        board.put(SHOP)
        tracer = Tracer(cluster.connection(), board, failures, lambda: NOW)
        tracer.start()
        board.tell(KEY, 1, seen(Decision.ROLLBACK, NOW))
        until(lambda: failures.totals()["traces"] == 1)
        cluster.forbidden.clear()

        def is_given_up():
            board.tell(KEY, 1, seen(Decision.ROLLBACK, NOW, canary=False))
            return failures.totals()["traces"] == 2

        until(is_given_up)
        board.tell(KEY, 1, seen(Decision.ROLLBACK, NOW))
        tracer.close()
    assert (spans(receiver), board.get(KEY).rollout.traced) == ([], "")
    assert failures.totals()["traces"] == 2
