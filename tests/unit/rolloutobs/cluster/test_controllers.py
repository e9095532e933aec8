"""Argo Rollouts and Flagger, in the terms of a Deployment; and the truth about tracks."""

from rolloutobs.cluster.figures import families
from rolloutobs.cluster.model import Phase
from rolloutobs.identity import Track
from tests.unit.rolloutobs.cluster.conftest import short
from tests.unit.rolloutobs.cluster.made import (
    canary,
    deployment,
    done,
    pod,
    progressing,
    replica_set,
    rollout,
)

HEALTHY = rollout("1.0", 1, phase="Healthy", current="1.0", stable="1.0", conditions=[progressing("x", 10)])
SETS = [replica_set("1.0", 1, 0, argo=True), replica_set("2.0", 2, 100, argo=True)]


def moving(phase, at, weight=0, **more):
    conditions = [progressing("ReplicaSetUpdated", at)]
    return rollout(
        "2.0", 2, phase=phase, current="2.0", stable="1.0", weight=weight, conditions=conditions, **more
    )


def test_a_rollout_of_argo_goes_by_weight_waits_and_completes(played):
    played.begin(sets=SETS, rollouts=[HEALTHY])
    assert played.say("rollouts", moving("Progressing", 100)) == [("started", 100, 2)]
    assert played.say("rollouts", moving("Progressing", 110, 20)) == [("scaled", 110, 2)]
    pause = [{"reason": "CanaryPauseStep", "startTime": "2027-01-15T08:02:10Z"}]
    waits = moving("Paused", 115, 20, pauseConditions=pause)
    assert played.say("rollouts", waits) == [("paused", 130, 2)]
    assert (played.workload.rollout.reason, played.workload.progress_ratio) == ("CanaryPauseStep", 0.2)
    told = played.say("rollouts", moving("Progressing", 200, 60))
    assert told == [("scaled", 200, 2), ("resumed", 200, 2)]
    end = rollout("2.0", 2, phase="Healthy", current="2.0", stable="2.0", conditions=[progressing("x", 300)])
    assert played.say("rollouts", end)[-1] == ("completed", 300, 2)
    assert played.workload.progress_ratio == 1.0


def test_an_abort_is_a_rollback_by_the_controller_and_a_retry_goes_on(played):
    played.begin(sets=SETS, rollouts=[HEALTHY])
    played.say("rollouts", moving("Progressing", 100, 20))
    aborted = moving(
        "Degraded",
        150,
        0,
        message="RolloutAborted: metric failed",
        abort=True,
        abortedAt="2027-01-15T08:02:30Z",
    )
    assert played.say("rollouts", aborted) == [("rolled_back", 150, 2)]
    last = played.workload.rollout
    assert (last.phase, last.reason) == (Phase.ROLLED_BACK, "RolloutAborted: metric failed")
    assert played.say("rollouts", moving("Progressing", 400, 0)) == [("resumed", 400, 2)]
    assert played.workload.rollout.ended is None
    assert played.workload.rollout.phase is Phase.PROGRESSING


def test_a_stale_status_of_argo_says_nothing(played):
    played.begin(sets=SETS, rollouts=[HEALTHY])
    stale = rollout("2.0", 2, phase="Healthy", current="1.0", stable="1.0", generation=5, observed="4")
    assert played.say("rollouts", stale) == []
    assert (played.workload.is_current, played.workload.rollout.revision) == (False, 1)


def test_argo_labels_are_checked_against_its_hashes(played):
    played.begin(sets=SETS, rollouts=[HEALTHY])
    played.say("rollouts", moving("Progressing", 100, 20))
    played.say("pods", pod("1.0", 1, 0, argo=True, role="stable"))
    played.say("pods", pod("2.0", 2, 101, argo=True, role="canary"))
    played.say("pods", pod("2.0", 3, 102, argo=True))
    assert not any(found.is_mismatched for found in played.workload.pods)
    # Promoted, and the labels were not: argo-rollouts #4944.
    end = rollout("2.0", 2, phase="Healthy", current="2.0", stable="2.0", conditions=[progressing("x", 300)])
    played.say("rollouts", end)
    wrong = {found.name: found.expected_track for found in played.workload.pods if found.is_mismatched}
    assert wrong == {"shop-hash2.0-00002": Track.STABLE}


def test_a_deployment_that_a_rollout_refers_to_is_part_of_it(played):
    """It has the same name as a rule, and is scaled down as the Rollout takes over."""
    referring = rollout(
        "1.0", 1, phase="Healthy", current="1.0", stable="1.0", conditions=[progressing("x", 10)]
    )
    del referring["spec"]["template"]
    referring["metadata"]["uid"] = "uid-argo"
    referring["spec"]["workloadRef"] = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"}
    own = replica_set("1.0", 1, 0, argo=True)
    own["metadata"] |= {"uid": "uid-argo-1.0", "ownerReferences": [{"uid": "uid-argo", "controller": True}]}
    left = deployment("1.0", 1, [progressing("NewReplicaSetAvailable", 5)], desired=0)
    played.begin(sets=[own, replica_set("1.0", 1, 0)], rollouts=[referring], deployments=[left])
    found = played.workload
    assert (found.kind, found.version, found.app) == ("rollout", "1.0", "shop")
    assert found.rollout.id == "uid-argo-1"


