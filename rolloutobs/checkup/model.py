"""What a checkup finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["Finding", "Level"]


class Level(StrEnum):
    """How bad a finding is."""

    GOOD = "good"
    NOTE = "note"
    """Worth knowing; may be as it should be."""
    BAD = "bad"
    """Some answer about a version is wrong or missing because of it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    subject: str
    """One word or two: ``identity``, ``honorLabels``."""
    what: str
    """What was seen, with its values."""
    advice: str = ""
    """What to do; empty where there is nothing to do."""

    def to_mapping(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "level": self.level.value, "subject": self.subject, "what": self.what, "advice": self.advice,
        }  # fmt: skip
