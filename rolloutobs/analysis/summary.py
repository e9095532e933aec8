"""From the state of a judge to what a verdict says of its signal.

Belongs here: which stratum and bound stand for a signal, their ratio and its bounds, and the forecast.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np

from rolloutobs.analysis.choice import Choice, Index
from rolloutobs.analysis.evidence import Clip, Counts
from rolloutobs.analysis.forecast import Prospect, forecast, horizon
from rolloutobs.analysis.judge import SignalJudge
from rolloutobs.analysis.model import (
    Evidence,
    MetricVerdict,
    Missing,
    Outcome,
    PairCount,
    Ratio,
    Side,
    Stratum,
    StratumVerdict,
    Suspect,
    Unjudged,
)
from rolloutobs.analysis.policy import Policy

__all__ = ["Headline", "headline", "metric_verdict", "missing", "pair", "suspects"]

_WORST = 5
_UNJUDGED = 20
_FALSE = 0.05
"""Expected share of the list of suspects that is on it by chance."""
_QUIET = 1.0
"""Nats below which no bucket bound stands out; the middle one of promotion's is shown then."""


@dataclass(frozen=True, slots=True)
class Headline:
    """The part of a signal's evidence that speaks loudest."""

    stratum: Stratum | None
    """``None``: all strata together."""
    bound: float | None
    """Of latency, in seconds."""
    total: PairCount
    ratio: Ratio
    channel: int
    """Channel of the frame."""


def pair(counts: Counts, rows: Index | slice, channel: int) -> PairCount:
    """Return the totals of some rows in one channel."""
    return PairCount(
        canary_events=round(float(counts.canary_events[rows, channel].sum())),
        canary_exposures=float(counts.canary[rows].sum()),
        stable_events=round(float(counts.stable_events[rows, channel].sum())),
        stable_exposures=float(counts.stable[rows].sum()),
    )


def headline(judge: SignalJudge, policy: Policy, least: float | None = None) -> Headline:
    """Return the stratum that carries the evidence, or all together where none stands out.

    A stratum is named when it has `least` nats by itself (``None``: it is significant), and explains what all
    together show, up to one clip.
    """
    least = -log(policy.alpha) if least is None else least
    choice, against = judge.choice, judge.against
    if choice is None or against is None:
        return Headline(None, None, _NOTHING, Ratio(None, None, None, 1.0 - policy.alpha), 0)
    strata = against.strata_nats[: len(choice.rows)]
    named = int(strata.argmax()) if len(strata) else -1
    if named < 0 or strata[named] < max(least, against.pool_nats - policy.clip_nats):
        named = -1
    position = _position(judge, choice, named)
    channel = int(choice.channels[position])
    rows = np.arange(len(judge.frame.strata)) if named < 0 else choice.rows[named : named + 1]
    return Headline(
        stratum=None if named < 0 else judge.frame.strata[int(choice.rows[named])],
        bound=judge.frame.bounds[channel] if judge.frame.bounds else None,
        total=pair(_total(judge), rows, channel),
        ratio=_ratio(judge, policy, named, position),
        channel=channel,
    )


def metric_verdict(judge: SignalJudge, policy: Policy) -> MetricVerdict:
    """Return what `judge`'s signal says now."""
    signal, shown = judge.signal, headline(judge, policy, log(policy.hold_evidence))
    evidence = _evidence(judge, policy)
    failed = any(e.side in (Side.ROLLBACK, Side.GUARD) and e.nats >= e.threshold for e in evidence)
    passed = any(e.side is Side.PROMOTE and e.nats >= e.threshold for e in evidence)
    outcome = Outcome.FAIL if failed else Outcome.PASS if passed else Outcome.INCONCLUSIVE
    rows = np.arange(len(judge.frame.strata))
    empty = judge.choice is None
    return MetricVerdict(
        signal=signal.name,
        title=signal.title,
        outcome=outcome,
        required=signal.is_required,
        total=_NOTHING if empty else pair(_total(judge), rows, shown.channel),
        evidence=evidence,
        ratio=shown.ratio if shown.stratum is None else _pool_ratio(judge, policy, shown.channel),
        worst=_worst(judge, policy, shown.channel),
        bound=shown.bound,
        bound_unit=signal.bound_unit,
        note=_note(judge),
        **_unjudged(judge, policy),
    )


