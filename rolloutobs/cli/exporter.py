"""The gate's own ``/metrics`` and ``/healthz`` (``--listen``), on a thread of their own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric

from rolloutobs import semconv
from rolloutobs.analysis.gate import Look
from rolloutobs.analysis.model import Decision
from rolloutobs.console.families import families
from rolloutobs.errors import ConfigurationError

__all__ = ["Exporter"]

_MISSED: Final = 4.0
"""So many intervals without a look are a gate that hangs."""


class Exporter:
    """Serves what the last look said; call it with each look.

    Args:
        where: host and port; port 0 takes a free one.
        app: label of every series; empty: as the looks say.
        interval_seconds: between looks; a gate without looks for four of them is unhealthy.
        clock: monotonic seconds.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """

    def __init__(
        self,
        where: tuple[str, int],
        app: str,
        interval_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._clock = app, clock
        self._patience = _MISSED * interval_seconds + 10.0
        self._look: Look | None = None
        self._looks = self._failures = 0
        self._last = clock()
        registry = CollectorRegistry()
        registry.register(self)
        self._registry = registry
        try:
            self._server = make_server(*where, self._answer, server_class=_Server, handler_class=_Quiet)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {where[0]}:{where[1]}: {error.strerror or error}"
            ) from None
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="rolloutobs-gate", daemon=True
        )
        self._thread.start()

    def __call__(self, look: Look) -> None:
        """Show `look` from now on."""
        self._looks += 1
        self._failures += len(look.failed)
        self._look, self._last = look, self._clock()
        self._app = self._app or look.app

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of the last look, for prometheus_client."""
        look = self._look
        looks = CounterMetricFamily(semconv.GATE_LOOKS_TOTAL, "Readings taken.", labels=("app",))
        looks.add_metric((self._app,), self._looks)
        failures = CounterMetricFamily(
            semconv.GATE_FAILED_READS_TOTAL, "Targets that did not answer a reading.", labels=("app",)
        )
        failures.add_metric((self._app,), self._failures)
        yield from (looks, failures)
        if look is not None:
            now = look.verdict.decision if look.verdict else Decision.HOLD
            yield from families((semconv.LABEL_APP,), [((self._app,), now, look.verdict)])

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            start("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
            return [generate_latest(self._registry)]
        if path in ("/healthz", "/readyz"):
            age = self._clock() - self._last
            if age <= self._patience:
                start("200 OK", [("Content-Type", "text/plain")])
                return [b"ok\n"]
            start("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [f"the last look was {age:.0f} s ago\n".encode()]
        start("404 Not Found", [("Content-Type", "text/plain")])
        return [b"there are /metrics and /healthz\n"]


class _Server(ThreadingMixIn, WSGIServer):
    """A client that is slow holds up nobody."""

    daemon_threads = True

    def __init__(self, where: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
        super().__init__(where, handler)

    def server_bind(self) -> None:
        # HTTPServer asks the DNS for its own name here, which can take seconds and is not used.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Quiet(WSGIRequestHandler):
    """Answers without a log line, and does not wait for ever for half a request."""

    timeout = 10.0

    def log_message(self, *_: object) -> None:
        """Say nothing."""
