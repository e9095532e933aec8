"""What environment variables say, as the fields of `Settings`: the only place that knows their names.

Belongs here: which variable is which field, and OpenTelemetry's own, which are read in one piece. Does not
belong here: how a text is read (`variables`), what a value may be (`settings`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rolloutobs import variables
from rolloutobs.identity import Track
from rolloutobs.modes import Naming, OnConflict, SpanMode
from rolloutobs.ratios import DEFAULT_SAMPLING_RATIO, Ratios

__all__ = ["RATIOS", "SECRETS", "VARIABLES", "Variable", "read"]

_SAMPLER_ARG = "OTEL_TRACES_SAMPLER_ARG"
RATIOS: Final = (
    "sampling_ratio",
    "canary_sampling_ratio",
    "baseline_sampling_ratio",
    "trackless_sampling_ratio",
)
"""Fields of the sampling ratios, in the order of `Ratios`."""


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable of one field."""

    field: str
    names: tuple[str, ...]
    """The first one that is set counts."""
    read: Callable[[str, str], Any] = lambda name, text: text.strip()
    resource: tuple[str, ...] = ()
    """Entries of ``OTEL_RESOURCE_ATTRIBUTES`` that are asked where no variable is set."""
    empty_is_a_value: bool = False


def _track(name: str, text: str) -> Track:
    return Track.parse(text, name)


def _path_set(name: str, text: str) -> frozenset[str]:
    return frozenset(variables.words(name, text))


_HEADERS: Final = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"
VARIABLES: Final = (
    Variable("service", ("OTEL_SERVICE_NAME",), resource=("service.name",)),
    Variable("version", ("ROLLOUTOBS_VERSION", "APP_VERSION"), resource=("service.version",)),
    Variable("track", ("ROLLOUTOBS_TRACK",), _track, ("rolloutobs.track",)),
    Variable(
        "environment",
        ("ROLLOUTOBS_ENVIRONMENT",),
        resource=("deployment.environment.name", "deployment.environment"),
    ),
    Variable("revision", ("ROLLOUTOBS_REVISION",), resource=("vcs.ref.head.revision",)),
    Variable("image", ("ROLLOUTOBS_IMAGE", "APP_IMAGE")),
    Variable("detection", ("ROLLOUTOBS_DETECTION",), variables.boolean),
    Variable("labels_file", ("ROLLOUTOBS_LABELS_FILE",), variables.path_or_off, empty_is_a_value=True),
    Variable("labels_interval_seconds", ("ROLLOUTOBS_LABELS_INTERVAL_SECONDS",), variables.number),
    Variable("old_track_seconds", ("ROLLOUTOBS_OLD_TRACK_SECONDS",), variables.number),
    Variable("metrics_path", ("ROLLOUTOBS_METRICS_PATH",), variables.path_or_off, empty_is_a_value=True),
    Variable("metrics_port", ("ROLLOUTOBS_METRICS_PORT",), variables.whole),
    Variable("pushgateway", ("ROLLOUTOBS_PUSHGATEWAY",)),
    Variable("push_instance", ("ROLLOUTOBS_PUSH_INSTANCE",)),
    Variable("metrics_dir", ("ROLLOUTOBS_METRICS_DIR",)),
    Variable("export_interval_seconds", ("OTEL_METRIC_EXPORT_INTERVAL",), variables.milliseconds),
    Variable("naming", ("ROLLOUTOBS_NAMING",), variables.one_of(Naming)),
    Variable("on_conflict", ("ROLLOUTOBS_ON_CONFLICT",), variables.one_of(OnConflict)),
    Variable("duration_bounds", ("ROLLOUTOBS_DURATION_BOUNDS",), variables.bounds),
    Variable("max_label_sets", ("ROLLOUTOBS_MAX_LABEL_SETS",), variables.whole),
    Variable("caller_label", ("ROLLOUTOBS_CALLER_LABEL",), variables.boolean),
    Variable("exemplars", ("ROLLOUTOBS_EXEMPLARS",), variables.boolean),
    Variable("process_metrics", ("ROLLOUTOBS_PROCESS_METRICS",), variables.boolean),
    Variable("excluded_paths", ("ROLLOUTOBS_EXCLUDED_PATHS",), _path_set, empty_is_a_value=True),
    Variable(
        "excluded_urls",
        ("OTEL_PYTHON_ASGI_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS"),
        variables.words,
    ),
    Variable("captured_request_headers", (_HEADERS + "SERVER_REQUEST",), variables.words),
    Variable("captured_response_headers", (_HEADERS + "SERVER_RESPONSE",), variables.words),
    Variable("sanitized_headers", (_HEADERS + "SANITIZE_FIELDS",), variables.words),
    Variable("server_timing", ("ROLLOUTOBS_SERVER_TIMING",), variables.boolean),
    Variable("spans", ("ROLLOUTOBS_SPANS",), variables.one_of(SpanMode)),
    Variable("sampling_ratio", ("ROLLOUTOBS_SAMPLING_RATIO",), variables.number),
    Variable("canary_sampling_ratio", ("ROLLOUTOBS_CANARY_SAMPLING_RATIO",), variables.number),
    Variable("logs", ("ROLLOUTOBS_LOGS",), variables.boolean),
    Variable("identity_hosts", ("ROLLOUTOBS_IDENTITY_HOSTS",), variables.words),
)
"""Every variable that is read as it stands; the rest is in `read`."""
SECRETS: Final = {"metrics_token": "ROLLOUTOBS_METRICS_TOKEN", "secret": "ROLLOUTOBS_SECRET"}
"""Fields of secrets, and their variables; each has one of a file too."""


