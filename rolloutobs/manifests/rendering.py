"""The manifests that are wanted, and the files that they are written to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from rolloutobs.manifests.files import text
from rolloutobs.manifests.kustomize import Manifest, build, in_namespace
from rolloutobs.manifests.merge import merged
from rolloutobs.manifests.model import Controller, Wanted
from rolloutobs.manifests.personal import APPS, EXAMPLE, ORIGINS, personal
from rolloutobs.manifests.place import FOLDER

__all__ = ["for_the_app", "for_the_cluster", "in_files", "together"]

_FOLDERS: Final = {
    Controller.NONE: f"overlays/{EXAMPLE}/app",
    Controller.ARGO: "argo-rollouts",
    Controller.FLAGGER: "flagger",
}
_ASKING_GUARDED: Final = "components/token"
_OTHER_APPS: Final = {"inventory"}
"""Of the example; it calls them."""
_BY_NAME: Final = (
    ("rolloutobs-collector", "collector"), ("rolloutobs-watcher", "watcher"), ("rolloutobs-serve", "serve"),
)  # fmt: skip
_BY_KIND: Final = {
    "Namespace": "namespace",
    "PodMonitor": "monitors", "ServiceMonitor": "monitors", "PrometheusRule": "rules", "CronJob": "checks",
    "Job": "gate", "AnalysisTemplate": "gate", "MetricTemplate": "gate", "Canary": "gate",
    "ServiceAccount": "gate", "Role": "gate", "RoleBinding": "gate",
}  # fmt: skip
_LINK: Final = "runbook_url"
_DASHBOARD: Final = "grafana_dashboard"
_SETTINGS: Final = "rolloutobs.io/settings"


def for_the_app(wanted: Wanted) -> list[Manifest]:
    """Return what runs beside one app: its workload, its monitors, checks and gate."""
    found = [
        each
        for each in _built(_FOLDERS[wanted.controller], wanted)
        if each["kind"] != "Namespace" and each["metadata"]["name"] not in _OTHER_APPS
    ]
    return personal(found, wanted)


def _built(folder: str, wanted: Wanted) -> list[Manifest]:
    found = build(FOLDER / folder)
    return build(FOLDER / _ASKING_GUARDED, found) if wanted.with_token else found


def for_the_cluster(wanted: Wanted) -> list[Manifest]:
    """Return what a cluster needs once: the collector and its like, rules and dashboards."""
    apps = {_key(each) for each in build(FOLDER / _FOLDERS[Controller.NONE])}
    found = [each for each in _built(f"overlays/{EXAMPLE}", wanted) if _key(each) not in apps]
    rules = [_linked(each, wanted.runbook) for each in build(FOLDER / "rules")]
    whole = [*rules, *build(FOLDER / "dashboards")]
    return [
        *_following([_of_all(each, wanted) for each in personal(found, wanted)]),
        # Word for word: their texts are no names of the example's.
        *(in_namespace(each, wanted.namespace) for each in whole),
    ]


def _of_all(each: Manifest, wanted: Wanted) -> Manifest:
    """Return the collector's settings and its Ingress with the further apps and hosts."""
    if each["kind"] == "Ingress":
        rules = [
            {**rule, "host": host}
            for host in (wanted.host, *wanted.more_hosts)
            for rule in each["spec"]["rules"]
        ]
        return {**each, "spec": {**each["spec"], "rules": rules}}
    data = each.get("data", {})
    further = {APPS: wanted.more_apps, ORIGINS: [f"https://{host}" for host in wanted.more_hosts]}
    added = {key: ",".join((data[key], *values)) for key, values in further.items() if key in data}
    return {**each, "data": {**data, **added}} if added else each


def _following(objects: list[Manifest]) -> list[Manifest]:
    """Return objects in which pods begin anew when the settings change that fill their environment.

    Kustomize does it by the names of generated ConfigMaps, which have no hash here.
    """
    settings = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
    return [_marked(each, settings) if each["kind"] == "Deployment" else each for each in objects]


def _marked(deployment: Manifest, settings: Mapping[str, Mapping[str, str]]) -> Manifest:
    sources = [
        source["configMapRef"]["name"]
        for container in deployment["spec"]["template"]["spec"]["containers"]
        for source in container.get("envFrom", ())
        if "configMapRef" in source
    ]
    used = {name: settings[name] for name in sources if name in settings}
    if not used:
        return deployment
    digest = hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:16]
    template = {"metadata": {"annotations": {_SETTINGS: digest}}}
    return merged(deployment, {"spec": {"template": template}})  # type: ignore[no-any-return]


def _linked(each: Manifest, runbook: str) -> Manifest:
    """Return rules whose links lead to the address under which a team reads the runbook."""
    if not runbook:
        return each
    groups = [
        {**group, "rules": [_rule(rule, runbook) for rule in group["rules"]]}
        for group in each["spec"]["groups"]
    ]
    return {**each, "spec": {**each["spec"], "groups": groups}}


def _rule(rule: Mapping[str, Any], runbook: str) -> Mapping[str, Any]:
    if "annotations" not in rule:
        return rule
    _, _, entry = rule["annotations"][_LINK].partition("#")
    return {**rule, "annotations": {**rule["annotations"], _LINK: f"{runbook}#{entry}"}}


def _key(each: Manifest) -> tuple[str, str, str]:
    metadata = each["metadata"]
    return each["kind"], metadata.get("namespace", ""), metadata["name"]


def in_files(objects: Iterable[Manifest]) -> Mapping[str, str]:
    """Return the text of every file of a folder for ``kubectl apply -k``, by its name."""
    files: dict[str, list[Manifest]] = {}
    for each in objects:
        files.setdefault(f"{_file(each)}.yaml", []).append(each)
    kustomization: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(files),
    }
    return {
        "kustomization.yaml": text(kustomization),
        **{name: together(content) for name, content in files.items()},
    }


def together(objects: Iterable[Manifest]) -> str:
    """Return objects as one text."""
    return "---\n".join(text(each) for each in objects)


def _file(each: Manifest) -> str:
    metadata = each["metadata"]
    for start, file in _BY_NAME:
        if metadata["name"].startswith(start):
            return file
    if _DASHBOARD in metadata.get("labels", {}):
        return "dashboards"
    if each["kind"] == "ConfigMap":
        return "checks"
    return _BY_KIND.get(each["kind"], "app")
