"""The file into which one process counts, mapped into its memory: an addition there is seen by all workers.

Opened twice, on purpose: ``mmap`` keeps a duplicate of its descriptor, which a forked child inherits, and a
lock belongs to all duplicates of a descriptor. The lock is on the other one, which the child closes; so the
lock says that this process, and none of its children, is alive.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import secrets
import threading
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from rolloutobs.telemetry import records
from rolloutobs.telemetry.cells import Definition, Exemplar
from rolloutobs.telemetry.shared_files import UNFINISHED, keep_fresh

__all__ = ["CELLS", "SharedHistogramCell", "SharedNumberCell", "WorkerFile", "claim"]

CELLS = ".cells"
"""End of the name of a file that counts."""
MAPPED_BYTES = 64 << 20
"""Address space, not memory: a file takes what is counted in it, 1.3 KB for each histogram. Never mapped
anew, because the cells point into it."""
CHUNK_BYTES = 64 << 10
"""How much is claimed from the file system at a time."""
_DOUBLE = 8


class _Double(ctypes._SimpleCData):  # type: ignore[type-arg]
    """A `ctypes.c_double` that takes no other attributes."""

    __slots__ = ()
    _type_ = "d"
    value: float


class SharedNumberCell(_Double):
    """A `NumberCell` in the file. ``value`` is read and written in C, like a plain attribute: no other thread
    runs between the load and the store of an addition. As a field of a structure it would take twice as long.
    """

    __slots__ = ()

    def inc(self, amount: float = 1.0) -> None:
        """Add `amount`."""
        self.value += amount


class SharedHistogramCell(_Double):
    """A `HistogramCell` in the file; exemplars are kept there too, where every worker finds them."""

    __slots__ = ("_exemplars", "bounds", "counts")

    sum = _Double.value
    bounds: Sequence[float]
    counts: memoryview[float]
    _exemplars: memoryview[int]

    def observe(self, value: float) -> None:
        """Count `value` in the bucket whose upper bound is the first that is not below it (``le``)."""
        self.counts[bisect_left(self.bounds, value)] += 1.0
        self.sum += value

    def exemplify(self, exemplar: Exemplar) -> None:
        """Keep `exemplar` as the one of its bucket."""
        start = bisect_left(self.bounds, exemplar.value) * records.EXEMPLAR_BYTES
        self._exemplars[start : start + records.EXEMPLAR_BYTES] = records.exemplar_bytes(exemplar)

    def exemplars(self) -> dict[int, Exemplar]:
        """Return the newest exemplar by index of its bucket."""
        data = bytes(self._exemplars)
        found = (records.read_exemplar(data, i * records.EXEMPLAR_BYTES) for i in range(len(self.counts)))
        return {i: exemplar for i, exemplar in enumerate(found) if exemplar is not None}


def claim(descriptor: int, start: int, length: int) -> None:
    """Make the file system set bytes of a file aside, so that writing to them through a mapping cannot fail.

    Writing through a mapping to a disk that is full kills the process (SIGBUS); this raises instead.

    Raises:
        OSError: there is no room.
    """
    try:
        os.posix_fallocate(descriptor, start, length)
    except AttributeError:
        _write_zeros(descriptor, start, length)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        _write_zeros(descriptor, start, length)


def _write_zeros(descriptor: int, start: int, length: int) -> None:
    # macOS, and file systems that cannot set bytes aside.
    while length > 0:
        written = os.pwrite(descriptor, bytes(min(length, CHUNK_BYTES)), start)
        start += written
        length -= written


class WorkerFile:
    """A new file of this process in `folder`, locked while the process lives.

    Others see it when it is published, with all that it holds by then.

    Raises:
        OSError: it cannot be made there.
    """

    def __init__(self, folder: Path) -> None:
        self.pid = os.getpid()
        self.path = folder / f"{self.pid}-{secrets.token_hex(6)}{CELLS}"
        self._unfinished = self.path.with_suffix(UNFINISHED)
        self.is_published = False
        self._lock = threading.RLock()
        self._is_writing = False
        self._definitions: dict[tuple[str, Definition], int] = {}
        self._used = records.HEADER_BYTES
        self._claimed = 0
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor = os.open(self._unfinished, flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, MAPPED_BYTES)
            self._claim(CHUNK_BYTES)
            other = os.open(self._unfinished, os.O_RDWR | os.O_CLOEXEC)
            try:
                self._map = mmap.mmap(other, MAPPED_BYTES)
            finally:
                os.close(other)
        except (OSError, ValueError) as error:
            os.close(self._descriptor)
            self._unfinished.unlink(missing_ok=True)
            raise error if isinstance(error, OSError) else OSError(errno.ENOMEM, str(error)) from error
        found = os.fstat(self._descriptor)
        self._is = (found.st_dev, found.st_ino)
        self._map[: records.HEADER_BYTES] = records.header(self.pid, self._used, secrets.randbits(64))

    def number(self, book: str, definition: Definition, values: tuple[str, ...]) -> SharedNumberCell:
        """Return a new cell at zero.

        Raises:
            OSError: there is no room for it.
        """
        return SharedNumberCell.from_buffer(self._map, self._add_cell(book, definition, values))

    def histogram(self, book: str, definition: Definition, values: tuple[str, ...]) -> SharedHistogramCell:
        """Return a new cell at zero.

        Raises:
            OSError: there is no room for it.
        """
        offset = self._add_cell(book, definition, values)
        cell = SharedHistogramCell.from_buffer(self._map, offset)
        counts = offset + _DOUBLE
        exemplars = counts + _DOUBLE * (len(definition.bounds) + 1)
        view = memoryview(self._map)
        cell.bounds = definition.bounds
        cell.counts = view[counts:exemplars].cast("d")
        cell._exemplars = view[exemplars : offset + records.payload_bytes(definition)]
        return cell

    def _add_cell(self, book: str, definition: Definition, values: tuple[str, ...]) -> int:
        with self._lock:
            if self._is_writing:
                # A finalizer or a signal handler, in the middle of a record.
                raise OSError(errno.EBUSY, "a cell is needed while another one is made")
            self._is_writing = True
            try:
                index = self._definitions.get((book, definition))
                if index is None:
                    self._append(records.definition_record(book, definition))
                    index = self._definitions[book, definition] = len(self._definitions)
                size = records.payload_bytes(definition)
                return self._append(records.cell_record(index, values, bytes(size))) - size
            finally:
                self._is_writing = False

    def _append(self, record: bytes) -> int:
        """Write a record and return where it ends."""
        end = self._used + len(record)
        if end > self._claimed:
            self._claim(end - self._claimed)
        self._map[self._used : end] = record
        self._used = end
        records.USED.pack_into(self._map, records.USED_OFFSET, end)
        return end

    def _claim(self, length: int) -> None:
        length = -(-length // CHUNK_BYTES) * CHUNK_BYTES
        if self._claimed + length > MAPPED_BYTES:
            raise OSError(errno.ENOSPC, f"more than {MAPPED_BYTES} bytes of counts")
        claim(self._descriptor, self._claimed, length)
        self._claimed += length

    def content(self) -> bytes:
        """Return what is in the file, also where it cannot be read, or is gone."""
        return bytes(self._map[: self._used])

    def has_room(self) -> bool:
        """Return whether the file system gives another chunk."""
        try:
            with self._lock:
                self._claim(CHUNK_BYTES)
        except OSError:
            return False
        return True

    def publish(self, replaced: WorkerFile | None = None) -> None:
        """Let the others see the file, in place of the one `replaced` that this process had before.

        Raises:
            OSError: the folder is gone.
        """
        if replaced is not None and replaced.path.parent == self.path.parent and replaced._is_there():
            # One rename: nobody sees both, or none. A name that is gone may be in the sum of the dead.
            self.path = replaced.path
        self._unfinished.rename(self.path)
        self.is_published = True

    def touch(self) -> bool:
        """Keep the file from those who clean temporary folders; return whether it is there.

        A lock that was lost, because the app has closed descriptors that are not its own, is taken again.
        """
        try:
            if not self._is_open():
                self._lock_again()
            keep_fresh(self.path)
        except OSError:
            return False
        return self._is_there()

    def _is_there(self) -> bool:
        try:
            found = self.path.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._is

    def _lock_again(self) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _is_open(self) -> bool:
        try:
            found = os.fstat(self._descriptor)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._is

    def close(self) -> None:
        """Give the lock up, or what a forked child has inherited of it; the mapping goes with its last
        cell.
        """
        # The number may be anybody's by now.
        if self._descriptor >= 0 and self._is_open():
            os.close(self._descriptor)
        self._descriptor = -1

    def discard(self) -> None:
        """Close a file that was never published, and remove it."""
        self.close()
        self._unfinished.unlink(missing_ok=True)
