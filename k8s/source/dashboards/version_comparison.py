"""The dashboard beside a rollout: requests, errors, latency and resources by version, and the differences."""

from __future__ import annotations

from typing import Final

from k8s.source.dashboards.model import (
    FAILED,
    IDENTITY,
    USERS,
    Board,
    Kind,
    Panel,
    Query,
    Row,
    band,
    increase,
    quantile,
    rate,
    share,
)
from k8s.source.rules.canary import Z
from rolloutobs import semconv

__all__ = ["BOARD"]

_REQUESTS: Final = semconv.HTTP_REQUESTS_TOTAL
_SECONDS: Final = semconv.HTTP_REQUEST_DURATION_SECONDS
_FAILED: Final = f"{USERS}, {FAILED}"
_MEMORY: Final = semconv.APP_PROCESS_RESIDENT_MEMORY_BYTES
_APP: Final = f'{semconv.LABEL_APP}="$app"'
_BY_ERROR: Final = "version, track, type, fingerprint"
_BY_ROUTE: Final = "version, track, route"

BOARD: Final = Board(
    "version-comparison",
    "Rollout: version comparison",
    "Is the new version worse? Users' requests by version and track, with how many there were.",
    semconv.APP_BUILD_INFO,
    (
        Row(
            "How much there is to compare",
            (
                Panel(
                    "Requests and failures in the time range",
                    "short",
                    (
                        Query(increase(_REQUESTS), "requests"),
                        Query(f"{increase(_REQUESTS, _FAILED)} or 0 * {increase(_REQUESTS)}", "failed"),
                    ),
                    "Below some hundred requests on either side no difference can be told from chance.",
                    Kind.TABLE,
                    10,
                ),
                Panel(
                    "Pods that are scraped", "short",
                    (Query(f"count by (version, track) ({semconv.APP_BUILD_INFO}{{{IDENTITY}}})"),),
                    "A line of a rate lives on for its window after the pods are gone; this one does not.",
                    width=7,
                ),
                Panel("Requests per second", "reqps", (Query(rate(_REQUESTS)),), width=7),
            ),
        ),
        Row(
            "Errors",
            (
                Panel(
                    "Share of requests that fail", "percentunit",
                    (Query(share(rate(_REQUESTS, _FAILED), rate(_REQUESTS))),),
                ),
                Panel(
                    "Difference of the shares, canary - stable", "percentunit",
                    band((_REQUESTS, FAILED), (_REQUESTS, "")),
                    "With its 95 % interval over $window: where it contains 0, nothing is proven. "
                    "For looking at all the time rolloutobs gate has better bounds.",
                    Kind.BAND,
                ),
                Panel(
                    "Standard errors between the shares (30 min)", "short",
                    (Query(f"app:http_requests_errors:canary_z30m{{{_APP}}}", "z"),),
                    "From the recording rules; above 3 the alert CanaryErrorBudgetBurn may fire. No line: "
                    "fewer than 50 requests on either side.",
                    limits=(Z,),
                    is_signed=True,
                ),
                Panel(
                    "Errors by fingerprint in the time range", "short",
                    (
                        Query(
                            f"topk(20, {increase(semconv.APP_ERRORS_TOTAL, IDENTITY, _BY_ERROR)} > 0)",
                            "errors",
                        ),
                    ),
                    "The same fingerprint is the same error in every version.",
                    Kind.TABLE,
                    12,
                ),
                Panel(
                    "Failures by route in the time range", "short",
                    (Query(f"topk(20, {increase(_REQUESTS, _FAILED, _BY_ROUTE)} > 0)", "failed"),),
                    kind=Kind.TABLE,
                    width=12,
                ),
            ),
        ),
        Row(
            "Latency",
            (
                *[
                    Panel(
                        f"Request duration, p{p}", "s",
                        (Query(quantile(p / 100, _SECONDS), exemplars=True),),
                    )
                    for p in (50, 95, 99)
                ],
                Panel(
                    "p95 by route in the time range", "s",
                    (
                        Query(
                            f"topk(20, histogram_quantile(0.95, "
                            f"{increase(f'{_SECONDS}_bucket', USERS, 'le, version, track, route')}))",
                            "p95",
                        ),
                    ),
                    kind=Kind.TABLE,
                    width=24,
                ),
            ),
        ),
        Row(
            "The gate",
            (
                Panel(
                    "Decision", "short",
                    (Query(f"{semconv.VERDICT}{{{_APP}}}", "{{decision}}"),),
                    "Only with rolloutobs gate --listen.", Kind.STATES,
                ),
                Panel(
                    "canary / stable by signal", "short",
                    (Query(f"{semconv.RATIO}{{{_APP}}}", "{{metric}} {{bound}}"),),
                    "With the ends of its confidence sequence, which may be looked at all the time.",
                ),
                Panel(
                    "Evidence by signal", "short",
                    (Query(f"{semconv.EVIDENCE_NATS}{{{_APP}}}", "{{metric}} {{side}}"),),
                    "In nats; the gate decides where it reaches the threshold.",
                    is_signed=True,
                ),
            ),
            "no gate looks at this app: `rolloutobs gate --listen` and `rolloutobs serve` do, once they are "
            "scraped",
        ),
        Row(
            "Resources, per process",
            (
                Panel(
                    "Memory", "bytes",
                    (Query(f"avg by (version, track) ({_MEMORY}{{{IDENTITY}}})"),),
                ),
                Panel(
                    "CPU", "short",
                    (Query(rate(semconv.APP_PROCESS_CPU_SECONDS_TOTAL, IDENTITY)),),
                    "Cores, of all pods of a version together.",
                ),
                Panel(
                    "Requests in flight", "short",
                    (Query(f"sum by (version, track) ({semconv.HTTP_REQUESTS_IN_FLIGHT}{{{IDENTITY}}})"),),
                ),
            ),
        ),
    ),
)  # fmt: skip
