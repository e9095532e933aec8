"""What holds promotion although nothing is missing, and nothing is proven: safety checks around the
comparison.

Belongs here: one function per check, each a list of sentences. They can only delay.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np

from rolloutobs.analysis.judge import SignalJudge
from rolloutobs.analysis.model import ResourceVerdict
from rolloutobs.analysis.policy import OnFailure, Policy
from rolloutobs.analysis.summary import headline, pair
from rolloutobs.analysis.wording import Tracks, bound_text, duration, percent, uses_more, worse

__all__ = ["blindness", "dependency", "limits", "resources", "silence", "stale", "suspicions", "unmatched"]

Judges = Sequence[SignalJudge]


def stale(tracks: frozenset[str]) -> list[str]:
    """Targets that did not answer: what is known is old."""
    return [f"not every target of {' and '.join(sorted(tracks))} answered the last time"] if tracks else []


def silence(judge: SignalJudge, tracks: Tracks) -> list[str]:
    """The canary gets no traffic any more, so what was proven is not about the present."""
    lately = sum(seconds for seconds, _, _ in judge.rates)
    if not judge.seen.canary.any() or any(canary for _, canary, _ in judge.rates):
        return []
    return [f"{tracks.canary} has had no {judge.signal.unit} for {duration(lately)}"]


def dependency(judge: SignalJudge, judges: Judges, policy: Policy, tracks: Tracks) -> str:
    """Stable is worse than its own past in the signal of `judge`: something that both tracks share."""
    channel, before, now = judge.past_change()
    bounds, unit = judge.frame.bounds, judge.signal.bound_unit
    bound = f" over {bound_text(bounds[channel], unit)}" if bounds else ""
    said = (
        f"{tracks.stable} itself is worse than its own past: {judge.signal.title}{bound} in {percent(now)} "
        f"of its {judge.signal.unit} against {percent(before)} before"
    )
    if any(each.nats >= log(policy.hold_evidence) for each in judges):
        return f"{said}; {tracks.canary} may suffer from the same cause"
    return (
        f"{said}; both tracks suffer alike, which looks like a shared dependency: "
        f"{tracks.canary} is not to blame"
    )


def limits(judges: Judges, policy: Policy, tracks: Tracks) -> list[str]:
    """The canary is beyond an absolute limit, however bad stable is."""
    window = duration(max(policy.past.windows_seconds))
    found = []
    for judge in judges:
        limit = judge.signal.absolute_limit
        if limit is None or not judge.signal.decides:
            continue
        if (beyond := judge.past.beyond(limit)) is not None:
            events, exposures = beyond
            found.append(
                f"{judge.signal.title} are above the absolute limit of {percent(limit)} on {tracks.canary} "
                f"({events:,.0f} of {exposures:,.0f} {judge.signal.unit} in the last {window}), whatever "
                f"{tracks.stable} does"
            )
    return found


def unmatched(judges: Judges, policy: Policy, tracks: Tracks) -> list[str]:
    """Only the canary has these strata (a new or renamed route), so nothing compares them: the limit must
    do."""
    found = []
    for judge in judges:
        limit, seen = judge.signal.absolute_limit, judge.seen
        if limit is None or not judge.signal.decides:
            continue
        total = pair(seen, np.flatnonzero((seen.canary > 0) & (seen.stable == 0)), 0)
        if total.canary_events >= max(policy.past.limit_events, limit * total.canary_exposures):
            share = percent(total.canary_events / total.canary_exposures)
            found.append(
                f"{judge.signal.title} are {share} of what only {tracks.canary} has and {tracks.stable} has "
                "not (routes that are new or renamed)"
            )
    return found


def suspicions(judges: Judges, policy: Policy, tracks: Tracks) -> list[str]:
    """What looks worse on the canary, in all or in one stratum, without being proven."""
    found, limit = [], log(policy.hold_evidence)
    for judge in judges:
        if judge.against is None or not judge.signal.decides:
            continue
        if max([judge.nats, *judge.against.strata_nats]) < limit:
            continue
        said = worse(judge.signal, headline(judge, policy, limit), tracks)
        found.append(f"{said}; not enough to roll back{_why(judge, policy)}, but too much to promote")
    return found


def _why(judge: SignalJudge, policy: Policy) -> str:
    if judge.signal.on_failure is OnFailure.PAUSE:
        return ", as the policy says (on_failure: pause)"
    if not policy.may_roll_back(judge.signal):
        return ", as anyone can post what browsers say"
    return f" ({max(judge.nats, 0.0):.1f} of {judge.threshold:.1f} nats)"


def resources(found: Sequence[ResourceVerdict], policy: Policy, tracks: Tracks) -> list[str]:
    """The canary's processes use more memory or CPU, or run out of memory soon."""
    if policy.resources.on_failure is OnFailure.LOG:
        return []
    return [uses_more(each, tracks) for each in found if each.above]


def blindness(judges: Judges, policy: Policy) -> list[str]:
    """No counts per stable pod: without them promotion is not honest. Source: docs/verdict.md, "clusters"."""
    if policy.assume_independent:
        return []
    blind = [
        each.signal.title
        for each in judges
        if each.signal.is_required
        and each.signal.needs_pods
        and each.seen.stable.sum() > 0
        # Where nothing of stable was seen, that is what is said.
        and each.phi is not None
        and not each.has_pods
    ]
    if not blind:
        return []
    return [
        f"counts per stable pod are missing for {' and '.join(blind)}, so a quiet stretch could pass for "
        "health: give two or more stable pods with traffic, or set assume_independent"
    ]
