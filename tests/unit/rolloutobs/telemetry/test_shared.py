import errno
import os
import random
import shutil
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolloutobs.telemetry import folding
from rolloutobs.telemetry.cells import Exemplar, Merge
from rolloutobs.telemetry.folder import FOLDED, FolderReader
from rolloutobs.telemetry.shared import State

from .worker_group import Worker


@pytest.fixture
def start(tmp_path):
    started = []

    def make(**options):
        worker = Worker(tmp_path / "folder", **options)
        started.append(worker)
        return worker

    yield make
    for worker in started:
        worker.kill()


def names(worker):
    return sorted(path.name for path in worker.path.iterdir())


def cell_files(worker):
    return [name for name in names(worker) if name.endswith(".cells")]


def test_any_worker_answers_for_all(start):
    one, two = start(), start()
    one.orders().inc(3)
    two.orders().inc(4)
    two.orders("b").inc()
    one.seconds().observe(0.5)
    two.seconds().observe(3)
    for worker in (one, two):
        shown = worker.shown()
        assert shown["orders_total", "a"] == 7
        assert shown["orders_total", "b"] == 1
        assert shown["work_seconds_bucket", "a", "1.0"] == 1
        assert shown["work_seconds_bucket", "a", "+Inf"] == 2
        assert shown["work_seconds_sum", "a"] == 3.5
    assert one.reports == two.reports == []


def test_books_stay_apart(start):
    one, two = start(), start()
    one.orders(book="app0").inc()
    two.orders(book="app1").inc(5)
    assert one.shown("app0") == {("orders_total", "a"): 1}
    assert one.shown("app1") == {("orders_total", "a"): 5}


def test_gauges_are_merged_as_they_say_and_but_for_the_first_of_those_who_live(start):
    one, two = start(), start()
    for worker, value in ((one, 2.0), (two, 5.0)):
        for merge in Merge:
            worker.gauge(merge).value = value
    sizes = {("size_sum",): 7, ("size_max",): 5, ("size_min",): 2, ("size_first",): 2}
    assert one.shown() == two.shown() == sizes
    one.kill()
    for _ in range(2):
        # Before and after it was folded.
        assert two.shown() == {**dict.fromkeys(sizes, 5), ("size_first",): 2}
    assert len(cell_files(two)) == 1
    three = start()
    two.kill()
    three.gauge(Merge.FIRST)
    # One that has no value yet, and one that nobody had before.
    assert [three.shown()["size_first",] for _ in range(2)] == [2, 2]


def test_exemplars_of_other_workers_are_shown_and_the_newest_counts(start):
    one, two = start(), start()
    old, new = Exemplar(1, 2, 0.5, 10.0), Exemplar(3, 4, 0.6, 11.0)
    low = Exemplar(5, 6, 0.01, 9.0)
    one.seconds().exemplify(new)
    two.seconds().exemplify(old)
    two.seconds().exemplify(low)
    two.kill()
    for _ in range(2):
        # Before and after it was folded.
        (family,) = one.store.families("app0")
        assert family.cell("a").exemplars() == {0: low, 1: new}
    assert len(cell_files(one)) == 1


def test_what_a_worker_that_ended_has_counted_stays(start):
    one, two = start(), start()
    one.orders().inc(3)
    one.seconds().observe(0.5)
    one.kill()
    expected = {
        ("orders_total", "a"): 3,
        ("work_seconds_bucket", "a", "0.1"): 0,
        ("work_seconds_bucket", "a", "1.0"): 1,
        ("work_seconds_bucket", "a", "+Inf"): 1,
        ("work_seconds_count", "a"): 1,
        ("work_seconds_sum", "a"): 0.5,
    }
    assert two.shown() == expected
    assert len(cell_files(two)) == 1
    assert two.shown() == expected
    three = start()
    three.orders().inc()
    assert three.shown()["orders_total", "a"] == two.shown()["orders_total", "a"] == 4


def test_a_file_with_the_inode_of_another_is_not_taken_for_it(start):
    # Inodes come back at once where two files take turns.
    reader, expected = start(), 0
    for i in range(12):
        worker = start()
        for kind in "abcdefgh"[i % 8 :]:
            worker.orders(kind).inc(10**i)
            expected += 10**i
        worker.kill()
        assert sum(reader.shown().values()) == expected
    assert sum(reader.shown().values()) == expected


