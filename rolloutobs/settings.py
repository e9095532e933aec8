"""Settings of `instrument()`, and the only place that looks at environment variables.

Belongs here: what a process is told from outside and its validation. Does not belong here: anything that acts
on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote

from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import UNKNOWN_VERSION, Identity, Track

__all__ = ["DEFAULT_EXCLUDED_PATHS", "UNKNOWN_SERVICE", "Settings"]

UNKNOWN_SERVICE = "unknown"
DEFAULT_EXCLUDED_PATHS = frozenset({"/metrics", "/healthz", "/livez", "/readyz"})
"""What a kubelet or a Prometheus asks for: without users, and often enough to drown them."""
DEFAULT_METRICS_PATH = "/metrics"
DEFAULT_SAMPLING_RATIO = 0.1
MAX_IDENTITY_CHARS = 128
_OFF = frozenset({"", "off", "none"})
_BOOLEANS = {
    "true": True,
    "1": True,
    "on": True,
    "yes": True,
    "false": False,
    "0": False,
    "off": False,
    "no": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `instrument()` needs to know. Bad values raise `ConfigurationError` when the object is made."""

    service: str = UNKNOWN_SERVICE
    """The app: OpenTelemetry's ``service.name``, the metric label ``app``. Printable ASCII without blanks."""
    version: str = UNKNOWN_VERSION
    """What runs: ``service.version``, the label ``version``. A release number, a git sha or an image tag."""
    track: Track = Track.NONE
    """The side of the rollout; ``Track.NONE``: no rollout is known, and no track is reported (never
    guessed).
    """
    environment: str = ""
    """``deployment.environment.name``; empty: not reported."""
    revision: str = ""
    """Source revision, label of ``app_build_info``; empty: not reported."""
    metrics_path: str | None = DEFAULT_METRICS_PATH
    """Path that answers with the metrics of the process, relative to the app's root path; ``None``: no such
    path.
    """
    excluded_paths: frozenset[str] = DEFAULT_EXCLUDED_PATHS
    """Exact paths without spans and metrics, relative to the app's root path."""
    server_timing: bool = True
    """Whether responses tell version, track and trace to the browser and to synthetic checks
    (``Server-Timing``).
    """
    max_label_sets: int = 2000
    """Label sets per metric; what comes after is counted in one ``_overflow`` series."""
    sampling_ratio: float | None = DEFAULT_SAMPLING_RATIO
    """Share of new traces kept, 0 to 1, where `instrument()` makes the tracer provider. ``None``: the
    OpenTelemetry SDK decides by ``OTEL_TRACES_SAMPLER``. Traces that a caller has sampled are always
    followed."""
    export_traces: bool = False
    """Whether an OTLP endpoint is configured: if so, and no tracer provider is set, `instrument()` sets
    one.
    """
    otlp_grpc: bool = False
    """Whether ``OTEL_EXPORTER_OTLP_PROTOCOL`` asks for gRPC instead of HTTP with protobuf."""

    def __post_init__(self) -> None:
        """Validate.

        Raises:
            ConfigurationError: a value cannot be used.
        """
        # A plain "canary" is taken as well; anything else is refused here, not in a request.
        object.__setattr__(self, "track", Track.parse(str(self.track), "track"))
        for name in ("service", "version", "environment", "revision"):
            _check_word(name, getattr(self, name))
        if not self.service or not self.version:
            raise ConfigurationError(
                "service and version must not be empty; leave them out if they are not known"
            )
        for path in (*self.excluded_paths, self.metrics_path or "/"):
            if not path.startswith("/"):
                raise ConfigurationError(f"path {path!r} must start with '/'")
        if self.max_label_sets < 1:
            raise ConfigurationError(f"max_label_sets is {self.max_label_sets}; use at least 1")
        if self.sampling_ratio is not None and not 0.0 <= self.sampling_ratio <= 1.0:
            raise ConfigurationError(f"sampling_ratio is {self.sampling_ratio}; use a number from 0 to 1")

    @property
    def identity(self) -> Identity:
        """Who this process is."""
        return Identity(self.service, self.version, self.track, self.environment)

    def overridden(
        self, *, service: str | None = None, version: str | None = None, track: Track | str | None = None
    ) -> Settings:
        """Return these settings with the arguments that are not ``None`` in their place.

        Raises:
            ConfigurationError: `track` is not a track, or another value cannot be used.
        """
        return replace(
            self,
            service=self.service if service is None else service.strip(),
            version=self.version if version is None else version.strip(),
            track=self.track if track is None else Track.parse(str(track), "track"),
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings from environment variables; what is not set keeps its default.

        ``OTEL_SERVICE_NAME``, ``ROLLOUTOBS_VERSION`` or ``APP_VERSION``, ``ROLLOUTOBS_TRACK``,
        ``ROLLOUTOBS_REVISION`` come before the entries of ``OTEL_RESOURCE_ATTRIBUTES``.

        Raises:
            ConfigurationError: a variable has a value that cannot be used.
        """
        resource = _resource_attributes(environ)

        def first(*candidates: str | None, default: str = "") -> str:
            return next((text.strip() for text in candidates if text and text.strip()), default)

        get = environ.get
        return cls(
            service=first(get("OTEL_SERVICE_NAME"), resource.get("service.name"), default=UNKNOWN_SERVICE),
            version=first(
                get("ROLLOUTOBS_VERSION"),
                get("APP_VERSION"),
                resource.get("service.version"),
                default=UNKNOWN_VERSION,
            ),
            track=Track.parse(
                first(get("ROLLOUTOBS_TRACK"), resource.get("rolloutobs.track")), "ROLLOUTOBS_TRACK"
            ),
            environment=first(
                resource.get("deployment.environment.name"), resource.get("deployment.environment")
            ),
            revision=first(get("ROLLOUTOBS_REVISION"), resource.get("vcs.ref.head.revision")),
            metrics_path=_path(get("ROLLOUTOBS_METRICS_PATH")),
            excluded_paths=_paths(get("ROLLOUTOBS_EXCLUDED_PATHS")),
            server_timing=_boolean("ROLLOUTOBS_SERVER_TIMING", get("ROLLOUTOBS_SERVER_TIMING"), default=True),
            max_label_sets=_integer(
                "ROLLOUTOBS_MAX_LABEL_SETS", get("ROLLOUTOBS_MAX_LABEL_SETS"), default=2000
            ),
            sampling_ratio=_sampling_ratio(environ),
            export_traces=_exports_traces(environ),
            otlp_grpc=_otlp_protocol(environ) == "grpc",
        )


def _check_word(name: str, text: str) -> None:
    # Ends up in a quoted header parameter, in baggage and in label values: what is plain in all three is
    # allowed.
    if len(text) > MAX_IDENTITY_CHARS or any(not "!" <= c <= "~" or c in '"\\' for c in text):
        raise ConfigurationError(
            f"{name} is {text!r}; use at most {MAX_IDENTITY_CHARS} printable ASCII characters without "
            "blanks, quotes and backslashes"
        )


def _resource_attributes(environ: Mapping[str, str]) -> dict[str, str]:
    # Source: OpenTelemetry specification, Resource SDK, "Specifying resource information via an environment
    # variable".
    pairs = (item.partition("=") for item in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    return {name.strip(): unquote(value.strip()) for name, equals, value in pairs if equals}


def _path(text: str | None) -> str | None:
    if text is None:
        return DEFAULT_METRICS_PATH
    return None if text.strip().lower() in _OFF else text.strip()


def _paths(text: str | None) -> frozenset[str]:
    if text is None:
        return DEFAULT_EXCLUDED_PATHS
    return frozenset(path.strip() for path in text.split(",") if path.strip())


def _boolean(name: str, text: str | None, *, default: bool) -> bool:
    if text is None or not text.strip():
        return default
    try:
        return _BOOLEANS[text.strip().lower()]
    except KeyError:
        raise ConfigurationError(f"{name} is {text!r}; use 'true' or 'false'") from None


def _integer(name: str, text: str | None, *, default: int) -> int:
    if text is None or not text.strip():
        return default
    try:
        return int(text)
    except ValueError:
        raise ConfigurationError(f"{name} is {text!r}; use a whole number") from None


def _sampling_ratio(environ: Mapping[str, str]) -> float | None:
    text = environ.get("ROLLOUTOBS_SAMPLING_RATIO", "").strip()
    if text:
        try:
            return float(text)
        except ValueError:
            raise ConfigurationError(
                f"ROLLOUTOBS_SAMPLING_RATIO is {text!r}; use a number from 0 to 1"
            ) from None
    return None if environ.get("OTEL_TRACES_SAMPLER", "").strip() else DEFAULT_SAMPLING_RATIO


def _exports_traces(environ: Mapping[str, str]) -> bool:
    def text(name: str) -> str:
        return environ.get(name, "").strip()

    endpoint = text("OTEL_EXPORTER_OTLP_ENDPOINT") or text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    # Another exporter by name is set up by the team itself or by opentelemetry-instrument, not here.
    exporters = {name.strip() for name in (text("OTEL_TRACES_EXPORTER") or "otlp").split(",")}
    return bool(endpoint) and "otlp" in exporters and text("OTEL_SDK_DISABLED").lower() != "true"


def _otlp_protocol(environ: Mapping[str, str]) -> str:
    # Source: OpenTelemetry specification, "OpenTelemetry Protocol Exporter": http/protobuf is the default.
    specific = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "").strip()
    return (specific or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip() or "http/protobuf").lower()
