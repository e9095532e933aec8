"""The answer to ``/metrics`` on the app's own port.

An app that has a ``/metrics`` of its own is asked first, exactly as the client has asked: what it refuses (a
password, a method) is refused here too, and a page for people at that path is served as it is. What is in its
answer and not among the metrics of the process is shown with ours, stamped.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from rolloutobs.telemetry.answer import Answer, Question, answer, is_allowed
from rolloutobs.telemetry.conflicts import AppText
from rolloutobs.telemetry.failures import Where
from rolloutobs.wsgi.environ import path_of, raw_headers
from rolloutobs.wsgi.types import Environ, Headers, StartResponse, Write

if TYPE_CHECKING:
    from rolloutobs.wsgi.wrapper import Wrapper

__all__ = ["Scrapes"]

_logger = logging.getLogger("rolloutobs")
_FAILED = Answer(500, (("content-length", "0"),), b"")
_METRICS = ("text/plain", "application/openmetrics-text")


class Scrapes:
    """Answers scrapes of one app."""

    def __init__(self, wrapper: Wrapper) -> None:
        self._wrapper = wrapper
        self._told = False

    def are_asked_for(self, environ: Environ) -> bool:
        """Return whether a request is a scrape."""
        wanted = self._wrapper.settings.metrics_path
        return (
            wanted is not None
            and environ.get("REQUEST_METHOD") in ("GET", "HEAD")
            and path_of(environ) == wanted
        )

    def answer(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one scrape.

        Raises:
            whatever the app raises, where it has the path itself.
        """
        wrapper = self._wrapper
        question = Question.from_headers(environ["REQUEST_METHOD"], raw_headers(environ))
        app_text = None
        if self._is_a_route() and is_allowed(wrapper.settings.metrics_token, question.authorization):
            overheard = _Overheard()
            overheard.run(wrapper.app(environ, overheard.start_response))
            app_text = overheard.app_text()
            self._tell(app_text is not None)
            if app_text is None:
                start_response(*overheard.started)
                return overheard.parts
        try:
            found = answer(wrapper.hub, question, app_text)
        except Exception as error:
            wrapper.failures.record(Where.METRICS, error)
            found = _FAILED
        start_response(f"{found.status} {HTTPStatus(found.status).phrase}", list(found.headers))
        return [found.body]

    def _is_a_route(self) -> bool:
        try:
            path = self._wrapper.settings.metrics_path
            return any(template == path for _, template in self._wrapper.routes())
        except Exception as error:
            self._wrapper.failures.record(Where.METRICS, error)
            return False

    def _tell(self, included: bool) -> None:
        if self._told:
            return
        self._told = True
        _logger.warning(
            "the app has a %s of its own: %s. Remove it, or set ROLLOUTOBS_METRICS_PATH to another path",
            self._wrapper.settings.metrics_path,
            "its metrics are shown with ours" if included else "it is served as it is, without our metrics",
        )


class _Overheard:
    """Keeps the app's answer."""

    def __init__(self) -> None:
        self.started: tuple[str, Headers] = ("500 Internal Server Error", [])
        self.parts: list[bytes] = []

    def start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Write:
        """Keep status and headers for later."""
        self.started = (status, headers)
        return self.parts.append

    def run(self, result: Any) -> None:
        """Keep the body."""
        try:
            self.parts.extend(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def app_text(self) -> AppText | None:
        """Return the metrics that the app has answered; ``None`` if its answer was something else."""
        status, headers = self.started
        named = {name.lower(): value for name, value in headers}
        content_type = named.get("content-type", "")
        if not status.startswith("200") or not content_type.lower().startswith(_METRICS):
            return None
        body = b"".join(self.parts)
        if named.get("content-encoding") == "gzip":
            try:
                body = gzip.decompress(body)
            except (OSError, EOFError, zlib.error):
                # Damaged, and the app's own business.
                return None
        text = AppText(content_type, body)
        return text if text.is_metrics else None