def test_hundreds_of_restarts_leave_a_constant_number_of_files(start):
    keeper = start()
    counts = set()
    for i in range(200):
        worker = start()
        worker.orders().inc()
        worker.seconds().observe(0.2)
        worker.kill()
        if i % 50 == 49:
            assert keeper.shown()["orders_total", "a"] == i + 1
        counts.add(len(names(keeper)))
    assert max(counts) <= 6
    assert len(cell_files(keeper)) <= 2
    assert (keeper.path / "folded").stat().st_size < 2000
    assert keeper.reports == []


@pytest.mark.parametrize("step", ["before the rename", "after the rename", "after one was removed"])
def test_a_fold_that_is_cut_off_anywhere_counts_nothing_twice_and_loses_nothing(start, monkeypatch, step):
    reader, worker, *dying = (start() for _ in range(5))
    for i, dead in enumerate(dying):
        dead.orders().inc(10**i)
    for dead in dying:
        dead.kill()
    remove = folding._remove
    done = []

    class Stopped(BaseException):
        pass

    def stop(*arguments):
        if step == "after one was removed" and not done:
            done.append(True)
            remove(*arguments)
        else:
            raise Stopped

    monkeypatch.setattr(folding, "replace_file" if step == "before the rename" else "_remove", stop)
    with pytest.raises(Stopped):
        reader.shown()
    monkeypatch.undo()
    for _ in range(3):
        assert reader.shown()["orders_total", "a"] == 111
    assert worker.shown()["orders_total", "a"] == 111
    assert len(cell_files(reader)) == 2


def test_a_reader_between_whose_looks_somebody_folds_sees_all(start, monkeypatch):
    one, two, dead = start(), start(), start()
    dead.orders().inc(5)
    dead.kill()
    read, mine, races = FolderReader._read, one.folder._reader, []

    def race(self, path, *, is_own):
        found = read(self, path, is_own=is_own)
        if self is mine and path.name == FOLDED and not races:
            # The sum of before, and the files of after.
            races.append(two.shown())
        return found

    monkeypatch.setattr(FolderReader, "_read", race)
    assert one.shown()["orders_total", "a"] == 5
    assert len(races) == 1


def test_a_label_set_of_the_dead_is_folded_into_overflow_when_there_are_too_many(start):
    keeper = start(most=3)
    keeper.orders("kind 7").inc(100)
    for i in range(10):
        worker = start(most=3)
        worker.orders(f"kind {i}").inc()
        worker.kill()
    assert sum(keeper.shown().values()) == 110
    shown = keeper.shown()
    assert sum(shown.values()) == 110
    # A worker that lives counts it: its series goes on, and does not drop.
    assert shown["orders_total", "kind 7"] == 101
    assert shown["orders_total", "_overflow"] == 6
    assert len(shown) == 5
    assert keeper.shown() == shown


def test_a_family_that_is_defined_otherwise_is_left_out_and_the_own_one_counts(start):
    one, two = start(), start()
    one.seconds(bounds=(0.1, 1.0)).observe(0.5)
    two.seconds(bounds=(0.2,)).observe(0.5)
    assert one.shown()["work_seconds_bucket", "a", "0.1"] == 0
    assert one.shown()["work_seconds_count", "a"] == 1
    assert two.shown()["work_seconds_bucket", "a", "0.2"] == 0
    assert any("work_seconds" in report for report in one.reports)
    assert len(one.reports) == 1


@pytest.mark.parametrize("damage", ["foreign", "empty", "link", "folder", "huge"])
def test_a_file_that_is_not_ours_is_left_out_left_alone_and_reported_once(start, damage):
    worker = start()
    worker.orders().inc()
    path = worker.path / "1-x.cells"
    if damage == "link":
        path.symlink_to(worker.path / cell_files(worker)[0])
    elif damage == "folder":
        path.mkdir()
    else:
        path.write_bytes({"foreign": b"prometheus" * 50, "empty": b"", "huge": b"\xff" * 64}[damage])
    for _ in range(3):
        assert worker.shown() == {("orders_total", "a"): 1}
    assert len(worker.reports) == 1
    assert "1-x.cells" in worker.reports[0]
    assert os.path.lexists(path)


