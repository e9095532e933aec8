"""What is sent on to an OpenTelemetry Collector: errors as log records, and the spans of other agents.

Never inside a request: a body is answered when it is counted. What waits is bounded in bytes, the oldest goes
first, and everything that does not arrive is counted. Who needs more gives that collector a persistent queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from rolloutobs import semconv
from rum_collector._http import Client, Unreachable
from rum_collector.admission import Labels
from rum_collector.model import JsError

__all__ = ["LOGS", "TRACES", "Forwarder", "Queue", "error_log"]

LOGS: Final = "logs"
TRACES: Final = "traces"
OVERFLOW: Final = "overflow"
REFUSED: Final = "refused"
SHUTDOWN: Final = "shutdown"
BATCH_BYTES: Final = 1 << 20
"""A quarter of what the OpenTelemetry Collector takes by default, uncompressed, over gRPC."""
PATIENCE_SECONDS: Final = 1.0
"""How long what comes first waits for company."""
LONGEST_PAUSE_SECONDS: Final = 30.0
_ROOTS: Final = {LOGS: b'{"resourceLogs":[', TRACES: b'{"resourceSpans":['}
_BUSY: Final = frozenset({429, 502, 503, 504})
"""Statuses after which a batch is sent again. Source: OTLP 1.x, "Retryable Response Codes"."""
_UNREADABLE: Final = frozenset({400, 413})
"""Statuses that may be about one piece of a batch. Source: OTLP 1.x, "Bad Data"; RFC 9110 for 413."""
# Source: W3C Trace Context, "traceparent Header". Of another shape, the batch would be refused.
_TRACEPARENT: Final = re.compile(r"[\da-f]{2}-([\da-f]{32})-([\da-f]{16})-[\da-f]{2}", re.ASCII)

_logger = logging.getLogger("rum_collector")


class Queue:
    """Pieces of OTLP that wait, at most so many bytes of them.

    Args:
        max_bytes: of all pieces together.
        dropped: told of every piece that did not make it: signal and reason.
    """

    def __init__(self, max_bytes: int, dropped: Callable[[str, str], None]) -> None:
        self._max_bytes = max_bytes
        self._dropped = dropped
        self._pieces: deque[tuple[str, bytes]] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        """Return how many pieces wait."""
        return len(self._pieces)

    def put(self, signal: str, piece: bytes) -> None:
        """Add a piece, and drop the oldest ones where there is no room for it."""
        if len(piece) > self._max_bytes:
            self._dropped(signal, OVERFLOW)
            return
        self._pieces.append((signal, piece))
        self.bytes += len(piece)
        while self.bytes > self._max_bytes:
            self.drop_oldest(OVERFLOW)

    def drop_oldest(self, reason: str) -> None:
        """Drop the piece that has waited longest."""
        signal, piece = self._pieces.popleft()
        self.bytes -= len(piece)
        self._dropped(signal, reason)

    def take(self) -> tuple[str, list[bytes]]:
        """Take the oldest piece and those of its signal that follow it, up to a megabyte."""
        signal, size = self._pieces[0][0], 0
        taken: list[bytes] = []
        while self._pieces and self._pieces[0][0] == signal and (not taken or size < BATCH_BYTES):
            piece = self._pieces.popleft()[1]
            size += len(piece)
            taken.append(piece)
        self.bytes -= size
        return signal, taken

    def put_back(self, signal: str, pieces: list[bytes]) -> None:
        """Put pieces back in front, as the oldest; what there is no room for is dropped."""
        for piece in reversed(pieces):
            if self.bytes + len(piece) > self._max_bytes:
                self._dropped(signal, OVERFLOW)
            else:
                self._pieces.appendleft((signal, piece))
                self.bytes += len(piece)


class Forwarder:
    """Sends a queue on.

    Args:
        url: of the OpenTelemetry Collector, without ``/v1``.
        queue: what waits.
        sent: told of every piece that arrived, by signal.
        refused: told of every piece that the other side does not take, by signal.
    """

    def __init__(
        self, url: str, queue: Queue, sent: Callable[[str], None], refused: Callable[[str], None]
    ) -> None:
        self._url = url.rstrip("/")
        self.queue = queue
        self._sent = sent
        self._refused = refused
        self._news = asyncio.Event()
        self._end = asyncio.Event()

    def put(self, signal: str, piece: bytes) -> None:
        """Send a piece on, at some time."""
        self.queue.put(signal, piece)
        self._news.set()

    async def run(self) -> None:
        """Send on until `end`, and what is left then, once."""
        pause = PATIENCE_SECONDS
        try:
            async with Client() as client:
                while not self._end.is_set():
                    await self._news.wait()
                    await self._wait(pause)
                    is_well = await self._send_all(client)
                    pause = PATIENCE_SECONDS if is_well else min(2 * pause, LONGEST_PAUSE_SECONDS)
                await self._send_all(client)
        finally:
            while len(self.queue):
                self.queue.drop_oldest(SHUTDOWN)

    def end(self) -> None:
        """Let `run` end."""
        self._end.set()
        self._news.set()

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._end.wait(), seconds)

    async def _send_all(self, client: Client) -> bool:
        """Send everything; return whether the other side is well."""
        self._news.clear()
        while len(self.queue):
            signal, pieces = self.queue.take()
            try:
                wait = await self._send(client, signal, pieces)
            finally:
                # Also where this task is ended in the middle: what has not arrived is counted.
                self.queue.put_back(signal, pieces)
            if wait is not None:
                self._news.set()
                await self._wait(min(wait, LONGEST_PAUSE_SECONDS))
                return False
        return True

    async def _send(self, client: Client, signal: str, pieces: list[bytes]) -> float | None:
        """Send pieces, and take those off the list that are done with.

        Returns:
            ``None``, or after how many seconds the other side may take the others.
        """
        size = len(pieces)
        while pieces:
            batch = pieces[:size]
            body = _ROOTS[signal] + b",".join(batch) + b"]}"
            try:
                status, wait = await client.post_json(f"{self._url}/v1/{signal}", body)
            except Unreachable as problem:
                _logger.warning("%d pieces wait: %s", len(pieces) + len(self.queue), problem)
                return 0.0
            if status in _BUSY:
                return wait
            if status in _UNREADABLE and len(batch) > 1:
                # What one browser has sent must not take along what the others have.
                size = len(batch) // 2
                continue
            del pieces[: len(batch)]
            size *= 2
            for _ in batch:
                if status < 300:
                    self._sent(signal)
                else:
                    self._refused(signal)
        return None


def error_log(labels: Labels, error: JsError, place: str, traceparent: str = "") -> bytes:
    """Return one error as ``resourceLogs`` of OTLP's JSON, stamped with who served the page.

    Source of the names: OpenTelemetry semantic conventions, exceptions in logs.
    """
    kind, _, message = error.message.partition(": ")
    attributes = {
        "exception.type": kind,
        "exception.message": message,
        semconv.ATTR_ERROR_FINGERPRINT: error.fingerprint,
        "url.template": labels.route,
        "code.location": place or error.location,
        semconv.ATTR_VERSION: labels.version,
        semconv.ATTR_TRACK: labels.track,
        semconv.ATTR_SYNTHETIC_TYPE: semconv.SYNTHETIC_TYPE_TEST if labels.synthetic else "",
    }
    now = str(time.time_ns())
    record: dict[str, Any] = {
        "timeUnixNano": now,
        "observedTimeUnixNano": now,
        "severityNumber": 17,
        "severityText": "ERROR",
        "eventName": "exception",
        "attributes": [*_pairs(attributes), {"key": "count", "value": {"intValue": str(error.count)}}],
    }
    trace = _TRACEPARENT.fullmatch(traceparent)
    if trace is not None:
        record |= {"traceId": trace[1], "spanId": trace[2]}
    resource = _pairs({"service.name": labels.app, "service.version": labels.version})
    scope = {"scope": {"name": "rolloutobs.rum"}, "logRecords": [record]}
    return msgspec.json.encode({"resource": {"attributes": resource}, "scopeLogs": [scope]})


def _pairs(values: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items() if value]
