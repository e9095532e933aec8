"""A tiny exporter on a real socket, for the sources and the gate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest


@dataclass
class Exporter:
    """Answers any GET with `text`; what it was asked stands in `requests`."""

    text: str = ""
    status: int = 200
    content_type: str = "text/plain; version=0.0.4"
    silent: bool = False
    address: str = ""
    requests: list[str] = field(default_factory=list)
    server: asyncio.Server | None = None
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head.decode())
                if self.silent:
                    await reader.read()
                    return
                body = self.text.encode()
                writer.write(
                    f"HTTP/1.1 {self.status} X\r\nContent-Type: {self.content_type}\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def start(self) -> None:
        host, _, port = self.address.partition(":")
        self.server = await asyncio.start_server(self.serve, host or "127.0.0.1", int(port or 0))
        self.address = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            for writer in list(self.writers):
                writer.close()
            await self.server.wait_closed()
            self.server = None


@pytest.fixture
async def exporter() -> AsyncIterator[Callable[..., Awaitable[Exporter]]]:
    """Start exporters: ``await exporter(text)``; all are stopped at the end."""
    started: list[Exporter] = []

    async def start(text: str = "", **options: object) -> Exporter:
        made = Exporter(text, **options)  # type: ignore[arg-type]
        started.append(made)
        await made.start()
        return made

    yield start
    for each in started:
        await each.stop()
