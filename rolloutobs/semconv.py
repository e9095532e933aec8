"""Every name that crosses between parts of rolloutobs, defined once.

Belongs here: metric names and their labels, span and log attributes, baggage keys, header names, bounds.
Does not belong here: behaviour, settings, or names that only one module uses.
"""

from typing import Final

# --- the three labels every metric of ours carries ---------------------------------------------------------
LABEL_APP: Final = "app"
"""The service: OpenTelemetry's ``service.name``. On every metric, the app's own included."""
LABEL_VERSION: Final = "version"
"""What runs: ``service.version``. On every metric."""
LABEL_TRACK: Final = "track"
"""``stable``, ``canary`` or ``baseline``; left out where no rollout is known. On every metric."""
IDENTITY_LABELS: Final = (LABEL_APP, LABEL_VERSION, LABEL_TRACK)

LABEL_SYNTHETIC: Final = "synthetic"
"""Present with the value ``"true"`` on synthetic traffic only: ``synthetic=""`` selects real users."""
SYNTHETIC_TRUE: Final = "true"

LABEL_METHOD: Final = "method"
"""HTTP method; ``_OTHER`` for one that no standard knows."""
LABEL_ROUTE: Final = "route"
"""Template of the route, ``/items/{item_id}``; empty where none has matched, never the raw path."""
LABEL_STATUS: Final = "status"
"""HTTP status: the one sent, 500 where the app raised, 499 where the client left."""
LABEL_STATUS_CLASS: Final = "status_class"
"""``2xx`` to ``5xx``."""
LABEL_REVISION: Final = "revision"
"""Source revision; left out where it is not known."""
LABEL_WHERE: Final = "where"
"""Part of the telemetry that failed."""
LABEL_METRIC: Final = "metric"
"""Name of the metric that has too many label sets."""

# --- server metrics, default naming -----------------------------------------------------------------------
HTTP_REQUESTS_TOTAL: Final = "http_requests_total"
HTTP_REQUEST_DURATION_SECONDS: Final = "http_request_duration_seconds"
HTTP_REQUESTS_IN_FLIGHT: Final = "http_requests_in_flight"

# --- server metrics, naming="semconv", as OpenTelemetry's names are written for Prometheus ------------------
# Source: OpenTelemetry HTTP metrics semantic conventions 1.4x; "Prometheus and OpenMetrics Compatibility".
HTTP_SERVER_REQUEST_DURATION_SECONDS: Final = "http_server_request_duration_seconds"
"""Its ``_count`` is the number of requests: there is no counter besides."""
HTTP_SERVER_REQUESTS_TOTAL: Final = "http_server_requests_total"
"""Only with ``caller_label``, for the callers' labels: OpenTelemetry has no such counter."""
HTTP_SERVER_ACTIVE_REQUESTS: Final = "http_server_active_requests"
LABEL_HTTP_REQUEST_METHOD: Final = "http_request_method"
"""As ``method``, under OpenTelemetry's name."""
LABEL_HTTP_ROUTE: Final = "http_route"
"""As ``route``, under OpenTelemetry's name."""
LABEL_HTTP_RESPONSE_STATUS_CODE: Final = "http_response_status_code"
"""As ``status``, under OpenTelemetry's name."""
LABEL_URL_SCHEME: Final = "url_scheme"
"""``http`` or ``https``; ``_OTHER`` for anything else."""
LABEL_ERROR_TYPE: Final = "error_type"
"""The status where it is 500 or above; else the label is left out."""
PREFIX: Final = "rolloutobs_"
"""Of our server metrics, with ``on_conflict="prefix"``."""

