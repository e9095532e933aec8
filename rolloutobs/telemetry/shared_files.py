"""What is done with files that several processes use: locks, and contents that change all at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["UNFINISHED", "FileState", "is_locked", "keep_fresh", "locked", "replace_file", "state_of"]

UNFINISHED = ".new"
"""End of the name of a file that is being made; nobody reads it."""
FRESH_SECONDS = 3600.0
"""Those who clean temporary folders wait for days, not hours. Source: systemd, ``tmp.conf``: 10 days."""
FileState = tuple[int, int, int]
"""Inode, time of the last change and size: an inode alone comes back."""


@contextlib.contextmanager
def locked(path: Path, how: int, seconds: float) -> Iterator[bool]:
    """Hold a lock on a file of its own, made where there is none; gives whether it was to be had.

    It was not after `seconds`, or where the folder is gone.

    Args:
        path: of the file.
        how: ``fcntl.LOCK_SH`` or ``LOCK_EX``.
        seconds: how long to wait.
    """
    deadline = time.monotonic() + seconds
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        yield False
        return
    try:
        while not (got := _try(descriptor, how)) and time.monotonic() < deadline:
            time.sleep(0.005)
        yield got
    finally:
        os.close(descriptor)


def _try(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in the place of a file, all at once.

    Raises:
        OSError: it cannot be written; the old file stays.
    """
    fresh = path.with_name(f"{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(data)
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def state_of(path: Path) -> FileState | None:
    """Return what tells whether a file was replaced; ``None`` where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def keep_fresh(path: Path) -> None:
    """Tell those who clean temporary folders that a file is in use, though it is written by mapping only.

    Raises:
        OSError: it is not there.
    """
    if time.time() - path.stat().st_mtime > FRESH_SECONDS:
        os.utime(path)


def is_locked(descriptor: int) -> bool:
    """Return whether another process holds the lock of a file."""
    try:
        # Shared, so that two who ask at once do not take each other for the owner.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
