"""Who a process is: service, version, track and environment.

Belongs here: the words and their validation. Reading the environment is `rolloutobs.settings`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from rolloutobs.errors import ConfigurationError

__all__ = ["UNKNOWN_VERSION", "Identity", "Track"]

UNKNOWN_VERSION = "unknown"


class Track(StrEnum):
    """The side of a rollout that a process serves. ``NONE`` is the empty string: no rollout is known."""

    STABLE = "stable"
    CANARY = "canary"
    BASELINE = "baseline"
    """The old version freshly started beside the canary: same age, same size, the fairest comparison."""
    NONE = ""

    @classmethod
    def parse(cls, text: str, source: str) -> Track:
        """Return the track named by `text`; surrounding blanks and case are ignored.

        Args:
            text: what was given; the empty string gives ``Track.NONE``.
            source: where it was given, for the message (``"ROLLOUTOBS_TRACK"``).

        Raises:
            ConfigurationError: `text` is not a track.
        """
        try:
            return cls(text.strip().lower())
        except ValueError:
            words = ", ".join(repr(t.value) for t in cls if t)
            raise ConfigurationError(f"{source} is {text!r}; use one of {words}, or leave it empty") from None


@dataclass(frozen=True, slots=True)
class Identity:
    """Service, version, track and environment of one process.

    ``service`` is OpenTelemetry's ``service.name`` and the metric label ``app``; ``version`` is
    ``service.version``. A version that nobody set is ``"unknown"``; a track that nobody set is
    ``Track.NONE``; an environment that nobody set is the empty string.
    """

    service: str
    version: str = UNKNOWN_VERSION
    track: Track = Track.NONE
    environment: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """The metric labels app, version and track; those with an empty value are left out."""
        pairs = {"app": self.service, "version": self.version, "track": self.track.value}
        return {name: value for name, value in pairs.items() if value}
