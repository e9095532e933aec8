"""Rules and alerts: promtool on scenarios, names against the code, the runbook, the files of both."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from k8s.source import files
from k8s.source.rules import ALERTS, GROUPS, Alert, Recording
from tests.rules import scenarios
from tests.rules.naming import exposed, metrics_of

LISTED = {
    # What the usual guides to rollouts name, and what the watcher and the gate add.
    "error spike over 5 %": "AppErrorRatioHigh",
    "outage": "DeploymentDown",
    "stuck": "RolloutStuck",
    "canary latency": "CanaryLatencyHigh",
    "restarts": "CanaryRestarting",
    "memory over 90 %": "VersionMemoryHigh",
    "completed": "RolloutFinished",
    "churn": "PodChurn",
    "held too long": "GateHeldTooLong",
    "gate stopped answering": "GateSilent",
    "rollout held too long": "RolloutHeldTooLong",
    "watcher down": "WatcherDown",
    "collector down": "CollectorDown",
    "server of the gate down": "GateServerDown",
    "unsafe rollback": "GateRollbackHeld",
    "track mismatch": "TrackMismatch",
    "canary without traffic": "CanaryWithoutTraffic",
    "canary without its share of traffic": "CanaryShareLow",
    "duration above baseline": "RolloutSlow",
    "mixed versions": "MixedVersions",
    "synthetic stale": "SyntheticStale",
    "load that fails on the canary": "SyntheticLoadFailing",
}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(scenarios.without_values(files.rule_groups(GROUPS))), "utf-8")
    return path


def promtool(*arguments: str | Path) -> str:
    """Return what promtool prints; it must exit with 0."""
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.prometheus
@pytest.mark.parametrize("name", scenarios.NAMES)
def test_every_alert_in_every_scenario(name: str, rules: Path, tmp_path: Path) -> None:
    test = tmp_path / "test.yaml"
    test.write_text(yaml.safe_dump(scenarios.for_promtool(name, rules)), "utf-8")
    promtool("test", "rules", test)


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("severity", "receiver"), [("critical", "page"), ("warning", "chat"), ("info", "digest"), ("", "chat")]
)
def test_each_tier_reaches_somebody(severity: str, receiver: str) -> None:
    config = files.FOLDER / "rules" / "alertmanager.yaml"
    argv = ["amtool", "config", "routes", "test", f"--config.file={config}", f"severity={severity}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [receiver]


def test_the_routing_names_alerts_that_exist() -> None:
    text = (files.FOLDER / "rules" / "alertmanager.yaml").read_text("utf-8")
    assert set(re.findall(r'alertname="(\w+)"', text)) <= {alert.name for alert in ALERTS}


def test_every_alert_fires_somewhere() -> None:
    fired = {alert for name in scenarios.NAMES for alert in scenarios.firing(name)}
    assert fired == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("name", ["healthy", "both-bad", "low-traffic", "no-data", "no-stable"])
def test_the_scenarios_in_which_no_canary_is_accused(name: str) -> None:
    assert not [alert for alert in scenarios.firing(name) if "Canary" in alert]


@pytest.mark.prometheus
def test_promtool_reads_the_files() -> None:
    assert "SUCCESS" in promtool("check", "rules", *sorted(files.FOLDER.glob("rules/[ar][le]*[sg].yaml")))


def test_the_files_are_what_the_code_writes() -> None:
    written = {path: (files.FOLDER / path).read_text("utf-8") for path in files.texts()}
    assert written == dict(files.texts()), "run `make k8s`"


def test_names_are_known() -> None:
    """Each metric comes from the code, kube-state-metrics, cAdvisor, or a recording rule before it."""
    known = exposed()
    unknown: dict[str, set[str]] = {}
    for group in GROUPS:
        for rule in group.rules:
            unknown[rule.name] = metrics_of(rule.expression) - known
            if isinstance(rule, Recording):
                assert re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", rule.name)
                known.add(rule.name)
    assert {name: missing for name, missing in unknown.items() if missing} == {}


def test_what_the_guides_name_is_there() -> None:
    assert set(LISTED.values()) <= {alert.name for alert in ALERTS}


def test_the_runbook_has_an_entry_for_every_alert() -> None:
    text = (files.FOLDER.parent / "docs" / "runbook.md").read_text("utf-8")
    headings = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert sorted(headings) == sorted(alert.name for alert in ALERTS)


def test_no_alert_waits_long() -> None:
    """A canary lives for minutes: what waits longer than that for it never fires."""
    assert max(rule.hold_seconds for rule in ALERTS if isinstance(rule, Alert)) <= 300
