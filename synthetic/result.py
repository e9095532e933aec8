"""What a run and a pair of runs say: outcomes, and how they become an exit code.

Belongs here: frozen results and the pure rules between them. The pair, not the run, is the unit of everything
that is concluded: both tracks walked the same journey at the same moment on the same machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import assert_never

from rolloutobs.identity import UNKNOWN_VERSION, Track
from synthetic.journey import StepResult
from synthetic.target import Proof, Proven, Target
from synthetic.vitals import PageVitals

__all__ = ["CheckOutcome", "ExitCode", "Fault", "Pair", "PairVerdict", "TrackRun", "exit_code", "outcome_of"]


class CheckOutcome(StrEnum):
    """What one run of a journey, or one step, came to."""

    PASS = "pass"  # noqa: S105 - a word, not a secret
    FAIL = "fail"
    """The app under test did not do what the journey expects."""
    INCONCLUSIVE = "inconclusive"
    """The answers do not prove that the wanted version gave them: this says nothing about it."""
    ERROR = "error"
    """The check could not run: its browser died, its target's name does not resolve, nothing answered
    anywhere."""


class Fault(StrEnum):
    """Why a journey ended early. ``NONE``: it did not."""

    NONE = "none"
    PRODUCT = "product"
    """An assertion, an error status, an element that never came."""
    UNREACHABLE = "unreachable"
    """Refused, reset or timed out on the way: the product's, unless the other track is not reachable
    either."""
    HARNESS = "harness"
    """The browser died or the target's name does not resolve: the check's own."""


class PairVerdict(StrEnum):
    """What one pair says about the canary."""

    PASS = "pass"  # noqa: S105 - a word, not a secret
    """The canary passed, whatever stable did."""
    FLAKY = "passed on retry"
    """Something failed, and when both tracks walked once more, the canary passed."""
    CANARY_FAILED = "canary failed"
    """Discordant: stable passed the same journey at the same moment."""
    BOTH_FAILED = "both failed"
    """A shared dependency, the network, or the journey itself: nobody is blamed."""
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class ExitCode(IntEnum):
    """Exit codes of the design."""

    PASS = 0
    PRODUCT = 1
    INFRASTRUCTURE = 2
    INCONCLUSIVE = 3


@dataclass(frozen=True, slots=True)
class TrackRun:
    """One walk of the journey against one target."""

    target: Target
    outcome: CheckOutcome
    seconds: float
    steps: tuple[StepResult, ...]
    proof: Proof
    fault: Fault
    error: str
    """What ended the journey; empty when it was walked to its end."""
    trace_id: str
    """Every request of the run carries this trace: it leads to the server's spans."""
    ended: float = 0.0
    """Unix seconds."""
    artifacts: str = ""
    """Folder with what the failed run left; empty when nothing was kept."""
    page_error: str = ""
    """The first error that the page did not catch; empty when there was none."""
    pages: tuple[PageVitals, ...] = ()
    """Web vitals of each page that was opened, in that order; none without a browser."""

    @property
    def version(self) -> str:
        """The metric label: the proven version, else the expected one, else ``"unknown"``."""
        if self.proof.proven is Proven.RIGHT and self.proof.version:
            return self.proof.version
        return self.target.version or UNKNOWN_VERSION


@dataclass(frozen=True, slots=True)
class Pair:
    """The same journey against both tracks at the same moment."""

    started: float
    """Unix seconds."""
    first: Track
    """The track that started first, drawn at random for each pair."""
    stable: TrackRun
    canary: TrackRun
    check: str = ""
    """The journey's name."""
    retries: int = 0
    """How often both tracks walked once more because of a failure. The runs here are the first ones, and so
    is all evidence: who is asked until he passes, passes."""
    passed_on_retry: bool = False

    @property
    def runs(self) -> tuple[TrackRun, TrackRun]:
        """Stable, then canary."""
        return self.stable, self.canary

    @property
    def verdict(self) -> PairVerdict:
        """What the pair says about the canary, retries included."""
        return PairVerdict.FLAKY if self.passed_on_retry else self.at_first

    @property
    def at_first(self) -> PairVerdict:
        """What it said before any retry."""
        stable, canary = self.published
        if CheckOutcome.ERROR in (stable, canary):
            return PairVerdict.ERROR
        if CheckOutcome.INCONCLUSIVE in (stable, canary):
            return PairVerdict.INCONCLUSIVE
        if canary is CheckOutcome.PASS:
            return PairVerdict.PASS
        return PairVerdict.CANARY_FAILED if stable is CheckOutcome.PASS else PairVerdict.BOTH_FAILED

    @property
    def published(self) -> tuple[CheckOutcome, CheckOutcome]:
        """Outcomes of stable and canary as the metrics count them.

        A pair with one void side is void on both, so that passes plus failures of both tracks stay equal in
        number: sequential McNemar needs it. Nothing reachable on either side is infrastructure, not two
        failures.
        """
        own = (self.stable.outcome, self.canary.outcome)
        nothing_answers = all(run.fault is Fault.UNREACHABLE for run in self.runs)
        for void in (CheckOutcome.ERROR, CheckOutcome.INCONCLUSIVE):
            if void in own:
                return void, void
        return (CheckOutcome.ERROR, CheckOutcome.ERROR) if nothing_answers else own


def outcome_of(fault: Fault, proof: Proof, steps: Iterable[StepResult]) -> CheckOutcome:
    """Return the outcome of one run. Never a pass without proof, nor with a failed step that the journey
    swallowed."""
    if fault is Fault.HARNESS:
        return CheckOutcome.ERROR
    failed = fault is not Fault.NONE or any(step.error for step in steps)
    match proof.proven:
        case Proven.RIGHT:
            return CheckOutcome.FAIL if failed else CheckOutcome.PASS
        case Proven.SILENT:
            return CheckOutcome.FAIL if failed else CheckOutcome.INCONCLUSIVE
        case Proven.WRONG | Proven.UNKNOWN:
            return CheckOutcome.INCONCLUSIVE
        case other:
            assert_never(other)


def exit_code(verdicts: Iterable[PairVerdict], *, needs_evidence: bool = False) -> ExitCode:
    """Return the exit code of a sequence of pairs: the canary's failure counts first, then what could not be
    said.

    No pair at all is infrastructure: a check that never ran has not passed.

    Args:
        verdicts: what the pairs say, in any order.
        needs_evidence: whether the canary's failures are not yet more than chance would bring, and that is
            what was asked for; they are inconclusive then.
    """
    seen = set(verdicts)
    if PairVerdict.CANARY_FAILED in seen and not needs_evidence:
        return ExitCode.PRODUCT
    if not seen or seen & {PairVerdict.BOTH_FAILED, PairVerdict.ERROR}:
        return ExitCode.INFRASTRUCTURE
    open_ones = seen & {PairVerdict.INCONCLUSIVE, PairVerdict.CANARY_FAILED}
    return ExitCode.INCONCLUSIVE if open_ones else ExitCode.PASS
