"""Manifests of the example, made those of another app. Pure: objects in, objects out.

The example in `k8s/` is called ``shop``; what belongs to it alone (its arguments, its journeys) is taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from rolloutobs import semconv
from rolloutobs.manifests.kustomize import Manifest, in_namespace
from rolloutobs.manifests.merge import merged
from rolloutobs.manifests.model import Controller, Wanted

__all__ = ["APPS", "EXAMPLE", "ORIGINS", "personal"]

EXAMPLE: Final = "shop"
EXAMPLE_HOST: Final = "shop.example.com"
EXAMPLE_PORT: Final = 8000
EXAMPLE_PROMETHEUS: Final = "http://prometheus-operated.monitoring:9090"
EXAMPLE_SERVE: Final = "http://rolloutobs-serve.rolloutobs:9400"
_STABLE_VERSION: Final = "1.1.0"
_CANARY_VERSION: Final = "1.2.0"
_ITS_OWN: Final = {"INVENTORY_URL", "COLLECTOR_URL"}
"""Variables that only the example reads."""
_OURS: Final = re.compile(r"rolloutobs-[a-z-]+:\S+")
"""An image of ours."""
APPS: Final = "ROLLOUTOBS_COLLECTOR_APPS"
ORIGINS: Final = "ROLLOUTOBS_COLLECTOR_ORIGINS"
_CHECK: Final = "rolloutobs-synthetic"
_LOAD: Final = "rolloutobs-load"
_GATE: Final = "rolloutobs-gate"
_JOURNEYS: Final = "rolloutobs-journeys"
_CHECKS: Final = "rolloutobs-checks"
"""What Flagger asks before the canary's first user."""
_CHECKS_ADDRESS: Final = f"http://{_CHECKS}.{EXAMPLE}:"
_ONE_APPS: Final = (_CHECK, _LOAD, _GATE, _JOURNEYS, _CHECKS)
_WORKLOADS: Final = {
    Controller.NONE: "Deployment",
    Controller.ARGO: "Rollout",
    Controller.FLAGGER: "Canary",
}
"""What a rollout is of; its annotations hold for it."""
_SCALER: Final = "HorizontalPodAutoscaler"
_APP_CONTAINER: Final = "app"


def personal(objects: Iterable[Manifest], wanted: Wanted) -> list[Manifest]:
    """Return the example's objects as those of another app.

    Args:
        objects: of the example, as they are built.
        wanted: the app, and what is known of it.
    """
    names = _Names(wanted)
    found = [_renamed(each, names) for each in _of_use(objects, wanted)]
    found = [in_namespace(_with_pods(each, wanted), wanted.namespace) for each in found]
    return [*found, *_files(wanted)]


def _of_use(objects: Iterable[Manifest], wanted: Wanted) -> Iterable[Manifest]:
    for each in objects:
        kind, name = each["kind"], each["metadata"]["name"]
        if kind == "Ingress" and not wanted.host:
            continue
        if kind == "CronJob" and not (wanted.journey if name == _CHECK else wanted.locustfile):
            continue
        if name == _GATE and not (kind == "AnalysisTemplate" or wanted.canary_image):
            # A gate without a canary would wait in vain, and fail.
            continue
        if name == _CHECKS and not wanted.journey:
            continue
        if kind == "Canary" and not wanted.journey:
            each = _without_checks(each)
        yield each if wanted.host else _without_origins(each)


def _without_checks(canary: Manifest) -> Manifest:
    hooks = canary["spec"]["analysis"]["webhooks"]
    kept = [hook for hook in hooks if not hook["url"].startswith(_CHECKS_ADDRESS)]
    return merged(canary, {"spec": {"analysis": {"webhooks": kept}}})  # type: ignore[no-any-return]


def _without_origins(each: Manifest) -> Manifest:
    """Return the collector's settings without the example's address; whoever knows none leaves it out."""
    data = each.get("data", {})
    return {**each, "data": {k: v for k, v in data.items() if k != ORIGINS}} if ORIGINS in data else each


class _Names:
    """What is written in the place of what; once over each text, so that nothing is replaced twice."""

    def __init__(self, wanted: Wanted) -> None:
        rules = [
            (re.escape(EXAMPLE_PROMETHEUS), wanted.prometheus or EXAMPLE_PROMETHEUS),
            (re.escape(EXAMPLE_SERVE), wanted.serve or EXAMPLE_SERVE),
            (re.escape(_CHECKS_ADDRESS), f"http://{wanted.app}-checks.{wanted.namespace}:"),
            (re.escape(EXAMPLE_HOST), wanted.host or EXAMPLE_HOST),
            # Two apps may share a namespace: what is one app's has its name.
            *((rf"^{name}$", name.replace("rolloutobs", wanted.app)) for name in _ONE_APPS),
            (rf"(?<![\w.-]){EXAMPLE}(?![\w.])", wanted.app),
            (rf":{EXAMPLE_PORT}\b", f":{wanted.port}"),
            (rf"^{re.escape(_STABLE_VERSION)}$", wanted.version),
            (rf"^{re.escape(_CANARY_VERSION)}$", wanted.canary_version or wanted.version),
        ]
        self._pattern = re.compile("|".join(f"({pattern})" for pattern, _ in rules))
        self._texts = [text for _, text in rules]

    def __call__(self, text: str) -> str:
        """Return a text of the example as the app's."""
        if _OURS.fullmatch(text):
            return text
        return self._pattern.sub(lambda match: self._texts[(match.lastindex or 1) - 1], text)


