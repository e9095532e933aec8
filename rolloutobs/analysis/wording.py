"""The sentences of a verdict: plain English, always about the statistic that decided.

Belongs here: numbers to words. What a signal is called is data of the policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolloutobs.analysis.model import Missing, PairCount, ResourceVerdict, ShareVerdict, Stratum
from rolloutobs.analysis.policy import Kind, Policy, Signal

if TYPE_CHECKING:
    # What only says what something is must not bring numpy to those who only want to name a time span.
    from rolloutobs.analysis.forecast import Horizon
    from rolloutobs.analysis.summary import Headline

__all__ = [
    "Tracks",
    "amount",
    "bound_text",
    "duration",
    "guarded",
    "needs",
    "number",
    "promoted",
    "seconds_bound",
    "starved",
    "stratum_text",
    "uses_more",
    "worse",
]


@dataclass(frozen=True, slots=True)
class Tracks:
    """The two sides by name; an empty version is left out."""

    canary_version: str = ""
    stable_version: str = ""

    @property
    def canary(self) -> str:
        """For example ``canary 1.2.0``."""
        return f"canary {self.canary_version}".strip()

    @property
    def stable(self) -> str:
        """For example ``stable 1.1.0``."""
        return f"stable {self.stable_version}".strip()


def worse(signal: Signal, shown: Headline, tracks: Tracks) -> str:
    """Return how the canary differs, e.g. ``canary 1.2.0 answers 5xx on POST /checkout 4.1x as often as
    ...``."""
    phrase = _phrase(signal, shown.stratum, shown.bound)
    return (
        f"{tracks.canary} {phrase} {_times(signal, shown)} {tracks.stable}{_bound(signal, shown)}: "
        + _out_of(signal, shown.total)
    )


def guarded(signal: Signal, total: PairCount, tracks: Tracks, alpha: float) -> str:
    """Return what the blatant-failure guard has seen."""
    phrase = _phrase(signal, None, None)
    times, slack = number(signal.guard_ratio or 1.0), percent(signal.guard_difference)
    limit = f"more often than {times}x {tracks.stable}'s rate + {slack}"
    if signal.kind is Kind.CONVERSION:
        limit = f"less often than 1/{times} of {tracks.stable}'s rate - {slack}"
    return f"{tracks.canary} {phrase} {limit} ({_sure(alpha)}): {_out_of(signal, total)}"


def starved(share: ShareVerdict, received: tuple[float, float], tracks: Tracks, seconds: float) -> str:
    """Return how little of its traffic the canary gets; `received` are requests of the canary and of all."""
    canary, total = received
    configured = f"{percent(share.weight)} of the traffic is configured"
    if canary == 0:
        return f"{tracks.canary} has had no requests in the last {duration(seconds)} where {configured}"
    return (
        f"{tracks.canary} receives {percent(canary / total)} of the requests where {configured}: "
        f"{_count(canary)} of {_count(total)} in the last {duration(seconds)}"
    )


def uses_more(found: ResourceVerdict, tracks: Tracks) -> str:
    """Return what processes of the canary use, and why that holds a promotion."""
    if found.resource == "memory_growth":
        left = "now" if not found.left_seconds else f"in about {duration(found.left_seconds)}"
        return (
            f"memory of {tracks.canary} grows steadily ({amount(found.canary, found.resource)} at an age of "
            f"{duration(found.age_seconds)}) and reaches its limit of "
            f"{amount(found.stable, found.resource)} {left}"
        )
    older = "" if found.same_age else f" ({tracks.stable}'s are older)"
    used, theirs = (amount(value, found.resource) for value in (found.canary, found.stable))
    return (
        f"a process of {tracks.canary} uses {used} at an age of {duration(found.age_seconds)} where no "
        f"process of {tracks.stable} uses more than {theirs}{older}"
    )


def amount(value: float, resource: str) -> str:
    """Return what a process uses: ``210 MiB of memory``, ``0.4 cores``."""
    if resource == "cpu":
        return f"{number(value)} cores"
    size = f"{number(value / 2**30)} GiB" if value >= 2**30 else f"{number(value / 2**20)} MiB"
    return f"{size} of memory"


def promoted(policy: Policy, headlines: dict[str, Headline], tracks: Tracks) -> str:
    """Return what promotion has proven, signal by signal."""
    proofs = [_proof(policy.signal(name), shown) for name, shown in headlines.items()]
    return (
        f"{tracks.canary} is not worse than {tracks.stable} beyond the margins "
        f"({_sure(policy.promote_alpha)}): " + "; ".join(proofs)
    )


def within(horizon: Horizon, deadline_seconds: float) -> str:
    """Return how far a forecast looked: ``within the deadline of 30 min``, ``within another 30 min``."""
    return f"within {'another' if horizon.again else 'the deadline of'} {duration(deadline_seconds)}"


def needs(missing: Missing, signal: Signal, tracks: Tracks, seen: PairCount, when: str) -> str:
    """Return what a proof still lacks; `when` as `within` returns it."""
    if missing.nats is None:
        return f"{missing.reason}, so nothing can be proven yet"
    said = f"{tracks.canary} has had {_count(seen.canary_exposures)} {signal.unit}; {missing.reason}"
    if missing.exposures is None or missing.eta_seconds is None:
        return said + _without_end(missing, when)
    more = f"about {_count(missing.exposures)} more {signal.unit} are needed"
    said = f"{said}: {more}, {duration(missing.eta_seconds)} at the present rate"
    if missing.share is not None and missing.eta_seconds > 0:
        said += f" ({percent(missing.share)} of the traffic would do {when})"
    return said


def duration(seconds: float) -> str:
    """Return for example ``41 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7170 else f"{seconds / 3600:.1f} h"


