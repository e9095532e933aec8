"""Gates and checks as Jobs: exit codes, rights."""

from __future__ import annotations

import pytest

from synthetic.options import make_parser
from synthetic.settings import parse_duration
from tests.contract.manifests.built import containers, of_kind


def test_jobs_follow_the_exit_codes() -> None:
    (gate,), crons = of_kind("overlays/shop", "Job"), of_kind("overlays/shop", "CronJob")
    assert gate["spec"]["backoffLimit"] == 0
    periods = {"*/5 * * * *": 300, "17 * * * *": 3600}
    assert len(crons) == len(periods)
    for each in crons:
        spec, job = each["spec"], each["spec"]["jobTemplate"]["spec"]
        assert spec["concurrencyPolicy"] == "Forbid"
        assert 60 <= spec["startingDeadlineSeconds"] <= 200
        assert job["activeDeadlineSeconds"] < periods[spec["schedule"]]
        assert job["backoffLimit"] == 1
    for job in (gate["spec"], *(each["spec"]["jobTemplate"]["spec"] for each in crons)):
        assert job["template"]["spec"]["restartPolicy"] == "Never"
        assert [rule["action"] for rule in job["podFailurePolicy"]["rules"]] == ["Ignore", "FailJob"]


@pytest.mark.parametrize("name", ["argo-rollouts", "flagger", "overlays/shop"])
def test_checks_end_before_they_are_ended(name: str) -> None:
    """With a minute for an image, a browser and the last pair: a Job that is cut off tells nothing of it."""
    ((_, check),) = [pair for pair in containers(name) if pair[0] == "rolloutobs-synthetic"]
    given = make_parser().parse_args(check["args"])
    every, last = (parse_duration(text, "args") for text in (given.every, given.last_scrape))
    (cron,) = [e for e in of_kind(name, "CronJob") if e["metadata"]["name"] == "rolloutobs-synthetic"]
    deadline = cron["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"]
    assert every * (given.count - 1) + last + 60 <= deadline


def test_the_gate_may_read_the_workload_that_it_watches_and_nothing_else() -> None:
    name = "overlays/shop"
    (role,), (binding,) = of_kind(name, "Role"), of_kind(name, "RoleBinding")
    assert role["rules"] == [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]}]
    (job,) = of_kind(name, "Job")
    spec = job["spec"]["template"]["spec"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    account = {"kind": "ServiceAccount", "name": spec["serviceAccountName"], "namespace": "shop"}
    assert binding["subjects"] == [account]
    assert {role["metadata"]["namespace"], binding["metadata"]["namespace"]} == {"shop"}
    (watched,) = [each for each in spec["containers"][0]["args"] if each.startswith("--workload=")]
    deployments = [each["metadata"]["name"] for each in of_kind(name, "Deployment")]
    assert watched.removeprefix("--workload=deployment/") in deployments
