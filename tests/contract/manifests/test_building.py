"""Every kustomization builds, with kubectl and with us, and holds to the schemas."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from rolloutobs.manifests.kustomize import build
from tests.contract.manifests.built import K8S, NAMES, built, of, of_kind

CUSTOM = {
    "ServiceMonitor", "PodMonitor", "PrometheusRule", "Rollout", "AnalysisTemplate", "Canary",
    "MetricTemplate",
}  # fmt: skip
"""Kinds of the Prometheus Operator, of Argo Rollouts and of Flagger."""
HASH = re.compile(r"-(?=[a-z]*\d)[a-z0-9]{10}$")


def test_there_is_something_to_build() -> None:
    assert NAMES == [
        "argo-rollouts", "base", "dashboards", "flagger", "flagger-metrics", "overlays/scale",
        "overlays/scale/load", "overlays/scale/queue", "overlays/shop", "overlays/shop/app", "rules",
    ]  # fmt: skip


def test_render_adds_the_token_as_kubectl_does(tmp_path: Path) -> None:
    """A component is built with what it is added to."""
    folders = ("base", "argo-rollouts")
    path = {name: os.path.relpath(K8S / name, tmp_path) for name in (*folders, "components/token")}
    wanted = {"resources": [path[name] for name in folders], "components": [path["components/token"]]}
    (tmp_path / "kustomization.yaml").write_text(json.dumps(wanted), "utf-8")
    theirs = of(tmp_path)
    assert theirs != (*built("base"), *built("argo-rollouts"))
    for kind, name in (("Deployment", "rolloutobs-serve"), ("AnalysisTemplate", "rolloutobs-verdict")):
        found = [
            [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
            for objects in (theirs, build(tmp_path))
        ]
        assert len(found[0]) == 1
        assert found[0] == found[1]


@pytest.mark.parametrize("name", NAMES)
def test_render_builds_what_kubectl_builds(name: str) -> None:
    """But for the hash that kubectl puts behind the names of generated ConfigMaps."""
    hashed = {
        each["metadata"]["name"]: HASH.sub("", each["metadata"]["name"])
        for each in of_kind(name, "ConfigMap")
    }
    theirs = json.dumps([sortable(each) for each in built(name)], sort_keys=True)
    for long, short in hashed.items():
        theirs = theirs.replace(f'"{long}"', f'"{short}"')
    ours = json.dumps([sortable(each) for each in build(K8S / name)], sort_keys=True)
    assert sorted(json.loads(theirs), key=str) == sorted(json.loads(ours), key=str)


def sortable(value: Any) -> Any:
    """Return a value with its lists of mappings in one order: kubectl puts what is merged in first."""
    if isinstance(value, dict):
        return {key: sortable(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    items = [sortable(item) for item in value]
    keyed = items and all(isinstance(item, dict) and {"name", "mountPath"} & item.keys() for item in items)
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if keyed else items


@pytest.mark.parametrize("name", NAMES)
def test_kubernetes_schemas(name: str) -> None:
    """Strictly: an unknown field is an error."""
    for each in built(name):
        if each["kind"] not in CUSTOM:
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
    assert [each["metadata"]["name"] for each in built(name)]
