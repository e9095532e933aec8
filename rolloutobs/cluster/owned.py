"""What a workload's owners say of it, for those who act on a verdict: guard rails, and its last rollout."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from rolloutobs import semconv
from rolloutobs.analysis.guardrails import Guardrails
from rolloutobs.cluster._http import AbsentError, Api, ForbiddenError
from rolloutobs.cluster.access import Connection
from rolloutobs.cluster.looking import chosen
from rolloutobs.cluster.reading import read_once
from rolloutobs.cluster.resources import RESOURCES, Kind
from rolloutobs.cluster.state import State
from rolloutobs.errors import ClusterError, ConfigurationError

__all__ = ["Owned", "all_rails", "owned"]

_WORKLOADS = (Kind.DEPLOYMENT, Kind.ROLLOUT, Kind.CANARY)


@dataclass(frozen=True, slots=True)
class Owned:
    """A workload by what is written on it."""

    rails: Guardrails
    rollout: str = ""
    """`Rollout.id` of its last rollout; empty: there has been none."""


class _Workloads:
    """Takes objects without their ReplicaSets and pods: less to read, and fewer rights."""

    def __init__(self) -> None:
        self.state = State(knows_sets=False)

    def apply(self, kind: Kind, word: str, plain: Mapping[str, Any]) -> None:
        self.state.apply(kind, word, plain)

    def retain(self, kind: Kind, uids: Set[str], namespace: str) -> None:
        self.state.retain(kind, uids, namespace)


async def owned(connection: Connection, text: str, namespace: str = "") -> Owned:
    """Return what is written on ``deployment/NAME``, ``rollout/NAME``, ``canary/NAME`` or ``NAME``.

    It takes the right to list Deployments in the namespace, and Rollouts and Canaries where one is meant.

    Raises:
        ConfigurationError: there is no such workload, or an annotation has a word that nobody knows.
        ClusterError: the cluster cannot be read, so that a rail may be there that nobody sees.
    """
    target = _Workloads()
    unread: list[ClusterError] = []
    async with Api(connection) as api:
        for resource in RESOURCES:
            if resource.kind not in _WORKLOADS:
                continue
            try:
                await read_once(api, resource, namespace or connection.namespace, target)
            except AbsentError:
                continue
            except ForbiddenError as error:
                unread.append(error)
    target.state.begin()
    workloads = tuple(target.state.workloads())
    try:
        workload = chosen(workloads, text)
    except ConfigurationError:
        if unread:
            raise unread[0] from None
        raise
    if unread and "/" not in text:
        # There may be another one of that name among what could not be read.
        raise unread[0]
    return Owned(
        Guardrails.from_annotations(workload.annotations), workload.rollout.id if workload.rollout else ""
    )


async def all_rails(connection: Connection) -> dict[tuple[str, str], Guardrails]:
    """Return the guard rails of every Deployment, Rollout and Canary, by namespace and name.

    Of several with one name, they are what all of them say; a word that nobody knows counts as unsafe. It
    takes the right to list all three in all namespaces.

    Raises:
        ClusterError: the cluster cannot be read, so that a rail may be there that nobody sees.
    """
    target = _Workloads()
    async with Api(connection) as api:
        for resource in RESOURCES:
            if resource.kind in _WORKLOADS:
                try:
                    await read_once(api, resource, "", target)
                except AbsentError:
                    continue
    target.state.begin()
    found: dict[tuple[str, str], Guardrails] = {}
    for workload in target.state.workloads():
        key = (workload.namespace, workload.name)
        found[key] = _careful(workload.annotations).over(found.get(key, Guardrails()))
    return found


def _careful(annotations: Mapping[str, str]) -> Guardrails:
    try:
        return Guardrails.from_annotations(annotations)
    except ConfigurationError as error:
        return Guardrails.unread(str(error), annotations.get(semconv.ANNOTATION_OWNER, "").strip())