def test_two_workloads_of_one_name_are_one_in_metrics(played):
    """A series may be there once only."""
    argo = rollout("1.0", 1, phase="Healthy", current="1.0", stable="1.0", conditions=[progressing("x", 10)])
    argo["metadata"]["uid"] = "uid-argo"
    own = replica_set("2.0", 1, 50, argo=True)
    own["metadata"] |= {"uid": "uid-argo-2.0", "ownerReferences": [{"uid": "uid-argo", "controller": True}]}
    old = deployment("1.0", 1, [progressing("NewReplicaSetAvailable", 5)], desired=0)
    pods = [pod("1.0", 1, 0), pod("2.0", 1, 50, argo=True)]
    pods[1]["metadata"]["ownerReferences"][0]["uid"] = "uid-argo-2.0"
    played.begin(sets=[own, replica_set("1.0", 1, 0)], rollouts=[argo], deployments=[old], pods=pods)
    samples = [s for family in families(played.state.workloads(), 0.0) for s in family.samples]
    keys = [(s.name, *sorted(s.labels.items())) for s in samples]
    assert len(keys) == len(set(keys))
    assert {s.labels["to_version"] for s in samples if s.name == "rolloutobs_rollout_info"} == {"2.0"}
    assert sum(s.value for s in samples if s.name == "rolloutobs_pods") == 2


# --- Flagger ------------------------------------------------------------------------------------------------


def flagger(played, phase="Succeeded", applied="a", moved=10):
    """Begin with a Canary, its target (scaled to zero) and its primary, on version 1.0."""
    target = deployment("1.0", 1, [progressing("NewReplicaSetAvailable", 5)], desired=0)
    primary = deployment("1.0", 1, [progressing("NewReplicaSetAvailable", 5)], name="shop-primary", **done())
    return played.begin(
        sets=[replica_set("1.0", 1, 0), replica_set("1.0", 1, 0, owner="shop-primary")],
        deployments=[target, primary],
        canaries=[canary(phase, applied, moved)],
    )


def test_a_canary_of_flagger_is_one_workload_with_two_deployments(played):
    past = flagger(played)
    assert [short(change) for change in past] == [("started", 0, 1), ("completed", 10, 1)]
    played.say("sets", replica_set("2.0", 2, 100))
    # The target has its new revision up to a minute before Flagger looks at it.
    played.say("deployments", deployment("2.0", 2, [progressing("NewReplicaSetCreated", 100)], desired=0))
    assert played.workload.rollout.phase is Phase.COMPLETED
    assert played.say("canaries", canary("Progressing", "b", 130)) == [("started", 100, 2)]
    assert played.say("canaries", canary("Progressing", "b", 190, 10)) == [("scaled", 190, 2)]
    last = played.workload.rollout
    assert (last.from_version, last.to_version, last.weight_ratio) == ("1.0", "2.0", 0.1)
    assert played.say("canaries", canary("WaitingPromotion", "b", 250, 10)) == [("paused", 250, 2)]
    assert played.say("canaries", canary("Promoting", "b", 310, 10)) == [("resumed", 310, 2)]
    assert played.say("canaries", canary("Succeeded", "b", 370))[-1] == ("completed", 370, 2)


def test_a_canary_that_waits_for_its_confirmation_is_one_rollout_with_what_follows(played):
    """Until it is confirmed, Flagger's status names the template of the rollout before."""
    flagger(played)
    played.say("sets", replica_set("2.0", 2, 100))
    played.say("deployments", deployment("2.0", 2, [progressing("NewReplicaSetCreated", 100)], desired=0))
    assert played.say("canaries", canary("Waiting", "a", 130)) == [("started", 100, 2), ("paused", 130, 2)]
    assert played.say("canaries", canary("Progressing", "b", 190)) == [("resumed", 190, 2)]
    assert played.say("canaries", canary("Succeeded", "b", 300))[-1] == ("completed", 300, 2)
    assert played.say("canaries", canary("Succeeded", "b", 360)) == []


def test_a_failed_canary_is_rolled_back_by_flagger(played):
    flagger(played)
    played.say("sets", replica_set("2.0", 2, 100))
    played.say("deployments", deployment("2.0", 2, [progressing("NewReplicaSetCreated", 100)], desired=0))
    played.say("canaries", canary("Progressing", "b", 130))
    told = played.say("canaries", canary("Failed", "b", 200, message="Canary analysis failed"))
    assert told == [("rolled_back", 200, 2)]
    assert played.workload.rollout.reason == "Canary analysis failed"


def test_a_track_that_was_copied_to_the_primary_is_wrong_there(played):
    flagger(played)
    played.say("pods", pod("1.0", 1, 0, owner="shop-primary", track="canary"))
    played.say("pods", pod("1.0", 2, 0, owner="shop", track="canary"))
    suffixed = pod("1.0", 3, 0, owner="shop-primary")
    suffixed["metadata"]["labels"]["app.kubernetes.io/name"] = "shop-primary"
    played.say("pods", suffixed)
    found = [(p.name, p.app, p.track, p.is_mismatched) for p in played.workload.pods]
    assert found == [
        ("shop-hash1.0-00002", "shop", Track.CANARY, False),
        ("shop-primary-hash1.0-00001", "shop", Track.CANARY, True),
        ("shop-primary-hash1.0-00003", "shop", Track.STABLE, False),
    ]


# --- events -------------------------------------------------------------------------------------------------
