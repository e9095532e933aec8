"""The answer to ``/metrics`` on the app's own port.

An app that has a ``/metrics`` of its own is asked first, exactly as the client has asked: what it refuses (a
password, a method) is refused here too, and a page for people at that path is served as it is. What is in its
answer and not among the metrics of the process, such as a registry of its own, is shown with ours, stamped.
"""

from __future__ import annotations

import gzip
import logging
import threading
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from rolloutobs.asgi.threads import in_thread
from rolloutobs.asgi.types import ASGIApp, Message, Receive, Scope, Send
from rolloutobs.telemetry.answer import Answer, Question, answer, is_allowed
from rolloutobs.telemetry.conflicts import AppText
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.hub import Hub

__all__ = ["Scrapes"]

_logger = logging.getLogger("rolloutobs")
_MAX_AT_ONCE = 16
"""Scrapes are answered one after the other; of those that wait, each holds a thread."""
_BUSY = Answer(503, (("retry-after", "1"), ("content-length", "0")), b"")
_FAILED = Answer(500, (("content-length", "0"),), b"")


class Scrapes:
    """Answers scrapes of one app.

    Args:
        hub: what is shown.
        routes: (method, template) of the app's routes.
        listed: object whose ``routes`` may hold a mount at the path.
    """

    def __init__(self, hub: Hub, routes: Callable[[], Iterable[tuple[str, str]]], listed: object) -> None:
        self._hub = hub
        self._routes = routes
        self._listed = listed
        self._told = False
        self._free = threading.BoundedSemaphore(_MAX_AT_ONCE)

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scrape; `app` is asked where it has the path itself.

        Raises:
            whatever the app raises, where it has the path itself.
        """
        question = Question.from_headers(scope["method"], scope.get("headers", ()))
        app_text = None
        own = self._own(scope)
        if own is not None and is_allowed(self._hub.settings.metrics_token, question.authorization):
            overheard = _Overheard(send)
            await app(own, receive, overheard.send)
            app_text = await overheard.app_text()
            self._tell(app_text is not None)
            if app_text is None:
                return
        found = await self._answer(question, app_text)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in found.headers]
        await send({"type": "http.response.start", "status": found.status, "headers": headers})
        await send({"type": "http.response.body", "body": found.body})

    async def _answer(self, question: Question, app_text: AppText | None) -> Answer:
        if not self._free.acquire(blocking=False):
            return _BUSY
        return await in_thread(partial(self._answer_now, question, app_text))

    def _answer_now(self, question: Question, app_text: AppText | None) -> Answer:
        try:
            return answer(self._hub, question, app_text)
        except BaseException as error:  # A collector that exits would end its thread, and leave us waiting.
            self._hub.failures.record(Where.METRICS, error)
            return _FAILED
        finally:
            self._free.release()

    def _own(self, scope: Scope) -> Scope | None:
        """Return the scope with which the app answers the path itself; ``None`` if it has no such route."""
        path = self._hub.settings.metrics_path
        try:
            if any(template == path for _, template in self._routes()):
                return scope
            mounts = getattr(self._listed, "routes", None) or ()
            if any(getattr(route, "path", None) == path for route in mounts):
                # Frameworks redirect to it; a scrape need not.
                return {**scope, "path": scope["path"] + "/", "raw_path": (scope["path"] + "/").encode()}
        except Exception as error:
            self._hub.failures.record(Where.METRICS, error)
        return None

    def _tell(self, included: bool) -> None:
        if self._told:
            return
        self._told = True
        path = self._hub.settings.metrics_path
        _logger.warning(
            "the app has a %s of its own: %s. Remove it, or set ROLLOUTOBS_METRICS_PATH to another path",
            path,
            "its metrics are shown with ours" if included else "it is served as it is, without our metrics",
        )


class _Overheard:
    """Keeps the app's answer where it may be metrics; lets every other one through as it comes."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._kept: list[Message] = []
        self._through = False
        self._whole = False

    async def send(self, message: Message) -> None:
        """Send for the app."""
        kind = message["type"]
        if not self._through and (_may_be_metrics(message) if not self._kept else kind == _BODY):
            self._kept.append(message)
            self._whole = kind == _BODY and not message.get("more_body")
            return
        await self._let_through()
        await self._send(message)

    async def app_text(self) -> AppText | None:
        """Return the metrics that the app has answered; ``None`` if its answer was something else, which the
        client has by now.
        """
        if not self._whole:
            await self._let_through()
            return None
        start, *parts = self._kept
        headers = {bytes(name).lower(): bytes(value) for name, value in start.get("headers", ())}
        body = b"".join(part.get("body", b"") for part in parts)
        if headers.get(b"content-encoding") == b"gzip":
            try:
                body = gzip.decompress(body)
            except (OSError, EOFError, zlib.error):
                # Damaged, and the app's own business.
                await self._let_through()
                return None
        text = AppText(headers.get(b"content-type", b"").decode("latin-1"), body)
        if text.is_metrics:
            return text
        await self._let_through()
        return None

    async def _let_through(self) -> None:
        self._through = True
        kept, self._kept = self._kept, []
        for message in kept:
            await self._send(message)


_BODY = "http.response.body"


def _may_be_metrics(message: Any) -> bool:
    if message["type"] != "http.response.start" or message["status"] != 200:
        return False
    types = [bytes(value) for name, value in message.get("headers", ()) if name.lower() == b"content-type"]
    return any(value.lower().startswith((b"text/plain", b"application/openmetrics-text")) for value in types)