def test_of_a_file_that_was_cut_short_what_is_left_counts(start):
    one, two = start(), start()
    for i in range(100):
        two.orders(f"kind {i}").inc()
    two.kill()
    (name,) = [name for name in cell_files(one) if name != one.folder._file.path.name]
    data = (one.path / name).read_bytes()[:1000]
    (one.path / name).write_bytes(data)
    shown = one.shown()
    assert 5 < len(shown) < 100
    assert set(shown.values()) == {1}
    assert one.shown() == shown
    assert len(one.reports) == 1
    assert len(cell_files(one)) == 1


def test_a_sum_that_is_damaged_is_reported_and_the_living_are_shown(start):
    one, two = start(), start()
    two.orders().inc(5)
    two.kill()
    one.orders().inc()
    one.shown()
    (one.path / "folded").write_bytes(b"garbage")
    assert one.shown() == {("orders_total", "a"): 1}
    three = start()
    three.orders().inc(7)
    three.kill()
    assert one.shown() == {("orders_total", "a"): 8}
    assert len(one.reports) == 1


def test_a_folder_that_was_deleted_is_made_again_and_nothing_of_the_living_is_lost(start):
    one, two = start(), start()
    one.orders().inc(3)
    two.orders().inc(4)
    held = one.orders()
    assert one.folder.state() is State.GOOD
    shutil.rmtree(one.path)
    held.inc()
    # Nobody has looked after it yet: what was known stays.
    assert one.folder.state() is State.LOST
    for worker in (one, two):
        worker.store.share(worker.folder)
        assert worker.folder.state() is State.GOOD
    assert one.shown()["orders_total", "a"] == two.shown()["orders_total", "a"] == 8
    assert one.orders() is not held


def test_a_read_of_a_deleted_folder_shows_what_was_known(start):
    worker = start()
    worker.orders().inc(3)
    before = worker.shown()
    shutil.rmtree(worker.path)
    assert worker.shown() == before
    assert len(worker.reports) == 1


def test_what_is_counted_while_cells_move_is_taken_along(start):
    worker = start()
    cell, histogram = worker.orders(), worker.seconds()
    cell.inc(3)
    histogram.observe(0.5)

    def request_in_between():
        # It has looked its cells up before they were moved.
        cell.inc(10)
        histogram.observe(0.05)

    worker.store.on_move(request_in_between)
    worker.store.share(worker.folder)
    assert worker.shown()["orders_total", "a"] == 13
    assert worker.shown()["work_seconds_count", "a"] == 2
    assert worker.shown()["work_seconds_sum", "a"] == 0.55
    assert len(cell_files(worker)) == 1


def test_another_user_needs_another_folder(start, monkeypatch):
    worker = start()
    worker.orders().inc(3)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert worker.folder.state() is State.LOST
    old, worker.path = worker.path, worker.path.with_name("other")
    worker.store.share(worker.folder)
    assert worker.folder.state() is State.GOOD
    assert worker.shown()["orders_total", "a"] == 3
    assert worker.folder.folder == worker.path
    assert old != worker.path


def test_who_was_taken_for_dead_counts_from_zero_again(start):
    one, two = start(), start()
    one.orders().inc(3)
    # A daemon that closes all descriptors, just before another worker looks.
    os.close(one.folder._file._descriptor)
    assert two.shown()["orders_total", "a"] == 3
    assert one.folder.state() is State.FOLDED
    one.store.share(one.folder, keep=False)
    one.orders().inc()
    assert one.folder.state() is State.GOOD
    assert one.shown()["orders_total", "a"] == two.shown()["orders_total", "a"] == 4


def test_with_a_full_disk_counts_are_kept_aside_until_there_is_room(start, monkeypatch):
    one, two = start(), start()
    one.orders().inc(3)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    many = [one.orders(f"kind {i}") for i in range(3000)]
    for cell in many:
        cell.inc()
    one.orders().inc()
    one.seconds("late").observe(0.5)
    assert one.reports
    assert "No space left" in one.reports[0]
    for worker in (one, two):
        shown = worker.shown()
        assert shown["orders_total", "a"] == 4
        assert 0 < len(shown) < 3000
    assert one.folder.state() is State.GOOD
    monkeypatch.undo()
    assert one.folder.state() is State.LOST
    one.store.share(one.folder)
    for worker in (one, two):
        shown = worker.shown()
        assert shown["orders_total", "a"] == 4
        # 2000 are the cap of a family.
        assert sum(value for key, value in shown.items() if key[0] == "orders_total") == 3004
        assert shown["work_seconds_count", "late"] == 1
    assert one.folder.state() is State.GOOD


