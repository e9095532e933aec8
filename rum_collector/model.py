"""What a body of any format becomes: one or more beacons, in seconds, all of it bounded; pure."""

from __future__ import annotations

from typing import Any

import msgspec

from rolloutobs.identity import Track
from rum_collector.words import Navigation, Phase, ResourceKind, ValueRejection, Vital

__all__ = ["Batch", "Beacon", "Calls", "Event", "Frames", "JsError", "Request", "Resource"]


# Nothing in these can refer to itself, so that the garbage collector need not know of them.
class JsError(msgspec.Struct, frozen=True, gc=False):
    """One error of a view, merged with its repeats.

    `fingerprint` is made of type and scrubbed message, not of file names, to stay the same across versions.
    """

    fingerprint: str
    message: str
    """``Type: scrubbed message``."""
    location: str
    """``file:line:column``, or the empty string."""
    count: int


class Event(msgspec.Struct, frozen=True, gc=False):
    """A business event of a view; sent at most once per view, name and outcome."""

    name: str
    ok: bool


class Resource(msgspec.Struct, frozen=True, gc=False):
    """Parts of a page that could not be loaded."""

    kind: ResourceKind
    count: int


class Calls(msgspec.Struct, frozen=True, gc=False):
    """Same-origin calls of a page, by who has answered."""

    same: int
    """Answered by the version that served the page."""
    other: int


class Request(msgspec.Struct, frozen=True, gc=False):
    """Calls of a page to one target, a template such as ``GET /api/items/:id``."""

    target: str
    failed: int
    total: int
    seconds: float
    """Of all of them together."""


class Frames(msgspec.Struct, frozen=True, gc=False):
    """How long a page was stuck in long animation frames, of how long it was watched."""

    long_seconds: float
    observed_seconds: float


class Beacon(msgspec.Struct, frozen=True, gc=False):
    """One accepted body. Every beacon of a view is additive: it carries what was not sent before.

    Attributes:
        app: the service, or empty where the page did not say.
        route: template, or empty where the page did not say.
        view: random id of the page view; empty for the simple body, which counts no view.
        sequence: 0 counts the view.
        navigation: ``None`` for the simple body.
        vitals: seconds (CLS: no unit), each vital at most once per view.
        first_error: the view had no error in its earlier beacons and has one now.
        first_resource_error: the same for resources that did not load.
        aborted: the page was left before it was loaded.
        marks: of answers to calls, which say who has answered to whom can read them; added to `calls` then.
        phases: seconds by part of the page load.
        token: the view token that the document came with; empty where it came with none.
        driven: a program drives the browser (``navigator.webdriver``).
        sampling: of how many views this is one, as a share; shown, never multiplied into counts.
        traceparent: of the document.
        once: of other agents: names the page view, which the first body that names it counts.
        vital_ids: of other agents: one per vital, for they may send one again when it has grown.
        error_key: of other agents: names whose first error counts as a view with errors.
        rejected: why single values were left out, one word per value.
    """

    app: str
    version: str
    track: Track
    route: str
    synthetic: bool
    view: str = ""
    sequence: int = 0
    navigation: Navigation | None = None
    vitals: tuple[tuple[Vital, float], ...] = ()
    errors: tuple[JsError, ...] = ()
    first_error: bool = False
    events: tuple[Event, ...] = ()
    rejected: tuple[ValueRejection, ...] = ()
    resources: tuple[Resource, ...] = ()
    first_resource_error: bool = False
    aborted: bool = False
    calls: Calls | None = None
    marks: tuple[str, ...] = ()
    requests: tuple[Request, ...] = ()
    frames: Frames | None = None
    phases: tuple[tuple[Phase, float], ...] = ()
    token: str = ""
    driven: bool = False
    sampling: float | None = None
    traceparent: str = ""
    once: str = ""
    vital_ids: tuple[str, ...] = ()
    error_key: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it to count."""
        return self.navigation is None and not (
            self.vitals or self.errors or self.events or self.once or self.requests or self.rejected
        )

    @property
    def has_details(self) -> bool:
        """Whether there is something that most beacons are without."""
        return bool(
            self.rejected
            or self.sampling is not None
            or self.calls is not None
            or self.requests
            or self.frames is not None
            or self.phases
        )

    @property
    def new_view(self) -> Navigation | None:
        """How the view came about, if this beacon is the one that counts it."""
        return self.navigation if self.sequence == 0 else None


class Batch(msgspec.Struct, frozen=True):
    """What one body of another agent holds."""

    beacons: tuple[Beacon, ...] = ()
    traces: tuple[Any, ...] = ()
    """``resourceSpans`` of OTLP's JSON, without query strings and the like."""
