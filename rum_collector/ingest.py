"""From a body to counts: parse, recognise repeats, look at the token, admit, count. Knows nothing of HTTP."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from rolloutobs import semconv
from rolloutobs.errors import BeaconError
from rolloutobs.telemetry.cells import OVERFLOW
from rum_collector.admission import Admission, Bounds, Kind, Labels, Release
from rum_collector.errorbook import ErrorBook, Known
from rum_collector.families import BOOK
from rum_collector.instruments import Instruments, Panel, SourcePanel
from rum_collector.known import KnownVersions
from rum_collector.model import Batch, Beacon, Event, JsError
from rum_collector.parts import Parts
from rum_collector.proof import Proof
from rum_collector.seen import key_of
from rum_collector.settings import Settings, known_version
from rum_collector.words import BeaconOutcome, Device

__all__ = ["UNKNOWN_APP", "Ingest", "Sender"]

UNKNOWN_APP = "unknown"
"""App of bodies that name none, where no app is configured."""
REMEMBERED_SECONDS = 86_400
"""How long a beacon is recognised that comes again: browsers retry for minutes, some agents for hours."""

_logger = logging.getLogger("rum_collector")


class Sender(NamedTuple):
    """What is known of who sent a body."""

    device: Device = Device.UNKNOWN
    source: str = ""
    """Group of networks; empty: not told apart."""
    retry_key: str = ""
    """Names a body in all its retries; empty: nothing does."""


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
        self.known = KnownVersions(map(known_version, settings.versions), asks=bool(settings.version_urls))
        self.errors = ErrorBook(self._file_failed)
        self.instruments = Instruments(self._parts.counts.store, self.errors)
        self._admission = Admission(_bounds(settings), self.instruments.overflowed)
        self._proof: Proof | None = self._parts.proof(wall)
        self.dropped: set[Release] = set()
        """Versions whose series were dropped since somebody last looked: their room can be given back."""
        self.on_error: Callable[[Labels, JsError, str, str], None] | None = None
        """Told of errors as they are counted: labels, error, place in the source, and traceparent."""

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
        self._forget()

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
        self._count(beacon, app, signed, sender)
        return BeaconOutcome.ACCEPTED

    def _is_new(self, view: str, sequence: int) -> bool:
        # One entry for all beacons of a view, but for those of a page that sends more than thirty.
        key = key_of(view) if sequence < 32 else key_of(view, sequence >> 5)
        now = self._wall()
        return self._parts.views.use(key, 1 << (sequence & 31), now + REMEMBERED_SECONDS, now) != 0

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

    def _labels(self, beacon: Beacon, app: str, signed: bool, device: Device) -> Labels:
        version, track = beacon.version, beacon.track
        if signed:
            pass
        elif not self.known.admits(app, version):
            self.instruments.overflowed(Kind.UNKNOWN_VERSION)
            version = semconv.RUM_OTHER
        elif not track:
            track = self.known.track(app, version)
        synthetic = semconv.SYNTHETIC_TRUE if beacon.synthetic else ""
        proved = semconv.SIGNED_TRUE if signed else ""
        # The enums are strings, and their `value` costs more than all the rest of this line.
        asked = Labels(app, version, track, beacon.route, device, synthetic, proved)
        return self._admission.labels(asked, self._clock())

    def _count(self, beacon: Beacon, app: str, signed: bool, sender: Sender) -> None:
        labels = self._labels(beacon, app, signed, sender.device)
        self._forget()
        panel = self.instruments.panel(labels)
        source = self.instruments.source(labels, sender.source) if sender.source else None
        navigation = beacon.new_view
        if navigation is not None:
            if not panel.declared:
                self._declare(labels, panel)
            panel.view(navigation)
            if source is not None:
                source.views.inc()
        panel.vitals(beacon.vitals, source)
        if beacon.errors or beacon.resources or beacon.aborted:
            self._count_failures(beacon, labels, panel, source)
        for event in beacon.events:
            self._count_event(labels, panel, event)
        for reason in beacon.rejected:
            self.instruments.value_rejected(reason)
        if beacon.calls is not None or beacon.requests or beacon.frames or beacon.phases or beacon.sampling:
            self._count_details(beacon, labels, panel)

    def _count_failures(
        self, beacon: Beacon, labels: Labels, panel: Panel, source: SourcePanel | None
    ) -> None:
        if beacon.aborted:
            panel.cell("aborted").inc()
        if beacon.first_error:
            panel.cell("views_with_errors").inc()
            if source is not None:
                source.errors.inc()
        if beacon.first_resource_error:
            panel.cell("views_with_resource_errors").inc()
            if source is not None:
                source.resource_errors.inc()
        for resource in beacon.resources:
            panel.cell("resource_errors", resource.kind.value).inc(resource.count)
        for error in beacon.errors:
            self._count_error(labels, panel, error, beacon.traceparent)

    def _count_error(self, labels: Labels, panel: Panel, error: JsError, traceparent: str) -> None:
        new = not self._admission.knows_fingerprint(labels, error.fingerprint)
        fingerprint = self._admission.fingerprint(labels, error.fingerprint)
        panel.cell("js_errors", fingerprint).inc(error.count)
        if new and fingerprint != semconv.RUM_OTHER:
            place = self._parts.source_maps.resolve(labels.version, error.location)
            self.errors.add(Known(labels.app, labels.version, fingerprint, error.message, place))
            _logger.info(
                "new JavaScript error in %s %s: %s at %s (%s)",
                labels.app,
                labels.version,
                error.message,
                place or "an unknown place",
                fingerprint,
            )
        if self.on_error is not None:
            place = self.errors.place(labels.app, labels.version, fingerprint)
            self.on_error(labels, error, place, traceparent)

    def _count_event(self, labels: Labels, panel: Panel, event: Event) -> None:
        name = event.name
        if not panel.has_event(name, event.ok):
            new = not self._admission.knows(Kind.EVENT, name, labels.app)
            name = self._admission.name(Kind.EVENT, name, labels.app)
            if new and name == event.name:
                for other in self._admission.label_sets(labels.app):
                    self._declare_event(other, self.instruments.panel(other), name)
            name = self._admission.detail(labels, Kind.EVENT, name)
        panel.event(name, event.ok)

    def _count_details(self, beacon: Beacon, labels: Labels, panel: Panel) -> None:
        if beacon.calls is not None:
            panel.cell("calls", "same").inc(beacon.calls.same)
            panel.cell("calls", "other").inc(beacon.calls.other)
        for request in beacon.requests:
            target = self._admission.name(Kind.TARGET, request.target, labels.app)
            target = self._admission.detail(labels, Kind.TARGET, target)
            panel.cell("requests", target, "ok").inc(request.total - request.failed)
            panel.cell("requests", target, "error").inc(request.failed)
            panel.cell("request_seconds", target).inc(request.seconds)
        if beacon.frames is not None:
            panel.cell("long_frames").inc(beacon.frames.long_seconds)
            panel.cell("observed").inc(beacon.frames.observed_seconds)
        for phase, seconds in beacon.phases:
            panel.cell("phase_seconds", phase.value).inc(seconds)
            panel.cell("phases", phase.value).inc()
        if beacon.sampling is not None:
            self.instruments.sampled(labels, beacon.sampling)

    def _declare(self, labels: Labels, panel: Panel) -> None:
        panel.declare()
        for name in self._admission.names(Kind.EVENT, labels.app):
            self._declare_event(labels, panel, name)

    def _declare_event(self, labels: Labels, panel: Panel, name: str) -> None:
        """Let the event exist at zero: a page so broken that nobody converts has zero, not no data."""
        detail = self._admission.detail(labels, Kind.EVENT, name)
        for ok in (True, False):
            panel.event(detail, ok, 0)

    def _forget(self) -> None:
        for release in self._admission.forgotten():
            self.instruments.forget(release)
            self.dropped.add(release)
            _logger.info("series of %s %s dropped: it was idle and a new version needed its place", *release)


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
