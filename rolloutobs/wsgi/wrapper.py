"""What is the same for every request to one WSGI app: configuration, counts, the answer to a scrape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rolloutobs.errors import ConfigurationError
from rolloutobs.http.app import SCOPE_KEY, HttpApp
from rolloutobs.http.attributes import legacy_attributes, request_attributes, span_method, url_of
from rolloutobs.http.contrib import remember
from rolloutobs.http.listing import listed_routes
from rolloutobs.settings import SpanMode
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.hub import Hub
from rolloutobs.wsgi.contrib import contrib_middleware
from rolloutobs.wsgi.environ import PropagatedHeaders, path_of, scope_of
from rolloutobs.wsgi.scrapes import Scrapes
from rolloutobs.wsgi.types import Environ, StartResponse, WSGIApp

__all__ = ["Wrapper"]


class Wrapper(HttpApp):
    """What is the same for every request to one WSGI app; holds configuration and the app's counts.

    Args:
        app: the app inside.
        listed: object whose routes are listed for the counters that start from zero.
        hub: what the app records, and its settings.

    Raises:
        ConfigurationError: ``spans`` is ``contrib``, and OpenTelemetry's middleware for WSGI is not
            installed; or a regular expression of the settings is not one.
    """

    app: WSGIApp

    def __init__(self, app: WSGIApp, listed: object, hub: Hub) -> None:
        super().__init__(app, listed, hub)
        if self.settings.spans is SpanMode.CONTRIB and contrib_middleware() is None:
            raise ConfigurationError(
                "spans is 'contrib', which for a WSGI app needs OpenTelemetry's middleware: "
                "pip install opentelemetry-instrumentation-wsgi, or use 'own'"
            )
        self.propagated = PropagatedHeaders()
        self.scrapes = Scrapes(self)

    def describe(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return name and attributes of a server span, from the environ of its request."""
        scope = scope_of(request)
        attributes = request_attributes(scope, self.live.stamp.attributes)
        if self.settings.legacy_attributes:
            attributes |= legacy_attributes(attributes)
        if self.captured is not None:
            attributes |= self.captured.of_request(scope["headers"])
        return span_method(scope["method"]), attributes

    def routes(self) -> Iterator[tuple[str, str]]:
        """Yield (method, template) of all routes that the app is known to have."""
        return listed_routes(self.listed)

    def with_contrib(self) -> WSGIApp:
        """Return the app inside of OpenTelemetry's own middleware."""
        middleware: Any = contrib_middleware()
        wrapped: WSGIApp = middleware(self.app, tracer_provider=self.provider, request_hook=remember)
        return wrapped

    def again(self, app: WSGIApp, listed: object) -> Wrapper:
        """Return one for a copy of the app, which counts into the same metrics."""
        return Wrapper(app, listed, self.hub)

    def excludes(self, environ: Environ) -> bool:
        """Return whether a request is excluded, or asks for the metrics.

        Paths count from the root path on; regular expressions are looked for in the whole URL.
        """
        if path_of(environ) in self.special:
            return True
        return self.excluded_urls is not None and bool(self.excluded_urls.search(url_of(scope_of(environ))))

    def unrecorded(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer what is not recorded: scrapes, excluded paths, requests that were recorded further out."""
        if SCOPE_KEY not in environ:
            asked = False
            try:
                environ[SCOPE_KEY] = None
                asked = self.scrapes.are_asked_for(environ)
            except Exception as error:
                self.failures.record(Where.REQUEST, error)
            if asked:
                return self.scrapes.answer(environ, start_response)
        return self.app(environ, start_response)
