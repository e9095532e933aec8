"""The table of ``calibrate`` on recorded pods; reading them from a real Prometheus is in test_prometheus."""

import json

import pytest

from rolloutobs import cli
from tests.unit.analysis.test_replay import readings


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(
        json.dumps(
            {"deadline_seconds": 600, "warmup_seconds": 0, "signals": {"latency": None, "journey": None}}
        )
    )
    return str(path)


@pytest.mark.parametrize(
    ("rates", "code", "alarms"),
    [
        ((0.02,) * 4, 0, "0 rolled back (0.0 %, wanted at most 1 %)"),
        ((0.02, 0.02, 0.02, 0.06), 1, "2 rolled back"),
        ((0.0,) * 4, 3, "0 rolled back"),
    ],
    ids=["alike", "one differs", "nothing to see"],
)
def test_calibrate_names_the_tolerance_to_set(rates, code, alarms, policy, monkeypatch, capsys):
    async def history(arguments, policy, now):
        return readings(rates, end=2100)

    monkeypatch.setattr("rolloutobs.cli.calibrate._history", history)
    assert cli.main(["calibrate", "--prometheus", "http://p:9090", "--policy", policy]) == code
    shown = capsys.readouterr().out
    assert "8 runs, 4 stable pods, each against the others for 600 s" in shown
    assert alarms in shown
    assert ("tolerance_ratio:" in shown) is (code == 1)
    assert ("pod-3: ROLLBACK after" in shown) is (code == 1)
    assert ("too few events" in shown) or code != 3
