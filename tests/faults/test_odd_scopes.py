"""Scopes and environs as no good server makes them: the app gets what it would have got."""

from __future__ import annotations

import asyncio
import enum
import re
import time

import numpy
import pytest

from rolloutobs import Settings, instrument
from rolloutobs.http.app import SCOPE_KEY
from rolloutobs.testing import call, http_scope

from . import wsgi_corpus
from .asgi_corpus import TRACED, Ask, all_at_once, assert_same, make_app, raw, send_to
from .watching import failures, total


class Method(enum.StrEnum):
    GET = "GET"


class Status(enum.IntEnum):
    TEAPOT = 418


CHANGES = {
    "root_path None": {"root_path": None},
    "root_path": {"root_path": "/outer", "path": "/outer/plain"},
    "path None": {"path": None},
    "path bytes": {"path": b"/plain"},
    "path surrogate": {"path": "/items/\udcff"},
    "path empty": {"path": ""},
    "path absolute": {"path": "http://other/plain"},
    "path long": {"path": "/" + "a" * 100_000},
    "path list": {"path": ["/plain"]},
    "method bytes": {"method": b"GET"},
    "method None": {"method": None},
    "method lower": {"method": "get"},
    "method enum": {"method": Method.GET},
    "method list": {"method": ["GET"]},
    "query text": {"query_string": "a=1"},
    "query None": {"query_string": None},
    "query bytes": {"query_string": b"\xff=%ff&%"},
    "client None": {"client": None},
    "client empty": {"client": ()},
    "client unix": {"client": ("/run/socket", None)},
    "client text": {"client": "10.0.0.1"},
    "client numbers": {"client": (1, 2, 3)},
    "server None": {"server": None},
    "server one": {"server": ("/run/socket",)},
    "scheme None": {"scheme": None},
    "scheme odd": {"scheme": "javascript"},
    "http_version None": {"http_version": None},
    "state None": {"state": None},
    "headers None": {"headers": None},
    "headers tuple": {"headers": ((b"host", b"a"), TRACED)},
    "headers lists": {"headers": [[b"host", b"a"], list(TRACED)]},
    "headers upper": {"headers": [(b"Host", b"a"), (b"TraceParent", TRACED[1])]},
    "headers text": {"headers": [("host", "a"), ("traceparent", "00-1-1-01")]},
    "headers bytearrays": {"headers": [(bytearray(b"host"), bytearray(b"a"))]},
    "headers views": {"headers": [(b"host", memoryview(b"a")), (b"traceparent", memoryview(TRACED[1]))]},
    "headers triples": {"headers": [(b"a", b"b", b"c")]},
    "headers garbage": {"headers": [b"ab", 7, None]},
    "headers many": {"headers": [(b"x-%d" % i, b"v") for i in range(5000)]},
    "host odd": {"headers": [(b"host", b"\xff" * 5000), (b"host", b":::1"), (b"user-agent", b"\x00" * 9000)]},
    "extensions None": {"extensions": None},
    "no type": {"type": None},
    "type odd": {"type": "carrier-pigeon"},
}
WITHOUT = ["type", "method", "path", "raw_path", "headers", "query_string", "client", "server", "scheme",
           "root_path", "http_version", "asgi", "state"]  # fmt: skip
SETTINGS = {
    "plain": Settings(service="shop", version="1"),
    "urls": Settings(
        service="shop", version="1", excluded_urls=("/never/",), captured_request_headers=(".*",),
        captured_response_headers=(".*",), metrics_token=("x",),
    ),
    "excluded": Settings(service="shop", version="1", excluded_paths=frozenset({"/plain", "/ws/a"})),
}  # fmt: skip


def asks():
    kinds = [("/plain", "http", None), ("/whoami", "http", None)]
    kinds.append(("/ws/a", "websocket", [{"type": "websocket.connect"}, {"type": "websocket.disconnect"}]))
    for path, kind, incoming in kinds:
        for changes in CHANGES.values():
            yield Ask(path, kind=kind, incoming=incoming, changes=changes)
        for name in WITHOUT:
            if kind == "http" or name != "method":
                yield Ask(path, kind=kind, incoming=incoming, without=[name])


ASKS = list(asks())


@pytest.fixture(params=SETTINGS)
def settings(request):
    return SETTINGS[request.param]


OURS = {SCOPE_KEY, "fastapi.telemetry", "starlette.opentelemetry"}


async def mirror(scope, receive, send):
    """Answer anything, with what the scope holds."""
    if scope.get("type") == "websocket":
        await send({"type": "websocket.close"})
        return
    shown = {key: scope[key] for key in scope if key not in OURS}
    body = re.sub(r"<memory at 0x\w+>", "<memory>", repr(shown)).encode("utf-8", "replace")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("make", [make_app, lambda folder: mirror], ids=["fastapi", "mirror"])
async def test_odd_scopes(tmp_path, settings, make):
    bare, app = make(tmp_path), instrument(make(tmp_path), settings=settings)
    expected = [await send_to(bare, ask) for ask in ASKS]
    assert sum(not came.raised for came in expected) > len(ASKS) / 3
    came = [await send_to(app, ask) for ask in ASKS]
    assert_same(came, expected, ASKS)
    assert_same(await all_at_once(app, ASKS), expected, ASKS)
    assert set(failures()) <= {"request"}
    assert total("http_requests_in_flight") == total("ws_connections_active") == 0


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
async def test_headers_that_can_be_read_once_only_reach_the_app(tmp_path, settings):
    app = instrument(make_app(tmp_path), settings=settings)
    pairs = [(b"host", b"shop"), TRACED, (b"x-own", b"1")]
    for _ in range(2):
        came = await send_to(app, Ask("/whoami", changes={"headers": iter(pairs)}))
        assert b'["x-own","1"]' in came.messages[1]["body"]
    assert failures() == {}