def _renamed(value: Any, names: _Names) -> Any:
    if isinstance(value, Mapping):
        # The name of a kind of component stays: monitors and policies select by it.
        return {
            key: item
            if key == "app.kubernetes.io/name" and item.startswith("rolloutobs")
            else _renamed(item, names)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return names(value) if isinstance(value, str) else value


def _with_pods(each: Manifest, wanted: Wanted) -> Manifest:
    """Return an object with its containers' images, and the app's with nothing of the example."""
    if _is_the_apps(each, wanted) and "replicas" in each["spec"]:
        each = merged(each, {"spec": {"replicas": _replicas(each, wanted)}})
    if _is_the_apps(each, wanted) and each["kind"] == _SCALER:
        # Under Flagger, which scales the Deployment itself.
        bounds = {"minReplicas": wanted.replicas, "maxReplicas": 2 * wanted.replicas}
        each = merged(each, {"spec": bounds})
    if wanted.owner and each["kind"] == _WORKLOADS[wanted.controller] and _is_the_apps(each, wanted):
        each = merged(each, {"metadata": {"annotations": {semconv.ANNOTATION_OWNER: wanted.owner}}})
    return _walked(each, each["metadata"], wanted)  # type: ignore[no-any-return]


def _is_the_apps(each: Manifest, wanted: Wanted) -> bool:
    return bool(each["metadata"].get("labels", {}).get("app.kubernetes.io/name") == wanted.app)


def _replicas(each: Manifest, wanted: Wanted) -> int:
    if _is_canary(each["metadata"]):
        return 1 if wanted.canary_image else 0
    return wanted.replicas


def _is_canary(metadata: Mapping[str, Any]) -> bool:
    return bool(metadata.get("labels", {}).get("rolloutobs.io/track") == "canary")


def _walked(value: Any, metadata: Mapping[str, Any], wanted: Wanted) -> Any:
    if isinstance(value, Mapping):
        return {
            key: [_container(one, metadata, wanted) for one in item]
            if key == "containers"
            else wanted.port
            if key in ("port", "containerPort") and item == EXAMPLE_PORT
            else _walked(item, metadata, wanted)
            for key, item in value.items()
        }
    return [_walked(item, metadata, wanted) for item in value] if isinstance(value, list) else value


def _container(container: Mapping[str, Any], metadata: Mapping[str, Any], wanted: Wanted) -> Any:
    found = _walked(container, metadata, wanted)
    if container["name"] == _APP_CONTAINER:
        image = wanted.canary_image if _is_canary(metadata) else ""
        found = {key: value for key, value in found.items() if key != "args"}
        found["image"] = image or wanted.image
        found["env"] = [entry for entry in found["env"] if entry["name"] not in _ITS_OWN]
        probe = {"httpGet": {"path": wanted.health}}
        return merged(found, {"readinessProbe": probe})
    found["image"] = wanted.registry + container["image"].replace(f"rolloutobs-{EXAMPLE}-", "rolloutobs-")
    journey = "/journeys/journey.py" + (f":{wanted.journey_name}" if wanted.journey_name else "")
    if container["name"] == "check":
        found["args"] = [found["args"][0], journey, *found["args"][2:]]
    if container["name"] == "checks":
        found["env"] = [_command(entry, journey) for entry in found["env"]]
    if container["name"] == "load":
        found["args"] = [found["args"][0], "--locustfile=/load/load.py", *found["args"][2:]]
    return found


def _command(entry: Mapping[str, Any], journey: str) -> Mapping[str, Any]:
    if entry["name"] != "CHECKS":
        return entry
    run, _, *options = entry["value"].split()
    return {**entry, "value": " ".join((run, journey, *options))}


def _files(wanted: Wanted) -> Iterable[Manifest]:
    files = ((_JOURNEYS, "journey.py", wanted.journey), (_LOAD, "load.py", wanted.locustfile))
    for name, file, text in files:
        if text:
            metadata = {"name": name.replace("rolloutobs", wanted.app), "namespace": wanted.namespace}
            yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {file: text}}