def number(value: float) -> str:
    """Return two significant digits without an exponent, e.g. ``4.1``, ``0.35``, ``120``."""
    if value >= 10:
        return f"{value:.0f}"
    return f"{value:.2g}" if value >= 1e-4 else "0"


def percent(ratio: float) -> str:
    """Return for example ``0.02 %``, ``15 %``."""
    return f"{number(100.0 * ratio)} %"


def bound_text(bound: float, unit: str) -> str:
    """Return a bound in its unit: seconds, or none (layout shifts)."""
    return seconds_bound(bound) if unit == "s" else number(bound)


def seconds_bound(bound: float) -> str:
    """Return a latency bound, e.g. ``380 ms``, ``1.3 s``."""
    return f"{number(1000.0 * bound)} ms" if bound < 0.9995 else f"{number(bound)} s"


def stratum_text(stratum: Stratum) -> str:
    """Return for example ``POST /checkout``; a path that matches no route is ``(unmatched)``."""
    return " ".join(value or "(unmatched)" for _, value in stratum)


def _phrase(signal: Signal, stratum: Stratum | None, bound: float | None) -> str:
    where = stratum_text(stratum) if stratum else signal.everywhere
    return signal.phrase.format(
        stratum=where,
        bound="" if bound is None else bound_text(bound, signal.bound_unit),
        title=signal.title,
    )


def _times(signal: Signal, shown: Headline) -> str:
    if shown.ratio.estimate is None:
        return "far less often than" if signal.kind is Kind.CONVERSION else "far more often than"
    if shown.ratio.estimate < 0.005:
        return "not once, unlike"
    return f"{number(shown.ratio.estimate)}x as often as"


def _bound(signal: Signal, shown: Headline) -> str:
    word, bound = ("at least", shown.ratio.low)
    if signal.kind is Kind.CONVERSION:
        word, bound = ("at most", shown.ratio.high)
    if bound is None:
        return ""
    return f" ({word} {number(bound)}x, {_sure(1.0 - shown.ratio.confidence)})"


def _sure(alpha: float) -> str:
    return f"{100.0 * (1.0 - alpha):.6g} % sure"


def _out_of(signal: Signal, total: PairCount) -> str:
    of = "in" if signal.kind is Kind.COUNT else "of"
    canary = f"{_count(total.canary_events)} {of} {_count(total.canary_exposures)} {signal.unit}"
    return f"{canary} against {_count(total.stable_events)} {of} {_count(total.stable_exposures)}"


def _count(value: float) -> str:
    return "none" if value == 0 else f"{value:,.0f}"


def _proof(signal: Signal, shown: Headline) -> str:
    margin = f"{number(signal.margin_ratio)}x + {percent(signal.margin_difference)}"
    if signal.kind is Kind.CONVERSION:
        margin = f"1/{number(signal.margin_ratio)} - {percent(signal.margin_difference)}"
    limit = "at least" if signal.kind is Kind.CONVERSION else "at most"
    bound = "" if shown.bound is None else f" (over {bound_text(shown.bound, signal.bound_unit)})"
    return f"{signal.title}{bound} {limit} {margin}: {_out_of(signal, shown.total)}"


def _without_end(missing: Missing, when: str) -> str:
    if missing.share is not None:
        said = f": at the present rate that takes for ever; {percent(missing.share)} of the traffic would do"
        return f"{said} {when}"
    return ": as the canary looks now, more of the same will not prove it"
