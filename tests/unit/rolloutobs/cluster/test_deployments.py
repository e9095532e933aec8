"""What Deployments do besides what was recorded."""

import pytest

from rolloutobs.cluster.model import Phase
from rolloutobs.cluster.resources import Kind
from rolloutobs.identity import Track
from tests.unit.rolloutobs.cluster.made import (
    BEGAN,
    condition,
    deployment,
    done,
    pod,
    progressing,
    replica_set,
)

AVAILABLE = progressing("NewReplicaSetAvailable", 10)
V1 = replica_set("1.0", 1, 0, available=4)
V2 = replica_set("2.0", 2, 100)


@pytest.fixture
def running(played):
    """Version 1.0, complete."""
    played.begin(sets=[V1], deployments=[deployment("1.0", 1, [AVAILABLE], **done())])
    return played


def rolling(updated=1, updated_at=100, **more):
    """Return the Deployment on its way to 2.0."""
    counts = {"replicas": 5, "updatedReplicas": updated, "readyReplicas": 4, "availableReplicas": 4}
    now = progressing("ReplicaSetUpdated", updated_at)
    return deployment("2.0", 2, [now], generation=2, **{**counts, **more})


@pytest.fixture
def half(running):
    running.say("sets", V2)
    assert running.say("deployments", rolling()) == [("started", 100, 2)]
    return running


def test_scaling_is_no_rollout(running):
    scaled = deployment("1.0", 1, [AVAILABLE], generation=2, desired=6, **done(4), unavailableReplicas=2)
    assert running.say("deployments", scaled) == []
    assert (
        running.say("deployments", deployment("1.0", 1, [AVAILABLE], generation=2, desired=6, **done(6)))
        == []
    )
    assert running.workload.rollout.phase is Phase.COMPLETED


def test_a_deployment_that_is_new_begins_when_it_has_a_revision(played):
    played.begin()
    assert played.say("deployments", deployment("1.0", 0, [], observed=0)) == []
    assert played.workload.rollout is None
    played.say("sets", V1)
    first = deployment("1.0", 1, [progressing("NewReplicaSetCreated", 0)], unavailableReplicas=4)
    assert played.say("deployments", first) == [("started", 0, 1)]
    assert (played.workload.rollout.from_version, played.workload.rollout.to_version) == ("", "1.0")


def test_a_change_of_the_template_while_paused_begins_when_it_is_resumed(running):
    paused = condition("Progressing", "Unknown", "DeploymentPaused", 90)
    halted = deployment("2.0", 1, [paused], generation=3, paused=True, replicas=4, availableReplicas=4)
    assert running.say("deployments", halted) == []
    assert running.workload.rollout.revision == 1
    running.say("sets", V2)
    assert running.say("deployments", rolling()) == [("started", 100, 2)]


def test_a_pause_in_the_middle_stops_the_clock_of_the_deadline(half):
    paused = condition("Progressing", "Unknown", "DeploymentPaused", 150)
    counts = {"replicas": 5, "updatedReplicas": 1, "availableReplicas": 4}
    halted = deployment("2.0", 2, [paused], generation=3, paused=True, **counts)
    assert half.say("deployments", halted) == [("paused", 150, 2)]
    assert half.workload.deadline is None
    resumed = condition("Progressing", "Unknown", "DeploymentResumed", 400)
    goes_on = deployment("2.0", 2, [resumed], generation=4, **counts)
    assert half.say("deployments", goes_on) == [("resumed", 400, 2)]
    assert half.workload.deadline == BEGAN + 1000


def test_a_quota_is_told_before_the_deadline_and_explains_more(half):
    refused = condition("ReplicaFailure", "True", "FailedCreate", 101, "exceeded quota: pods")
    counts = {"replicas": 4, "availableReplicas": 4, "unavailableReplicas": 1}
    blocked = deployment(
        "2.0", 2, [progressing("NewReplicaSetCreated", 101), refused], generation=2, **counts
    )
    told = half.say("deployments", blocked)
    assert told == [("scaled", 101, 2), ("stuck", 101, 2)]
    assert half.workload.rollout.reason == "FailedCreate: exceeded quota: pods"
    late = progressing("ProgressDeadlineExceeded", 701, "False")
    assert half.say("deployments", deployment("2.0", 2, [late, refused], generation=2, **counts)) == []
    assert half.say("deployments", rolling(updated_at=800)) == [("scaled", 800, 2), ("recovered", 800, 2)]


def test_an_undo_from_a_quota_goes_straight_to_complete(half):
    again = replica_set("1.0", 3, 0, past="1", available=4)
    half.say("sets", again)
    back = deployment("1.0", 3, [progressing("NewReplicaSetAvailable", 130)], generation=3, **done())
    told = half.say("deployments", back)
    assert told == [("rolled_back", 130, 2), ("started", 130, 3), ("completed", 130, 3)]
    assert half.workload.rollout.undoes == "uid-shop-2"


def test_a_complete_rollout_that_is_undone_later_is_rolled_back(half):
    half.say("deployments", deployment("2.0", 2, [progressing("NewReplicaSetAvailable", 160)], **done()))
    half.say("sets", replica_set("1.0", 3, 0, past="1"))
    back = deployment("1.0", 3, [progressing("ReplicaSetUpdated", 900)], generation=3, replicas=4)
    assert half.say("deployments", back) == [("rolled_back", 900, 2), ("started", 900, 3)]


