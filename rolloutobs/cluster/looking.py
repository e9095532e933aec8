"""One look at a namespace: its workloads, what has happened to them, and what could not be read."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from rolloutobs.cluster._http import AbsentError, Api, ForbiddenError
from rolloutobs.cluster.model import Change, Workload
from rolloutobs.cluster.reading import read_once
from rolloutobs.cluster.resources import RESOURCES, Kind
from rolloutobs.cluster.state import State
from rolloutobs.errors import ConfigurationError

__all__ = ["Seen", "chosen", "look"]

_WORDS: Mapping[str, str] = {
    word: kind
    for kind, words in {
        "deployment": ("deployment", "deployments", "deploy", "deployment.apps"),
        "rollout": ("rollout", "rollouts", "ro", "rollout.argoproj.io"),
        "canary": ("canary", "canaries", "canary.flagger.app"),
    }.items()
    for word in words
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look has found."""

    workloads: tuple[Workload, ...]
    """By namespace and name."""
    changes: tuple[Change, ...]
    """Of the last rollout of each workload, and events; oldest first."""
    notes: tuple[str, ...] = ()
    """What could not be read, and what is missing because of it."""


class _Collecting:
    def __init__(self) -> None:
        self.state = State()
        self.changes: list[Change] = []

    def apply(self, kind: Kind, word: str, plain: Mapping[str, Any]) -> None:
        self.changes += self.state.apply(kind, word, plain)

    def retain(self, kind: Kind, uids: Set[str], namespace: str) -> None:
        self.changes += self.state.retain(kind, uids, namespace)


async def look(api: Api, namespace: str) -> Seen:
    """Read a namespace, or all where `namespace` is empty.

    Raises:
        ClusterError: the API server cannot be read, or a right is missing that nothing goes without.
    """
    target, notes = _Collecting(), []
    for resource in RESOURCES:
        try:
            await read_once(api, resource, namespace, target)
        except AbsentError:
            if resource.is_required:
                raise
        except ForbiddenError as error:
            if resource.is_required:
                raise
            notes.append(f"{error}; it is for {resource.needed_for}")
    changes = target.changes + target.state.begin()
    workloads = sorted(target.state.workloads(), key=lambda item: (item.namespace, item.name, item.kind))
    return Seen(tuple(workloads), tuple(sorted(changes, key=lambda c: c.time)), tuple(notes))


def chosen(workloads: tuple[Workload, ...], text: str) -> Workload:
    """Return the workload that ``deployment/NAME``, or ``NAME`` alone, names.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    word, slash, name = text.rpartition("/")
    kind = _WORDS.get(word.lower(), "")
    if slash and not kind:
        raise ConfigurationError(f"{text!r}: use deployment/NAME, rollout/NAME or canary/NAME")
    found = [item for item in workloads if item.name == name and kind in ("", item.kind.value)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{item.kind}/{item.name}" for item in found)
        raise ConfigurationError(f"{text!r} is more than one: {names}")
    part = next((w for w in workloads if w.kind == "canary" and name in (w.name, f"{w.name}-primary")), None)
    if part is not None:
        raise ConfigurationError(f"{text} is part of a Canary; use canary/{part.name}")
    known = ", ".join(f"{item.kind}/{item.name}" for item in workloads[:20]) or "none"
    raise ConfigurationError(f"there is no {text!r}; there is: {known}")
