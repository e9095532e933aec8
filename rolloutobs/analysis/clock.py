"""The time of ticks: seconds since the canary first took traffic. Pure: the moments are those of readings."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from rolloutobs.analysis.model import Tick

__all__ = ["Clock"]


class Clock:
    """Knows time 0 and holds pre-history back until it is known."""

    def __init__(self, prehistory_seconds: float, zero: float | None) -> None:
        """Keep so much of the past; `zero` is time 0 in unix seconds, if it is known from before."""
        self._prehistory_seconds = prehistory_seconds
        self._past: deque[Tick] = deque()
        self.first: float | None = None
        self.last: float | None = None
        self.zero = zero

    def advance(self, at: float, tick: Tick, canary_began: bool) -> tuple[Tick, ...]:
        """Give `tick` its times; return it with what it set free, in seconds since the canary's traffic."""
        last, self.last = self.last, at
        if last is None:
            self.first = at
            return ()
        if self.zero is None and canary_began:
            self.zero = last
        self._past.append(replace(tick, start=last, end=at))
        if self.zero is None:
            while self._past[0].end < at - self._prehistory_seconds:
                self._past.popleft()
            return ()
        return self._free(self.zero)

    def flush(self) -> tuple[Tick, ...]:
        """Return the pre-history that is held back; it ends at 0."""
        return self._free(self.last or 0.0)

    def _free(self, zero: float) -> tuple[Tick, ...]:
        ready = tuple(replace(t, start=t.start - zero, end=t.end - zero) for t in self._past)
        self._past.clear()
        return ready
