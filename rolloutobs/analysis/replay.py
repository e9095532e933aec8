"""The same engine over a rollout of the past: what it would have decided, and when.

Belongs here: readings of a window in, the first decision out. Pure: the time is the one in the readings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rolloutobs.analysis.canaries import of_canaries, versions_of_canaries
from rolloutobs.analysis.model import Decision, Reading, Tick, Verdict
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.ticks import Ticker, TickSettings
from rolloutobs.analysis.verdict import Engine

__all__ = ["Replayed", "replay", "ticks_of"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """How a window of the past would have ended."""

    start: float
    """Unix seconds of the window's start."""
    zero: float | None
    """Unix seconds at which the canary first took traffic; ``None``: it never did."""
    verdict: Verdict | None
    """The first decision, or what held at the end; ``None``: the canary took no traffic."""

    @property
    def decision(self) -> Decision:
        """The decision; without traffic of a canary it is to hold."""
        return self.verdict.decision if self.verdict else Decision.HOLD


def replay(readings: Sequence[Reading], start: float, policy: Policy, patience_seconds: float) -> Replayed:
    """Return the first decision of the engine in a window.

    Args:
        readings: of the window and of the past before it, oldest first.
        start: of the window, in unix seconds; canaries that were there only before it are of other rollouts.
        policy: what decides; its deadline ends the window early.
        patience_seconds: how long a silent target is waited for.
    """
    versions: set[str] = set()
    for reading in readings:
        if reading.at >= start:
            versions |= versions_of_canaries(reading)
    settings = TickSettings(
        warmup_seconds=policy.warmup_seconds, patience_seconds=patience_seconds, since=start
    )
    ticker = Ticker(policy.compared, settings, displays=())
    verdict = _decided(policy, ticks_of(ticker, [of_canaries(each, versions) for each in readings]))
    return Replayed(start, ticker.zero, verdict)


def ticks_of(ticker: Ticker, readings: Sequence[Reading]) -> list[Tick]:
    """Return all ticks of `readings`; none if there was no canary."""
    return [tick for reading in readings for tick in ticker.advance(reading).ready]


def _decided(policy: Policy, ticks: Sequence[Tick]) -> Verdict | None:
    engine, seen = Engine(policy), False
    for tick in ticks:
        if tick.end > policy.deadline_seconds:
            break
        decision = engine.update(tick)
        seen = seen or tick.end > 0
        if decision is not Decision.HOLD:
            break
    return engine.verdict() if seen else None
