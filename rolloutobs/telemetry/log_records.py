"""Identity, trace and caller on every log record, through the record factory of `logging`.

The fields are there for every formatter (``%(service_version)s``, ``{trace_id}``), as empty strings where
nothing is known, so that no format string ever fails. What was set as factory before is called first, and
what it has set stays; a factory that is set later, around ours, works as well.

The names are plain, so they may be those of an app's own ``extra``. `logging` refuses an ``extra`` that is in
the record already, with an exception in the middle of a request; here the app's value wins instead, as if
nobody had been there first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.context import get_current
from opentelemetry.trace import INVALID_SPAN, get_current_span

from rolloutobs.telemetry.callers import caller_of
from rolloutobs.telemetry.current import Stamp, current

__all__ = ["FIELDS", "install", "is_ours", "observe_with", "own_fields", "stamp_fields", "uninstall"]

Factory = Callable[..., logging.LogRecord]
Observer = Callable[[logging.LogRecord], str]
"""Given each record of an enabled logger that is not ours; returns the fingerprint of an error, or the empty
string. What it raises is not caught here."""

FINGERPRINT_FIELD: Final = "error_fingerprint"
EMPTY: Final[Mapping[str, str]] = {
    "service_name": "",
    "service_version": "",
    "track": "",
    "trace_id": "",
    "span_id": "",
    "caller_service": "",
    "caller_version": "",
    FINGERPRINT_FIELD: "",
}
FIELDS: Final = frozenset(EMPTY)
"""Attributes of every record. Identifiers are in lower-case hexadecimal, as OpenTelemetry writes them."""
OWN_LOGGER: Final = "rolloutobs"


class _Attributes(dict[str, Any]):
    """The ``__dict__`` of a record. It denies to contain our fields, so that an ``extra`` may set them."""

    __slots__ = ("own",)
    own: dict[str, str]
    """Our fields as they were when the record was made, whatever the app has set since."""

    def __contains__(self, key: object) -> bool:
        return key not in FIELDS and dict.__contains__(self, key)

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        # A record that is pickled for another process must not need this package there.
        return dict, (dict(self),)


_known: tuple[Stamp | None, dict[str, str]] = (None, dict(EMPTY))


def _identity_fields(stamp: Stamp | None) -> dict[str, str]:
    """Return the fields of `stamp`, the rest empty; not to be changed."""
    global _known
    known, fields = _known
    if known is not stamp:
        fields = dict(EMPTY)
        if stamp is not None:
            identity = stamp.identity
            fields["service_name"] = identity.service
            fields["service_version"] = identity.version
            fields["track"] = identity.track.value
        _known = (stamp, fields)
    return fields


def stamp_fields() -> dict[str, str]:
    """Return the fields of what runs now: all names of `FIELDS`, empty strings where nothing is known."""
    context = get_current()
    fields = _identity_fields(current(context)).copy()
    span = get_current_span(context)
    if span is not INVALID_SPAN:
        ids = span.get_span_context()
        if ids.is_valid:
            fields["trace_id"] = f"{ids.trace_id:032x}"
            fields["span_id"] = f"{ids.span_id:016x}"
    caller = caller_of(context)
    if caller is not None:
        fields["caller_service"] = caller.service
        fields["caller_version"] = caller.version
    return fields


def own_fields(record: logging.LogRecord) -> dict[str, str]:
    """Return our fields of `record`, those with a value.

    They are as they were when the record was made, where an app's ``extra`` of the same name has taken their
    place; not so for a copy of the record (of a ``QueueHandler``, from another process), which has one of the
    two only.
    """
    attributes = vars(record)
    fields = getattr(attributes, "own", None)
    if fields is None:
        fields = {name: attributes.get(name) for name in EMPTY}
    return {name: value for name, value in fields.items() if value and isinstance(value, str)}


def is_ours(name: str) -> bool:
    """Return whether a logger is one of this project: its records are never counted as the app's."""
    return name.startswith(OWN_LOGGER) and name[len(OWN_LOGGER) : len(OWN_LOGGER) + 1] in ("", ".")


class _StampingFactory:
    """Makes records with the factory that was set before, and stamps them."""

    def __init__(self, inner: Factory) -> None:
        self.inner = inner
        self.active = True
        self.observer: Observer | None = None
        self.failed: Callable[[Exception], None] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.inner(*args, **kwargs)
        if self.active:
            try:
                self._stamp(record)
            except Exception as error:
                self._fail(error)
        return record

    def _stamp(self, record: logging.LogRecord) -> None:
        name = record.name
        # A nameless one is made by `logging.makeLogRecord` for what was logged elsewhere: not by us, not now.
        fields = stamp_fields() if name else dict(EMPTY)
        attributes = _Attributes(fields)
        attributes.own = fields
        # What an inner factory has set stays.
        attributes.update(vars(record))
        record.__dict__ = attributes
        if self.observer is not None and name and not is_ours(name):
            fingerprint = self.observer(record)
            if fingerprint:
                fields[FINGERPRINT_FIELD] = attributes[FINGERPRINT_FIELD] = fingerprint

    def _fail(self, error: Exception) -> None:
        if self.failed is not None:
            self.failed(error)


_installed: _StampingFactory | None = None


def install() -> None:
    """Set our factory around the one that is set; does nothing where it is there already."""
    global _installed
    if _installed is not None:
        _installed.active = True
        if _is_called():
            return
        # Somebody has set another one in our place: we go around that.
        _installed.active = False
    inner = logging.getLogRecordFactory()
    before, _installed = _installed, _StampingFactory(inner)
    if before is not None:
        _installed.observer, _installed.failed = before.observer, before.failed
    logging.setLogRecordFactory(_installed)


def _is_called() -> bool:
    """Return whether our factory is the one that is set, or is called by it."""
    try:
        return isinstance(vars(logging.makeLogRecord({})), _Attributes)
    except Exception:
        # A factory whose records are no objects that could be stamped.
        return logging.getLogRecordFactory() is _installed


def observe_with(observer: Observer | None, failed: Callable[[Exception], None] | None) -> None:
    """Install, and hand every record of an enabled logger to `observer` when it is made; ``None``: to nobody.

    Args:
        observer: called in the thread and the context of whoever logs.
        failed: told what went wrong while a record was stamped or observed.
    """
    install()
    if _installed is not None:
        _installed.observer, _installed.failed = observer, failed


def uninstall() -> None:
    """Undo `install`; where another factory was set around ours, ours stays and does nothing."""
    global _installed
    if _installed is None:
        return
    _installed.active, _installed.observer, _installed.failed = False, None, None
    if logging.getLogRecordFactory() is _installed:
        logging.setLogRecordFactory(_installed.inner)
        _installed = None
