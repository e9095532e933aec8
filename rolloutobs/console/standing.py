"""What holds for a workload now, and what each caller is told. Pure.

The rule above all others: what is not known is never a pass, and no reason to roll back either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, assert_never

from rolloutobs.analysis.model import Decision
from rolloutobs.analysis.report import Report
from rolloutobs.analysis.wording import duration
from rolloutobs.console.model import GONE_SECONDS, Overriding, Seen, Status

__all__ = ["WORDS", "Answer", "Hook", "Standing", "answer", "standing"]

WORDS: Final = {Decision.PROMOTE: "pass", Decision.HOLD: "inconclusive", Decision.ROLLBACK: "fail"}
"""The decision as `Outcome` calls it, for Argo Rollouts."""

_OK: Final = 200
_NO: Final = 409
"""Flagger takes everything up to 202 for a yes, whatever is said."""
_CANNOT_LOOK: Final = 503


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds now."""

    decision: Decision
    sentence: str
    evidence: Decision | None = None
    """What the evidence alone says; ``None``: nothing is known."""
    trouble: str = ""
    """Why nothing can be said; empty: something can."""
    is_page: bool = False
    """Whether a person has to come: a rollback is called for that is marked as unsafe."""
    report: Report | None = None
    """The last one, with guard rails and with what a person decided; ``None``: there is none."""

    @property
    def word(self) -> str:
        """Return what makes it another one for who is told; empty: nothing is known, which changes nothing of
        what was told before."""
        return f"{self.decision}/{self.evidence}" if self.evidence else ""


class Hook(StrEnum):
    """Types of Flagger's webhooks. Source: https://docs.flagger.app/usage/webhooks"""

    CONFIRM_ROLLOUT = "confirm-rollout"
    PRE_ROLLOUT = "pre-rollout"
    ROLLOUT = "rollout"
    CONFIRM_TRAFFIC_INCREASE = "confirm-traffic-increase"
    CONFIRM_PROMOTION = "confirm-promotion"
    POST_ROLLOUT = "post-rollout"
    ROLLBACK = "rollback"
    EVENT = "event"

    @property
    def is_of_a_rollout(self) -> bool:
        """Whether its checksum is that of the rollout under way; an event may still be the last one's."""
        return self not in (Hook.EVENT, Hook.POST_ROLLOUT)


@dataclass(frozen=True, slots=True)
class Answer:
    """What Flagger is told."""

    status: int
    text: str
    """For its events and alerts, which show it."""
    is_first_step: bool = False
    """Whether the canary is given its first traffic by this answer."""


def standing(status: Status, now: float) -> Standing:
    """Return what holds for a workload at `now`."""
    overriding = _overriding(status, now)
    trouble = _trouble(status, now)
    seen = status.seen
    if seen is None or trouble:
        phase = status.rollout.phase
        why = f"the rollout is over ({phase})" if phase else "the first look at this rollout is not over yet"
        return _unknown(trouble or why, trouble, overriding)
    report = replace(
        seen.report,
        rails=status.rails,
        override=overriding.override if overriding else None,
    )
    evidence = report.verdict.decision
    over = _over(status, seen, report, now)
    if over:
        text = f"HOLD: {over}. The last look at it said: {report.reason}"
        return Standing(Decision.HOLD, text, evidence, report=report)
    return Standing(report.decision, report.reason, evidence, is_page=report.is_page, report=report)


def _over(status: Status, seen: Seen, report: Report, now: float) -> str:
    """Return why what the last look at the canary said holds no longer; empty: it does."""
    if status.rollout.phase:
        return f"the rollout is over ({status.rollout.phase})"
    if seen.has_canary:
        return ""
    if report.decision is Decision.PROMOTE:
        return "there is no canary now"
    gone = 0.0 if seen.gone_since is None else now - seen.gone_since
    # One that has died with its share of the traffic is still to be rolled back.
    if (
        report.override
        or seen.weight
        or report.verdict.decision is not Decision.ROLLBACK
        or gone < GONE_SECONDS
    ):
        return ""
    return f"there has been no canary for {duration(gone)}"


def _overriding(status: Status, now: float) -> Overriding | None:
    found = status.rollout.overriding
    return None if found is None or now >= found.until or status.rollout.phase else found


def _unknown(why: str, trouble: str, overriding: Overriding | None) -> Standing:
    """Return what holds where nothing is known: hold, unless a person decided otherwise."""
    sentence = f"HOLD: {why}."
    if overriding is None:
        return Standing(Decision.HOLD, sentence, trouble=trouble)
    word = overriding.decision
    told = f"{word.name} by {overriding.who} ({overriding.reason}); nothing is known: {why}."
    return Standing(word, told, trouble=trouble)


def _trouble(status: Status, now: float) -> str:
    if status.trouble:
        return status.trouble
    if status.answered is None:
        why = "; ".join(status.seen.failed[:3]) if status.seen else ""
        return "nothing has been read yet" + (f" ({why})" if why else "")
    age = now - status.answered
    if age <= status.workload.patience_seconds:
        return ""
    why = "; ".join(status.seen.failed[:3]) if status.seen else ""
    return f"the last finished look was {duration(age)} ago" + (f" ({why})" if why else "")


# --- Flagger ----------------------------------------------------------------------------------------------


def answer(hook: Hook, status: Status, now: float) -> Answer:
    """Return the answer to one of Flagger's webhooks.

    Args:
        hook: its type.
        status: of the workload, whose rollout is the one that the webhook speaks of.
        now: Unix time.
    """
    found = standing(status, now)
    no = Answer(_CANNOT_LOOK if found.trouble else _NO, found.sentence)
    yes = Answer(_OK, found.sentence)
    match hook:
        case Hook.ROLLBACK:
            # The one that is the other way round: 200 rolls back.
            return yes if found.decision is Decision.ROLLBACK else no
        case Hook.CONFIRM_PROMOTION:
            return yes if found.decision is Decision.PROMOTE else no
        case Hook.CONFIRM_TRAFFIC_INCREASE:
            if found.decision is Decision.PROMOTE:
                return yes
            may_begin = _overriding(status, now) is None and _may_begin(status, found)
            return _first_step(status) if may_begin else no
        case Hook.CONFIRM_ROLLOUT | Hook.PRE_ROLLOUT:
            # Before there is a canary: all that can be known is whether one could be judged.
            is_stopped = _overriding(status, now) is not None and found.decision is not Decision.PROMOTE
            return no if found.trouble or is_stopped else Answer(_OK, f"{hook.value}: stable is being read")
        case Hook.ROLLOUT:
            # Each refusal counts towards Flagger's own rollback: only a proven one may refuse. The hooks that
            # wait are confirm-traffic-increase and confirm-promotion.
            return Answer(_NO, found.sentence) if found.decision is Decision.ROLLBACK else yes
        case Hook.POST_ROLLOUT | Hook.EVENT:
            return Answer(_OK, "noted")
        case _ as never:
            assert_never(never)


def _may_begin(status: Status, found: Standing) -> bool:
    """Tell whether the canary may get its first traffic: once in a rollout, or while its weight is known to
    be zero."""
    seen = status.seen
    if found.trouble or seen is None or status.rollout.phase or found.evidence is Decision.ROLLBACK:
        return False
    if seen.report.verdict.requests.canary_exposures > 0:
        return False
    return status.rollout.first_step is None or seen.weight == 0


def _first_step(status: Status) -> Answer:
    text = f"the canary of {status.workload.name} may have its first traffic; from then on there is evidence"
    return Answer(_OK, text, is_first_step=True)