# --- what an app does besides answering HTTP ----------------------------------------------------------------
WS_CONNECTIONS_TOTAL: Final = "ws_connections_total"
"""Websocket connections that have ended: labels route and outcome (ok, rejected, disconnected, error)."""
WS_CONNECTIONS_ACTIVE: Final = "ws_connections_active"
WS_CONNECTION_DURATION_SECONDS: Final = "ws_connection_duration_seconds"
APP_BUILD_INFO: Final = "app_build_info"
APP_START_TIME_SECONDS: Final = "app_start_time_seconds"
APP_OPERATIONS_TOTAL: Final = "app_operations_total"
"""Work that is not HTTP (gRPC calls, tasks, consumed messages, jobs): labels kind, name, outcome."""
APP_OPERATION_DURATION_SECONDS: Final = "app_operation_duration_seconds"
LABEL_NAME: Final = "name"
"""What is done: a task, a topic, a gRPC method, a job."""
LOG_RECORDS_TOTAL: Final = "log_records_total"
"""Records of enabled loggers, whether or not a handler writes them: label level."""
LABEL_LEVEL: Final = "level"
"""``debug``, ``info``, ``warning``, ``error``, ``critical``, or ``other`` for a level of the app's own."""
APP_ERRORS_TOTAL: Final = "app_errors_total"
"""Unhandled exceptions and messages of level error or above: labels fingerprint and type."""
LABEL_TYPE: Final = "type"
"""Class of the exception; ``log`` for an error message without one."""
FINGERPRINT_OTHER: Final = "_other"
"""Fingerprint and type of errors that came after too many different ones."""
INTERNAL_ERRORS_TOTAL: Final = "rolloutobs_internal_errors_total"
APP_PROCESS_RESIDENT_MEMORY_BYTES: Final = "app_process_resident_memory_bytes"
APP_PROCESS_CPU_SECONDS_TOTAL: Final = "app_process_cpu_seconds_total"
APP_PROCESS_OPEN_FDS: Final = "app_process_open_fds"
APP_PROCESSES: Final = "app_processes"
"""Processes whose memory, CPU and files are summed up: the workers of a server."""
APP_EVENT_LOOP_LAG_SECONDS: Final = "app_event_loop_lag_seconds"
"""By how much the event loop was late; its share of time above a bound is a share of the observations."""
APP_GC_PAUSE_SECONDS_TOTAL: Final = "app_gc_pause_seconds_total"
APP_GC_COLLECTIONS_TOTAL: Final = "app_gc_collections_total"
LABEL_GENERATION: Final = "generation"
"""Generation of Python's garbage collector: 0, 1 or 2."""
LAG_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds: from what a loaded loop shows at any time to what makes a health check fail."""
LABEL_SETS_DROPPED_TOTAL: Final = "rolloutobs_label_sets_dropped_total"

BAGGAGE_REJECTED_TOTAL: Final = "rolloutobs_baggage_rejected_total"
IDENTITY_WITHHELD_TOTAL: Final = "rolloutobs_identity_withheld_total"
LABEL_CALLER: Final = "caller"
"""Service that called, as it says itself; only with ``caller_label``."""
LABEL_CALLER_VERSION: Final = "caller_version"
"""Version of the service that called."""

DURATION_BOUNDS: Final = tuple(round(0.005 * 1.5**i, 6) for i in range(20))
"""Upper bounds in seconds, log-regular (factor 1.5, 5 ms to 11 s): a true x1.5 slow-down moves one bucket."""

CONNECTION_BOUNDS: Final = tuple(round(0.1 * 4.0**i, 1) for i in range(10))
"""Upper bounds in seconds of how long websockets stay open, log-regular (factor 4, 100 ms to 7 h)."""

SEMCONV_DURATION_BOUNDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
"""Source: OpenTelemetry HTTP semantic conventions, metric ``http.server.request.duration``."""

METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}
)
"""Known methods. Source: OpenTelemetry HTTP semantic conventions 1.4x, http.request.method."""
METHOD_OTHER: Final = "_OTHER"

# --- real-user metrics, labels route and device (and synthetic) --------------------------------------------
LABEL_DEVICE: Final = "device"
RUM_LCP_SECONDS: Final = "rum_lcp_seconds"
RUM_INP_SECONDS: Final = "rum_inp_seconds"
RUM_CLS: Final = "rum_cls"
RUM_FCP_SECONDS: Final = "rum_fcp_seconds"
RUM_TTFB_SECONDS: Final = "rum_ttfb_seconds"
RUM_PAGE_LOAD_SECONDS: Final = "rum_page_load_seconds"
RUM_VITALS_TOTAL: Final = "rum_vitals_total"
RUM_PAGE_VIEWS_TOTAL: Final = "rum_page_views_total"
RUM_JS_ERRORS_TOTAL: Final = "rum_js_errors_total"
RUM_RESOURCE_ERRORS_TOTAL: Final = "rum_resource_errors_total"
RUM_EVENTS_TOTAL: Final = "rum_events_total"
RUM_SAMPLING_RATIO: Final = "rum_sampling_ratio"
RUM_BEACONS_TOTAL: Final = "rum_beacons_total"
"""What became of each body posted to the collector: label outcome (accepted, or why it was rejected)."""
RUM_VIEWS_WITH_ERRORS_TOTAL: Final = "rum_views_with_errors_total"
"""Page views with at least one JavaScript error: the evidence counter. `RUM_JS_ERRORS_TOTAL` counts every
throw, and one broken page can throw a hundred times; a view counts here once."""
RUM_VIEWS_WITH_RESOURCE_ERRORS_TOTAL: Final = "rum_views_with_resource_errors_total"
"""Page views in which at least one script, style sheet, image or call of the page failed to load: the
evidence counter beside `RUM_RESOURCE_ERRORS_TOTAL`, which counts every failure."""
RUM_JS_ERROR_INFO: Final = "rum_js_error_info"
"""Always 1: the scrubbed message behind each fingerprint."""
RUM_VALUES_REJECTED_TOTAL: Final = "rum_values_rejected_total"
"""Single values left out of beacons that were otherwise accepted: label reason."""
RUM_ADMISSION_OVERFLOW_TOTAL: Final = "rum_admission_overflow_total"
"""Values counted as ``other`` because the collector's bound for their kind was reached: label kind."""

