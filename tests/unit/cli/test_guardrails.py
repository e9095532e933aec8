"""What the gate does where a machine may not roll back, and when a person decides."""

import json

import pytest

from rolloutobs import cli
from tests.kubernetes_api import served
from tests.unit.cli.test_cli import quick, shop
from tests.unit.rolloutobs.cluster.made import deployment, done, progressing

__all__ = ["quick"]

UNSAFE = ("--rollback", "unsafe: migration 42 drops orders.note", "--owner", "team-shop")
PAGED = "HOLD, and page team-shop: rolling back is marked as unsafe (migration 42 drops orders.note)"


def gate(quick, *arguments, broken=True):
    """Run the gate on a shop; return the exit code."""
    with shop(broken=broken) as server:
        options = ("--scrape", server.address, "--interval", "100ms", "--policy", str(quick), "--quiet")
        return cli.main(["gate", "--app", "shop", *options, *arguments])


def test_what_may_not_be_rolled_back_is_held_and_pages(quick, tmp_path, capfd):
    commands = ("--on-rollback", f"touch {tmp_path}/undone", "--on-hold", f"touch {tmp_path}/held")
    page = f"cat > {tmp_path}/stdin; env | grep ^ROLLOUTOBS_VERDICT > {tmp_path}/env"
    state = tmp_path / "state.json"
    argv = (*UNSAFE, *commands, "--on-page", page, "--state", str(state))
    assert gate(quick, *argv) == 3
    said = capfd.readouterr().out.splitlines()
    assert said[0].startswith("shop (owner: team-shop): canary 1.2.0 against stable 1.1.0, ")
    assert said[-1].startswith(f"{PAGED}, so a person has to decide. The evidence: ROLLBACK after ")
    assert not (tmp_path / "undone").exists()
    assert not (tmp_path / "held").exists()
    told = json.loads((tmp_path / "stdin").read_text())
    assert (told["decision"], told["page"], told["owner"]) == ("hold", True, "team-shop")
    found = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert found["ROLLOUTOBS_VERDICT"] == "hold"
    assert found["ROLLOUTOBS_VERDICT_PAGE"] == "true"
    assert found["ROLLOUTOBS_VERDICT_OWNER"] == "team-shop"

    # A gate that goes on from the state does not page again.
    (tmp_path / "stdin").unlink()
    assert gate(quick, *argv) == 3
    assert not (tmp_path / "stdin").exists()
    assert "page was acted on before" in capfd.readouterr().err


def test_without_a_command_for_it_a_page_is_a_hold(quick, tmp_path):
    assert gate(quick, *UNSAFE, "--on-hold", f"touch {tmp_path}/held") == 3
    assert (tmp_path / "held").exists()


def test_a_person_rolls_back_what_no_machine_may(quick, tmp_path, capfd):
    argv = ("--override", "rollback", "--reason", "the table is still there", "--who", "ann")
    assert gate(quick, *UNSAFE, *argv, "--on-rollback", f"touch {tmp_path}/undone") == 1
    assert (tmp_path / "undone").exists()
    assert "\nROLLBACK by ann (the table is still there); the evidence by then: " in capfd.readouterr().out


def test_an_override_is_somebodys(quick, monkeypatch, capfd):
    for name in ("GITHUB_ACTOR", "GITLAB_USER_LOGIN", "USER"):
        monkeypatch.delenv(name, raising=False)
    argv = ("--override", "promote", "--reason", "hotfix")
    assert gate(quick, *argv, broken=False) == 2
    assert capfd.readouterr().err == (
        "rolloutobs: --override needs --who: say who decided it; the environment does not\n"
    )
    monkeypatch.setenv("GITLAB_USER_LOGIN", "bob")
    assert gate(quick, *argv, broken=False) == 0
    assert "\nPROMOTE by bob (hotfix); the evidence by then: " in capfd.readouterr().out


@pytest.mark.parametrize(("options", "code"), [((), 1), (UNSAFE, 3)])
def test_compare_says_the_same(options, code, quick, capfd):
    with shop(broken=True) as server:
        # So much happens between two scrapes that a few of them decide, however slow the machine is.
        server.on_scrape = lambda: setattr(server, "scrapes", server.scrapes + 25)
        argv = ("--scrape", server.address, "--interval", "100ms", "--window", "2s", "--policy", str(quick))
        assert cli.main(["compare", "--app", "shop", *argv, "--quiet", *options]) == code
    assert (PAGED in capfd.readouterr().out) is bool(options)


# --- annotations of a workload --------------------------------------------------------------------------

