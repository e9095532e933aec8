"""A real Prometheus between, and annotations of a cluster."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from examples.demo.processes import free_ports
from tests.e2e.serve.servers import BLIND, LIMIT_SECONDS, NO, PODS, YES, Console, Pods, files
from tests.kubernetes_api import served
from tests.unit.rolloutobs.cluster.made import canary


def annotated(namespace: str, rollback: str) -> dict[str, Any]:
    """Return a Canary of Flagger with what its owners have written on it."""
    found = canary("Progressing", "c1", 0.0)
    annotations = {"rolloutobs.io/rollback": rollback, "rolloutobs.io/owner": f"team-{namespace}"}
    own = {"name": "same", "namespace": namespace, "uid": namespace, "annotations": annotations}
    return {**found, "metadata": {**found["metadata"], **own}}


def asked_without_a_token(console: Console) -> None:
    """Where --no-token lets everybody ask, deciding takes a token all the same."""
    assert console.get("/v1/verdict?namespace=live&workload=same", "").status_code == 503
    assert console.get("/", "").status_code == 200
    call = {"namespace": "live", "workload": "same", "decision": "hold", "reason": "wait", "who": "ann"}
    assert console.post("/v1/override", call, token="another-token-entirely").status_code == 401
    for host in ("127.0.0.1", "127.0.0.1/healthz?"):
        refused = console.client.post(
            f"http://127.0.0.1:{console.port}/v1/override", json=call, headers={"Host": host}
        )
        assert refused.status_code in (400, 401), host
    assert console.post("/v1/override", call).json()["override"]["who"] == "ann"
    assert console.post("/v1/override", {**call, "decision": "none"}).json()["override"] is None


@pytest.mark.prometheus
def test_a_prometheus_that_comes_late_and_has_two_namespaces(tmp_path: Path, pods: Pods) -> None:
    """The same app runs in both; only its own namespace is a workload's evidence."""
    port, listen = free_ports(2)
    (tmp_path / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                "scrape_configs": [
                    {
                        "job_name": name,
                        "static_configs": [{"targets": [f"127.0.0.1:{pods.server_port}"]}],
                        "metrics_path": f"/{name}/{pod}",
                        "relabel_configs": [{"target_label": "instance", "replacement": f"{name}-{pod}"}],
                        "metric_relabel_configs": [
                            {"target_label": "namespace", "replacement": namespace},
                            {"target_label": "app", "replacement": "same"},
                        ],
                    }
                    | {"job_name": f"{name}-{pod}"}
                    for namespace, name in (("live", "live-one"), ("test", "test-one"))
                    for pod in PODS
                ],
            }
        )
    )
    pods.set("live-one", version="1.2.0")
    pods.set("test-one", version="1.2.0", bad=0.5)
    workloads = [{"namespace": name, "name": "same"} for name in ("live", "test")]
    defaults = {"interval": "1s", "policy": "policy.yaml", "prometheus": f"http://127.0.0.1:{port}"}
    files(tmp_path, {"defaults": defaults, "workloads": workloads})
    kubeconfig = tmp_path / "kubeconfig"
    options = ("--no-token", "--cluster", "--kubeconfig", str(kubeconfig))
    console = Console(tmp_path, listen, options=options)
    prometheus = None
    with served(kubeconfig) as cluster:
        cluster.put("canaries", [annotated("live", "safe"), annotated("test", "unsafe: migration 42")])
        console.start()
    try:
        # What is written on a workload holds, whether or not the cluster can still be read.
        code, blind = console.verdict("same", namespace="live")
        assert (code, blind["verdict"]) == (503, "inconclusive")
        assert console.hook("rollback", "same", namespace="live") == BLIND
        assert console.hook("confirm-rollout", "same", namespace="live") == BLIND
        assert console.hook("rollout", "same", namespace="live") == YES
        asked_without_a_token(console)
        argv = [
            "prometheus",
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
        ]
        argv += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        prometheus = subprocess.Popen(argv)
        console.until(lambda: console.verdict("same", namespace="live")[1]["verdict"] == "pass")
        found = console.until(
            lambda: (
                (f := console.verdict("same", namespace="test")[1])["evidence_decision"] == "rollback" and f
            )
        )
        assert (found["verdict"], found["page"], found["owner"]) == ("inconclusive", True, "team-test")
        assert found["guard_rails"] == {"rollback": "unsafe", "why": "migration 42"}
        assert console.hook("rollback", "same", namespace="test") == NO
    finally:
        console.close()
        if prometheus is not None:
            prometheus.terminate()
            prometheus.wait(LIMIT_SECONDS)
