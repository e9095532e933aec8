"""Where the workers of one server share their counts.

The folder of one server is named by the process that started its workers (its id and its start), by what it
serves and by its version: a server that was started again, and a new version of the app, count from zero.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from rolloutobs.settings import Settings
from rolloutobs.telemetry.shared_files import is_locked
from rolloutobs.telemetry.worker_file import CELLS
from rolloutobs.telemetry.workers import Server

__all__ = ["folder_of", "locate", "started"]

MEMORY_FOLDER = "/dev/shm"  # noqa: S108 - only below a folder of this user's own
STALE_SECONDS = 3600.0
"""A folder that nobody has counted in for so long is removed even where its server may be alive: it is that
of a version that was replaced, or of another container."""


def folder_of(server: Server, settings: Settings) -> Path:
    """Return the folder of the workers of `server`; it need not exist.

    In ``settings.metrics_dir``, or below a folder of this user: in the one that ``TMPDIR`` names, else in
    ``/dev/shm``, where counting never waits for a disk, else in the usual temporary one.
    """
    base = Path(settings.metrics_dir) if settings.metrics_dir else _own_base()
    seed = "\0".join((settings.service, settings.version, _read("/proc/sys/kernel/random/boot_id")))
    what = hashlib.sha256(seed.encode()).hexdigest()[:12]
    return base / f"{server.pid}-{started(server.pid) or 0}-{_namespace()}-{what}"


def _own_base() -> Path:
    shm = Path(MEMORY_FOLDER)
    is_usable = not os.environ.get("TMPDIR") and shm.is_dir() and os.access(shm, os.W_OK | os.X_OK)
    return (shm if is_usable else Path(tempfile.gettempdir())) / f"rolloutobs-{os.geteuid()}"


def started(pid: int) -> int | None:
    """Return when a process was started, in ticks since the machine was; ``None`` where there is none, or
    nothing tells.
    """
    text = _read(f"/proc/{pid}/stat")
    # The name, in parentheses, may hold anything. Source: proc(5), field 22.
    fields = text.rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 else None


def _namespace() -> str:
    """Return what tells apart containers in which the same process ids mean different processes."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return "0"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def locate(folder: Path, *, is_given: bool) -> Path:
    """Make `folder` where it is missing, for this user only, and return it; folders of servers that are gone
    are removed.

    Args:
        folder: as `folder_of` names it.
        is_given: whether the folder above is the user's choice; else it must be this user's own as well.

    Raises:
        OSError: it cannot be made, or belongs to somebody else.
    """
    base = folder.parent
    if is_given:
        base.mkdir(parents=True, exist_ok=True)
    else:
        _make_own(base)
    _make_own(folder)
    _remove_stale(base, folder.name)
    return folder


def _make_own(folder: Path) -> None:
    with suppress(FileExistsError):
        folder.mkdir(0o700)
    found = folder.lstat()
    # Its name is predictable: somebody else may have made it, or a link in its place.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"{folder} is not a folder that only this user can write to")


def _remove_stale(base: Path, own: str) -> None:
    for folder in base.iterdir():
        pid, _, rest = folder.name.partition("-")
        start, _, rest = rest.partition("-")
        if folder.name == own or not (pid.isdecimal() and start.isdecimal() and rest.count("-") == 1):
            continue
        with suppress(OSError):
            is_over = rest.partition("-")[0] == _namespace() and start != str(started(int(pid)) or 0)
            if (is_over or _age_seconds(folder) > STALE_SECONDS) and not _is_in_use(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _age_seconds(folder: Path) -> float:
    return time.time() - max((path.lstat().st_mtime for path in (folder, *folder.iterdir())), default=0.0)


def _is_in_use(folder: Path) -> bool:
    for path in folder.glob(f"*{CELLS}"):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0))
        try:
            if is_locked(descriptor):
                return True
        finally:
            os.close(descriptor)
    return False
