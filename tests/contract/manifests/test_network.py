"""Network policies: who has to reach whom does, in both directions, and nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from rolloutobs.manifests.personal import EXAMPLE_PROMETHEUS
from tests.contract.manifests.built import of_kind, pods

NAMESPACE = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Place:
    """Pods of somebody: those of a build by their workload, or others by their namespace."""

    namespace: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)


def elsewhere(namespace: str, **labels: str) -> Place:
    return Place({NAMESPACE: namespace, **labels})


def place(name: str, workload: str) -> Place:
    """Return the pods of a workload of a build, which is all in one namespace but for the shop."""
    (template,) = [template for each, template in pods(name) if each == workload]
    found = {p["name"]: p["containerPort"] for c in template["spec"]["containers"] for p in c["ports"]}
    return Place({NAMESPACE: home(name)}, template["metadata"]["labels"], found)


def home(name: str) -> str:
    return "shop" if name == "flagger" else "rolloutobs"


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    expressions = selector.get("matchExpressions", ())
    assert {each["operator"] for each in expressions} <= {"In"}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def is_peer(peer: Mapping[str, Any], other: Place, own: str) -> bool:
    """Source: Kubernetes, "Network Policies": without a namespaceSelector the policy's own namespace."""
    inside = {"matchLabels": {NAMESPACE: own}}
    return selects(peer.get("namespaceSelector", inside), other.namespace) and selects(
        peer.get("podSelector", {}), other.labels
    )


def allowed(name: str, source: Place, target: Place, port: int) -> bool:
    """Tell whether the policies of a build let `source` reach a TCP port of `target`."""
    for direction, inner, outer in (("egress", source, target), ("ingress", target, source)):
        policies = [
            each["spec"]
            for each in of_kind(name, "NetworkPolicy")
            if direction.title() in each["spec"]["policyTypes"]
            and inner.namespace[NAMESPACE] == home(name)
            and selects(each["spec"]["podSelector"], inner.labels)
        ]
        side = "to" if direction == "egress" else "from"
        rules = [rule for each in policies for rule in each.get(direction, ())]
        if policies and not any(
            (side not in rule or any(is_peer(peer, outer, home(name)) for peer in rule[side]))
            and port in [target.ports.get(each["port"], each["port"]) for each in rule["ports"]]
            for rule in rules
        ):
            return False
    return True


MONITORING, INGRESS, FLAGGER, ARGO = map(
    elsewhere, ("monitoring", "ingress-nginx", "flagger-system", "argo-rollouts")
)
PROMETHEUS_PORT = int(EXAMPLE_PROMETHEUS.rpartition(":")[2])
PARTS = ("rolloutobs-collector", "rolloutobs-serve", "rolloutobs-watcher")


@pytest.mark.parametrize("name", ["base", "overlays/scale", "overlays/shop"])
def test_who_has_to_reach_whom(name: str) -> None:
    collector, serve, watcher = (place(name, part) for part in PARTS)
    for part in (collector, serve, watcher):
        (port,) = part.ports.values()
        assert allowed(name, MONITORING, part, port), "scraped"
        assert allowed(name, part, elsewhere("kube-system"), 53), "names"
        assert not allowed(name, elsewhere("shop"), part, port), "anybody"
    for caller in (FLAGGER, ARGO, INGRESS):
        assert allowed(name, caller, serve, serve.ports["http"])
    assert allowed(name, INGRESS, collector, collector.ports["http"])
    assert allowed(name, serve, MONITORING, PROMETHEUS_PORT)
    assert allowed(name, collector, watcher, watcher.ports["http"])
    assert allowed(name, elsewhere("grafana"), watcher, watcher.ports["http"]), "recent events"
    assert allowed(name, watcher, elsewhere("grafana"), 3000), "regions"
    for asking in (serve, watcher):
        assert allowed(name, asking, MONITORING, 4318), "traces"
        # Its address is outside of all namespaces.
        assert allowed(name, asking, elsewhere(""), 6443)
    assert not allowed(name, collector, elsewhere(""), 6443)


def test_what_is_sent_on_at_scale_reaches_the_queue_and_kafka() -> None:
    name = "overlays/scale"
    queue = place(name, "rolloutobs-queue")
    for sender in PARTS:
        assert allowed(name, place(name, sender), queue, queue.ports["otlp"]), sender
    assert allowed(name, elsewhere("shop", **{"rolloutobs.io/otlp": "true"}), queue, queue.ports["otlp-grpc"])
    assert not allowed(name, elsewhere("shop"), queue, queue.ports["otlp"])
    assert allowed(name, MONITORING, queue, queue.ports["metrics"])
    assert allowed(name, queue, elsewhere("kafka"), 9092)


def test_nobody_but_flagger_has_checks_run() -> None:
    checks = place("flagger", "rolloutobs-checks")
    port = checks.ports["http"]
    assert allowed("flagger", FLAGGER, checks, port)
    for other in (MONITORING, INGRESS, elsewhere("shop"), elsewhere("default")):
        assert not allowed("flagger", other, checks, port)
