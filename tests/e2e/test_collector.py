"""The collector as the command runs it: workers that are killed, connections that stall, a last scrape."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60


class Running:
    """A collector in a process of its own."""

    def __init__(self, *options: str) -> None:
        self.options = options
        self.port = 0
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        if self.port:
            await self._until_the_port_is_free()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rum_collector", "--port", str(self.port),
            "--client-burst", "1000000", "--total-burst", "1000000", *self.options,
            cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (found := re.search(rb"http://127\.0\.0\.1:(\d+)", await self.line())):
                assert self.process.returncode is None
        self.port = int(found[1])
        self.reader = asyncio.create_task(self._read())

    async def _until_the_port_is_free(self) -> None:
        """Wait for killed workers to be gone: they die one after the other."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with contextlib.suppress(OSError), socket.socket() as free:
                    free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    free.bind(("127.0.0.1", self.port))
                    free.listen()
                    return
                await asyncio.sleep(0.02)

    async def line(self) -> bytes:
        assert self.process is not None
        assert self.process.stderr is not None
        return await self.process.stderr.readline()

    async def _read(self) -> None:
        while await self.line():
            pass

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def workers(self) -> list[int]:
        """Return the processes that answer; Python's resource tracker is a child too."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(child) for child in children if b"spawn_main" in _command(int(child))]

    async def end(self) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            await self.process.wait()
            await self.reader

    async def scrape(self) -> dict[str, float]:
        """Return the sum of each metric's samples, once somebody answers."""
        async with asyncio.timeout(PATIENCE_SECONDS), httpx2.AsyncClient(trust_env=False) as client:
            while True:
                with contextlib.suppress(httpx2.HTTPError):
                    text = (await client.get(f"{self.url}/metrics", timeout=30)).text
                    break
                await asyncio.sleep(0.05)
        totals: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
        return totals


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextlib.asynccontextmanager
async def running(*options: str) -> AsyncIterator[Running]:
    collector = Running(*options)
    try:
        await collector.start()
        yield collector
    finally:
        await collector.end()


RECEIVER = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """An OTLP receiver in a process of its own, and its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RECEIVER, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            port = int(await process.stdout.readline())
        yield process, port
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Load:
    """Posts first beacons, each once and with one error, and remembers which were acknowledged."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.acknowledged = 0
        self.unanswered = 0
        self._stop = False

    async def client(self, name: str) -> None:
        number = 0
        while not self._stop:
            async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
                while not self._stop:
                    number += 1
                    body = json.dumps(
                        {"pv": f"{name}-{number}", "app": "shop", "ver": "1.2.0", "e": [{"m": "x"}], "fe": 1}
                    )
                    try:
                        answer = await client.post(f"{self.url}/b", content=body)
                    except httpx2.ConnectError:
                        # Nobody was there, so nobody has counted it.
                        await asyncio.sleep(0.02)
                        break
                    except httpx2.HTTPError:
                        self.unanswered += 1
                        break
                    assert answer.status_code == 204
                    self.acknowledged += 1

    async def until(self, acknowledged: int) -> None:
        """Wait for so many more."""
        wanted = self.acknowledged + acknowledged
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.acknowledged < wanted:
                await asyncio.sleep(0.01)

    def stop(self) -> None:
        self._stop = True


async def test_no_acknowledged_beacon_is_lost_when_workers_receiver_and_collector_are_killed(
    tmp_path: Path,
) -> None:
    async with receiving() as (receiver, port), running(
        "--workers", "2", "--data-dir", str(tmp_path),
        "--forward-url", f"http://127.0.0.1:{port}", "--forward-max-bytes", "4000",
    ) as collector:  # fmt: skip
        load = Load(collector.url)
        async with asyncio.TaskGroup() as clients:
            for name in range(4):
                clients.create_task(load.client(str(name)))
            for _ in range(2):
                await load.until(150)
                os.kill(collector.workers()[0], signal.SIGKILL)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not (await collector.scrape()).get("rum_forwarded_total"):
                    await asyncio.sleep(0.05)
            receiver.kill()
            await load.until(150)
            os.killpg(collector.pid, signal.SIGKILL)
            await collector.end()
            await collector.start()
            await load.until(150)
            load.stop()
        found = await collector.scrape()
        # A beacon in flight at the moment of a kill may or may not have been counted.
        assert load.acknowledged <= found["rum_page_views_total"] <= load.acknowledged + load.unanswered
        assert load.acknowledged >= 600
        # Nobody was there to take the last three hundred, and four thousand bytes are six of them.
        sent, dropped = found["rum_forwarded_total"], found["rum_forward_dropped_total"]
        assert dropped >= 200
        assert sent + dropped <= found["rum_js_errors_total"]