MIGRATION = {
    "rolloutobs.io/rollback": "unsafe: migration 42 drops orders.note",
    "rolloutobs.io/owner": "team-shop",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    path = tmp_path_factory.mktemp("cluster") / "kubeconfig"
    with served(path) as cluster:
        yield cluster, path


@pytest.fixture
def cluster(running, monkeypatch):
    """Return the cluster, which KUBECONFIG leads to."""
    found, path = running
    found.forbidden.clear()
    found.requests.clear()
    found.put("deployments", [])
    monkeypatch.setenv("KUBECONFIG", str(path))
    return found


def annotated(cluster, annotations):
    cluster.put(
        "deployments",
        [
            deployment("1.2.0", 4, [progressing("ReplicaSetUpdated")], annotations=annotations, **done()),
            deployment("1.0.0", 1, [progressing("NewReplicaSetAvailable")], name="other", **done()),
        ],
    )


def test_annotations_of_the_workload_hold_the_gate_back(cluster, quick, capfd):
    annotated(cluster, MIGRATION)
    assert gate(quick, "--workload", "deployment/shop") == 3
    said = capfd.readouterr().out.splitlines()
    assert said[0].startswith("shop (owner: team-shop): ")
    assert said[-1].startswith(PAGED)
    # It reads no more than it needs the rights for.
    assert {plural for plural, _, _ in cluster.requests} == {"deployments", "rollouts", "canaries"}


def test_an_annotation_that_is_written_while_the_gate_watches_counts(cluster, quick, tmp_path, capfd):
    annotated(cluster, {})
    with shop(broken=True) as server:
        server.on_scrape = lambda: annotated(cluster, MIGRATION)
        argv = ("--scrape", server.address, "--interval", "100ms", "--policy", str(quick), "--quiet")
        assert cli.main(["gate", "--app", "shop", *argv, "--workload", "shop"]) == 3
    assert capfd.readouterr().out.splitlines()[-1].startswith(PAGED)


def test_a_workload_that_says_nothing_is_rolled_back_and_an_option_is_more_careful(cluster, quick, capfd):
    annotated(cluster, {"rolloutobs.io/owner": "team-shop"})
    assert gate(quick, "--workload", "deployment/shop") == 1
    assert gate(quick, "--workload", "deployment/shop", "--rollback", "unsafe", "--owner", "ann") == 3
    first, second = (line for line in capfd.readouterr().out.splitlines() if line.startswith("shop ("))
    assert first.startswith("shop (owner: team-shop): ")
    assert second.startswith("shop (owner: ann): ")


def test_annotations_that_cannot_be_read_at_the_end_hold_as_they_were(cluster, quick, capfd):
    annotated(cluster, MIGRATION)
    with shop(broken=True) as server:
        server.on_scrape = lambda: cluster.forbidden.add("deployments")
        argv = ("--scrape", server.address, "--interval", "100ms", "--policy", str(quick), "--quiet")
        assert cli.main(["gate", "--app", "shop", *argv, "--workload", "deployment/shop"]) == 3
    said = capfd.readouterr().out
    assert "- the annotations are those from before, as they cannot be read now: missing right: list" in said
    assert said.splitlines()[-1].startswith(PAGED)


def test_a_word_that_appears_and_that_nobody_knows_is_taken_for_unsafe(cluster, quick, capfd):
    annotated(cluster, {})
    with shop(broken=True) as server:
        server.on_scrape = lambda: annotated(cluster, {"rolloutobs.io/rollback": "never"})
        argv = ("--scrape", server.address, "--interval", "100ms", "--policy", str(quick), "--quiet")
        assert cli.main(["gate", "--app", "shop", *argv, "--workload", "deployment/shop"]) == 3
    assert (
        "HOLD, and page a person: rolling back is marked as unsafe (rolloutobs.io/rollback is"
        in (capfd.readouterr().out.splitlines()[-1])
    )


@pytest.mark.parametrize(
    ("options", "forbidden", "words"),
    [
        (
            ("--workload", "deployment/nothing"),
            "",
            "there is no 'deployment/nothing'; there is: deployment/",
        ),
        (("--workload", "pod/shop"), "", "'pod/shop': use deployment/NAME, rollout/NAME or canary/NAME"),
        (
            ("--workload", "deployment/shop"),
            "deployments",
            "missing right: list and watch deployments.apps in ",
        ),
        (
            ("--workload", "shop"),
            "rollouts",
            "missing right: list and watch rollouts.argoproj.io in namespace",
        ),
        (("--workload", "deployment/wrong"), "", "rolloutobs.io/rollback is 'never'; use 'safe', 'unsafe'"),
        (("--namespace", "shop"), "", "--namespace is that of --workload, which is missing"),
    ],
)
def test_what_cannot_be_read_is_told_before_anything_is_watched(
    cluster, quick, options, forbidden, words, capfd
):
    annotated(cluster, {})
    cluster.put(
        "deployments",
        [
            *cluster.kinds["deployments"].objects.values(),
            deployment("1.0.0", 1, [], name="wrong", annotations={"rolloutobs.io/rollback": "never"}),
        ],
    )
    if forbidden:
        cluster.absent.discard(forbidden)
        cluster.forbidden.add(forbidden)
    try:
        assert gate(quick, *options) == 2
    finally:
        cluster.absent.update({"rollouts", "canaries"})
    assert words in capfd.readouterr().err


def test_no_right_to_read_what_is_not_meant_is_no_matter(cluster, quick):
    annotated(cluster, MIGRATION)
    cluster.absent.discard("rollouts")
    cluster.forbidden.add("rollouts")
    try:
        assert gate(quick, "--workload", "deployment/shop") == 3
    finally:
        cluster.absent.add("rollouts")
