"""What is the same for every request to one app, whichever way requests reach it."""

from __future__ import annotations

import logging
import re
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context

from rolloutobs.errors import ConfigurationError
from rolloutobs.http.headers import CapturedHeaders
from rolloutobs.http.metrics import HttpMetrics
from rolloutobs.http.responding import response_propagator
from rolloutobs.http.server_timing import ServerTiming
from rolloutobs.settings import SpanMode
from rolloutobs.telemetry.current import with_identity
from rolloutobs.telemetry.hub import Hub
from rolloutobs.telemetry.others import OthersSpans, Tag, taggers, traced_by
from rolloutobs.telemetry.propagation import Extractor
from rolloutobs.telemetry.traces import ServerSpans

__all__ = ["ERROR_KEY", "SCOPE_KEY", "HttpApp"]

_logger = logging.getLogger("rolloutobs")
# With a dot: keys of an environ without one are text. Source: PEP 3333, "environ variables".
SCOPE_KEY = "rolloutobs.seen"
"""In the scope or environ of every request that we have seen: an instrumented app that is mounted leaves it
alone.
"""
ERROR_KEY = "rolloutobs.error"
"""In the scope or environ: the exception of which the framework has made an answer, from
`rolloutobs.http.hooks`."""
Describe = Callable[[Mapping[str, Any]], tuple[str, dict[str, Any]]]


class HttpApp(ABC):
    """Configuration and counts of one app; never changes after its first request.

    Args:
        app: what is called for a request.
        listed: object whose routes are listed for the counters that start from zero.
        hub: what the app records, and its settings.

    Raises:
        ConfigurationError: a regular expression of the settings is not one.
    """

    def __init__(self, app: Any, listed: object, hub: Hub) -> None:
        self.app = app
        settings = hub.settings
        self.hub = hub
        self.settings = settings
        self.failures = hub.failures
        self.http = HttpMetrics(hub)
        self.pairs = self.http.pairs
        self.by_scheme = self.http.by_scheme
        self.exemplars = settings.exemplars
        self.live = hub.live
        self.base = with_identity(hub.live, Context())
        self.extractor = Extractor(hub)
        self.provider = hub.tracer_provider
        self.spans: ServerSpans | OthersSpans | None = None
        """Who makes the server spans; known with the first request, when the app's middleware is complete."""
        self.tags: tuple[Tag, ...] = ()
        self.responder: Any = None
        """The response propagator, if one is set; known with the first request."""
        secret = settings.secret[0] if settings.secret else ""
        self.timing = ServerTiming(hub.live, secret) if settings.server_timing else None
        self.special = settings.excluded_paths | ({settings.metrics_path} if settings.metrics_path else set())
        self.excluded_urls = _pattern(settings.excluded_urls)
        """A URL in which this is found is excluded; ``None``: none is."""
        self.captured = CapturedHeaders.of(settings)
        self.sees_answers = False
        """Whether anything but `Server-Timing` has to do with the head of an answer."""
        self.listed = listed
        hub.before_collect.append(_while_alive(self))

    @abstractmethod
    def describe(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return name and attributes of a server span, from the scope or the environ of its request."""

    @abstractmethod
    def routes(self) -> Iterable[tuple[str, str]]:
        """Yield (method, template) of all routes that the app is known to have."""

    @abstractmethod
    def with_contrib(self) -> Any:
        """Return the app inside of OpenTelemetry's own middleware."""

    @abstractmethod
    def again(self, app: Any, listed: object) -> HttpApp:
        """Return one for a copy of the app, which counts into the same metrics."""

    def choose_spans(self) -> ServerSpans | OthersSpans:
        """Decide who makes the server span of every request to this app."""
        mode = self.settings.spans
        spans: ServerSpans | OthersSpans = OthersSpans(self.provider, self.base)
        if self.settings.sdk_disabled:
            mode = SpanMode.OFF
        if mode is not SpanMode.OFF:
            other = traced_by(self._built(), self.provider or trace.get_tracer_provider())
            if other is None and mode is SpanMode.CONTRIB:
                self.app = self.with_contrib()
            elif other is None:
                spans = ServerSpans(self.provider, self.base, self.describe)
            elif mode is SpanMode.OWN:
                _logger.info("the server spans are left to %s, and stamped", other)
        self.tags = taggers()
        self.responder = response_propagator()
        self.sees_answers = bool(self.tags or self.captured or self.responder)
        self.spans = spans
        return spans

    def _built(self) -> object:
        """Return the app with its middleware; Starlette builds it with the first request, which this is."""
        app: Any = self.listed
        if getattr(app, "middleware_stack", app) is None:
            app.middleware_stack = app.build_middleware_stack()
        return app

    def tag(self) -> None:
        """Put version and track on the trace of whichever agent has one."""
        for tag in self.tags:
            tag(self.live.stamp)

    def expect_routes(self) -> None:
        """Expose the counters of known routes from zero."""
        self.http.expect(pair for pair in self.routes() if pair[1] not in self.special)


def _while_alive(app: HttpApp) -> Callable[[], None]:
    """Return what exposes the routes of `app`, without keeping it alive: a hub outlives its apps."""
    reference = weakref.ref(app)

    def expect() -> None:
        found = reference()
        if found is not None:
            found.expect_routes()

    return expect


def _pattern(expressions: tuple[str, ...]) -> re.Pattern[str] | None:
    try:
        return re.compile("|".join(expressions)) if expressions else None
    except re.error as error:
        raise ConfigurationError(
            f"excluded_urls is {', '.join(expressions)!r}, which is no regular expression: {error}"
        ) from error
