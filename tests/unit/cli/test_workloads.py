"""The file of workloads: what it says, and where it is wrong."""

from pathlib import Path

import pytest

from rolloutobs.analysis.guardrails import Guardrails, Rollback
from rolloutobs.cli.workloads import WorkloadFile
from rolloutobs.errors import ConfigurationError

GOOD = """\
unlisted: ["team-*"]
defaults:
  prometheus: http://prometheus:9090
  interval: 30s
  weight_query: flagger_canary_weight{namespace="{namespace}",workload="{name}"} / 100
workloads:
  - namespace: shop
    name: shop
    owner: team-shop
    rollback: "unsafe: migration 42"
    notify: https://chat.example/hook
  - namespace: shop
    name: api
    app: ""
    match: "{cluster='x'}"
    interval: 5
"""


def read(folder: Path, text: str) -> WorkloadFile:
    (folder / "workloads.yaml").write_text(text)
    return WorkloadFile(folder / "workloads.yaml")


def test_entries_defaults_and_those_without_an_entry(tmp_path):
    file = read(tmp_path, GOOD.replace("'x'", '\\"x\\"'))
    shop, api = file.workloads["shop", "shop"], file.workloads["shop", "api"]
    assert (shop.app, shop.interval_seconds, shop.notify) == ("shop", 30.0, "https://chat.example/hook")
    assert shop.rails == Guardrails(Rollback.UNSAFE, "migration 42", "team-shop")
    assert shop.options["weight_query"] == 'flagger_canary_weight{namespace="shop",workload="shop"} / 100'
    assert (shop.options["match"], shop.options["prometheus"]) == (
        '{namespace="shop"}',
        "http://prometheus:9090",
    )
    assert (api.app, api.options["match"], api.interval_seconds) == ("", '{cluster="x"}', 5.0)
    covered = file.cover(("team-a", "web"))
    assert (covered.is_listed, covered.app) == (False, "web")
    assert covered.options["match"] == '{namespace="team-a"}'
    assert file.cover(("shop", "shop")) is shop
    for key in (("shop", "other"), ("Team-a", "x"), *(("team-a", name) for name in ("../x", "X", "x" * 300))):
        assert file.cover(key) is None
    assert set(file.workloads) == {("shop", "shop"), ("shop", "api"), ("team-a", "web")}
    file.uncover(("team-a", "web"))
    file.uncover(("shop", "shop"))
    assert set(file.workloads) == {("shop", "shop"), ("shop", "api")}


SOME = "unlisted: [a]\ndefaults:\n  scrape: a:1\n"
ONE = "  - {namespace: a, name: b, scrape: c:1}\n"
WRONG = {
    "workloads: 3": "line 1: workloads is 3; use a list",
    "workload: []": "line 1: workload is nothing that stands here; use defaults, unlisted, workloads",
    "- a": "holds list; use a mapping with defaults, unlisted, workloads",
    "workloads: []": "names no workload; add one to workloads, or namespaces to unlisted",
    "defaults: {scrape: a:1}\nworkloads:\n  - namespace: shop": "line 3: name is missing",
    "defaults: {name: x}": "line 1: name is no default; it belongs to one workload",
    "workloads:\n  - {namespace: a, name: b}": "line 2: nothing says where to read; add one of prometheus, "
    "scrape, targets, here or to defaults",
    "workloads:\n  - namespace: a\n    name: B_": "line 3: name is 'B_'; use a name as Kubernetes has them",
    f"workloads:\n{ONE}{ONE}": "line 3: a/b has an entry already; keep one of them",
    f"{SOME}  interval: 15 parsecs": "line 4: interval: '15 parsecs' is not a time span; use for example "
    "15s, 5m or 1h",
    f"{SOME}  prometheus: http://b": "line 3: prometheus and scrape exclude each other; keep one of them",
    f"{SOME}  weight: 5%\n  weight_file: w": "line 5: weight and weight_file exclude each other; keep one of "
    "them",
    f"{SOME}  metrics: mine": "line 4: metrics is 'mine'; use default, ",
    f"{SOME}  bearer-token-file: x": "line 4: bearer-token-file is nothing that a workload has; write "
    "bearer_token_file",
    f"{SOME}  by_version: true": "line 4: by_version is nothing that a workload has; the canary's version "
    "changes with every rollout: use the label track, or canary and stable",
    f"{SOME}  rollback: never": "line 4: rollback: --rollback is 'never'; use 'safe', 'unsafe' or 'unsafe: "
    "why'",
    f"{SOME}  policy: none.yaml": "line 4: cannot read the policy",
    f"{SOME}  notify: ftp://nowhere": "line 4: notify: ",
    f"{SOME}  scrape: b:1": "line 4: defaults.scrape stands here and on line 3",
    "a: [": "is not YAML",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_mistake_is_told_with_its_line(text, tmp_path):
    with pytest.raises(ConfigurationError) as told:
        read(tmp_path, text)
    assert str(told.value).startswith(str(tmp_path / "workloads.yaml"))
    assert WRONG[text] in str(told.value)


def test_an_entry_with_a_source_of_its_own_needs_no_other(tmp_path):
    text = "defaults: {prometheus: http://p, weight: 5%}\nworkloads:\n  - {namespace: a, name: b, "
    options = read(tmp_path, text + "scrape: c:1, weight_file: w}\n").workloads["a", "b"].options
    assert (options["prometheus"], options["scrape"]) == (None, ["c:1"])
    assert (options["weight"], options["weight_file"]) == (None, tmp_path / "w")


def replaced(path: Path, text: str) -> None:
    fresh = path.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.replace(path)


def test_it_is_read_again_with_its_policies_and_what_was_good_holds(tmp_path):
    text = "unlisted: [team]\ndefaults: {scrape: a:1, policy: policy.yaml}\nworkloads: []\n"
    (tmp_path / "policy.yaml").write_text("alpha: 0.02")
    file = read(tmp_path, text)
    path = tmp_path / "workloads.yaml"
    before = file.cover(("team", "web"))
    assert not file.reread()
    replaced(tmp_path / "policy.yaml", "alpha: 0.01")
    assert file.reread()
    after = file.workloads["team", "web"]
    assert after != before
    replaced(path, "workloads: 3")
    assert not file.reread()
    assert file.failed == f"{path}, line 1: workloads is 3; use a list"
    assert file.workloads == {("team", "web"): after}
    replaced(tmp_path / "policy.yaml", "alpha: 7")
    replaced(path, text)
    assert not file.reread()
    assert "policy.yaml, line 1: alpha" in file.failed
    replaced(tmp_path / "policy.yaml", "alpha: 0.01")
    replaced(path, text.replace("[team]", "[]").replace("loads: []", "loads: [{namespace: a, name: b}]"))
    assert file.reread()
    assert (set(file.workloads), file.failed) == ({("a", "b")}, "")
