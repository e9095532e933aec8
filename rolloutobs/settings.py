"""Settings of `instrument()`.

Belongs here: what a process is told from outside and its validation. Does not belong here: the names of
variables (`rolloutobs.environment`), anything that acts on it, or looks at files (`rolloutobs.detection`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rolloutobs import environment, semconv, variables
from rolloutobs.environment import RATIOS
from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import UNKNOWN_VERSION, Identity, Track
from rolloutobs.modes import Naming, OnConflict, SpanMode
from rolloutobs.ratios import DEFAULT_SAMPLING_RATIO, Ratios

__all__ = [
    "DEFAULT_EXCLUDED_PATHS",
    "UNKNOWN_SERVICE",
    "Naming",
    "OnConflict",
    "Settings",
    "SpanMode",
    "check_word",
]

UNKNOWN_SERVICE = "unknown"
DEFAULT_EXCLUDED_PATHS = frozenset({"/metrics", "/healthz", "/livez", "/readyz"})
"""What a kubelet or a Prometheus asks for: without users, and often enough to drown them."""
DEFAULT_METRICS_PATH = "/metrics"
DEFAULT_LABELS_FILE = "/etc/podinfo/labels"
MAX_IDENTITY_CHARS = 128
MAX_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `instrument()` needs to know. Bad values raise `ConfigurationError` when the object is made."""

    service: str = UNKNOWN_SERVICE
    """The app: OpenTelemetry's ``service.name``, the metric label ``app``. Printable ASCII without blanks."""
    version: str = UNKNOWN_VERSION
    """What runs: ``service.version``, the label ``version``. A release number, a git sha or an image tag."""
    track: Track = Track.NONE
    """The side of the rollout; ``Track.NONE``: no rollout is known, and no track is reported (never
    guessed)."""
    track_is_fixed: bool | None = None
    """Whether the app itself named its track: it then stays, whatever the pod's labels say. ``None``: it is,
    where a track is given here. A track from the environment is not fixed: variables are frozen when a pod
    starts, its labels are not."""
    environment: str = ""
    """``deployment.environment.name``; empty: not reported."""
    revision: str = ""
    """Source revision, label of ``app_build_info``; empty: not reported."""
    image: str = ""
    """Container image that runs; its tag is the version where nothing better is known."""
    detection: bool = True
    """Whether version, service and track are looked for where neither an argument nor a variable names them:
    in the pod's labels, the image, the installed distribution and the working tree."""
    labels_file: str | None = DEFAULT_LABELS_FILE
    """File of a Downward API volume with the pod's labels: version, service and the live track. Read again
    when it changes. A file that is not there is no error; ``None``: not looked for."""
    labels_interval_seconds: float = 2.0
    """How often the file is looked at. Seconds; a kubelet writes a changed label into it within one or two,
    and a change of the track is seen after at most one and a half intervals."""
    old_track_seconds: float = 900.0
    """How long the counts of an earlier track stay exposed, frozen, after the track has changed. Seconds; 15
    minutes outlast any scrape interval."""

    metrics_path: str | None = DEFAULT_METRICS_PATH
    """Path that answers with the metrics of the process, relative to the app's root path; ``None``: no such
    path."""
    metrics_port: int | None = None
    """Port of its own for ``/metrics``, besides the path; ``None``: none. For apps whose port is public,
    and for workers without a server."""
    metrics_token: tuple[str, ...] = ()
    """Tokens, one of which a scrape has to present (``Authorization: Bearer ...``); empty: anyone may
    scrape."""
    pushgateway: str = ""
    """Prometheus Pushgateway (``http://pushgateway:9091``) that gets the metrics at the end of each job, of
    ``operation("job", ...)``; empty: none. Only for processes that end; others are scraped."""
    push_instance: str = ""
    """Name of this process's group in the Pushgateway, besides the service; empty: the name of the first
    job that ends. Jobs of one service that run at the same time need different ones."""
    metrics_dir: str | None = None
    """Folder in which the workers of one server share their counts, in one of its own for each server and
    version. ``None``: below ``TMPDIR``, ``/dev/shm`` or the usual temporary folder where workers are detected
    (gunicorn, uWSGI, multiprocessing), else memory. Must allow mapped files and locks: not NFS."""
    naming: Naming = Naming.DEFAULT
    """Names of the server metrics."""
    on_conflict: OnConflict = OnConflict.REPLACE
    """What to do about another instrumentation's metrics of the same names."""
    duration_bounds: tuple[float, ...] | None = None
    """Upper bounds of the duration histograms in seconds, ascending; ``None``: those of the naming (factor
    1.5 from 5 ms to 11 s, or OpenTelemetry's)."""
    max_label_sets: int = 2000
    """Label sets per metric; what comes after is counted in one ``_overflow`` series."""
    caller_label: bool = False
    """Whether ``http_requests_total`` is split by who called (``caller``, ``caller_version``): shows which
    pair of versions fails."""
    exemplars: bool = True
    """Whether histograms keep the trace of a recent sampled request per bucket, for OpenMetrics scrapes."""
    process_metrics: bool = True
    """Whether memory, CPU, open files, event-loop lag and garbage collection of the process are exposed."""

    excluded_paths: frozenset[str] = DEFAULT_EXCLUDED_PATHS
    """Exact paths without spans and metrics, relative to the app's root path."""
    excluded_urls: tuple[str, ...] = ()
    """Regular expressions; a URL in which one is found has no spans and no metrics."""
    captured_request_headers: tuple[str, ...] = ()
    """Names (or regular expressions) of request headers that go on the span; none by default."""
    captured_response_headers: tuple[str, ...] = ()
    """The same for response headers."""
    sanitized_headers: tuple[str, ...] = ()
    """Captured headers whose values are replaced by ``[REDACTED]``."""
    server_timing: bool = True
    """Whether responses tell version, track and trace to the browser and to synthetic checks
    (``Server-Timing``)."""

    spans: SpanMode = SpanMode.OWN
    """Who makes the server span."""
    sampling_ratio: float | None = DEFAULT_SAMPLING_RATIO
    """Share of new traces kept, 0 to 1, where `instrument()` makes the tracer provider. ``None``: the
    OpenTelemetry SDK decides by ``OTEL_TRACES_SAMPLER``. Traces that a caller has sampled are always
    followed."""
    canary_sampling_ratio: float | None = None
    """The same while the track is ``canary``; ``None``: as `sampling_ratio`. A canary with 5 % of the traffic
    needs more to leave enough traces."""
    baseline_sampling_ratio: float | None = None
    """The same while the track is ``baseline`` (``OTEL_TRACES_SAMPLER_ARG=baseline=...``); ``None``: as a
    canary, which it is compared with."""
    trackless_sampling_ratio: float | None = None
    """The same while no rollout is known (``OTEL_TRACES_SAMPLER_ARG=none=...``); ``None``: as
    `sampling_ratio`."""
    export_traces: bool = False
    """Whether an endpoint is configured (``OTEL_EXPORTER_OTLP_ENDPOINT``,
    ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``) and ``OTEL_TRACES_EXPORTER`` names no other exporter: if so, and
    no tracer provider is set, `instrument()` sets one."""
    export_metrics: bool = False
    """Whether the metrics are sent over OTLP as well (``OTEL_METRICS_EXPORTER`` names ``otlp``)."""
    export_interval_seconds: float = 60.0
    """How often the metrics are sent over OTLP, in seconds (``OTEL_METRIC_EXPORT_INTERVAL``: in
    milliseconds)."""
    export_logs: bool = False
    """Whether log records are sent over OTLP (``OTEL_LOGS_EXPORTER`` names ``otlp``, or
    ``OTEL_EXPORTER_OTLP_LOGS_ENDPOINT`` is set)."""
    otlp_grpc: bool = False
    """Whether ``OTEL_EXPORTER_OTLP_PROTOCOL`` asks for gRPC instead of HTTP with protobuf."""
    otlp_logs_grpc: bool = False
    """The same for log records (``OTEL_EXPORTER_OTLP_LOGS_PROTOCOL``)."""
    legacy_attributes: bool = False
    """Whether spans carry the HTTP attributes under their old names besides
    (``OTEL_SEMCONV_STABILITY_OPT_IN=http/dup``). The stable names are there in any case."""
    sdk_disabled: bool = False
    """``OTEL_SDK_DISABLED``: no spans and nothing exported; ``/metrics`` remains."""
    logs: bool = True
    """Whether log records carry version, track and trace, and are counted."""

    secret: tuple[str, ...] = ()
    """Signs identity and the synthetic mark between services; the first one signs, all are accepted. Empty:
    both are hints that anyone can set."""
    identity_hosts: tuple[str, ...] = ()
    """Hosts to which our identity may go besides cluster-internal and private ones: patterns such as
    ``*.example.com``; ``*`` allows all."""

    def __post_init__(self) -> None:
        """Validate.

        Raises:
            ConfigurationError: a value cannot be used.
        """
        # A plain "canary" is taken as well; anything else is refused here, not in a request.
        object.__setattr__(self, "track", Track.parse(str(self.track), "track"))
        if self.track_is_fixed is None:
            object.__setattr__(self, "track_is_fixed", bool(self.track))
        for name, kind in (("spans", SpanMode), ("naming", Naming), ("on_conflict", OnConflict)):
            object.__setattr__(self, name, variables.one_of(kind)(name, str(getattr(self, name))))
        for name in ("service", "version", "environment", "revision"):
            check_word(name, getattr(self, name))
        if not self.service or not self.version:
            raise ConfigurationError(
                "service and version must not be empty; leave them out if they are not known"
            )
        for path in (*self.excluded_paths, self.metrics_path or "/"):
            if not path.startswith("/"):
                raise ConfigurationError(f"path {path!r} must start with '/'")
        self._check_numbers()
        self._check_ratios()

    def _check_numbers(self) -> None:
        if self.max_label_sets < 1:
            raise ConfigurationError(f"max_label_sets is {self.max_label_sets}; use at least 1")
        if self.metrics_port is not None and not 0 <= self.metrics_port <= MAX_PORT:
            raise ConfigurationError(f"metrics_port is {self.metrics_port}; use a port from 0 to {MAX_PORT}")
        if not self.old_track_seconds >= 0:
            raise ConfigurationError(f"old_track_seconds is {self.old_track_seconds}; use 0 or more")
        if not self.labels_interval_seconds > 0:
            raise ConfigurationError(
                f"labels_interval_seconds is {self.labels_interval_seconds}; use a number above 0"
            )
        if not self.export_interval_seconds > 0:
            raise ConfigurationError(
                f"export_interval_seconds is {self.export_interval_seconds}; use a number above 0"
            )
        bounds = self.duration_bounds
        if bounds is not None and (not bounds or list(bounds) != sorted(set(bounds)) or bounds[0] <= 0):
            raise ConfigurationError(
                f"duration_bounds is {bounds}; use ascending numbers of seconds above 0, such as 0.1, 0.5, 2"
            )

    def _check_ratios(self) -> None:
        for name in RATIOS:
            ratio = getattr(self, name)
            if ratio is not None and not 0.0 <= ratio <= 1.0:
                raise ConfigurationError(f"{name} is {ratio}; use a number from 0 to 1")
            if ratio is not None and self.sampling_ratio is None:
                raise ConfigurationError(
                    f"{name} is {ratio}, and the other tracks are left to OTEL_TRACES_SAMPLER; set "
                    "ROLLOUTOBS_SAMPLING_RATIO, or use OTEL_TRACES_SAMPLER=rollout"
                )

    @property
    def identity(self) -> Identity:
        """Who this process is."""
        return Identity(self.service, self.version, self.track, self.environment)

    @property
    def ratios(self) -> Ratios | None:
        """Share of new traces kept on each track; ``None``: the OpenTelemetry SDK decides."""
        stable = self.sampling_ratio
        if stable is None:
            return None
        canary = stable if self.canary_sampling_ratio is None else self.canary_sampling_ratio
        baseline = canary if self.baseline_sampling_ratio is None else self.baseline_sampling_ratio
        none = stable if self.trackless_sampling_ratio is None else self.trackless_sampling_ratio
        return Ratios(stable, canary, baseline, none)

    @property
    def bounds(self) -> tuple[float, ...]:
        """Upper bounds of the duration histograms in seconds."""
        if self.duration_bounds is not None:
            return self.duration_bounds
        named = self.naming is Naming.SEMCONV
        return semconv.SEMCONV_DURATION_BOUNDS if named else semconv.DURATION_BOUNDS

    def overridden(
        self, *, service: str | None = None, version: str | None = None, track: Track | str | None = None
    ) -> Settings:
        """Return these settings with the arguments that are not ``None`` in their place.

        Raises:
            ConfigurationError: `track` is not a track, or another value cannot be used.
        """
        named = self.track if track is None else Track.parse(str(track), "track")
        return replace(
            self,
            service=self.service if service is None else service.strip(),
            version=self.version if version is None else version.strip(),
            track=named,
            track_is_fixed=self.track_is_fixed if track is None else bool(named),
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the settings from environment variables (`rolloutobs.environment.VARIABLES`).

        What is not set keeps its default.
        The variables of a field are asked in their order, and come before the entries of
        ``OTEL_RESOURCE_ATTRIBUTES``.

        Raises:
            ConfigurationError: a variable has a value that cannot be used.
        """
        return cls(**environment.read(environ))


def check_word(name: str, text: str) -> None:
    """Check that `text` can be a service, a version, an environment or a revision.

    Raises:
        ConfigurationError: it cannot; the message begins with `name`.
    """
    # Ends up in a quoted header parameter, in baggage and in label values: what is plain in all three is
    # allowed.
    if len(text) > MAX_IDENTITY_CHARS or any(not "!" <= c <= "~" or c in '"\\' for c in text):
        raise ConfigurationError(
            f"{name} is {text!r}; use at most {MAX_IDENTITY_CHARS} printable ASCII characters without "
            "blanks, quotes and backslashes"
        )
