"""Real processes that fork."""

import logging
import os
import subprocess
import sys
import textwrap

import pytest

from rolloutobs.settings import Settings
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry import workers
from rolloutobs.telemetry.workers import Server
from rolloutobs.testing import parse_metrics, sample_value

PRELUDE = """
import os, sys, threading, time
from prometheus_client import Counter
from rolloutobs.settings import Settings
from rolloutobs.telemetry import hub as hubs
from rolloutobs.testing import parse_metrics, sample_value

def value(name, **labels):
    return sample_value(parse_metrics(hubs.process().render().body.decode()), name, **labels)

def fork(work):
    pid = os.fork()
    if not pid:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return pid

def wait(*pids):
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0

def files(end=".cells"):
    return sorted(p.name for p in hubs.process_store().backing.folder.glob("*" + end))
"""


def run(script, tmp_path, *flags, **environ):
    done = subprocess.run(
        [sys.executable, *flags, "-c", PRELUDE + textwrap.dedent(script)],
        env={**os.environ, "TMPDIR": str(tmp_path), **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "fine\n", done.stdout + done.stderr
    return done.stderr


def test_a_server_that_forks_answers_for_its_children_and_they_for_it(tmp_path):
    stderr = run(
        """
        hub = hubs.new_hub(Settings(service="shop", version="1"))
        orders = hub.counter("orders_total", "Orders.", ("kind",))
        orders.cell("a").inc(100)
        assert hubs.share_with_children() and hubs.share_with_children()
        assert value("orders_total", kind="a") == 100

        def child():
            assert hubs.process_store().backing is not None
            orders.cell("a").inc()
            assert value("orders_total", kind="a") >= 101
            # Both were set before the fork, and are still so.
            assert value("app_build_info") == 1
            assert value("app_start_time_seconds") > 1e9

        wait(*[fork(child) for _ in range(8)])
        assert value("orders_total", kind="a") == 108
        # Another look has them folded.
        assert value("orders_total", kind="a") == 108
        assert len(files()) == 1, files()
        print("fine")
        """,
        tmp_path,
        "-W",
        "error",
    )
    assert stderr == ""


def test_a_fork_of_a_process_full_of_threads_hangs_nowhere(tmp_path):
    run(
        """
        hub = hubs.new_hub(Settings(service="shop", version="1", metrics_dir=os.environ["DIR"]))
        orders = hub.counter("orders_total", "Orders.", ("kind",))
        jobs = Counter("jobs", "Jobs.")
        stop = threading.Event()

        def busy(i):
            n = 0
            while not stop.is_set():
                n += 1
                orders.cell(f"thread {i} {n % 200}").inc()
                if i == 0:
                    hub.render()

        def child():
            for i in range(50):
                orders.cell("child").inc()
                orders.cell(f"own {i}").inc()
            assert value("orders_total", kind="child") % 50 in range(50)

        threads = [threading.Thread(target=busy, args=(i,), daemon=True) for i in range(4)]
        for thread in threads:
            thread.start()
        wait(*[fork(child) for _ in range(12)])
        stop.set()
        for thread in threads:
            thread.join()
        assert value("orders_total", kind="child") == 600
        assert value("rolloutobs_internal_errors_total") == 0
        print("fine")
        """,
        tmp_path,
        # The fork of the test itself.
        "-W",
        "ignore::DeprecationWarning",
        DIR=str(tmp_path / "given"),
    )


def test_processes_that_are_killed_and_forked_at_random_lose_nothing(tmp_path):
    run(
        """
        import random, signal
        chance = random.Random(4)
        hub = hubs.new_hub(Settings(service="shop", version="1"))
        orders = hub.counter("orders_total", "Orders.", ("kind",))
        work = hub.histogram("work_seconds", "Work.", ("kind",), (0.1, 1.0))
        assert hubs.share_with_children()
        expected = 0
        for _ in range(25):
            amount = chance.randrange(1, 9)
            ready = os.pipe()

            def child():
                for i in range(amount):
                    orders.cell(chance.choice("abc")).inc()
                    work.cell("a").observe(i)
                os.write(ready[1], b"x")
                time.sleep(60)

            pid = fork(child)
            assert os.read(ready[0], 1) == b"x"
            expected += amount
            if chance.random() < 0.5:
                assert value("orders_total") == expected
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if chance.random() < 0.5:
                assert value("orders_total") == expected
            orders.cell("a").inc()
            expected += 1
        assert value("orders_total") == expected
        assert value("work_seconds_count") == expected - 25
        assert len(files()) <= 2
        print("fine")
        """,
        tmp_path,
    )


def test_the_last_of_the_apps_metrics_is_written_when_a_worker_ends(tmp_path):
    run(
        """
        import multiprocessing
        jobs = Counter("jobs", "Jobs.")
        hub = hubs.new_hub(Settings(service="shop", version="1"))
        assert hubs.share_with_children()
        # What was counted before the fork is the parent's.
        jobs.inc(100)
        child = multiprocessing.get_context("fork").Process(target=jobs.inc, args=(3,))
        child.start()
        child.join()
        assert value("jobs_total") == 103
        pid = os.fork()
        if not pid:
            jobs.inc(4)
            sys.exit()
        os.waitpid(pid, 0)
        assert value("jobs_total") == 107
        assert value("jobs_total") == 107
        jobs.inc()
        assert value("jobs_total") == 108
        print("fine")
        """,
        tmp_path,
    )


def test_a_child_that_has_no_place_counts_when_there_is_one(tmp_path):
    run(
        """
        import errno
        hub = hubs.new_hub(Settings(service="shop", version="1"))
        orders = hub.counter("orders_total", "Orders.", ("kind",))
        assert hubs.share_with_children()
        real = os.posix_fallocate

        def full(*arguments):
            raise OSError(errno.ENOSPC, "No space left on device")

        os.posix_fallocate = full

        def child():
            orders.cell("a").inc(3)
            assert value("orders_total", kind="a") in (None, 0)
            os.posix_fallocate = real
            hubs._process.sharing.keeper.look()
            assert value("orders_total", kind="a") == 3
            assert value("rolloutobs_internal_errors_total", where="store") >= 1

        wait(fork(child))
        os.posix_fallocate = real
        assert value("orders_total", kind="a") == 3
        print("fine")
        """,
        tmp_path,
    )


def test_a_process_that_was_forked_and_shares_nothing_says_so_once(tmp_path):
    stderr = run(
        """
        hub = hubs.new_hub(Settings(service="shop", version="1"))
        hub.render()

        def child():
            hub.render()
            hub.render()

        wait(fork(child))
        print("fine")
        """,
        tmp_path,
    )
    assert stderr.count("was forked after instrument()") == 1
    assert "ROLLOUTOBS_METRICS_DIR" in stderr


@pytest.fixture
def detected(monkeypatch):
    monkeypatch.setattr(workers, "detect", lambda: Server(os.getppid(), "gunicorn"))


def shown(hub):
    return parse_metrics(hub.render().body.decode())


def test_workers_without_a_folder_are_explained_and_count_for_themselves(
    detected, tmp_path, monkeypatch, caplog
):
    (tmp_path / "file").write_text("")
    settings = Settings(service="shop", version="1", metrics_dir=str(tmp_path / "file" / "sub"))
    with caplog.at_level(logging.WARNING, "rolloutobs"):
        hub = hubs.new_hub(settings)
        hubs.new_hub(settings)
    (message,) = [r.getMessage() for r in caplog.records if "one of several workers" in r.getMessage()]
    assert "gunicorn" in message
    assert "ROLLOUTOBS_METRICS_DIR" in message
    hub.counter("orders_total", "Orders.", ()).cell().inc()
    assert sample_value(shown(hub), "orders_total") == 1
    assert sample_value(shown(hub), "rolloutobs_internal_errors_total", where="store") == 1
    assert hubs.process_store().backing is None


def test_workers_share_below_the_folder_that_is_set(detected, tmp_path):
    settings = Settings(service="shop", version="1", metrics_dir=str(tmp_path))
    hub = hubs.new_hub(settings)
    admin = hubs.new_hub(Settings(service="admin", version="3", metrics_dir=str(tmp_path)))
    for one, count in ((hub, 1), (admin, 2)):
        one.counter("orders_total", "Orders.", ()).cell().inc(count)
    assert sample_value(shown(hub), "orders_total", app="shop") == 1
    assert sample_value(shown(admin), "orders_total", app="admin", version="3") == 2
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith(f"{os.getppid()}-")
    assert len(list(folder.glob("*.cells"))) == 1
    assert sample_value(shown(hub), "rolloutobs_internal_errors_total") == 0


def test_a_folder_that_is_set_is_used_without_workers_as_well(tmp_path):
    hubs.new_hub(Settings(service="shop", version="1", metrics_dir=str(tmp_path)))
    assert hubs.process_store().backing is not None


def test_nothing_is_shared_where_there_are_no_workers():
    hubs.new_hub(Settings(service="shop", version="1"))
    assert hubs.process_store().backing is None


def test_tests_leave_nothing_open(tmp_path):
    before = hubs.forget_all()
    hubs.new_hub(Settings(service="shop", version="1", metrics_dir=str(tmp_path)))
    sharing = hubs._process.sharing
    assert sharing.keeper.is_running
    hubs.recall(before)
    assert not sharing.keeper.is_running
    assert sharing.folder._file is None
