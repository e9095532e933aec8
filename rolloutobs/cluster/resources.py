"""Which resources are read, and the rights that takes. Pure.

All of them are read with ``list`` and ``watch`` and nothing is ever written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

__all__ = ["RESOURCES", "VERBS", "Kind", "Resource", "rules"]

VERBS: Final = ("list", "watch")


class Kind(StrEnum):
    """What an object is, in the word that the API gives it."""

    DEPLOYMENT = "Deployment"
    REPLICA_SET = "ReplicaSet"
    POD = "Pod"
    EVENT = "Event"
    ROLLOUT = "Rollout"
    CANARY = "Canary"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of the API."""

    kind: Kind
    plural: str
    group: str
    """Empty: the core group."""
    version: str
    needed_for: str
    is_required: bool
    """Whether there is nothing to watch without it."""

    def path(self, namespace: str) -> str:
        """Return where it is listed; an empty `namespace` is all of them."""
        start = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{namespace}" if namespace else ""
        return f"{start}{inside}/{self.plural}"

    @property
    def right(self) -> str:
        """The resource as an RBAC rule names it: ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


RESOURCES: Final[Sequence[Resource]] = (
    Resource(Kind.REPLICA_SET, "replicasets", "apps", "v1", "which version a pod and a revision are", True),
    Resource(Kind.POD, "pods", "", "v1", "pods by version and track, restarts, why one does not run", True),
    Resource(Kind.DEPLOYMENT, "deployments", "apps", "v1", "rollouts of Deployments", True),
    Resource(Kind.ROLLOUT, "rollouts", "argoproj.io", "v1alpha1", "rollouts of Argo Rollouts", False),
    Resource(Kind.CANARY, "canaries", "flagger.app", "v1beta1", "rollouts of Flagger", False),
    Resource(Kind.EVENT, "events", "", "v1", "events, kept beyond their hour", False),
)
"""In the order in which they are first read: what belongs to a workload before the workload."""


def rules() -> list[dict[str, Any]]:
    """Return the rules of the ClusterRole, or of a Role in each namespace, as RBAC has them."""
    groups = dict.fromkeys(resource.group for resource in RESOURCES)
    return [
        {
            "apiGroups": [group],
            "resources": sorted(r.plural for r in RESOURCES if r.group == group),
            "verbs": list(VERBS),
        }
        for group in groups
    ]
