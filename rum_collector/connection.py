"""A connection of uvicorn as the collector needs it: none waits for ever, most bodies take a short way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from rum_collector.app import CollectorApp
from rum_collector.formats import Format
from rum_collector.http import Headers
from rum_collector.settings import DEFAULTS
from rum_collector.words import BeaconOutcome

__all__ = ["Connection"]

MAX_HEAD_BYTES: Final = 65_536
"""Of a head, of what follows a chunked body, and of whatever else is read before there is something to do: as
h11 has it, for httptools has no limit."""
MAX_WAITING: Final = 16
"""Requests that wait for the answer to the one before them. No browser sends more than one."""

# What changes how a body is read, or who answers it.
_UNUSUAL: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade"})


class Connection(HttpToolsProtocol):
    """A connection that answers what came as a whole at once, and is closed when a request does not come.

    A body that came together with its head, as nearly all beacons do, is counted where it is read: a task, an
    event, a scope and two messages for each one would take longer than counting it. Anything else goes
    through the app as any ASGI request does, with the same answers.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch the connection."""
        super().connection_made(transport)
        app = self.config.loaded_app
        self._collector: CollectorApp | None = app if isinstance(app, CollectorApp) else None
        self._formats: Mapping[bytes, Format] = {}
        if self._collector is not None:
            self._collector.awake()
            self._formats = self._collector.formats_by_raw_path
        self._peer = self.client[0] if self.client else ""
        self._form: Format | None = None
        """Of the body that is being read; ``None``: the app reads it, or there is none."""
        self._fields: Headers = {}
        self._body = b""
        self._may_answer = False
        self._is_read = False
        """Whether there was something to do in what was read last."""
        self._unread_bytes = 0
        self._shared_fields: list[tuple[bytes, bytes]] = []
        self._shared = b""
        self._answered = 0
        self._waited_at: tuple[int, int] | None = None
        self._limit_seconds = float(self._setting("body_seconds"))
        self._most_bytes = int(self._setting("max_body_bytes"))
        self._watch = self.loop.call_later(self._limit_seconds, self._look)

    def _setting(self, name: str) -> Any:
        return DEFAULTS[name] if self._collector is None else getattr(self._collector.settings, name)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the watch."""
        self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close the connection if it has waited since the last look, for the same request or the same answer.

        Between two requests uvicorn's keep-alive timeout counts, but only until the first byte of the next
        one; for its head uvicorn itself waits for ever, and so it does for a client that reads no answers.
        """
        unsent = self.transport.get_write_buffer_size()
        waits = (self._answered, unsent) if self._is_idle() or self.flow.write_paused else None
        if waits is not None and waits == self._waited_at:
            if unsent:
                self.transport.abort()
            else:
                self.transport.close()
            return
        self._waited_at = waits
        self._watch = self.loop.call_later(self._limit_seconds, self._look)

    def _is_idle(self) -> bool:
        # There is none before the first request that the app answers, whatever uvicorn's annotation says.
        cycle: Any = self.cycle
        return cycle is None or bool(cycle.response_complete)

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        # One by the short way per read: many small bodies in one piece must not keep all others waiting.
        self._may_answer, self._is_read = True, False
        super().data_received(data)
        self._may_answer = False
        if self._form is not None:
            self._leave_to_app()
        if self._is_read:
            self._unread_bytes = 0
            return
        self._unread_bytes += len(data)
        if self._unread_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._reject(BeaconOutcome.TOO_LARGE)
            self.send_400_response("The head is too long.")

    def _reject(self, outcome: BeaconOutcome) -> None:
        if self._collector is not None:
            self._collector.ingest.reject(outcome)

    def on_message_begin(self) -> None:
        """Begin a request; its scope is made when the app is asked."""
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        """Choose the way."""
        self._is_read = True
        if self._may_answer and self._is_idle() and not self.flow.write_paused:
            self._may_answer = False
            self._fields = dict(self.headers)
            self._form = self._short_way()
        if self._form is None:
            self._ask_app()

    def _short_way(self) -> Format | None:
        form = self._formats.get(self.url)
        if form is None or self.parser.get_method() != b"POST" or not _UNUSUAL.isdisjoint(self._fields):
            return None
        # Without that header HTTP/1.0 keeps no connection.
        if b"connection" in self._fields and self.parser.get_http_version() != "1.1":
            return None
        return form if self.parser.should_keep_alive() else None

    def on_body(self, body: bytes) -> None:
        """Keep a part of a body."""
        self._is_read = True
        if self._form is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        """Answer a body that came together with its head."""
        if self._form is None or self._collector is None:
            super().on_message_complete()
            return
        if len(self._body) > self._most_bytes:
            self._leave_to_app()
            super().on_message_complete()
            return
        form, body = self._form, self._body
        self._form, self._body = None, b""
        answer = self._collector.posting.answer(form, self._peer, self._fields, body)
        self.transport.write(
            b"".join((STATUS_LINE[answer.status], self._shared_lines(), answer.lines(), b"\r\n", answer.body))
        )
        self._answered += 1
        self.server_state.total_requests += 1

    def _shared_lines(self) -> bytes:
        """Return the headers of every answer: uvicorn makes a new list of them each second, for the date."""
        fields = self.server_state.default_headers
        if fields is not self._shared_fields:
            self._shared_fields = fields
            self._shared = b"".join([b"%b: %b\r\n" % field for field in fields])
        return self._shared

    def _leave_to_app(self) -> None:
        """Go the usual way with a body whose end is still to come."""
        body = self._body
        self._form, self._body = None, b""
        self._ask_app()
        if body:
            super().on_body(body)

    def _ask_app(self) -> None:
        if len(self.pipeline) >= MAX_WAITING:
            self._reject(BeaconOutcome.LIMITED)
            # As a request that cannot be read: the parser stops there, and the connection is closed.
            raise ValueError("too many requests wait for their answers")
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        # The list that is in the scope.
        self.headers += headers
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Take down that the app has answered."""
        self._answered += 1
        super().on_response_complete()
