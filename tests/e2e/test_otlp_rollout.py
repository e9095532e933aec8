"""A real OTLP receiver (rotel) gets a rollout from the watcher and its verdict from the gate: one trace."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import rotel

from examples.demo.processes import Processes, free_ports
from rolloutobs.analysis.guardrails import Guardrails, Rollback
from rolloutobs.cli.spans import send_span
from rolloutobs.cluster.traces import trace_sink
from tests.e2e.otlp_spans import received
from tests.unit.analysis.test_report import report
from tests.unit.rolloutobs.cluster.recorded import changes_of

ROLLOUT = "c39b3bc1-13c1-4631-8b03-b1d78bd0a812-3"


async def test_a_rollout_and_its_verdict_are_one_trace(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    http, grpc = free_ports(2)
    agent = Path(rotel.__file__).with_name("rotel-agent")
    argv = [
        str(agent), "start", "--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint",
        f"127.0.0.1:{grpc}", "--exporter", "blackhole", "--debug-log", "traces",
        "--debug-log-verbosity", "detailed",
    ]  # fmt: skip
    await processes.start("receiver", argv, {})
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{http}"}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    sink = trace_sink(environ)
    assert sink is not None
    for change in changes_of("02_stuck", "03_rollback"):
        await sink.take(change)
    # The receiver may not listen yet: whoever sends tries again.
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(
            send_span, report(rails=Guardrails(Rollback.UNSAFE, owner="team-shop")), ROLLOUT, environ
        ):
            await asyncio.sleep(0.1)
    await sink.close()
    assert sink.failures == 0
    log = tmp_path / "logs" / "receiver.log"
    async with asyncio.timeout(60):
        while log.read_text("utf-8").count(": rollout\n") < 3 or ": verdict\n" not in log.read_text("utf-8"):
            await asyncio.sleep(0.1)
    await processes.stop("receiver")
    spans = received(log.read_text("utf-8"))

    (root,) = [span for span in spans if span["rolloutobs.rollout.id"] == ROLLOUT]
    trace = [span for span in spans if span["Trace ID"] == root["Trace ID"]]
    names = {span["ID"]: span["Name"] for span in trace}
    assert sorted((span["Name"], names.get(span["Parent ID"], ""), span["service"]) for span in trace) == [
        ("pod start", "scale", "rolloutobs-watch"),
        ("rollout", "", "rolloutobs-watch"),
        ("scale", "rollout", "rolloutobs-watch"),
        ("stuck", "rollout", "rolloutobs-watch"),
        ("verdict", "rollout", "rolloutobs-gate"),
    ]
    assert root["Start time"] == "1795391207000000000"
    assert root["Status code"] == "STATUS_CODE_ERROR"
    (verdict,) = [span for span in trace if span["Name"] == "verdict"]
    assert verdict["rolloutobs.verdict.decision"] == "hold"
    assert verdict["rolloutobs.verdict.owner"] == "team-shop"
    assert verdict["Status message"].startswith("HOLD, and page team-shop: ")
    assert root["Status message"] == "ProgressDeadlineExceeded"
    assert [span["Name"] for span in spans].count("rollout") == 3
