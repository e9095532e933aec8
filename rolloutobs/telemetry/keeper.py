"""A thread in each worker that shares its counts: looks after its file, and writes the app's metrics down."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from rolloutobs.telemetry.shared import SharedFolder, State
from rolloutobs.telemetry.store import Store

__all__ = ["INTERVAL_SECONDS", "Keeper"]

INTERVAL_SECONDS = 5.0
"""A third of the shortest usual scrape interval."""
COST_RATIO = 0.01
"""At most this part of the time goes into it: an app with very many metrics writes them less often."""
STOP_SECONDS = 1.0
"""How long a fork or an exit waits for a round that is under way."""


class Keeper:
    """Looks after a shared folder; goes on in forked children, and ends with its owner.

    Args:
        store: what is counted in this process.
        folder: its backing.
        report: told of what goes wrong; must not raise.
    """

    def __init__(
        self, store: Store, folder: SharedFolder, report: Callable[[BaseException | str], None]
    ) -> None:
        self._store = store
        self._folder = folder
        self._report = report
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._delay_seconds = INTERVAL_SECONDS
        self._is_told = False

    def start(self) -> None:
        """Start the thread here and in every child that is forked. Never raises."""
        _running.add(self)
        self.run()

    def stop(self) -> None:
        """Stop for good."""
        _running.discard(self)
        self.pause()

    def start_in_children(self) -> None:
        """Start it in children only: this process forks workers and serves nothing."""
        _running.add(self)

    def look(self) -> None:
        """Do one round. Never raises."""
        start = time.perf_counter()
        for refresh in self._store.refreshers:
            try:
                refresh()
            except Exception as error:
                self._report(error)
        try:
            state = self._folder.state()
            if state is not State.GOOD:
                self._store.share(self._folder, keep=state is State.LOST)
        except Exception as error:
            self._report(error)
        self.write_app()
        self._delay_seconds = max(INTERVAL_SECONDS, (time.perf_counter() - start) / COST_RATIO)

    def write_app(self) -> None:
        """Write the app's own metrics down. Never raises."""
        try:
            self._folder.publish_app()
        except Exception as error:
            self._report(error)

    def run(self) -> None:
        """Start the thread where it is not running."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stop = threading.Event()
        arguments = (weakref.ref(self), self._stop)
        thread = threading.Thread(target=_keep, args=arguments, name="rolloutobs-shared", daemon=True)
        try:
            thread.start()
        except Exception as error:
            # No more threads, or the interpreter is ending: what is shared stays shared.
            self._report(error)
            return
        self._thread = thread

    def before_fork(self) -> None:
        """Write down what the app has counted so far: the child inherits that, and it is not the child's."""
        self.write_app()
        util: Any = sys.modules.get("multiprocessing.util")
        if util is not None and not self._is_told:
            # A process that multiprocessing has forked leaves without `atexit`, by finalizers that it is told
            # of after the fork.
            self._is_told = True
            util.register_after_fork(self, _write_at_exit)

    def pause(self) -> None:
        """Stop the thread; `run` starts it again."""
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_SECONDS)

    def forget_thread(self) -> None:
        """Know, in a forked child, that the thread is the parent's."""
        self._thread = None

    @property
    def delay_seconds(self) -> float:
        """How long until the next round."""
        return self._delay_seconds

    @property
    def is_running(self) -> bool:
        """Whether the thread of this process is alive."""
        return self._thread is not None and self._thread.is_alive()


def _keep(reference: weakref.ref[Keeper], stop: threading.Event) -> None:
    while True:
        keeper = reference()
        if keeper is None:
            return
        delay = keeper.delay_seconds
        del keeper
        if stop.wait(delay):
            return
        keeper = reference()
        if keeper is None:
            return
        keeper.look()
        del keeper


_running: weakref.WeakSet[Keeper] = weakref.WeakSet()
_paused: list[Keeper] = []


def _write_at_exit(keeper: Keeper) -> None:
    util: Any = sys.modules["multiprocessing.util"]
    util.Finalize(None, _write_last, args=(weakref.ref(keeper),), exitpriority=0)


def _write_last(reference: weakref.ref[Keeper]) -> None:
    keeper = reference()
    if keeper is not None:
        keeper.write_app()


def _at_exit() -> None:
    for keeper in tuple(_running):
        keeper.pause()
        keeper.write_app()


def _before_fork() -> None:
    # Python 3.12 warns about forks of processes with threads: an app that forks shall not notice this one.
    _paused[:] = [keeper for keeper in tuple(_running) if keeper.is_running]
    for keeper in _paused:
        keeper.pause()
    for keeper in tuple(_running):
        keeper.before_fork()


def _after_fork_in_parent() -> None:
    for keeper in _paused:
        keeper.run()
    _paused.clear()


def _after_fork_in_child() -> None:
    _paused.clear()
    for keeper in tuple(_running):
        keeper.forget_thread()
        keeper.run()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
