"""The watcher against an API server that misbehaves, over real HTTP."""

import asyncio
import json
import subprocess
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from rolloutobs.cluster._http import Api
from rolloutobs.cluster.access import Connection
from rolloutobs.cluster.journal import Journal
from rolloutobs.cluster.model import ChangeKind
from rolloutobs.cluster.reading import Pace
from rolloutobs.cluster.serving import Server
from rolloutobs.cluster.watching import Clocks, Watcher
from rolloutobs.testing import FakeClock, parse_metrics, sample_value
from tests.kubernetes_api import CUSTOM, PLURALS, RECORDINGS, FakeCluster
from tests.unit.rolloutobs.cluster.made import BEGAN, deployment, done, event, progressing, replica_set
from tests.unit.rolloutobs.cluster.recorded import changes_of

QUICK = Pace(watch_seconds=300.0, first_seconds=0.01, most_seconds=0.05, unreadable_seconds=0.05)
DEADLINE_SECONDS = 60
RECORDED = 1_795_391_240.0
"""A moment after all recordings."""


class Heard:
    """A sink that keeps what it is given."""

    def __init__(self):
        self.changes = []
        self.is_closed = False

    async def take(self, change):
        self.changes.append(change)

    async def close(self):
        self.is_closed = True

    @property
    def told(self):
        return sorted((c.time, c.kind.value, c.text) for c in self.changes if c.event is None)

    @property
    def events(self):
        return sorted(c.key for c in self.changes if c.event is not None)


