"""``/metrics`` on a port of its own: for workers without a server, and for apps whose port is public."""

from __future__ import annotations

import errno
import logging
import os
import socket
import socketserver
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from weakref import WeakSet

from rolloutobs.errors import ConfigurationError
from rolloutobs.settings import DEFAULT_METRICS_PATH
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry.answer import Question, answer
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.hub import Hub

__all__ = ["MetricsServer", "serve_from_settings", "serve_metrics"]

_logger = logging.getLogger("rolloutobs")
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - Prometheus scrapes from another machine
REQUEST_SECONDS = 10.0
"""A client that is slower than this is hung up on, so that none can hold a thread for long. Prometheus waits
10 seconds for a scrape by default, too."""
CLOSE_SECONDS = 0.1
"""How often the server's thread looks whether it is to end."""
RETRY_SECONDS = 5.0
"""How often a port that is taken is tried again. The worker that holds it may end, and another takes over."""
_servers: WeakSet[_Server] = WeakSet()


class _Server(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = True
    # Else a worker that is restarted waits for the connections of its predecessor.
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], hub: Hub) -> None:
        self.hub = hub
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)
        _servers.add(self)

    def server_bind(self) -> None:
        # HTTPServer asks the DNS for its own name here, which can take seconds and is not used.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A scraper that hangs up; anything else has been counted where it happened.
        _logger.debug("a scrape from %s broke off", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "rolloutobs"
    sys_version = ""
    timeout = REQUEST_SECONDS

    def do_GET(self) -> None:
        """Answer a scrape."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer without the body."""
        self._answer()

    def _answer(self) -> None:
        hub = self.server.hub
        if self.path.partition("?")[0] != (hub.settings.metrics_path or DEFAULT_METRICS_PATH):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.headers.items()]
            found = answer(hub, Question.from_headers(self.command, pairs))
        except Exception as error:
            hub.failures.record(Where.SERVE, error)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        self.send_response(found.status)
        for name, value in found.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(found.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Leave the app's stderr alone: a scrape is no event."""


class MetricsServer:
    """A running server of `serve_metrics`; closed with the process, or by `close`, or as a context
    manager."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.port: int = server.server_port
        """The port, also where 0 was asked for."""
        thread = threading.Thread(
            target=server.serve_forever, name="rolloutobs-metrics", args=(CLOSE_SECONDS,), daemon=True
        )
        thread.start()

    def close(self) -> None:
        """Stop serving, and give the port back."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve_metrics(port: int, addr: str = EVERY_ADDRESS, *, hub: Hub | None = None) -> MetricsServer:
    """Serve ``/metrics`` of this process on a port of its own, from a thread, and return the server.

    For a worker or a consumer: ``rolloutobs.serve_metrics(port=9464)`` at its start. The answer is the one
    that an app gives at its own path: stamped, with everything that the process counts, of all workers where
    they share their counts. ``ROLLOUTOBS_METRICS_TOKEN`` is asked for here, too.

    Args:
        port: 0 takes any free one, see `MetricsServer.port`.
        addr: address to listen at; ``127.0.0.1`` for this machine only, ``::`` for IPv6.
        hub: whose metrics; ``None``: those of the process.

    Raises:
        ConfigurationError: the port is taken, or cannot be had.
    """
    try:
        return MetricsServer(_Server((addr, port), hub or hubs.process()))
    except OSError as error:
        raise ConfigurationError(
            f"metrics cannot be served at {addr}:{port} ({error.strerror or error}); use another port, or 0 "
            "for any free one"
        ) from error


_started: WeakSet[Hub] = WeakSet()


def serve_from_settings(hub: Hub, wait: Callable[[threading.Event], object] | None = None) -> None:
    """Serve the metrics of `hub` on the port of its settings, if they name one; once per hub.

    Returns at once, and never raises. Of several workers with one port the first one gets it; the others try
    again until it ends. A port that is taken is warned about once.

    Args:
        hub: whose metrics.
        wait: waits before the next try; ``None``: `RETRY_SECONDS`. For tests.
    """
    port = hub.settings.metrics_port
    if port is None or hub in _started:
        return
    _started.add(hub)
    pause = wait or (lambda never: never.wait(RETRY_SECONDS))
    threading.Thread(
        target=_serve_when_free, args=(port, hub, pause), name="rolloutobs-metrics-port", daemon=True
    ).start()


def _serve_when_free(port: int, hub: Hub, pause: Callable[[threading.Event], object]) -> None:
    never = threading.Event()
    warned = False
    while True:
        try:
            server = MetricsServer(_Server((EVERY_ADDRESS, port), hub))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                hub.failures.record(Where.SERVE, error)
                return
            if not warned:
                warned = True
                _logger.warning(
                    "the metrics port %d is taken, perhaps by another worker of this app: this one tries "
                    "again until it is free. One port shows what workers share (ROLLOUTOBS_METRICS_DIR)",
                    port,
                )
            pause(never)
        except Exception as error:
            hub.failures.record(Where.SERVE, error)
            return
        else:
            _logger.info("metrics are served on port %d", server.port)
            return


def _forked() -> None:
    """Let go of the parent's ports: they would stay taken, and unanswered, when it ends."""
    for server in list(_servers):
        server.socket.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
