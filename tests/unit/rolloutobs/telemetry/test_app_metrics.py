import json
import os
import subprocess
import sys
import textwrap

import pytest
from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    Summary,
)

from rolloutobs.telemetry import app_metrics
from rolloutobs.telemetry.app_metrics import Published

from .worker_group import Worker


class App:
    """The metrics of an app in one worker."""

    def __init__(self, worker, pid):
        self.worker = worker
        self.pid = pid
        registry = worker.registry
        self.orders = Counter("orders", "Orders.", ["kind"], registry=registry)
        self.work = Histogram("work_seconds", "Work.", buckets=[0.1, 1], registry=registry)
        self.size = Summary("size_bytes", "Size.", registry=registry)
        self.depth = Gauge("depth", "Depth.", registry=registry)
        self.info = Info("build", "Build.", registry=registry)
        self.info.info({"branch": "main"})
        self.state = Enum("state", "State.", states=["on", "off"], registry=registry)
        self.merged = {
            mode: Gauge(mode, "Merged.", multiprocess_mode=mode, registry=registry)
            for mode in ("livesum", "max", "min", "livemostrecent")
        }

    def publish(self, monkeypatch, at):
        monkeypatch.setattr(app_metrics.os, "getpid", lambda: self.pid)
        monkeypatch.setattr(app_metrics.time, "time", lambda: at)
        published = app_metrics.own_metrics(self.worker.registry)
        monkeypatch.undo()
        path = self.worker.folder._file.path.with_suffix(app_metrics.APP)
        path.write_bytes(published.as_bytes())


@pytest.fixture
def apps(tmp_path):
    workers = [Worker(tmp_path / "folder") for _ in range(2)]
    yield [App(worker, 101 + i) for i, worker in enumerate(workers)]
    for worker in workers:
        worker.kill()


def shown(metrics):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for metric in metrics
        for sample in metric.samples
    }


def shown_by(app):
    return shown(app.worker.folder._app_metrics_of_all())


def test_what_adds_up_is_summed_and_gauges_are_shown_for_each_worker(apps, monkeypatch):
    for app, amount in zip(apps, (1, 2), strict=True):
        app.orders.labels("book").inc(amount)
        app.work.observe(amount)
        app.size.observe(amount)
        app.depth.set(amount)
        for gauge in app.merged.values():
            gauge.set(amount)
    # The second one was written down first.
    apps[1].publish(monkeypatch, 10.0)
    apps[0].publish(monkeypatch, 11.0)
    expected = {
        ("orders_total", ("kind", "book")): 3,
        ("work_seconds_bucket", ("le", "0.1")): 0,
        ("work_seconds_bucket", ("le", "1.0")): 1,
        ("work_seconds_bucket", ("le", "+Inf")): 2,
        ("work_seconds_count",): 2,
        ("work_seconds_sum",): 3,
        ("size_bytes_count",): 2,
        ("size_bytes_sum",): 3,
        ("depth", ("pid", "101")): 1,
        ("depth", ("pid", "102")): 2,
        ("build_info", ("branch", "main")): 1,
        ("livesum",): 3,
        ("max",): 2,
        ("min",): 1,
        ("livemostrecent",): 1,
        **{
            ("state", ("pid", pid), ("state", state)): float(state == "on")
            for pid in ("101", "102")
            for state in ("on", "off")
        },
    }
    assert shown_by(apps[0]) == shown_by(apps[1]) == expected
    types = {metric.name: metric.type for metric in apps[0].worker.folder._app_metrics_of_all()}
    assert types["orders"] == "counter"
    assert types["size_bytes"] == "summary"
    assert types["state"] == "stateset"


def test_of_workers_that_ended_only_what_adds_up_stays(apps, monkeypatch):
    one, two = apps
    for app in apps:
        app.orders.labels("book").inc(5)
        app.depth.set(1)
        app.publish(monkeypatch, 10.0)
    two.worker.kill()
    before = shown_by(one)
    one.worker.shown()
    # Now it is folded, and its files are gone.
    assert len(list(one.worker.path.glob("*.app"))) == 1
    assert shown_by(one) == before
    assert before["orders_total", ("kind", "book")] == 10
    assert ("depth", ("pid", "102")) not in before
    assert ("depth", ("pid", "101")) in before


def test_the_one_who_answers_shows_its_own_as_they_are_now(apps):
    one, two = apps
    one.orders.labels("book").inc(5)
    assert shown(one.worker.folder.app_metrics())["orders_total", ("kind", "book")] == 5
    # And the next one who answers does not fall behind that.
    assert shown(two.worker.folder.app_metrics())["orders_total", ("kind", "book")] == 5
    one.orders.labels("book").inc()
    assert shown(two.worker.folder.app_metrics())["orders_total", ("kind", "book")] == 5