def read(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields that are set; those of the variables that are not keep their defaults.

    Raises:
        ConfigurationError: a variable has a value that cannot be used.
    """
    given: dict[str, Any] = {"track_is_fixed": False}
    resource = variables.resource_attributes(environ)
    for variable in VARIABLES:
        for name in variable.names:
            text = environ.get(name)
            if text is not None and (text.strip() or variable.empty_is_a_value):
                given[variable.field] = variable.read(name, text)
                break
        else:
            text = next((resource[key] for key in variable.resource if resource.get(key, "").strip()), None)
            if text is not None:
                given[variable.field] = variable.read(variable.names[0], text)
    for field, name in SECRETS.items():
        given[field] = variables.secrets(environ, name)
    given = {**_sampling(environ), **given}
    given.update(_exports(environ))
    return given


def _sampling(environ: Mapping[str, str]) -> dict[str, float | None]:
    """Return the sampling ratios that OpenTelemetry's variables ask for."""
    named = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if named == "rollout":
        ratios = Ratios.parse(environ.get(_SAMPLER_ARG, ""), _SAMPLER_ARG)
        return dict(zip(RATIOS, (ratios.stable, ratios.canary, ratios.baseline, ratios.none), strict=True))
    return {"sampling_ratio": None if named else DEFAULT_SAMPLING_RATIO}


def _exports(environ: Mapping[str, str]) -> dict[str, bool]:
    """Return what goes out over OTLP. Source: OpenTelemetry specification, "Environment variables".

    Traces go to any endpoint. Metrics and logs go only where that is said: the metrics are scraped, and
    logs are usually shipped, already.
    """

    def text(name: str) -> str:
        return environ.get(name, "").strip()

    def named(signal: str) -> bool:
        # Another exporter by name is set up by the team itself or by opentelemetry-instrument, not here.
        return "otlp" in {name.strip() for name in text(f"OTEL_{signal}_EXPORTER").split(",")}

    def endpoint(signal: str) -> bool:
        return bool(text("OTEL_EXPORTER_OTLP_ENDPOINT") or text(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"))

    disabled = text("OTEL_SDK_DISABLED").lower() == "true"
    on = not disabled
    traces = endpoint("TRACES") and (named("TRACES") or not text("OTEL_TRACES_EXPORTER"))
    logs_endpoint = bool(text("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT")) and not text("OTEL_LOGS_EXPORTER")

    def grpc(signal: str) -> bool:
        # http/protobuf is the default. Source: "OpenTelemetry Protocol Exporter".
        protocol = text(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or text("OTEL_EXPORTER_OTLP_PROTOCOL")
        return protocol.lower() == "grpc"

    return {
        "export_traces": on and traces,
        "export_metrics": on and named("METRICS"),
        "export_logs": on and (named("LOGS") or logs_endpoint),
        "otlp_grpc": grpc("TRACES"),
        "otlp_logs_grpc": grpc("LOGS"),
        "sdk_disabled": disabled,
        "legacy_attributes": "http/dup" in variables.words("", text("OTEL_SEMCONV_STABILITY_OPT_IN")),
    }
