"""The metrics of an app on their way out over OTLP, where that is configured.

Read from the same counts as ``/metrics``, now and then, by a thread: a request costs nothing more. Points are
cumulative, whatever ``OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`` says; each carries ``app.version``
and ``rolloutobs.track``, and a new track starts new points. Of workers that share their counts one sends for
all, and another takes over when it ends. What the app's own code counts with prometheus_client is not sent.

Everything about the exporter itself (endpoint, headers, compression) is left to the ``OTEL_*`` variables that
OpenTelemetry defines.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from opentelemetry import context as context_api
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from rolloutobs import semconv
from rolloutobs._version import __version__
from rolloutobs.errors import MissingExtraError
from rolloutobs.telemetry.export import flush, resource_of
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.hub import Hub
from rolloutobs.telemetry.leadership import Leadership
from rolloutobs.telemetry.otlp_points import Times, to_metric
from rolloutobs.telemetry.traces import SCHEMA_URL, SCOPE_NAME

__all__ = ["MetricsSender", "Starts", "send_metrics"]

_HTTP = "opentelemetry.exporter.otlp.proto.http"
_GRPC = "opentelemetry.exporter.otlp.proto.grpc"
STOP_SECONDS = 1.0
"""How long a fork waits for an export that is under way."""


class Starts:
    """When the counts of each track began. Cumulative points need it, and it must stay the same for good.

    Args:
        began: Unix time at which the process began to count, in seconds.
    """

    def __init__(self, began: float) -> None:
        self.began = began
        self.by_track: dict[str, float] = {}

    def update(self, track: str, ended: Mapping[str, float]) -> None:
        """Learn of the tracks that there are.

        Args:
            track: the one of now.
            ended: when each earlier one ended that still counts; one that comes back goes on from there.
        """
        present = [*sorted(ended, key=lambda earlier: ended[earlier]), track]
        self.by_track = {name: start for name, start in self.by_track.items() if name in present}
        before = self.began
        for name in present:
            self.by_track.setdefault(name, before)
            before = ended.get(name, before)

    def to_json(self) -> str:
        """Return it as text, for the worker that takes over."""
        return json.dumps({"began": self.began, "by_track": self.by_track})

    @classmethod
    def from_json(cls, text: str, began: float) -> Starts:
        """Return what `to_json` wrote; where it did not, a process that `began` to count."""
        starts = cls(began)
        try:
            read = json.loads(text)
            starts.began = float(read["began"])
            starts.by_track = {str(track): float(start) for track, start in read["by_track"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls(began)
        return starts


class MetricsSender:
    """Sends the metrics of one hub, at an interval and when it is told to.

    Args:
        hub: what is sent, and its settings.
        make_exporter: called in the thread, again after a fork: connections are not shared with the parent.
        clock: Unix time in seconds.
    """

    def __init__(
        self, hub: Hub, make_exporter: Callable[[], MetricExporter], clock: Callable[[], float] = time.time
    ) -> None:
        self._hub = hub
        self._make_exporter = make_exporter
        self._clock = clock
        self._starts = Starts(clock())
        self._starting_over()

    def _starting_over(self) -> None:
        self._lock = threading.Lock()
        self._exporter: MetricExporter | None = None
        self._leadership: Leadership | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._resource: Resource | None = None

    def start(self) -> None:
        """Start sending in this process and in those that it forks. Never raises."""
        _running.add(self)
        try:
            # Now: a process that ends has no threads for it any more. A forked child does it with its first
            # export.
            self._resource = resource_of(self._hub.settings)
        except Exception as error:
            self._hub.failures.record(Where.EXPORT, error)
        self.run()

    def stop(self) -> None:
        """Stop for good; what is counted after the last export is not sent."""
        _running.discard(self)
        self.pause()

    def run(self) -> None:
        """Run the thread where it is not running."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stop = threading.Event()
        interval = self._hub.settings.export_interval_seconds
        thread = threading.Thread(
            target=_run, args=(weakref.ref(self), self._stop, interval), name="rolloutobs-otlp", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            self._hub.failures.record(Where.EXPORT, error)
            return
        self._thread = thread

    def pause(self) -> None:
        """Stop the thread, and wait a little for an export that is under way."""
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_SECONDS)

    def forked(self) -> None:
        """Start over in a process that was just forked."""
        leadership = self._leadership
        if leadership is not None:
            # Let go of what is the parent's; it stays the leader.
            leadership.close()
        self._starting_over()
        self._starts = Starts(self._clock())
        self.run()

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Send what there is now. Returns whether it was accepted, or is another worker's to send."""
        with self._lock:
            token = context_api.attach(context_api.set_value(context_api._SUPPRESS_INSTRUMENTATION_KEY, True))
            try:
                return self._send(timeout_millis)
            except Exception as error:
                self._hub.failures.record(Where.EXPORT, error)
                return False
            finally:
                context_api.detach(token)

    def _send(self, timeout_millis: float) -> bool:
        if not self._leads():
            return True
        data = self._data()
        if self._exporter is None:
            self._exporter = self._make_exporter()
        result = self._exporter.export(data, timeout_millis=timeout_millis)
        if result is not MetricExportResult.SUCCESS:
            self._hub.failures.record(Where.EXPORT, "metrics were not accepted; the next export carries them")
            return False
        return True

    def _leads(self) -> bool:
        """Return whether this process sends: of those that share a folder, one does."""
        folder: Path | None = getattr(self._hub.store.backing, "folder", None)
        if self._leadership is not None and not self._leadership.holds(folder):
            self._leadership.close()
            self._leadership = None
        if folder is None:
            return True
        if self._leadership is None:
            self._leadership = Leadership.take(folder, f"otlp-{self._hub.book}")
            if self._leadership is None:
                return False
            self._starts = Starts.from_json(self._leadership.read(), self._starts.began)
        return True

    def _data(self) -> MetricsData:
        hub = self._hub
        found, ended = hub.sent()
        identity = hub.live.stamp.identity
        track = hub.generations.track
        known = dict(self._starts.by_track)
        self._starts.update(track, ended)
        if self._leadership is not None and known != self._starts.by_track:
            self._leadership.write(self._starts.to_json())
        times = Times(self._starts.by_track, self._clock(), ended, track)
        stamp = {semconv.ATTR_VERSION: identity.version}
        made = (to_metric(definition, metric, stamp, times) for definition, metric in found)
        scope = InstrumentationScope(SCOPE_NAME, __version__, SCHEMA_URL)
        metrics = [metric for metric in made if metric is not None]
        resource = self._resource = self._resource or resource_of(hub.settings)
        return MetricsData(
            [ResourceMetrics(resource, [ScopeMetrics(scope, metrics, SCHEMA_URL)], resource.schema_url)]
        )


