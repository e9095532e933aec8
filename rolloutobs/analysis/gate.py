"""Watches a rollout until it is decided: read, tick, judge, record, again.

The clock is an argument, and so is everything else that is not pure. Acting on the verdict is a controller's
work.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from rolloutobs.analysis.canaries import versions_of_canaries
from rolloutobs.analysis.history import NOTHING, History, Recorder
from rolloutobs.analysis.model import Decision, Reading, Source, Tick, Verdict
from rolloutobs.analysis.report import Report
from rolloutobs.analysis.saved import Saved
from rolloutobs.analysis.tally import CANARY, STABLE
from rolloutobs.analysis.ticks import Ticker
from rolloutobs.analysis.wording import duration
from rolloutobs.errors import ConfigurationError, SourceError, StateError

__all__ = [
    "Clock",
    "Gate",
    "GateSettings",
    "Judge",
    "Look",
    "RolloutChangedError",
]


_FEW: Final = 3
"""So many targets that do not answer are named one by one."""


class RolloutChangedError(StateError):
    """The state that the gate goes on from is of another rollout: another version is the canary now."""


class Judge(Protocol):
    """What the gate asks: the engine."""

    def prehistory(self, tick: Tick) -> None:
        """Take in what stable did before the canary took traffic."""

    def observe(self, tick: Tick) -> Verdict:
        """Take in the next tick and judge all so far."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Unix time, and waiting."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How the gate looks, in seconds."""

    app: str = ""
    """For the report; empty: as the samples say."""
    interval_seconds: float = 15.0
    deadline_seconds: float = 1800.0
    """Since the canary took traffic. Before that, the gate waits for its traffic equally long."""
    until_decided: bool = True
    """False: look for the whole time, and report what holds at its end (`compare`)."""
    only_rollback: bool = False
    """True: nothing but a rollback ends it before the deadline (a bake: the new version is promoted already).
    A source that does not answer is then waited for, from the start."""
    is_endless: bool = False
    """True: nothing ends it but `stop`; a rollback is final, and is told at every look after it (`serve`)."""
    keep_seconds: float = 0.0
    """How long a time of ticks `Gate.kept` returns, for a bake after this; 0: none."""
    give_up_seconds: float = 60.0
    """Without a single answer from any target for so long at the start, nothing will come."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a person who watches wants to see after each reading."""

    elapsed_seconds: float
    """Since the gate began."""
    canary_seconds: float | None
    """Since the canary took traffic; ``None``: it has not yet."""
    verdict: Verdict | None
    traffic: Mapping[str, int] = field(default_factory=dict)
    """Requests by ``"canary"`` and ``"stable"`` since the gate began."""
    failed: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    app: str = ""
    """The app, as asked for or as its samples say; empty: not known yet."""


