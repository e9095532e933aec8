"""Builds the folders of `k8s/` without kubectl: the part of Kustomize that they use, an error for the rest.

Names of generated ConfigMaps get no hash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rolloutobs.errors import ConfigurationError
from rolloutobs.manifests.files import load, load_all, parsed
from rolloutobs.manifests.merge import edited, merged

__all__ = ["Manifest", "build", "in_namespace"]

Manifest = dict[str, Any]
"""One object of Kubernetes."""
_KNOWN: Final = {
    "apiVersion", "kind", "resources", "components", "patches", "configMapGenerator", "generatorOptions",
    "namespace",
}  # fmt: skip
_CLUSTER_WIDE: Final = {"Namespace", "ClusterRole", "ClusterRoleBinding"}


def build(folder: Path, objects: Sequence[Manifest] = ()) -> list[Manifest]:
    """Return the objects that a kustomization makes, in the order in which its files are named.

    Args:
        folder: of the kustomization.
        objects: what a component is added to, and may patch.

    Raises:
        ConfigurationError: it uses a part of Kustomize that is not known here.
    """
    objects = list(objects)
    wanted = load(folder / "kustomization.yaml")
    unknown = set(wanted) - _KNOWN
    if unknown:
        raise ConfigurationError(f"{folder}: the field {sorted(unknown)[0]!r} is not known here")
    for name in wanted.get("resources", ()):
        path = folder / name
        objects = [*objects, *(build(path) if path.is_dir() else load_all(path))]
    options = wanted.get("generatorOptions", {})
    for generator in wanted.get("configMapGenerator", ()):
        objects = _with_config_map(objects, generator, options, folder)
    for name in wanted.get("components", ()):
        objects = build(folder / name, objects)
    for patch in wanted.get("patches", ()):
        objects = _patched(objects, patch)
    namespace = wanted.get("namespace")
    return [in_namespace(each, namespace) for each in objects] if namespace else objects


def _with_config_map(
    objects: list[Manifest], generator: Mapping[str, Any], options: Mapping[str, Any], folder: Path
) -> list[Manifest]:
    data = dict(literal.split("=", 1) for literal in generator.get("literals", ()))
    for name in generator.get("files", ()):
        data[name] = (folder / name).read_text(encoding="utf-8")
    if generator.get("behavior") == "merge":
        change = {"data": data}
        return [
            merged(each, change) if _is(each, "ConfigMap", generator["name"]) else each for each in objects
        ]
    labels = options.get("labels")
    metadata = {"name": generator["name"], **({"labels": labels} if labels else {})}
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    return [*objects, made]


def _is(each: Manifest, kind: str, name: str) -> bool:
    return bool(each["kind"] == kind and each["metadata"]["name"] == name)


def _patched(objects: list[Manifest], patch: Mapping[str, Any]) -> list[Manifest]:
    content = parsed(patch["patch"])
    target = patch.get("target") or {"kind": content["kind"], "name": content["metadata"]["name"]}
    change: Callable[[Manifest], Manifest]
    if isinstance(content, list):
        change = lambda each: edited(each, content)  # noqa: E731 - beside its sibling
    else:
        # The name in a patch with a target stands for any.
        body = {key: value for key, value in content.items() if key not in ("apiVersion", "kind")}
        body["metadata"] = {k: v for k, v in body.get("metadata", {}).items() if k != "name"}
        change = lambda each: merged(each, body)  # noqa: E731
    return [change(each) if _meant(each, target) else each for each in objects]


def _meant(each: Manifest, target: Mapping[str, str]) -> bool:
    metadata = each["metadata"]
    if target.get("kind", each["kind"]) != each["kind"]:
        return False
    # Source: Kustomize's "patches" field: the name of a target is a regular expression for the whole of it.
    if not re.fullmatch(target.get("name", ".*"), metadata["name"]):
        return False
    label, _, value = target.get("labelSelector", "").partition("=")
    return not label or metadata.get("labels", {}).get(label) == value


def in_namespace(each: Manifest, namespace: str) -> Manifest:
    """Return an object in a namespace; of what has none, those that it names are."""
    if each["kind"] == "Namespace":
        return merged(each, {"metadata": {"name": namespace}})  # type: ignore[no-any-return]
    if each["kind"] in ("ClusterRoleBinding", "RoleBinding"):
        subjects = [{**subject, "namespace": namespace} for subject in each["subjects"]]
        each = {**each, "subjects": subjects}
    if each["kind"] in _CLUSTER_WIDE:
        return each
    return {**each, "metadata": {**each["metadata"], "namespace": namespace}}
