"""The closed sets of words of the collector: outcomes, vitals, navigations, devices; pure."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["BeaconOutcome", "Device", "Navigation", "Phase", "ResourceKind", "ValueRejection", "Vital"]


class BeaconOutcome(StrEnum):
    """What became of one body; the label ``outcome`` of ``rum_beacons_total``."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    """A (view, sequence) that was already counted; answered like the first one."""
    EMPTY = "empty"
    NOT_JSON = "not_json"
    INVALID = "invalid"
    """JSON, but not of the documented shape."""
    UNKNOWN_METRIC = "unknown_metric"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_APP = "unknown_app"
    TOO_LARGE = "too_large"
    ENCODED = "encoded"
    """A Content-Encoding that is not understood."""
    DISCONNECTED = "disconnected"
    """The client left before its body was complete."""
    FORBIDDEN_ORIGIN = "forbidden_origin"
    """Posted by a page of an origin that is not on the list."""
    LIMITED = "limited"
    """More than one client, or all together, may send."""
    BOT = "bot"
    """A crawler, or a browser that a program drives; answered like any other."""
    IGNORED = "ignored"
    """Understood, and nothing in it is counted: a batch of log lines, for example."""
    TIMEOUT = "timeout"
    """The body did not come in time."""
    ERROR = "error"
    """A fault of the collector itself."""


class ValueRejection(StrEnum):
    """Why one value of an accepted beacon was left out; label ``reason`` of ``rum_values_rejected_total``."""

    UNKNOWN_METRIC = "unknown_metric"
    OUT_OF_RANGE = "out_of_range"
    NO_REQUEST = "no_request"
    """A time to first byte or load time of a view that made no request."""
    TOO_MANY = "too_many"
    """Errors or events beyond what one beacon may carry, here or already in the page."""
    REPEATED = "repeated"
    """A second time what one signed view counts once."""
    UNPROVED = "unproved"
    """Who has answered a call, without a token that says who served the page."""


class Vital(StrEnum):
    """A measurement of one page view; in seconds, but for CLS, which has no unit."""

    LCP = "lcp"
    INP = "inp"
    CLS = "cls"
    FCP = "fcp"
    TTFB = "ttfb"
    LOAD = "load"


class Navigation(StrEnum):
    """How the view came about; the label ``navigation_type``."""

    NAVIGATE = "navigate"
    RELOAD = "reload"
    BACK_FORWARD = "back-forward"
    BFCACHE = "bfcache"
    PRERENDER = "prerender"
    SOFT = "soft"
    OTHER = "other"


class Device(StrEnum):
    """Class of device; the label ``device``."""

    DESKTOP = "desktop"
    MOBILE = "mobile"
    TABLET = "tablet"
    UNKNOWN = "unknown"


class ResourceKind(StrEnum):
    """What could not be loaded; the label ``kind`` of ``rum_resource_errors_total``."""

    SCRIPT = "script"
    STYLE = "style"
    IMAGE = "image"
    FONT = "font"
    MEDIA = "media"
    FRAME = "frame"
    OTHER = "other"


class Phase(StrEnum):
    """A part of the time until a document is loaded; the label ``phase``."""

    REDIRECT = "redirect"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    REQUEST = "request"
    RESPONSE = "response"
    DOM = "dom"
