"""Log records as JSON, one line each."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rolloutobs.telemetry.log_records import install
from rolloutobs.telemetry.log_values import exception, extras, message, plain, stamps, text

__all__ = ["JSONFormatter"]

_EXCEPTION: Final = ("type", "message", "stacktrace")
_CORE: Final = frozenset({"timestamp", "level", "logger", "message", "exception", "stack"})


class JSONFormatter(logging.Formatter):
    r"""Writes each record as one line of JSON.

    ``timestamp`` (ISO 8601, UTC, microseconds), ``level`` (lower case), ``logger``, ``message``, then what is
    known of ``service_name``, ``service_version``, ``track``, ``trace_id``, ``span_id``, ``caller_service``,
    ``caller_version``, ``error_fingerprint``, then the record's ``extra``, then ``exception`` (``type``,
    ``message``, ``stacktrace``) and ``stack``. An extra with the name of another field is written with
    ``extra_`` before its name. Values that JSON has no form for are written as text; nothing raises, and a
    message whose arguments do not fit is written as it stands. Everything is ASCII (``\u00e9``), so any
    stream can take it.

    In ``dictConfig``::

        {"formatters": {"json": {"()": "rolloutobs.logs.JSONFormatter", "static": {"team": "checkout"}}}}

    Args:
        static: fields of every line; they give way to those of the record.
    """

    def __init__(self, *, static: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._static = {text(name): plain(value) for name, value in (static or {}).items()}
        # Whoever formats records as JSON wants them stamped, whether or not an app is instrumented here.
        install()

    def format(self, record: logging.LogRecord) -> str:
        """Return `record` as JSON, without a line break."""
        try:
            return json.dumps(self._fields(record), allow_nan=False)
        except Exception:
            # A record without the attributes that every record has, or out of memory.
            return json.dumps({"level": "other", "message": text(vars(record))})

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "timestamp": _timestamp(record.created),
            "level": text(record.levelname).lower(),
            "logger": text(record.name),
            "message": message(record),
            **stamps(record),
        }
        for name, value in extras(record).items():
            fields[f"extra_{name}" if name in fields or name in _CORE else name] = value
        raised = exception(record)
        if raised is not None:
            fields["exception"] = dict(zip(_EXCEPTION, raised, strict=True))
        if record.stack_info:
            fields["stack"] = text(record.stack_info)
        return {**self._static, **fields} if self._static else fields


def _timestamp(created: float) -> str:
    return (
        datetime.fromtimestamp(created, UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
    )
