"""Rollouts as regions in Grafana, over restarts of the watcher and of Grafana."""

import asyncio
import json
from pathlib import Path

import pytest

from rolloutobs.analysis._http import Access
from rolloutobs.cluster.delivery import Patience
from rolloutobs.cluster.grafana import Grafana
from rolloutobs.cluster.marking import GrafanaSink
from tests.unit.rolloutobs.cluster.grafana_server import READER, TOKEN, grafana_server
from tests.unit.rolloutobs.cluster.recorded import changes_of

ALL = ("01_healthy", "02_stuck", "03_rollback")
UID = "c39b3bc1-13c1-4631-8b03-b1d78bd0a812"
QUICK = Patience(first_seconds=0.001, most_seconds=0.001, close_seconds=30.0)
STORY = [
    ("pay ? -> 1.4.0: completed", 0, 4),
    ("pay 1.4.0 -> 1.5.0: completed", 6, 22),
    ("pay 1.5.0 -> 1.6.0-bad: rolled back (ProgressDeadlineExceeded)", 25, 41),
    ("pay 1.6.0-bad -> 1.5.0: rollback, completed", 41, 41),
]


@pytest.fixture(scope="module")
def running():
    with grafana_server() as server:
        yield server


@pytest.fixture
def server(running):
    running.clear()
    return running


def sink(server, token=TOKEN, patience=QUICK):
    return GrafanaSink(Grafana(server.url, Access(token=token), 30.0), "version-comparison", patience)


async def tell(changes, marker):
    for change in changes:
        await marker.take(change)
    await marker.close()
    return marker.failures


def story(server):
    zero = min(item["time"] for item in server.shown)
    rows = [(i["text"], (i["time"] - zero) // 1000, (i["timeEnd"] - zero) // 1000) for i in server.shown]
    return sorted(rows, key=lambda row: row[1:])


async def test_versions_that_come_and_go_read_as_one_story(server):
    assert await tell(changes_of(*ALL), sink(server)) == 0
    assert story(server) == STORY
    tags = {item["tags"][0]: item["tags"][1:] for item in server.shown}
    assert f"undone-by:{UID}-4" in tags[f"rollout:{UID}-3"]
    assert {"rollback", f"undoes:{UID}-3"} <= set(tags[f"rollout:{UID}-4"])
    assert {item["dashboardUID"] for item in server.items.values()} == {"version-comparison"}


async def test_the_dashboards_find_them(server):
    await tell(changes_of(*ALL), sink(server))
    boards = sorted((Path(__file__).parents[4] / "k8s" / "dashboards").glob("*.json"))
    for board in boards:
        marks = json.loads(board.read_text("utf-8"))["annotations"]["list"]
        (target,) = (mark["target"] for mark in marks if mark["datasource"]["uid"] == "-- Grafana --")
        assert target["matchAny"] is False
        query = {"tags": [tag.replace("$app", "pay") for tag in target["tags"]], "matchAny": ["false"]}
        assert len(server.find(query)[1]) == len(STORY), board.name
        query = {"tags": [tag.replace("$app", "other") for tag in target["tags"]], "matchAny": ["false"]}
        assert server.find(query)[1] == []
    assert boards


async def test_every_moment_is_on_the_dashboard_by_then(server):
    """A watcher that writes after each change shows a line, its trouble, and then a region."""
    texts = []
    for change in changes_of("01_healthy", "02_stuck"):
        if change.rollout is None or change.rollout.revision != 3 or change.event or change.pod:
            continue
        await tell([change], sink(server))
        texts += [item["text"] for item in server.shown if item["text"] not in texts]
    assert texts == ["pay 1.5.0 -> 1.6.0-bad", "pay 1.5.0 -> 1.6.0-bad (ProgressDeadlineExceeded)"]
    (item,) = server.shown
    assert item["time"] == item["timeEnd"]


async def test_restarts_of_the_watcher_at_every_change_double_nothing(server):
    changes = changes_of(*ALL)
    marks = [n for n, change in enumerate(changes) if change.event is None and change.pod is None]
    for number in marks:
        # It lists what is there, tells of it again, and goes on.
        await tell(changes[max(number - 8, 0) : number + 1], sink(server))
    assert story(server) == STORY
    assert await tell(changes, sink(server)) == 0
    assert story(server) == STORY


async def test_a_grafana_that_is_away_is_tried_again(server):
    server.fail("GET", 503, times=3)
    server.fail("POST", 0, taken=True)
    server.fail("PATCH", 429, headers={"Retry-After": "1"})
    assert await tell(changes_of("01_healthy"), sink(server)) >= 4
    assert story(server) == STORY[:2]


async def test_a_token_that_is_mended_lets_in_what_waits(server, tmp_path):
    path = tmp_path / "token"
    path.write_text(READER)
    marker = GrafanaSink(Grafana(server.url, Access(token_file=path), 30.0), "version-comparison", QUICK)
    for change in changes_of("01_healthy"):
        await marker.take(change)
    async with asyncio.timeout(30):
        while marker.failures < 3:
            await asyncio.sleep(0.001)
    assert server.shown == []
    path.write_text(TOKEN)
    await marker.close()
    assert story(server) == STORY[:2]


async def test_what_grafana_refuses_for_good_is_lost_and_the_next_is_written(server):
    server.fail("POST", 412)
    assert await tell(changes_of("01_healthy"), sink(server)) == 1
    assert [text for text, _, _ in story(server)] == ["pay 1.4.0 -> 1.5.0: completed"]


async def test_the_end_comes_although_grafana_does_not(server, caplog):
    server.fail("GET", 503, times=1000)
    patience = Patience(first_seconds=60.0, most_seconds=60.0, most_waiting=1, close_seconds=0.05)
    assert await tell(changes_of(*ALL), sink(server, patience=patience)) >= 4
    assert "too many are waiting" in caplog.text
    assert "the end has come" in caplog.text
