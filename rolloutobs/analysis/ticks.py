"""From consecutive readings to ticks: what each track did between two readings.

Belongs here: time, tracks, targets that come and go, warm-up. Resets of counters are in `counters`.
Pure: the time is the one in the readings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from rolloutobs import semconv
from rolloutobs.analysis.clock import Clock
from rolloutobs.analysis.counters import Catalog, Growth, Need, Role, start_time
from rolloutobs.analysis.displays import DISPLAYS, TEXTS, Display, DisplayCounts
from rolloutobs.analysis.lives import GAUGES, Use
from rolloutobs.analysis.model import PodUse, Reading, Sample, Tick
from rolloutobs.analysis.policy import Kind, Signal
from rolloutobs.analysis.promoted import SIDES, Promoted
from rolloutobs.analysis.tally import CANARY, STABLE, Origin, SignalTally
from rolloutobs.analysis.target import Target
from rolloutobs.identity import Track

__all__ = ["Step", "TickSettings", "Ticker"]

_MOST_TEXTS: Final = 500

_UNKNOWN: Final = "an unknown track"
"""Stands in ``Tick.stale`` for targets that never answered: they may be the canary's."""

_FORGET_SECONDS: Final = 3600.0
"""A target that was gone for so long is forgotten; when it comes back it is a new one."""

_STABLES: Final = tuple(track for track, side in SIDES.items() if side == STABLE)


@dataclass(frozen=True, slots=True)
class TickSettings:
    """How readings become ticks."""

    warmup_seconds: float = 0.0
    """The first seconds of each canary process are kept apart (``Tick.cold_counts``)."""
    prehistory_seconds: float = 1800.0
    """How much of stable's past is kept until the canary takes traffic."""
    patience_seconds: float = 30.0
    """How long the counts of a signal wait for a target that does not answer, so that both tracks are
    compared over the same time. After that the others go on without it, and what it counted meanwhile is not
    compared."""
    zero: float | None = None
    """Unix time at which the canary first took traffic, known from before; ``None``: it will be seen."""
    canary_versions: frozenset[str] = frozenset()
    """Versions known from before to be the canary's and not stable's."""
    since: float = 0.0
    """Unix time at which the rollout began. What a process that is older than that has counted by its first
    reading is a baseline, however late it is seen."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one more reading gave."""

    ready: tuple[Tick, ...] = ()
    """Ticks for the engine, oldest first; those that end at or before 0 are pre-history. Empty until the
    canary takes traffic, which is what time 0 means."""
    displays: DisplayCounts = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    """Targets that did not answer, and why."""
    traffic: Mapping[str, int] = field(default_factory=dict)
    """Exposures by ``"canary"`` and ``"stable"`` in this interval, of the first signal that has any."""


