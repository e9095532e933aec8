"""What one object names of another is there: volumes, settings, accounts, ports, paths of probes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.manifests.built import NAMES, containers, of_kind, pods

WITH_PODS = ["argo-rollouts", "base", "flagger", "overlays/scale", "overlays/shop"]
GIVEN = {"default", "rolloutobs"}
"""Accounts and Secrets that are not ours to bring."""
HEALTH = {
    "collector": {"/healthz"},
    "serve": {"/healthz", "/readyz"},
    "watcher": {"/healthz", "/readyz"},
    "gate": {"/healthz"},
    # Flagger's load tester, and the example.
    "checks": {"/healthz"},
    "app": {"/healthz"},
}
"""Paths that answer, by container; each part has tests that ask for them."""


def names(name: str, kind: str) -> set[str]:
    return {each["metadata"]["name"] for each in of_kind(name, kind)}


def sources(container: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the ConfigMaps and Secrets that fill a container's environment."""
    found = [pair for each in container.get("envFrom", ()) for pair in each.items()]
    return found + [pair for entry in container.get("env", ()) for pair in entry.get("valueFrom", {}).items()]


@pytest.mark.parametrize("name", WITH_PODS)
def test_what_a_pod_names_is_there(name: str) -> None:
    maps, claims = names(name, "ConfigMap"), names(name, "PersistentVolumeClaim")
    for workload, template in pods(name):
        spec = template["spec"]
        assert spec.get("serviceAccountName", "default") in names(name, "ServiceAccount") | GIVEN, workload
        for volume in spec["volumes"]:
            source = volume.get("configMap", {})
            assert not source or source.get("optional") or source["name"] in maps, volume
            claim = volume.get("persistentVolumeClaim", {})
            assert not claim or claim["claimName"] in claims, volume
    for workload, container in containers(name):
        for kind, source in sources(container):
            assert source.get("optional") or (kind == "configMapRef" and source["name"] in maps), workload


@pytest.mark.parametrize("name", WITH_PODS)
def test_volumes_and_mounts_are_the_same(name: str) -> None:
    for workload, template in pods(name):
        volumes = [volume["name"] for volume in template["spec"]["volumes"]]
        volumes += [
            claim["metadata"]["name"]
            for each in of_kind(name, "StatefulSet")
            for claim in each["spec"]["volumeClaimTemplates"]
            if each["metadata"]["name"] == workload
        ]
        (container,) = template["spec"]["containers"]
        mounts = [mount["name"] for mount in container["volumeMounts"]]
        assert sorted(mounts) == sorted(set(volumes)), workload
        assert len(mounts) == len(set(mounts))
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert len(paths) == len(set(paths)), workload


@pytest.mark.parametrize("name", WITH_PODS)
def test_probes_ask_for_what_there_is(name: str) -> None:
    for workload, container in containers(name):
        ports = {port["name"] for port in container.get("ports", ())}
        for probe in (container.get("readinessProbe"), container.get("livenessProbe")):
            if probe and not container["image"].startswith("otel/"):
                assert probe["httpGet"]["port"] in ports, workload
                assert probe["httpGet"]["path"] in HEALTH[container["name"]], workload
    for workload, container in containers(name):
        # What keeps a Service's traffic away from a pod that is not ready.
        assert "readinessProbe" in container or not serving(name, workload), workload


def serving(name: str, workload: str) -> bool:
    """Tell whether a Service sends traffic to the pods of a workload."""
    (labels,) = [template["metadata"]["labels"] for each, template in pods(name) if each == workload]
    return any(
        each["spec"]["selector"].items() <= labels.items()
        for each in of_kind(name, "Service")
        if not each["spec"].get("publishNotReadyAddresses")
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_selector_selects_something(name: str) -> None:
    """By the ports that it names, too."""
    found = [(template["metadata"]["labels"], ports(template)) for _, template in pods(name)]
    for each in of_kind(name, "Service"):
        wanted = {port["targetPort"] for port in each["spec"]["ports"]}
        assert some(found, each["spec"]["selector"], wanted), each["metadata"]["name"]
    for each in of_kind(name, "PodMonitor"):
        wanted = {endpoint["port"] for endpoint in each["spec"]["podMetricsEndpoints"]}
        # Of other apps in the namespace, too: here there may be none.
        if each["metadata"]["name"] != "rolloutobs-apps" or name in ("argo-rollouts", "overlays/shop"):
            assert some(found, each["spec"]["selector"]["matchLabels"], wanted), each["metadata"]["name"]
    for each in of_kind(name, "ServiceMonitor"):
        services = [
            (s["metadata"]["labels"], {p["name"] for p in s["spec"]["ports"]})
            for s in of_kind(name, "Service")
        ]
        wanted = {endpoint["port"] for endpoint in each["spec"]["endpoints"]}
        assert some(services, each["spec"]["selector"]["matchLabels"], wanted), each["metadata"]["name"]
    for each in of_kind(name, "Deployment", "StatefulSet", "PodDisruptionBudget", "Rollout"):
        assert some(found, each["spec"]["selector"]["matchLabels"], set()), each["metadata"]["name"]
    for each in of_kind(name, "NetworkPolicy"):
        wanted = {port["port"] for rule in each["spec"].get("ingress", ()) for port in rule["ports"]}
        assert some(found, each["spec"]["podSelector"]["matchLabels"], wanted), each["metadata"]["name"]


def ports(template: dict[str, Any]) -> set[str]:
    return {port["name"] for c in template["spec"]["containers"] for port in c.get("ports", ())}


def of_service(service: dict[str, Any]) -> set[str]:
    return {port["name"] for port in service["spec"]["ports"]}


def some(found: list[tuple[dict[str, str], set[str]]], selector: dict[str, str], wanted: set[str]) -> bool:
    return any(selector.items() <= labels.items() and wanted <= having for labels, having in found)


@pytest.mark.parametrize("name", ["argo-rollouts", "flagger", "overlays/shop"])
def test_every_ingress_leads_to_a_service(name: str) -> None:
    services = {
        e["metadata"]["name"]: {p["name"] for p in e["spec"]["ports"]} for e in of_kind(name, "Service")
    }
    for each in of_kind(name, "Canary"):
        # Flagger makes these.
        services[each["metadata"]["name"]] = {each["spec"]["service"].get("portName", "http")}
    ingresses = of_kind(name, "Ingress")
    assert "shop" in {each["metadata"]["name"] for each in ingresses}
    for ingress in ingresses:
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            service = path["backend"]["service"]
            assert service["port"]["name"] in services[service["name"]]
