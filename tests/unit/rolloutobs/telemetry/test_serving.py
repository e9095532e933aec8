"""Metrics on a port of their own, asked by a real client."""

from __future__ import annotations

import gzip
import logging
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message

import pytest

from rolloutobs import Settings, operation, serve_metrics
from rolloutobs.errors import ConfigurationError
from rolloutobs.telemetry import hub
from rolloutobs.telemetry.serving import serve_from_settings
from rolloutobs.telemetry.starting import start
from rolloutobs.testing import parse_metrics, sample_value

LOCAL = "127.0.0.1"
SECONDS = 30


def ask(port: int, path: str = "/metrics", method: str = "GET", **headers: str) -> tuple[int, Message, bytes]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://{LOCAL}:{port}{path}", method=method, headers=sent)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def eventually(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(0.005)


def test_a_worker_is_scraped() -> None:
    hub.new_hub(Settings(service="worker", version="1.2.0", track="canary"))
    with serve_metrics(0, LOCAL) as server:
        with operation("task", "x"):
            pass
        status, headers, body = ask(server.port)
        assert status == 200
        assert headers["content-type"].startswith("text/plain")
        labels = {"app": "worker", "version": "1.2.0", "track": "canary", "name": "x", "outcome": "ok"}
        assert sample_value(parse_metrics(body.decode()), "app_operations_total", **labels) == 1.0
        with operation("task", "x"):
            pass
        _, headers, body = ask(
            server.port, "/metrics?x=1", Accept="application/openmetrics-text", Accept_Encoding="gzip"
        )
        assert headers["content-encoding"] == "gzip"
        assert gzip.decompress(body).endswith(b"# EOF\n")
        assert ask(server.port, "/admin")[0] == 404
        assert ask(server.port, method="POST")[0] == 501
        status, headers, body = ask(server.port, method="HEAD")
        assert (status, body) == (200, b"")
        assert int(headers["content-length"]) > 0
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind((LOCAL, server.port))


def test_scrapes_that_overlap() -> None:
    hub.new_hub(Settings(service="worker"))
    with serve_metrics(0, LOCAL) as server, socket.create_connection((LOCAL, server.port)) as slow:
        slow.sendall(b"GET /metr")
        assert ask(server.port)[0] == 200
        slow.sendall(b"ics HTTP/1.0\r\n\r\n")
        assert slow.makefile("rb").readline().split()[1] == b"200"


def test_a_token_is_asked_for() -> None:
    hub.new_hub(Settings(service="worker", metrics_token=("old", "new")))
    with serve_metrics(0, LOCAL) as server:
        assert ask(server.port)[0] == 401
        assert ask(server.port, Authorization="Bearer wrong")[0] == 401
        assert ask(server.port, Authorization="Bearer new")[0] == 200


def test_the_path_of_the_settings() -> None:
    hub.new_hub(Settings(service="worker", metrics_path="/internal/metrics"))
    with serve_metrics(0, LOCAL) as server:
        assert ask(server.port, "/internal/metrics")[0] == 200
        assert ask(server.port)[0] == 404


def test_metrics_that_cannot_be_rendered_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = hub.new_hub(Settings(service="worker"))
    with serve_metrics(0, LOCAL) as server:
        with monkeypatch.context() as broken:
            broken.setattr(made, "render", None)
            assert ask(server.port)[0] == 500
        samples = parse_metrics(ask(server.port)[2].decode())
    assert sample_value(samples, "rolloutobs_internal_errors_total", where="serve") == 1.0


def test_a_port_that_is_taken_is_said() -> None:
    hub.new_hub(Settings(service="worker"))
    with (
        serve_metrics(0, LOCAL) as server,
        pytest.raises(ConfigurationError, match=f"cannot be served at 127.0.0.1:{server.port}"),
    ):
        serve_metrics(server.port, LOCAL)


def test_the_next_worker_takes_over(caplog: pytest.LogCaptureFixture) -> None:
    first = hub.new_hub(Settings(service="worker", version="1.1.0"))
    with serve_metrics(0, hub=first) as server:
        port = server.port
        second = hub.new_hub(Settings(service="worker", version="1.2.0", metrics_port=port))
        tried, again = threading.Event(), threading.Event()

        def wait(_: threading.Event) -> None:
            tried.set()
            assert again.wait(SECONDS)

        with caplog.at_level(logging.INFO, "rolloutobs"):
            serve_from_settings(second, wait)
            serve_from_settings(second, wait)
            assert tried.wait(SECONDS)
            assert b'version="1.1.0"' in ask(port)[2]
            server.close()
            again.set()
            eventually(lambda: "metrics are served on port" in caplog.text)
    assert b'version="1.2.0"' in ask(port)[2]
    assert caplog.text.count("is taken") == 1


def test_the_first_operation_serves_where_the_settings_say_so(caplog: pytest.LogCaptureFixture) -> None:
    start(Settings(service="worker", version="1.2.0", metrics_port=0))
    with caplog.at_level(logging.INFO, "rolloutobs"):
        for _ in range(2):
            with operation("task", "x"):
                pass
        eventually(lambda: "metrics are served on port" in caplog.text)
    (record,) = [r for r in caplog.records if "are served" in r.msg]
    assert isinstance(record.args, tuple)
    (port,) = record.args
    assert isinstance(port, int)
    assert b'app_operations_total{app="worker"' in ask(port)[2]


def test_without_a_port_nothing_is_served() -> None:
    before = threading.active_count()
    serve_from_settings(hub.new_hub(Settings(service="worker")))
    assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_worker_does_not_keep_the_port() -> None:
    hub.new_hub(Settings(service="worker"))
    with serve_metrics(0, LOCAL) as server:
        told_read, told_write = os.pipe()
        stay_read, stay_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(stay_write)
            os.write(told_write, b"x")
            os.read(stay_read, 1)
            os._exit(0)
        os.read(told_read, 1)
        assert ask(server.port)[0] == 200
        server.close()
        # The child lives on; the port is free all the same.
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind((LOCAL, server.port))
            free.listen()
        os.close(stay_write)
        os.waitpid(pid, 0)
        for fd in (told_read, told_write, stay_read):
            os.close(fd)
