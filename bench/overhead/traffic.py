"""What the apps are asked: requests as uvicorn makes them, each a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import process_time, thread_time
from typing import Any

from bench.overhead.subject import App

__all__ = ["CASES", "Caller"]

_BROWSER = (
    (b"host", b"shop.example"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"*/*"),
)
_UNSAMPLED = (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
_CALLER = (b"baggage", b"rolloutobs.service=gateway,rolloutobs.version=1.1.0,rolloutobs.track=stable")


class Caller:
    """Calls an app as a server does.

    Args:
        header_count: ordinary headers per request, at least 3.
        extra: further headers.
        unsampled: whether `extra` says that the caller does not sample this trace.
    """

    def __init__(
        self, header_count: int, extra: Sequence[tuple[bytes, bytes]] = (), unsampled: bool = False
    ) -> None:
        filler = ((f"x-header-{i}".encode(), b"value of some length") for i in range(header_count - 3))
        self.headers = [*_BROWSER, *filler, *extra]
        self._received = {"type": "http.request", "body": b"", "more_body": False}
        self.unsampled = unsampled
        self.last_status = 0

    def scope(self, path: str) -> dict[str, Any]:
        """Return a new scope of a GET request."""
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": self.headers,
            "client": ("10.0.0.1", 40000),
            "server": ("10.0.0.2", 8000),
            "state": {},
        }

    async def receive(self) -> dict[str, Any]:
        return self._received

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.last_status = message["status"]

    async def slice(self, app: App, requests: int) -> tuple[float, float]:
        """Return CPU seconds per request: of the thread that serves, and of the whole process.

        Raises:
            RuntimeError: the app did not answer 200.
        """
        loop = asyncio.get_running_loop()
        paths = [f"/items/{number}" for number in range(requests)]
        everything, start = process_time(), thread_time()
        for path in paths:
            await loop.create_task(app(self.scope(path), self.receive, self.send))
        used = (thread_time() - start) / requests, (process_time() - everything) / requests
        if self.last_status != 200:
            raise RuntimeError(f"the app answered {self.last_status}")
        return used

    async def get(self, app: App, path: str) -> bytes:
        """Return the body of an answer."""
        parts: list[bytes] = []

        async def send(message: dict[str, Any]) -> None:
            parts.append(message.get("body", b""))

        await app(self.scope(path), self.receive, send)
        return b"".join(parts)


CASES: dict[str, Caller] = {
    "3 headers": Caller(3),
    "15 headers": Caller(15),
    "15 headers, called by an instrumented service (unsampled traceparent, baggage)": Caller(
        15, [_UNSAMPLED, _CALLER], unsampled=True
    ),
}