class Ticker:
    """Turns consecutive readings into ticks.

    The first reading of a target is a baseline, unless its process began after the first reading of all: then
    its counters started from zero while we watched, and count in full. Which track a sample belongs to is its
    label ``track``; samples without one are not compared.
    """

    def __init__(
        self,
        signals: Sequence[Signal],
        settings: TickSettings | None = None,
        displays: Sequence[Display] = DISPLAYS,
    ) -> None:
        self._settings = settings or TickSettings()
        self._catalog = Catalog(signals, displays)
        self._targets: dict[str, Target] = {}
        self._tallies = {signal.name: SignalTally() for signal in signals}
        self._aging = frozenset(signal.name for signal in signals if signal.needs_pods)
        self._displays: dict[str, Counter[tuple[str, ...]]] = {}
        self._uses: list[PodUse] = []
        # Counts have exposures of other kinds: time that processes ran, requests of checks among all others.
        self._starters = [s.name for s in signals if s.kind not in (Kind.PAIRS, Kind.COUNT)] or list(
            self._tallies
        )
        self._traffic = {name: Counter[str]() for name in self._starters}
        self._versions = {CANARY: Counter[str](), STABLE: Counter[str]()}
        self._promoted = Promoted(self._settings.canary_versions)
        self._clock = Clock(self._settings.prehistory_seconds, self._settings.zero)
        self.apps: set[str] = set()
        """Values of the label ``app`` seen on series that have a track."""
        self.tracks: set[str] = set()
        """Tracks seen so far."""
        self.texts: dict[str, str] = {}
        """Words behind the values of labels, such as the message of an error's fingerprint."""
        self.discarded: Counter[str] = Counter()
        """Exposures by side that were not compared, because their target had been silent for too long."""

    @property
    def metrics(self) -> frozenset[str]:
        """Names of the samples a source has to read."""
        return self._catalog.metrics | GAUGES

    @property
    def needs(self) -> tuple[Need, ...]:
        """What a source may sum up over processes of stable."""
        return self._catalog.needs

    @property
    def zero(self) -> float | None:
        """Unix time at which the canary first took traffic; ``None``: not yet."""
        return self._clock.zero

    @property
    def canary_versions(self) -> tuple[str, ...]:
        """Versions that took the canary's traffic, busiest first."""
        return tuple(version for version, _ in self._versions[CANARY].most_common() if version)

    def advance(self, reading: Reading) -> Step:
        """Take in the next reading and return what became known by it; one that is not later is ignored."""
        last = self._clock.last
        if last is not None and reading.at <= last:
            return Step(failed=reading.failed)
        failed = dict(reading.failed)
        for name, before in reading.before.items():
            self._rebase(name, before, reading.at if last is None else last)
        for name, samples in reading.targets.items():
            reason = self._read(name, samples, reading)
            if reason:
                failed[name] = reason
        if not reading.targets and last is not None:
            # Nothing answered at all: no target is more silent than the others, time stands still for them.
            for target in self._targets.values():
                target.answered += reading.at - last
        self._forget(reading)
        self._promoted.note(pair for name in reading.targets for pair in self._targets[name].versions)
        ready = self._clock.advance(reading.at, self._tick(failed, reading), self._canary_began())
        traffic = next((dict(c) for c in self._traffic.values() if c), {})
        displays = self._displays
        self._displays = {}
        for counter in self._traffic.values():
            counter.clear()
        return Step(ready, displays, failed, traffic)

    def flush(self) -> tuple[Tick, ...]:
        """Return the pre-history that is held back because the canary never took traffic; it ends at 0."""
        return self._clock.flush()

    # --- one target -----------------------------------------------------------------------------------------

    def _rebase(self, name: str, samples: Sequence[Sample], at: float) -> None:
        target = self._targets.setdefault(name, Target(self._catalog, at))
        target.note(at, target.counters.rebase(samples, _STABLES))

    def _read(self, name: str, samples: Sequence[Sample], reading: Reading) -> str:
        """Add what `name` counted since its last reading; return why it is not usable, or the empty
        string."""
        started, known = start_time(samples), self._targets.get(name)
        if known is not None and _went_back(known.counters.started, started):
            return "its start time went back: several processes answer here; give the address of each"
        first = self._clock.first
        born = (
            known is None
            and first is not None
            and started is not None
            and started >= max(first, self._settings.since)
        )
        target = known or self._targets.setdefault(name, Target(self._catalog, reading.at))
        lost = self._is_lost(target)
        if lost and started is not None and started > target.answered:
            # A new process at the old address: all that it counted is younger than the silence before it.
            target.counters.forget_values()
            lost, born = False, True
        grown = target.counters.advance(samples, born)
        lived, use = target.life.advance(samples, reading.at)
        target.note(reading.at, grown)
        self._note(samples, target)
        if use is not None and not lost:
            self._used(name, use, grown)
        own = Origin(name, STABLE, cold=False, is_pod=name not in reading.sums)
        self._add(own, lived, lost)
        self._add(replace(own, compared=name not in reading.parts), grown, lost)
        return ""

    def _used(self, name: str, use: Use, grown: Sequence[Growth]) -> None:
        side = self._promoted.side(use.track, use.version)
        if side is None:
            return
        requests = sum(
            growth.amount
            for growth in grown
            for place in growth.series.places
            if place.name == self._starters[0] and _is_exposure(growth, place.role)
        )
        self._uses.append(
            PodUse(
                name,
                side == CANARY,
                use.age_seconds,
                use.seconds,
                use.memory_bytes,
                use.cpu_seconds,
                float(requests),
            )
        )

    def _is_lost(self, target: Target) -> bool:
        """Tell whether the others went on without the target at the last reading."""
        last = self._clock.last
        return last is not None and last - target.answered > self._settings.patience_seconds

    def _note(self, samples: Sequence[Sample], target: Target) -> None:
        for sample in samples:
            if sample.name in TEXTS and len(self.texts) < _MOST_TEXTS:
                key, text = TEXTS[sample.name]
                self.texts[sample.labels.get(key, "")] = sample.labels.get(text, "")
        self.tracks |= target.tracks
        if len(self.apps) < 2 and len(samples) != target.samples:
            target.samples = len(samples)
            apps = {s.labels.get(semconv.LABEL_APP, "") for s in samples if s.labels.get(semconv.LABEL_TRACK)}
            self.apps |= apps - {""}

    def _add(self, own: Origin, grown: Sequence[Growth], lost: bool) -> None:
        target = self._targets[own.target]
        since = self._clock.last
        if since is None:
            return
        if target.exposed is None and any(self._is_canary_exposure(g) for g in grown if g.amount):
            target.exposed = since
        cold = target.is_cold(since, self._settings.warmup_seconds)
        origins: dict[tuple[str, str], Origin | None] = {}
        for growth in grown:
            key = (growth.series.track, growth.series.version)
            if key not in origins:
                origins[key] = self._origin(own, *key, cold)
            origin = origins[key]
            if origin is None:
                continue
            if lost:
                self._discard(growth, origin.side)
            else:
                self._count(growth, origin)

    def _origin(self, own: Origin, track: str, version: str, cold: bool) -> Origin | None:
        side = self._promoted.side(track, version)
        if side is None or (side == CANARY and not own.compared):
            return None
        baseline = track == Track.BASELINE.value
        return replace(own, side=side, cold=cold and (side == CANARY or baseline), baseline=baseline)

    def _is_canary_exposure(self, growth: Growth) -> bool:
        series = growth.series
        return (
            growth.amount > 0
            and self._promoted.side(series.track, series.version) == CANARY
            and any(p.name in self._traffic and _is_exposure(growth, p.role) for p in series.places)
        )

    def _discard(self, growth: Growth, side: str) -> None:
        if any(
            place.name == self._starters[0] and _is_exposure(growth, place.role)
            for place in growth.series.places
        ):
            self.discarded[side] += growth.amount

    def _count(self, growth: Growth, origin: Origin) -> None:
        series = growth.series
        if not growth.amount and series.le is None:
            return
        for place in series.places:
            if place.role is Role.DISPLAY:
                if not origin.compared:
                    continue
                key = (origin.side, *(value for _, value in place.stratum))
                self._displays.setdefault(place.name, Counter())[key] += growth.amount
                continue
            # What a collector or the checks count is as old as their target's process only by accident.
            ageless = origin.cold and place.name not in self._aging
            aged = replace(origin, cold=False) if ageless else origin
            self._tallies[place.name].add(growth, place, aged)
            counts = bool(growth.amount) and origin.compared and place.name in self._traffic
            if counts and _is_exposure(growth, place.role):
                self._traffic[place.name][origin.side] += growth.amount
                self._versions[origin.side][series.version] += growth.amount

    # --- one tick -------------------------------------------------------------------------------------------

    def _canary_began(self) -> bool:
        return any(counter[CANARY] > 0 for counter in self._traffic.values())

    def _forget(self, reading: Reading) -> None:
        gone = [
            n
            for n, t in self._targets.items()
            if n not in reading.failed and reading.at - t.answered > _FORGET_SECONDS
        ]
        for name in gone:
            del self._targets[name]

    def _tick(self, failed: Mapping[str, str], reading: Reading) -> Tick:
        """Return what was counted since the last reading; its times are set by the clock."""
        silent = [self._targets[name] for name in failed if name in self._targets]
        unknown = frozenset() if len(silent) == len(failed) else frozenset({_UNKNOWN})
        waiting = {signal for t in silent if self._waits_for(t, reading.at) for signal in t.signals}
        taken = {name: tally.take() for name, tally in self._tallies.items() if name not in waiting}
        uses, self._uses = tuple(sorted(self._uses, key=lambda use: use.pod)), []
        return Tick(
            start=0.0,
            end=0.0,
            counts={name: t.counts for name, t in taken.items() if t.counts},
            cold_counts={name: t.cold for name, t in taken.items() if t.cold},
            histograms={name: t.histograms for name, t in taken.items() if t.histograms},
            stable_pods={name: t.pods for name, t in taken.items() if t.pods},
            stable_pod_histograms={name: t.pod_histograms for name, t in taken.items() if t.pod_histograms},
            sources={name: t.sources for name, t in taken.items() if t.sources},
            baseline=frozenset(name for name, t in taken.items() if t.baseline),
            aside={name: t.aside for name, t in taken.items() if t.aside},
            uses=uses,
            by_pod_age=True,
            stale=self._stale(silent, reading) | unknown,
            weight=reading.weight,
            canary_version=self._version(CANARY),
            stable_version=self._version(STABLE),
        )

    def _stale(self, silent: Sequence[Target], reading: Reading) -> frozenset[str]:
        """Return the tracks of targets whose silence matters.

        A few of stable's that the others have gone on without (a node that is lost) no longer do: stable is
        what the others say it is. Of the canary, those that fall silent may be the bad ones.
        """
        lost = [t for t in silent if self._is_of_stable(t) and not self._waits_for(t, reading.at)]
        there = sum(self._is_of_stable(self._targets[name]) for name in reading.targets)
        mattering = [t for t in silent if t not in lost] if len(lost) < there else silent
        return frozenset(track for target in mattering for track in target.tracks)

    def _is_of_stable(self, target: Target) -> bool:
        """Tell whether nothing of the canary's, nor of a baseline, is in `target`."""
        return bool(target.versions) and all(
            track == Track.STABLE.value and self._promoted.side(track, version) == STABLE
            for track, version in target.versions
        )

    def _waits_for(self, target: Target, at: float) -> bool:
        """Tell whether what the others have counted waits for the silent `target`."""
        return at - target.answered <= self._settings.patience_seconds

    def _version(self, side: str) -> str:
        """Return the version with most traffic on `side` since the start."""
        return next((version for version, _ in self._versions[side].most_common(1)), "")


def _went_back(before: float | None, now: float | None) -> bool:
    return before is not None and now is not None and now < before - 1.0


def _is_exposure(growth: Growth, role: Role) -> bool:
    return role is Role.EXPOSURES or (role is Role.BUCKET and growth.series.le == float("inf"))