def _run(reference: weakref.ref[MetricsSender], stop: threading.Event, interval: float) -> None:
    while not stop.wait(interval):
        sender = reference()
        if sender is None:
            return
        sender.force_flush()
        del sender


_running: weakref.WeakSet[MetricsSender] = weakref.WeakSet()


def _at_exit() -> None:
    for sender in tuple(_running):
        sender.pause()
        flush(sender)


def _before_fork() -> None:
    # Python 3.12 warns about forks of processes with threads: an app that forks shall not notice this one.
    for sender in tuple(_running):
        sender.pause()


def _after_fork_in_parent() -> None:
    for sender in tuple(_running):
        sender.run()


def _after_fork_in_child() -> None:
    for sender in tuple(_running):
        sender.forked()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )


def send_metrics(hub: Hub) -> MetricsSender | None:
    """Send the metrics of `hub` over OTLP where its settings ask for that, and return what does it.

    An exporter that is not installed is logged with its ``pip install`` line: variables that a platform sets
    for every pod must not stop an app from starting.
    """
    settings = hub.settings
    if not settings.export_metrics:
        return None
    package = _GRPC if settings.otlp_grpc else _HTTP
    if not _is_installed(package):
        what = "opentelemetry-exporter-otlp-proto-grpc" if settings.otlp_grpc else package
        hub.failures.record(Where.EXPORT, MissingExtraError("otlp", "sending metrics over OTLP", what))
        return None

    def make() -> MetricExporter:
        exporter: Any = import_module(f"{package}.metric_exporter").OTLPMetricExporter()
        made: MetricExporter = exporter
        return made

    sender = MetricsSender(hub, make)
    hub.flushed.append(sender)
    sender.start()
    return sender


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        # One of its parents is not.
        return False
