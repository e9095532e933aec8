"""Whatever an app puts into a log record, as values that JSON and OTLP can take."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Mapping
from typing import Any, Final

from rolloutobs.telemetry.log_records import FIELDS, own_fields

__all__ = ["RESERVED", "exception", "extras", "message", "plain", "stamps", "text"]

RESERVED: Final = frozenset(vars(logging.makeLogRecord({}))) - FIELDS | {"message", "asctime", "taskName"}
"""What `logging` itself puts on a record; everything else is an extra."""
_MAX_DEPTH: Final = 8
_CUT: Final = "..."
# Source: OpenTelemetry protocol, AnyValue: integers have 64 bits with a sign.
_MIN_INT: Final = -(1 << 63)
_MAX_INT: Final = (1 << 63) - 1


def text(value: object) -> str:
    """Return `value` as text that every encoding of Unicode can carry; never raises."""
    try:
        said = value if type(value) is str else str(value)
    except Exception:
        said = f"<{type(value).__qualname__} without text>"
    # Lone surrogates: of file names, and of bytes that are not UTF-8.
    return said if said.isascii() else said.encode("utf-8", "replace").decode("utf-8")


def plain(value: object, depth: int = 0) -> Any:
    """Return `value` made of None, bool, int, float, str, list and dict with text keys; never raises.

    Numbers that the formats have no place for (infinite, not a number, above 64 bits) become text, as does
    any other object, and what is nested too deeply (or in itself) is cut.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return _number(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    if not isinstance(value, (Mapping, list, tuple, set, frozenset)):
        return text(value)
    if depth >= _MAX_DEPTH:
        return _CUT
    try:
        if isinstance(value, Mapping):
            return {text(key): plain(item, depth + 1) for key, item in value.items()}
        return [plain(item, depth + 1) for item in value]
    except Exception:
        # Changed by another thread meanwhile, or a class of the app's own that fails.
        return text(value)


def _number(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value) if _MIN_INT <= value <= _MAX_INT else text(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else text(value)
    return value


def message(record: logging.LogRecord) -> str:
    """Return what `record` says; template and arguments where they do not fit together."""
    try:
        return text(record.getMessage())
    except Exception:
        return f"{text(record.msg)} {text(record.args)}"


def exception(record: logging.LogRecord) -> tuple[str, str, str] | None:
    """Return class, message and stack trace of the exception that `record` carries; ``None`` without one.

    Of a record from another process only the stack trace is known; the others are empty strings.
    """
    info: Any = record.exc_info
    if not info:
        return ("", "", text(record.exc_text)) if record.exc_text else None
    # What somebody has set by hand may be anything; `logging` makes a tuple of it.
    kind, error, trace = info if isinstance(info, tuple) else (None, None, None)
    if kind is None:
        return None
    return _class_name(kind), text(error), _stacktrace(kind, error, trace)


def _class_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _stacktrace(kind: Any, error: Any, trace: Any) -> str:
    try:
        return text("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"))
    except Exception as failure:
        # Source lines that cannot be read, an exception whose notes are no text.
        return f"<traceback cannot be written: {type(failure).__qualname__}>"


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """Return what the app has added to `record`, as plain values."""
    attributes = vars(record).copy()
    return {
        text(name): plain(value)
        for name, value in attributes.items()
        if name not in RESERVED and name not in FIELDS and not str(name).startswith("_")
    }


def stamps(record: logging.LogRecord) -> dict[str, str]:
    """Return our fields of `record`, those with a value.

    What an app's ``extra`` has put in place of one is there too, with ``extra_`` before its name.
    """
    found = own_fields(record)
    attributes = vars(record)
    for name in FIELDS:
        value = attributes.get(name)
        if value is not None and value != "" and found.setdefault(name, text(value)) != value:
            found[f"extra_{name}"] = text(value)
    return found
