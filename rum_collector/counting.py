"""Counts beacons under their labels: who may have a series of its own is asked once, and then known."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from rolloutobs import semconv
from rolloutobs.identity import Track
from rum_collector.admission import Admission, Admitted, Kind, Labels, Release
from rum_collector.errorbook import ErrorBook, Known
from rum_collector.instruments import Instruments, Panel, SourcePanel
from rum_collector.known import KnownVersions
from rum_collector.model import Beacon, Event, JsError
from rum_collector.sourcemaps import SourceMaps
from rum_collector.words import Device

__all__ = ["Counting", "Sender"]

_logger = logging.getLogger("rum_collector")


class Sender(msgspec.Struct, frozen=True, gc=False):
    """What is known of who sent a body."""

    device: Device = Device.UNKNOWN
    source: str = ""
    """Group of networks; empty: not told apart."""
    retry_key: str = ""
    """Names a body in all its retries; empty: nothing does."""


_Asked = tuple[str, str, Track, str, Device, bool, bool]
"""App, version, track, route, device, synthetic, signed: what is known of a beacon before it is admitted."""


class _Place(NamedTuple):
    """Where beacons that say the same of themselves are counted."""

    labels: Labels
    panel: Panel
    admitted: Admitted


class Counting:
    """Adds beacons to cells.

    Args:
        instruments: whose cells.
        admission: who may have series.
        known: which versions are out; where that changes, `moved` has to be called.
        errors: the messages behind fingerprints.
        source_maps: where an error was thrown.
    """

    def __init__(
        self,
        instruments: Instruments,
        admission: Admission,
        known: KnownVersions,
        errors: ErrorBook,
        source_maps: SourceMaps,
    ) -> None:
        self._instruments = instruments
        self._admission = admission
        self._known = known
        self._errors = errors
        self._source_maps = source_maps
        # What a beacon says of itself, and where it is counted: no larger than what the admission lets in,
        # for each group of networks.
        self._places: dict[_Asked, _Place] = {}
        self.dropped: set[Release] = set()
        """Versions whose series were dropped since somebody last looked: their room can be given back."""
        self.on_error: Callable[[Labels, JsError, str, str], None] | None = None
        """Told of errors as they are counted: labels, error, place in the source, and traceparent."""

    def moved(self) -> None:
        """Look everything up again: cells, or what is known of versions, are no longer what they were."""
        self._places.clear()

    def forget(self) -> None:
        """Drop the series of versions that have lost their place."""
        for release in self._admission.forgotten():
            self._instruments.forget(release)
            self.dropped.add(release)
            self._places.clear()
            _logger.info("series of %s %s dropped: it was idle and a new version needed its place", *release)

    def count(self, beacon: Beacon, app: str, signed: bool, sender: Sender, now: float) -> None:
        """Count a beacon that is new.

        Args:
            beacon: the app is `app`, whatever it says.
            app: one that is taken.
            signed: whether it has proved who served it.
            sender: who sent it.
            now: of a monotonic clock, in seconds.
        """
        if self._admission.has_forgotten:
            self.forget()
        asked = (app, beacon.version, beacon.track, beacon.route, sender.device, beacon.synthetic, signed)
        labels, panel, admitted = self._places.get(asked) or self._find(asked, now)
        self._admission.seen(admitted, now)
        source = panel.sources.get(sender.source)
        if source is None and sender.source:
            source = panel.sources[sender.source] = self._instruments.source(labels, sender.source)
        if beacon.sequence == 0 and beacon.navigation is not None:
            if not panel.declared:
                self._declare(labels, panel)
            panel.view(beacon.navigation, source)
        panel.vitals(beacon.vitals, source)
        if beacon.errors or beacon.resources or beacon.aborted:
            self._count_failures(beacon, labels, panel, source)
        for event in beacon.events:
            self._count_event(labels, panel, event)
        if beacon.has_details:
            self._count_details(beacon, labels, panel)

    def _find(self, asked: _Asked, now: float) -> _Place:
        app, version, track, route, device, synthetic, signed = asked
        is_known = signed or self._known.admits(app, version)
        if not is_known:
            self._instruments.overflowed(Kind.UNKNOWN_VERSION)
            version = semconv.RUM_OTHER
        elif not track:
            track = self._known.track(app, version)
        wanted = Labels(
            app,
            version,
            track,
            route,
            device,
            semconv.SYNTHETIC_TRUE if synthetic else "",
            semconv.SIGNED_TRUE if signed else "",
        )
        labels = self._admission.labels(wanted, now)
        self.forget()
        place = _Place(labels, self._instruments.panel(labels), self._admission.admitted(labels))
        if is_known and labels == wanted:
            # What counts as other is looked up each time, for each time is counted.
            self._places[asked] = place
        return place

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
        fingerprint = error.fingerprint
        cell = panel.errors.get(fingerprint)
        if cell is None:
            fingerprint = self._meet_error(labels, error)
            cell = panel.cell("js_errors", fingerprint)
            if fingerprint == error.fingerprint != semconv.RUM_OTHER:
                panel.errors[fingerprint] = cell
        cell.value += error.count
        if self.on_error is not None:
            place = self._errors.place(labels.app, labels.version, fingerprint)
            self.on_error(labels, error, place, traceparent)

    def _meet_error(self, labels: Labels, error: JsError) -> str:
        """Return the fingerprint that an error counts under, and take it down where it is new."""
        new = not self._admission.knows_fingerprint(labels, error.fingerprint)
        fingerprint = self._admission.fingerprint(labels, error.fingerprint)
        if new and fingerprint != semconv.RUM_OTHER:
            place = self._source_maps.resolve(labels.version, error.location)
            self._errors.add(Known(labels.app, labels.version, fingerprint, error.message, place))
            _logger.info(
                "new JavaScript error in %s %s: %s at %s (%s)",
                labels.app,
                labels.version,
                error.message,
                place or "an unknown place",
                fingerprint,
            )
        return fingerprint

    def _count_event(self, labels: Labels, panel: Panel, event: Event) -> None:
        cell = panel.events.get((event.name, event.ok))
        if cell is None:
            name = self._meet_event(labels, event.name)
            cell = panel.event(name, event.ok)
        cell.value += 1.0

    def _meet_event(self, labels: Labels, event: str) -> str:
        """Return the name that an event counts under; a new one is at zero in all label sets of its app."""
        new = not self._admission.knows(Kind.EVENT, event, labels.app)
        name = self._admission.name(Kind.EVENT, event, labels.app)
        if new and name == event:
            for other in self._admission.label_sets(labels.app):
                self._declare_event(other, self._instruments.panel(other), name)
        return self._admission.detail(labels, Kind.EVENT, name)

    def _count_details(self, beacon: Beacon, labels: Labels, panel: Panel) -> None:
        self._instruments.values_rejected(beacon.rejected)
        if beacon.sampling is not None:
            panel.sampled(beacon.sampling)
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

    def _declare(self, labels: Labels, panel: Panel) -> None:
        panel.declare()
        for name in self._admission.names(Kind.EVENT, labels.app):
            self._declare_event(labels, panel, name)

    def _declare_event(self, labels: Labels, panel: Panel, name: str) -> None:
        """Let the event exist at zero: a page so broken that nobody converts has zero, not no data."""
        detail = self._admission.detail(labels, Kind.EVENT, name)
        for ok in (True, False):
            panel.event(detail, ok)
