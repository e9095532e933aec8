"""Every name that crosses between parts of rolloutobs, defined once.

Belongs here: metric names and their labels, span and log attributes, baggage keys, header names, bucket bounds.
Does not belong here: behaviour, settings, or names that only one module uses.
"""

from typing import Final

# --- the three labels every metric of ours carries ---------------------------------------------------------
LABEL_APP: Final = "app"
LABEL_VERSION: Final = "version"
LABEL_TRACK: Final = "track"
IDENTITY_LABELS: Final = (LABEL_APP, LABEL_VERSION, LABEL_TRACK)

LABEL_SYNTHETIC: Final = "synthetic"
"""Present with the value ``"true"`` on synthetic traffic only, so that ``synthetic=""`` selects real users."""
SYNTHETIC_TRUE: Final = "true"

LABEL_METHOD: Final = "method"
LABEL_ROUTE: Final = "route"
LABEL_STATUS: Final = "status"
LABEL_STATUS_CLASS: Final = "status_class"

# --- server metrics, default naming -----------------------------------------------------------------------
HTTP_REQUESTS_TOTAL: Final = "http_requests_total"
HTTP_REQUEST_DURATION_SECONDS: Final = "http_request_duration_seconds"
HTTP_REQUESTS_IN_FLIGHT: Final = "http_requests_in_flight"
APP_BUILD_INFO: Final = "app_build_info"
APP_START_TIME_SECONDS: Final = "app_start_time_seconds"
INTERNAL_ERRORS_TOTAL: Final = "rolloutobs_internal_errors_total"
LABEL_SETS_DROPPED_TOTAL: Final = "rolloutobs_label_sets_dropped_total"

DURATION_BOUNDS: Final = tuple(round(0.005 * 1.5**i, 6) for i in range(20))
"""Upper bounds in seconds, log-regular with factor 1.5 from 5 ms to 11 s: a true x1.5 slow-down moves one bucket."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
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
"""What became of each body posted to the collector: label outcome (accepted, or the reason of its rejection)."""

# --- synthetic metrics, labels check and step --------------------------------------------------------------
LABEL_CHECK: Final = "check"
LABEL_STEP: Final = "step"
LABEL_OUTCOME: Final = "outcome"
SYNTHETIC_CHECK_RUNS_TOTAL: Final = "synthetic_check_runs_total"
SYNTHETIC_CHECK_DURATION_SECONDS: Final = "synthetic_check_duration_seconds"
SYNTHETIC_CHECK_LAST_SUCCESS_TIMESTAMP_SECONDS: Final = "synthetic_check_last_success_timestamp_seconds"
SYNTHETIC_CHECK_IDENTITY_MISMATCH_TOTAL: Final = "synthetic_check_identity_mismatch_total"

# --- analysis -----------------------------------------------------------------------------------------------
VERDICT: Final = "rolloutobs_verdict"
EVIDENCE_NATS: Final = "rolloutobs_evidence_nats"
RATIO: Final = "rolloutobs_ratio"

# --- span and log attributes --------------------------------------------------------------------------------
ATTR_VERSION: Final = "app.version"
ATTR_TRACK: Final = "rolloutobs.track"
ATTR_CALLER_SERVICE: Final = "rolloutobs.caller.service"
ATTR_CALLER_VERSION: Final = "rolloutobs.caller.version"
ATTR_CALLER_TRACK: Final = "rolloutobs.caller.track"
ATTR_SYNTHETIC_TYPE: Final = "user_agent.synthetic.type"
SYNTHETIC_TYPE_TEST: Final = "test"

# --- across processes: W3C baggage --------------------------------------------------------------------------
BAGGAGE_SERVICE: Final = "rolloutobs.service"
BAGGAGE_VERSION: Final = "rolloutobs.version"
BAGGAGE_TRACK: Final = "rolloutobs.track"
BAGGAGE_SYNTHETIC: Final = "synthetic"
BAGGAGE_SYNTHETIC_TEST: Final = "test"

# --- to the browser and to checks: Server-Timing entries, each with desc="..." ------------------------------
SERVER_TIMING_VERSION: Final = "version"
SERVER_TIMING_TRACK: Final = "track"
SERVER_TIMING_TRACEPARENT: Final = "traceparent"