# The same views by where they came from, for evidence that no single network can make up: labels of the
# identity, synthetic, signed and source, but neither route nor device.
LABEL_SIGNED: Final = "signed"
"""``"true"`` on what views with a valid, unused token have shown; else the label is left out."""
SIGNED_TRUE: Final = "true"
LABEL_SOURCE: Final = "source"
"""One of `RUM_SOURCES` groups of networks, ``"00"`` to ``"15"``: a keyed hash of the sender's network (IPv4
/24, IPv6 /48), so that all views of one network are in one group, in every replica that has the same key, and
no address can be read from it."""
RUM_SOURCES: Final = 16
"""So few that series stay bounded, so many that leaving one out costs an honest site a sixteenth."""
RUM_SOURCE_PAGE_VIEWS_TOTAL: Final = "rum_source_page_views_total"
RUM_SOURCE_VIEWS_WITH_ERRORS_TOTAL: Final = "rum_source_views_with_errors_total"
RUM_SOURCE_VIEWS_WITH_RESOURCE_ERRORS_TOTAL: Final = "rum_source_views_with_resource_errors_total"
RUM_SOURCE_VITALS_TOTAL: Final = "rum_source_vitals_total"
"""Page views by vital and rating."""

RUM_ABORTED_VIEWS_TOTAL: Final = "rum_aborted_views_total"
"""Page views that were left before the load event: a slow or broken version loses more of them."""
RUM_API_CALLS_TOTAL: Final = "rum_api_calls_total"
"""Same-origin calls of pages, by whether the version that served the page has answered: label answered. What
is not answered by ``same`` dilutes what the page shows about its version."""
LABEL_ANSWERED: Final = "answered"
"""``same`` or ``other``."""
RUM_REQUESTS_TOTAL: Final = "rum_requests_total"
"""Calls of pages by target (a template, as of routes) and outcome (ok, error)."""
RUM_REQUEST_SECONDS_TOTAL: Final = "rum_request_seconds_total"
LABEL_TARGET: Final = "target"
RUM_LONG_FRAME_SECONDS_TOTAL: Final = "rum_long_frame_seconds_total"
"""Time in long animation frames; as a share of `RUM_OBSERVED_SECONDS_TOTAL`: how often a page is stuck."""
RUM_OBSERVED_SECONDS_TOTAL: Final = "rum_observed_seconds_total"
RUM_NAVIGATION_PHASE_SECONDS_TOTAL: Final = "rum_navigation_phase_seconds_total"
RUM_NAVIGATION_PHASES_TOTAL: Final = "rum_navigation_phases_total"
"""Page loads that have reported the phase: what its seconds are divided by."""
LABEL_PHASE: Final = "phase"
RUM_JS_ERROR_LOCATION_INFO: Final = "rum_js_error_location_info"
"""Always 1: where an error was first thrown, in the source where its source map is there."""
LABEL_LOCATION: Final = "location"
RUM_VIEW_TOKENS_TOTAL: Final = "rum_view_tokens_total"
"""Beacons by what became of their view token: label outcome (valid, or why it proves nothing)."""
RUM_FORWARDED_TOTAL: Final = "rum_forwarded_total"
"""Batches sent on to an OpenTelemetry Collector: label signal."""
RUM_FORWARD_DROPPED_TOTAL: Final = "rum_forward_dropped_total"
"""Batches that were not sent on: labels signal and reason."""
LABEL_SIGNAL: Final = "signal"
"""``logs`` or ``traces``."""

