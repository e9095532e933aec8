"""How Kubernetes merges a patch into an object, and JSON patches. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["edited", "merged"]

# Source: the patchMergeKey of each list in the OpenAPI document of Kubernetes 1.36.
_KEYS: Final = {
    "containers": "name", "initContainers": "name", "volumes": "name", "env": "name",
    "volumeMounts": "mountPath", "ports": "containerPort",
}  # fmt: skip


def merged(target: Any, patch: Any, field: str = "") -> Any:
    """Return `target` with a strategic merge patch: mappings by key, lists by their merge key or as a whole.

    Args:
        target: an object or a part of it; left as it is.
        patch: what is to be there; ``None`` for what is to be gone.
        field: name of the field that holds both.
    """
    if isinstance(target, Mapping) and isinstance(patch, Mapping):
        kept = {key: value for key, value in target.items() if patch.get(key, value) is not None}
        for key, value in patch.items():
            if value is not None:
                kept[key] = merged(kept.get(key), value, key)
        return kept
    if isinstance(target, Sequence) and field in _KEYS and isinstance(patch, Sequence):
        return _merged_list(target, patch, _KEYS[field])
    return patch


def _merged_list(target: Sequence[Any], patch: Sequence[Any], key: str) -> list[Any]:
    found = {item[key]: item for item in target}
    for item in patch:
        found[item[key]] = merged(found.get(item[key]), item)
    return list(found.values())


def edited(target: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """Return `target` after the operations of a JSON patch (RFC 6902): add, replace, remove and test.

    Raises:
        ValueError: another operation, or a test that fails.
        LookupError: a path leads nowhere.
    """
    for operation in operations:
        steps = [
            step.replace("~1", "/").replace("~0", "~") for step in operation["path"].lstrip("/").split("/")
        ]
        target = _edited(target, steps, operation)
    return target


def _edited(target: Any, steps: Sequence[str], operation: Mapping[str, Any]) -> Any:
    step, *rest = steps
    copy: Any = list(target) if isinstance(target, list) else dict(target)
    key: Any = step if isinstance(copy, dict) else len(copy) if step == "-" else int(step)
    if rest:
        copy[key] = _edited(copy[key], rest, operation)
        return copy
    kind = operation["op"]
    if kind == "remove":
        del copy[key]
    elif kind == "add" and isinstance(copy, list):
        copy.insert(key, operation["value"])
    elif kind in ("add", "replace"):
        copy[key] = operation["value"]
    elif kind != "test":
        raise ValueError(f"operation {kind!r} of a JSON patch is not one of add, replace, remove, test")
    elif copy[key] != operation["value"]:
        raise ValueError(f"a JSON patch expects {operation['value']!r}, and there is {copy[key]!r}")
    return copy
