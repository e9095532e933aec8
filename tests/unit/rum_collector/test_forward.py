"""What is sent on, against a real HTTP server: one piece that cannot be read takes no other with it."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from rum_collector.admission import Labels
from rum_collector.forward import LOGS, TRACES, Forwarder, Queue, error_log
from rum_collector.model import JsError

PATIENCE_SECONDS = 30
LABELS = Labels("shop", "1.2.0", "canary", "/cart", "desktop", "")


@asynccontextmanager
async def receiving(status_of: Callable[[bytes], int]) -> AsyncIterator[tuple[str, list[bytes]]]:
    """An OTLP receiver: its address, and the bodies that it has taken. Status 0: it never answers."""
    taken: list[bytes] = []
    open_ones: list[asyncio.Task[None]] = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_ones.append(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"content-length: (\d+)", head, re.I)
                body = await reader.readexactly(int(length[1]) if length else 0)
                status = status_of(body)
                if status == 200:
                    taken.append(body)
                if status:
                    writer.write(b"HTTP/1.1 %d -\r\ncontent-length: 0\r\n\r\n" % status)
        except (asyncio.IncompleteReadError, ConnectionError):
            # The client is through.
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", taken
    finally:
        server.close()
        await asyncio.gather(*open_ones)


class Sending:
    """A forwarder, and what it has told."""

    def __init__(self, url: str) -> None:
        self.told = Counter[str]()
        self.forwarder = Forwarder(
            url,
            Queue(1 << 20, lambda signal, reason: self.told.update([reason])),
            lambda signal: self.told.update(["sent"]),
            lambda signal: self.told.update(["refused"]),
        )

    async def all(self) -> None:
        """Send everything on, and end."""
        self.forwarder.end()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.forwarder.run()


@pytest.mark.parametrize("bad", [{0}, {7}, {3, 4}, {0, 1, 2, 6}, set(range(8))])
async def test_what_cannot_be_read_takes_no_other_with_it(bad: set[int]) -> None:
    async with receiving(lambda body: 400 if b"bad" in body else 200) as (url, taken):
        sending = Sending(url)
        for number in range(8):
            piece = {"bad" if number in bad else "good": number}
            sending.forwarder.put(TRACES, json.dumps(piece).encode())
        await sending.all()
    arrived = [piece["good"] for body in taken for piece in json.loads(body)["resourceSpans"]]
    assert arrived == [number for number in range(8) if number not in bad]
    assert sending.told == +Counter(sent=8 - len(bad), refused=len(bad))


async def test_a_batch_that_is_not_wanted_is_asked_for_once() -> None:
    asked = []

    def status_of(body: bytes) -> int:
        asked.append(body)
        return 401

    async with receiving(status_of) as (url, _):
        sending = Sending(url)
        for _ in range(8):
            sending.forwarder.put(LOGS, b"{}")
        await sending.all()
    assert len(asked) == 1
    assert sending.told == {"refused": 8}


async def test_what_was_on_its_way_at_the_end_is_counted() -> None:
    asked = asyncio.Event()

    def status_of(body: bytes) -> int:
        asked.set()
        return 0

    async with receiving(status_of) as (url, _):
        sending = Sending(url)
        sending.forwarder.put(LOGS, b"{}")
        sending.forwarder.put(TRACES, b"{}")
        task = asyncio.create_task(sending.all())
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asked.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert sending.told == {"shutdown": 2}


@pytest.mark.parametrize(
    ("traceparent", "ids"),
    [
        (f"00-{'a1' * 16}-{'b2' * 8}-01", ("a1" * 16, "b2" * 8)),
        (f"00-{'z1' * 16}-{'b2' * 8}-01", ("", "")),
        (f"00-{'a1' * 16}-" + "\u0663" * 16 + "-01", ("", "")),
        ("", ("", "")),
    ],
)
def test_an_error_carries_the_trace_of_its_document_or_none(traceparent: str, ids: tuple[str, str]) -> None:
    error = JsError("TypeError-1", "TypeError: x is null", "app.js:1:2", 1)
    (scope,) = json.loads(error_log(LABELS, error, "", traceparent))["scopeLogs"]
    (record,) = scope["logRecords"]
    assert (record.get("traceId", ""), record.get("spanId", "")) == ids