LABEL_VITAL: Final = "vital"
LABEL_RATING: Final = "rating"
LABEL_NAVIGATION_TYPE: Final = "navigation_type"
LABEL_FINGERPRINT: Final = "fingerprint"
"""The same for the same error in every version; ``_other`` after too many different ones."""
LABEL_EVENT: Final = "event"
LABEL_MESSAGE: Final = "message"
LABEL_KIND: Final = "kind"
"""Of operations: ``grpc``, ``task``, ``consumer`` or ``job``."""
LABEL_REASON: Final = "reason"
"""Why something did not count, or was left out."""
RUM_OTHER: Final = "other"
"""Label value of what did not fit under a bound."""

# Bounds designed so that linear interpolation misses p75 by at most 1 %, and so that the good and poor
# thresholds of https://web.dev/articles/vitals are bounds themselves: shares of good and poor are exact.
# Seconds; CLS has no unit.
RUM_LCP_BOUNDS: Final = (
    0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.5, 4.0, 5.0, 6.0,
    8.0, 10.0, 15.0, 30.0,
)  # fmt: skip
RUM_INP_BOUNDS: Final = (
    0.016, 0.032, 0.048, 0.064, 0.08, 0.104, 0.128, 0.152, 0.176, 0.2, 0.224, 0.248, 0.304, 0.352, 0.4,
    0.5, 0.648, 0.8, 1.0, 2.0, 5.0,
)  # fmt: skip
"""On multiples of 8 ms, to which Event Timing rounds."""
RUM_CLS_BOUNDS: Final = (
    0.0, 0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.4, 0.5,
    0.75, 1.0, 2.0,
)  # fmt: skip
RUM_FCP_BOUNDS: Final = (
    0.2, 0.35, 0.5, 0.65, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.25, 2.5, 3.0, 3.5, 4.0, 5.0, 7.0, 10.0, 20.0,
)  # fmt: skip
RUM_TTFB_BOUNDS: Final = (
    0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.8, 2.4, 3.0, 5.0, 10.0,
)  # fmt: skip
RUM_PAGE_LOAD_BOUNDS: Final = (
    0.4, 0.7, 1.0, 1.3, 1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0, 30.0, 60.0,
)  # fmt: skip

