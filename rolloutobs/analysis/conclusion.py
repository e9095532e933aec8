"""What an analysis comes to: its verdict, what a person decided, and what the bake after it has shown. Pure.

Belongs here: which decision holds, and the sentence that says so. How it looks is `report` and `page`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from rolloutobs.analysis.guardrails import Guarded, Guardrails, guarded
from rolloutobs.analysis.history import History
from rolloutobs.analysis.model import Decision, Verdict
from rolloutobs.analysis.wording import duration
from rolloutobs.analysis.words import count

__all__ = ["Override", "Report", "exit_code"]

_SIDES: Final = ("canary", "stable")


@dataclass(frozen=True, slots=True)
class Override:
    """A decision that was taken elsewhere, whatever the evidence says."""

    decision: Decision
    reason: str
    """In the person's own words, or in those of what decided."""
    by: str = "by hand"
    """Who decided, for the sentence."""
    who: str = ""
    """The person's name; empty: not said, or no person."""
    is_person: bool = True
    """Whether a person decided, whom guard rails do not stop."""


@dataclass(frozen=True, slots=True)
class Report:
    """All there is to tell about one analysis."""

    app: str
    began: float
    """Unix seconds."""
    ended: float
    verdict: Verdict
    history: History
    notes: Sequence[str] = field(default_factory=tuple)
    """Sentences about what could not be read or compared."""
    interrupted: bool = False
    """Stopped from outside before it was decided."""
    override: Override | None = None
    """``None``: the evidence decides."""
    bake: Report | None = None
    """What was seen after the promotion: the new version as the canary, the old pods that were kept as
    stable. ``None``: not promoted, or nobody asked for a bake."""
    rails: Guardrails = field(default_factory=Guardrails)
    """Of the workload; those of a bake are the rollout's."""

    @property
    def decision(self) -> Decision:
        """What is to be done: the verdict's decision, unless a person, the bake or a guard rail decided
        otherwise.

        A bake that was stopped, or that had nothing to compare, holds: what was promoted is not proven.
        """
        return self._guarded.decision

    @property
    def reason(self) -> str:
        """Why, in one sentence or two; neither an override nor a bake hides what the evidence says."""
        return self._guarded.reason

    @property
    def is_page(self) -> bool:
        """Whether a person has to come: a rollback is called for that only a person may do."""
        return self._guarded.is_page

    @property
    def _guarded(self) -> Guarded:
        if self.bake is not None:
            return guarded(self.bake.as_bake(), _baked(self, self.bake), self.rails)
        override = self.override
        reason = self._reason_before_bake()
        if override is not None and override.is_person:
            return Guarded(override.decision, reason)
        return guarded(override.decision if override else self.verdict.decision, reason, self.rails)

    @property
    def decided_by(self) -> str:
        """Name of the signal that decided, as `Verdict.decided_by`."""
        return (self.bake or self).verdict.decided_by

    def _reason_before_bake(self) -> str:
        if self.override is None:
            return self.verdict.reason
        override = self.override
        told = f"{override.decision.name} {override.by} ({override.reason})"
        return f"{told}; the evidence by then: {self.verdict.reason}"

    def as_bake(self) -> Decision:
        """Return what this report means where it is the one of a bake."""
        if self.verdict.decision is Decision.ROLLBACK:
            return Decision.ROLLBACK
        return Decision.HOLD if self.interrupted or not self._has_compared() else Decision.PROMOTE

    def _has_compared(self) -> bool:
        seen = self.verdict.requests
        return seen.canary_exposures > 0 and seen.stable_exposures > 0


def _baked(report: Report, bake: Report) -> str:
    """Return the sentences about a promotion and the bake after it."""
    promoted = f"promoted after {duration(max(report.verdict.at, 0.0))}"
    took = duration(max(bake.ended - bake.began, 0.0))
    now, before = bake.verdict, report.verdict
    versions = (
        now.canary_version or before.canary_version,
        now.stable_version or before.stable_version,
    )
    canary, stable = (f"{word} {version}".strip() for word, version in zip(_SIDES, versions, strict=True))
    requests = bake.verdict.requests
    seen = (
        f"{count(requests.canary_exposures)} requests, beside {count(requests.stable_exposures)} of {stable}"
    )
    match bake.as_bake():
        case Decision.ROLLBACK:
            return f"{bake.verdict.reason} That was in the bake: it had been {promoted}."
        case Decision.PROMOTE:
            return f"{report._reason_before_bake()} Nothing against it in a bake of {took}: it had {seen}."
        case Decision.HOLD if bake.interrupted:
            return (
                f"HOLD: {canary} was {promoted}, and the bake was stopped after {took}. By then nothing was "
                f"against it: it had {seen}."
            )
        case Decision.HOLD:
            return (
                f"HOLD: {canary} was {promoted}, but the bake of {took} compared nothing (it had {seen}): "
                "keep pods of the old version, with a part of the traffic."
            )
        case _ as never:
            assert_never(never)


def exit_code(decision: Decision) -> int:
    """Return the exit code of a decision: 0 promote, 1 rollback, 3 hold (2 is for usage and
    infrastructure)."""
    match decision:
        case Decision.PROMOTE:
            return 0
        case Decision.ROLLBACK:
            return 1
        case Decision.HOLD:
            return 3
        case _:
            assert_never(decision)
