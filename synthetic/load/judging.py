"""What a load says about the canary: findings, each with its exit code, and the verdict of them all.

Belongs here: evidence and intervals from counts. Pure.

Both tracks ran at the same moment on the same machine, and lots decided which arrival went where; so what
slowed or broke both cancels out. Requests of one stall are no independent witnesses: the evidence is divided
by the design effect, which the counts of single seconds tell. Source: docs/verdict.md, formula (1) and
"staying honest".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthetic.load.results import LoadResult, TrackLoad
from synthetic.load.tally import BAND, SMALLEST_SECONDS
from synthetic.result import ExitCode

__all__ = ["QUANTILES", "Bounds", "Finding", "LoadVerdict", "Thresholds", "judge_load", "quantile_bounds"]

QUANTILES = (0.5, 0.95, 0.99)
"""What is told."""
_MOST = 0.5
"""Above this share of failures on both tracks, what was measured is not the version."""
_LATE = 0.05
"""Above this share of late arrivals the generator was not up to the load. What it is late makes durations
longer, so that a pass is safe below."""
_LATE_FOR_BLAME = 0.01
"""Above this share of late arrivals a quantile that is too long is not the canary's doing: a p99 is one in a
hundred."""
_CROWDED = 0.01
"""Above this share of arrivals that found all users busy the load was less than asked for."""
_CHANNEL = 6
"""Bands between two bounds at which slowness is looked for: a factor of 1.4."""
_CHANNELS = 30
"""From 1 ms to 16 s. Fixed before any count is seen, so that their mean is honest."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What is asked of the canary."""

    max_slowdown: float = 1.25
    """Relative: durations that the canary may need more than stable, as a factor."""
    max_error_share: float | None = None
    """Absolute: share of failed requests."""
    quantiles: Mapping[float, float] = field(default_factory=dict)
    """Absolute: most seconds, by quantile."""
    min_requests: int = 50
    """On each track; fewer prove nothing."""
    error_rate: float = 0.05
    """How often each finding may be wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    code: ExitCode
    text: str


@dataclass(frozen=True, slots=True)
class LoadVerdict:
    """What a paired load says, and why."""

    code: ExitCode
    reason: str
    findings: tuple[Finding, ...] = ()
    nats: Mapping[str, float] = field(default_factory=dict)
    """Log evidence that the canary fails more, and that it is slower than allowed."""
    ratios: Mapping[float, Bounds] = field(default_factory=dict)
    """Canary's quantiles / stable's, with bounds that hold in 95 % of all loads, by quantile."""
    phi: float = 1.0
    """Design effect of the failures: so many requests are worth one independent one."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """A number with what it may truly be; ``None``: too few requests to say."""

    value: float | None
    low: float | None
    high: float | None


def judge_load(result: LoadResult, thresholds: Thresholds) -> LoadVerdict:
    """Compare stable and canary; never a pass when it is not proven who answered, or when the generator was
    not up to it."""
    stable, canary = result.tracks
    evidence = _Evidence(stable, canary, thresholds)
    findings = [
        *_course(result, thresholds),
        _errors(stable, canary, evidence, thresholds),
        _slowness(evidence, thresholds),
        *_absolute(result, thresholds, evidence),
    ]
    code = _code(findings)
    # What decides comes first; a pass is that nothing was found.
    told = [each.text for each in findings if each.code is code]
    if code is ExitCode.PASS:
        told = ["the canary is not shown to be worse than stable"]
    ratios = {share: evidence.ratio(share) for share in QUANTILES}
    return LoadVerdict(code, "; ".join(told), tuple(findings), evidence.nats, ratios, evidence.phi_of_errors)


def _code(findings: Sequence[Finding]) -> ExitCode:
    """Whoever may not have answered cannot be blamed; what the canary alone does wrong counts before what is
    unclear."""
    of = {finding.name: finding.code for finding in findings}
    if of["course"] is ExitCode.INFRASTRUCTURE:
        return ExitCode.INFRASTRUCTURE
    if of["identity"] is ExitCode.INCONCLUSIVE:
        return ExitCode.INCONCLUSIVE
    codes = set(of.values())
    order = (ExitCode.PRODUCT, ExitCode.INFRASTRUCTURE, ExitCode.INCONCLUSIVE)
    return next((code for code in order if code in codes), ExitCode.PASS)


def _course(result: LoadResult, thresholds: Thresholds) -> list[Finding]:
    """Whether the load itself was what it should be."""
    stable, canary = result.tracks
    if min(_share(each) for each in result.tracks) > _MOST:
        text = "most requests fail on both tracks: this is not the canary's doing"
        course = Finding("course", ExitCode.INFRASTRUCTURE, text)
    elif result.stopped:
        course = Finding("course", ExitCode.INCONCLUSIVE, "stopped before its time was up")
    elif result.lost:
        text = f"{result.lost} of {result.workers} workers were lost, and what they measured last with them"
        course = Finding("course", ExitCode.INCONCLUSIVE, text)
    elif min(stable.requests, canary.requests) < thresholds.min_requests:
        text = f"{stable.requests} requests on stable and {canary.requests} on the canary are too few: "
        text += f"at least {thresholds.min_requests} on each are wanted"
        course = Finding("course", ExitCode.INCONCLUSIVE, text)
    else:
        course = Finding("course", ExitCode.PASS, "the load ran to its end")
    return [course, _identity(result), _generator(result)]


def _identity(result: LoadResult) -> Finding:
    for load in result.tracks:
        if load.doubt:
            return Finding("identity", ExitCode.INCONCLUSIVE, f"{load.name}: {load.doubt}")
        if not load.proven.get("right") and load.failures < load.requests:
            return Finding("identity", ExitCode.INCONCLUSIVE, f"{load.name}: no answer says who gave it")
    return Finding("identity", ExitCode.PASS, "every answer came from the wanted version")


def _generator(result: LoadResult) -> Finding:
    stable = result.tracks[0]
    if result.late > _LATE * result.arrivals:
        text = (
            f"the generator did not keep up: {result.late} of {result.arrivals} tasks began late (at worst "
            f"{result.worst_lag_seconds:.2f} s); use --processes or workers, or a lower rate"
        )
        return Finding("generator", ExitCode.INCONCLUSIVE, text)
    if stable.crowded > _CROWDED * stable.arrivals:
        text = (
            f"{stable.crowded} of {stable.arrivals} tasks on stable found all users busy, so the load was "
            "less than asked for; raise --users"
        )
        return Finding("generator", ExitCode.INCONCLUSIVE, text)
    text = f"{result.late} of {result.arrivals} tasks began late"
    return Finding("generator", ExitCode.PASS, text if result.is_open else "users waited for answers")


def _errors(stable: TrackLoad, canary: TrackLoad, evidence: _Evidence, thresholds: Thresholds) -> Finding:
    numbers = f"{canary.failures} of {canary.requests} failed against {stable.failures} of {stable.requests}"
    told = f"{numbers}, {evidence.nats['errors']:.1f} nats"
    if evidence.nats["errors"] >= math.log(1.0 / thresholds.error_rate):
        return Finding("errors", ExitCode.PRODUCT, f"the canary fails more often: {told}")
    return Finding("errors", ExitCode.PASS, f"the canary is not shown to fail more often than stable: {told}")


def _slowness(evidence: _Evidence, thresholds: Thresholds) -> Finding:
    allowed = f"{evidence.slowdown:.2f} times stable's durations, {evidence.nats['duration']:.1f} nats"
    if evidence.nats["duration"] >= math.log(1.0 / thresholds.error_rate):
        return Finding("duration", ExitCode.PRODUCT, f"the canary is slower than {allowed}")
    return Finding("duration", ExitCode.PASS, f"the canary is not shown to be slower than {allowed}")


def _absolute(result: LoadResult, thresholds: Thresholds, evidence: _Evidence) -> list[Finding]:
    """Compare both tracks with each absolute threshold."""
    risk = thresholds.error_rate
    findings = []
    if thresholds.max_error_share is not None:
        most = thresholds.max_error_share
        told = {each.name: share_bounds(each, risk, evidence.phi_of_errors) for each in result.tracks}
        findings.append(_kept("error share", told, most, lambda value: f"{value:.2%}"))
    for quantile, most in thresholds.quantiles.items():
        phi = evidence.phi_at(most)
        told = {each.name: quantile_bounds(each, quantile, risk, phi) for each in result.tracks}
        kept = _kept(f"p{quantile * 100:g}", told, most, lambda value: f"{value * 1000:.0f} ms")
        findings.append(_doubted(kept, result))
    return findings


def _doubted(finding: Finding, result: LoadResult) -> Finding:
    """Return a finding on durations without blame where the generator was late itself: it has made them
    longer."""
    is_in_time = result.late <= _LATE_FOR_BLAME * result.arrivals and _generator(result).code is ExitCode.PASS
    if is_in_time or finding.code not in (ExitCode.PRODUCT, ExitCode.INFRASTRUCTURE):
        return finding
    text = f"{finding.text} (but the generator did not keep up)"
    return Finding(finding.name, ExitCode.INCONCLUSIVE, text)


def _kept(name: str, told: Mapping[str, Bounds], most: float, show: Callable[[float], str]) -> Finding:
    """Return whether a threshold is kept for sure, missed for sure, or neither."""
    canary, stable = told["canary"], told["stable"]
    high = "above all" if canary.high is None else show(canary.high)
    value = "-" if canary.value is None else show(canary.value)
    between = f"at least {show(canary.low or 0.0)}, at most {high}"
    text = f"{name} of the canary is {value} ({between}), wanted {show(most)}"
    if canary.high is not None and canary.high <= most:
        return Finding(name, ExitCode.PASS, text)
    if canary.low is None or canary.low <= most:
        return Finding(name, ExitCode.INCONCLUSIVE, f"{text}: too few requests to tell")
    if stable.low is not None and stable.low > most:
        return Finding(name, ExitCode.INFRASTRUCTURE, f"{text}, and stable misses it, too")
    return Finding(name, ExitCode.PRODUCT, text)


def _share(load: TrackLoad) -> float:
    return load.failures / load.requests if load.requests else 0.0


def share_bounds(load: TrackLoad, risk: float, phi: float) -> Bounds:
    """Return the share of failed requests, and bounds that miss the true one with a chance of `risk` each."""
    if not load.requests:
        return Bounds(None, None, None)
    share, worth = _share(load), load.requests / phi
    low = _bisect(lambda p: worth * _divergence(share, p) >= -math.log(risk), share, 0.0)
    high = _bisect(lambda p: worth * _divergence(share, p) >= -math.log(risk), share, 1.0)
    return Bounds(share, low, high)


def quantile_bounds(load: TrackLoad, quantile: float, risk: float, phi: float) -> Bounds:
    """Return a quantile of the corrected durations in seconds, and bounds that miss the true one with a
    chance of `risk` each; ``None`` for a bound that so few requests do not have.

    If x is the quantile, requests up to x are binomial with that share; so the order statistics bound it,
    whatever the distribution. Source: David and Nagaraja, "Order Statistics" (3rd ed.), section 7.1, with
    the tail of Chernoff.
    """
    total = load.requests
    value = load.corrected.quantile(quantile)
    needed = -math.log(risk)
    worth = total / phi

    def is_far(share: float) -> bool:
        return worth * _divergence(share, quantile) >= needed

    low = _bisect(is_far, quantile, 0.0) if is_far(0.0) else None
    high = _bisect(is_far, quantile, 1.0) if is_far(1.0) else None
    return Bounds(
        value,
        None if low is None else load.corrected.rank(max(1, math.floor(low * total + 1e-9))),
        None if high is None else load.corrected.rank(min(total, math.ceil(high * total - 1e-9))),
    )


def _divergence(share: float, p: float) -> float:
    """Return the divergence of two coins; ``exp(-n * it)`` bounds the chance of a share so far off.

    Source: Chernoff (Annals of Mathematical Statistics 23, 1952); Hoeffding (JASA 58, 1963), theorem 1.
    """
    total = 0.0
    for one, two in ((share, p), (1.0 - share, 1.0 - p)):
        if one > 0.0:
            total += one * math.log(one / two) if two > 0.0 else math.inf
    return total


def _bisect(is_far: Callable[[float], bool], near: float, far: float) -> float:
    """Return where `is_far` begins to hold between `near`, where it does not, and `far`; `far` where it never
    does."""
    if not is_far(far):
        return far
    for _ in range(60):
        middle = (near + far) / 2
        near, far = (near, middle) if is_far(middle) else (middle, far)
    return far


class _Evidence:
    """E-values from the counts of all intervals."""

    def __init__(self, stable: TrackLoad, canary: TrackLoad, thresholds: Thresholds) -> None:
        # Here, for --help needs no extra.
        import numpy as np

        from rolloutobs.analysis.evidence import Counts, DesignEffect, log_e, log_mean_exp, more_than

        shift = math.ceil(math.log(thresholds.max_slowdown) / BAND - 1e-9)
        self.slowdown = math.exp(shift * BAND)
        """The allowed factor, rounded up to whole bands."""
        effect, total = DesignEffect(1 + _CHANNELS), Counts.zeros(1, 1 + _CHANNELS)
        for tick in sorted(set(stable.ticks) | set(canary.ticks)):
            sides: list[Any] = []
            for load, shifted in ((canary, shift), (stable, 0)):
                events, requests = _events(load, tick, shifted)
                sides += [np.array([events]), np.array([requests])]
            counts = Counts(*sides)
            effect.add(counts)
            total = total.plus(counts)
        phi = effect.value
        logs = log_e(total, more_than(1.0, 0.0))[0] / phi[:, None]
        nats = log_mean_exp(logs)
        mean = log_mean_exp(nats[None, 1:])[0]
        self.nats = {"errors": float(nats[0]), "duration": float(mean)}
        self.phi_of_errors = float(phi[0])
        self._phi = phi
        self._tracks = (stable, canary)

    def phi_at(self, seconds: float) -> float:
        """Return the design effect of durations above `seconds`."""
        channel = round(math.log(max(seconds, SMALLEST_SECONDS) / SMALLEST_SECONDS) / (_CHANNEL * BAND))
        return float(self._phi[1 + min(channel, _CHANNELS - 1)])

    def ratio(self, quantile: float) -> Bounds:
        """Return canary's quantile / stable's, with bounds that hold in 95 % of all loads."""
        stable, canary = self._tracks
        if not stable.requests or not canary.requests:
            return Bounds(None, None, None)
        phi = self.phi_at(stable.corrected.quantile(quantile) or 0.0)
        # Four bounds share what may be wrong. Source: Bonferroni.
        of_stable, of_canary = (quantile_bounds(each, quantile, 0.05 / 4, phi) for each in self._tracks)
        return Bounds(
            _ratio(of_canary.value, of_stable.value),
            _ratio(of_canary.low, of_stable.high),
            _ratio(of_canary.high, of_stable.low),
        )


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _events(load: TrackLoad, tick: int, shift: int) -> tuple[list[float], float]:
    """Return failures, and requests above each bound, of one interval; and its requests."""
    counts = load.ticks.get(tick)
    if counts is None:
        return [0.0] * (1 + _CHANNELS), 0.0
    above = [
        float(sum(times for band, times in counts.bands.items() if band > channel * _CHANNEL + shift))
        for channel in range(_CHANNELS)
    ]
    return [float(counts.failures), *above], float(counts.requests)
