import errno
import fcntl
import os

import pytest

from rolloutobs.telemetry import worker_file
from rolloutobs.telemetry.cells import Definition, Exemplar, HistogramCell, Kind, NumberCell
from rolloutobs.telemetry.records import Layout
from rolloutobs.telemetry.worker_file import WorkerFile

COUNTER = Definition(Kind.COUNTER, "orders_total", "Orders.", ("kind",))
SECONDS = Definition(Kind.HISTOGRAM, "work_seconds", "Work.", ("kind",), (0.1, 1.0))


@pytest.fixture
def file(tmp_path):
    made = WorkerFile(tmp_path)
    yield made
    made.close()


def is_locked(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_number_cell_is_the_same_in_memory_and_in_a_file(file, is_shared):
    cell = file.number("", COUNTER, ("a",)) if is_shared else NumberCell()
    assert cell.value == 0.0
    cell.value += 1.5
    cell.inc()
    cell.inc(2)
    assert cell.value == 4.5
    with pytest.raises(AttributeError):
        cell.other = 1


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_histogram_cell_is_the_same_in_memory_and_in_a_file(file, is_shared):
    cell = file.histogram("", SECONDS, ("a",)) if is_shared else HistogramCell(SECONDS.bounds)
    for value in (0.05, 0.1, 0.5, 7.0):
        cell.observe(value)
    cell.counts[1] += 1.0
    assert (list(cell.counts), cell.sum, cell.bounds) == ([2, 2, 1], 7.65, (0.1, 1.0))
    first, second = Exemplar(1, 2, 0.3, 10.0), Exemplar(3, 4, 0.4, 11.0)
    high = Exemplar(2**128 - 1, 2**64 - 1, 5.0, 12.0)
    for exemplar in (first, second, high):
        cell.exemplify(exemplar)
    assert cell.exemplars() == {1: second, 2: high}


def test_a_file_is_seen_when_it_is_published_and_locked_while_it_is_open(tmp_path):
    file = WorkerFile(tmp_path)
    file.number("app0", COUNTER, ("a",)).value = 3.0
    assert list(tmp_path.glob("*.cells")) == []
    file.publish()
    assert file.path.exists()
    assert list(tmp_path.glob("*.new")) == []
    assert is_locked(file.path)
    layout, data = Layout(), file.path.read_bytes()
    layout.extend(data)
    assert [(e.key, e.values) for e in layout.entries] == [(("app0", "orders_total"), ("a",))]
    file.close()
    assert not is_locked(file.path)


def test_a_file_takes_the_place_of_the_one_before(tmp_path):
    old, new = WorkerFile(tmp_path), WorkerFile(tmp_path)
    old.publish()
    new.number("", COUNTER, ("a",)).value = 1.0
    new.publish(old)
    old.close()
    assert [path.name for path in tmp_path.iterdir()] == [old.path.name]
    assert is_locked(new.path)
    assert new.touch()
    assert not old.touch()
    new.close()


def test_a_file_grows_as_it_is_needed_and_takes_little(tmp_path, file):
    before = (tmp_path / file._unfinished.name).stat().st_blocks * 512
    cells = [file.histogram("app0", SECONDS, (f"kind {i}",)) for i in range(2000)]
    for i, cell in enumerate(cells):
        cell.observe(i)
    file.publish()
    assert before <= 2 * worker_file.CHUNK_BYTES
    assert file.path.stat().st_blocks * 512 < 2000 * 400
    layout = Layout()
    layout.extend(file.path.read_bytes())
    assert len(layout.entries) == 2000
    assert [cell.sum for cell in cells] == list(map(float, range(2000)))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_an_error_when_a_cell_is_made(tmp_path, file, monkeypatch, number):
    cells = [file.number("", COUNTER, ("first",))]

    def full(*arguments):
        raise OSError(number, "no room")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="no room"):
        cells.extend(file.number("", COUNTER, (f"{i}",)) for i in range(5000))
    assert not file.has_room()
    for cell in cells:
        cell.inc()
    with pytest.raises(OSError, match="no room"):
        WorkerFile(tmp_path)
    monkeypatch.undo()
    assert file.has_room()
    file.number("", COUNTER, ("after",)).inc()
    file.publish()
    layout = Layout()
    layout.extend(file.path.read_bytes())
    assert layout.entries[-1].values == ("after",)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_real_limit_on_the_size_of_files_is_an_error_too(tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(OSError, match="large"):
            WorkerFile(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, None])
def test_where_nothing_can_be_set_aside_zeros_are_written(tmp_path, monkeypatch, number):
    if number is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:

        def refuse(*arguments):
            raise OSError(number, "not here")

        monkeypatch.setattr(os, "posix_fallocate", refuse)
    file = WorkerFile(tmp_path)
    file.number("", COUNTER, ("a",)).inc()
    assert file._unfinished.stat().st_blocks * 512 >= worker_file.CHUNK_BYTES
    file.discard()
    assert list(tmp_path.iterdir()) == []


def test_more_than_is_mapped_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_file, "MAPPED_BYTES", 2 * worker_file.CHUNK_BYTES)
    file = WorkerFile(tmp_path)
    made = []
    with pytest.raises(OSError, match="bytes of counts"):
        made.extend(file.number("", COUNTER, (f"{i}",)) for i in range(10_000))
    assert len(made) > 1000
    assert not file.has_room()
    file.discard()


def test_a_folder_that_is_none_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        WorkerFile(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        WorkerFile(tmp_path / "file")


def test_a_file_that_is_gone_is_noticed(tmp_path):
    file = WorkerFile(tmp_path)
    cell = file.number("", COUNTER, ("a",))
    file.publish()
    assert file.touch()
    file.path.unlink()
    assert not file.touch()
    cell.inc()
    file.path.write_text("somebody else's")
    assert not file.touch()
    file.close()


def test_an_old_file_is_kept_fresh(tmp_path):
    file = WorkerFile(tmp_path)
    file.publish()
    os.utime(file.path, (1, 1))
    assert file.touch()
    assert file.path.stat().st_mtime > 1e9
    file.close()


def test_a_lock_that_was_lost_is_taken_again(tmp_path):
    file = WorkerFile(tmp_path)
    file.publish()
    # What a daemon does that closes all it has.
    os.close(file._descriptor)
    assert not is_locked(file.path)
    assert file.touch()
    assert is_locked(file.path)
    file.close()


def test_a_number_that_belongs_to_somebody_else_is_not_closed(tmp_path):
    file = WorkerFile(tmp_path)
    file.publish()
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    os.dup2(other, file._descriptor)
    taken = file._descriptor
    file.close()
    assert os.fstat(taken).st_ino == os.fstat(other).st_ino
    os.close(taken)
    os.close(other)
