"""`rolloutobs watch` as a process: what it listens on, what it keeps, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from rolloutobs import cli
from rolloutobs.testing import parse_metrics, sample_value
from tests.kubernetes_api import served
from tests.unit.rolloutobs.cluster.grafana_server import TOKEN, grafana_server

DEADLINE_SECONDS = 120


def fetched(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=DEADLINE_SECONDS) as answer:
        return answer.read().decode()


def until(condition):
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end


@pytest.fixture
def cluster(tmp_path):
    with served(tmp_path / "config") as found:
        found.begin("01_healthy")
        yield found


@pytest.fixture
def grafana():
    with grafana_server() as found:
        yield found


def test_it_watches_serves_keeps_and_marks_until_it_is_told_to_stop(cluster, grafana, tmp_path):
    command = [
        sys.executable,
        "-m",
        "rolloutobs.cli",
        "watch",
        "--listen",
        "127.0.0.1:0",
        "--namespace",
        "shop",
    ]
    command += ["--kubeconfig", str(tmp_path / "config"), "--data-dir", str(tmp_path / "data")]
    environ = {**os.environ, "ROLLOUTOBS_GRAFANA_URL": grafana.url, "ROLLOUTOBS_GRAFANA_TOKEN": TOKEN}
    command += ["--grafana-dashboard", "version-comparison"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    ) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith(f"watching shop of {cluster.url}, listening on port ")
            port = line.rpartition(" ")[2].strip()
            revision = "rolloutobs_rollout_revision"
            until(lambda: sample_value(parse_metrics(fetched(port, "/metrics")), revision) == 1)
            cluster.soon("01_healthy")
            until(lambda: sample_value(parse_metrics(fetched(port, "/metrics")), revision) == 2)

            def kinds():
                return [one["kind"] for one in json.loads(fetched(port, "/v1/events?workload=pay"))]

            until(lambda: "completed" in kinds())
            assert fetched(port, "/healthz") == fetched(port, "/readyz") == "ok\n"
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    kept = [json.loads(text) for text in (tmp_path / "data" / "changes.jsonl").read_text().splitlines()]
    assert sum(one["kind"] == "started" for one in kept) == 1
    assert [(item["text"], item["dashboardUID"]) for item in grafana.items.values()][-1] == (
        "pay 1.4.0 -> 1.5.0: completed",
        "version-comparison",
    )
    assert TOKEN not in err


def test_a_grafana_without_a_token_is_told_before_anything_is_watched(cluster, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("ROLLOUTOBS_GRAFANA_TOKEN", raising=False)
    config = ("--kubeconfig", str(tmp_path / "config"), "--listen", "127.0.0.1:0")
    assert cli.main(["watch", *config, "--grafana", "grafana.example"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "rolloutobs: no token for Grafana: use --token-file, or the variable ROLLOUTOBS_GRAFANA_TOKEN"
    )
