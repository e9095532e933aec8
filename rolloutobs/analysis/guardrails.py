"""Guard rails: what a workload's owners forbid to do without a person. Pure.

Belongs here: what the annotations mean, and what becomes of a decision under them, for whoever acts on one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from rolloutobs import semconv
from rolloutobs.analysis.model import Decision
from rolloutobs.errors import ConfigurationError

__all__ = ["Guarded", "Guardrails", "Rollback", "guarded"]


class Rollback(StrEnum):
    """Whether the version before can take over again."""

    SAFE = "safe"
    UNSAFE = "unsafe"
    """It could not read what the new one has written: a migrated table, messages of another format."""


@dataclass(frozen=True, slots=True)
class Guardrails:
    """What is known of a workload's owners and their wishes; the default is nothing."""

    rollback: Rollback = Rollback.SAFE
    why: str = ""
    """Why rolling back is unsafe, in the owners' words."""
    owner: str = ""
    """Who is told, and paged; empty: nobody has said."""

    @classmethod
    def from_annotations(cls, annotations: Mapping[str, str]) -> Guardrails:
        """Return what a workload's annotations say; those that are not about guard rails are left alone.

        Raises:
            ConfigurationError: ``rolloutobs.io/rollback`` is neither ``safe`` nor ``unsafe``.
        """
        rollback, why = parsed(
            annotations.get(semconv.ANNOTATION_ROLLBACK, Rollback.SAFE), semconv.ANNOTATION_ROLLBACK
        )
        return cls(rollback, why, annotations.get(semconv.ANNOTATION_OWNER, "").strip())

    @classmethod
    def unread(cls, why: str, owner: str = "") -> Guardrails:
        """Return what holds where the annotations cannot be read, for those who cannot stop at an error: a
        rail that nobody can see may be there."""
        return cls(Rollback.UNSAFE, why, owner)

    def over(self, below: Guardrails) -> Guardrails:
        """Return what both say: the more careful one about rolling back, this one's owner if it has one."""
        careful = self if self.rollback is Rollback.UNSAFE else below
        return Guardrails(careful.rollback, careful.why, self.owner or below.owner)


@dataclass(frozen=True, slots=True)
class Guarded:
    """What is to be done about a decision."""

    decision: Decision
    reason: str
    is_page: bool = False
    """Whether a person has to come now: it is held, and only a person can say what to do instead."""


_SOMEBODY: Final = "a person"


def guarded(decision: Decision, reason: str, rails: Guardrails) -> Guarded:
    """Return what becomes of `decision` and its sentence: a rollback that is unsafe is held, and pages.

    It does not become a promotion, however long nobody comes. A person's own decision is not to be asked
    about here: the rails stop machines.
    """
    if decision is not Decision.ROLLBACK or rails.rollback is Rollback.SAFE:
        return Guarded(decision, reason)
    why = f" ({rails.why})" if rails.why else ""
    return Guarded(
        Decision.HOLD,
        f"HOLD, and page {rails.owner or _SOMEBODY}: rolling back is marked as unsafe{why}, so a person has "
        f"to decide. The evidence: {reason}",
        is_page=True,
    )


def parsed(text: str, name: str) -> tuple[Rollback, str]:
    """Return what ``safe``, ``unsafe`` or ``unsafe: why`` says.

    Args:
        text: the value.
        name: what it is the value of, for the message.

    Raises:
        ConfigurationError: it is none of these.
    """
    word, _, why = text.partition(":")
    try:
        return Rollback(word.strip()), why.strip()
    except ValueError:
        raise ConfigurationError(f"{name} is {text!r}; use 'safe', 'unsafe' or 'unsafe: why'") from None