def missing(judge: SignalJudge, policy: Policy, at: float) -> Missing | None:
    """Return what the proof of `judge`'s signal still needs at `at` seconds; ``None``: nothing."""
    signal, threshold = judge.signal, -log(policy.promote_alpha)
    choice, promotion, phi = judge.choice, judge.promotion, judge.phi
    if judge.promotion_nats >= threshold:
        return None
    if choice is None or promotion is None or phi is None:
        if at < (1.0 - 1e-3) * policy.tick_seconds:
            return Missing(signal.name, f"counts are compared every {policy.tick_seconds:g} s")
        warming = float(judge.seen.canary.sum())
        if warming > 0 and judge.seen.stable.sum() > 0 and policy.warmup_seconds > 0:
            return Missing(
                signal.name,
                f"the {warming:,.0f} {signal.unit} of the canary so far came while its pods warmed up "
                f"({policy.warmup_seconds:g} s) and are not compared for {signal.title}",
            )
        track = "the canary" if judge.seen.stable.sum() > 0 else "stable"
        return Missing(signal.name, f"no {signal.unit} of {track} were counted for {signal.title} yet")
    seconds = max(sum(each[0] for each in judge.rates), 1e-9)
    canary, stable = (sum(each[i] for each in judge.rates) / seconds for i in (1, 2))
    rates = np.array([_expected(judge, choice, int(position)) for position in choice.promotion])
    prospect = Prospect(
        log=promotion.log,
        null=judge.null_promotion,
        threshold=threshold,
        clip=Clip(policy.clip_nats, policy.clip_refill),
        canary_rates=rates[:, 0],
        stable_rates=rates[:, 1],
        phi=phi.for_promotion[choice.channels[choice.promotion]],
    )
    share = canary / max(canary + stable, 1e-9)
    found = forecast(prospect, canary + stable, share, horizon(policy.deadline_seconds, at).seconds)
    return Missing(
        signal.name,
        f"{signal.title} are not proven to be within the margin",
        threshold - judge.promotion_nats,
        found.eta_seconds,
        found.exposures,
        found.share,
    )


def suspects(judges: Iterable[SignalJudge]) -> tuple[Suspect, ...]:
    """Return the strata that are worse, of all signals together, by e-BH: under any dependence.

    The k strata with most evidence, for the largest k with e >= K / (k 5 %), of K strata in all.

    Source: Wang and Ramdas, False discovery rate control with e-values (JRSS B 84, 2022).
    """
    judged = [(j, j.choice.rows, j.against.strata_nats) for j in judges if j.choice and j.against]
    total = sum(len(rows) for _, rows, _ in judged)
    # Fewer nats than that are on no list, however long it is.
    found = [
        Suspect(judge.signal.name, judge.frame.strata[int(rows[i])], float(nats[i]))
        for judge, rows, nats in judged
        for i in np.flatnonzero(nats[: len(rows)] >= -log(_FALSE))
    ]
    found.sort(key=lambda each: -each.nats)
    enough = [k for k, each in enumerate(found, 1) if each.nats >= log(total / (k * _FALSE))]
    return tuple(found[: enough[-1]]) if enough else ()


def _unjudged(judge: SignalJudge, policy: Policy) -> dict[str, Any]:
    """Return the fields of a verdict on strata that the canary has shown too little of."""
    total = _total(judge)
    rows = np.flatnonzero(
        (judge.seen.padded(len(total.canary)).stable > 0) & (total.canary < policy.stratum_minimum)
    )
    rows = rows[np.argsort(-total.stable[rows], kind="stable")]
    listed = tuple(
        Unjudged(judge.frame.strata[int(i)], float(total.canary[i]), float(total.stable[i]))
        for i in rows[:_UNJUDGED]
    )
    return {"unjudged": listed, "unjudged_strata": len(rows)}


_NOTHING = PairCount(0, 0.0, 0, 0.0)


def _total(judge: SignalJudge) -> Counts:
    return judge.total.padded(len(judge.frame.strata))


