"""Servers of the standard library beside a test."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer
from typing import NamedTuple, TypeVar

__all__ = ["Answering", "OtlpReceiver", "Received", "serving"]

Server = TypeVar("Server", bound=BaseServer)
LIMIT_SECONDS = 60


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Serve on a thread until the block ends."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Local(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def url(self) -> str:
        """Without a path."""
        return f"http://127.0.0.1:{self.server_port}"


class Answering(_Local):
    """Answers every GET with what `reply` makes of its path: status, content type and body."""

    def __init__(self, reply: Callable[[str], tuple[int, str, bytes]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, content_type, body = reply(self.path)
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        super().__init__(Handler)


class Received(NamedTuple):
    """What a `OtlpReceiver` was sent."""

    path: str
    body: bytes
    """Unpacked."""


class OtlpReceiver(_Local):
    """Takes what is posted, as an OTLP endpoint does, and keeps it."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        came = self._came = threading.Condition()
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()
                with came:
                    received.append(Received(self.path, body))
                    came.notify_all()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        super().__init__(Handler)

    def until(self, count: int) -> list[Received]:
        """Wait until so much has come, and return all of it."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.received) >= count, LIMIT_SECONDS)
            return list(self.received)