# --- synthetic metrics, labels check and step --------------------------------------------------------------
LABEL_CHECK: Final = "check"
LABEL_STEP: Final = "step"
LABEL_OUTCOME: Final = "outcome"
"""How an operation, a connection or a check ended."""
SYNTHETIC_CHECK_RUNS_TOTAL: Final = "synthetic_check_runs_total"
SYNTHETIC_CHECK_DURATION_SECONDS: Final = "synthetic_check_duration_seconds"
SYNTHETIC_CHECK_LAST_SUCCESS_TIMESTAMP_SECONDS: Final = "synthetic_check_last_success_timestamp_seconds"
SYNTHETIC_CHECK_IDENTITY_MISMATCH_TOTAL: Final = "synthetic_check_identity_mismatch_total"
SYNTHETIC_CHECK_LCP_SECONDS: Final = "synthetic_check_lcp_seconds"
SYNTHETIC_CHECK_INP_SECONDS: Final = "synthetic_check_inp_seconds"
SYNTHETIC_CHECK_CLS: Final = "synthetic_check_cls"
SYNTHETIC_CHECK_FCP_SECONDS: Final = "synthetic_check_fcp_seconds"
SYNTHETIC_CHECK_TTFB_SECONDS: Final = "synthetic_check_ttfb_seconds"
SYNTHETIC_CHECK_PASSED_ON_RETRY_TOTAL: Final = "synthetic_check_passed_on_retry_total"

LABEL_LOAD: Final = "load"
LABEL_RESULT: Final = "result"
"""How a load ended: pass, product, infrastructure or inconclusive, as its exit code says."""
SYNTHETIC_LOAD_REQUESTS_TOTAL: Final = "synthetic_load_requests_total"
SYNTHETIC_LOAD_REQUEST_DURATION_SECONDS: Final = "synthetic_load_request_duration_seconds"
SYNTHETIC_LOAD_IDENTITY_MISMATCH_TOTAL: Final = "synthetic_load_identity_mismatch_total"
SYNTHETIC_LOAD_LATE_ARRIVALS_TOTAL: Final = "synthetic_load_late_arrivals_total"
SYNTHETIC_LOAD_LOST_WORKERS_TOTAL: Final = "synthetic_load_lost_workers_total"
SYNTHETIC_LOAD_LAST_END_TIMESTAMP_SECONDS: Final = "synthetic_load_last_end_timestamp_seconds"

# --- analysis -----------------------------------------------------------------------------------------------
VERDICT: Final = "rolloutobs_verdict"
EVIDENCE_NATS: Final = "rolloutobs_evidence_nats"
RATIO: Final = "rolloutobs_ratio"
GATE_LOOKS_TOTAL: Final = "rolloutobs_gate_looks_total"
"""Readings that a gate has taken; it stands still where the gate's source no longer answers."""
GATE_FAILED_READS_TOTAL: Final = "rolloutobs_gate_failed_reads_total"

# --- verdicts over HTTP, labels namespace and workload ------------------------------------------------------
GATE_LAST_LOOK_TIMESTAMP_SECONDS: Final = "rolloutobs_gate_last_look_timestamp_seconds"
"""When the source was last read; an old one passes nothing."""
GATE_ROLLBACK_HELD: Final = "rolloutobs_gate_rollback_held"
"""1 while a rollback is decided that is marked as unsafe: label owner, who has to be called."""
GATE_ANSWERS_TOTAL: Final = "rolloutobs_gate_answers_total"
"""What callers were told: labels hook (a type of Flagger's webhooks, or ``verdict``) and status."""
GATE_FAILURES_TOTAL: Final = "rolloutobs_gate_failures_total"
"""What could not be done: label where (``look``, ``state``, ``notify``, ``tokens``, ``workloads``)."""
LABEL_HOOK: Final = "hook"
LABEL_OWNER: Final = "owner"

