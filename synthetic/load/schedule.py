"""When tasks arrive: an open model, which does not wait for answers.

Belongs here: rates over time and the moments that follow from them. Pure: randomness is an argument, time
counts from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rolloutobs.errors import ConfigurationError
from synthetic.settings import parse_duration

__all__ = ["Phase", "arrivals", "expected", "parse_rate", "peak"]

_FORM = "20, 10..100 (a ramp) or 10@30s,50@30s,50..0@10s (steps)"


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of time in which the rate goes from one value to another in a straight line."""

    first: float
    """Arrivals per second at its beginning."""
    last: float
    seconds: float
    """May be infinite where both rates are equal."""

    @property
    def expected(self) -> float:
        """Mean number of arrivals."""
        return (self.first + self.last) / 2 * self.seconds if self.first + self.last else 0.0

    def when(self, count: float) -> float:
        """Return after how many seconds `count` arrivals are expected: the root of the rate's integral.

        Source: first * t + (last - first) / (2 * seconds) * t^2 = count, in the form that stays exact when
        the slope is small (Press et al., Numerical Recipes, section 5.6).
        """
        slope = (self.last - self.first) / self.seconds
        return 2 * count / (self.first + math.sqrt(max(0.0, self.first**2 + 2 * slope * count)))


def parse_rate(text: str, seconds: float, source: str) -> tuple[Phase, ...]:
    """Return the phases that e.g. ``"20"``, ``"10..100"`` or ``"10@30s,50@30s"`` names.

    Args:
        text: rates per second; each may have its own duration.
        seconds: duration of the one phase that names none.
        source: where it was given, for the message.

    Raises:
        ConfigurationError: it has no such form, nothing ever arrives, or durations are missing.
    """
    parts = text.split(",")
    phases = []
    for part in parts:
        rate, at, duration = part.partition("@")
        first, dots, last = rate.partition("..")
        if not at and len(parts) > 1:
            raise ConfigurationError(f"{source} is {text!r}; give each step its duration, e.g. 10@30s,50@30s")
        lasts = parse_duration(duration, source) if at else seconds
        begin = _number(first, text, source)
        phases.append(Phase(begin, _number(last, text, source) if dots else begin, lasts))
    if not any(phase.first + phase.last for phase in phases):
        raise ConfigurationError(f"{source} is {text!r}; use a rate above 0, e.g. {_FORM}")
    if any(math.isinf(phase.seconds) and phase.first != phase.last for phase in phases):
        raise ConfigurationError(f"{source} is {text!r}; a ramp needs an end, e.g. {text}@1m")
    return tuple(phases)


def _number(text: str, whole: str, source: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise ConfigurationError(f"{source} is {whole!r}; use tasks per second, e.g. {_FORM}")
    return found


def peak(phases: Sequence[Phase]) -> float:
    """Return the highest rate."""
    return max(max(phase.first, phase.last) for phase in phases)


def expected(phases: Sequence[Phase]) -> float:
    """Return the mean number of arrivals."""
    return sum(phase.expected for phase in phases)


def arrivals(phases: Sequence[Phase], share: float, gap: Callable[[], float]) -> Iterator[float]:
    """Yield the moments of arrivals in seconds from the start, ascending.

    Args:
        phases: one after the other.
        share: of all rates; workers that share a load evenly take 1 / n each.
        gap: return the next gap of a process of rate 1: exponential for a Poisson process, always 1 for even
            arrivals.

    The moments of a process of rate 1, mapped by the inverse of the expected number so far, are those of one
    with the wanted rate. Source: Cinlar, "Introduction to Stochastic Processes" (1975), section 4.7; the sum
    of independent Poisson processes is one with the sum of their rates.
    """
    count, before, start = gap(), 0.0, 0.0
    for phase in phases:
        scaled = Phase(phase.first * share, phase.last * share, phase.seconds)
        while scaled.expected and count - before < scaled.expected:
            yield start + scaled.when(count - before)
            count += gap()
        before += scaled.expected
        start += phase.seconds
