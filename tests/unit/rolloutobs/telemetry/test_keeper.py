import shutil
import threading
import time

import pytest
from prometheus_client import Counter

from rolloutobs.telemetry import keeper as keepers
from rolloutobs.telemetry.keeper import Keeper

from .worker_group import Worker


@pytest.fixture
def worker(tmp_path):
    made = Worker(tmp_path / "folder")
    yield made
    made.kill()


@pytest.fixture
def keeper(worker):
    made = Keeper(worker.store, worker.folder, worker.report)
    yield made
    made.stop()


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_folder_that_is_gone_is_made_again(worker, keeper):
    worker.orders().inc(3)
    shutil.rmtree(worker.path)
    keeper.look()
    assert worker.shown() == {("orders_total", "a"): 3}
    assert len(list(worker.path.glob("*.cells"))) == 1
    # What the dead had counted went with it: that is told, once.
    keeper.look()
    (report,) = worker.reports
    assert "is gone" in report


def test_the_apps_metrics_are_written_down(worker, keeper):
    Counter("jobs", "Jobs.", registry=worker.registry)
    keeper.look()
    (path,) = worker.path.glob("*.app")
    assert b"jobs_total" in path.read_bytes()


def test_an_app_with_costly_metrics_is_asked_less_often(worker, keeper, monkeypatch):
    keeper.look()
    assert keeper.delay_seconds == 5.0
    times = iter((100.0, 100.3))
    monkeypatch.setattr(keepers.time, "perf_counter", lambda: next(times))
    keeper.look()
    assert keeper.delay_seconds == pytest.approx(30.0)


def test_what_fails_is_reported_and_tried_again(worker, keeper):
    class Broken:
        def describe(self):
            return []

        def collect(self):
            raise RuntimeError("no database")

    worker.registry.register(Broken())
    keeper.look()
    (report,) = worker.reports
    assert "Broken of the app has raised RuntimeError('no database')" in report
    shutil.rmtree(worker.path)
    worker.path.write_text("in the way")
    keeper.look()
    assert any("File exists" in report for report in worker.reports)
    worker.path.unlink()
    keeper.look()
    assert worker.path.is_dir()


def test_it_looks_again_and_again_until_it_is_stopped(worker, keeper, monkeypatch):
    looked = threading.Event()
    monkeypatch.setattr(keepers, "INTERVAL_SECONDS", 0.01)
    keeper._delay_seconds = 0.01
    monkeypatch.setattr(worker.folder, "publish_app", looked.set)
    keeper.start()
    for _ in range(2):
        assert looked.wait(20)
        looked.clear()
    keeper.stop()
    assert not keeper.is_running


def test_it_ends_with_its_owner(worker, monkeypatch):
    keeper = Keeper(worker.store, worker.folder, worker.report)
    keeper._delay_seconds = 0.01
    keeper.start()
    thread = keeper._thread
    del keeper
    until(lambda: not thread.is_alive())


def test_it_stands_aside_while_the_process_forks(worker, keeper):
    # Else Python 3.12 warns about the fork, and the child could get a lock that nobody releases.
    keeper.start()
    assert keeper.is_running
    keepers._before_fork()
    assert not keeper.is_running
    keepers._after_fork_in_parent()
    assert keeper.is_running


def test_a_process_that_only_forks_has_none(worker, keeper):
    keeper.start_in_children()
    keepers._before_fork()
    keepers._after_fork_in_parent()
    assert not keeper.is_running
    keepers._before_fork()
    keepers._after_fork_in_child()
    assert keeper.is_running
