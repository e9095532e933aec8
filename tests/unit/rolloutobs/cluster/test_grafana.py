"""Annotations: what they say, and that each is written once, with a server that answers as Grafana does."""

from dataclasses import replace

import pytest

from rolloutobs.analysis._http import Access, Retries
from rolloutobs.cluster.annotations import Annotation, annotation_of
from rolloutobs.cluster.grafana import Act, Done, Grafana, retried
from rolloutobs.cluster.model import Phase, Rollout, WorkloadKind
from rolloutobs.cluster.regions import Ending, begin, finish
from rolloutobs.errors import ConfigurationError, GrafanaError
from tests.unit.rolloutobs.cluster.grafana_server import READER, TOKEN, grafana_server

UID = "0c1f7a52-9b2e-4a0e-8d3c-5b1f6f0e7a11"
STARTED = Annotation("shop-1.2.0", "shop 1.1.0 -> 1.2.0", 1_790_000_000.25, tags=("app:shop",))


@pytest.fixture(scope="module")
def running():
    with grafana_server() as server:
        yield server


@pytest.fixture
def server(running):
    running.clear()
    return running


def client(server, token=TOKEN):
    return Grafana(server.url, Access(token=token), 30.0)


def rollout(**changes):
    made = Rollout(
        UID, "shop", "shop", WorkloadKind.DEPLOYMENT, "shop", 4, "1.1.0", "1.2.0", 1_790_000_000.0,
        Phase.PROGRESSING,
    )  # fmt: skip
    return replace(made, **changes)


async def nap(seconds):
    """Wait for nothing."""


# --- what they say --------------------------------------------------------------------------------------


def test_a_rollout_that_goes_on_is_a_line():
    assert annotation_of(rollout()).body() == {
        "time": 1_790_000_000_000,
        "tags": [f"rollout:{UID}-4", "app:shop", "namespace:shop", "version:1.2.0"],
        "text": "shop 1.1.0 -> 1.2.0",
    }


def test_one_that_was_taken_back_and_what_took_it_back_read_as_a_story():
    undone = rollout(
        phase=Phase.ROLLED_BACK, ended=1_790_000_090.0, undone_by=f"{UID}-5", reason="deadline exceeded",
        annotations={"rolloutobs.io/owner": "team-shop"},
    )  # fmt: skip
    undoing = rollout(
        revision=5, from_version="1.2.0", to_version="1.1.0", started=1_790_000_090.0, undoes=f"{UID}-4",
        phase=Phase.COMPLETED, ended=1_790_000_091.0,
    )  # fmt: skip
    assert [annotation_of(each, "version-comparison").body() for each in (undone, undoing)] == [
        {
            "time": 1_790_000_000_000,
            "timeEnd": 1_790_000_090_000,
            "tags": [
                f"rollout:{UID}-4", "app:shop", "namespace:shop", "version:1.2.0", f"undone-by:{UID}-5",
                "outcome:rolled_back",
            ],
            "text": "shop 1.1.0 -> 1.2.0: rolled back (deadline exceeded); owner: team-shop",
            "dashboardUID": "version-comparison",
        },
        {
            "time": 1_790_000_090_000,
            "timeEnd": 1_790_000_091_000,
            "tags": [
                f"rollout:{UID}-5", "rollback", "app:shop", "namespace:shop", "version:1.1.0",
                f"undoes:{UID}-4", "outcome:completed",
            ],
            "text": "shop 1.2.0 -> 1.1.0: rollback, completed",
            "dashboardUID": "version-comparison",
        },
    ]  # fmt: skip