async def until(condition):
    """Wait until `condition` holds, however long a busy machine takes."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def watching(cluster, *, connection=None, begin=True, sinks=(), **options):
    """Run a watcher; yield it and the sink that hears it."""
    heard = Heard()
    clock = FakeClock(RECORDED)
    settings = {"pace": QUICK, "clocks": Clocks(wall=clock), **options}
    async with Api(connection or cluster.connection(), timeout_seconds=DEADLINE_SECONDS) as api:
        watcher = Watcher(api, sinks=[*sinks, heard], **settings)
        task = asyncio.create_task(watcher.run())
        try:
            if begin:
                await until(watcher.has_begun.is_set)
            yield watcher, heard
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert heard.is_closed


def shown(watcher):
    """Return the metrics of workloads as text, without those of the watcher itself."""
    text = watcher.answer("/metrics", {}).body.decode()
    return [line for line in text.splitlines() if "rolloutobs_watcher" not in line]


def samples(watcher):
    return parse_metrics(watcher.answer("/metrics", {}).body.decode())


async def replayed(name, **faults):
    """Return what was told and shown of a recording, and the cluster that played it."""
    async with FakeCluster() as cluster:
        cluster.begin(name)
        for fault, number in faults.items():
            setattr(cluster, fault, number)
        async with watching(cluster) as (watcher, heard):
            cluster.play(name)
            last = {plural: cluster.kinds[plural].version for plural in PLURALS}

            def is_there():
                readers = {r.resource.plural: r for r in watcher.readers}
                return all(readers[plural].version == str(last[plural]) for plural in PLURALS)

            await until(is_there)
            await until(lambda: len(heard.changes) == sum(watcher.told.values()))
            broken = [(reader.failures, reader.cuts > 0) for reader in watcher.readers if reader.lists]
            return heard.told, heard.events, shown(watcher), cluster, broken


@pytest.mark.parametrize("name", RECORDINGS)
async def test_a_connection_that_breaks_off_at_every_line_changes_nothing(name):
    told, events, metrics, quiet, whole = await replayed(name)
    cut = await replayed(name, cut_every=1)
    assert (told, events, metrics) == cut[:3]
    assert (whole, cut[4]) == ([(0, False)] * 4, [(0, True)] * 4)
    for plural in PLURALS:
        lines = len(quiet.kinds[plural].lines)
        assert (quiet.watches(plural), cut[3].watches(plural) >= lines) == (1, True)
        # It went on from where it was: there was no need to list again.
        assert cut[3].lists(plural) == 1


async def test_lists_come_in_pages():
    async with FakeCluster() as cluster:
        cluster.begin("03_rollback")
        cluster.page = 2
        async with watching(cluster) as (watcher, _):
            (workload,) = watcher.state.workloads()
            assert len(workload.pods) == 5
            assert cluster.lists("pods") == 3


async def test_an_expired_version_means_to_list_again():
    async with FakeCluster() as cluster:
        cluster.begin("03_rollback")
        cluster.expired["pods"] = 1
        async with watching(cluster) as (watcher, _):
            await until(lambda: cluster.lists("pods") == 2 and cluster.watches("pods") == 2)
            cluster.play("03_rollback")
            await until(lambda: len(next(iter(watcher.state.workloads())).pods) == 4)
            assert sample_value(samples(watcher), "rolloutobs_watcher_lists_total", resource="pods") == 2
            assert sample_value(samples(watcher), "rolloutobs_watcher_readable", resource="pods") == 1


async def test_versions_that_expire_again_and_again_are_waited_out():
    """Not with a list after the other as fast as it goes: the waits grow."""
    waits = []

    class Noted(Pace):
        def wait(self, failures):
            waits.append(failures)
            return 0.0

    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        cluster.expired["pods"] = 4
        async with watching(cluster, pace=Noted(watch_seconds=300.0)):
            await until(lambda: cluster.watches("pods") == 5)
        assert waits[-3:] == [2, 3, 4]
        assert cluster.lists("pods") == 5


async def test_a_busy_server_is_asked_again_when_it_says():
    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        cluster.busy["deployments"] = 2
        async with watching(cluster) as (watcher, _):
            assert cluster.lists("deployments") == 3
            assert (
                sample_value(samples(watcher), "rolloutobs_watcher_failures_total", where="deployments") == 2
            )
            assert watcher.problems() == []


async def test_a_watch_that_hears_nothing_is_begun_again_from_a_list():
    """A version from the future is answered with 200 and silence."""
    pace = Pace(watch_seconds=1.0, first_seconds=0.01, most_seconds=0.05, unreadable_seconds=0.05)
    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        cluster.silent["deployments"] = 1
        async with watching(cluster, pace=pace) as (watcher, _):
            cluster.play("01_healthy")
            await until(lambda: next(iter(watcher.state.workloads())).rollout.revision == 2)
            assert cluster.lists("deployments") >= 2


async def test_a_token_that_was_renewed_is_read_again():
    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        cluster.token = "new"
        asked = []

        def token(is_again):
            asked.append(is_again)
            return "new" if is_again else "old"

        connection = Connection(cluster.url, "shop", token)
        async with watching(cluster, connection=connection) as (watcher, _):
            assert len(list(watcher.state.workloads())) == 1
        assert True in asked


async def test_credentials_that_are_refused_are_told():
    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        cluster.token = "new"
        async with watching(cluster, begin=False) as (watcher, _):
            await until(lambda: all(reader.problem for reader in watcher.readers))
            answer = watcher.answer("/readyz", {})
            assert answer.status == "503 Service Unavailable"
            assert b"does not accept our credentials (401)" in answer.body
            # A new process would fare no better.
            assert watcher.answer("/healthz", {}).status == "200 OK"
            cluster.token = ""
            await until(watcher.has_begun.is_set)
            assert watcher.answer("/readyz", {}).status == "200 OK"


async def test_crds_that_are_not_installed_are_done_without_until_they_are():
    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        async with watching(cluster) as (watcher, _):
            assert watcher.problems() == []
            for plural in CUSTOM:
                assert sample_value(samples(watcher), "rolloutobs_watcher_readable", resource=plural) == 0
                assert sample_value(samples(watcher), "rolloutobs_watcher_failures_total", where=plural) == 0
            cluster.put("rollouts", [])
            await until(
                lambda: sample_value(samples(watcher), "rolloutobs_watcher_readable", resource="rollouts")
            )


@pytest.mark.parametrize(
    ("plural", "right"), [("pods", "list and watch pods in all"), ("deployments", "deployments.apps in all")]
)
async def test_a_right_that_is_missing_is_named_and_the_rest_goes_on(plural, right):
    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        cluster.forbidden.add(plural)
        async with watching(cluster) as (watcher, _):
            (problem,) = watcher.problems()
            assert problem.startswith("missing right: ")
            assert right in problem
            cluster.forbidden.clear()
            await until(lambda: watcher.problems() == [])
            (workload,) = watcher.state.workloads()
            assert len(workload.pods) == 4


async def test_without_replica_sets_versions_are_those_of_the_deployments():
    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        cluster.forbidden.add("replicasets")
        slow = Pace(watch_seconds=300.0, first_seconds=0.01, most_seconds=0.05, unreadable_seconds=60.0)
        async with watching(cluster, pace=slow) as (watcher, heard):
            cluster.play("01_healthy")
            await until(
                lambda: any(c.kind is ChangeKind.COMPLETED and not c.is_backfill for c in heard.changes)
            )
            last = next(iter(watcher.state.workloads())).rollout
            assert (last.from_version, last.to_version) == ("1.4.0", "1.5.0")


async def test_what_is_not_required_and_always_fails_holds_up_nothing():
    pace = Pace(watch_seconds=300.0, first_seconds=0.01, most_seconds=0.05, optional_seconds=0.05)
    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        cluster.put("canaries", [])
        cluster.busy["canaries"] = 10**9
        async with watching(cluster, pace=pace) as (watcher, _):
            assert watcher.problems() == []
            assert sample_value(samples(watcher), "rolloutobs_watcher_readable", resource="canaries") == 0
            assert len(list(watcher.state.workloads())) == 1


async def test_namespaces_are_watched_one_by_one():
    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        async with watching(cluster, namespaces=["shop", "other"]) as (watcher, _):
            assert [w.name for w in watcher.state.workloads()] == ["pay"]
            cluster.play("01_healthy")
            await until(lambda: next(iter(watcher.state.workloads())).rollout.revision == 2)


async def test_an_object_that_is_none_is_counted_and_the_rest_goes_on():
    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        async with watching(cluster) as (watcher, _):
            cluster.say("pods", "ADDED", {"metadata": {"uid": "odd", "namespace": "shop"}})
            await until(
                lambda: sample_value(samples(watcher), "rolloutobs_watcher_failures_total", where="pods") == 1
            )
            assert len(next(iter(watcher.state.workloads())).pods) == 4


# --- the past, and what is kept of it -------------------------------------------------------------------

V1 = replica_set("1.0", 1, 0)
V2 = replica_set("2.0", 2, 4000)


def complete(version, revision, at):
    return deployment(version, revision, [progressing("NewReplicaSetAvailable", at)], **done())


async def test_only_the_last_hour_is_told_at_the_start():
    async with FakeCluster() as cluster:
        cluster.put("replicasets", [V1])
        cluster.put("deployments", [complete("1.0", 1, 10)])
        old = event("e1", 1, ("Deployment", "shop"), "ScalingReplicaSet", 20)
        cluster.put("events", [old])
        now = FakeClock(BEGAN + 7200.0)
        async with watching(cluster, clocks=Clocks(wall=now)) as (watcher, heard):
            await until(lambda: len(heard.changes) == sum(watcher.told.values()))
            assert (heard.told, heard.events) == ([], ["e1/1"])
        now = FakeClock(BEGAN + 3000.0)
        async with watching(cluster, clocks=Clocks(wall=now)) as (_, heard):
            await until(lambda: len(heard.told) == 2)
            assert all(change.is_backfill for change in heard.changes)


async def test_what_was_kept_is_not_told_again_and_what_was_missed_is(tmp_path):
    now = FakeClock(BEGAN + 4100.0)
    async with FakeCluster() as cluster:
        cluster.put("replicasets", [V1, V2])
        going = deployment("2.0", 2, [progressing("ReplicaSetUpdated", 4001)], replicas=5, updatedReplicas=1)
        cluster.put("deployments", [going])
        cluster.put("events", [event("e1", 1, ("Deployment", "shop"), "ScalingReplicaSet", 4001)])
        async with watching(cluster, journal=Journal(tmp_path), clocks=Clocks(wall=now)) as (_, heard):
            await until(lambda: heard.told and heard.events)
            assert [kind for _, kind, _ in heard.told] == ["started"]
        # It was complete while nobody watched.
        cluster.put("deployments", [complete("2.0", 2, 4050)])
        cluster.put("events", [event("e1", 2, ("Deployment", "shop"), "ScalingReplicaSet", 4049)])
        async with watching(cluster, journal=Journal(tmp_path), clocks=Clocks(wall=now)) as (watcher, heard):
            await until(lambda: len(heard.told) == 2 and heard.events)
            assert [kind for _, kind, _ in heard.told] == ["started", "completed"]
            assert heard.events == ["e1/2"]
            # A trace takes no event of a rollout whose beginning it has not heard of.
            assert [change.kind.value for change in heard.changes] == ["started", "event", "completed"]
            kept = json.loads(watcher.answer("/v1/events", {"workload": "shop"}).body)
            assert [(one["kind"], one["time"] - BEGAN) for one in kept] == [
                ("completed", 4050),
                ("event", 4049),
                ("event", 4001),
                ("started", 4000),
            ]
        async with watching(cluster, journal=Journal(tmp_path), clocks=Clocks(wall=now)) as (watcher, heard):
            assert (heard.changes, sum(watcher.told.values())) == ([], 0)


async def test_when_a_rollback_began_is_remembered_over_restarts(tmp_path):
    """The objects say it only at that moment: the ReplicaSet is an old one."""
    sets = [replica_set("1.0", 3, 0, past="1"), V2]
    now = Clocks(wall=FakeClock(BEGAN + 4600.0))
    async with FakeCluster() as cluster:
        cluster.put("replicasets", sets)
        counts = {"replicas": 5, "updatedReplicas": 1}
        cluster.put("deployments", [deployment("1.0", 3, [progressing("ReplicaSetUpdated", 4100)], **counts)])
        async with watching(cluster, journal=Journal(tmp_path), clocks=now) as (_, heard):
            await until(lambda: "started" in [kind for _, kind, _ in heard.told])
        cluster.put("deployments", [complete("1.0", 3, 4500)])
        async with watching(cluster, journal=Journal(tmp_path), clocks=now) as (watcher, _):
            last = next(iter(watcher.state.workloads())).rollout
            assert (last.started - BEGAN, last.ended - BEGAN, last.undoes) == (4100, 4500, "uid-shop-2")


async def test_what_is_kept_is_found_by_namespace_workload_and_time():
    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        async with watching(cluster) as (watcher, heard):
            await until(lambda: len(heard.changes) == sum(watcher.told.values()) > 10)

            def found(**query):
                return json.loads(watcher.answer("/v1/events", query).body)

            every = found()
            assert [one["time"] for one in every] == sorted((one["time"] for one in every), reverse=True)
            assert found(namespace="other") == found(workload="other") == []
            assert found(namespace="shop", workload="pay") == every
            assert len(found(limit="3")) == 3
            assert found(since="1795391186") == found(since="1795391186000")
            assert {one["time"] >= 1795391186 for one in found(since="1795391186")} == {True}
            with pytest.raises(ValueError, match="since is 'yesterday'"):
                watcher.answer("/v1/events", {"since": "yesterday"})


async def test_a_sink_that_raises_does_not_stop_the_others(caplog):
    class Broken:
        async def take(self, change):
            raise RuntimeError("no")

        async def close(self):
            raise RuntimeError("no")

    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        heard = Heard()
        async with Api(cluster.connection()) as api:
            watcher = Watcher(
                api, sinks=[Broken(), heard], pace=QUICK, clocks=Clocks(wall=FakeClock(RECORDED))
            )
            task = asyncio.create_task(watcher.run())
            await until(lambda: len(heard.told) > 5)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert heard.is_closed
        assert sample_value(samples(watcher), "rolloutobs_watcher_failures_total", where="Broken") > 5
        assert [record.message for record in caplog.records].count(
            "the sink Broken has failed; this is said once"
        ) == 1


# --- files ----------------------------------------------------------------------------------------------


async def test_a_sink_that_hangs_is_given_up_and_holds_up_no_end():
    together = asyncio.Barrier(2)

    class Hanging(Heard):
        async def take(self, change):
            await asyncio.Event().wait()

        async def close(self):
            # All at the same time: together they may take no longer than one.
            await together.wait()
            self.is_closed = True

    hanging = [Hanging(), Hanging()]
    async with FakeCluster() as cluster:
        cluster.put("replicasets", [V1])
        cluster.put("deployments", [complete("1.0", 1, 10)])
        now, pace = Clocks(wall=FakeClock(BEGAN + 20.0)), replace(QUICK, sink_seconds=0.1)
        async with watching(cluster, sinks=hanging, clocks=now, pace=pace) as (watcher, heard):
            await until(lambda: len(heard.told) == 2)
            lost = sample_value(samples(watcher), "rolloutobs_watcher_failures_total", where="Hanging")
    assert (lost, [each.is_closed for each in hanging]) == (4, [True, True])


async def test_more_of_the_past_than_may_wait_is_told_all_the_same():
    about = ("Deployment", "shop")
    async with FakeCluster() as cluster:
        cluster.put("events", [event(f"e{n}", 1, about, "ScalingReplicaSet", 10) for n in range(10_500)])
        async with watching(cluster, clocks=Clocks(wall=FakeClock(BEGAN + 20.0))) as (_, heard):
            await until(lambda: len(heard.changes) == 10_500)


async def test_files_are_bounded_and_half_a_line_is_left_out(tmp_path):
    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        journal = Journal(tmp_path, most_bytes=2000, files=3)
        async with watching(cluster, journal=journal) as (_, heard):
            await until(lambda: len(heard.changes) > 20)
        files = sorted(path.name for path in tmp_path.iterdir())
        assert files == ["changes.jsonl", "changes.jsonl.1", "changes.jsonl.2"]
        assert all(path.stat().st_size < 4000 for path in tmp_path.iterdir())
        with (tmp_path / "changes.jsonl").open("a") as file:
            file.write('{"time": 1, "key": "ha')
        again = Journal(tmp_path, most_bytes=2000, files=3)
        assert len(again.find()) >= 5
        await again.take(heard.changes[0])
        await again.close()
        last = Journal(tmp_path)
        assert last.is_known(heard.changes[0].key)
        await last.close()


async def test_a_disk_that_refuses_for_a_while_is_written_to_again(tmp_path):
    journal = Journal(tmp_path, most_bytes=10, files=2)
    in_the_way = tmp_path / "changes.jsonl.1" / "something"
    in_the_way.mkdir(parents=True)
    first, second, third = changes_of("01_healthy")[:3]
    await journal.take(first)
    assert journal.failures == 1
    in_the_way.rmdir()
    in_the_way.parent.rmdir()
    await journal.take(second)
    await journal.take(third)
    await journal.close()
    assert journal.failures == 1
    kept = [json.loads(line)["key"] for line in (tmp_path / "changes.jsonl.1").read_text().splitlines()]
    assert kept == [third.key]
    assert all(journal.is_known(change.key) for change in (first, second, third))


async def test_memory_is_bounded():
    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        async with watching(cluster, journal=Journal(most_records=3)) as (watcher, heard):
            await until(lambda: len(heard.changes) == sum(watcher.told.values()) > 10)
            assert len(watcher.journal.find()) == 3


@pytest.mark.prometheus
async def test_metrics_are_as_prometheus_wants_them():
    async with FakeCluster() as cluster:
        cluster.begin("03_rollback")
        async with watching(cluster) as (watcher, _):
            text = watcher.answer("/metrics", {}).body
    command = await asyncio.create_subprocess_exec(
        "promtool",
        "check",
        "metrics",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await command.communicate(text)
    assert (command.returncode, said) == (0, b"")


# --- what it listens on ---------------------------------------------------------------------------------


async def asked(port, text):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.decode().partition("\r\n\r\n")
    return head.splitlines()[0], body


async def test_the_server_answers_and_refuses():
    async with FakeCluster() as cluster:
        cluster.begin("01_healthy")
        async with watching(cluster) as (watcher, _), Server(("127.0.0.1", 0), watcher.answer) as server:
            status, body = await asked(server.port, "GET /metrics HTTP/1.1\r\n\r\n")
            assert status == "HTTP/1.1 200 OK"
            assert sample_value(parse_metrics(body), "rolloutobs_rollout_revision", workload="pay") == 1
            status, body = await asked(server.port, "HEAD /healthz HTTP/1.1\r\n\r\n")
            assert (status, body) == ("HTTP/1.1 200 OK", "")
            for text, code in (
                ("GET /v1/events?since=x HTTP/1.1\r\n\r\n", 400),
                ("GET /v1/events?limit=x HTTP/1.1\r\n\r\n", 400),
                ("GET /elsewhere HTTP/1.1\r\n\r\n", 404),
                ("POST /metrics HTTP/1.1\r\n\r\n", 405),
            ):
                status, _ = await asked(server.port, text)
                assert f" {code} " in status, text
