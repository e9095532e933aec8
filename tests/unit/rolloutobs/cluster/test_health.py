"""One sentence for each way a workload can do."""

import pytest

from rolloutobs.cluster.health import Wellness, age, health
from tests.unit.rolloutobs.cluster.made import (
    BEGAN,
    condition,
    deployment,
    done,
    pod,
    progressing,
    replica_set,
)

COMPLETE = progressing("NewReplicaSetAvailable", 10)
PARTLY = {
    "replicas": 5,
    "updatedReplicas": 1,
    "readyReplicas": 4,
    "availableReplicas": 4,
    "unavailableReplicas": 1,
}
SETS = [replica_set("1.0", 1, 0), replica_set("2.0", 2, 100)]


def said(played, plain, *pods, at=220, sets=SETS):
    played.begin(sets=sets, pods=pods, deployments=[plain])
    found = health(played.workload, BEGAN + at)
    return found.wellness, found.sentence


def test_stuck_names_the_pod_and_how_late_it_is(played):
    late = progressing("ProgressDeadlineExceeded", 100, "False", 100)
    crashing = pod("2.0", 1, 101, trouble="CrashLoopBackOff", restarts=3)
    found = said(played, deployment("2.0", 2, [late], **PARTLY), crashing, pod("1.0", 1, 0, ready=1))
    assert found == (
        Wellness.BAD,
        "stuck: 1 of 4 updated, CrashLoopBackOff in shop-hash2.0-00001, deadline passed 2 min ago",
    )


def test_stuck_by_a_quota_says_so(played):
    refused = condition("ReplicaFailure", "True", "FailedCreate", 101, "exceeded quota: pods")
    blocked = deployment("2.0", 2, [progressing("NewReplicaSetCreated", 101), refused], availableReplicas=4)
    assert said(played, blocked) == (
        Wellness.BAD,
        "stuck: 0 of 4 updated, FailedCreate: exceeded quota: pods",
    )


def test_in_progress_says_for_how_long_and_until_when(played):
    going = deployment("2.0", 2, [progressing("ReplicaSetUpdated", 160)], **PARTLY)
    two = [pod("2.0", n, 101, trouble="ImagePullBackOff") for n in (1, 2)]
    assert said(played, going, *two) == (
        Wellness.IN_PROGRESS,
        "in progress: 1 of 4 updated, 2 min so far, ImagePullBackOff in shop-hash2.0-00002 and 1 more, "
        "deadline in 9 min",
    )


def test_paused(played):
    paused = condition("Progressing", "Unknown", "DeploymentPaused", 150)
    halted = deployment("2.0", 2, [paused], paused=True, **PARTLY)
    assert said(played, halted) == (Wellness.IN_PROGRESS, "paused (paused): 1 of 4 updated, 2 min so far")


@pytest.mark.parametrize(
    ("terminating", "sentence"),
    [
        (0, "healthy: 4 of 4 available, 1.0 for 4 min"),
        (1, "healthy: 4 of 4 available, 1.0 for 4 min, 1 old pod still terminating"),
    ],
)
def test_healthy(played, terminating, sentence):
    plain = deployment("1.0", 1, [COMPLETE], **done(), terminatingReplicas=terminating)
    assert said(played, plain, at=250) == (Wellness.HEALTHY, sentence)


def test_old_pods_that_terminate_are_counted_where_the_status_does_not_say_so(played):
    going = pod("1.0", 9, 0, ready=1)
    going["metadata"]["deletionTimestamp"] = "2027-01-15T08:02:00Z"
    found = said(played, deployment("1.0", 1, [COMPLETE], **done()), going, at=250)
    assert found[1] == "healthy: 4 of 4 available, 1.0 for 4 min, 1 old pod still terminating"


def test_a_rollback_says_what_was_taken_back(played):
    sets = [replica_set("1.0", 3, 0, past="1"), replica_set("2.0", 2, 100)]
    back = deployment("1.0", 3, [progressing("NewReplicaSetAvailable", 130)], **done())
    assert said(played, back, sets=sets) == (
        Wellness.HEALTHY,
        "healthy: 4 of 4 available, 1.0 again for 90 s, 2.0 was taken back",
    )


def test_a_change_that_the_controller_has_not_seen(played):
    stale = deployment("1.0", 1, [COMPLETE], generation=2, observed=1, **done())
    assert said(played, stale) == (
        Wellness.IN_PROGRESS,
        "in progress: the controller has not seen the last change yet",
    )


def test_a_scale_up_is_no_fault_and_a_pod_that_cannot_run_is(played):
    scaled = deployment("1.0", 1, [COMPLETE], desired=6, **done(), unavailableReplicas=2)
    found = said(played, scaled, pod("1.0", 1, 200))
    assert found == (Wellness.IN_PROGRESS, "in progress: 4 of 6 available")
    played.say("pods", pod("1.0", 1, 200, trouble="OOMKilled"))
    found = health(played.workload, BEGAN + 220)
    assert (found.wellness, found.sentence) == (
        Wellness.BAD,
        "unavailable: 4 of 6 available, OOMKilled in shop-hash1.0-00001",
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (41, "41 s"), (720, "12 min"), (12_600, "3.5 h"), (800_000, "9 days")]
)
def test_ages(seconds, text):
    assert age(seconds) == text
