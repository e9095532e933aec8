"""What one reads of a folder in which others count meanwhile; `test_shared` has the rest."""

import os

from rolloutobs.telemetry.cells import Definition, Kind
from rolloutobs.telemetry.folder import FolderReader
from rolloutobs.telemetry.worker_file import WorkerFile

COUNTER = Definition(Kind.COUNTER, "orders_total", "Orders.", ("kind",))


def test_a_file_that_grows_while_it_is_read_is_not_taken_for_damaged(tmp_path, monkeypatch):
    file, reports, read = WorkerFile(tmp_path), [], os.pread
    file.number("", COUNTER, ("a",))
    file.publish()

    def read_and_grow(descriptor, length, offset):
        data = read(descriptor, length, offset)
        file.number("", COUNTER, ("b",))
        monkeypatch.undo()
        return data

    reader = FolderReader(reports.append)
    monkeypatch.setattr(os, "pread", read_and_grow)
    (before,) = reader.look(tmp_path, "").workers
    (after,) = reader.look(tmp_path, "").workers
    file.close()

    assert reports == []
    # The reader keeps one list of what is where, and adds to it.
    assert before.layout is after.layout
    assert [entry.values for entry in after.layout.entries] == [("a",), ("b",)]
    assert len(before.data) < len(after.data)
