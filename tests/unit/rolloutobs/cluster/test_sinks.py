"""The watcher with its sinks: traces and regions of recordings whose connections break off at every line."""

import asyncio

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rolloutobs.analysis._http import Access
from rolloutobs.cluster._http import Api
from rolloutobs.cluster.annotations import annotation_of
from rolloutobs.cluster.figures import families
from rolloutobs.cluster.grafana import Grafana
from rolloutobs.cluster.marking import GrafanaSink
from rolloutobs.cluster.records import record
from rolloutobs.cluster.traces import TraceSink
from rolloutobs.cluster.watching import Clocks, Watcher
from rolloutobs.testing import FakeClock, sample_value
from tests.kubernetes_api import FakeCluster
from tests.unit.rolloutobs.cluster.conftest import Played
from tests.unit.rolloutobs.cluster.grafana_server import TOKEN, grafana_server
from tests.unit.rolloutobs.cluster.made import deployment, done, progressing, replica_set
from tests.unit.rolloutobs.cluster.test_marking import story
from tests.unit.rolloutobs.cluster.test_traces import tree
from tests.unit.rolloutobs.cluster.test_watching import DEADLINE_SECONDS, QUICK, RECORDED, samples, until

STORIES = {
    "02_stuck": (
        [
            "rollout 0-16 1.5.0 completed",
            *(
                line
                for start, name in ((0, "w92fw"), (4, "5x47t"), (8, "t9rfc"), (12, "6nzjs"))
                for line in (
                    f"  pod start {start}-{start + 2} pay-644c65c544-{name}",
                    f"  pod readiness {start + 2}-{start + 2} pay-644c65c544-{name}",
                )
            ),
        ],
        [
            ("pay 1.4.0 -> 1.5.0: completed", 0, 16),
            ("pay 1.5.0 -> 1.6.0-bad (ProgressDeadlineExceeded)", 19, 19),
        ],
    ),
    "03_rollback": (
        [
            "rollout 0-16 1.6.0-bad rolled_back ERROR ProgressDeadlineExceeded",
            "  stuck 13-16 ERROR ProgressDeadlineExceeded",
            "  pod start 0-16 pay-55cd44db8f-c5576 ERROR never ready: CrashLoopBackOff",
            "rollout 0-0 1.5.0 completed",
        ],
        [
            ("pay 1.5.0 -> 1.6.0-bad: rolled back (ProgressDeadlineExceeded)", 0, 16),
            ("pay 1.6.0-bad -> 1.5.0: rollback, completed", 16, 16),
        ],
    ),
}
"""By recording: its traces without Kubernetes' warnings, and its regions."""


@pytest.mark.parametrize("name", STORIES)
async def test_traces_and_regions_are_those_of_an_unbroken_connection(name):
    exporter = InMemorySpanExporter()
    with grafana_server() as server:
        server.fail("GET", 503)
        traces = TraceSink(exporter, Resource({}), linger_seconds=600.0)
        marks = GrafanaSink(Grafana(server.url, Access(token=TOKEN), 30.0))
        async with FakeCluster() as cluster:
            cluster.begin(name)
            cluster.cut_every = 1
            async with Api(cluster.connection(), timeout_seconds=DEADLINE_SECONDS) as api:
                clocks = Clocks(wall=FakeClock(RECORDED))
                watcher = Watcher(api, sinks=[traces, marks], pace=QUICK, clocks=clocks)
                task = asyncio.create_task(watcher.run())
                await until(watcher.has_begun.is_set)
                cluster.play(name)
                wanted = STORIES[name][1]
                await until(lambda: story(server) == wanted if server.items else False)
                failed = samples(watcher)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        assert story(server) == wanted
    assert [line.partition(" ! ")[0] for line in tree(exporter.get_finished_spans())] == STORIES[name][0]
    assert sample_value(failed, "rolloutobs_watcher_failures_total", where="grafana") == 1
    assert sample_value(failed, "rolloutobs_watcher_failures_total", where="traces") == 0


def test_the_owner_is_named_by_metrics_records_and_regions():
    played = Played()
    owned = deployment(
        "1.0.0", 1, [progressing("NewReplicaSetAvailable")],
        annotations={"rolloutobs.io/owner": "team-shop"}, **done(),
    )  # fmt: skip
    changes = played.begin(sets=[replica_set("1.0.0", 1, 0)], deployments=[owned])
    info = next(f for f in families([played.workload], 1e9) if f.name == "rolloutobs_rollout_info")
    assert [sample.labels["owner"] for sample in info.samples] == ["team-shop"]
    assert {record(change).get("owner") for change in changes} == {"team-shop"}
    assert annotation_of(played.workload.rollout).text == "shop ? -> 1.0.0: completed; owner: team-shop"