# --- cluster, labels namespace and workload -----------------------------------------------------------------
LABEL_NAMESPACE: Final = "namespace"
LABEL_WORKLOAD: Final = "workload"
"""Name of the Deployment, Rollout or Canary."""
LABEL_FROM_VERSION: Final = "from_version"
LABEL_TO_VERSION: Final = "to_version"
ROLLOUT_INFO: Final = "rolloutobs_rollout_info"
"""Always 1: the versions of the last rollout, and who owns the workload (label owner), for alerts to be
routed by."""
ROLLOUT_PROGRESS_RATIO: Final = "rolloutobs_rollout_progress_ratio"
"""Available new pods among those desired, or the canary's share of the traffic."""
ROLLOUT_PHASE: Final = "rolloutobs_rollout_phase"
"""1 for the phase of the last rollout, 0 for the others."""
ROLLOUT_STARTED_TIMESTAMP_SECONDS: Final = "rolloutobs_rollout_started_timestamp_seconds"
"""When the last rollout began."""
ROLLOUT_DURATION_SECONDS: Final = "rolloutobs_rollout_duration_seconds"
"""How long the last rollout took, or the present one has taken so far."""
ROLLOUT_REVISION: Final = "rolloutobs_rollout_revision"
"""Counted by the controller; it changes with every rollout, rollbacks too."""
PODS: Final = "rolloutobs_pods"
"""Pods that have not ended, those that are being deleted too: labels app, version and track besides."""
TRACK_MISMATCH_PODS: Final = "rolloutobs_track_mismatch_pods"
"""Pods whose label names another track than their controller's status."""
WATCHER_CHANGES_TOTAL: Final = "rolloutobs_watcher_changes_total"
"""Changes that the watcher has seen, events among them: label kind."""
WATCHER_FAILURES_TOTAL: Final = "rolloutobs_watcher_failures_total"
"""Requests to the Kubernetes API that have failed, lines that could not be read, changes that a sink has
lost: label where."""
WATCHER_CUTS_TOTAL: Final = "rolloutobs_watcher_cuts_total"
"""Watches that broke off and went on from where they were, which is no failure: label resource."""
WATCHER_LISTS_TOTAL: Final = "rolloutobs_watcher_lists_total"
"""Full lists read: label resource. Each beyond the first means that a watch could not go on."""
WATCHER_READABLE: Final = "rolloutobs_watcher_readable"
"""1 where the watcher may read a resource, 0 where it is not installed or a right is missing."""
LABEL_RESOURCE: Final = "resource"


# --- span and log attributes --------------------------------------------------------------------------------
ATTR_VERSION: Final = "app.version"
"""What runs, on every span and log record; ``service.version`` of the resource says the same."""
ATTR_TRACK: Final = "rolloutobs.track"
"""The track at that moment; left out where no rollout is known."""
ATTR_CALLER_SERVICE: Final = "rolloutobs.caller.service"
"""Which service called."""
ATTR_CALLER_VERSION: Final = "rolloutobs.caller.version"
"""Which version of it."""
ATTR_CALLER_TRACK: Final = "rolloutobs.caller.track"
"""On which track it was."""
ATTR_ERROR_FINGERPRINT: Final = "rolloutobs.error.fingerprint"
"""Of spans and log records: the ``fingerprint`` of ``app_errors_total``."""
ATTR_CLOSE_CODE: Final = "rolloutobs.websocket.close_code"
"""Of spans of websocket connections: the code with which either side has closed. Source: RFC 6455, 7.4."""
ATTR_SYNTHETIC_TYPE: Final = "user_agent.synthetic.type"
"""``test`` where a check or a load test sent the request."""
SYNTHETIC_TYPE_TEST: Final = "test"