def test_a_rollback_by_a_template_made_anew_is_recognised_by_its_version(half):
    half.say("sets", replica_set("1.0", 3, 500))
    back = deployment("1.0", 3, [progressing("NewReplicaSetCreated", 500)], generation=3, replicas=4)
    assert half.say("deployments", back) == [("rolled_back", 500, 2), ("started", 500, 3)]


def test_what_was_undone_may_come_again_and_is_no_rollback(half):
    half.say("sets", replica_set("1.0", 3, 0, past="1"))
    half.say("deployments", deployment("1.0", 3, [progressing("NewReplicaSetAvailable", 130)], **done()))
    half.say("sets", replica_set("2.0", 4, 100, past="2"))
    again = deployment("2.0", 4, [progressing("ReplicaSetUpdated", 300)], generation=4, replicas=4)
    assert half.say("deployments", again) == [("started", 300, 4)]


def test_a_restart_is_a_rollout_of_the_same_version_and_no_rollback(running):
    again = replica_set("1.0", 2, 100)
    again["metadata"]["uid"] = "uid-shop-restarted"
    running.say("sets", again)
    (change,) = running.state.apply(
        Kind.DEPLOYMENT,
        "MODIFIED",
        deployment("1.0", 2, [progressing("NewReplicaSetCreated", 100)], replicas=4),
    )
    assert change.text == "deployment/shop: a restart, or another configuration, of 1.0 begins"
    assert change.rollout.undoes == ""


def test_a_third_version_supersedes_a_rollout_that_was_not_complete(half):
    half.say("sets", replica_set("3.0", 3, 200))
    third = deployment("3.0", 3, [progressing("NewReplicaSetCreated", 200)], generation=3, replicas=5)
    assert half.say("deployments", third) == [("superseded", 200, 2), ("started", 200, 3)]


def test_rollouts_that_came_and_went_while_nobody_looked_are_told(running):
    """After a 410: revisions 2 and 3 are only seen by what they have left behind."""
    running.say("sets", V2)
    running.say("sets", replica_set("3.0", 3, 200))
    running.say("sets", replica_set("1.0", 4, 0, past="1"))
    back = deployment("1.0", 4, [progressing("NewReplicaSetAvailable", 300)], generation=4, **done())
    assert running.say("deployments", back) == [
        ("started", 100, 2),
        ("superseded", 200, 2),
        ("started", 200, 3),
        ("rolled_back", 300, 3),
        ("started", 300, 4),
        ("completed", 300, 4),
    ]


def test_states_wait_for_the_replica_set_that_they_are_about(running):
    assert running.say("deployments", rolling(1)) == []
    assert running.say("deployments", rolling(2, 110)) == []
    assert running.say("sets", V2) == [("started", 100, 2), ("scaled", 110, 2)]


def test_a_replica_set_that_never_comes_does_not_stop_everything(running):
    for number in range(100):
        told = running.say("deployments", rolling(1, 100 + number))
        if told:
            break
    assert told[0] == ("started", 100, 2)
    assert running.workload.rollout.to_version == "2.0"


def test_pods_of_a_rollout_are_told_once_and_those_of_scaling_are_not(half):
    new = pod("2.0", 1, 101)
    assert half.say("pods", new) == [("pod_started", 101, 2)]
    assert half.say("pods", new) == []
    assert half.say("pods", pod("2.0", 1, 101, ready=105)) == [("pod_ready", 105, 2)]
    assert half.say("pods", pod("1.0", 2, 50, ready=60)) == []
    half.say("deployments", deployment("2.0", 2, [progressing("NewReplicaSetAvailable", 160)], **done()))
    assert half.say("pods", pod("2.0", 3, 500, ready=510)) == []


def test_a_deployment_that_is_deleted_ends_its_rollout(half):
    gone = rolling()
    gone["metadata"]["deletionTimestamp"] = "2027-01-15T08:30:00Z"
    ((kind, _, revision),) = half.say("deployments", gone, "DELETED")
    assert (kind, revision) == ("superseded", 2)
    assert list(half.state.workloads()) == []


def test_pods_that_have_ended_do_not_count_and_labels_name_track_and_version(half):
    ended = pod("2.0", 1, 101)
    ended["status"]["phase"] = "Failed"
    half.say("pods", ended)
    named = pod("2.0", 2, 101, rolloutobs_io__track="canary")
    named["metadata"]["labels"]["app.kubernetes.io/version"] = "2.0.1"
    # An underscore stands for a hyphen in these; this label has a dot.
    named["metadata"]["labels"]["rolloutobs.io/track"] = "canary"
    half.say("pods", named)
    found = [(p.app, p.version, p.track, p.expected_track) for p in half.workload.pods]
    assert found == [("shop", "2.0.1", Track.CANARY, Track.NONE)]


def test_annotations_of_ours_go_with_the_rollout(running):
    running.say("sets", V2)
    plain = rolling()
    plain["metadata"]["annotations"]["rolloutobs.io/rollback"] = "unsafe"
    plain["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = "{}"
    running.say("deployments", plain)
    assert dict(running.workload.rollout.annotations) == {"rolloutobs.io/rollback": "unsafe"}
