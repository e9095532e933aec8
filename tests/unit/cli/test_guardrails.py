"""What the gate does where a machine may not roll back, and when a person decides."""

import json

import pytest

from rolloutobs import cli
from tests.unit.cli.test_cli import quick, shop

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
        argv = ("--scrape", server.address, "--interval", "100ms", "--window", "2s", "--policy", str(quick))
        assert cli.main(["compare", "--app", "shop", *argv, "--quiet", *options]) == code
    assert (PAGED in capfd.readouterr().out) is bool(options)
