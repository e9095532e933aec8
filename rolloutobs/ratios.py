"""Shares of new traces to keep, by track."""

from __future__ import annotations

from dataclasses import dataclass

from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Track

__all__ = ["DEFAULT_SAMPLING_RATIO", "Ratios"]

DEFAULT_SAMPLING_RATIO = 0.1
CANARY_FACTOR = 10
"""How much more of a canary's traces is kept where nobody says: at 5 to 10 % of the traffic it then leaves
about as many as the stable version."""
_NO_TRACK = "none"


@dataclass(frozen=True, slots=True)
class Ratios:
    """Share of new traces that is kept on each track, 0 to 1."""

    stable: float
    canary: float
    baseline: float
    """Of the old version beside the canary: with as little traffic as the canary, and compared with it."""
    none: float
    """Where no rollout is known."""

    def of(self, track: Track) -> float:
        """Return the share on `track`."""
        return self.none if track is Track.NONE else float(getattr(self, track.value))

    @property
    def uniform(self) -> bool:
        """Whether it is the same on every track."""
        return self.stable == self.canary == self.baseline == self.none

    @classmethod
    def parse(cls, text: str, source: str) -> Ratios:
        """Return the ratios meant by ``"0.05"`` or ``"stable=0.05,canary=0.5"``.

        A single number is that of stable. What is not said: stable is 0.1, canary ten times stable (at most
        1), baseline as canary, ``none`` (no rollout is known) as stable.

        Args:
            text: may be empty.
            source: where it was given, for the message (``"OTEL_TRACES_SAMPLER_ARG"``).

        Raises:
            ConfigurationError: it is neither.
        """
        given: dict[str, float] = {}
        parts = [part.strip() for part in text.split(",") if part.strip()]
        for part in parts:
            name, equals, value = (word.strip() for word in part.rpartition("="))
            track = name.lower() if equals else Track.STABLE.value
            known = track in {_NO_TRACK, *(t.value for t in Track if t)}
            ratio = _ratio(value)
            if not known or track in given or ratio is None or (not equals and len(parts) > 1):
                raise ConfigurationError(
                    f"{source} is {text!r}; use one ratio from 0 to 1 for stable (a canary gets ten times as "
                    "much), or ratios by track: 'stable=0.05,canary=0.5', also baseline and none"
                )
            given[track] = ratio
        stable = given.get(Track.STABLE.value, DEFAULT_SAMPLING_RATIO)
        canary = given.get(Track.CANARY.value, min(1.0, stable * CANARY_FACTOR))
        return cls(stable, canary, given.get(Track.BASELINE.value, canary), given.get(_NO_TRACK, stable))


def _ratio(text: str) -> float | None:
    try:
        ratio = float(text)
    except ValueError:
        return None
    return ratio if 0.0 <= ratio <= 1.0 else None
