"""Pages of one origin and a real collector on another, for tests of the browser script in a real Chromium."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from playwright.async_api import BrowserContext, Page

from rum_collector.app import create_app
from rum_collector.settings import Settings

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Else the browser says that it is driven, and its views are a bot's.
    "--disable-blink-features=AutomationControlled",
]
DEADLINE_SECONDS = 30
Predicate = Callable[[dict[str, Any]], bool]
Answer = tuple[int, dict[str, str], bytes]


class Recorder:
    """An ASGI app around the collector that remembers what it was asked."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.collector = create_app(settings or Settings(apps=("shop",), count_bots=True))
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = ""
        self._news = asyncio.Condition()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        chunks: list[bytes] = []

        async def listening() -> Any:
            message = await receive()
            chunks.append(message.get("body", b""))
            return message

        await self.collector(scope, listening, send)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.requests.append((scope["method"], scope["path"], headers, b"".join(chunks)))
        async with self._news:
            self._news.notify_all()

    def posts(self) -> list[tuple[str, str, dict[str, str], bytes]]:
        return [request for request in self.requests if request[0] != "GET"]

    def beacons(self) -> list[dict[str, Any]]:
        return [
            json.loads(body) for method, path, _, body in self.requests if (method, path) == ("POST", "/b")
        ]

    async def beacon(self, wanted: Predicate) -> dict[str, Any]:
        """Return the first beacon that is `wanted`, waiting for it."""
        async with asyncio.timeout(DEADLINE_SECONDS), self._news:
            while True:
                if found := [beacon for beacon in self.beacons() if wanted(beacon)]:
                    return found[0]
                await self._news.wait()

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the collector's samples of `name` with these labels."""
        total = 0.0
        for metric in self.collector.ingest.instruments.collect():
            for sample in metric.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    total += sample.value
        return total


class Site:
    """Serves one page for every path but those in `answers`; each test says what it looks like."""

    def __init__(self, recorder: Recorder) -> None:
        self.collector = recorder
        self.url = ""
        self.script = f"{recorder.url}/rolloutobs.js"
        self.attributes = 'data-app="shop"'
        self.body = "<h1>Hello</h1>"
        self.headers: dict[str, str] = {"server-timing": 'version;desc="1.2.0", track;desc="canary"'}
        self.answers: dict[str, Answer] = {"/favicon.ico": (204, {}, b"")}
        """Status, headers and body by path."""
        self.seen: dict[str, dict[str, str]] = {}
        """The headers of the latest request, by path."""
        self.held = asyncio.Event()
        """What ``/never`` waits for."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path == "/api/metrics":
            # As an ingress would: the tutorial's page posts to its own origin.
            await self.collector(scope, receive, send)
            return
        if path == "/never":
            await self.held.wait()
        self.seen[path] = {name.decode(): value.decode() for name, value in scope["headers"]}
        status, given, body = self.answers.get(path) or self._page()
        raw = [(name.encode(), value.encode()) for name, value in given.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    def _page(self) -> Answer:
        page = (
            f"<!doctype html><title>t</title>"
            f'<script src="{self.script}" {self.attributes}></script>{self.body}'
        )
        return 200, {"content-type": "text/html", **self.headers}, page.encode()


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, log_level="warning", ws="none", lifespan="off", timeout_graceful_shutdown=5
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not server.started:
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await task


async def hide(page: Page) -> None:
    """Make the page believe that its tab went to the background, and came back."""
    await page.evaluate(
        """() => {
          for (const state of ['hidden', 'visible']) {
            Object.defineProperty(document, 'visibilityState', {configurable: true, value: state});
            document.dispatchEvent(new Event('visibilitychange', {bubbles: true}));
          }
          delete document.visibilityState;
        }"""
    )


async def observed(page: Page, options: str) -> None:
    """Wait until the browser has reported a performance entry; the script's own observer has it by then.

    Of events only those above 104 ms are kept for who asks later (Event Timing, section 3.3).
    """
    async with asyncio.timeout(DEADLINE_SECONDS):
        await page.evaluate(
            f"new Promise((done) => new PerformanceObserver(done).observe({options})).then(() => 1)"
        )


async def fence(context: BrowserContext, site: Site, recorder: Recorder) -> list[dict[str, Any]]:
    """Return every beacon so far: a page of its own is opened and closed, and what it sends comes last."""
    page = await context.new_page()
    await page.goto(f"{site.url}/fence")
    await page.close()
    await recorder.beacon(lambda beacon: beacon["rt"] == "/fence")
    return [beacon for beacon in recorder.beacons() if beacon["rt"] != "/fence"]
