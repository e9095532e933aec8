"""The verdict as log events: what they say. That they arrive is tested with a real receiver."""

from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from rolloutobs import semconv
from rolloutobs.analysis.guardrails import Guardrails, Rollback
from rolloutobs.analysis.model import Decision, Evidence, ShareVerdict, Side
from rolloutobs.analysis.report import Override
from rolloutobs.cli.events import emit, events, told
from tests.unit.analysis.test_report import promoted, report, verdict


def test_a_rollback_is_told_with_what_decided_it_and_then_each_signal():
    (name, body, found), errors, latency = told(report())
    assert name == "rolloutobs.verdict"
    assert body == report().reason
    assert found == {
        "rolloutobs.verdict.app": "shop",
        "rolloutobs.verdict.phase": "rollout",
        "rolloutobs.verdict.decision": "rollback",
        "rolloutobs.verdict.canary.version": "1.2.0",
        "rolloutobs.verdict.stable.version": "1.1.0",
        "rolloutobs.verdict.interrupted": False,
        "rolloutobs.verdict.page": False,
        "rolloutobs.verdict.canary.requests": 410,
        "rolloutobs.verdict.stable.requests": 640,
        "rolloutobs.verdict.metric": "errors",
        "rolloutobs.verdict.nats": 6.4,
        "rolloutobs.verdict.threshold": 6.0,
        "rolloutobs.verdict.proof_nats": -1.5,
        "rolloutobs.verdict.proof_threshold": 3.0,
        "rolloutobs.verdict.ratio": 4.03,
        "rolloutobs.verdict.ratio.low": 1.9,
    }
    assert errors[0] == latency[0] == "rolloutobs.verdict.metric"
    assert latency[1] == "slow answers: pass"
    assert latency[2] == {
        "rolloutobs.verdict.app": "shop",
        "rolloutobs.verdict.phase": "rollout",
        "rolloutobs.verdict.decision": "rollback",
        "rolloutobs.verdict.canary.version": "1.2.0",
        "rolloutobs.verdict.stable.version": "1.1.0",
        "rolloutobs.verdict.metric": "latency",
        "rolloutobs.verdict.outcome": "pass",
        "rolloutobs.verdict.nats": -1.2,
        "rolloutobs.verdict.threshold": 6.0,
        "rolloutobs.verdict.proof_nats": 4.5,
        "rolloutobs.verdict.proof_threshold": 3.0,
        "rolloutobs.verdict.ratio": 0.954,
        "rolloutobs.verdict.ratio.low": 0.6,
        "rolloutobs.verdict.ratio.high": 1.4,
    }


def test_a_bake_is_told_as_one():
    (_, body, found), *_ = told(promoted())
    assert found[semconv.VERDICT_ATTR_PHASE] == "bake"
    assert found[semconv.VERDICT_ATTR_DECISION] == "promote"
    assert "in a bake of 10 min" in body


def test_a_canary_without_its_traffic_is_told_with_that_evidence():
    evidence = (Evidence(Side.HOLD, 9.0, 3.0), Evidence(Side.ROLLBACK, 5.0, 4.6))
    starved = replace(verdict(), decided_by="share", share=ShareVerdict(0.05, 0.01, evidence))
    (_, _, found), *_ = told(report(verdict=starved))
    assert found[semconv.VERDICT_ATTR_METRIC] == "share"
    assert (found[semconv.VERDICT_ATTR_NATS], found[semconv.VERDICT_ATTR_THRESHOLD]) == (5.0, 4.6)


def test_a_person_is_told_too():
    (_, _, found), *_ = told(report(override=Override(Decision.PROMOTE, "hotfix", "by ann", "ann")))
    assert found[semconv.VERDICT_ATTR_OVERRIDE] == "hotfix"
    assert found[semconv.VERDICT_ATTR_OVERRIDE_WHO] == "ann"
    assert found[semconv.VERDICT_ATTR_DECISION] == "promote"
    assert found[semconv.VERDICT_ATTR_PAGE] is False


def test_a_page_is_told_as_bad_as_it_is_and_with_the_owner():
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    emit(
        report(rails=Guardrails(Rollback.UNSAFE, owner="team-shop")),
        provider.get_logger("rolloutobs.gate"),
    )
    of_decision, *_ = (data.log_record for data in exporter.get_finished_logs())
    assert of_decision.severity_text == "ERROR"
    assert of_decision.attributes[semconv.VERDICT_ATTR_DECISION] == "hold"
    assert of_decision.attributes[semconv.VERDICT_ATTR_PAGE] is True
    assert of_decision.attributes[semconv.VERDICT_ATTR_OWNER] == "team-shop"


@pytest.mark.parametrize("environ", [{}, {"OTEL_LOGS_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}])
def test_without_an_exporter_nothing_is_sent(environ):
    assert events(environ) is None


def test_every_attribute_is_in_the_docs():
    docs = (Path(__file__).parents[3] / "docs" / "verdict.md").read_text("utf-8")
    names = [value for name, value in vars(semconv).items() if name.startswith("VERDICT_ATTR_")]
    assert [n for n in names if f"`{n.removeprefix('rolloutobs.verdict.')}`" not in docs] == []
    assert len(names) > 10
