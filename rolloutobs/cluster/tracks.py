"""On which track a pod is, by what its controller says: what labels are checked against. Pure."""

from __future__ import annotations

from rolloutobs.cluster.controllers import PRIMARY
from rolloutobs.cluster.model import WorkloadKind
from rolloutobs.cluster.objects import Controller
from rolloutobs.identity import Track

__all__ = ["expected_track"]


def expected_track(workload: Controller, part: Controller | None, template_hash: str) -> Track:
    """Return the track; ``NONE`` where the controller does not say.

    Args:
        workload: that the pod belongs to.
        part: the controller that owns the pod's ReplicaSet; of a Canary, one of its two Deployments.
        template_hash: of the pod.
    """
    if workload.kind is WorkloadKind.ROLLOUT:
        if template_hash == workload.stable_hash:
            return Track.STABLE
        return Track.CANARY if template_hash == workload.current_hash else Track.NONE
    if workload.kind is WorkloadKind.CANARY and part is not None:
        # Flagger copies the target's labels to the primary; a track among them is wrong on one of the two.
        return Track.STABLE if part.name == workload.target + PRIMARY else Track.CANARY
    return Track.NONE
