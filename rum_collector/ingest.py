"""From a body to counts: parse, recognise repeats, admit, count. Knows nothing of HTTP."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from rolloutobs import semconv
from rolloutobs.errors import BeaconError
from rum_collector.admission import Admission, Bounds, Kind, Labels
from rum_collector.beacon import parse_beacon, parse_simple
from rum_collector.instruments import Instruments, Panel
from rum_collector.limits import SeenBeacons
from rum_collector.model import Beacon, Event, JsError
from rum_collector.settings import Settings
from rum_collector.words import BeaconOutcome, Device

__all__ = ["UNKNOWN_APP", "Ingest"]

UNKNOWN_APP = "unknown"
"""App of bodies that name none, where no app is configured."""

_logger = logging.getLogger("rum_collector")


class Ingest:
    """Counts bodies; everything it keeps is bounded by the settings.

    One event loop calls it: nothing here awaits, so a body is counted as a whole or not at all.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._apps = settings.apps
        self._clock = clock
        self._admission = Admission(
            Bounds(
                apps=len(settings.apps) or settings.max_apps,
                versions=settings.max_versions,
                routes=settings.max_routes,
                events=settings.max_events,
                fingerprints=settings.max_fingerprints,
                label_sets=settings.max_label_sets,
                idle_seconds=settings.version_idle_seconds,
            )
        )
        self._seen = SeenBeacons(settings.max_views)
        self.instruments = Instruments(self._admission)

    def accept(self, body: bytes, simple: bool, device: Device) -> BeaconOutcome:
        """Count `body` and return what became of it: ``accepted``, or ``duplicate`` for one already counted.

        Args:
            body: what the browser posted.
            simple: whether it is the hand-written shape.
            device: class of the device, from the headers of the request.

        Raises:
            BeaconError: the body cannot be used. It is not counted yet, see `reject`.
        """
        beacon = parse_simple(body) if simple else parse_beacon(body)
        app = self._app(beacon.app)
        outcome = BeaconOutcome.ACCEPTED
        if beacon.view and not self._seen.first_time(beacon.view, beacon.sequence):
            outcome = BeaconOutcome.DUPLICATE
        else:
            self._count(beacon, app, device)
        self.instruments.beacon(outcome)
        return outcome

    def reject(self, outcome: BeaconOutcome) -> None:
        """Count a body that was not accepted."""
        self.instruments.beacon(outcome)

    def _app(self, app: str) -> str:
        if not app:
            return self._apps[0] if self._apps else UNKNOWN_APP
        if self._apps and app not in self._apps:
            known = ", ".join(self._apps)
            raise BeaconError(BeaconOutcome.UNKNOWN_APP, f"app is {app!r}; this collector takes {known}")
        return app

    def _count(self, beacon: Beacon, app: str, device: Device) -> None:
        synthetic = semconv.SYNTHETIC_TRUE if beacon.synthetic else ""
        # The enums are strings, and their `value` costs more than all the rest of this line.
        asked = Labels(app, beacon.version, beacon.track, beacon.route, device, synthetic)
        labels = self._admission.labels(asked, self._clock())
        self._forget()
        panel = self.instruments.panel(labels)
        if beacon.new_view is not None:
            if not panel.declared:
                self._declare(labels, panel)
            panel.view(beacon.new_view)
        panel.vitals(beacon.vitals)
        if beacon.first_error:
            panel.view_with_errors()
        for error in beacon.errors:
            self._count_error(labels, panel, error)
        for event in beacon.events:
            self._count_event(labels, panel, event)
        for reason in beacon.rejected:
            self.instruments.value_rejected(reason)

    def _count_error(self, labels: Labels, panel: Panel, error: JsError) -> None:
        new = not self._admission.knows_fingerprint(labels, error.fingerprint)
        fingerprint = self._admission.fingerprint(labels, error.fingerprint)
        panel.js_error(fingerprint, error.message, error.count)
        if new and fingerprint != semconv.RUM_OTHER:
            _logger.info(
                "new JavaScript error in %s %s: %s at %s (%s)",
                labels.app,
                labels.version,
                error.message,
                error.location or "an unknown place",
                fingerprint,
            )

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
            _logger.info("series of %s %s dropped: it was idle and a new version needed its place", *release)
