"""The engine: ticks in, verdicts out.

Belongs here: what involves more than one signal, and the order of reasons. Pure: time is the ticks' own.

    engine = Engine(Policy())
    for tick in stable_only: engine.prehistory(tick)
    for tick in ticks: verdict = engine.observe(tick)
    saved = json.dumps(engine.state()); engine = Engine.resumed(policy, json.loads(saved))
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Any

import numpy as np

from rolloutobs.analysis import holds
from rolloutobs.analysis.evidence import log_mean_exp, log_mix
from rolloutobs.analysis.forecast import horizon
from rolloutobs.analysis.judge import SignalJudge
from rolloutobs.analysis.model import Decision, MetricVerdict, Missing, PairCount, Tick, Verdict
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.resources import ResourceWatch
from rolloutobs.analysis.share import ShareTest
from rolloutobs.analysis.state import FORMAT, Keeper, check
from rolloutobs.analysis.summary import guard_share, headline, metric_verdict, missing, pair, suspects
from rolloutobs.analysis.wording import Tracks, duration, guarded, needs, promoted, starved, within, worse
from rolloutobs.errors import StateError

__all__ = ["Engine"]

_SHARE = "share"
"""What `Verdict.decided_by` says of the share test."""

_KEPT = (
    "_aside",
    "_changed_at",
    "_end",
    "_final",
    "_gap",
    "_past_fired",
    "_resources",
    "_share",
    "_stale",
    "_tracks",
    "_weight",
)
"""What the engine itself remembers; the rest of it follows from the policy and the judges."""


class Engine:
    """Decides promote, hold or rollback, at any look, with bounds on being wrong (`docs/verdict.md`).

    A rollback stays a rollback, with the sentence that it was decided with. A promotion speaks of what was
    seen so far.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self._judges = {each.name: SignalJudge(each, self.policy) for each in self.policy.compared}
        self._tracks = Tracks()
        self._end = float("-inf")
        self._changed_at = 0.0
        self._stale: frozenset[str] = frozenset()
        self._past_fired: dict[str, float] = {}
        self._share = ShareTest(self.policy)
        self._resources = ResourceWatch(self.policy)
        self._gap = False
        self._aside = 0.0
        self._weight: float | None = None
        self._final: tuple[str, str] | None = None
        self._metrics: tuple[MetricVerdict, ...] | None = None
        self._missing: tuple[Missing, ...] = ()

    def prehistory(self, tick: Tick) -> None:
        """Take stable's history from before the canary took traffic, oldest first; its canary counts are not
        used.

        Raises:
            ValueError: the tick begins before the last one ended.
        """
        self._advance(tick)
        self._metrics = None
        for judge in self._judges.values():
            judge.prehistory(tick)

    def observe(self, tick: Tick) -> Verdict:
        """Take the next tick and return the verdict after it; a tick that ends at or before 0 is pre-history.

        Raises:
            ValueError: the tick begins before the last one ended.
        """
        self.update(tick)
        return self.verdict()

    def update(self, tick: Tick) -> Decision:
        """Take the next tick and return the decision alone: `observe` without its explanation.

        Raises:
            ValueError: the tick begins before the last one ended.
        """
        if tick.end <= 0.0:
            self.prehistory(tick)
            return Decision.HOLD
        self._advance(tick)
        self._weigh(tick)
        changed = {name: judge.observe(tick) for name, judge in self._judges.items()}
        if changed[self.policy.traffic]:
            self._compare_share()
        if any(changed.values()):
            self._metrics, self._changed_at = None, max(self._end, 0.0)
            self._look_back()
            if self._final is None:
                self._final = self._rollback()
        return self.decision

    @property
    def decision(self) -> Decision:
        """The decision after the last tick."""
        if self._final is not None:
            return Decision.ROLLBACK
        waits = self._end < self.policy.minimum_seconds or self._unproven() or self._holds()
        return Decision.HOLD if waits else Decision.PROMOTE

    def verdict(self) -> Verdict:
        """Return the decision after the last tick with everything that it rests on."""
        at = max(self._end, 0.0)
        if self._metrics is None:
            self._metrics = tuple(
                metric_verdict(judge, self.policy) for judge in self._judges.values() if _is_listed(judge)
            )
            now = self._changed_at
            lacks = (missing(self._judges[name], self.policy, now) for name in self._unproven())
            self._missing = tuple(each for each in lacks if each is not None)
        decision, held = self.decision, tuple(self._holds())
        return Verdict(
            decision=decision,
            reason=self._reason(decision, held),
            at=at,
            decided_by=self._final[0] if self._final else "",
            metrics=self._metrics,
            requests=self._requests(),
            missing=self._missing,
            holds=held,
            canary_version=self._tracks.canary_version,
            stable_version=self._tracks.stable_version,
            share=self._share.verdict(),
            suspects=suspects(self._judges.values()),
            resources=self._resources.verdicts(),
        )

    # --- saved and resumed --------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return everything that later verdicts depend on, as plain data that JSON can hold.

        It is the same for the same ticks, holds the policy that it belongs to, and does not grow with time.
        Its size is that of the confidence sequences: about 1.5 MB for 50 routes and 14 latency bounds.
        """
        keeper = Keeper(self.policy)
        return {
            "format": FORMAT,
            "policy": self.policy.to_mapping(),
            "engine": {name: keeper.kept(getattr(self, name)) for name in _KEPT},
            "judges": {name: keeper.kept(judge) for name, judge in self._judges.items()},
        }

    @classmethod
    def resumed(cls, policy: Policy, state: Mapping[str, Any]) -> Engine:
        """Return the engine that `state` was taken from: what it says later is what that one would have said.

        Args:
            policy: the one of the engine that was saved; decisions under two policies cannot be added up.
            state: what `state` returned, also after a round trip through JSON.

        Raises:
            StateError: the state is of another policy or format, or damaged.
        """
        check(policy, state)
        engine, keeper = cls(policy), Keeper(policy)
        try:
            for name in _KEPT:
                setattr(engine, name, keeper.read(state["engine"][name]))
            for name, judge in engine._judges.items():
                keeper.refill(judge, state["judges"][name])
        except (KeyError, TypeError) as error:
            raise StateError(f"the state lacks {error}; it is damaged, begin without it") from None
        return engine

    def _advance(self, tick: Tick) -> None:
        if tick.start < self._end - 1e-6 or tick.end <= tick.start:
            raise ValueError(
                f"a tick from {tick.start} to {tick.end} s does not follow the last one, until {self._end} s"
            )
        self._end = tick.end
        self._stale = tick.stale
        self._resources.observe(tick.end, tick.uses)
        self._tracks = Tracks(
            tick.canary_version or self._tracks.canary_version,
            tick.stable_version or self._tracks.stable_version,
        )

    # --- rollback -----------------------------------------------------------------------------------------

    def _rollback(self) -> tuple[str, str] | None:
        """Return the signal that decides a rollback and the sentence, or ``None``.

        Ville's inequality on a weighted mean of e-values, which is one under any dependence between the
        signals (Vovk and Wang 2021): P(ever) <= alpha for a canary inside its tolerances.
        """
        weighted: dict[tuple[str, bool], float] = {}
        for name, weight in self.policy.rollback_weights.items():
            judge = self._judges[name]
            weighted[name, False] = log(weight) + judge.nats
        for name, judge in self._judges.items():
            if judge.guard_nats is not None:
                weighted[name, True] = log(guard_share(self.policy)) + judge.guard_nats
        values = np.array(list(weighted.values()))
        # Written so that a NaN decides nothing.
        if not weighted or not float(log_mix(values, np.ones(len(values)))) >= -log(self.policy.alpha):
            return self._starved()
        (name, by_guard), _ = max(weighted.items(), key=lambda item: item[1])
        return name, f"ROLLBACK after {duration(self._end)}: {self._accuse(name, by_guard)}."

    def _starved(self) -> tuple[str, str] | None:
        if not self._share.rolls_back(self._end):
            return None
        return _SHARE, f"ROLLBACK after {duration(self._end)}: {self._starvation()}."

    def _starvation(self) -> str:
        share, seconds = self._share.verdict(), self.policy.share.silence_seconds
        if share is None:
            raise RuntimeError("no weight is known, so nothing was tested")
        return starved(share, self._share.received, self._tracks, min(seconds, self._end))

    def _weigh(self, tick: Tick) -> None:
        """Note the lowest weight of the interval under way, and whether a target was silent in it."""
        self._gap = self._gap or bool(tick.stale)
        self._aside += tick.aside.get(self.policy.traffic, 0.0)
        if tick.weight is not None:
            self._weight = tick.weight if self._weight is None else min(self._weight, tick.weight)

    def _compare_share(self) -> None:
        """Use the interval that was closed; one in which a target did not answer is no silence."""
        seconds, canary, stable = self._judges[self.policy.traffic].rates[-1]
        if not self._gap:
            self._share.observe(self._end, seconds, (canary, stable + self._aside), self._weight)
        self._gap, self._weight, self._aside = False, None, 0.0

    def _accuse(self, name: str, by_guard: bool) -> str:
        judge = self._judges[name]
        if by_guard:
            total = pair(judge.seen, slice(None), 0)
            return guarded(judge.signal, total, self._tracks, self.policy.alpha)
        return worse(judge.signal, headline(judge, self.policy), self._tracks)

    # --- promotion ----------------------------------------------------------------------------------------

    def _unproven(self) -> list[str]:
        """Return the required signals that are not proven."""
        threshold = -log(self.policy.promote_alpha)
        return [
            n for n, j in self._judges.items() if j.signal.is_required and not j.promotion_nats >= threshold
        ]

    def _holds(self) -> list[str]:
        """Return the sentences of what holds promotion apart from missing evidence, the gravest first."""
        judges = tuple(self._judges.values())
        fired = {
            name: at
            for name, at in self._past_fired.items()
            if self._end <= at + self.policy.past.hold_seconds
        }
        return [
            *holds.stale(self._stale),
            *holds.silence(self._judges[self.policy.traffic], self._tracks),
            *([self._starvation()] if self._share.holds() else []),
            *(holds.dependency(self._judges[name], judges, self.policy, self._tracks) for name in fired),
            *holds.limits(judges, self.policy, self._tracks),
            *holds.unmatched(judges, self.policy, self._tracks),
            *holds.suspicions(judges, self.policy, self._tracks),
            *holds.resources(self._resources.verdicts(), self.policy, self._tracks),
            *holds.blindness(judges, self.policy),
        ]

    def _look_back(self) -> None:
        """Compare stable with its own past, which holds promotion for a while when it is worse."""
        nats = {
            name: judge.past_nats
            for name, judge in self._judges.items()
            if judge.signal.past and judge.signal.decides
        }
        known = {name: value for name, value in nats.items() if value is not None}
        if not known or self._end < self.policy.past.after_seconds:
            return
        if float(log_mean_exp(np.array(list(known.values())))) >= log(self.policy.past.evidence):
            self._past_fired = {max(known, key=lambda name: known[name]): self._end}

    # --- words --------------------------------------------------------------------------------------------

    def _reason(self, decision: Decision, held: tuple[str, ...]) -> str:
        if self._final is not None:
            return self._final[1]
        after = f"{decision.value.upper()} after {duration(max(self._end, 0.0))}: "
        if decision is Decision.PROMOTE:
            proven = {n: headline(j, self.policy) for n, j in self._judges.items() if j.signal.is_required}
            return after + promoted(self.policy, proven, self._tracks) + "."
        parts = list(held[:1])
        for lacking in self._named_missing():
            judge = self._judges[lacking.signal]
            seen = pair(judge.seen, slice(None), 0)
            deadline = self.policy.deadline_seconds
            when = within(horizon(deadline, self._end), deadline)
            parts.append(needs(lacking, judge.signal, self._tracks, seen, when))
        if not parts:
            parts.append(
                f"nothing speaks against {self._tracks.canary}; promotion waits for the minimum time, "
                f"{duration(self.policy.minimum_seconds)}"
            )
        return after + ". ".join(_sentence(part, first=i == 0) for i, part in enumerate(parts)) + "."

    def _named_missing(self) -> list[Missing]:
        """Return the missing proofs to name: the slowest of those under way, and one that cannot begin."""
        under_way = [each for each in self._missing if each.nats is not None]
        unseen = [each for each in self._missing if each.nats is None]
        return [max(under_way, key=_wait), *unseen[:1]] if under_way else unseen[:1]

    def _requests(self) -> PairCount:
        return pair(self._judges[self.policy.traffic].seen, slice(None), 0)


def _is_listed(judge: SignalJudge) -> bool:
    """Tell whether a signal is in the verdict: signed views, of which most sites have none, once seen."""
    return not judge.signal.is_signed or bool(judge.seen.canary.any() or judge.seen.stable.any())


def _wait(missing: Missing) -> float:
    return float("inf") if missing.eta_seconds is None else missing.eta_seconds


def _sentence(text: str, *, first: bool) -> str:
    return text if first else text[:1].upper() + text[1:]
