"""A process that ends at once: what it has counted goes out all the same, and its stderr stays empty."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

JOB = """
from rolloutobs import operation
with operation("job", "nightly"):
    pass
"""


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[str]]]:
    """An endpoint for OTLP, and the paths that were posted to."""
    posted: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            posted.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", posted
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_job_that_ends_before_its_first_export(receiver, monkeypatch):
    url, posted = receiver
    for name, value in {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_SERVICE_NAME": "report",
        "ROLLOUTOBS_VERSION": "1",
    }.items():
        monkeypatch.setenv(name, value)
    ran = subprocess.run([sys.executable, "-c", JOB], capture_output=True, text=True, timeout=60, check=True)
    assert sorted(posted) == ["/v1/metrics", "/v1/traces"]
    assert ran.stderr == ""
