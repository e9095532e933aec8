"""Everything that one app records in this process, and the answer to a scrape.

Each instrumented app has a `Hub` of its own; what belongs to no app (operations, log records, memory) is
shared by all of them. A process without an app has one too, made from the environment when it is first
asked for.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import TracerProvider
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric

from rolloutobs import semconv
from rolloutobs.identity import Track
from rolloutobs.settings import Settings
from rolloutobs.telemetry import app_metrics, workers
from rolloutobs.telemetry.cells import CounterFamily, Definition, Family, GaugeFamily, HistogramFamily, Merge
from rolloutobs.telemetry.conflicts import AppText, Conflicts
from rolloutobs.telemetry.current import Live, process_identity, set_process_identity
from rolloutobs.telemetry.export import Flushable
from rolloutobs.telemetry.failures import Failures, Where
from rolloutobs.telemetry.generations import Generations
from rolloutobs.telemetry.ledger import Ledger
from rolloutobs.telemetry.metrics import Collectable, Exposition, exposition, read_all
from rolloutobs.telemetry.parts import Parts, metric_name
from rolloutobs.telemetry.reading import AppMetrics, Reading, Ready
from rolloutobs.telemetry.store import PROCESS, Store

__all__ = ["Hub", "first_time", "forget_all", "new_hub", "process", "process_store", "share_with_children"]

if TYPE_CHECKING:
    from rolloutobs.telemetry.sharing import Sharing

_logger = logging.getLogger("rolloutobs")
View = Callable[[Any], Family[Any]]
"""Makes what ``/metrics`` shows in place of a family."""
view_makers: list[Callable[[Settings], Mapping[str, View]]] = []
"""Give the views of an app with these settings, by name of the family. A worker that starts may change the
track before its app has counted anything, and has to know what is shown of the counts of the others."""


class Hub:
    """What one app identity records in this process.

    Args:
        settings: complete.
        store: of the process.
        book: name of this app's book in `store`.
        failures: of the process.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        book: str,
        failures: Failures,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.store = store
        self.book = book
        self.failures = failures
        self.live = Live(settings.identity)
        self.generations = Generations(settings.track.value, settings.old_track_seconds)
        self.tracer_provider: TracerProvider | None = None
        """Where the spans of this app go; ``None``: the global provider, whenever one is set."""
        self.tracking: object = None
        """What follows the pod's labels; held here, as it goes when nobody holds it."""
        self.flushed: list[Flushable] = []
        """Providers that we have set, to be flushed when the app ends."""
        self.before_collect: list[Callable[[], None]] = []
        """Called before each scrape, to refresh what is only known then."""
        self.views: dict[str, View] = {name: v for make in view_makers for name, v in make(settings).items()}
        """By name of a family that is finer than what is shown: makes what ``/metrics`` shows in its place.
        The family itself is for OTLP."""
        self._clock = clock
        self._lock = threading.RLock()
        self._parts = Parts(self.generations)
        self._conflicts = Conflicts(settings.on_conflict)
        self._app_text: list[Metric] = []
        self._answers_alone = False
        build = self.gauge(
            semconv.APP_BUILD_INFO, "Always 1; says what runs.", (semconv.LABEL_REVISION,), Merge.MAX
        )
        started = self.gauge(
            semconv.APP_START_TIME_SECONDS,
            "Unix time at which the app was instrumented, in the first of its workers, in seconds.",
            (),
            Merge.FIRST,
        )
        start = clock()

        def describe() -> None:
            build.cell(settings.revision).value = 1.0
            started.cell().value = start

        describe()
        # A worker that was forked starts from zero; these are as they were.
        store.on_move(describe)

    def counter(self, name: str, documentation: str, label_names: Iterable[str]) -> CounterFamily:
        """Return a counter of this app."""
        cap = self.settings.max_label_sets
        return self.store.counter(name, documentation, tuple(label_names), book=self.book, max_sets=cap)

    def gauge(
        self, name: str, documentation: str, label_names: Iterable[str], merge: Merge = Merge.SUM
    ) -> GaugeFamily:
        """Return a gauge of this app."""
        return self.store.gauge(name, documentation, tuple(label_names), book=self.book, merge=merge)

    def histogram(
        self,
        name: str,
        documentation: str,
        label_names: Iterable[str],
        bounds: tuple[float, ...] | None = None,
    ) -> HistogramFamily:
        """Return a histogram of this app; without `bounds`, with those of the settings (seconds)."""
        return self.store.histogram(
            name,
            documentation,
            tuple(label_names),
            self.settings.bounds if bounds is None else bounds,
            book=self.book,
            max_sets=self.settings.max_label_sets,
        )

    def retrack(self, track: Track) -> None:
        """Put the app on `track`: all counts start from zero under it, every signal follows at once."""
        ledger = self.store.ledger(self.book)
        with self._lock, ledger.writing():
            self._take_over(ledger)
            if track is self.live.stamp.identity.track:
                return
            self.generations.switch(track.value, self._collect(), self._clock())
            ledger.write(self.generations)
            self.live.retrack(track)

    def _take_over(self, ledger: Ledger) -> None:
        """Follow another worker that has noticed a new track first."""
        if ledger.take_over(self.generations):
            self.live.retrack(Track(self.generations.track))

    def join(self) -> None:
        """Agree on the track with the workers that were there before, now that counts are shared with them.

        A worker that starts has just looked: what it knows of its track is news to those that run.
        """
        ledger = self.store.ledger(self.book)
        with self._lock, ledger.writing():
            known = self.live.stamp.identity.track
            self._take_over(ledger)
            ledger.write(self.generations)
        if known or self.settings.track_is_fixed:
            self.retrack(known)

    def _collect(self) -> list[Metric]:
        return self._read().metrics()

    def _read(self, app_text: AppText | None = None) -> Reading:
        """Return what there is now, without what has lost a conflict of names."""
        self._explain()
        self._refresh()
        theirs = list(read_all(self._others(), self.failures))
        if app_text is not None:
            try:
                # Kept: a change of the track has to know what these had counted.
                self._app_text = app_text.beyond(theirs)
            except Exception as error:
                self.failures.record(Where.METRICS, error)
        theirs.extend(self._app_text)
        families = self.store.families(self.book, PROCESS)
        hidden = [family for family in families if family.name in self.views]
        shown = [self.views[f.name](f) if f.name in self.views else f for f in families]
        ours, theirs = self._conflicts.settle(shown, theirs)
        return Reading(ours, theirs, hidden)

    def _refresh(self) -> None:
        for refresh in tuple(self.before_collect):
            try:
                refresh()
            except Exception as error:
                self.failures.record(Where.METRICS, error)

    def _others(self) -> tuple[Collectable, ...]:
        """Return where the metrics come from that are not ours."""
        alone = self.store.backing is None and not app_metrics.is_multiprocess()
        return (REGISTRY if alone else AppMetrics(self.store),)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the process, not yet stamped, with what earlier tracks have counted."""
        ledger = self.store.ledger(self.book)
        with self._lock, ledger.reading():
            self._take_over(ledger)
            return iter(list(self.generations.split(self._collect(), self._clock())))

    def sent(self) -> tuple[list[tuple[Definition, Metric]], dict[str, float]]:
        """Return what goes out over OTLP, not yet stamped, and when each earlier track ended (Unix seconds).

        That is each of our families as it is now, and what earlier tracks have counted, labelled by track.
        The app's own metrics are not among them, nor what `views` makes for ``/metrics``.
        """
        ledger = self.store.ledger(self.book)
        with self._lock, ledger.reading():
            self._take_over(ledger)
            self._refresh()
            read = [(f.definition, f.collect()) for f in self.store.families(self.book, PROCESS)]
            definitions = {metric.name: definition for definition, metric in read}
            parts = self.generations.split([metric for _, metric in read], self._clock())
            found = [(definitions[part.name], part) for part in parts if part.name in definitions]
            return found, {track: was.since for track, was in self.generations.earlier.items()}

    def render(self, accept: str = "", app_text: AppText | None = None) -> Exposition:
        """Return every metric of the process, stamped with the identity of this app.

        Args:
            accept: the ``Accept`` header of the scrape.
            app_text: what the app's own ``/metrics`` has answered; what only that has is shown as well.
        """
        ledger = self.store.ledger(self.book)
        with self._lock, ledger.reading():
            self._take_over(ledger)
            reading = self._read(app_text)
            identity = self.live.stamp.identity
            sources: list[Collectable] = [*reading.ours, Ready(reading.theirs)]
            if self.generations.start or self.generations.earlier:
                # There was a change of the track: values are parts of what the cells hold.
                theirs = list(self.generations.split(reading.theirs, self._clock()))
                ours = self._parts.of(reading.ours)
                names = {metric_name(f) for f in (*reading.ours, *reading.hidden)}
                sources = [*ours, Ready([metric for metric in theirs if metric.name not in names])]
            # Under the lock as well: what is written as one track's must not move on to the next meanwhile.
            return exposition(sources, identity, accept, self.failures)

    def forked(self) -> None:
        """Go on in a process that was just forked; the thread that held the lock does not exist there."""
        self._lock = threading.RLock()
        self._answers_alone = True

    def _explain(self) -> None:
        if self._answers_alone and self.store.backing is None:
            self._answers_alone = False
            _logger.warning(
                "this process was forked after instrument(), and answers a scrape only for itself; if it is "
                "one of several workers, set ROLLOUTOBS_METRICS_DIR to a folder that all can write to"
            )


class _Process:
    """What there is one of in a process."""

    def __init__(self) -> None:
        self.store = Store()
        self.failures = Failures(self.store)
        self.hubs: list[Hub] = []
        self.lock = threading.RLock()
        self.sharing: Sharing | None = None
        self.told: set[str] = set()


_process = _Process()


def _forked() -> None:
    _process.lock = threading.RLock()
    for hub in _process.hubs:
        hub.forked()
    _process.store.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def new_hub(settings: Settings) -> Hub:
    """Return a hub for one more app of this process; the first one speaks for the process."""
    with _process.lock:
        hub = Hub(settings, _process.store, f"app{len(_process.hubs)}", _process.failures)
        _process.hubs.append(hub)
        if process_identity() is None:
            set_process_identity(hub.live)
        if len(_process.hubs) == 1:
            server = workers.detect() or (workers.parent() if settings.metrics_dir else None)
            if server is not None:
                _share(hub, server)
        elif _process.store.backing is not None:
            hub.join()
        return hub


def _share(hub: Hub, server: workers.Server) -> bool:
    try:
        from rolloutobs.telemetry.sharing import Sharing
    except ImportError as error:
        # No fcntl: Windows.
        _process.failures.record(Where.STORE, error)
        return False
    sharing = Sharing(server, hub.settings, _process.store, _process.failures)
    if not sharing.start():
        return False
    _process.sharing = sharing
    hub.join()
    return True


def share_with_children() -> bool:
    """Share counts with the processes that this one is going to fork, and answer for all of them.

    For servers that are not detected (`rolloutobs.telemetry.workers`), such as a task queue that forks its
    workers: called before the fork, by the process that answers scrapes. Returns whether counts are shared;
    where that cannot be had, it is counted and explained.
    """
    hub = process()
    with _process.lock:
        if _process.store.backing is not None:
            return True
        return _share(hub, workers.Server(os.getpid(), "fork"))


def process() -> Hub:
    """Return the first hub of this process, made from the environment where no app has made one.

    Raises:
        ConfigurationError: there is none yet, and a variable has a value that cannot be used.
    """
    with _process.lock:
        if _process.hubs:
            return _process.hubs[0]
        # Imported here: it is above this module, and an app has it imported already.
        from rolloutobs.telemetry.starting import start

        return start(Settings.from_env(os.environ))


def process_store() -> Store:
    """Return the store of this process."""
    return _process.store


def first_time(key: str) -> bool:
    """Return whether this process has not asked for `key` before: what is said once is said then."""
    is_first = key not in _process.told
    _process.told.add(key)
    return is_first


def process_failures() -> Failures:
    """Return the guard's counter of this process."""
    return _process.failures


def forget_all() -> Any:
    """Start over as a process that has recorded nothing, for tests; return what `recall` takes."""
    global _process
    before, _process = _process, _Process()
    return before


def recall(before: Any) -> None:
    """Put back what `forget_all` has returned."""
    global _process
    if _process.sharing is not None and _process is not before:
        _process.sharing.stop()
    _process = before
