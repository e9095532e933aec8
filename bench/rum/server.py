"""A page for each agent, and a collector on another origin that counts what it is asked."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

PAGE = """<!doctype html><html><head><title>Shop</title><script>window.COLLECTOR = '{collector}'</script>
<script src="/{agent}" data-app="shop" data-version="1.2.0" data-endpoint="{collector}/b"></script></head>
<body><h1>Bean and Kettle</h1><button>Buy</button><script>
  const fail = (message) => {{ throw new Error(message) }};
  document.querySelector('button').onclick = () => {{ document.querySelector('h1').textContent = 'Bought'; }};
</script></body></html>"""


@dataclass
class Traffic:
    """What one agent sent during one page view."""

    posts: int = 0
    preflights: int = 0
    body_bytes: int = 0


@dataclass
class Collector:
    """Takes everything, from everybody, and says so."""

    traffic: Traffic = field(default_factory=Traffic)
    url: str = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["method"] == "OPTIONS":
            self.traffic.preflights += 1
        elif scope["method"] == "POST":
            self.traffic.posts += 1
            self.traffic.body_bytes += len(body)
        asked = dict(scope["headers"])
        headers = [
            (b"access-control-allow-origin", asked.get(b"origin", b"*")),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-allow-methods", b"POST"),
            (b"access-control-allow-headers", asked.get(b"access-control-request-headers", b"")),
            (b"content-type", b"application/json"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})


@dataclass
class Pages:
    """``/page/<agent>`` loads that agent first; the agents are files of `scripts`."""

    scripts: dict[str, Path]
    collector: Collector
    url: str = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name = scope["path"].rpartition("/")[2]
        kind, body = b"application/json", b"{}"
        if scope["path"].startswith("/page/"):
            kind, body = b"text/html", PAGE.format(collector=self.collector.url, agent=name).encode()
        elif name in self.scripts:
            kind, body = b"text/javascript", self.scripts[name].read_bytes()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving(app: Collector | Pages) -> AsyncIterator[None]:
    """Serve `app` on a free port of the loopback interface, and tell it its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            app, log_level="warning", ws="none", lifespan="off", timeout_graceful_shutdown=2
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield
        server.should_exit = True
        await task
