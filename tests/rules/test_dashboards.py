"""Dashboards: every query parses, every name is known, and what a reader needs is on them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.source.dashboards import BOARDS
from k8s.source.dashboards.drawing import draw
from k8s.source.dashboards.model import Board, Kind
from k8s.source.files import FOLDER
from k8s.source.rules import GROUPS, Recording
from rolloutobs.cluster.model import Change, ChangeKind, Event
from rolloutobs.cluster.records import record
from tests.rules.naming import exposed, metrics_of

VARIABLES = {
    "$__rate_interval": "5m", "$__range": "1h", "$window": "5m", "$namespace": ".*", "$app": "shop",
    "$version": ".*", "$track": ".*",
}  # fmt: skip
BY_NAME = {board.name: board for board in BOARDS}
BOARD = pytest.mark.parametrize("board", BOARDS, ids=list(BY_NAME))


def queries(board: Board) -> list[str]:
    """Return every query of a dashboard, of its annotations too, with the variables filled in."""
    drawn = draw(board)
    found = [
        target["expr"] for panel in drawn["panels"] for target in panel.get("targets", ()) if "expr" in target
    ]
    found += [each["expr"] for each in drawn["annotations"]["list"] if "expr" in each]
    return [filled(query, VARIABLES) for query in found]


def filled(query: str, variables: dict[str, str]) -> str:
    for name, value in variables.items():
        query = query.replace(name, value)
    return query


@pytest.mark.prometheus
def test_every_query_parses(tmp_path: Path) -> None:
    rules = [
        {"record": f"{board.name}:q{number}".replace("-", "_"), "expr": query}
        for board in BOARDS
        for number, query in enumerate(queries(board))
    ]
    assert len(rules) > 80
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), "utf-8")
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@BOARD
def test_names_are_known(board: Board) -> None:
    recorded = {rule.name for group in GROUPS for rule in group.rules if isinstance(rule, Recording)}
    asked = {metric for query in queries(board) for metric in metrics_of(query)}
    assert asked - exposed() - recorded == set()


@BOARD
def test_no_variable_is_left_and_no_panel_overlaps(board: Board) -> None:
    drawn = draw(board)
    assert not [query for query in queries(board) if "$" in query]
    cells = [
        (x, y)
        for panel in drawn["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23


@BOARD
def test_version_and_track_can_be_chosen_and_rollouts_are_marked(board: Board) -> None:
    drawn = draw(board)
    names = [variable["name"] for variable in drawn["templating"]["list"]]
    events = ["events", "watcher"] if board.name == "rollout-timeline" else []
    assert names == ["datasource", "namespace", "app", "version", "track", "window", *events]
    sources = [each["datasource"]["type"] for each in drawn["annotations"]["list"]]
    assert sources == ["prometheus"] * 5 + ["grafana"]
    assert "null" not in json.dumps(drawn)


@pytest.mark.parametrize("name", list(BY_NAME))
def test_each_leads_to_all_the_others_with_the_app_and_the_time(name: str) -> None:
    drawn = json.loads((FOLDER / "dashboards" / f"{name}.json").read_text("utf-8"))
    assert [(link["url"].partition("?")[0], link["keepTime"]) for link in drawn["links"]] == [
        (f"/d/rolloutobs-{other}", True) for other in BY_NAME if other != name
    ]
    for link in drawn["links"]:
        # No namespace: real users' is the collector's.
        assert link["url"].partition("?")[2] == "${datasource:queryparam}&${app:queryparam}"


@BOARD
def test_a_panel_says_what_it_shows_and_what_it_lacks(board: Board) -> None:
    for panel in draw(board)["panels"]:
        if panel["type"] == "row":
            continue
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"], panel["title"]
        assert len(defaults["noValue"]) > 20, panel["title"]
        if panel["type"] == "timeseries" and "difference" not in panel["title"].lower():
            signed = panel["title"].startswith(("Standard errors", "Evidence"))
            assert defaults.get("min") == (None if signed else 0), panel["title"]


def test_limits_are_lines_where_it_is_no_longer_good() -> None:
    panels = {panel["title"]: panel for name in BY_NAME for panel in draw(BY_NAME[name])["panels"]}
    for title, steps in (
        ("Largest contentful paint", [("green", None), ("yellow", 2.5), ("red", 4.0)]),
        ("Memory, highest share of a limit", [("green", None), ("red", 0.9)]),
    ):
        defaults = panels[title]["fieldConfig"]["defaults"]
        drawn = [(step["color"], step.get("value")) for step in defaults["thresholds"]["steps"]]
        assert drawn == steps
        assert defaults["custom"]["thresholdsStyle"] == {"mode": "dashed"}
    assert "good up to 2.5 s, poor above 4 s" in panels["Largest contentful paint"]["description"].lower()


def test_alerts_on_rollouts_are_on_the_timeline() -> None:
    """They have no app, by which the others are found."""
    (panel,) = [p for p in draw(BY_NAME["rollout-timeline"])["panels"] if p["title"] == "Alerts"]
    shown = set(re.findall(r'alertname=~"([^"]*)"', panel["targets"][1]["expr"])[0].split("|"))
    assert {"DeploymentDown", "RolloutStuck", "RolloutStalled", "TrackMismatch"} <= shown
    assert not {"PodChurn", "RolloutFinished", "WatcherDown"} & shown


@pytest.mark.parametrize("name", ["version-comparison", "real-users", "synthetic"])
def test_sample_sizes_come_first(name: str) -> None:
    first = BY_NAME[name].rows[0].panels[0]
    assert first.kind is Kind.TABLE
    assert "increase" in first.queries[0].expression


def test_recent_events_are_the_watchers() -> None:
    """Its address and its fields are those of the code; without the plugin no other panel is touched."""
    drawn = draw(BY_NAME["rollout-timeline"])
    uses = [
        p for p in drawn["panels"] if p.get("datasource", {}).get("type") == "yesoreyeah-infinity-datasource"
    ]
    assert [panel["title"] for panel in uses] == ["What happened"]
    (target,) = uses[0]["targets"]
    base = yaml.safe_load_all((FOLDER / "base" / "watcher.yaml").read_text("utf-8"))
    (service,) = [each for each in base if each["kind"] == "Service"]
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    (address,) = [v for v in drawn["templating"]["list"] if v["name"] == "watcher"]
    assert address["query"] == f"http://{name}.rolloutobs:{port}"
    event = Event("u", "shop", "Pod", "p", "BackOff", "x", "Warning", 3, 1.0, 2.0, "shop", "shop", "1.2.0")
    known = set(record(Change(ChangeKind.EVENT, 2.0, "shop", "shop", "x", event=event)))
    assert {column["selector"] for column in target["columns"]} <= known


def test_latency_shows_exemplars() -> None:
    drawn: dict[str, Any] = draw(BY_NAME["version-comparison"])
    assert sum(bool(t.get("exemplar")) for p in drawn["panels"] for t in p.get("targets", ())) == 3
