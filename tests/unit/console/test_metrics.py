"""What Prometheus sees of the console."""

from rolloutobs.analysis.guardrails import Guardrails, Rollback
from rolloutobs.analysis.history import NOTHING, History
from rolloutobs.analysis.model import Decision, Verdict
from rolloutobs.analysis.report import Report
from rolloutobs.console.board import Board
from rolloutobs.console.failures import Failures
from rolloutobs.console.metrics import Metrics
from rolloutobs.console.model import Seen, Workload
from rolloutobs.testing import FakeClock, parse_metrics

WORKLOADS = {
    "bad": (Decision.ROLLBACK, True),
    "held": (Decision.ROLLBACK, True),
    "idle": (Decision.HOLD, False),
    "waits": (Decision.HOLD, True),
}


def test_a_workload_without_a_canary_holds_nothing_and_what_failed_is_counted():
    clock, failures = FakeClock(1000.0), Failures()
    board = Board(None, clock, failures=failures)
    for name, (decision, has_canary) in WORKLOADS.items():
        rails = Guardrails(Rollback.UNSAFE, "", "team-db") if name == "held" else Guardrails()
        workload = Workload("shop", name, name, rails=rails)
        board.put(workload)
        report = Report(name, 0.0, 1.0, Verdict(decision, "words", 1.0, "", (), NOTHING), History())
        board.tell(workload.key, 1, Seen(1000.0, report, has_canary, None, answered=True))
    board.put(Workload("shop", "blind", ""))
    away = Seen(1000.0, report, False, None, answered=False, failed=("a: refused", "b: refused"))
    board.tell(("shop", "blind"), 1, away)
    for _ in range(2):
        board.fail(("shop", "blind"), 1, "several apps")
    metrics = Metrics(board, failures, clock)
    metrics.answered(("shop", "bad"), "rollback", 200)
    samples = parse_metrics(metrics.text().decode())
    decided = {
        (s.labels["workload"], s.labels["decision"])
        for s in samples
        if s.name == "rolloutobs_verdict" and s.value == 1
    }
    assert decided == {("bad", "rollback"), ("held", "hold"), ("waits", "hold")}
    found = {
        (s.name.removeprefix("rolloutobs_gate_"), *s.labels.values()): s.value
        for s in samples
        if s.name.startswith("rolloutobs_gate_") and s.value
    }
    assert found == {
        **{("looks_total", name, "shop", name): 1.0 for name in WORKLOADS},
        **{("last_look_timestamp_seconds", name, "shop", name): 1000.0 for name in WORKLOADS},
        ("looks_total", "", "shop", "blind"): 1.0,
        ("failed_reads_total", "", "shop", "blind"): 2.0,
        ("rollback_held", "held", "shop", "team-db", "held"): 1.0,
        ("answers_total", "rollback", "shop", "200", "bad"): 1.0,
        ("failures_total", "look"): 3.0,
    }
