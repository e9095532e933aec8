"""Whether this process is one of several workers of one server, as far as that can be told from inside."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Server", "detect", "parent"]

_NOT_SERVERS = frozenset(
    [
        *("sh", "ash", "bash", "dash", "fish", "ksh", "zsh", "busybox", "screen", "tmux"),
        *("env", "login", "make", "sshd", "su", "sudo", "timeout"),
        *("init", "launchd", "systemd", "catatonit", "docker-init", "dumb-init", "tini"),
        *("conmon", "containerd-shim", "docker-entrypoi", "pid1", "runsv", "s6-supervise"),
    ]
)
"""Who starts many things that have nothing to do with each other; as the kernel cuts them (15 characters)."""


@dataclass(frozen=True, slots=True)
class Server:
    """The process that starts the workers."""

    pid: int
    kind: str
    """``gunicorn``, ``uwsgi``, ``multiprocessing`` (uvicorn, Hypercorn, Granian), ``parent`` or ``fork``."""
    is_this: bool = False
    """Whether it is this process, which is going to fork workers and serves nothing itself."""


def detect() -> Server | None:
    """Return the server that this process is a worker of, as far as that can be told; ``None``: of none."""
    return _uwsgi() or _gunicorn() or _multiprocessing()


def _uwsgi() -> Server | None:
    # Made by the server itself; there is no such module elsewhere.
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None or not hasattr(uwsgi, "masterpid") or getattr(uwsgi, "numproc", 1) < 2:
        return None
    master = int(uwsgi.masterpid()) or os.getppid()
    return Server(master, "uwsgi", is_this=master == os.getpid())


def _gunicorn() -> Server | None:
    if "gunicorn.arbiter" not in sys.modules:
        return None
    for thread in (threading.get_ident(), threading.main_thread().ident):
        frame: Any = sys._current_frames().get(thread or 0)
        while frame is not None:
            if frame.f_globals.get("__name__") == "gunicorn.arbiter":
                if frame.f_code.co_name == "spawn_worker":
                    return Server(
                        getattr(frame.f_locals.get("self"), "pid", None) or os.getppid(), "gunicorn"
                    )
                if frame.f_code.co_name == "setup":
                    # --preload: the app is imported here, and the workers are forked later.
                    return Server(os.getpid(), "gunicorn", is_this=True)
            frame = frame.f_back
    # Imported by something else, as by a test, or a worker whose main thread is out of sight (gevent).
    return Server(os.getppid(), "gunicorn") if _is_gunicorn(os.getppid()) else None


def _is_gunicorn(pid: int) -> bool:
    try:
        return b"gunicorn" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _multiprocessing() -> Server | None:
    module: Any = sys.modules.get("multiprocessing.process")
    parent = None if module is None else module.parent_process()
    return None if parent is None else Server(parent.pid, "multiprocessing")


def parent() -> Server:
    """Return who is taken for the server where nothing is detected, but a folder is set.

    The parent, unless that is a shell, an init or the like: then this process stands alone, or forks workers
    itself.
    """
    pid = os.getppid()
    if pid == 0 or _name(pid) in _NOT_SERVERS:
        return Server(os.getpid(), "parent")
    return Server(pid, "parent")


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        # No /proc: nobody but process 1 is known by its number.
        return "init" if pid == 1 else ""
