"""One corpus of requests to an app and to its instrumented twin: the same answers, message by message.

What may differ is stated here: one ``Server-Timing`` header of ours on HTML and on answers to checks.
"""

from __future__ import annotations

import io
import itertools
import logging
from typing import Any
from wsgiref.util import FileWrapper

import anyio
import pytest

from rolloutobs import Settings, instrument
from rolloutobs.testing import SpanRecorder, http_scope, parse_metrics, sample_value, wsgi_environ
from tests.transparency import apps

CANARY = Settings(service="shop", version="1.2.0", track="canary", labels_file=None)
METHODS = ("GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "BREW")
PATHS = (
    "/items/7",
    "/items/seven",
    "/items/7/",
    "/echo",
    "/stream/3",
    "/stream/0",
    "/stream-broken",
    "/boom",
    "/status/204",
    "/status/404",
    "/status/503",
    "/cookies",
    "/file",
    "/background",
    "/json",
    "/go",
    "/slash",
    "/slash/",
    "/mounted/users/ann",
    "/mounted/none",
    "/none/of/these",
    "/caf\u00e9?q=%C3%A9&token=secret",
    "/hint",
    "/trailers",
    "/nothing",
)
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HEADERS = (
    (),
    ((b"traceparent", TRACE), (b"baggage", b"synthetic=test,rolloutobs.version=1.1.0")),
    ((b"traceparent", b"\xff"), (b"baggage", b"=;,%"), (b"range", b"bytes=1-3"), (b"accept", b"\xe9")),
)
BODIES = ((b"",), (b'{"a": ', b"1}"), (b"x" * 70_000,))
ROOMS = ("a", "full", "closed", "boom", "b/none")
TEXTS = (("hi", "bye"), ("hi",), ())


def corpus() -> list[tuple[str, str, tuple[Any, ...], tuple[bytes, ...]]]:
    """Return (method, path, headers, parts of the body) of every request over HTTP."""
    plain = [(m, p, h, BODIES[0]) for m, p, h in itertools.product(METHODS, PATHS, HEADERS[:2])]
    odd = [("GET", path, HEADERS[2], BODIES[0]) for path in PATHS]
    bodies = [
        (m, p, HEADERS[0], b) for m, p, b in itertools.product(("POST", "PUT"), ("/echo", "/json"), BODIES)
    ]
    return [*plain, *odd, *bodies]


class Exchanged:
    """What became of one request: what the app has sent and raised."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.raised = ""

    def without_ours(self) -> list[Any]:
        """Return the messages without the ``Server-Timing`` that we add: at most one, after all others."""
        messages = []
        for message in self.sent:
            headers = list(message.get("headers") or ())
            if (
                headers
                and headers[-1][0] == b"server-timing"
                and headers[-1][1].startswith(b'version;desc="1.2.0"')
            ):
                del headers[-1]
            messages.append({**message, "headers": headers} if "headers" in message else message)
        return messages

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Exchanged)
        return (self.without_ours(), self.raised) == (other.without_ours(), other.raised)

    def __repr__(self) -> str:
        return f"{self.without_ours()} raised {self.raised!r}"


async def drive(app: Any, scope: dict[str, Any], incoming: list[dict[str, Any]]) -> Exchanged:
    """Call `app` as a server does: after `incoming` nothing comes until the answer is complete."""
    found, done = Exchanged(), anyio.Event()

    async def receive() -> Any:
        if incoming:
            return incoming.pop(0)
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        found.sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            done.set()

    try:
        with anyio.fail_after(60):
            await app(scope, receive, send)
    except Exception as error:
        found.raised = repr(error)
    return found


async def ask(app: Any, request: tuple[Any, ...]) -> Exchanged:
    """Send one request of the corpus."""
    method, path, headers, parts = request
    incoming = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    incoming[-1]["more_body"] = False
    sent = [
        *headers,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % sum(map(len, parts))),
    ]
    return await drive(app, http_scope(path, method, sent, extensions={"http.response.push": {}}), incoming)


async def talk(app: Any, room: str, texts: tuple[str, ...], headers: tuple[Any, ...]) -> Exchanged:
    """Open one websocket, say `texts`, and go."""
    scope = {**http_scope(f"/ws/{room}", headers=headers), "type": "websocket", "scheme": "ws"}
    scope |= {"subprotocols": [], "extensions": {"websocket.http.response": {}}}
    del scope["method"]
    incoming = [{"type": "websocket.connect"}]
    incoming += [{"type": "websocket.receive", "text": text} for text in texts]
    return await drive(app, scope, [*incoming, {"type": "websocket.disconnect", "code": 1000}])


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    # A thousand tracebacks of exceptions that are meant to be raised.
    caplog.set_level(logging.CRITICAL)


async def compare(name: str) -> None:
    """Ask both twins for everything and compare."""
    recorder = SpanRecorder()
    bare = apps.ASGI[name]()
    told = instrument(apps.ASGI[name](), settings=CANARY, tracer_provider=recorder.provider)
    requests = corpus()
    for request in requests:
        assert await ask(told, request) == await ask(bare, request), request
    calls = itertools.product(ROOMS, TEXTS, HEADERS[:2])
    rooms = [] if name in ("django", "bare") else list(calls)
    for room in rooms:
        assert await talk(told, *room) == await talk(bare, *room), room
    samples = parse_metrics((await ask(told, ("GET", "/metrics", (), (b"",)))).sent[1]["body"].decode())
    assert sample_value(samples, "http_requests_total") == len(requests)
    assert (sample_value(samples, "ws_connections_total") or 0) == len(rooms)
    assert sample_value(samples, "http_requests_in_flight") == 0
    assert sample_value(samples, "rolloutobs_internal_errors_total") == 0
    assert len(recorder.server_spans) == len(recorder.spans) == len(requests) + len(rooms)


@pytest.mark.parametrize("name", apps.ASGI)
async def test_asgi_on_asyncio(name: str) -> None:
    await compare(name)


@pytest.mark.parametrize("name", apps.TRIO)
def test_asgi_on_trio(name: str) -> None:
    anyio.run(compare, name, backend="trio")


def call(app: Any, request: tuple[Any, ...]) -> Exchanged:
    """Send one request of the corpus to a WSGI app, with the file wrapper of the standard library."""
    method, path, headers, parts = request
    found, body = Exchanged(), b"".join(parts)

    def start_response(status: str, answered: Any, exc_info: Any = None) -> Any:
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answered]
        found.sent.append({"type": status, "headers": raw, "exc_info": exc_info})
        return found.sent.append

    given = {
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/json",
    }
    environ = wsgi_environ(path, method, headers, **given, **{"wsgi.file_wrapper": FileWrapper})
    try:
        result = app(environ, start_response)
        found.sent.append({"length": len(result) if hasattr(result, "__len__") else None})
        try:
            for part in result:
                found.sent.append({"part": part})
        finally:
            result.close()
    except Exception as error:
        found.raised = repr(error)
    return found


@pytest.mark.parametrize("name", apps.WSGI)
def test_wsgi(name: str) -> None:
    recorder = SpanRecorder()
    bare = apps.WSGI[name]()
    told = instrument(apps.WSGI[name](), settings=CANARY, tracer_provider=recorder.provider)
    requests = corpus()
    for request in requests:
        assert call(told, request) == call(bare, request), request
    samples = parse_metrics(call(told, ("GET", "/metrics", (), (b"",))).sent[2]["part"].decode())
    assert sample_value(samples, "http_requests_total") == len(requests)
    assert sample_value(samples, "http_requests_in_flight") == 0
    assert sample_value(samples, "rolloutobs_internal_errors_total") == 0
    assert len(recorder.server_spans) == len(recorder.spans) == len(requests)


def test_a_difference_would_be_seen() -> None:
    class Changes:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def changed(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message = {**message, "headers": [*message["headers"], (b"x-other", b"1")]}
                await send(message)

            await self.app(scope, receive, changed)

    async def main() -> None:
        request = ("GET", "/items/7", (), (b"",))
        app = apps.starlette()
        assert await ask(app, request) == await ask(apps.starlette(), request)
        assert await ask(Changes(app), request) != await ask(app, request)
        assert (await ask(app, ("GET", "/boom", (), (b"",)))).raised

    anyio.run(main)
