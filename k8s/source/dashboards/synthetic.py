"""What synthetic checks say of each version."""

from __future__ import annotations

from typing import Final

from k8s.source.dashboards.model import (
    IDENTITY,
    SOME_APP,
    Board,
    Kind,
    Panel,
    Query,
    Row,
    increase,
    quantile,
    rate,
    share,
)
from rolloutobs import semconv

__all__ = ["BOARD"]

_RUNS: Final = semconv.SYNTHETIC_CHECK_RUNS_TOTAL
_JOURNEY: Final = f'{IDENTITY}, {semconv.LABEL_STEP}=""'
_STEPS: Final = f'{IDENTITY}, {semconv.LABEL_STEP}!=""'
_BY: Final = "check, version, track"
_LEGEND: Final = "{{check}} {{version}} {{track}}"
_DECIDED: Final = f'{semconv.LABEL_OUTCOME}=~"pass|fail"'
_SECONDS: Final = semconv.SYNTHETIC_CHECK_DURATION_SECONDS
_LAST: Final = semconv.SYNTHETIC_CHECK_LAST_SUCCESS_TIMESTAMP_SECONDS
_MISMATCH: Final = semconv.SYNTHETIC_CHECK_IDENTITY_MISMATCH_TOTAL
_REQUESTS: Final = semconv.SYNTHETIC_LOAD_REQUESTS_TOTAL
_BY_LOAD: Final = "load, version, track"
_LOAD_LEGEND: Final = "{{load}} {{version}} {{track}}"

BOARD: Final = Board(
    "synthetic",
    "Rollout: synthetic checks",
    "Journeys and loads against stable and canary, in pairs, with proof of who answered.",
    _RUNS,
    (
        Row(
            "Runs",
            (
                Panel(
                    "Runs in the time range", "short",
                    (Query(increase(_RUNS, _JOURNEY, "check, version, track, outcome"), "runs"),),
                    "A pair that another version has answered is inconclusive on both tracks.",
                    Kind.TABLE, 10,
                ),
                Panel(
                    "Share of runs that fail", "percentunit",
                    (
                        Query(
                            share(
                                rate(_RUNS, f'{_JOURNEY}, {semconv.LABEL_OUTCOME}="fail"', _BY),
                                rate(_RUNS, f"{_JOURNEY}, {_DECIDED}", _BY),
                            ),
                            _LEGEND,
                        ),
                    ),
                    "Of those that are decided.", width=7,
                ),
                Panel(
                    "Since the last run that passed", "s",
                    (Query(f"time() - max by ({_BY}) ({_LAST}{{{IDENTITY}}})", _LEGEND),),
                    "A check that does not run at all looks like a healthy one everywhere else.", width=7,
                ),
            ),
        ),
        Row(
            "Durations",
            (
                Panel(
                    "Whole journey, median", "s",
                    (Query(quantile(0.5, _SECONDS, _JOURNEY, _BY), _LEGEND),), width=12,
                ),
                Panel(
                    "Steps, median", "s",
                    (
                        Query(
                            quantile(0.5, _SECONDS, _STEPS, f"{_BY}, step"),
                            "{{check}} {{step}} {{version}} {{track}}",
                        ),
                    ),
                    width=12,
                ),
            ),
        ),
        Row(
            "Proof",
            (
                Panel(
                    "Runs that the wrong version answered, in the time range", "short",
                    (Query(increase(_MISMATCH, IDENTITY, _BY), "runs"),), kind=Kind.TABLE, width=12,
                ),
                Panel(
                    "Steps that failed, in the time range", "short",
                    (
                        Query(
                            "topk(20, "
                            + increase(_RUNS, f'{_STEPS}, {semconv.LABEL_OUTCOME}="fail"', f"{_BY}, step")
                            + " > 0)",
                            "failed",
                        ),
                    ),
                    kind=Kind.TABLE, width=12,
                ),
            ),
        ),
        Row(
            "Loads",
            (
                Panel(
                    "Requests per second", "reqps",
                    (Query(rate(_REQUESTS, IDENTITY, _BY_LOAD), _LOAD_LEGEND),),
                    "The same on both tracks, or the one that is behind cannot keep up.", width=6,
                ),
                Panel(
                    "Share of requests that fail", "percentunit",
                    (
                        Query(
                            share(
                                rate(_REQUESTS, f'{IDENTITY}, {semconv.LABEL_OUTCOME}="fail"', _BY_LOAD),
                                rate(_REQUESTS, IDENTITY, _BY_LOAD),
                            ),
                            _LOAD_LEGEND,
                        ),
                    ),
                    width=6,
                ),
                Panel(
                    "Durations, 95th percentile", "s",
                    (
                        Query(
                            quantile(
                                0.95, semconv.SYNTHETIC_LOAD_REQUEST_DURATION_SECONDS, IDENTITY, _BY_LOAD
                            ),
                            _LOAD_LEGEND,
                        ),
                    ),
                    "From the moment at which each request should have begun.", width=6,
                ),
                Panel(
                    "What makes a load worth less, in the time range", "short",
                    (
                        Query(
                            increase(semconv.SYNTHETIC_LOAD_IDENTITY_MISMATCH_TOTAL, IDENTITY, _BY_LOAD),
                            "wrong version",
                        ),
                        Query(
                            increase(semconv.SYNTHETIC_LOAD_LATE_ARRIVALS_TOTAL, SOME_APP, "load"),
                            "begun late",
                        ),
                        Query(
                            increase(semconv.SYNTHETIC_LOAD_LOST_WORKERS_TOTAL, SOME_APP, "load"),
                            "workers lost",
                        ),
                    ),
                    kind=Kind.TABLE, width=6,
                ),
            ),
            "no load has run in this time range",
        ),
    ),
)  # fmt: skip