async def test_an_app_without_a_framework(settings):
    """Messages of every kind, straight to the server."""
    app = instrument(raw, settings=settings)
    paths = ["typeless", "strange", "views", "triples", "twice", "after-end", "body-first", "from-task",
             "late-receive", "nothing", "start-only", "status-text", "no-status"]  # fmt: skip
    asks = [Ask(f"/{path}") for path in paths]
    expected = [await send_to(raw, ask) for ask in asks]
    assert_same([await send_to(app, ask) for ask in asks], expected, asks)
    assert total("http_requests_in_flight") == 0
    assert total("http_requests_total") == len(asks)
    # What has no status that could be sent counts as an error, not as a status of its own.
    assert total("http_requests_total", status="0") == 0


@pytest.mark.parametrize("status", [Status.TEAPOT, numpy.int64(418), 418.0, "418"], ids=repr)
async def test_any_number_is_a_status(status):
    async def inner(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body"})

    app = instrument(inner)
    for _ in range(2):
        answer = await call(app)
        assert answer.status is status
    assert total("http_requests_total", status="418") == 2
    assert failures() == {}


async def test_a_send_from_another_task_and_another_thread_counts_once():
    async def inner(scope, receive, send):
        loop = asyncio.get_running_loop()
        await asyncio.create_task(send({"type": "http.response.start", "status": 200, "headers": []}))

        def finish():
            message = {"type": "http.response.body", "body": b"from a thread"}
            asyncio.run_coroutine_threadsafe(send(message), loop).result()

        await loop.run_in_executor(None, finish)

    app = instrument(inner)
    answers = await asyncio.gather(*(call(app) for _ in range(20)))
    assert {answer.body for answer in answers} == {b"from a thread"}
    assert total("http_requests_total", status="200") == 20
    assert total("http_requests_in_flight") == 0


async def test_a_scope_that_cannot_be_changed_is_served():
    class Frozen(dict):
        def __setitem__(self, key, value):
            raise TypeError("frozen")

    async def inner(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"served"})

    app, sent = instrument(inner), []

    async def send(message):
        sent.append(message)

    for _ in range(2):
        await app(Frozen(http_scope()), None, send)
    assert sent[1]["body"] == b"served"
    assert failures() == {"request": 4}


ENVIRON = {
    "method None": {"REQUEST_METHOD": None},
    "method bytes": {"REQUEST_METHOD": b"GET"},
    "path None": {"PATH_INFO": None},
    "path text": {"PATH_INFO": "/caf\u20ac"},
    "path bytes": {"PATH_INFO": b"/plain"},
    "script None": {"SCRIPT_NAME": None},
    "query None": {"QUERY_STRING": None},
    "header None": {"HTTP_TRACEPARENT": None},
    "header number": {"HTTP_BAGGAGE": 7},
    "header text": {"HTTP_BAGGAGE": "a=\u20ac", "HTTP_HOST": "\u20ac:x"},
    "key bytes": {b"HTTP_X": "1"},
    "port odd": {"SERVER_PORT": "eight", "REMOTE_PORT": ""},
    "protocol odd": {"SERVER_PROTOCOL": "odd"},
    "scheme None": {"wsgi.url_scheme": None},
    "wrapper odd": {"wsgi.file_wrapper": "no class"},
}
LACKS = ["REQUEST_METHOD", "PATH_INFO", "SCRIPT_NAME", "QUERY_STRING", "SERVER_NAME", "SERVER_PORT",
         "SERVER_PROTOCOL", "HTTP_HOST", "wsgi.url_scheme", "wsgi.input", "wsgi.file_wrapper"]  # fmt: skip


def test_odd_environs(tmp_path, settings):
    asks = [wsgi_corpus.Ask("/plain", changes=changes) for changes in ENVIRON.values()]
    asks += [wsgi_corpus.Ask("/plain", without=[name]) for name in LACKS]
    for make in (wsgi_corpus.make_app, lambda folder: wsgi_corpus.raw):
        app, bare = instrument(make(tmp_path), settings=settings), make(tmp_path)
        expected = [wsgi_corpus.send_to(bare, ask) for ask in asks]
        for _ in range(2):
            came = [wsgi_corpus.send_to(app, ask) for ask in asks]
            wsgi_corpus.assert_same(came, expected, asks)
    assert set(failures()) <= {"request"}
    assert total("http_requests_in_flight") == 0


async def test_time_is_taken_with_a_clock_that_only_goes_forward(monkeypatch):
    """The clock of the wall may be set back in the middle of a request; no duration is negative."""
    app = instrument(raw)
    now = [2e9]
    monkeypatch.setattr(time, "time", lambda: now.append(now[-1] - 3600) or now[-1])
    for _ in range(3):
        await call(app, "/tuple")
    assert total("http_request_duration_seconds") == 3
    family = next(
        f for f in app._rolloutobs.hub.store.families("app0") if f.name == "http_request_duration_seconds"
    )
    assert all(cell.sum >= 0 for _, cell in family.items())
