"""Follows the track of a pod while it runs: a promoted canary is stable without a restart.

The kubelet writes a changed label into the file of a Downward API volume within a second or two. A daemon
thread reads that file every two seconds, by its path, for the volume swaps a symlink. It reads instead of
comparing times and inodes: that costs 6 us instead of 5, and ``canary`` and ``stable`` have the same
length, so that a file rewritten within one tick of its clock would look unchanged.

A label that names a track is believed at once. Everything else (no file, an unreadable or half-written one,
no such label, an unknown word) must be seen twice, half an interval apart: a file that is being replaced by
something else than a kubelet looks like that for a moment, and each change of the track starts a new
generation of metrics. What is still so at the second look means that the track is no longer known, and a
track that is not known is not reported.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rolloutobs.identity import Track
from rolloutobs.settings import Settings
from rolloutobs.telemetry.failures import Failures, Where

if TYPE_CHECKING:
    from rolloutobs.detection import Labels, ResolvedTrack, TrackResolver

__all__ = ["TrackFile", "follow"]

_logger = logging.getLogger("rolloutobs")
STOP_SECONDS = 1.0
"""How long a fork waits for a look that is under way; a look takes microseconds."""
MAX_WARNED = 100


def follow(
    settings: Settings, environ: Mapping[str, str], on_track: Callable[[Track], object], failures: Failures
) -> TrackFile | None:
    """Start to follow the track of this pod; return what does, or ``None`` where nothing can change.

    Nothing can where the app itself named its track, detection is off, or there is no folder for the label
    file: a volume is mounted before the container starts. Then there is no thread.

    Args:
        settings: those of the app, completed by `rolloutobs.detection.complete`.
        environ: environment variables; what they say about the track holds where no label says anything.
        on_track: called with the new track after each change, from the thread or from `check_now()`; the
        first
            time perhaps before this returns. If it raises, that is counted, and it is called again at the
            next look.
        failures: counts what goes wrong, as ``where="track"``: a file that cannot be read at every look, a
        value
            that is no track once each time it comes up (and it is warned about once).
    """
    path = settings.labels_file
    if path is None or settings.track_is_fixed or not settings.detection or not _has_folder(path):
        return None
    from rolloutobs.detection import TrackResolver

    file = TrackFile(settings, TrackResolver.of(settings, environ), on_track, failures)
    file.check_now()
    file.start()
    return file


class TrackFile:
    """The label file of a pod, looked at again and again. Whoever wants it to go on keeps a reference to it.

    Args:
        settings: path, interval, and the track that is known now.
        resolver: what labels mean.
        on_track: called with each new track.
        failures: counts what goes wrong.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        settings: Settings,
        resolver: TrackResolver,
        on_track: Callable[[Track], object],
        failures: Failures,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Not at the top: most processes follow nothing.
        from rolloutobs.detection import read_labels

        self._read = read_labels
        self._path = settings.labels_file
        self._interval_seconds = settings.labels_interval_seconds
        self._resolver = resolver
        self._on_track = on_track
        self._failures = failures
        self._clock = clock
        self._track = settings.track
        self._lost_since: float | None = None
        self._unknown = ""
        self._warned: set[str] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def track(self) -> Track:
        """The track as of the last look."""
        return self._track

    def check_now(self) -> Track:
        """Look at the file now, call `on_track` if the track has changed, and return it. Never raises.

        Returns at once where another look is under way, so that `on_track` may lead back here. Must not be
        called by who holds a lock that `on_track` takes.
        """
        if not self._lock.acquire(blocking=False):
            return self._track
        try:
            self._look()
        except Exception as error:
            self._failures.record(Where.TRACK, error)
        finally:
            self._lock.release()
        return self._track

    def _look(self) -> None:
        labels = self._read(self._path)
        found = self._resolver.resolve(labels)
        self._report(labels, found)
        if found.track is self._track or found.is_from_labels:
            self._lost_since = None
        elif not self._is_lost():
            return
        if found.track is not self._track:
            self._on_track(found.track)
            # Only now: where that raised, it is tried again.
            self._track = found.track
            self._lost_since = None

    def _is_lost(self) -> bool:
        """Return whether this is not the first look that finds no label with a track."""
        now = self._clock()
        if self._lost_since is None:
            self._lost_since = now
        return now - self._lost_since >= self._interval_seconds / 2

    def _report(self, labels: Labels, found: ResolvedTrack) -> None:
        if labels.problem:
            self._failures.record(Where.TRACK, labels.problem)
            return
        if found.unknown and found.unknown != self._unknown:
            self._failures.family.cell(Where.TRACK.value).inc()
            if found.unknown not in self._warned and len(self._warned) < MAX_WARNED:
                self._warned.add(found.unknown)
                _logger.warning("%s, which is no track, and is taken as none", found.unknown)
        self._unknown = found.unknown

    def start(self) -> None:
        """Start the thread, and start it again in every child that is forked. Never raises."""
        _running.add(self)
        self._run()

    def stop(self) -> None:
        """Stop the thread; the track stays as it is."""
        _running.discard(self)
        self._pause()

    @property
    def is_running(self) -> bool:
        """Whether the thread of this process is alive."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        if self.is_running:
            return
        self._stop = threading.Event()
        arguments = (weakref.ref(self), self._stop)
        thread = threading.Thread(target=_watch, args=arguments, name="rolloutobs-track", daemon=True)
        try:
            thread.start()
        except Exception as error:
            # No more threads, or the interpreter is ending: then `check_now()` is all there is.
            self._failures.record(Where.TRACK, error)
            return
        self._thread = thread

    def _pause(self) -> None:
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_SECONDS)

    def _delay_seconds(self) -> float:
        return self._interval_seconds / (1 if self._lost_since is None else 2)


def _watch(reference: weakref.ref[TrackFile], stop: threading.Event) -> None:
    """Look until stopped, or until nobody has the file any more: an app that is gone is not kept by this."""
    while True:
        file = reference()
        if file is None:
            return
        delay = file._delay_seconds()
        del file
        if stop.wait(delay):
            return
        file = reference()
        if file is None:
            return
        file.check_now()
        del file


def _has_folder(path: str) -> bool:
    try:
        return Path(path).parent.is_dir()
    except (OSError, ValueError):
        return False


_running: weakref.WeakSet[TrackFile] = weakref.WeakSet()


def _before_fork() -> None:
    # A fork in the middle of a look would leave the child with a lock that nobody releases, and Python 3.12
    # warns about forks of processes with threads: an app that forks shall not notice this one.
    for file in tuple(_running):
        file._pause()


def _after_fork_in_parent() -> None:
    for file in tuple(_running):
        file._run()


def _after_fork_in_child() -> None:
    for file in tuple(_running):
        file._lock = threading.Lock()
        file._thread = None
        file._run()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
