"""What an instrumented app gets, and how it is scraped."""

from __future__ import annotations

from pathlib import Path

import yaml

from rolloutobs.detection.track import TRACK_KEYS
from rolloutobs.settings import DEFAULT_LABELS_FILE
from tests.contract.manifests.built import K8S, of_kind, pods


def test_the_app_component_reaches_the_shop_and_only_the_shop() -> None:
    for workload, template in pods("overlays/shop"):
        is_app = workload in ("shop-stable", "shop-canary", "inventory")
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        assert ({"podinfo", "cells"} <= volumes) is is_app
        if is_app:
            (container,) = template["spec"]["containers"]
            mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
            assert mounts["podinfo"]["mountPath"] == str(Path(DEFAULT_LABELS_FILE).parent)
            assert "subPath" not in mounts["podinfo"]
            env = {entry["name"]: entry.get("value") for entry in container["env"]}
            assert env["ROLLOUTOBS_METRICS_DIR"] == mounts["cells"]["mountPath"]
            assert template["metadata"]["labels"]["rolloutobs.io/scrape"] == container["ports"][0]["name"]


def test_a_rollout_has_inline_what_the_app_component_adds() -> None:
    """Kustomize cannot merge it in."""
    (patch,) = yaml.safe_load((K8S / "components/app/kustomization.yaml").read_text("utf-8"))["patches"]
    added = yaml.safe_load(patch["patch"])["spec"]["template"]
    (rollout,) = of_kind("argo-rollouts", "Rollout")
    template = rollout["spec"]["template"]
    (container,), (wanted,) = template["spec"]["containers"], added["spec"]["containers"]
    assert container["name"] == wanted["name"]
    for there, expected in (
        (container["env"], wanted["env"]),
        (container["volumeMounts"], wanted["volumeMounts"]),
        (template["spec"]["volumes"], added["spec"]["volumes"]),
    ):
        assert [each for each in there if each["name"] in {e["name"] for e in expected}] == expected
    assert added["metadata"]["labels"].items() <= template["metadata"]["labels"].items()


def test_tracks_are_labels_that_the_sdk_reads() -> None:
    found = {
        (workload, template["metadata"]["labels"][TRACK_KEYS[0]])
        for workload, template in pods("overlays/shop")
        if TRACK_KEYS[0] in template["metadata"]["labels"]
    }
    assert found == {("shop-stable", "stable"), ("shop-canary", "canary")}


def test_monitors_keep_the_labels_of_processes() -> None:
    """And the collector's relabels nothing: what it counts is of the pages' versions."""
    for each in [*of_kind("base", "ServiceMonitor"), *of_kind("overlays/shop", "PodMonitor")]:
        spec = each["spec"]
        (endpoint,) = spec.get("endpoints") or spec["podMetricsEndpoints"]
        assert endpoint["honorLabels"] is True
        relabelled = [rule["targetLabel"] for rule in endpoint.get("relabelings", ())]
        assert relabelled == (
            ["app", "version", "track"] if each["metadata"]["name"] == "rolloutobs-apps" else []
        )
