"""Connections as the command makes them: whatever way a body takes, it is answered and counted the same."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from rum_collector.app import CollectorApp
from rum_collector.connection import Connection
from rum_collector.settings import Settings
from rum_collector.words import BeaconOutcome

PATIENCE_SECONDS = 30
FARO = json.dumps({"meta": {"app": {"name": "shop"}}, "events": []}).encode()


class Watched(CollectorApp):
    """A collector that knows how many requests have come to it as an ASGI app."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(Settings(**settings), None)
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await super().__call__(scope, receive, send)

    def outcomes(self) -> dict[str, float]:
        counter = self.ingest.instruments.counter("beacons")
        found = {outcome.value: counter.cell(outcome.value).value for outcome in BeaconOutcome}
        return {outcome: count for outcome, count in found.items() if count}


def config_of(app: CollectorApp) -> uvicorn.Config:
    config = uvicorn.Config(app, log_config=None, access_log=False, proxy_headers=False)
    config.load()
    return config


@asynccontextmanager
async def serving(app: CollectorApp) -> AsyncIterator[int]:
    config, state = config_of(app), ServerState()
    state.default_headers = [(b"date", b"now")]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        await app.upkeep.stop()


async def answers(port: int, *pieces: bytes, count: int = 1) -> bytes:
    """Send pieces, each once the one before it was read, and return as many answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                # Another request is answered after what was sent before it has been read.
                await _health(port)
            found = b""
            for _ in range(count):
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                found += head + (await reader.readexactly(int(length[1])) if length else b"")
            return found
    finally:
        writer.close()


async def _health(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"ok\n")
    writer.close()


def request(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = ["host: x", f"content-length: {len(body) if length is None else length}", *headers]
    return f"POST {path} HTTP/1.1\r\n".encode() + "\r\n".join([*lines, "", ""]).encode() + body


def beacon(view: str, **more: Any) -> bytes:
    return json.dumps({"pv": view, "app": "shop", "ver": "1.2.0", "m": [["lcp", 900]], **more}).encode()


ORIGIN = "origin: https://shop.example.com"


@pytest.mark.parametrize(
    ("make", "outcome"),
    [
        (lambda view: request("/b", beacon(view)), "accepted"),
        (lambda view: request("/b", beacon(view), ORIGIN), "accepted"),
        (lambda view: request("/b", beacon("same")), "accepted"),
        (lambda view: request("/b", b"{}", ORIGIN), "invalid"),
        (lambda view: request("/b", b" "), "empty"),
        (lambda view: request("/b", b"x", "content-encoding: br"), "encoded"),
        (lambda view: request("/b", gzip.compress(beacon(view)), "content-encoding: gzip"), "accepted"),
        (lambda view: request("/b", beacon(view), "user-agent: Googlebot/2.1"), "bot"),
        (lambda view: request("/collect", FARO, ORIGIN), "ignored"),
        (lambda view: request("/v1/logs", b'{"resourceLogs": []}', ORIGIN), "ignored"),
        (lambda view: request("/api/metrics", b'{"metric": "speed", "value": 1}'), "unknown_metric"),
    ],
)
async def test_a_body_in_one_piece_is_answered_and_counted_as_one_in_two(
    make: Callable[[str], bytes], outcome: str
) -> None:
    app = Watched(origins=())
    async with serving(app) as port:
        whole = make("a")
        at_once = await answers(port, whole)
        before = app.asked
        assert before == 1, "the request for its health, and no other"
        cut = make("b")
        in_pieces = await answers(port, cut[:-1], cut[-1:])
        assert app.asked == before + 3
        assert at_once == in_pieces
        found = app.outcomes()
        assert sum(found.values()) == 2
        assert found.pop("duplicate", 0) == (1 if whole == cut and outcome == "accepted" else 0)
        assert set(found) == {outcome}


async def test_one_that_sends_too_much_is_told_when_to_come_again() -> None:
    app = Watched(client_rate=0.1, client_burst=1)
    async with serving(app) as port:
        await answers(port, request("/b", beacon("a")))
        first = await answers(port, request("/b", beacon("b"), ORIGIN))
        assert re.match(rb"HTTP/1.1 429 .*retry-after: ([1-9]|10)\r\n", first, re.DOTALL)
        assert b"access-control-allow-origin: https://shop.example.com\r\n" in first
        assert app.outcomes() == {"accepted": 1, "limited": 1}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request("/b?x=1", beacon("a")), 204),
        (request("/b", beacon("a"), "expect: 100-continue"), 204),
        (b"POST /b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
        (b"POST /b HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}", 400),
        (b"POST /b HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}", 400),
        (request("/b", b"", length=70_000), 413),
        (request("/b", b"x" * 70_000), 413),
        (request("/nothing", b"{}"), 404),
        (b"OPTIONS /b HTTP/1.1\r\nhost: x\r\n\r\n", 204),
    ],
)
async def test_what_is_unusual_goes_through_the_app(sent: bytes, status: int) -> None:
    app = Watched()
    async with serving(app) as port:
        answer = await answers(port, sent)
        while answer.startswith(b"HTTP/1.1 100"):
            answer = answer[25:]
        assert app.asked == 2
        assert answer == b"" or answer.startswith(b"HTTP/1.1 %d " % status)
        assert sum(app.outcomes().values()) == (status not in (404,) and not sent.startswith(b"OPTIONS"))


async def test_several_in_one_piece_are_answered_in_their_order() -> None:
    app = Watched()
    sent = [beacon("a"), b"{}", beacon("b"), b"x", beacon("a")]
    async with serving(app) as port:
        found = await answers(port, b"".join([request("/b", body) for body in sent]), count=5)
        statuses = [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", found)]
        assert statuses == [204, 400, 204, 400, 204]
        assert app.outcomes() == {"accepted": 2, "duplicate": 1, "invalid": 1, "not_json": 1}
        assert app.asked == 5, "the health, and all bodies but the first: others must not wait for them"


async def test_one_that_leaves_in_the_middle_of_its_body_is_counted() -> None:
    app = Watched()
    async with serving(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("/b", b"{", length=100))
        await writer.drain()
        await _health(port)
        writer.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not app.outcomes():
                await asyncio.sleep(0)
        assert app.outcomes() == {"disconnected": 1}


class Loop:
    """The timers of a loop, run by hand."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Any:
        self.waiting.append(callback)
        return asyncio.TimerHandle(0, callback, (), asyncio.get_running_loop())

    def turn(self) -> None:
        due, self.waiting = self.waiting, []
        for callback in due:
            callback()


