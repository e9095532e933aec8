"""Recording rules: the numbers that alerts and dashboards share."""

from __future__ import annotations

from typing import Final

from k8s.source.rules.model import APP, CANARY, IDENTITY, STABLE, USERS, Group, Recording, promql
from rolloutobs import foreign, semconv

__all__ = ["GROUPS", "LIVE_CANARY", "MINIMUM"]

# Below about this many on either side the normal approximation of a binomial says little.
# Source: Brown, Cai, DasGupta, "Interval estimation for a binomial proportion", 2001, section 2.
MINIMUM: Final = 50
"""Events on each side below which nothing is compared."""
LIVE_CANARY: Final = f"app_version:{semconv.APP_BUILD_INFO}:count{{{CANARY}}} > 0"
"""Selects the versions of canaries that are running: rates of one that was rolled back live on for their
whole window."""
_SECONDS: Final = {"5m": 300, "30m": 1800}
_INFO: Final = "namespace_pod:kube_pod_version:info"
_JOIN: Final = f"on (namespace, pod) group_left (app, version, track) {_INFO}"


def _either(by: str, suffix: str, window: str, *matchers: tuple[str, str]) -> str:
    """Return a rate in our naming, or in OpenTelemetry's where an app uses that one."""
    ours = semconv.HTTP_REQUESTS_TOTAL if not suffix else semconv.HTTP_REQUEST_DURATION_SECONDS + suffix
    theirs = semconv.HTTP_SERVER_REQUEST_DURATION_SECONDS + (suffix or "_count")
    (first, second) = matchers[0] if matchers else ("", "")
    return promql(f"""
        sum by ({by}) (rate({ours}{{{USERS}{first}}}[{window}]))
        or
        sum by ({by}) (rate({theirs}{{{USERS}{second}}}[{window}]))
    """).replace("\n        ", "\n")


def _requests(window: str) -> tuple[Recording, ...]:
    total, errors = (
        f"app_version:http_requests:rate{window}",
        f"app_version:http_requests_errors:rate{window}",
    )
    failed = (f', {semconv.LABEL_STATUS}=~"5.."', f', {semconv.LABEL_HTTP_RESPONSE_STATUS_CODE}=~"5.."')
    return (
        Recording(total, _either(IDENTITY, "", window)),
        # Zero filled: a version without errors would have no line to be compared with.
        Recording(errors, f"{_either(IDENTITY, '', window, failed)}\nor\n0 * {total}"),
        Recording(f"app_version:http_requests_errors:ratio_rate{window}", f"{errors} / ({total} > 0)"),
    )


def _latency() -> tuple[Recording, ...]:
    buckets = "app_version:http_request_duration_seconds_bucket:rate5m"
    quantiles = [
        Recording(
            f"app_version:http_request_duration_seconds:p{percent}_rate5m",
            f"histogram_quantile({percent / 100}, {buckets}) > 0",
        )
        for percent in (50, 95, 99)
    ]
    return Recording(buckets, _either(f"le, {IDENTITY}", "_bucket", "5m")), *quantiles


def _sides(name: str, source: str, more: str = "") -> tuple[Recording, ...]:
    """Return the sums over the versions of canary and of stable."""
    level, metric, operation = name.split(":")
    return tuple(
        [
            Recording(f"{level}:{metric}:{track}_{operation}", f"sum by ({APP}) ({source}{{{which}{more}}})")
            for track, which in (("canary", CANARY), ("stable", STABLE))
        ]
    )


def _z(name: str, bad: str, total: str) -> Recording:
    """Return by how many standard errors canary's share of bad events is above stable's.

    Two-proportion z statistic with the pooled share; 0 where nothing bad has happened on either side, or
    nothing good. No sample below `MINIMUM` events on either side. `bad` and `total` are rates over 30
    minutes, with ``{}`` for the track.
    """
    seconds = _SECONDS["30m"]
    bad_canary, bad_stable = bad.format("canary"), bad.format("stable")
    canary, stable = total.format("canary"), total.format("stable")
    pooled = f"(({bad_canary} + {bad_stable}) / ({canary} + {stable}))"
    return Recording(
        name,
        promql(f"""
            (
              ({bad_canary} / {canary} - {bad_stable} / {stable})
              / sqrt(({pooled} > 0) * (1 - {pooled} > 0) * (1 / {canary} + 1 / {stable}) / {seconds})
              or 0 * {canary}
            )
            and {seconds} * {canary} >= {MINIMUM}
            and {seconds} * {stable} >= {MINIMUM}
        """),
    )


def _counters(name: str, metric: str, matchers: str = "") -> tuple[Recording, ...]:
    """Return the rate of a counter of real users over 30 minutes, per version and per side."""
    rate = Recording(
        f"app_version:{name}:rate30m", f"sum by ({IDENTITY}) (rate({metric}{{{USERS}{matchers}}}[30m]))"
    )
    return rate, *_sides(f"app:{name}:rate30m", rate.name)


