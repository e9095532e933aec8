"""What is watched and what is known of it. Pure: times are Unix seconds that somebody else has read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from rolloutobs.analysis.conclusion import Override
from rolloutobs.analysis.guardrails import Guardrails
from rolloutobs.analysis.model import Decision
from rolloutobs.analysis.report import Report
from rolloutobs.errors import StateError

__all__ = [
    "GONE_SECONDS",
    "Follow",
    "Happening",
    "Key",
    "Overriding",
    "Rollout",
    "RolloutOverError",
    "Seen",
    "Status",
    "Workload",
]

Key = tuple[str, str]
"""Namespace and name."""

GONE_SECONDS: Final = 300.0
"""A canary that was away for so long was taken away: Prometheus itself shows a series for so long after its
last sample. Source: https://prometheus.io/docs/prometheus/latest/querying/basics/#staleness"""


class RolloutOverError(StateError):
    """What is watched is another rollout by now: the evidence so far says nothing about it.

    Attributes:
        since: Unix time at which the new one began, as far as that was seen.
        is_same: whether the rollout goes on, and only its evidence is lost.
    """

    def __init__(self, message: str, since: float, *, is_same: bool = False) -> None:
        super().__init__(message)
        self.since = since
        self.is_same = is_same


@dataclass(frozen=True, slots=True)
class Workload:
    """One entry of the file, or one that its defaults cover."""

    namespace: str
    name: str
    app: str
    """Which series are its own, by their label ``app``; empty: all that are read."""
    interval_seconds: float = 15.0
    rails: Guardrails = field(default_factory=Guardrails)
    """Who owns it, and whether it may be rolled back."""
    notify: str = ""
    """Where decisions are posted to; empty: nowhere."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """How it is watched: for whoever follows it, and compared with those of a file that has changed."""
    is_listed: bool = True
    """Whether it has an entry of its own."""

    @property
    def key(self) -> Key:
        """Return what it is found by."""
        return self.namespace, self.name

    @property
    def patience_seconds(self) -> float:
        """Return the age at which a look is too old to say anything: four intervals, and as long as a read
        may take."""
        return 4.0 * self.interval_seconds + 10.0


@dataclass(frozen=True, slots=True)
class Overriding:
    """What a person decided, for as long as the rollout lasts and at most until `until`."""

    decision: Decision
    reason: str
    who: str
    at: float
    until: float

    @property
    def override(self) -> Override:
        """Return it as a report has it."""
        return Override(self.decision, self.reason, f"by {self.who}", self.who)


@dataclass(frozen=True, slots=True)
class Rollout:
    """Which rollout evidence is of. Another one has another number, and begins with nothing."""

    number: int
    began: float
    why: str
    """How it was noticed, for the reader."""
    id: str = ""
    """By what the controller tells it from others: Flagger's checksum, Argo's hash of the pods' template.
    Empty: the controller has said nothing yet."""
    phase: str = ""
    """``Succeeded`` or ``Failed``, or whatever the controller called its end; empty: it goes on."""
    first_step: float | None = None
    """When the first share of the traffic was granted: to a canary of which nothing can be known before."""
    gone_since: float | None = None
    """Since when there has been no canary; ``None``: there is one, or there has not been any."""
    overriding: Overriding | None = None
    past: tuple[str, ...] = ()
    """Ids of the last few rollouts before it, oldest first."""
    judged: str = ""
    """What was last told of it: `Standing.word`. The same is told once, over restarts and while its source is
    away. Empty: nothing was."""
    traced: str = ""
    """The last decision that its trace has; empty: none."""
    traced_at: float | None = None
    """When that one was taken; the next one's span begins there."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One finished look."""

    at: float
    report: Report
    has_canary: bool
    """Whether the canary's series were there."""
    gone_since: float | None
    answered: bool
    """Whether the source was there to be read. One that is not leaves the last report as it is."""
    failed: tuple[str, ...] = ()
    """Why targets could not be read."""
    weight: float | None = None
    """Share of the traffic that is configured for the canary, where that is known."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of a workload's log."""

    at: float
    kind: str
    """``began``, ``verdict``, ``override``, ``flagger``, ``over``, ``trouble`` or ``settings``."""
    text: str
    by: str = ""
    """Who, where it was a person."""


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that an answer about one workload may depend on, at one moment."""

    workload: Workload
    rollout: Rollout
    seen: Seen | None = None
    """The last look at this rollout; ``None``: there has been none."""
    answered: float | None = None
    """When the source last answered, whichever rollout it was."""
    trouble: str = ""
    """Why it cannot be followed at all; empty: it can."""
    looks: int = 0
    failed_reads: int = 0
    """Targets that did not answer a look, added up."""
    happenings: tuple[Happening, ...] = ()
    """The latest, oldest first."""
    annotated: Guardrails = field(default_factory=Guardrails)
    """What is written on the workload in the cluster."""

    @property
    def rails(self) -> Guardrails:
        """Return the guard rails that hold: those of the file and those of the cluster, the more careful
        one."""
        return self.workload.rails.over(self.annotated)

    @property
    def is_idle(self) -> bool:
        """Whether there is no rollout to decide about, as far as was seen."""
        return bool(self.rollout.phase) or (self.seen is not None and not self.seen.has_canary)

    @property
    def quiet_since(self) -> float | None:
        """Return when something last happened to a workload that has no rollout; ``None``: it has one, or
        nobody knows."""
        if not self.is_idle or self.seen is None or not self.seen.answered or not self.happenings:
            return None
        return max(self.happenings[-1].at, self.rollout.began, self.rollout.gone_since or 0.0)


class Follow(Protocol):
    """Looks at one rollout of a workload for as long as it lasts."""

    def __call__(
        self, workload: Workload, rollout: Rollout, tell: Callable[[Seen], Rollout], stop: asyncio.Event
    ) -> Awaitable[None]:
        """Call `tell` after each look, which returns the rollout as it is then, until `stop` is set.

        Raises:
            RolloutOverError: it is another rollout by now.
            RolloutobsError: it cannot be followed.
        """