async def test_a_client_that_sends_its_head_or_body_byte_by_byte_is_cut_off() -> None:
    async with running("--body-seconds", "1") as collector:
        head = b"POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{"

        async def answer(sent: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", collector.port)
            writer.write(sent)
            async with asyncio.timeout(PATIENCE_SECONDS):
                found = await reader.read()
            writer.close()
            return found

        answers = await asyncio.gather(*map(answer, (b"POST /b HT", head)))
        assert answers[0] == b""
        assert answers[1].startswith(b"HTTP/1.1 408 ")
        async with httpx2.AsyncClient(trust_env=False) as client:
            assert (await client.post(f"{collector.url}/b", content=b'{"pv":"a"}')).status_code == 204
        assert (await collector.scrape())["rum_page_views_total"] == 1


async def test_sigterm_waits_for_a_last_scrape_and_only_where_there_is_news() -> None:
    async with running("--last-scrape-seconds", str(PATIENCE_SECONDS)) as collector:
        assert collector.process is not None
        async with httpx2.AsyncClient(trust_env=False) as client:
            assert (await client.post(f"{collector.url}/b", content=b'{"pv":"a"}')).status_code == 204
        os.kill(collector.pid, signal.SIGTERM)
        # It still answers, and ends with this answer.
        assert (await collector.scrape())["rum_page_views_total"] == 1
        async with asyncio.timeout(PATIENCE_SECONDS / 2):
            assert await collector.process.wait() == 0
    async with running("--last-scrape-seconds", str(PATIENCE_SECONDS)) as collector:
        assert collector.process is not None
        os.kill(collector.pid, signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS / 2):
            assert await collector.process.wait() == 0


class Receiver:
    """An OTLP receiver; its port stays when it goes away and comes back."""

    def __init__(self) -> None:
        self.port = 0
        self.received: dict[str, list[dict[str, Any]]] = {}
        self.server: asyncio.Server | None = None

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: (\d+)", head, re.I)
            assert length is not None
            body = json.loads(await reader.readexactly(int(length[1])))
            self.received.setdefault(head.split()[1], []).append(body)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
            await writer.drain()
        writer.close()

    async def until(self, path: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while path not in self.received:
                await asyncio.sleep(0.02)
        return self.received[path][0]


async def test_errors_and_traces_are_sent_on_when_the_receiver_is_back() -> None:
    receiver = Receiver()
    await receiver.start()
    await receiver.stop()
    async with running("--forward-url", f"http://127.0.0.1:{receiver.port}") as collector:
        span = {"traceId": "a" * 32, "spanId": "b" * 16, "name": "GET"}
        traces = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
        error = {"t": "TypeError", "m": "x is null", "s": "app.js:1:2"}
        beacon = {"pv": "a", "app": "shop", "ver": "1.2.0", "trk": "canary", "e": [error], "fe": 1}
        beacon["tp"] = f"00-{'c' * 32}-{'d' * 16}-01"
        async with httpx2.AsyncClient(trust_env=False) as client:
            assert (await client.post(f"{collector.url}/b", json=beacon)).status_code == 204
            assert (await client.post(f"{collector.url}/v1/traces", json=traces)).status_code == 200
        await receiver.start()
        (group,) = (await receiver.until("/v1/logs"))["resourceLogs"]
        (record,) = group["scopeLogs"][0]["logRecords"]
        said = {pair["key"]: next(iter(pair["value"].values())) for pair in record["attributes"]}
        assert (said["exception.type"], said["exception.message"]) == ("TypeError", "x is null")
        assert (said["app.version"], said["rolloutobs.track"]) == ("1.2.0", "canary")
        assert said["code.location"] == "app.js:1:2"
        assert (record["traceId"], record["spanId"]) == ("c" * 32, "d" * 16)
        (group,) = (await receiver.until("/v1/traces"))["resourceSpans"]
        assert group["scopeSpans"][0]["spans"] == [span]
    await receiver.stop()
