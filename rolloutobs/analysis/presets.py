"""Metrics of others, as changes of the default policy: names, labels, units. Data, no behaviour.

Belongs here: what a mesh, a proxy or OpenTelemetry calls errors and latency. A team's own metrics stand in
its policy in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rolloutobs import semconv

__all__ = ["PRESETS", "bucket_factors"]


def _requests(
    counter: str, wanted: Mapping[str, str], failed: Mapping[str, str], histogram: str, strata: list[str]
) -> Mapping[str, Any]:
    """Return the two signals of servers on these metrics."""
    return {
        "errors": {
            "exposures": {"metric": counter, "labels": {**wanted}},
            "events": {"metric": counter, "labels": {**wanted, **failed}},
            "strata": strata,
        },
        "latency": {"exposures": {"metric": histogram, "labels": {**wanted}}, "strata": strata},
    }


PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "default": {},
    # Source: OpenTelemetry semantic conventions, HTTP metrics; "Prometheus and OpenMetrics Compatibility".
    "semconv": {
        **_requests(
            f"{semconv.HTTP_SERVER_REQUEST_DURATION_SECONDS}_count",
            {semconv.LABEL_SYNTHETIC: ""},
            {semconv.LABEL_HTTP_RESPONSE_STATUS_CODE: "~5.."},
            semconv.HTTP_SERVER_REQUEST_DURATION_SECONDS,
            [semconv.LABEL_HTTP_REQUEST_METHOD, semconv.LABEL_HTTP_ROUTE],
        ),
        "log_errors": {
            "exposures": {"metric": f"{semconv.HTTP_SERVER_REQUEST_DURATION_SECONDS}_count"},
        },
    },
    # Source: https://istio.io/latest/docs/reference/config/metrics/ (as the destination's proxy reports them)
    "istio": _requests(
        "istio_requests_total",
        {"reporter": "destination"},
        {"response_code": "~5.."},
        "istio_request_duration_milliseconds",
        ["request_protocol"],
    ),
    # Source: https://linkerd.io/2/reference/proxy-metrics/
    "linkerd": _requests(
        "response_total",
        {"direction": "inbound"},
        {"classification": "failure"},
        "response_latency_ms",
        [],
    ),
    # Source: https://kubernetes.github.io/ingress-nginx/user-guide/monitoring/ (request metrics)
    "nginx": _requests(
        "nginx_ingress_controller_requests",
        {},
        {"status": "~5.."},
        "nginx_ingress_controller_request_duration_seconds",
        ["method", "path"],
    ),
    # Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/upstream/cluster_manager/cluster_stats
    "envoy": _requests(
        "envoy_cluster_upstream_rq",
        {},
        {"envoy_response_code": "~5.."},
        "envoy_cluster_upstream_rq_time",
        [],
    ),
}

_MILLISECONDS: Final = ("_milliseconds", "_ms", "envoy_cluster_upstream_rq_time")
"""Ends of the names of histograms whose bounds are milliseconds."""


def bucket_factors(metrics: frozenset[str]) -> Mapping[str, float]:
    """Return seconds per unit for those bucket metrics of `metrics` that are not in seconds."""
    return {
        name: 0.001
        for name in metrics
        if name.endswith("_bucket") and name.removesuffix("_bucket").endswith(_MILLISECONDS)
    }
