"""What kubectl makes of the folders of k8s/, for all tests about them."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
K8S = ROOT / "k8s"
KUBECTL = Path(sys.executable).parent / "kubectl"
BUILT = sorted(path.parent for path in K8S.rglob("kustomization.yaml") if "components" not in path.parts)
NAMES = [str(path.relative_to(K8S)) for path in BUILT]


@functools.cache
def built(name: str) -> tuple[dict[str, Any], ...]:
    """Return what kubectl makes of a kustomization of ours."""
    return of(K8S / name)


def of(folder: Path) -> tuple[dict[str, Any], ...]:
    """Return what kubectl makes of a kustomization."""
    argv = [KUBECTL, "kustomize", folder]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return tuple(yaml.load_all(done.stdout, yaml.CSafeLoader))


def of_kind(name: str, *kinds: str) -> list[dict[str, Any]]:
    return [each for each in built(name) if each["kind"] in kinds]


def pods(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and template of everything that makes pods."""
    for each in of_kind(name, "Deployment", "StatefulSet", "Job", "CronJob", "Rollout", "AnalysisTemplate"):
        spec = each["spec"]["jobTemplate"]["spec"] if each["kind"] == "CronJob" else each["spec"]
        if each["kind"] == "AnalysisTemplate":
            job = spec["metrics"][0]["provider"].get("job")
            if job is None:
                continue
            spec = job["spec"]
        yield each["metadata"]["name"], spec["template"]


def containers(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for workload, template in pods(name):
        for container in template["spec"]["containers"]:
            yield workload, container
