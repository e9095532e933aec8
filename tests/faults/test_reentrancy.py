"""A finalizer, a signal handler or a log handler runs in the middle of anything, and may log: no lock of ours
makes a thread wait for itself.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from rolloutobs import Settings, instrument
from rolloutobs.telemetry import cells, hub, records, traces, worker_file
from rolloutobs.testing import SpanRecorder, call, call_wsgi

from .asgi_corpus import raw
from .watching import failures, total

SHOP = Settings(service="shop", version="1")


def finish(work):
    """Run `work` in a thread; one that waits for itself is left behind, and noticed."""
    raised = []

    def run():
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "waits for itself"
    assert raised == []


def interrupted(monkeypatch, owner, name, what, times=1):
    """Let `what` run inside of each of the first calls of ``owner.name``."""
    original, left = getattr(owner, name), [times]

    def call_it(*args, **kwargs):
        if left[0]:
            left[0] -= 1
            what()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, call_it)
    return left


def log_something_new():
    log_something_new.number += 1
    logger = logging.getLogger(f"finalizer-{log_something_new.number}")
    logger.error("unclosed thing %s", "x")
    logger.warning("of a new level")


log_something_new.number = 0


@pytest.mark.parametrize("shared", [False, True])
def test_a_finalizer_that_logs_while_a_cell_is_made(monkeypatch, tmp_path, shared):
    app = instrument(
        raw, settings=Settings(service="shop", version="1", metrics_dir=str(tmp_path) if shared else None)
    )
    owner, name = (worker_file.WorkerFile, "_append") if shared else (cells.MEMORY, "number")
    left = interrupted(monkeypatch, owner, name, log_something_new, times=3)

    def requests():
        import asyncio

        for path in ("/tuple", "/nothing"):
            asyncio.run(call(app, path))

    finish(requests)
    assert left == [0]
    assert total("http_requests_total") == 2
    assert total("log_records_total", level="error") == 3


def test_a_finalizer_that_logs_while_the_context_of_a_span_is_made(monkeypatch):
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    ids = []

    async def inner(scope, receive, send):
        logging.getLogger("app").error("in the request")
        ids.append(traces.trace.get_current_span().get_span_context())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    app = instrument(inner, settings=SHOP, tracer_provider=provider)
    seen = []

    def note():
        logging.getLogger("finalizer").error("unclosed")
        seen.append(traces.trace.get_current_span().get_span_context())

    interrupted(monkeypatch, traces, "SpanContext", note)

    def request():
        import asyncio

        asyncio.run(call(app))

    finish(request)
    # It is the same for whoever asks.
    assert seen == ids


def test_a_finalizer_that_logs_while_an_attribute_is_set(monkeypatch):
    """The lock of a span is the SDK's, and not reentrant."""
    recorder = SpanRecorder()

    async def inner(scope, receive, send):
        span = traces.trace.get_current_span()
        with span._lock:
            logging.getLogger("finalizer").error("unclosed")
        logging.getLogger("app").error("by hand")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    app = instrument(inner, settings=SHOP, tracer_provider=recorder.provider)

    def request():
        import asyncio

        asyncio.run(call(app))

    finish(request)
    (span,) = recorder.server_spans
    assert span.attributes["rolloutobs.error.fingerprint"]
    assert total("log_records_total", level="error") == 2


def test_a_log_handler_that_logs_while_the_disk_is_full(monkeypatch, tmp_path):
    settings = Settings(service="shop", version="1", metrics_dir=str(tmp_path))
    app = instrument(raw, settings=settings)

    class Telling(logging.Handler):
        def emit(self, record):
            log_something_new()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    logger = logging.getLogger("rolloutobs")
    monkeypatch.setattr(logger, "handlers", [Telling()])
    monkeypatch.setattr(worker_file.WorkerFile, "_append", full)

    def request():
        import asyncio

        for _ in range(2):
            asyncio.run(call(app, "/tuple"))

    finish(request)
    assert failures()["store"] > 0


def test_a_signal_handler_that_renders_in_the_middle_of_a_scrape(monkeypatch, tmp_path):
    """A job that is told to end pushes once more, in the middle of its push."""
    app = instrument(raw, settings=Settings(service="shop", version="1", metrics_dir=str(tmp_path)))
    of_app = app._rolloutobs.hub
    rendered = []
    before = signal.signal(signal.SIGUSR1, lambda *_: rendered.append(of_app.render().body))
    try:
        left = interrupted(
            monkeypatch, records.Layout, "extend", lambda: os.kill(os.getpid(), signal.SIGUSR1)
        )
        signal.alarm(20)
        assert b"http_requests_in_flight" in of_app.render().body
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGUSR1, before)
    assert left == [0]
    assert b"http_requests_in_flight" in rendered[0]


def test_a_wsgi_request_in_the_middle_of_a_request(monkeypatch):
    from . import wsgi_corpus

    app = instrument(wsgi_corpus.raw, settings=SHOP)
    interrupted(monkeypatch, cells.MEMORY, "number", lambda: call_wsgi(app, "/raw/tuple"), times=2)
    finish(lambda: call_wsgi(app, "/raw/closing"))
    assert total("http_requests_total") == 3
    assert total("http_requests_in_flight") == 0


def test_failures_are_told_of_without_end_of_recursion(monkeypatch):
    """Telling of a failure fails, again and again."""
    instrument(raw, settings=SHOP)
    record = hub.process_failures().record

    class Failing(logging.Handler):
        def emit(self, _):
            record("request", ValueError("once more"))
            raise ValueError("and this")

    monkeypatch.setattr(logging.getLogger("rolloutobs"), "handlers", [Failing()])
    from rolloutobs.telemetry.failures import Where

    def fail():
        for _ in range(3):
            hub.process_failures().record(Where.REQUEST, ValueError("first"))

    record = lambda *_: hub.process_failures().record(Where.REQUEST, ValueError("once more"))  # noqa: E731
    finish(fail)
    assert failures() == {"request": 4}
