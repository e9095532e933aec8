"""The table of ``calibrate`` on recorded pods; reading them from a real Prometheus is in test_prometheus."""

import json
import time

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
    past, largest = readings(rates, end=2100), []

    async def history(source, url, span, step):
        found = [each for each in past if span[0] <= each.at <= span[1]]
        largest.append(len(found))
        return found[:: round(step / 15)]

    monkeypatch.setattr("rolloutobs.cli.calibrate.history", history)
    monkeypatch.setattr(time, "time", lambda: past[-1].at)
    assert (
        cli.main(["calibrate", "--prometheus", "http://p:9090", "--last", "36m", "--policy", policy]) == code
    )
    assert max(largest[1:]) <= 81, "a window and its past are all that is held at a time"
    shown = capsys.readouterr().out
    assert "8 runs, 4 stable pods, each against the others for 600 s" in shown
    assert alarms in shown
    assert ("tolerance_ratio:" in shown) is (code == 1)
    assert ("pod-3: ROLLBACK after" in shown) is (code == 1)
    assert ("too few events" in shown) or code != 3
