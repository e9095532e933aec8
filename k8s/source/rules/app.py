"""Alerts on a whole app or version, whatever its track: these speak where all versions are equally bad."""

from __future__ import annotations

from typing import Final

from k8s.source.rules.canary import BURN_FAST
from k8s.source.rules.model import Alert, Group, Severity, promql
from k8s.source.rules.recording import MINIMUM

__all__ = ["GROUP", "MEMORY"]

# Source: Google, The Site Reliability Workbook, chapter 5, table 5-8: long and short windows and their rates.
_PAGE: Final = ((BURN_FAST, "1h", "5m"), (6, "6h", "30m"))
_TICKET: Final = ((3, "1d", "2h"), (1, "3d", "6h"))
# The bound of the usual guides to rollouts: more than this is an outage for somebody.
_SPIKE: Final = 0.05
# Source: the same guides; above it the next allocation may be the last one.
MEMORY: Final = 0.9
_STEP: Final = {"1h": 60, "6h": 60, "1d": 300, "3d": 300}
"""Seconds of a subquery's step, by window: what is summed up must not depend on how often rules are run."""
_RATIO: Final = "app:http_requests_errors:ratio_rate"
_APP: Final = "{{ $labels.namespace }}/{{ $labels.app }}"


def _burn(pairs: tuple[tuple[float, str, str], ...]) -> str:
    """Return where both windows of a pair burn the budget of 99.9 %, with enough requests in the long one."""
    parts = []
    for factor, long, short in pairs:
        requests = f"{_STEP[long]} * sum_over_time(app:http_requests:rate5m[{long}:{_STEP[long]}s])"
        parts.append(
            f"(\n  {_RATIO}{long} > {factor} * 0.001\n  and {_RATIO}{short} > {factor} * 0.001\n"
            f"  and {requests} >= {MINIMUM}\n)"
        )
    return "\nor\n".join(parts)


GROUP: Final = Group(
    "rolloutobs-app-alerts",
    (
        Alert(
            "AppErrorRatioHigh",
            Severity.CRITICAL,
            promql(f"""
                {_RATIO}5m > {_SPIKE}
                and 300 * app:http_requests:rate5m >= {MINIMUM}
            """),
            f"More than {_SPIKE:.0%} of the requests to {_APP} fail",
            "{{ $value | humanizePercentage }} of all users' requests have failed in 5 minutes, "
            "whatever version answered.",
            hold_seconds=60,
        ),
        Alert(
            "AppErrorBudgetBurn",
            Severity.CRITICAL,
            _burn(_PAGE),
            f"{_APP} burns its error budget",
            "{{ $value | humanizePercentage }} of its requests fail; at this pace a month's budget of 0.1 % "
            "is gone in days.",
        ),
        Alert(
            "AppErrorBudgetSlowBurn",
            Severity.WARNING,
            _burn(_TICKET),
            f"{_APP} burns its error budget slowly",
            "{{ $value | humanizePercentage }} of its requests fail; at this pace a month's budget of 0.1 % "
            "will not last.",
        ),
        Alert(
            "VersionMemoryHigh",
            Severity.WARNING,
            f"app_version:container_memory_working_set:max_ratio_limit > {MEMORY}",
            f"A container of {_APP} {{{{ $labels.version }}}} is about to reach its memory limit",
            "It uses {{ $value | humanizePercentage }} of its limit; above it, it is killed.",
            hold_seconds=120,
        ),
    ),
)
