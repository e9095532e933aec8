"""`rolloutobs status`: what is printed, and the exit codes."""

import json
import re
import time

import pytest
from inline_snapshot import snapshot

from rolloutobs import cli
from tests.kubernetes_api import served
from tests.unit.rolloutobs.cluster.made import (
    BEGAN,
    canary,
    deployment,
    done,
    progressing,
    replica_set,
    rollout,
)

COMPLETE = progressing("NewReplicaSetAvailable", 10)


@pytest.fixture
def cluster(tmp_path):
    with served(tmp_path / "config") as found:
        yield found


@pytest.fixture
def status(tmp_path, capsys):
    """Run the command and return its exit code, output and errors."""

    def run(*arguments):
        code = cli.main(["status", *arguments, "--kubeconfig", str(tmp_path / "config")])
        done = capsys.readouterr()
        return code, done.out, done.err

    return run


def timeless(text):
    """Return the beginnings of a page's lines, without the ages in them, which grow."""
    text = re.sub(r"\d+(\.\d+)? (days|min|h|s)\b", "AGE", text)
    return "\n".join(line[:100].rstrip() for line in re.sub(r" {2,}", "  ", text).split("\n"))


@pytest.mark.parametrize(
    ("name", "codes"), [("01_healthy", (0, 0)), ("02_stuck", (0, 1)), ("03_rollback", (1, 0))]
)
def test_the_exit_codes_before_and_after_a_recording(cluster, status, name, codes):
    cluster.begin(name)
    before = status("deployment/pay")[0]
    cluster.finish(name)
    assert (before, status("deployment/pay")[0]) == codes


def test_a_rollout_that_is_stuck(cluster, status):
    cluster.finish("02_stuck")
    code, out, err = status("deployment/pay")
    assert (code, err) == (1, "")
    assert timeless(out) == snapshot("""\
deployment/pay in shop, app pay
stuck: 1 of 4 updated, CrashLoopBackOff in pay-55cd44db8f-c5576, deadline passed AGE ago

rollout  1.5.0 to 1.6.0-bad  [....................] 0%, stuck, began AGE ago
replicas  desired 4, updated 1, ready 4, available 4, unavailable 1, old still terminating 0
conditions  Available  True  MinimumReplicasAvailable  for AGE  Deployment has minimum availability.
  Progressing  False  ProgressDeadlineExceeded  for AGE  ReplicaSet "pay-55cd44db8f" has timed out p

VERSION  TRACK  POD  AGE  READY  RESTARTS
1.5.0  -  pay-644c65c544-w92fw  AGE  yes  0
1.5.0  -  pay-644c65c544-5x47t  AGE  yes  0
1.5.0  -  pay-644c65c544-t9rfc  AGE  yes  0
1.5.0  -  pay-644c65c544-6nzjs  AGE  yes  0
1.6.0-bad  -  pay-55cd44db8f-c5576  AGE  no  3  CrashLoopBackOff

timeline
  2026-11-22 23:46:47Z  deployment/pay: 1.5.0 to 1.6.0-bad begins
  2026-11-22 23:46:47Z  pay-55cd44db8f-c5576 (1.6.0-bad) was created
  2026-11-22 23:47:00Z  deployment/pay: 1.5.0 to 1.6.0-bad is stuck: ProgressDeadlineExceeded

events
  2026-11-22 23:46:44Z  Pod/pay-67f8ccbcb9-qv2dj  Killing: Stopping container app
  2026-11-22 23:46:44Z  ReplicaSet/pay-67f8ccbcb9  SuccessfulDelete: Deleted pod: pay-67f8ccbcb9-qv2
  2026-11-22 23:46:44Z  Deployment/pay  ScalingReplicaSet: Scaled down replica set pay-67f8ccbcb9 fr
  2026-11-22 23:46:47Z  Deployment/pay  ScalingReplicaSet: (combined from similar events): Scaled up
  2026-11-22 23:46:47Z  ReplicaSet/pay-55cd44db8f  SuccessfulCreate: Created pod: pay-55cd44db8f-c55
  2026-11-22 23:46:47Z  Pod/pay-55cd44db8f-c5576  Scheduled: Successfully assigned shop/pay-55cd44db
  2026-11-22 23:46:48Z  Pod/pay-55cd44db8f-c5576  Started: Started container app
  2026-11-22 23:46:49Z  Pod/pay-55cd44db8f-c5576  BackOff: Back-off restarting failed container app
  2026-11-22 23:46:55Z  Pod/pay-55cd44db8f-c5576  BackOff: Back-off restarting failed container app
  2026-11-22 23:47:01Z  Pod/pay-55cd44db8f-c5576  BackOff: Back-off restarting failed container app
""")


def test_all_workloads_in_a_line_each(cluster, status):
    cluster.put("replicasets", [replica_set("1.0", 1, 0), replica_set("2.0", 2, 100)])
    going = deployment("2.0", 2, [progressing("ReplicaSetUpdated", 100)], replicas=5, updatedReplicas=1)
    well = deployment("7.1", 1, [COMPLETE], name="cart", **done(2), desired=2)
    cluster.put("deployments", [going, well])
    code, out, _ = status()
    assert code == 3
    assert out.splitlines()[0].split() == ["WORKLOAD", "VERSION", "HEALTH"]
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["deployment/cart", "deployment/shop"]
    assert "in progress: 1 of 4 updated" in out
    assert "healthy: 2 of 2 available" in out


