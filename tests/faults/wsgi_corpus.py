"""The same for WSGI: a Flask app and bare ones, the requests, and what a server would have sent."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

from flask import Flask, Response, abort, redirect, request, send_file, stream_with_context
from opentelemetry.context import get_current

from rolloutobs.testing import wsgi_environ

from .asgi_corpus import BIG, CALLED, KINDS, TRACED, BoomError, Came, Quit, notice, seen


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


RAISED: dict[str, Callable[[], BaseException]] = {
    "boom": lambda: BoomError("on purpose"),
    "http": lambda: BoomError("as http"),
    "unavailable": lambda: BoomError("unavailable"),
    "group": lambda: ExceptionGroup("several", [BoomError("a"), ValueError("b")]),
    "base-group": lambda: BaseExceptionGroup("several", [Quit("a"), ValueError("b")]),
    "quit": lambda: Quit("now"),
    "exit": lambda: SystemExit(3),
    "interrupt": lambda: KeyboardInterrupt(),
    "cancelled": lambda: Quit("cancelled"),
    "generator-exit": lambda: GeneratorExit(),
    "stop": lambda: StopIteration("odd"),
    "unprintable": lambda: _UnprintableError(),
    "slots": lambda: BoomError("x"),
}


class _Closing:
    """A body that tells when it is closed."""

    def __init__(self, parts: Sequence[bytes], error: BaseException | None = None) -> None:
        self._parts = iter(parts)
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._parts)

    def close(self) -> None:
        notice("closed")
        if self._error is not None:
            raise self._error


def raw(environ: Any, start_response: Any) -> Any:
    """Do what Flask does not."""
    path = environ.get("PATH_INFO", "").rpartition("/")[2]
    if path == "nothing":
        return []
    if path == "none":
        start_response("200 OK", [])
        return None
    if path == "late-start":
        return _late(start_response)
    if path == "odd-status":
        start_response("what", [("x", "1")])
        return [b"odd"]
    if path == "bytes-status":
        start_response(b"200 OK", [("x", "1")])
        return [b"odd"]
    if path == "no-status":
        start_response(None, [("x", "1")])
        return [b"odd"]
    if path == "tuple":
        start_response("200 OK", (("content-type", "text/html"), ("x", "1")))
        return [b"tuple"]
    if path == "latin":
        start_response("200 OK", [("content-type", "text/html"), ("x", "\xe9\u20ac")])
        return [b"latin"]
    if path == "twice":
        start_response("200 OK", [])
        try:
            raise BoomError("half-way")
        except BoomError as error:
            start_response("500 Oh", [], (type(error), error, None))
        return [b"second"]
    if path == "write":
        write = start_response("200 OK", [("content-type", "text/html")])
        write(b"written, ")
        return [b"then returned"]
    if path == "text":
        start_response("200 OK", [])
        return "a text is an iterable too"
    if path == "closing":
        start_response("200 OK", [])
        return _Closing([b"a", b"b"])
    if path == "closing-breaks":
        start_response("200 OK", [])
        return _Closing([b"a"], BoomError("while it closed"))
    if path == "file":
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](io.BytesIO(BIG), 8192)
    if path == "empty-parts":
        start_response("200 OK", [])
        return iter([b"", b"a", b""])
    if path == "chdir":
        environ["PATH_INFO"] = "/elsewhere"
        environ.pop("REQUEST_METHOD", None)
        start_response("204 No Content", [])
        return ()
    raise LookupError(path)


def _late(start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("content-type", "text/html")])
    yield b"late"


RAW = [
    "nothing", "none", "late-start", "odd-status", "bytes-status", "no-status", "tuple", "latin", "twice",
    "write", "text", "closing", "closing-breaks", "file", "empty-parts", "chdir", "unknown",
]  # fmt: skip


def make_app(folder: Path) -> Flask:
    """Return a new Flask app; it writes a file into `folder`."""
    app = Flask("corpus", root_path=str(folder))
    page = folder / "page.txt"
    page.write_text("a file\n" * 1000)

    @app.get("/plain")
    def plain() -> Any:
        return Response("plain", headers={"x-one": "1"})

    @app.get("/items/<int:item_id>")
    def item(item_id: int) -> Any:
        return {"id": item_id, "query": dict(request.args)}

    @app.get("/html")
    def html() -> Any:
        return "<p>a page"

    @app.get("/public")
    def public() -> Any:
        return Response("<p>all", headers={"cache-control": "public, max-age=9", "server-timing": "a"})

    @app.get("/redirect")
    def redirected() -> Any:
        return redirect("/plain")

    @app.get("/slash/")
    def slash() -> Any:
        return {}

    @app.get("/empty")
    def empty() -> Any:
        return "", 204

    @app.get("/file")
    def file() -> Any:
        return send_file(page, etag=False, last_modified=0)

    @app.post("/echo")
    def echo() -> Any:
        notice(f"{request.remote_addr} {request.headers.get('x-twice')}")
        return Response(request.get_data(), mimetype="application/octet-stream")

    @app.post("/parsed")
    def parsed() -> Any:
        return request.get_json()

    @app.get("/whoami")
    def whoami() -> Any:
        return {"headers": sorted(request.headers.items()), "url": request.url, "root": request.script_root}

    @app.get("/errors/<kind>")
    def error(kind: str) -> Any:
        raise RAISED[kind]()

    @app.get("/errors-late/<kind>")
    def late(kind: str) -> Any:
        def parts() -> Iterator[str]:
            yield "first"
            raise RAISED[kind]()

        return Response(parts())

    @app.get("/abort/<int:status>")
    def aborted(status: int) -> Any:
        abort(status)

    @app.get("/stream")
    def stream() -> Any:
        def parts() -> Iterator[str]:
            for i in range(5):
                yield f"{request.path} {i}"

        answer = Response(stream_with_context(parts()))
        answer.call_on_close(lambda: notice("stream closed"))
        return answer

    @app.get("/after")
    def after() -> Any:
        @app.after_this_request  # type: ignore[attr-defined]
        def change(answer: Any) -> Any:
            answer.headers["x-after"] = "1"
            return answer

        return "after"

    return app


# Flask's `after_this_request` is a function of the module.
def _patch_after() -> None:
    from flask import after_this_request

    Flask.after_this_request = staticmethod(after_this_request)  # type: ignore[attr-defined]


_patch_after()


@dataclass(frozen=True)
class Ask:
    """One request."""

    path: str
    method: str = "GET"
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""
    takes: int | None = None
    """How many parts the server takes before the client is gone."""
    closes: bool = True
    changes: Mapping[str, Any] = field(default_factory=dict)
    without: Sequence[str] = ()


FLASK = [
    *(Ask(path) for path in (
        "/plain", "/items/7?a=1&token=secret", "/items/seven", "/html", "/public", "/redirect", "/slash",
        "/slash/", "/empty", "/file", "/stream", "/missing", "/", "//", "/after", "/abort/404", "/abort/503",
        "/whoami?x=%ff", "/static/none",
    )),
    *(Ask("/plain", method) for method in ("HEAD", "OPTIONS", "PUT", "BREW", "get", "")),
    Ask("/html", headers=[TRACED, CALLED]),
    Ask("/plain", headers=[TRACED, CALLED]),
    Ask("/whoami", headers=[(b"x-latin", b"\xe9"), (b"traceparent", b"\xff" * 55), (b"baggage", b"=,;")]),
    Ask("/echo", "POST", body=BIG),
    Ask("/parsed", "POST", headers=[(b"x-twice", b"a")], body=b"{nonsense"),
    Ask("/stream", takes=2),
    Ask("/stream", takes=0),
    Ask("/plain", takes=0, closes=False),
    *(Ask(f"/errors/{kind}") for kind in KINDS),
    *(Ask(f"/errors-late/{kind}") for kind in KINDS),
]  # fmt: skip
ODD = frozenset({"/raw/latin", "/errors/unprintable", "/errors-late/unprintable"})
BARE = [*(Ask(f"/raw/{path}") for path in RAW), Ask("/raw/closing", takes=1), Ask("/raw/file", takes=1)]


def environ_of(ask: Ask) -> dict[str, Any]:
    """Return the environ of a request."""
    environ = wsgi_environ(ask.path, ask.method, list(ask.headers))
    environ.update({"wsgi.input": io.BytesIO(ask.body), "CONTENT_LENGTH": str(len(ask.body))})
    environ["wsgi.file_wrapper"] = FileWrapper
    environ.update(ask.changes)
    for name in ask.without:
        del environ[name]
    return environ


def send_to(app: Any, ask: Ask) -> Came:
    """Return what came of one request."""
    sent: list[Any] = []

    def start_response(status: Any, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
        # The time may differ by a second.
        kept = [pair for pair in headers if pair[0] != "Date"]
        sent.append({"status": status, "headers": kept, "again": exc_info is not None})
        return lambda data: sent.append(("written", data))

    noticed: list[str] = []
    token = seen.set(noticed)
    before, raised, result = get_current(), "", None
    try:
        result = app(environ_of(ask), start_response)
        parts = iter(result)
        while ask.takes is None or len(sent) < 1 + ask.takes:
            try:
                sent.append(next(parts))
            except StopIteration:
                break
    except BaseException as error:
        raised = f"{type(error).__qualname__}{error.args!r}"
    try:
        if ask.closes and hasattr(result, "close"):
            result.close()
    except BaseException as error:
        raised += f" and {type(error).__qualname__}{error.args!r}"
    result = parts = None
    seen.reset(token)
    assert get_current() is before, "the context of the request has outlived it"
    return Came(sent, raised, noticed)


def without_timing(came: Came, bare: Came) -> Came:
    """Return `came` without the one header that we add on purpose, where `bare` does not have it."""
    for one, other in zip(came.messages, bare.messages, strict=False):
        if isinstance(one, dict) and len(one["headers"]) == len(other["headers"]) + 1:
            assert one["headers"].pop()[0] == "Server-Timing"
    return came


def assert_same(came: Sequence[Came], bare: Sequence[Came], corpus: Sequence[Ask]) -> None:
    """Assert that nothing but ``Server-Timing`` tells the two apart."""
    pairs = zip(corpus, came, bare, strict=True)
    different = [(ask, one, other) for ask, one, other in pairs if without_timing(one, other) != other]
    shown = [f"{ask}:\n  {one}\n  {other}"[:900] for ask, one, other in different[:3]]
    assert not different, "\n".join([f"{len(different)} differ", *shown])
