"""The ``/metrics`` of a check or a load, on a thread of its own, and the wait for its last reader.

Belongs here: the options, serving, and knowing what has been read. What is served is `synthetic.metrics` and
`synthetic.load.metrics`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from time import monotonic
from typing import cast

from prometheus_client import CollectorRegistry, MetricsHandler, ProcessCollector
from prometheus_client.registry import Collector

from rolloutobs.errors import ConfigurationError
from synthetic.settings import parse_listen, parse_patience

__all__ = ["Endpoint", "add_listen", "listen", "serve"]

log = logging.getLogger(__name__)

_REQUEST_SECONDS = 10.0
"""A reader that sends nothing for so long is sent away."""
_LOOK_SECONDS = 0.1


def add_listen(parser: argparse._ActionsContainer, when: str, default: str | None = None) -> None:
    """Add the options: where metrics are served, and for how long at the end."""
    told = f"serve /metrics there{when}" if default is None else "serve /metrics there (default: %(default)s)"
    parser.add_argument("--listen", metavar="HOST:PORT", default=default, help=told)
    parser.add_argument(
        "--last-scrape", metavar="DURATION", default="40s",
        help="longest wait at the end until /metrics has been read once more; 0: none (default: %(default)s)",
    )  # fmt: skip


class Endpoint:
    """Where metrics are served.

    Args:
        host: as it was asked for.
        server: answers.
    """

    def __init__(self, host: str, server: _Server) -> None:
        self._host = host
        self._server = server

    @property
    def url(self) -> str:
        """Where ``/metrics`` is."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.server_port}/metrics"

    async def wait_until_read(self, since: float, seconds: float, stop: asyncio.Event) -> None:
        """Wait until somebody has read what there is, at most `seconds` and not after `stop`.

        What is counted last, and how it all ended, would be seen by nobody if the process ended with it.

        Args:
            since: when the last was counted, in monotonic seconds.
            seconds: longest wait.
            stop: told from outside.
        """
        until = monotonic() + seconds
        if seconds <= 0 or stop.is_set() or self._server.read_at >= since:
            return
        print(f"waiting up to {seconds:g} s for a last scrape (Ctrl-C ends it)", file=sys.stderr, flush=True)
        while self._server.read_at < since:
            if stop.is_set() or monotonic() >= until:
                log.warning("ends without a last scrape: nobody read %s meanwhile", self.url)
                return
            await asyncio.sleep(_LOOK_SECONDS)


class _Server(ThreadingHTTPServer):
    """Remembers what was read."""

    daemon_threads = True
    read_at = float("-inf")
    """When the last answer that was read whole began to be made, in monotonic seconds."""


class _Handler(MetricsHandler):
    timeout = _REQUEST_SECONDS

    def do_GET(self) -> None:  # noqa: N802 - its name in http.server
        began = monotonic()
        super().do_GET()
        self.wfile.flush()
        cast(_Server, self.server).read_at = began


@contextmanager
def serve(metrics: Collector, host: str, port: int) -> Iterator[Endpoint]:
    """Serve ``/metrics`` while the block runs; port 0 takes a free one.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    registry = CollectorRegistry()
    registry.register(metrics)
    # Its process_start_time_seconds tells a reader of counters that this process is new.
    ProcessCollector(registry=registry)
    try:
        (family, *_), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        kind = type("_Server", (_Server,), {"address_family": family})
        server = kind((host, port), _Handler.factory(registry))
    except OSError as problem:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {problem.strerror or problem}"
        ) from problem
    thread = threading.Thread(target=server.serve_forever, name="rolloutobs-metrics", daemon=True)
    thread.start()
    try:
        yield Endpoint(host, server)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


@contextmanager
def listen(
    given: argparse.Namespace, metrics: Collector
) -> Iterator[Callable[[float, asyncio.Event], Awaitable[None]]]:
    """Serve while the block runs, where the options say so, and say where.

    Yields:
        What waits for a scrape since the first of its arguments (monotonic seconds), or until the second is
        set; not at all where nothing is served.

    Raises:
        ConfigurationError: an option has no valid value, or the address cannot be listened on.
    """
    seconds = parse_patience(given.last_scrape, "--last-scrape")
    if given.listen is None:
        yield _do_not_wait
        return
    with serve(metrics, *parse_listen(given.listen, "--listen")) as endpoint:
        print(f"metrics at {endpoint.url}", flush=True)
        yield lambda since, stop: endpoint.wait_until_read(since, seconds, stop)


async def _do_not_wait(_: float, __: asyncio.Event) -> None:
    return
