"""What a load measured, and what it says about the canary.

Belongs here: reading Locust's JSON, percentiles, the comparison of two tracks. Pure: no I/O, no clock.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rolloutobs.errors import RolloutobsError
from synthetic.result import ExitCode
from synthetic.target import Target

__all__ = [
    "Endpoint",
    "LoadError",
    "LoadVerdict",
    "TrackLoad",
    "judge_load",
    "parse_child",
    "percentile_seconds",
]

_ALPHA = 0.001
"""A canary fails a load when so many more failures would come by chance once in a thousand loads. Stricter
than a check's usual 0.05 or 0.01 because failures under load come in bursts, which the test takes for
independent."""
_MOST = 0.5
"""Above this share of failures on both tracks, what was measured is not the version."""


class LoadError(RolloutobsError):
    """Locust could not do its work: the load says nothing."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Requests of one method and name on one track."""

    method: str
    name: str
    requests: int
    failures: int
    milliseconds: Mapping[float, int]
    """Requests by response time, as Locust rounds it: 1 ms below 100, 10 ms below 1000, then 100 ms.
    Source: locust 2.47, stats.py, StatsEntry._log_response_time."""


@dataclass(frozen=True, slots=True)
class TrackLoad:
    """What one Locust process measured."""

    target: Target | None
    """``None`` for plain users, who are aimed at an entry point and not at a track."""
    endpoints: tuple[Endpoint, ...]
    proven: Mapping[str, int]
    """Answers by `synthetic.target.Proven` value; empty for plain users."""
    doubt: str
    """The first answer that was wrong or did not say who gave it; empty when there was none."""
    errors: Mapping[str, int]
    """Failures by message."""
    version: str | None = None
    """The one version that answered."""
    stopped: bool = False
    """Ended early, by a signal."""

    @property
    def requests(self) -> int:
        """Requests of all endpoints."""
        return sum(each.requests for each in self.endpoints)

    @property
    def failures(self) -> int:
        """Failed requests of all endpoints."""
        return sum(each.failures for each in self.endpoints)

    def percentile_seconds(self, share: float) -> float | None:
        """Return the `share` quantile of response times over all endpoints in seconds; ``None`` without
        requests."""
        merged: dict[float, int] = {}
        for each in self.endpoints:
            for value, count in each.milliseconds.items():
                merged[value] = merged.get(value, 0) + count
        return percentile_seconds(merged, share)


@dataclass(frozen=True, slots=True)
class LoadVerdict:
    """What a paired load says, and why."""

    code: ExitCode
    reason: str


def percentile_seconds(milliseconds: Mapping[float, int], share: float) -> float | None:
    """Return the smallest response time that at least `share` of the requests did not exceed, in seconds.

    ``None`` without requests. Source: nearest rank, as in Locust's own reports.
    """
    total = sum(milliseconds.values())
    rank = max(1, math.ceil(share * total))
    seen = 0
    for value in sorted(milliseconds):
        seen += milliseconds[value]
        if seen >= rank:
            return value / 1000
    return None


def parse_child(stats_json: str, report_json: str, target: Target | None, stopped: bool) -> TrackLoad:
    """Read what one Locust process left: its own statistics, and the report of `synthetic.load.user`.

    Raises:
        LoadError: either cannot be read, no request was made, or the locustfile does not use `RolloutUser`.
    """
    try:
        endpoints = tuple(_endpoint(entry) for entry in json.loads(stats_json))
        report: Mapping[str, Any] = json.loads(report_json) if report_json else {}
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise LoadError(f"Locust left results that cannot be read: {problem!r}") from problem
    if not report:
        raise LoadError(
            "the locustfile has no user derived from synthetic.load.RolloutUser, so its requests are not "
            "marked as they should be; derive its users from RolloutUser"
        )
    if not sum(each.requests for each in endpoints):
        raise LoadError("no request was made at all; does the locustfile have users with tasks?")
    versions = report["versions"]
    return TrackLoad(
        target=target,
        endpoints=endpoints,
        proven=report["proven"],
        doubt=report["doubt"],
        errors=report["errors"],
        version=versions[0] if len(versions) == 1 else None,
        stopped=stopped,
    )


def _endpoint(entry: Mapping[str, Any]) -> Endpoint:
    return Endpoint(
        method=str(entry["method"] or ""),
        name=str(entry["name"]),
        requests=int(entry["num_requests"]),
        failures=int(entry["num_failures"]),
        milliseconds={float(value): int(count) for value, count in entry["response_times"].items()},
    )


def judge_load(stable: TrackLoad, canary: TrackLoad) -> LoadVerdict:
    """Compare two loads that ran at the same time; never a pass when it is not proven who answered."""
    ratios = [load.failures / load.requests for load in (stable, canary)]
    if min(ratios) > _MOST:
        return LoadVerdict(
            ExitCode.INFRASTRUCTURE, "most requests fail on both tracks: this is not the canary's doing"
        )
    for load in (stable, canary):
        track = load.target.track.value if load.target is not None else "users"
        if load.doubt:
            return LoadVerdict(ExitCode.INCONCLUSIVE, f"{track}: {load.doubt}")
        if not load.proven.get("right") and load.failures < load.requests:
            return LoadVerdict(ExitCode.INCONCLUSIVE, f"{track}: no answer says who gave it")
    chance = _chance_of_more(stable, canary)
    if chance < _ALPHA:
        numbers = (
            f"{canary.failures} of {canary.requests} failed against {stable.failures} of {stable.requests}"
        )
        return LoadVerdict(ExitCode.PRODUCT, f"the canary fails more often: {numbers} (p = {chance:.2g})")
    if stable.stopped or canary.stopped:
        return LoadVerdict(
            ExitCode.INCONCLUSIVE, "stopped before its time was up, without a difference so far"
        )
    return LoadVerdict(ExitCode.PASS, "the canary does not fail more often than stable")


def _chance_of_more(stable: TrackLoad, canary: TrackLoad) -> float:
    """Return the chance of at least as many failures on the canary if both tracks fail equally often.

    Given all failures, the canary's are hypergeometric among its requests. Source: Fisher's exact test,
    one-sided (R. A. Fisher 1935, The Logic of Inductive Inference); one look at the end, so no correction for
    looking.
    """
    failures = stable.failures + canary.failures
    most = min(failures, canary.requests)
    total = stable.requests + canary.requests
    every = _log_choose(total, canary.requests)
    logs = (
        _log_choose(failures, k) + _log_choose(total - failures, canary.requests - k) - every
        for k in range(canary.failures, most + 1)
    )
    return min(1.0, _sum_of_exponentials(logs))


def _log_choose(n: int, k: int) -> float:
    if not 0 <= k <= n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _sum_of_exponentials(logs: Iterable[float]) -> float:
    return math.fsum(math.exp(value) for value in logs)
