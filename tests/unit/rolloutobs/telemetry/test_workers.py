import multiprocessing
import os
import subprocess
import sys
import textwrap
import types

import pytest

from rolloutobs.telemetry import workers
from rolloutobs.telemetry.workers import Server, detect


@pytest.fixture(autouse=True)
def _nothing_else(monkeypatch):
    for name in ("uwsgi", "gunicorn.arbiter"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def arbiter(pid, function):
    """Return a call of `function` as gunicorn's module makes it, by the words that are looked for."""
    module = types.ModuleType("gunicorn.arbiter")
    source = f"""
    class Arbiter:
        pid = {pid!r}
        def {function}(self, call):
            return call()
    """
    exec(textwrap.dedent(source), module.__dict__)
    return module, getattr(module.Arbiter(), function)


def test_a_process_of_its_own_is_no_worker():
    assert detect() is None


def test_a_worker_of_gunicorn_is_known_by_who_called_it(monkeypatch):
    module, spawn = arbiter(4711, "spawn_worker")
    monkeypatch.setitem(sys.modules, "gunicorn.arbiter", module)
    assert spawn(detect) == Server(4711, "gunicorn")


def test_with_preload_the_master_is_known(monkeypatch):
    module, setup = arbiter(None, "setup")
    monkeypatch.setitem(sys.modules, "gunicorn.arbiter", module)
    assert setup(detect) == Server(os.getpid(), "gunicorn", is_this=True)


def test_a_worker_of_gunicorn_is_known_in_a_thread_of_it_too(monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    module, spawn = arbiter(4711, "spawn_worker")
    monkeypatch.setitem(sys.modules, "gunicorn.arbiter", module)

    def in_a_thread():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(detect).result()

    assert spawn(in_a_thread) == Server(4711, "gunicorn")


def test_gunicorn_that_was_only_imported_means_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gunicorn.arbiter", types.ModuleType("gunicorn.arbiter"))
    assert detect() is None
    monkeypatch.setattr(workers, "_is_gunicorn", lambda pid: pid == os.getppid())
    assert detect() == Server(os.getppid(), "gunicorn")


@pytest.mark.parametrize(
    ("master", "count", "expected"),
    [
        (4711, 4, Server(4711, "uwsgi")),
        (0, 4, Server(os.getppid(), "uwsgi")),
        (os.getpid(), 4, Server(os.getpid(), "uwsgi", is_this=True)),
        (4711, 1, None),
    ],
    ids=["a master", "none told", "this process", "one process"],
)
def test_a_worker_of_uwsgi_is_known_by_its_module(monkeypatch, master, count, expected):
    module = types.ModuleType("uwsgi")
    module.masterpid, module.numproc = lambda: master, count
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    assert detect() == expected


def _detect_there(queue):
    queue.put(detect())


def test_a_child_of_multiprocessing_is_a_worker_of_its_parent():
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    child = context.Process(target=_detect_there, args=(queue,))
    child.start()
    assert queue.get() == Server(os.getpid(), "multiprocessing")
    child.join()


def who_is_the_parent(*command):
    script = (
        "from rolloutobs.telemetry.workers import parent; import os; "
        "print(parent(), os.getpid(), os.getppid())"
    )
    done = subprocess.run(
        [*command, f'{sys.executable} -c "{script}"; true'], capture_output=True, text=True, check=True
    )
    server, pid, ppid = done.stdout.rsplit(" ", 2)
    return server, int(pid), int(ppid)


def test_a_shell_is_no_server():
    server, pid, _ = who_is_the_parent("sh", "-c")
    assert server == f"Server(pid={pid}, kind='parent', is_this=False)"


def test_any_other_parent_is_one():
    script = (
        "import os, subprocess, sys; subprocess.run([sys.executable, '-c', "
        "'from rolloutobs.telemetry.workers import parent; print(parent().pid)'], check=True); "
        "print(os.getpid())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seen, pid = done.stdout.split()
    assert seen == pid


def test_without_proc_only_process_one_is_known(monkeypatch):
    monkeypatch.setattr(workers.Path, "read_text", lambda *a, **k: (_ for _ in ()).throw(OSError()))
    assert workers._name(1) == "init"
    assert workers._name(4711) == ""
