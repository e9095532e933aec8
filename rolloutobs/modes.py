"""Words that settings choose from."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Naming", "OnConflict", "SpanMode"]


class SpanMode(StrEnum):
    """Who makes the server span; there is always exactly one."""

    OWN = "own"
    """We do, on the OpenTelemetry API; what a framework or an agent would make besides is kept from it."""
    CONTRIB = "contrib"
    """OpenTelemetry's own ASGI or WSGI middleware does, with its hooks and options; we stamp it."""
    OFF = "off"
    """Nobody here does: whatever span is active is stamped."""


class Naming(StrEnum):
    """The names of the server metrics."""

    DEFAULT = "default"
    """``http_requests_total``, ``http_request_duration_seconds``: what dashboards and rules use."""
    SEMCONV = "semconv"
    """OpenTelemetry's: ``http_server_request_duration_seconds`` with ``http_route`` and so on. Its ``_count``
    is the number of requests, and not there from zero. The default policy of the analysis reads the default
    names."""


class OnConflict(StrEnum):
    """What to do about metrics of the same names that another instrumentation exposes."""

    REPLACE = "replace"
    """Ours are shown, theirs left out, with one warning."""
    ADOPT = "adopt"
    """Theirs are shown, stamped; ours of these names are left out. The analysis then has what their labels
    tell: with ``handler`` in place of ``route``, no routes."""
    PREFIX = "prefix"
    """Both are shown; our server metrics with the prefix ``rolloutobs_``, conflict or not: names do not
    change while a process runs."""