class Transport(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unsent = 0
        self.is_closed = self.is_aborted = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.is_aborted = True

    def pause_reading(self) -> None:
        pass


async def test_a_connection_is_closed_when_nothing_was_asked_between_two_looks() -> None:
    app, loop, transport = Watched(), Loop(), Transport()
    connection = Connection(config_of(app), ServerState(), {}, _loop=loop)  # type: ignore[arg-type]
    connection.connection_made(transport)
    for number in range(4):
        connection.data_received(request("/b", beacon(str(number))))
        loop.turn()
        assert not transport.is_closed
    connection.data_received(b"POST /b HT")
    loop.turn()
    assert transport.is_closed
    assert transport.written.count(b"HTTP/1.1 204 No Content\r\n") == 4
    await app.upkeep.stop()


async def test_a_client_that_takes_no_answers_is_cut_off_and_one_that_is_slow_is_not() -> None:
    app, loop, transport = Watched(), Loop(), Transport()
    connection = Connection(config_of(app), ServerState(), {}, _loop=loop)  # type: ignore[arg-type]
    connection.connection_made(transport)
    connection.data_received(request("/b", beacon("a")))
    loop.turn()
    connection.pause_writing()
    # The app waits until there is room for its answer.
    connection.data_received(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    for unsent in (9000, 8000, 7000, 7000):
        assert not transport.is_aborted
        transport.unsent = unsent
        loop.turn()
    assert transport.is_aborted
    await app.upkeep.stop()


CHUNKED = b"POST /b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"POST /b HTTP/1.1\r\nhost: x\r\n", b"a: b\r\n" * 1000),
        (b"POST /b HTTP/1.1\r\nx: ", b"a" * 6000),
        (b"POST /b?", b"a" * 6000),
        (CHUNKED + b"1;", b"a" * 6000),
        (CHUNKED + b"0\r\nx: ", b"a" * 6000),
    ],
)
async def test_a_head_without_an_end_is_cut_off(begin: bytes, more: bytes) -> None:
    app, transport = Watched(), Transport()
    connection = Connection(config_of(app), ServerState(), {}, _loop=Loop())  # type: ignore[arg-type]
    connection.connection_made(transport)
    connection._start_asgi_task = lambda cycle, app: None  # type: ignore[method-assign]
    connection.data_received(begin)
    for _ in range(10):
        assert not transport.is_closed
        connection.data_received(more)
    connection.data_received(more)
    assert transport.is_closed
    assert transport.written.startswith(b"HTTP/1.1 400 ")
    assert app.outcomes() == {"too_large": 1}
    await app.upkeep.stop()


async def test_a_client_that_does_not_wait_for_its_answers_does_not_fill_the_memory() -> None:
    app, transport = Watched(), Transport()
    connection = Connection(config_of(app), ServerState(), {}, _loop=Loop())  # type: ignore[arg-type]
    connection.connection_made(transport)
    connection._start_asgi_task = lambda cycle, app: None  # type: ignore[method-assign]
    connection.data_received(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" * 1000)
    assert transport.is_closed
    assert len(connection.pipeline) == 16
    assert app.outcomes() == {"limited": 1}
    await app.upkeep.stop()