class Gate:
    """Watches one rollout.

    Args:
        source: where the counters come from.
        ticker: turns them into ticks.
        engine: judges the ticks.
        settings: how often and how long.
        clock: time and waiting.
        observer: called after each reading.
    """

    def __init__(
        self,
        source: Source,
        ticker: Ticker,
        engine: Judge,
        settings: GateSettings | None = None,
        clock: Clock | None = None,
        observer: Callable[[Look], None] = lambda look: None,
    ) -> None:
        self._source = source
        self._ticker = ticker
        self._engine = engine
        self._settings = settings or GateSettings()
        self._clock = clock or Clock()
        self._observer = observer
        self._recorder = Recorder()
        self._verdict: Verdict | None = None
        self._traffic = {CANARY: 0, STABLE: 0}
        self._failed: Mapping[str, str] = {}
        self._unread: Sequence[str] = ()
        self._answered = self._settings.only_rollback
        self._kept: deque[Tick] = deque()
        self._began = 0.0
        self._started = 0.0
        self._at = 0.0
        self._resumed: Saved | None = None
        self._unverified = ""

    # --- saved and resumed ----------------------------------------------------------------------------------

    def resume(self, saved: Saved, verdict: Verdict | None) -> None:
        """Go on where another gate ended; the engine and the ticker have been resumed from `saved` as well.

        Args:
            saved: what the other gate knew.
            verdict: the resumed engine's; ``None`` if it had not judged a tick yet.
        """
        self._resumed, self._verdict = saved, verdict
        self._began, self._at = saved.began, saved.at
        self._recorder = Recorder(saved.history)
        self._traffic.update(saved.traffic)
        self._unverified = saved.canary_version
        # While it is undecided, a source that is down is waited for; a decision that nobody can tell the
        # rollout of is none.
        self._answered = self._settings.only_rollback or not self._is_decided()

    def saved(self, engine: Mapping[str, Any], acted: Sequence[str] = ()) -> Saved:
        """Return what a gate after this one has to know.

        Args:
            engine: `Engine.state` after the last look.
            acted: decisions that commands have been run for.
        """
        verdict = self._verdict
        return Saved(
            app=self._app(),
            began=self._began,
            at=self._at,
            zero=self._ticker.zero,
            canary_version=self._canary_version(),
            stable_version=self._verdict.stable_version if self._verdict else "",
            engine=engine,
            decision="" if verdict is None else verdict.decision.value,
            acted=tuple(acted),
            traffic=dict(self._traffic),
            history=self._history(),
        )

    async def run(self, stop: asyncio.Event | None = None, past: Sequence[Reading] = ()) -> Report:
        """Watch until decided, until the deadline, or until `stop` is set, and return the report.

        Args:
            stop: set from outside (a signal): the report is of what is known by then.
            past: readings from before now, oldest first, as a Prometheus has them.

        Raises:
            SourceError: no target has ever answered.
            ConfigurationError: the targets speak of several apps.
            RolloutChangedError: the gate was resumed, and another version is the canary now.
        """
        self._started = self._clock.now()
        if self._resumed is None:
            self._began = self._started
        stop = stop or asyncio.Event()
        for reading in past[-1:]:
            self._verify(reading)
        for reading in past:
            self._take(reading)
        if past and not self._settings.until_decided:
            self._check(past[-1])
            self._began = past[0].at
            return self._report(past[-1].at)
        due = self._started
        while True:
            reading = await self._source.read()
            self._verify(reading)
            self._take(reading)
            self._check(reading)
            self._observer(self._look(reading.at))
            if self._is_over(reading.at):
                break
            due = max(due + self._settings.interval_seconds, self._clock.now())
            if await self._wait(due - self._clock.now(), stop):
                break
        return self._report(self._clock.now(), interrupted=stop.is_set())

    def _verify(self, reading: Reading) -> None:
        """Check that the canary is still the one of the state.

        Without any canary, the one that was decided on has been taken away; of one that was not, the next may
        be on its way.
        """
        if not self._unverified or not reading.targets:
            return
        present = versions_of_canaries(reading)
        if not present and not _decided(self._verdict):
            return
        if present and self._unverified not in present:
            listed = ", ".join(sorted(present))
            raise RolloutChangedError(
                f"the state is of canary {self._unverified}, the canary is {listed} now; begun anew"
            )
        self._unverified = ""

    def _take(self, reading: Reading) -> None:
        step = self._ticker.advance(reading)
        self._at = max(self._at, reading.at)
        self._answered = self._answered or bool(reading.targets)
        self._failed, self._unread = step.failed, reading.notes
        for side, count in step.traffic.items():
            self._traffic[side] += count
        for tick in step.ready:
            self._keep(tick)
            if tick.end <= 0:
                self._engine.prehistory(tick)
            elif not self._is_decided():
                self._verdict = self._engine.observe(tick)
            self._recorder.tick(tick, self._verdict)
        if self._ticker.zero is not None:
            self._recorder.displays(step.displays)

    def _keep(self, tick: Tick) -> None:
        zero = self._ticker.zero or 0.0
        if self._settings.keep_seconds > 0:
            self._kept.append(replace(tick, start=tick.start + zero, end=tick.end + zero))
            while self._kept[0].end < self._kept[-1].end - self._settings.keep_seconds:
                self._kept.popleft()

    @property
    def kept(self) -> tuple[Tick, ...]:
        """The last ticks, oldest first, in unix seconds (`GateSettings.keep_seconds`)."""
        return tuple(self._kept)

    def _check(self, reading: Reading) -> None:
        if len(self._ticker.apps) > 1 and not self._settings.app:
            apps = ", ".join(sorted(self._ticker.apps))
            raise ConfigurationError(f"the targets speak of several apps ({apps}); choose one with --app")
        if not self._answered and reading.at - self._started >= self._patience():
            raise SourceError("nothing to compare, " + _failures(reading.failed))

    def _patience(self) -> float:
        return min(self._settings.give_up_seconds, self._settings.deadline_seconds)

    def _is_decided(self) -> bool:
        if self._settings.only_rollback:
            return self._verdict is not None and self._verdict.decision is Decision.ROLLBACK
        return self._settings.until_decided and _decided(self._verdict)

    def _is_over(self, at: float) -> bool:
        if self._settings.is_endless:
            return False
        zero = self._ticker.zero
        since = max(zero if zero is not None else self._began, 0.0)
        decided = self._is_decided() and not self._unverified
        return decided or (self._answered and at - since >= self._settings.deadline_seconds)

    async def _wait(self, seconds: float, stop: asyncio.Event) -> bool:
        """Wait, at most until `stop` is set; return whether it is."""
        waiting = [
            asyncio.ensure_future(self._clock.sleep(max(seconds, 0.0))),
            asyncio.ensure_future(stop.wait()),
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        return stop.is_set()

    # --- what is told ---------------------------------------------------------------------------------------

    def _look(self, at: float) -> Look:
        zero = self._ticker.zero
        return Look(
            elapsed_seconds=at - self._began,
            canary_seconds=None if zero is None else at - zero,
            verdict=self._verdict,
            traffic=dict(self._traffic),
            failed=self._failed,
            notes=self._notes(),
            app=self._app(),
        )

    def _notes(self) -> tuple[str, ...]:
        notes = _silent(self._failed)
        notes += self._unread
        versions = self._ticker.canary_versions
        if len(versions) > 1:
            listed = ", ".join(versions)
            notes.append(f"several versions take the canary's traffic ({listed}); they are judged as one")
        lost = sum(self._ticker.discarded.values())
        if lost:
            notes.append(f"{lost} requests were not compared, for their target did not answer at the time")
        return tuple(notes)

    def report(self) -> Report:
        """Return the report of what is known after the last look, while the gate goes on."""
        return Report(
            app=self._app(),
            began=self._began,
            ended=self._at,
            verdict=self._verdict or self._nothing(self._at),
            history=self._history(),
            notes=self._notes(),
        )

    def _report(self, at: float, interrupted: bool = False) -> Report:
        if self._verdict is None:
            for tick in self._ticker.flush():
                self._recorder.tick(tick, None)
        verdict = self._verdict or self._nothing(at)
        return replace(self.report(), ended=at, verdict=verdict, interrupted=interrupted)

    def _app(self) -> str:
        before = self._resumed.app if self._resumed else ""
        return self._settings.app or next(iter(self._ticker.apps), before)

    def _canary_version(self) -> str:
        """Return the version that is judged; after a resume the one that was, until traffic says more."""
        judged = self._verdict.canary_version if self._verdict else ""
        before = self._resumed.canary_version if self._resumed else ""
        return judged or next(iter(self._ticker.canary_versions), before)

    def _history(self) -> History:
        before = self._resumed.history.texts if self._resumed else {}
        return self._recorder.history({**before, **self._ticker.texts})

    def _nothing(self, at: float) -> Verdict:
        """Return the verdict on a canary that took no traffic: hold, and say what was seen instead."""
        tracks = ", ".join(sorted(self._ticker.tracks))
        seen = f"tracks seen: {tracks}" if tracks else "no series has a label track"
        reason = f"HOLD after {duration(at - self._began)}: the canary took no traffic ({seen})"
        traffic = replace(NOTHING, stable_exposures=self._traffic[STABLE])
        return Verdict(Decision.HOLD, reason, 0.0, "", (), traffic)


def _silent(failed: Mapping[str, str]) -> list[str]:
    """Return a note on each target that did not answer; of many with one reason, such as a Prometheus that is
    down, one for all."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in sorted(failed.items()):
        by_reason.setdefault(reason, []).append(name)
    notes: list[str] = []
    for reason, names in by_reason.items():
        few = names if len(names) <= _FEW else [f"{len(names)} targets, of which one is {names[0]}"]
        notes += [f"{each}: {reason}" for each in few]
    return notes


def _decided(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.decision is not Decision.HOLD


def _failures(failed: Mapping[str, str]) -> str:
    if not failed:
        return "no target has any series"
    return "no target answers: " + "; ".join(_silent(failed)[:3])