def _position(judge: SignalJudge, choice: Choice, named: int) -> int:
    """Return the position in the choice's channels that carries most evidence: of a stratum, or of all
    (-1)."""
    against = judge.against
    if against is None or len(choice.channels) == 1:
        return 0
    nats, weights = (
        (against.pool.nats, choice.pool) if named < 0 else (against.strata.nats[named], choice.strata[named])
    )
    if named < 0 and against.pool_nats < _QUIET:
        return int(choice.promotion[len(choice.promotion) // 2])
    return int(np.where(weights > 0, nats, -np.inf).argmax())


def _ratio(judge: SignalJudge, policy: Policy, named: int, position: int) -> Ratio:
    """Return the ratio of a stratum (or of all, -1) in one channel, with its bounds.

    Half of alpha for each bound, split over the channels and the strata that could be shown: of one signal,
    the bounds of all strata hold together, and so do those of the pool.
    """
    choice = judge.choice
    if choice is None:
        return Ratio(None, None, None, 1.0 - policy.alpha)
    if named >= 0:
        return _strata_ratios(judge, choice, policy, np.array([named]), position)[0]
    level = 0.5 * policy.alpha / int(np.count_nonzero(choice.pool))
    bounds = judge.ratio.interval((position,), -log(level))
    rows = np.arange(len(judge.frame.strata))
    estimate = judge.ratios_of([rows], int(choice.channels[position]))[0]
    return _bounded(estimate, bounds, policy)


def _strata_ratios(
    judge: SignalJudge, choice: Choice, policy: Policy, named: Index, position: int
) -> list[Ratio]:
    """Return `_ratio` of several rows of the choice at once."""
    channels = np.maximum(np.count_nonzero(choice.strata[named], axis=1), 1)
    nats = np.log(len(choice.rows) * channels / (0.5 * policy.alpha))
    bounds = judge.strata_ratio.intervals((named, position), nats)
    channel = int(choice.channels[position])
    estimates = judge.ratios_of([choice.rows[i : i + 1] for i in named], channel)
    return [_bounded(*each, policy) for each in zip(estimates, bounds, strict=True)]


def _bounded(estimate: float | None, bounds: tuple[float | None, float | None], policy: Policy) -> Ratio:
    low, high = bounds
    if estimate is not None:
        estimate = min(max(estimate, low or 0.0), high or np.inf)
    return Ratio(estimate, low, high, 1.0 - policy.alpha)


def _pool_ratio(judge: SignalJudge, policy: Policy, channel: int) -> Ratio:
    choice = judge.choice
    position = 0 if choice is None else int(np.searchsorted(choice.channels, channel))
    return _ratio(judge, policy, -1, position)


def _evidence(judge: SignalJudge, policy: Policy) -> tuple[Evidence, ...]:
    side = Side.ROLLBACK if policy.may_roll_back(judge.signal) else Side.HOLD
    found = [
        Evidence(side, judge.nats, judge.threshold),
        Evidence(Side.PROMOTE, judge.promotion_nats, -log(policy.promote_alpha)),
    ]
    if judge.guard_nats is not None:
        found.append(Evidence(Side.GUARD, judge.guard_nats, -log(policy.alpha * guard_share(policy))))
    past = judge.past_nats
    if past is not None:
        found.append(Evidence(Side.PAST, past, log(policy.past.evidence)))
    return tuple(found)


def guard_share(policy: Policy) -> float:
    """Return each guard's share of alpha: those of several signals share the weight."""
    guards = sum(1 for each in policy.compared if policy.has_guard(each))
    return policy.guard_weight / max(guards, 1)


def _worst(judge: SignalJudge, policy: Policy, channel: int) -> tuple[StratumVerdict, ...]:
    choice, against = judge.choice, judge.against
    if choice is None or against is None:
        return ()
    nats = against.strata_nats[: len(choice.rows)]
    total = _total(judge)
    position = int(np.searchsorted(choice.channels, channel))
    named = np.argsort(-nats, kind="stable")[:_WORST]
    ratios = _strata_ratios(judge, choice, policy, named, position) if len(named) else []
    return tuple(
        StratumVerdict(
            judge.frame.strata[int(choice.rows[i])],
            pair(total, choice.rows[i : i + 1], channel),
            float(nats[i]),
            ratio,
        )
        for i, ratio in zip(named, ratios, strict=True)
    )


def _note(judge: SignalJudge) -> str:
    notes = []
    if judge.baseline_seconds > 0:
        notes.append("compared with pods of the baseline, as old as the canary's, wherever they had traffic")
    if judge.ignored:
        notes.append(f"{judge.ignored} histograms with other bucket bounds were left out")
    if judge.signal.past and not judge.past.is_known:
        notes.append(f"only {judge.past.seconds:.0f} s of stable's own past: too little to compare with")
    return "; ".join(notes)


def _expected(judge: SignalJudge, choice: Choice, position: int) -> tuple[float, float]:
    """Return the rates (canary, stable) that a forecast goes by.

    As long as nothing shows that the tracks differ, both at their common rate: a few requests say little.
    """
    channel = int(choice.channels[position])
    total = _total(judge)
    k_c, k_s = (float(e[:, channel].sum()) for e in (total.canary_events, total.stable_events))
    n_c, n_s = max(float(total.canary.sum()), 1.0), max(float(total.stable.sum()), 1.0)
    low, high = judge.ratio.interval((position,), -log(0.05))
    if (low or 0.0) <= 1.0 <= (high or np.inf):
        common = (k_c + k_s) / (n_c + n_s)
        return common, common
    return k_c / n_c, k_s / n_s