def test_nothing_there(cluster, status):
    assert status() == (0, "no Deployments, Rollouts or Canaries here\n", "")
    assert cluster.requests[0][1]["limit"] == "500"


def test_json_has_all_of_it(cluster, status):
    cluster.finish("03_rollback")
    code, out, _ = status("pay", "-o", "json")
    found = json.loads(out)
    assert code == 0
    assert found["health"]["wellness"] == "healthy"
    assert found["rollout"]["undoes"].endswith("-3")
    assert [one["kind"] for one in found["timeline"]] == ["rolled_back", "started", "completed"]
    assert [pod["version"] for pod in found["pods"]] == ["1.5.0"] * 4
    assert {one["object"].partition("/")[0] for one in found["events"]} == {"Deployment", "ReplicaSet", "Pod"}
    (listed,) = json.loads(status("-A", "-o", "json")[1])["workloads"]
    assert listed["rollout"] == found["rollout"]


def test_a_rollout_of_argo_and_a_canary_of_flagger(cluster, status):
    cluster.put("replicasets", [replica_set("1.0", 1, 0, argo=True), replica_set("2.0", 2, 100, argo=True)])
    waits = rollout(
        "2.0",
        2,
        phase="Paused",
        current="2.0",
        stable="1.0",
        weight=20,
        conditions=[progressing("RolloutPaused", 110)],
        pauseConditions=[{"reason": "CanaryPauseStep", "startTime": "2027-01-15T08:02:10Z"}],
    )
    cluster.put("rollouts", [waits])
    code, out, _ = status("rollout/shop")
    assert code == 3
    assert out.splitlines()[1].startswith("paused (CanaryPauseStep): 20% of the traffic to 2.0, ")
    cluster.put("rollouts", [])
    primary = deployment("1.0", 1, [COMPLETE], name="shop-primary", **done())
    cluster.put("deployments", [deployment("2.0", 2, [COMPLETE], desired=0), primary])
    cluster.put("replicasets", [replica_set("1.0", 1, 0), replica_set("2.0", 2, 100)])
    cluster.put("canaries", [canary("Failed", "b", 200, message="Canary analysis failed")])
    code, out, _ = status("canary/shop")
    assert code == 1
    assert "2.0 was given up: Canary analysis failed" in out
    code, _, err = status("deployment/shop-primary")
    assert (code, err) == (2, "rolloutobs: deployment/shop-primary is part of a Canary; use canary/shop\n")


def test_watching_ends_when_it_is_no_longer_in_progress(cluster, status):
    cluster.put("replicasets", [replica_set("1.0", 1, 0), replica_set("2.0", 2, 100)])
    going = deployment("2.0", 2, [progressing("ReplicaSetUpdated", 100)], replicas=5, updatedReplicas=1)
    cluster.put("deployments", [going])
    cluster.after_lists(
        "deployments", 2, [deployment("2.0", 2, [progressing("NewReplicaSetAvailable", 160)], **done())]
    )
    # An API server that is busy for a moment ends nothing.
    cluster.busy_after["pods"] = 1
    code, out, err = status("deployment/shop", "-w", "--every", "0.01s")
    assert (code, "answers 429: storage is (re)initializing; trying again" in err) == (0, True)
    assert out.index("in progress: 1 of 4") < out.index("healthy: 4 of 4")


def test_what_is_piped_is_told_when_more_than_its_age_has_changed(cluster, status):
    """A pipeline's log has a page for each change, not one for every look."""
    now = time.time() - BEGAN
    cluster.put("replicasets", [replica_set("1.0", 1, 0), replica_set("2.0", 2, now)])
    going = deployment("2.0", 2, [progressing("ReplicaSetUpdated", now)], replicas=5, updatedReplicas=1)
    cluster.put("deployments", [going])
    complete = deployment("2.0", 2, [progressing("NewReplicaSetAvailable", now)], **done())
    cluster.after_lists("deployments", 4, [complete])
    code, out, err = status("deployment/shop", "-w", "--every", "0.4s")
    assert (code, out.count("\nin progress: "), out.count("\nhealthy: "), err) == (0, 1, 1, "")
    assert "\n\ndeployment/shop in shop" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("deployment/nobody",), "there is no 'deployment/nobody'; there is: deployment/pay"),
        (("job/pay",), "'job/pay': use deployment/NAME, rollout/NAME or canary/NAME"),
        (("pay", "-A"), "use a name or --all-namespaces, not both"),
        (("pay", "--context", "other"), "has no context 'other'; it has 'here'"),
    ],
)
def test_what_cannot_be_shown(cluster, status, arguments, message):
    cluster.begin("01_healthy")
    code, _, err = status(*arguments)
    assert code == 2
    assert message in err


def test_rights_that_are_missing(cluster, status):
    cluster.begin("01_healthy")
    cluster.forbidden.add("events")
    code, out, err = status("pay")
    assert (code, "events" in out) == (0, False)
    assert "missing right: list and watch events in namespace 'shop'" in err
    cluster.forbidden.add("pods")
    code, _, err = status("pay")
    assert (code, "missing right: list and watch pods in namespace 'shop'" in err) == (2, True)


def test_no_server(tmp_path, status):
    with served(tmp_path / "config"):
        pass
    code, _, err = status("pay")
    assert code == 2
    assert re.match(r"rolloutobs: http://127\.0\.0\.1:\d+: ", err)
