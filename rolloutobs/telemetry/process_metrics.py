"""How saturated the process is: memory, CPU, open files, garbage collection, lag of the event loop.

These say by version what a node's metrics say by container, without a join. Of several workers that share
their counts memory, CPU and files are summed, and ``app_processes`` says of how many. Where the system does
not tell a value (no ``/proc``: memory and files) there is no sample. The lag is measured on asyncio's event
loops (uvloop's too), not on trio's.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import weakref
from pathlib import Path
from time import perf_counter
from typing import Any

from rolloutobs import semconv
from rolloutobs.telemetry.cells import HistogramFamily
from rolloutobs.telemetry.hub import Hub
from rolloutobs.telemetry.store import Store

__all__ = ["ProcessMetrics", "enable", "watch_loop"]

LAG_INTERVAL_SECONDS = 0.25
"""Between two looks at an event loop: 20 us each, so less than 0.01 % of a core. A loop that is blocked for
longer than this is always noticed."""
MAX_MISSED_LOOKS = 240
"""After a minute without any look it does not matter how many were missed."""
GENERATIONS = ("0", "1", "2")
_MEMORY = Path("/proc/self/statm")
_FILES = Path("/proc/self/fd")


class _Pauses:
    """What garbage collection has cost in this process; plain numbers, as a callback of the collector may
    run in the middle of anything."""

    def __init__(self) -> None:
        self.began = 0.0
        self.forks = 0
        """How often the numbers have started over; they belong to one process."""
        self.forked()

    def forked(self) -> None:
        self.forks += 1
        self.seconds = [0.0] * len(GENERATIONS)
        self.collections = [0] * len(GENERATIONS)

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self.began = perf_counter()
        elif self.began:
            generation = info["generation"]
            self.seconds[generation] += perf_counter() - self.began
            self.collections[generation] += 1


_pauses = _Pauses()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pauses.forked)


class ProcessMetrics:
    """Measures this process into the families of `store`.

    Args:
        store: where the values go.
        memory, files: what the kernel tells about this process; other paths are for tests.
    """

    def __init__(self, store: Store, memory: Path = _MEMORY, files: Path = _FILES) -> None:
        self._paths = memory, files
        self._processes = store.gauge(semconv.APP_PROCESSES, "Processes of the app that are measured.")
        self._cpu = store.counter(
            semconv.APP_PROCESS_CPU_SECONDS_TOTAL, "CPU time, of user and system, in seconds."
        )
        self._memory = store.gauge(
            semconv.APP_PROCESS_RESIDENT_MEMORY_BYTES, "Memory that is in RAM, in bytes."
        )
        self._files = store.gauge(semconv.APP_PROCESS_OPEN_FDS, "Open file descriptors, sockets included.")
        generation = (semconv.LABEL_GENERATION,)
        self._pause_seconds = store.counter(
            semconv.APP_GC_PAUSE_SECONDS_TOTAL,
            "Time in which garbage collection held everything up.",
            generation,
        )
        self._collections = store.counter(
            semconv.APP_GC_COLLECTIONS_TOTAL, "Garbage collections, by the oldest generation.", generation
        )
        self._store = store
        self._forks = _pauses.forks
        self._before = tuple(_pauses.seconds), tuple(_pauses.collections)
        # A watch refers to its loop, by what it has asked of it; so it is the loop's to keep.
        self._watches: weakref.WeakKeyDictionary[Any, weakref.ref[_Watch]] = weakref.WeakKeyDictionary()
        if _pauses not in gc.callbacks:
            gc.callbacks.append(_pauses)

    def refresh(self) -> None:
        """Bring the values up to now."""
        if self._forks != _pauses.forks:
            # As does the kernel with the CPU time of each process.
            self._forks = _pauses.forks
            self._before = (0.0,) * len(GENERATIONS), (0,) * len(GENERATIONS)
        self._processes.cell().value = 1.0
        self._cpu.cell().value = time.process_time()
        seconds, collections = self._before
        for index, generation in enumerate(GENERATIONS):
            self._pause_seconds.cell(generation).value = _pauses.seconds[index] - seconds[index]
            self._collections.cell(generation).value = float(_pauses.collections[index] - collections[index])
        memory, files = self._paths
        try:
            # Source: proc_pid_statm(5): the second number is the resident set, in pages.
            pages = int(memory.read_text("ascii").split()[1])
            self._memory.cell().value = float(pages * os.sysconf("SC_PAGE_SIZE"))
            # One of them is the folder itself, open while it is listed.
            self._files.cell().value = float(sum(1 for _ in files.iterdir()) - 1)
        except (OSError, ValueError, IndexError):
            # Not a Linux, or out of file descriptors: then what was known stays.
            pass

    def watch(self, loop: Any) -> None:
        """Measure the lag of `loop`, an event loop of asyncio that is running, until it is closed; once."""
        if loop not in self._watches:
            lags = self._store.histogram(
                semconv.APP_EVENT_LOOP_LAG_SECONDS,
                "By how much the event loop was late, looked at four times a second.",
                (),
                semconv.LAG_BOUNDS,
            )
            self._watches[loop] = weakref.ref(_Watch(loop, lags))

    def stop(self) -> None:
        """Watch no event loop any longer."""
        for reference in list(self._watches.values()):
            watch = reference()
            if watch is not None:
                watch.stop()


class _Watch:
    """Looks at one event loop again and again."""

    def __init__(self, loop: Any, lags: HistogramFamily) -> None:
        self._loop = weakref.ref(loop)
        self._lags = lags
        self._due = loop.time() + LAG_INTERVAL_SECONDS
        self._next = loop.call_at(self._due, self._look)

    def _look(self) -> None:
        loop = self._loop()
        if loop is None or loop.is_closed():
            return
        now = loop.time()
        late = max(0.0, now - self._due)
        cell = self._lags.cell()
        for _ in range(MAX_MISSED_LOOKS):
            cell.observe(late)
            # The looks that were missed would have found it late as well: so shares of observations are
            # shares of time. Source: HdrHistogram, "coordinated omission", recording with expected interval.
            late -= LAG_INTERVAL_SECONDS
            if late <= 0.0:
                break
        self._due = now + LAG_INTERVAL_SECONDS
        self._next = loop.call_at(self._due, self._look)

    def stop(self) -> None:
        self._next.cancel()


_of_store: weakref.WeakKeyDictionary[Store, ProcessMetrics] = weakref.WeakKeyDictionary()


def enable(hub: Hub) -> None:
    """Measure the process of `hub` from now on, once per process; fresh with every scrape of the hub."""
    metrics = _of_store.get(hub.store)
    if metrics is None:
        metrics = _of_store[hub.store] = ProcessMetrics(hub.store)
        hub.store.refreshers.append(metrics.refresh)
        metrics.refresh()
    hub.before_collect.append(metrics.refresh)


def watch_loop(hub: Hub) -> None:
    """Measure the lag of the event loop that is running, if there is one of asyncio and `enable` was called.

    Cheap enough for start-up and for scrapes, not for every request. Never raises.
    """
    metrics = _of_store.get(hub.store)
    asyncio: Any = sys.modules.get("asyncio")
    if metrics is None or asyncio is None:
        return
    try:
        metrics.watch(asyncio.get_running_loop())
    except (RuntimeError, TypeError):
        # None is running; or it is one that nothing can refer to weakly.
        return