def test_the_longest_names_of_kubernetes_fit():
    longest = rollout(
        app="a" * 63, namespace="n" * 63, workload="w" * 253, from_version="f" * 128, to_version="t" * 128,
        phase=Phase.ROLLED_BACK, ended=1_790_000_090.0, undoes=f"{UID}-1000", undone_by=f"{UID}-1002",
        revision=1001,
    )  # fmt: skip
    tags = annotation_of(longest).body()["tags"]
    assert sum(len(tag) + 3 for tag in tags) < 500
    assert f"version:{'t' * 100}" in tags


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"text": " "}, "the text of the annotation is empty"),
        ({"key": ""}, "the key is ''; use what names the rollout"),
        ({"key": "shop "}, "the key is 'shop '"),
        ({"key": "k" * 101}, "is too long; Grafana takes 100 characters before the colon and 100 after it"),
        ({"tags": tuple(f"tag:{n:090}" for n in range(6))}, "characters together; Grafana takes 500"),
        ({"panel": 4}, "panel 4 needs the dashboard that it is on"),
    ],
)
def test_what_grafana_would_cut_or_refuse_is_told_before(wrong, words):
    with pytest.raises(ConfigurationError, match=words):
        replace(STARTED, **wrong)


# --- writing --------------------------------------------------------------------------------------------


async def test_a_region_is_written_once_however_often_it_is_started_and_ended(server):
    async with client(server) as grafana:
        done = [await begin(grafana, STARTED), await begin(grafana, replace(STARTED, text="again"))]
        ending = Ending("shop-1.2.0", 1_790_000_090.5, "promoted", tags=("ticket:42",))
        done += [await finish(grafana, ending), await finish(grafana, replace(ending, at=1_790_000_099.0))]
        other = replace(ending, at=1_790_000_120.0, outcome="rolled back")
        done += [await finish(grafana, other)]
    assert done == [
        Done(Act.CREATED, 1), Done(Act.UNCHANGED, 1), Done(Act.UPDATED, 1), Done(Act.UNCHANGED, 1),
        Done(Act.UPDATED, 1),
    ]  # fmt: skip
    assert server.shown == [
        {
            "time": 1_790_000_000_250,
            "timeEnd": 1_790_000_120_000,
            "text": "shop 1.1.0 -> 1.2.0: rolled back",
            "tags": ["rollout:shop-1.2.0", "app:shop", "ticket:42", "outcome:rolled back"],
        }
    ]
    assert [method for method, _, _ in server.asked if method != "GET"] == ["POST", "PATCH", "PATCH"]


async def test_an_end_before_the_start_is_at_the_start_and_a_text_replaces_the_old_one(server):
    async with client(server) as grafana:
        await begin(grafana, STARTED)
        await finish(grafana, Ending("shop-1.2.0", 1_700_000_000.0, text="given up"))
    assert server.shown == [
        {
            "time": 1_790_000_000_250,
            "timeEnd": 1_790_000_000_250,
            "text": "given up",
            "tags": ["rollout:shop-1.2.0", "app:shop"],
        }
    ]


async def test_what_is_put_is_made_changed_or_left_alone(server):
    undone = rollout(phase=Phase.ROLLED_BACK, ended=1_790_000_500.0, undone_by=f"{UID}-5")
    async with client(server) as grafana:
        acts = [
            (await grafana.put(annotation_of(each))).act
            for each in (
                rollout(),
                rollout(),
                rollout(phase=Phase.COMPLETED, ended=1_790_000_090.0),
                undone,
                undone,
            )
        ]
    assert acts == [Act.CREATED, Act.UNCHANGED, Act.UPDATED, Act.UPDATED, Act.UNCHANGED]
    (shown,) = server.shown
    # It took 90 seconds to roll out, whenever it was taken back.
    assert (shown["time"], shown["timeEnd"]) == (1_790_000_000_000, 1_790_000_090_000)
    assert shown["text"] == "shop 1.1.0 -> 1.2.0: rolled back"


async def test_a_rollout_that_was_given_up_and_goes_on_ends_when_it_ends(server):
    async with client(server) as grafana:
        for each in (
            rollout(phase=Phase.ROLLED_BACK, ended=1_790_000_050.0, reason="aborted"),
            rollout(),
            rollout(phase=Phase.COMPLETED, ended=1_790_000_090.0),
        ):
            await grafana.put(annotation_of(each))
    (shown,) = server.shown
    assert shown["timeEnd"] == 1_790_000_090_000
    assert shown["tags"][-1] == "outcome:completed"


