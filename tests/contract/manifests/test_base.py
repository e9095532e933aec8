"""What a cluster has once: everything selects something, and may do what it does and nothing else."""

from __future__ import annotations

import pytest

from rolloutobs.cluster.resources import rules
from rum_collector.configuration import configured
from tests.contract.manifests.built import containers, of_kind, pods


def test_watcher_and_server_may_do_what_they_do_and_nothing_else() -> None:
    roles = {each["metadata"]["name"]: each["rules"] for each in of_kind("base", "ClusterRole")}
    assert sorted(roles.pop("rolloutobs-watcher"), key=str) == sorted(rules(), key=str)
    workloads = [("apps", "deployments"), ("argoproj.io", "rollouts"), ("flagger.app", "canaries")]
    assert roles == {
        "rolloutobs-serve": [
            {"apiGroups": [group], "resources": [plural], "verbs": ["list"]} for group, plural in workloads
        ]
    }
    accounts = {name: template["spec"]["serviceAccountName"] for name, template in pods("base")}
    for binding in of_kind("base", "ClusterRoleBinding"):
        name = binding["metadata"]["name"]
        assert binding["roleRef"]["name"] == name
        assert [subject["name"] for subject in binding["subjects"]] == [accounts[name]]
        assert binding["subjects"][0]["namespace"] == of_kind("base", "Namespace")[0]["metadata"]["name"]


@pytest.mark.parametrize("name", ["rolloutobs-serve", "rolloutobs-watcher"])
def test_what_keeps_a_state_is_there_once(name: str) -> None:
    (deployment,) = [e for e in of_kind("base", "Deployment") if e["metadata"]["name"] == name]
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    claims = {e["metadata"]["name"] for e in of_kind("base", "PersistentVolumeClaim")}
    used = [v["persistentVolumeClaim"]["claimName"] for v in deployment["spec"]["template"]["spec"]["volumes"]
            if "persistentVolumeClaim" in v]  # fmt: skip
    assert used == [name]
    assert name in claims
    # A budget of none would hold up every drain of its node.
    (budget,) = [e for e in of_kind("base", "PodDisruptionBudget") if e["metadata"]["name"] == name]
    assert budget["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("name", ["base", "overlays/scale", "overlays/shop"])
def test_the_collector_learns_from_the_watcher_which_versions_are_out(name: str) -> None:
    (data,) = [e["data"] for e in of_kind(name, "ConfigMap") if "collector" in e["metadata"]["name"]]
    watcher = {"app.kubernetes.io/name": "rolloutobs-watcher"}
    (service,) = [e for e in of_kind(name, "Service") if e["metadata"]["labels"].items() >= watcher.items()]
    (port,) = service["spec"]["ports"]
    url = f"http://{service['metadata']['name']}:{port['port']}/metrics"
    assert configured(data, {}).settings.version_urls == (url,)
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(name, "NetworkPolicy")}
    (out, *_), (inwards,) = (
        policies["rolloutobs-collector"]["egress"],
        policies["rolloutobs-watcher"]["ingress"],
    )
    assert out == {"to": [{"podSelector": {"matchLabels": watcher}}], "ports": [{"port": port["targetPort"]}]}
    collector = {"app.kubernetes.io/name": "rolloutobs-collector"}
    assert {"podSelector": {"matchLabels": collector}} in inwards["from"]
    assert inwards["ports"] == out["ports"]


def test_every_part_of_the_base_is_scraped_and_fenced_in() -> None:
    names = {each["metadata"]["name"] for each in of_kind("base", "Deployment")}
    assert names == {"rolloutobs-collector", "rolloutobs-serve", "rolloutobs-watcher"}
    for kind in ("ServiceMonitor", "NetworkPolicy", "Service", "ServiceAccount", "PodDisruptionBudget"):
        assert {each["metadata"]["name"] for each in of_kind("base", kind)} == names, kind
    ports = {each["metadata"]["name"]: each["spec"]["ports"] for each in of_kind("base", "Service")}
    for workload, container in containers("base"):
        assert [port["port"] for port in ports[workload]] == [container["ports"][0]["containerPort"]]
