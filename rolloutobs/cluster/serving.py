"""A small HTTP server in the watcher's own event loop, so that what it shows is never half changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import parse_qsl, urlsplit

__all__ = ["Answer", "Server"]

_MOST_BYTES: Final = 16 * 1024
"""Of a request's head."""
_SECONDS: Final = 10.0
"""For a request to come, and for an answer to be taken."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: str = "200 OK"


Handler = Callable[[str, Mapping[str, str]], Answer]
"""From path and query to the answer; must be quick."""


class Server:
    """Answers GET and HEAD, one request per connection.

    Args:
        where: host and port; port 0 takes a free one.
        handler: gives the answers; what it raises is answered with 500.
    """

    def __init__(self, where: tuple[str, int], handler: Handler) -> None:
        self._where, self._handler = where, handler
        self.port = where[1]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, *self._where, limit=_MOST_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answered(head.decode("latin-1")))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Somebody who does not speak HTTP, or has left: there is nobody to tell.
            pass
        finally:
            writer.close()

    def _answered(self, head: str) -> bytes:
        method, _, rest = head.partition(" ")
        if method not in ("GET", "HEAD"):
            answer = Answer(b"only GET\n", status="405 Method Not Allowed")
        else:
            answer = self._handled(rest.partition(" ")[0])
        headers = (
            f"HTTP/1.1 {answer.status}\r\nContent-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
        )
        return headers.encode("latin-1") + (b"" if method == "HEAD" else answer.body)

    def _handled(self, target: str) -> Answer:
        try:
            parts = urlsplit(target)
            return self._handler(parts.path, dict(parse_qsl(parts.query)))
        except ValueError as error:
            return Answer(f"{error}\n".encode(), status="400 Bad Request")