# --- log events and spans of the watcher --------------------------------------------------------------------
EVENT_ROLLOUT: Final = "rolloutobs.rollout"
"""Begins the name of the event of each change of a rollout: ``rolloutobs.rollout.started``."""
EVENT_KUBERNETES: Final = "rolloutobs.kubernetes.event"
"""An Event of Kubernetes, new or repeated."""
ROLLOUT_ATTR_ID: Final = "rolloutobs.rollout.id"
"""The same for all that is said of one rollout: uid of the workload and revision."""
ROLLOUT_ATTR_NAMESPACE: Final = "k8s.namespace.name"
ROLLOUT_ATTR_WORKLOAD: Final = "rolloutobs.rollout.workload"
ROLLOUT_ATTR_APP: Final = "rolloutobs.rollout.app"
ROLLOUT_ATTR_FROM: Final = "rolloutobs.rollout.from_version"
ROLLOUT_ATTR_TO: Final = "rolloutobs.rollout.to_version"
ROLLOUT_ATTR_PHASE: Final = "rolloutobs.rollout.phase"
ROLLOUT_ATTR_REVISION: Final = "rolloutobs.rollout.revision"
ROLLOUT_ATTR_UNDOES: Final = "rolloutobs.rollout.undoes"
"""Of a rollback: `ROLLOUT_ATTR_ID` of what it takes back."""
ROLLOUT_ATTR_UNDONE_BY: Final = "rolloutobs.rollout.undone_by"
"""Of what was taken back: `ROLLOUT_ATTR_ID` of what took it back."""
ROLLOUT_ATTR_REASON: Final = "rolloutobs.rollout.reason"
"""Why it is stuck, paused or rolled back."""
ROLLOUT_ATTR_OWNER: Final = "rolloutobs.rollout.owner"
"""Who owns the workload, as its annotation says."""
ROLLOUT_ATTR_DESIRED: Final = "rolloutobs.rollout.desired"
"""Pods that are wanted."""
ROLLOUT_ATTR_UPDATED: Final = "rolloutobs.rollout.updated"
"""Those of the new version."""
ROLLOUT_ATTR_WEIGHT: Final = "rolloutobs.rollout.weight_ratio"
"""The new version's share of the traffic, where a controller steers it."""
ROLLOUT_ATTR_LINK: Final = "rolloutobs.rollout.link"
"""Of a link: ``undoes`` or ``undone by``."""
ROLLOUT_ATTR_SPANS_LEFT_OUT: Final = "rolloutobs.rollout.spans_left_out"
"""How many spans the trace of a very large rollout was sent without."""
POD_ATTR_NAME: Final = "k8s.pod.name"
POD_ATTR_UID: Final = "k8s.pod.uid"
POD_ATTR_RESTARTS: Final = "rolloutobs.pod.restarts"
"""Restarts of a pod's containers by the time that it was ready, or that its rollout ended."""
KUBERNETES_ATTR_KIND: Final = "k8s.object.kind"
KUBERNETES_ATTR_NAME: Final = "k8s.object.name"
KUBERNETES_ATTR_REASON: Final = "k8s.event.reason"
KUBERNETES_ATTR_COUNT: Final = "k8s.event.count"
KUBERNETES_ATTR_MESSAGE: Final = "k8s.event.message"

