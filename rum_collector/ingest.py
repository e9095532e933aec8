"""From a body to counts: parse, recognise repeats, look at the token, admit, count. Knows nothing of HTTP."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from rolloutobs import semconv
from rolloutobs.errors import BeaconError
from rolloutobs.telemetry.cells import OVERFLOW
from rum_collector.admission import Admission, Bounds, Labels
from rum_collector.counting import Counting, Sender
from rum_collector.errorbook import ErrorBook
from rum_collector.families import BOOK
from rum_collector.instruments import Instruments
from rum_collector.known import KnownVersions
from rum_collector.model import Batch, Beacon
from rum_collector.parts import Parts
from rum_collector.proof import Proof
from rum_collector.seen import key_of, key_of_text
from rum_collector.settings import Settings, known_version
from rum_collector.words import BeaconOutcome

__all__ = ["UNKNOWN_APP", "Ingest", "Sender"]

UNKNOWN_APP = "unknown"
"""App of bodies that name none, where no app is configured."""
REMEMBERED_SECONDS = 86_400
"""How long a beacon is recognised that comes again: browsers retry for minutes, some agents for hours."""

# A member of an enum is looked up in 0.2 us: more than a count takes.
_ACCEPTED: Final = BeaconOutcome.ACCEPTED

_logger = logging.getLogger("rum_collector")


class Ingest:
    """Counts bodies; everything it keeps is bounded by the settings.

    One event loop calls it: nothing here awaits, so a body is counted as a whole or not at all.

    Args:
        settings: of the collector.
        parts: where counts, repeats and tokens are kept.
        clock: monotonic, in seconds.
        wall: Unix time in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        parts: Parts | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._apps = settings.apps
        self._counts_bots = settings.count_bots
        self._clock = clock
        self._wall = wall
        self._parts = parts or Parts.in_memory(settings)
        self._views = self._parts.views
        self.known = KnownVersions(map(known_version, settings.versions))
        self.errors = ErrorBook(self._file_failed)
        store = self._parts.counts.store
        self.instruments = Instruments(store, self.errors)
        self._admission = Admission(_bounds(settings), self.instruments.overflowed)
        self.counting = Counting(
            self.instruments, self._admission, self.known, self.errors, self._parts.source_maps
        )
        self.known.on_change = self.counting.moved
        store.on_move(self.counting.moved)
        self._proof: Proof | None = self._parts.proof(wall)

    def start(self) -> None:
        """Take over what was counted before this process began, where it is kept."""
        parts = self._parts
        if parts.folder is None:
            return
        self.errors.keep_in(parts.folder / "errors.jsonl")
        now = self._clock()
        for family in parts.counts.store.families(BOOK):
            if family.name in (semconv.RUM_VIEWS_WITH_ERRORS_TOTAL, semconv.RUM_PAGE_LOAD_SECONDS):
                found = [values for values, _ in family.items()]
                for values in found:
                    if OVERFLOW not in values:
                        self._admission.labels(Labels(*values), now)
        for error in self.errors.known():
            self._admission.adopt_fingerprint(error.app, error.version, error.fingerprint)
        self.counting.forget()

    def _file_failed(self, error: BaseException) -> None:
        self.instruments.failed("errors")
        _logger.warning("the list of errors could not be kept: %s", error)

    def accept(self, found: Beacon | Batch, sender: Sender) -> BeaconOutcome:
        """Count what a body holds and return what became of it.

        Args:
            found: as one of the parsers returned it.
            sender: who sent it.

        Raises:
            BeaconError: it is about an app that is not taken. It is not counted yet, see `reject`.
        """
        if isinstance(found, Batch):
            # Before the first one is counted: what is refused must not have been counted in part.
            for beacon in found.beacons:
                self._app(beacon.app)
        if sender.retry_key and not self._is_first(f"retry {sender.retry_key}"):
            outcome = BeaconOutcome.DUPLICATE
        elif isinstance(found, Beacon):
            outcome = self._one(found, sender)
        else:
            outcomes = [self._one(beacon, sender) for beacon in found.beacons]
            outcome = max(outcomes, key=_RANK.index, default=BeaconOutcome.IGNORED)
            if found.traces and outcome is BeaconOutcome.IGNORED:
                outcome = BeaconOutcome.ACCEPTED
        self.instruments.beacon(outcome)
        return outcome

    def reject(self, outcome: BeaconOutcome) -> None:
        """Count a body that was not accepted."""
        self.instruments.beacon(outcome)

    def _one(self, beacon: Beacon, sender: Sender) -> BeaconOutcome:
        if not beacon.view and beacon.is_empty:
            return BeaconOutcome.IGNORED
        if beacon.driven and not (beacon.synthetic or self._counts_bots):
            return BeaconOutcome.BOT
        app = self._app(beacon.app) if not beacon.token or self._proof is None else beacon.app
        if beacon.view and not self._is_new(beacon.view, beacon.sequence):
            return BeaconOutcome.DUPLICATE
        signed = False
        if self._proof is not None and not beacon.synthetic:
            proved = self._proof.judge(beacon)
            beacon, signed = proved.beacon, proved.signed
            self.instruments.counter("tokens").cell(proved.outcome).inc()
            app = self._app(beacon.app)
        if beacon.once or beacon.vital_ids or beacon.error_key:
            beacon = self._of_another_agent(beacon)
        self.counting.count(beacon, app, signed, sender, self._clock())
        return _ACCEPTED

    def _is_new(self, view: str, sequence: int) -> bool:
        # One entry for all beacons of a view, but for those of a page that sends more than thirty.
        key = key_of_text(view) if sequence < 32 else key_of(view, sequence >> 5)
        now = int(self._wall())
        return self._views.use(key, 1 << (sequence & 31), now + REMEMBERED_SECONDS, now) != 0

    def _is_first(self, what: str) -> bool:
        return self._is_new(what, 0)

    def _of_another_agent(self, beacon: Beacon) -> Beacon:
        """Leave out what such agents send again: the view, a vital that has grown, further errors."""
        vitals = [
            pair
            for pair, name in zip(beacon.vitals, beacon.vital_ids, strict=True)
            if not name or self._is_first(f"vital {pair[0]} {name}")
        ]
        navigation = beacon.navigation
        if beacon.once and not self._is_first(beacon.once):
            navigation = None
        first = beacon.first_error
        if beacon.errors and beacon.error_key:
            first = self._is_first(f"errors {beacon.error_key}")
        return Beacon(
            app=beacon.app,
            version=beacon.version,
            track=beacon.track,
            route=beacon.route,
            synthetic=beacon.synthetic,
            navigation=navigation,
            vitals=tuple(vitals),
            errors=beacon.errors,
            first_error=first,
            events=beacon.events,
            rejected=beacon.rejected,
        )

    def _app(self, app: str) -> str:
        if not app:
            return self._apps[0] if self._apps else UNKNOWN_APP
        if self._apps and app not in self._apps:
            known = ", ".join(self._apps)
            raise BeaconError(BeaconOutcome.UNKNOWN_APP, f"app is {app!r}; this collector takes {known}")
        return app


_RANK: Any = [
    BeaconOutcome.IGNORED,
    BeaconOutcome.BOT,
    BeaconOutcome.DUPLICATE,
    BeaconOutcome.ACCEPTED,
]
"""Of the outcomes of several beacons in one body, the last one of these counts."""


def _bounds(settings: Settings) -> Bounds:
    return Bounds(
        apps=len(settings.apps) or settings.max_apps,
        versions=settings.max_versions,
        routes=settings.max_routes,
        events=settings.max_events,
        fingerprints=settings.max_fingerprints,
        label_sets=settings.max_label_sets,
        idle_seconds=settings.version_idle_seconds,
    )