def _windows() -> tuple[Recording, ...]:
    """Return the ratio of errors of whole apps over the windows of the error budget."""
    total, errors = "app:http_requests:rate5m", "app:http_requests_errors:rate5m"
    sums = [
        Recording(name, f"sum by ({APP}) ({name.replace('app:', 'app_version:')})")
        for name in (total, errors)
    ]
    # Averages of what is recorded: a rate over three days of raw series would read all of them each time.
    ratios = [
        Recording(
            f"app:http_requests_errors:ratio_rate{window}",
            f"avg_over_time({errors}[{window}]) / (avg_over_time({total}[{window}]) > 0)",
        )
        for window in ("30m", "1h", "2h", "6h", "1d", "3d")
    ]
    return *sums, Recording("app:http_requests_errors:ratio_rate5m", f"{errors} / ({total} > 0)"), *ratios


def _pods() -> tuple[Recording, ...]:
    said = f'max by (namespace, pod, app, version, track) ({semconv.APP_BUILD_INFO}{{pod!="", version!=""}})'
    labels = foreign.POD_LABELS + '{label_app_kubernetes_io_version!=""}'
    for label, source in (
        ("app", "label_app_kubernetes_io_name"),
        ("version", "label_app_kubernetes_io_version"),
        ("track", "label_rolloutobs_io_track"),
    ):
        labels = f'label_replace({labels}, "{label}", "$1", "{source}", "(.*)")'
    info = f"""
        {said} and on (namespace, pod) count by (namespace, pod) ({said}) == 1
        or on (namespace, pod)
        max by (namespace, pod, app, version, track) ({labels})
    """
    # The highest, not the sum: by cAdvisor's own timestamps a container that has ended stays for 5 minutes.
    memory = f"""
        max by ({IDENTITY}) (
          max by (namespace, pod, container) ({foreign.CONTAINER_MEMORY}{{container!="", image!=""}})
          / max by (namespace, pod, container) ({foreign.POD_LIMITS}{{resource="memory"}} > 0)
          * {_JOIN}
        )
    """
    restarts = f"max by (namespace, pod, container) (increase({foreign.POD_RESTARTS}[15m]))"
    ready = f'max by (namespace, pod) ({foreign.POD_READY}{{condition="true"}})'
    age = f"(time() - max by (namespace, pod) ({foreign.POD_CREATED}))"
    return (
        # What the app itself says comes first, for its track changes while it runs; a pod that is not
        # scraped, because it crashes, is known by its labels. A pod with two apps in it belongs to neither.
        Recording(_INFO, promql(info)),
        Recording("app_version:container_memory_working_set:max_ratio_limit", promql(memory)),
        Recording(
            "app_version:kube_pod_container_status_restarts:increase15m",
            f"sum by ({IDENTITY}) ({restarts} * {_JOIN})",
        ),
        Recording("app_version:kube_pod:count_ready", f"sum by ({IDENTITY}) ({ready} * {_JOIN})"),
        Recording("app_version:kube_pod_age_seconds:min", f"min by ({IDENTITY}) ({age} * {_JOIN})"),
    )


_VERSIONS: Final = (
    Recording(
        f"app_version:{semconv.APP_BUILD_INFO}:count",
        f'count by ({IDENTITY}) ({semconv.APP_BUILD_INFO}{{app!="", version!=""}})',
    ),
    Recording(
        "app:app_version:count",
        f"count by ({APP}) (count by ({APP}, version) (app_version:{semconv.APP_BUILD_INFO}:count))",
    ),
)
_POOR_LCP: Final = f', {semconv.LABEL_VITAL}="lcp", {semconv.LABEL_RATING}="poor"'

GROUPS: Final = (
    Group("rolloutobs-versions", _VERSIONS),
    Group(
        "rolloutobs-http",
        (
            *_requests("5m"),
            *_requests("30m"),
            *_latency(),
            *_sides("app:http_requests:rate5m", "app_version:http_requests:rate5m"),
            *_sides("app:http_requests:rate30m", "app_version:http_requests:rate30m"),
            *_sides("app:http_requests_errors:rate30m", "app_version:http_requests_errors:rate30m"),
            _z(
                "app:http_requests_errors:canary_z30m",
                "app:http_requests_errors:{}_rate30m",
                "app:http_requests:{}_rate30m",
            ),
            *_windows(),
        ),
    ),
    Group("rolloutobs-pods", _pods()),
    Group(
        "rolloutobs-real-users",
        (
            *_counters("rum_page_views", semconv.RUM_PAGE_VIEWS_TOTAL),
            *_counters("rum_views_with_errors", semconv.RUM_VIEWS_WITH_ERRORS_TOTAL),
            *_counters("rum_lcp", semconv.RUM_VITALS_TOTAL, f', {semconv.LABEL_VITAL}="lcp"'),
            *_counters("rum_lcp_poor", semconv.RUM_VITALS_TOTAL, _POOR_LCP),
            _z(
                "app:rum_views_with_errors:canary_z30m",
                "app:rum_views_with_errors:{}_rate30m",
                "app:rum_page_views:{}_rate30m",
            ),
            _z("app:rum_lcp_poor:canary_z30m", "app:rum_lcp_poor:{}_rate30m", "app:rum_lcp:{}_rate30m"),
        ),
    ),
)
"""All of them, what others are made from first."""