async def test_dashboards_and_keys_are_told_apart(server):
    async with client(server) as grafana:
        await begin(grafana, STARTED)
        on_board = replace(STARTED, dashboard="version-comparison", panel=3)
        assert (await begin(grafana, on_board)).act is Act.CREATED
        assert (await begin(grafana, on_board)).act is Act.UNCHANGED
        # Grafana's "rollout" without a value matches every key; a longer key is another one.
        assert await grafana.find("shop-1.2") is None
        assert (await grafana.find("shop-1.2.0")).id == 1
        with pytest.raises(GrafanaError, match="answered 400: Invalid dashboard UID in annotation request"):
            await begin(grafana, replace(STARTED, dashboard="no-such-board"))
    assert len(server.items) == 2


# --- what goes wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408, 0])
@pytest.mark.parametrize("taken", [False, True])
async def test_what_passes_is_tried_again_and_nothing_is_written_twice(server, status, taken):
    server.fail("GET", status)
    server.fail("POST", status, taken=taken)
    async with client(server) as grafana:
        done = await retried(lambda: begin(grafana, STARTED), Retries(4), nap)
    assert done.id == 1
    assert len(server.shown) == 1


async def test_grafana_is_left_alone_as_long_as_it_wants_and_not_for_ever(server):
    waits = []

    async def wait(seconds):
        waits.append(seconds)

    server.fail("GET", 429, headers={"Retry-After": "7"})
    server.fail("GET", 503, headers={"Retry-After": "3600"})
    async with client(server) as grafana:
        await retried(lambda: begin(grafana, STARTED), Retries(3, first_seconds=0.1), wait)
    assert waits == [7.0, 30.0]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (412, "answered 412: failed with 412$"),
        (404, "answered 404: failed with 404; is this the address of Grafana, with its sub-path"),
    ],
)
async def test_what_does_not_pass_is_told_at_once(server, status, words):
    server.fail("POST", status)
    async with client(server) as grafana:
        with pytest.raises(GrafanaError, match=words):
            await retried(lambda: begin(grafana, STARTED), Retries(5), nap)
    assert [method for method, _, _ in server.asked] == ["GET", "POST"]


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("glsa_old", "answered 401: Invalid API key; Grafana does not know the token: it has expired"),
        (READER, "Permissions needed: annotations:create; the token may not do that; its service account"),
    ],
)
async def test_a_token_that_does_not_do_is_told_with_what_it_needs(server, token, words):
    async with client(server, token) as grafana:
        with pytest.raises(GrafanaError, match=words):
            await retried(lambda: begin(grafana, STARTED), Retries(5), nap)
    assert server.items == {}


async def test_an_end_without_a_start_is_an_error(server):
    async with client(server) as grafana:
        with pytest.raises(GrafanaError, match="there is no annotation with the tag 'rollout:nothing'"):
            await finish(grafana, Ending("nothing", 1_790_000_000.0))


async def test_an_annotation_that_somebody_removes_meanwhile_is_an_error_and_then_made_anew(server):
    async with client(server) as grafana:
        with pytest.raises(GrafanaError, match="answered 404: Annotation not found"):
            await grafana.change(99, {"text": "x"})


@pytest.mark.parametrize("answer", ["[1]", '{"status": "success"}', "<html>", '[{"tags": 3}]'])
async def test_another_server_is_not_taken_for_grafana(answer, server):
    server.odd = answer
    async with client(server) as grafana:
        with pytest.raises(GrafanaError, match="does not answer as Grafana does"):
            await begin(grafana, STARTED)


async def test_nobody_there_is_a_failure_that_may_pass():
    async with Grafana("127.0.0.1:1", Access(token=TOKEN), 30.0) as grafana:
        with pytest.raises(GrafanaError, match=r"Grafana at 127\.0\.0\.1:1: ConnectError") as caught:
            await begin(grafana, STARTED)
    assert caught.value.is_passing