def test_exemplars_are_kept_and_created_samples_are_not(apps):
    one, two = apps
    one.orders.labels("book").inc(1, {"trace_id": "a"})
    two.orders.labels("book").inc(1, {"trace_id": "b"})
    one.worker.folder.publish_app()
    samples = [
        sample
        for metric in two.worker.folder.app_metrics()
        if metric.name == "orders"
        for sample in metric.samples
    ]
    assert [(sample.name, sample.value, sample.exemplar.labels) for sample in samples] == [
        ("orders_total", 2, {"trace_id": "b"})
    ]


def test_only_what_the_app_has_registered_is_written_down(tmp_path):
    worker = Worker(tmp_path / "folder")
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        worker.registry.register(collector)
    names = {metric.name for metric in worker.folder.app_metrics()}
    assert names == {"python_info"}
    assert list(worker.path.glob("*.app")) == []
    Counter("orders", "Orders.", registry=worker.registry).inc()
    names = {metric.name for metric in worker.folder.app_metrics()}
    assert names == {"python_info", "orders"}
    assert len(list(worker.path.glob("*.app"))) == 1
    worker.kill()


def test_a_collector_that_raises_is_reported_and_the_others_are_shown(apps):
    one = apps[0]
    one.orders.labels("book").inc()
    one.worker.folder.publish_app()
    before = shown_by(one)

    class Broken:
        def describe(self):
            return []

        def collect(self):
            raise RuntimeError("no database")

    one.worker.registry.register(Broken())
    assert shown_by(one) == before
    one.orders.labels("book").inc()
    one.worker.folder.app_metrics()
    assert shown_by(one)["orders_total", ("kind", "book")] == before["orders_total", ("kind", "book")] + 1
    assert all("no database" in report for report in one.worker.reports)
    assert one.worker.reports


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"at": 1, "pid": 2, "families": [[1]]}', b"[" * 100_000]
)
def test_a_damaged_file_is_left_out(apps, content, monkeypatch):
    one, two = apps
    two.orders.labels("book").inc()
    two.publish(monkeypatch, 1.0)
    one.worker.folder._file.path.with_suffix(app_metrics.APP).write_bytes(content)
    assert shown_by(one)["orders_total", ("kind", "book")] == 1
    one.worker.kill()
    assert shown_by(two)["orders_total", ("kind", "book")] == 1
    two.worker.shown()
    assert shown_by(two)["orders_total", ("kind", "book")] == 1


def test_a_metric_of_another_type_is_left_out(tmp_path):
    registries = CollectorRegistry(), CollectorRegistry()
    Counter("jobs", "Jobs.", registry=registries[0]).inc(3)
    Gauge("jobs", "Jobs.", registry=registries[1]).set(5)
    both = [app_metrics.own_metrics(registry) for registry in registries]
    assert shown(app_metrics.merged(both, [])) == {("jobs_total",): 3}


def test_values_that_json_has_no_name_for_survive():
    registry = CollectorRegistry()
    for name, value in (("a", float("inf")), ("b", float("-inf"))):
        Gauge(name, "X.", registry=registry, multiprocess_mode="max").set(value)
    published = app_metrics.own_metrics(registry)
    again = Published.from_json(json.loads(published.as_bytes()))
    assert again == published
    assert shown(app_metrics.merged([again], [])) == {("a",): float("inf"), ("b",): float("-inf")}


def test_prometheus_clients_own_mode_is_used_where_it_is_set_up(tmp_path):
    """In a process of its own: that library decides when it is imported."""
    folder = tmp_path / "prometheus"
    folder.mkdir()
    script = textwrap.dedent("""
        import os, sys, pathlib
        from prometheus_client import Counter, Gauge
        from rolloutobs.settings import Settings
        from rolloutobs.telemetry import app_metrics, hub as hubs
        orders = Counter("orders", "Orders.")
        alive = Gauge("alive", "Alive.", multiprocess_mode="liveall")
        hub = hubs.new_hub(Settings(service="shop", version="1", metrics_dir=sys.argv[1]))
        child = os.fork()
        if child == 0:
            orders.inc(5)
            alive.set(1)
            os._exit(0)
        os.waitpid(child, 0)
        orders.inc(2)
        assert app_metrics.is_multiprocess()
        text = hub.render().body.decode()
        assert 'orders_total{app="shop",version="1"} 7.0' in text, text
        app_metrics.mark_dead(os.getpid())
        files = sorted(path.name for path in pathlib.Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).iterdir())
        # The first render has folded the child, and said so.
        expected = [f"counter_{pid}.db" for pid in (child, os.getpid())] + [f"gauge_liveall_{os.getpid()}.db"]
        assert files == sorted(expected), files
        print("fine")
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "ours")],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "fine\n", done.stderr
