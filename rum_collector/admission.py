"""Who may have series of their own: the one bound on memory and on what Prometheus must store.

Browsers say which app, version, route, event and error a body is about, and browsers can say anything. Up
to a bound each value is kept apart; what comes later is counted under ``other``, and that is counted too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from rolloutobs import semconv

__all__ = ["LABEL_NAMES", "Admission", "Admitted", "Bounds", "Kind", "Labels", "Release"]

OTHER: Final = semconv.RUM_OTHER
Release = tuple[str, str]
"""App and version."""


class Kind(StrEnum):
    """What is bounded; the label ``kind`` of ``rum_admission_overflow_total``."""

    APP = "app"
    VERSION = "version"
    ROUTE = "route"
    EVENT = "event"
    FINGERPRINT = "fingerprint"
    TARGET = "target"
    """A call of a page."""
    UNKNOWN_VERSION = "unknown_version"
    """A version that is not among those that are known to be out."""
    LABEL_SET = "label_set"
    DETAIL = "detail"
    """A pair of a label set with an event or a fingerprint."""


class Labels(NamedTuple):
    """The labels of every real-user metric; an empty one is not rendered."""

    app: str
    version: str
    track: str
    route: str
    device: str
    synthetic: str
    signed: str = ""
    """``true`` for views that have proved who served them."""


LABEL_NAMES: Final = (
    semconv.LABEL_APP,
    semconv.LABEL_VERSION,
    semconv.LABEL_TRACK,
    semconv.LABEL_ROUTE,
    semconv.LABEL_DEVICE,
    semconv.LABEL_SYNTHETIC,
    semconv.LABEL_SIGNED,
)
"""Names of the fields of `Labels`, in order."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many values are kept apart."""

    apps: int
    versions: int
    """Per app. A full app gives the place of its longest idle version to a new one, see `idle_seconds`."""
    routes: int
    """Per app, not per version: both tracks must agree on what a route is."""
    events: int
    """Per app."""
    fingerprints: int
    """Per app and version."""
    label_sets: int
    """In all, but for one set per version and track that takes the rest."""
    idle_seconds: float
    """How long a version must have sent nothing before a new one may take its place."""

    @property
    def details(self) -> int:
        """Pairs of a label set with an event or a fingerprint, in all."""
        return 2 * self.label_sets


@dataclass(slots=True)
class Admitted:
    """What one version holds, given back when it is forgotten."""

    last_seen: float
    labels: set[Labels] = field(default_factory=set)
    details: set[tuple[Labels, Kind, str]] = field(default_factory=set)
    fingerprints: set[str] = field(default_factory=set)


