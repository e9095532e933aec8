"""Changes as OpenTelemetry log events, where an OTLP endpoint is configured."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider

from rolloutobs import semconv
from rolloutobs._version import __version__
from rolloutobs.cluster.model import Change, ChangeKind
from rolloutobs.settings import Settings
from rolloutobs.telemetry.export_logs import set_exporting_logger_provider
from rolloutobs.telemetry.failures import Failures

__all__ = ["LogSink", "log_sink"]

_SERVICE: Final = "rolloutobs-watch"
"""``service.name``, where ``OTEL_SERVICE_NAME`` gives no other."""
_BAD: Final = (ChangeKind.STUCK, ChangeKind.ROLLED_BACK)


def log_sink(environ: Mapping[str, str]) -> LogSink | None:
    """Return what sends changes; ``None`` where no exporter for logs is configured, or it is not installed.

    Raises:
        ConfigurationError: a variable has a value that cannot be used.
    """
    named = {"OTEL_SERVICE_NAME": _SERVICE, "ROLLOUTOBS_VERSION": __version__, **environ}
    provider = set_exporting_logger_provider(Settings.from_env(named), Failures())
    return None if provider is None else LogSink(provider)


class LogSink:
    """Sends each change as one log event; what it happened to is in attributes.

    Args:
        provider: exports them, in batches and on a thread of its own.
    """

    def __init__(self, provider: LoggerProvider) -> None:
        self._provider = provider
        self._logger = provider.get_logger("rolloutobs.watch", __version__)

    async def take(self, change: Change) -> None:
        """Send a change."""
        number, word = _severity(change)
        name = (
            semconv.EVENT_KUBERNETES
            if change.event is not None
            else f"{semconv.EVENT_ROLLOUT}.{change.kind.value}"
        )
        self._logger.emit(
            LogRecord(
                timestamp=int(change.time * 1e9),
                context=Context(),
                severity_number=number,
                severity_text=word,
                body=change.text,
                attributes=_attributes(change),
                event_name=name,
            )
        )

    async def close(self) -> None:
        """Wait until they are out."""
        await asyncio.to_thread(self._provider.force_flush)


def _severity(change: Change) -> tuple[SeverityNumber, str]:
    is_warning = change.event is not None and change.event.type == "Warning"
    if is_warning or change.kind in _BAD:
        return SeverityNumber.WARN, "WARN"
    return SeverityNumber.INFO, "INFO"


def _attributes(change: Change) -> dict[str, str | int]:
    found: dict[str, str | int] = {
        semconv.ROLLOUT_ATTR_NAMESPACE: change.namespace,
        semconv.ROLLOUT_ATTR_WORKLOAD: change.workload,
    }
    rollout, event = change.rollout, change.event
    if rollout is not None:
        found |= {
            semconv.ROLLOUT_ATTR_ID: rollout.id,
            semconv.ROLLOUT_ATTR_APP: rollout.app,
            semconv.ROLLOUT_ATTR_FROM: rollout.from_version,
            semconv.ROLLOUT_ATTR_TO: rollout.to_version,
            semconv.ROLLOUT_ATTR_PHASE: rollout.phase.value,
            semconv.ROLLOUT_ATTR_REVISION: rollout.revision,
            semconv.ROLLOUT_ATTR_UNDOES: rollout.undoes,
            semconv.ROLLOUT_ATTR_OWNER: rollout.annotations.get(semconv.ANNOTATION_OWNER, ""),
        }
    if event is not None:
        found |= {
            semconv.KUBERNETES_ATTR_KIND: event.kind,
            semconv.KUBERNETES_ATTR_NAME: event.name,
            semconv.KUBERNETES_ATTR_REASON: event.reason,
            semconv.KUBERNETES_ATTR_COUNT: event.count,
        }
    return {name: value for name, value in found.items() if value != ""}