# --- log events of the analysis -----------------------------------------------------------------------------
EVENT_VERDICT: Final = "rolloutobs.verdict"
"""One for each decision of a gate; its body is the sentence."""
EVENT_VERDICT_METRIC: Final = "rolloutobs.verdict.metric"
"""One beside it for each signal that was compared."""
VERDICT_ATTR_APP: Final = "rolloutobs.verdict.app"
"""Which app was judged: the ``service.name`` of its own telemetry."""
VERDICT_ATTR_PHASE: Final = "rolloutobs.verdict.phase"
"""``rollout`` or ``bake``."""
VERDICT_ATTR_DECISION: Final = "rolloutobs.verdict.decision"
"""``promote``, ``hold`` or ``rollback``."""
VERDICT_ATTR_INTERRUPTED: Final = "rolloutobs.verdict.interrupted"
"""Whether somebody stopped the gate before it was decided."""
VERDICT_ATTR_OVERRIDE: Final = "rolloutobs.verdict.override"
"""Reason of a decision that a person took; left out otherwise."""
VERDICT_ATTR_OVERRIDE_WHO: Final = "rolloutobs.verdict.override.who"
"""Who took it; left out where no person did."""
VERDICT_ATTR_OWNER: Final = "rolloutobs.verdict.owner"
"""Who owns the workload, as its annotation says; left out where nothing does."""
VERDICT_ATTR_PAGE: Final = "rolloutobs.verdict.page"
"""Whether a person has to come: rolling back is called for, and marked as unsafe."""
VERDICT_ATTR_CANARY_VERSION: Final = "rolloutobs.verdict.canary.version"
"""Version that was judged."""
VERDICT_ATTR_STABLE_VERSION: Final = "rolloutobs.verdict.stable.version"
"""Version it was compared with."""
VERDICT_ATTR_CANARY_REQUESTS: Final = "rolloutobs.verdict.canary.requests"
"""Requests of the canary that were seen."""
VERDICT_ATTR_STABLE_REQUESTS: Final = "rolloutobs.verdict.stable.requests"
"""Requests of stable that were seen."""
VERDICT_ATTR_METRIC: Final = "rolloutobs.verdict.metric"
"""Name of a signal; of the event of the decision, the one that decided a rollback."""
VERDICT_ATTR_OUTCOME: Final = "rolloutobs.verdict.outcome"
"""``pass``, ``fail``, ``inconclusive`` or ``error``."""
VERDICT_ATTR_NATS: Final = "rolloutobs.verdict.nats"
"""Evidence against the canary, a natural logarithm."""
VERDICT_ATTR_THRESHOLD: Final = "rolloutobs.verdict.threshold"
"""Nats that decide."""
VERDICT_ATTR_PROOF: Final = "rolloutobs.verdict.proof_nats"
"""Evidence that the canary is within its margin."""
VERDICT_ATTR_PROOF_THRESHOLD: Final = "rolloutobs.verdict.proof_threshold"
"""Nats that prove it."""
VERDICT_ATTR_RATIO: Final = "rolloutobs.verdict.ratio"
"""canary / stable; left out where it is not known."""
VERDICT_ATTR_RATIO_LOW: Final = "rolloutobs.verdict.ratio.low"
"""Lower end of its confidence sequence."""
VERDICT_ATTR_RATIO_HIGH: Final = "rolloutobs.verdict.ratio.high"
"""Upper end of it; left out where it is infinite."""

# --- annotations of workloads -------------------------------------------------------------------------------
ANNOTATIONS: Final = "rolloutobs.io/"
"""Ours begin so."""
ANNOTATION_ROLLBACK: Final = "rolloutobs.io/rollback"
"""``safe`` (as if it were not there), ``unsafe`` or ``unsafe: why``: no machine rolls it back."""
ANNOTATION_OWNER: Final = "rolloutobs.io/owner"
"""Who is told about the workload's rollouts, and paged: a team, a channel, an address."""

# --- across processes: W3C baggage --------------------------------------------------------------------------
BAGGAGE_SERVICE: Final = "rolloutobs.service"
"""Which service sends this; written anew at each hop, as are the next two."""
BAGGAGE_VERSION: Final = "rolloutobs.version"
"""Its version."""
BAGGAGE_TRACK: Final = "rolloutobs.track"
"""Its track; not sent where it has none."""
BAGGAGE_SIGNATURE: Final = "rolloutobs.sig"
"""Proves the three above and the mark below, where a secret is set."""
BAGGAGE_SYNTHETIC: Final = "synthetic"
"""``test``: a check or a load test has started this trace; kept along all of it."""
BAGGAGE_SYNTHETIC_TEST: Final = "test"

# --- to the browser and to checks: Server-Timing entries, each with desc="..." ------------------------------
SERVER_TIMING_VERSION: Final = "version"
"""Version that answered."""
SERVER_TIMING_TRACK: Final = "track"
"""Its track, where it has one."""
SERVER_TIMING_TRACEPARENT: Final = "traceparent"
"""Trace and span of the answer, as in the header ``traceparent``."""
SERVER_TIMING_SYNTHETIC: Final = "synthetic"
"""Present on documents served to synthetic traffic: the page's own beacons then count as synthetic."""
SERVER_TIMING_VIEW: Final = "view"
"""In the place of version and track where a secret is set: a signed token that only the collector reads."""
SERVER_TIMING_ANSWER: Final = "answer"
"""Beside a token: a mark by which the collector can tell whether the page's own version has answered."""
