"""Names of metrics that others expose, once each: kube-state-metrics, cAdvisor, Flagger, Prometheus itself.

Source: kube-state-metrics 2.20, docs/metrics; kubelet 1.36, /metrics/cadvisor; Flagger 1.44,
pkg/metrics/recorder.go; node_exporter, collector "time"; Prometheus, "Automatically generated labels and
time series".
"""

from typing import Final

__all__ = ["NAMES"]

POD_CREATED: Final = "kube_pod_created"
POD_INFO: Final = "kube_pod_info"
POD_LABELS: Final = "kube_pod_labels"
"""Off unless kube-state-metrics is started with ``--metric-labels-allowlist``."""
POD_PHASE: Final = "kube_pod_status_phase"
POD_READY: Final = "kube_pod_status_ready"
POD_RESTARTS: Final = "kube_pod_container_status_restarts_total"
POD_LIMITS: Final = "kube_pod_container_resource_limits"
DEPLOYMENT_CONDITION: Final = "kube_deployment_status_condition"
DEPLOYMENT_DESIRED: Final = "kube_deployment_spec_replicas"
DEPLOYMENT_REPLICAS: Final = "kube_deployment_status_replicas"
DEPLOYMENT_UPDATED: Final = "kube_deployment_status_replicas_updated"
DEPLOYMENT_AVAILABLE: Final = "kube_deployment_status_replicas_available"
CONTAINER_MEMORY: Final = "container_memory_working_set_bytes"
FLAGGER_WEIGHT: Final = "flagger_canary_weight"
"""Per cent of the traffic, by workload: the target itself is the canary."""
NODE_TIME: Final = "node_time_seconds"
SCRAPED_SAMPLES: Final = "scrape_samples_scraped"
KEPT_SAMPLES: Final = "scrape_samples_post_metric_relabeling"
UP: Final = "up"

NAMES: Final = frozenset(
    {
        POD_CREATED, POD_INFO, POD_LABELS, POD_READY, POD_RESTARTS, POD_LIMITS, DEPLOYMENT_CONDITION,
        DEPLOYMENT_DESIRED, DEPLOYMENT_REPLICAS, DEPLOYMENT_UPDATED, DEPLOYMENT_AVAILABLE, CONTAINER_MEMORY,
        FLAGGER_WEIGHT, POD_PHASE, NODE_TIME, SCRAPED_SAMPLES, KEPT_SAMPLES, UP,
    }
)  # fmt: skip
"""All of them."""
