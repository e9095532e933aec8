"""Bringing a process to record: the one place where settings become running parts.

`instrument` does it for an app, `rolloutobs.telemetry.hub.process` for a process without one.
"""

from __future__ import annotations

import logging
import os

from opentelemetry.trace import TracerProvider

from rolloutobs.detection import complete
from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import UNKNOWN_VERSION
from rolloutobs.settings import UNKNOWN_SERVICE, Settings
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry import logs, process_metrics
from rolloutobs.telemetry.export import set_exporting_provider
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.hub import Hub
from rolloutobs.telemetry.propagation import install_propagator
from rolloutobs.telemetry.serving import serve_from_settings
from rolloutobs.telemetry.tracking import follow

__all__ = ["start"]

_logger = logging.getLogger("rolloutobs")


def start(settings: Settings, app: object = None, tracer_provider: TracerProvider | None = None) -> Hub:
    """Return a hub that records, with all that its settings ask for.

    Args:
        settings: as given; what they leave open is looked for here.
        app: helps to find the version of the distribution or repository that it comes from.
        tracer_provider: where spans go; ``None``: the global provider, which is set here where none is and an
            OTLP endpoint is configured.

    Raises:
        ConfigurationError: a setting cannot be used. Whatever else fails is counted, and the rest started.
    """
    final = complete(settings, os.environ, app)
    _warn_about_unknown(final)
    hub = hubs.new_hub(final)
    hub.tracer_provider = tracer_provider
    for part in (_track, _traces, install_propagator, _logs, _process, _metrics, serve_from_settings):
        try:
            part(hub)
        except ConfigurationError:
            raise
        except Exception as error:
            # The app starts without this part, and says so.
            hub.failures.record(Where.START, error)
    return hub


def _track(hub: Hub) -> None:
    hub.tracking = follow(hub.settings, os.environ, hub.retrack, hub.failures)


def _traces(hub: Hub) -> None:
    if hub.tracer_provider is None:
        provider = set_exporting_provider(hub.settings, hub.failures)
        if provider is not None:
            hub.flushed.append(provider)


def _logs(hub: Hub) -> None:
    if hub.settings.logs:
        logs.enable(hub)


def _process(hub: Hub) -> None:
    if hub.settings.process_metrics:
        process_metrics.enable(hub)


def _metrics(hub: Hub) -> None:
    if hub.settings.export_metrics:
        # Imported here: most apps are scraped, and do without the SDK's metrics.
        from rolloutobs.telemetry.export_metrics import send_metrics

        send_metrics(hub)


def _warn_about_unknown(settings: Settings) -> None:
    if settings.version == UNKNOWN_VERSION:
        _warn_once(
            "version",
            "the version of this app is not known, so its releases cannot be told apart: "
            "set ROLLOUTOBS_VERSION, or pass instrument(app, version=...)",
        )
    if settings.service == UNKNOWN_SERVICE:
        _warn_once(
            "service",
            "the name of this app is not known: set OTEL_SERVICE_NAME, or pass instrument(app, service=...)",
        )


def _warn_once(key: str, message: str) -> None:
    if hubs.first_time(key):
        _logger.warning("%s", message)