def test_a_disk_that_fills_while_cells_move_changes_nothing(start, monkeypatch):
    one, two = start(), start()
    one.orders().inc(3)
    held = one.orders()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        one.store.share(one.folder)
    held.inc()
    assert two.shown()["orders_total", "a"] == 4
    assert one.orders() is held
    assert not [name for name in names(one) if name.endswith(".new")]


def test_a_sum_that_cannot_be_written_is_reported_and_nothing_changes(start, monkeypatch):
    one, two = start(), start()
    two.orders().inc(3)
    two.kill()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folding, "replace_file", full)
    for _ in range(2):
        assert one.shown() == {("orders_total", "a"): 3}
    assert len(cell_files(one)) == 2
    assert "No space left" in one.reports[0]


def test_the_families_are_the_same_objects_each_time_and_lose_what_is_gone(start):
    one, two = start(), start()
    one.orders().inc()
    two.gauge(Merge.SUM).value = 1
    before = {family.name: family for family in one.store.families("app0")}
    cell = before["orders_total"].cell("a")
    two.orders().inc()
    two.kill()
    after = {family.name: family for family in one.store.families("app0")}
    assert after["orders_total"] is before["orders_total"]
    assert after["orders_total"].cell("a") is cell
    assert cell.value == 2
    assert "size_sum" not in after


def test_unfinished_files_are_removed_when_they_are_old(start):
    worker = start()
    old, new = worker.path / "1-a.new", worker.path / "1-b.new"
    lone = worker.path / "1-c.app"
    for path in (old, new, lone):
        path.write_bytes(b"x")
    for path in (old, lone):
        os.utime(path, (1, 1))
    dead = start()
    dead.kill()
    worker.shown()
    assert not old.exists()
    assert not lone.exists()
    assert new.exists()


def test_counters_never_go_back_while_workers_come_and_go(start):
    """Readers in threads, against writers that start, count and end."""
    keeper, reader = start(), start()
    stop, seen, failed = threading.Event(), [], []

    def read(worker):
        last = 0.0
        while not stop.is_set():
            value = worker.shown().get(("orders_total", "a"), 0.0)
            if value < last:
                failed.append((last, value))
            last = value
            seen.append(value)

    threads = [threading.Thread(target=read, args=(worker,)) for worker in (keeper, reader)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(40):
            worker = start()
            for _ in range(50):
                worker.orders().inc()
            worker.kill()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert keeper.shown()["orders_total", "a"] == 2000
    assert len(seen) > 2


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.just(0), st.just(0)),
        st.tuples(st.just("kill"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("inc"), st.integers(0, 5), st.integers(1, 9)),
        st.tuples(st.just("fork"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("move"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("read"), st.integers(0, 5), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(ACTIONS)
def test_the_sum_of_all_that_was_counted_is_shown_whatever_happens(tmp_path_factory, actions):
    path = tmp_path_factory.mktemp("any") / "folder"
    alive, total = [Worker(path)], 0
    try:
        for action, index, amount in actions:
            worker = alive[index % len(alive)] if alive else None
            if action == "start" or worker is None:
                alive.append(Worker(path))
            elif action == "kill":
                worker.kill()
                alive.remove(worker)
            elif action == "inc":
                worker.orders(random.Random(total).choice("abc")).inc(amount)
                worker.seconds().observe(0.5)
                total += amount
            elif action == "fork":
                # What a child does, after which the parent is gone.
                worker.folder._file.pid = 0
                worker.store.forked()
            elif action == "move":
                worker.store.share(worker.folder)
            else:
                shown = worker.shown()
                assert sum(v for key, v in shown.items() if key[0] == "orders_total") == total
        reader = Worker(path)
        alive.append(reader)
        assert sum(v for key, v in reader.shown().items() if key[0] == "orders_total") == total
        assert len(list(path.glob("*.cells"))) == len(alive)
    finally:
        for worker in alive:
            worker.kill()