class Admission:
    """Bounded sets of names: first come, first kept; versions that fell silent make room for new ones.

    Times are seconds of a monotonic clock, given by the caller.

    Args:
        bounds: how many names are kept apart.
        overflowed: told of every value that is counted as ``other``, by kind.
    """

    def __init__(self, bounds: Bounds, overflowed: Callable[[Kind], None] = lambda kind: None) -> None:
        self.overflow: Counter[Kind] = Counter()
        """Times a value was counted as ``other``, by kind."""
        self._told = overflowed
        self._bounds = bounds
        self._per_app = {
            Kind.ROUTE: bounds.routes,
            Kind.EVENT: bounds.events,
            Kind.TARGET: bounds.routes,
        }
        self._names: dict[tuple[Kind, str], dict[str, None]] = {}
        self._releases: dict[str, dict[str, Admitted]] = {}
        self._label_sets = 0
        self._details = 0
        self._now = 0.0
        self._idle_from = 0.0
        """Before this moment no version can have been idle for long enough."""
        self._full_until: dict[str, float] = {}
        """Before this moment no version of a full app can have been idle for long enough."""
        self._forgotten: list[Release] = []
        self.has_forgotten = False
        """Whether `forgotten` has something to tell."""

    def admitted(self, labels: Labels) -> Admitted:
        """Return what the version of admitted `labels` holds, for `seen`."""
        return self._releases[labels.app][labels.version]

    def seen(self, version: Admitted, now: float) -> None:
        """Take down that a version has sent something: all that `labels` does where it is known already."""
        self._now = version.last_seen = now

    def labels(self, asked: Labels, now: float) -> Labels:
        """Return `asked`, with ``other`` where a bound is reached.

        Where all sets are taken, route and device become ``other``; version and track never do for that
        reason, for they are what every comparison is about.
        """
        self._now = now
        known = self._releases.get(asked.app, {}).get(asked.version)
        if known is not None and asked in known.labels:
            known.last_seen = now
            return asked
        app = asked.app if asked.app in self._releases else self._app(asked.app)
        version = self._version(app, asked.version)
        kept = asked._replace(app=app, version=version, route=self.name(Kind.ROUTE, asked.route, app))
        admitted = self._releases[app][version]
        if kept not in admitted.labels:
            while self._label_sets >= self._bounds.label_sets and self._reclaim():
                # What fell silent may have been the last one with this route.
                kept = kept._replace(route=self.name(Kind.ROUTE, asked.route, app))
            if self._label_sets >= self._bounds.label_sets:
                self._over(Kind.LABEL_SET)
                kept = kept._replace(route=OTHER, device=OTHER)
            self._label_sets += kept not in admitted.labels
            admitted.labels.add(kept)
        return kept

    def name(self, kind: Kind, value: str, app: str) -> str:
        """Return the route or event `value` if it is among the first of its app, else ``other``."""
        names = self._names.setdefault((kind, app), {})
        if value in names or value == OTHER:
            return value
        if len(names) < self._per_app[kind]:
            names[value] = None
            return value
        self._over(kind)
        return OTHER

    def fingerprint(self, labels: Labels, value: str) -> str:
        """Return `value` if it is among the first errors of its app and version, else ``other``."""
        admitted = self._releases.get(labels.app, {}).get(labels.version)
        if admitted is None or value == OTHER:
            return OTHER
        if value not in admitted.fingerprints:
            if len(admitted.fingerprints) >= self._bounds.fingerprints:
                self._over(Kind.FINGERPRINT)
                return OTHER
            admitted.fingerprints.add(value)
        return self.detail(labels, Kind.FINGERPRINT, value)

    def detail(self, labels: Labels, kind: Kind, value: str) -> str:
        """Return `value` if its pair with `labels` may have a series of its own, else ``other``."""
        admitted = self._releases.get(labels.app, {}).get(labels.version)
        if admitted is None or value == OTHER:
            return OTHER
        key = (labels, kind, value)
        if key in admitted.details:
            return value
        if self._details < self._bounds.details:
            admitted.details.add(key)
            self._details += 1
            return value
        if self._reclaim():
            return self.detail(labels, kind, value)
        self._over(Kind.DETAIL)
        return OTHER

    def adopt_fingerprint(self, app: str, version: str, value: str) -> None:
        """Take over an error that was counted before this process began, where its version was."""
        admitted = self._releases.get(app, {}).get(version)
        if admitted is not None and len(admitted.fingerprints) < self._bounds.fingerprints:
            admitted.fingerprints.add(value)

    def knows_fingerprint(self, labels: Labels, value: str) -> bool:
        """Return whether the error `value` has been seen in the app and version of `labels`."""
        admitted = self._releases.get(labels.app, {}).get(labels.version)
        return admitted is not None and value in admitted.fingerprints

    def knows(self, kind: Kind, value: str, app: str) -> bool:
        """Return whether the route or event `value` of `app` has been admitted."""
        return value in self._names.get((kind, app), {})

    def names(self, kind: Kind, app: str) -> tuple[str, ...]:
        """Return the admitted routes or events of `app`, oldest first."""
        return tuple(self._names.get((kind, app), {}))

    def label_sets(self, app: str) -> tuple[Labels, ...]:
        """Return every admitted label set of `app`."""
        return tuple(
            labels for admitted in self._releases.get(app, {}).values() for labels in admitted.labels
        )

    def forgotten(self) -> list[Release]:
        """Return the app and version pairs that lost their place since the last call."""
        gone, self._forgotten = self._forgotten, []
        self.has_forgotten = False
        return gone

    def _over(self, kind: Kind) -> None:
        self.overflow[kind] += 1
        self._told(kind)

    def _app(self, app: str) -> str:
        if app != OTHER and len(self._releases) - (OTHER in self._releases) >= self._bounds.apps:
            self._over(Kind.APP)
            app = OTHER
        self._releases.setdefault(app, {})
        return app

    def _version(self, app: str, version: str) -> str:
        releases = self._releases[app]
        if version not in releases and version != OTHER:
            is_full = len(releases) - (OTHER in releases) >= self._bounds.versions
            if is_full and not self._make_room(app):
                self._over(Kind.VERSION)
                version = OTHER
        releases.setdefault(version, Admitted(self._now)).last_seen = self._now
        return version

    def _make_room(self, app: str) -> bool:
        """Return whether a version of a full app gave its place back."""
        if self._now < self._full_until.get(app, 0.0):
            return False
        named = [(app, known) for known in self._releases[app] if known != OTHER]
        if self._forget_idle(named):
            return True
        oldest = min(self._releases[app][version].last_seen for app, version in named)
        self._full_until[app] = oldest + self._bounds.idle_seconds
        return False

    def _reclaim(self) -> bool:
        """Return whether sets and details were taken back from a version, of any app, that fell silent."""
        if self._now < self._idle_from:
            return False
        releases = [(app, version) for app, known in self._releases.items() for version in known]
        if self._forget_idle(releases):
            return True
        # Nobody is seen earlier than before, so that the next look can wait: beacons must not pay for each.
        oldest = min(self._releases[app][version].last_seen for app, version in releases)
        self._idle_from = oldest + self._bounds.idle_seconds
        return False

    def _forget_idle(self, releases: list[Release]) -> bool:
        """Forget the one of `releases` that was idle longest; return whether that was long enough."""
        app, version = min(releases, key=lambda release: self._releases[release[0]][release[1]].last_seen)
        if self._now - self._releases[app][version].last_seen < self._bounds.idle_seconds:
            return False
        gone = self._releases[app].pop(version)
        self._label_sets -= len(gone.labels)
        self._details -= len(gone.details)
        self._forgotten.append((app, version))
        self.has_forgotten = True
        self._free_names(app)
        return True

    def _free_names(self, app: str) -> None:
        """Give back the places of routes and calls that only versions had that are forgotten."""
        left = self._releases[app].values()
        used = {
            Kind.ROUTE: {labels.route for admitted in left for labels in admitted.labels},
            Kind.TARGET: {
                value for admitted in left for _, kind, value in admitted.details if kind is Kind.TARGET
            },
        }
        for kind, values in used.items():
            names = self._names.get((kind, app), {})
            for gone in names.keys() - values:
                del names[gone]
