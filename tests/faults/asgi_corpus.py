"""One app with everything that an ASGI app may do, the requests that make it do so, and what came of each.

Two apps of `make_app`, one of them instrumented, are given the same requests; whatever differs is our doing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from opentelemetry.context import get_current
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount, Route

from rolloutobs.testing import http_scope

BIG = b"0123456789abcdef" * 8192
seen: ContextVar[list[str] | None] = ContextVar("seen", default=None)
"""What the app has noticed while it served one request."""


def notice(what: str) -> None:
    found = seen.get()
    if found is not None:
        found.append(what)


class BoomError(Exception):
    """What the app raises."""


class Quit(BaseException):
    """What is no error, and goes through everything."""


async def raw(scope: Any, receive: Any, send: Any) -> None:
    """Serve what no framework does: extensions, bodies in odd pieces, messages that servers refuse."""
    path = scope["path"].rpartition("/")[2]
    start = {"type": "http.response.start", "status": 200}
    if path == "tuple":
        await send({**start, "headers": ((b"x", b"1"), (b"x", b"2"))})
    elif path == "generator":
        await send({**start, "headers": (pair for pair in [(b"x", b"1"), (b"content-type", b"text/html")])})
    elif path == "bytearrays":
        await send({**start, "headers": [(b"content-type", bytearray(b"text/html")), [b"x", b"1"]]})
    elif path == "views":
        await send({**start, "headers": [(b"content-type", memoryview(b"text/html"))]})
    elif path == "triples":
        await send({**start, "headers": [(b"a", b"b", b"c"), b"nonsense"]})
    elif path == "bare":
        await send(dict(start))
    elif path == "status-text":
        await send({**start, "status": "200"})
    elif path == "status-none":
        await send({**start, "status": None})
    elif path == "no-status":
        await send({"type": "http.response.start", "headers": []})
    elif path == "twice":
        await send({**start, "headers": []})
        await send({**start, "status": 503, "headers": [], "trailers": True})
    elif path == "after-end":
        await send({**start, "headers": []})
        await send({"type": "http.response.body", "body": b"all"})
        await send({**start, "status": 500, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"more"})
        return
    elif path == "early":
        await send({"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]})
        await send({**start, "headers": []})
    elif path == "body-first":
        await send({"type": "http.response.body", "body": b"early"})
        return
    elif path == "typeless":
        await send({**start, "headers": []})
        await send({"body": b"what is this"})
    elif path == "strange":
        await send({**start, "headers": []})
        await send({"type": "http.response.unheard-of", "body": b"?"})
    elif path == "trailers":
        await send({**start, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"x"})
        await send({"type": "http.response.trailers", "headers": [(b"t", b"1")], "more_trailers": False})
        return
    elif path == "pathsend":
        await send({**start, "headers": []})
        await send({"type": "http.response.pathsend", "path": "/tmp/x"})
        return
    elif path == "from-task":
        async with asyncio.TaskGroup() as group:
            await group.create_task(send({**start, "headers": []}))
            await group.create_task(send({"type": "http.response.body", "body": b"from a task"}))
        return
    elif path == "late-receive":
        await send({**start, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})
        for _ in range(3):
            notice((await receive()).get("type", "none"))
        return
    elif path == "nothing":
        return
    elif path == "start-only":
        await send({**start, "headers": []})
        return
    elif path == "forever-open":
        await send({**start, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        return
    elif path == "odd-messages":
        await send({**start, "headers": []})
        for _ in range(4):
            notice(repr(await receive()))
    else:
        raise LookupError(path)
    await send({"type": "http.response.body", "body": b"end"})


def _errors(app: FastAPI) -> None:
    raised: dict[str, Callable[[], BaseException]] = {
        "boom": lambda: BoomError("on purpose"),
        "http": lambda: HTTPException(418, "short and stout", {"x-teapot": "1"}),
        "unavailable": lambda: HTTPException(503),
        "group": lambda: ExceptionGroup("several", [BoomError("a"), ValueError("b")]),
        "base-group": lambda: BaseExceptionGroup("several", [Quit("a"), ValueError("b")]),
        "quit": lambda: Quit("now"),
        "exit": lambda: SystemExit(3),
        "interrupt": lambda: KeyboardInterrupt(),
        "cancelled": lambda: asyncio.CancelledError("by hand"),
        "generator-exit": lambda: GeneratorExit(),
        "stop": lambda: StopAsyncIteration("odd"),
        "unprintable": lambda: _UnprintableError(),
        "slots": lambda: _FrozenError("fixed"),
    }

    @app.get("/errors/{kind}")
    async def error(kind: str) -> None:
        raise raised[kind]()

    @app.get("/errors-late/{kind}")
    async def late(kind: str) -> Any:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            raise raised[kind]()

        return StreamingResponse(parts())


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparing")

    __hash__ = None  # type: ignore[assignment]


class _FrozenError(Exception):
    __slots__ = ("a",)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("frozen")


def _plain(app: FastAPI, folder: Path) -> None:
    page = folder / "page.txt"
    page.write_text("a file\n" * 1000)

    @app.get("/plain")
    async def plain() -> Any:
        return PlainTextResponse("plain", headers={"x-one": "1"})

    @app.get("/sync")
    def sync() -> Any:
        return {"sync": True}

    @app.get("/items/{item_id}")
    async def item(item_id: int, request: Request) -> Any:
        return {"id": item_id, "query": dict(request.query_params)}

    @app.get("/html")
    async def html() -> Any:
        return HTMLResponse("<p>a page")

    @app.get("/public")
    async def public() -> Any:
        return HTMLResponse("<p>all", headers={"cache-control": "public, max-age=9", "server-timing": "a"})

    @app.get("/redirect")
    async def redirect() -> Any:
        return RedirectResponse("/plain")

    @app.get("/slash/")
    async def slash() -> Any:
        return {}

    @app.get("/cookies")
    async def cookies(response: Response) -> Any:
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return []

    @app.get("/empty", status_code=204)
    async def empty() -> None:
        return None

    @app.get("/not-modified")
    async def not_modified() -> Any:
        return Response(status_code=304)

    @app.get("/file")
    async def file() -> Any:
        # The time of its last change would differ.
        return FileResponse(page, headers={"etag": "x", "last-modified": "y"})

    @app.post("/echo")
    async def echo(request: Request) -> Any:
        notice(f"{request.client} {request.headers.getlist('x-twice')}")
        return Response(await request.body(), media_type="application/octet-stream")

    @app.post("/parsed")
    async def parsed(body: dict[str, int]) -> Any:
        return body

    @app.post("/unread")
    async def unread() -> Any:
        return "did not look"

    @app.get("/whoami")
    async def whoami(request: Request) -> Any:
        scope = request.scope
        return {
            "headers": [(a.decode("latin-1"), b.decode("latin-1")) for a, b in request.headers.raw],
            "path": scope["path"],
            "root_path": str(scope.get("root_path")),
            "query": scope.get("query_string", b"").decode("latin-1"),
            "url": str(request.url),
        }


def _streams(app: FastAPI) -> None:
    @app.get("/stream")
    async def stream() -> Any:
        async def parts() -> AsyncIterator[bytes]:
            for i in range(5):
                await asyncio.sleep(0)
                yield b"%d" % i

        return StreamingResponse(parts(), media_type="text/html")

    @app.get("/stream-sync")
    async def stream_sync() -> Any:
        def parts() -> Iterator[bytes]:
            yield from (b"a", b"", b"c")

        return StreamingResponse(parts())

    @app.get("/stream-watched")
    async def watched(request: Request) -> Any:
        async def parts() -> AsyncIterator[bytes]:
            for i in range(50):
                if await request.is_disconnected():
                    notice("gone")
                    return
                yield b"%d" % i

        return StreamingResponse(parts())

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> Any:
        tasks.add_task(notice, "background")
        return "soon"

    @app.get("/background-breaks")
    async def background_breaks(tasks: BackgroundTasks) -> Any:
        async def late() -> None:
            raise BoomError("in the background")

        tasks.add_task(late)
        return "soon"


def _websockets(app: FastAPI) -> None:
    @app.websocket("/ws/{room}")
    async def echo(socket: WebSocket, room: str) -> None:
        await socket.accept(subprotocol="chat", headers=[(b"x-room", room.encode())])
        async for text in socket.iter_text():
            await socket.send_text(f"{room}: {text}")
        notice("over")

    @app.websocket("/ws-reject")
    async def reject(socket: WebSocket) -> None:
        await socket.close(4003, "no")

    @app.websocket("/ws-deny")
    async def deny(socket: WebSocket) -> None:
        await socket.send_denial_response(PlainTextResponse("denied", 401))

    @app.websocket("/ws-boom")
    async def boom(socket: WebSocket) -> None:
        await socket.accept()
        raise BoomError("in a socket")

    @app.websocket("/ws-close/{code}")
    async def close(socket: WebSocket, code: int) -> None:
        await socket.accept()
        await socket.close(code)

    @app.websocket("/ws-silent")
    async def silent(socket: WebSocket) -> None:
        notice("silent")


async def raw_websocket(scope: Any, receive: Any, send: Any) -> None:
    """Do with a websocket what no framework does."""
    notice(repr(await receive()))
    await send({"type": "websocket.accept", "headers": ((b"a", b"b"),)})
    await send({"what": "is this"})
    notice(repr(await receive()))
    await send({"type": "websocket.close", "code": "1000"})
    notice(repr(await receive()))


def make_app(folder: Path) -> FastAPI:
    """Return a new app; it writes a file into `folder`."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, str]]:
        notice("up")
        yield {"of": "lifespan"}
        notice("down")

    app = FastAPI(lifespan=lifespan)
    _plain(app, folder)
    _errors(app)
    _streams(app)
    _websockets(app)
    app.mount("/raw", raw)
    app.mount("/raw-socket", raw_websocket)
    router = APIRouter()

    @router.get("/users/{uid}")
    async def user(uid: str) -> Any:
        return uid

    app.include_router(router, prefix="/api/{tenant}")

    async def inner(request: Request) -> Any:
        return PlainTextResponse(request.path_params["name"])

    app.mount(
        "/sub",
        Starlette(
            routes=[Route("/{name}", inner), Mount("/deep", routes=[Route("/{name}", inner)])],
            middleware=[Middleware(GZipMiddleware, minimum_size=0)],
        ),
    )
    return app


@dataclass(frozen=True)
class Ask:
    """One request."""

    path: str
    method: str = "GET"
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: Sequence[bytes] = (b"",)
    kind: str = "http"
    incoming: Sequence[Mapping[str, Any]] | None = None
    """What `receive` gives, in place of the body."""
    fails_after: int | None = None
    """How many messages ``send`` takes before the connection is lost."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Entries of the scope."""
    without: Sequence[str] = ()
    """Entries that the scope lacks."""


@dataclass
class Came:
    """What came of it."""

    messages: list[Any]
    raised: str
    noticed: list[str]


def text(data: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": data}


CONNECT = {"type": "websocket.connect"}
LEFT = {"type": "websocket.disconnect", "code": 1001}
TRACED = (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
CALLED = (b"baggage", b"synthetic=test,rolloutobs.service=web,rolloutobs.version=1.0,tenant=a%20b")
RAW = [
    "tuple", "generator", "bytearrays", "views", "triples", "bare", "status-text", "status-none",
    "no-status", "twice", "after-end", "early", "body-first", "typeless", "strange", "trailers", "pathsend",
    "from-task", "late-receive", "nothing", "start-only", "forever-open", "unknown",
]  # fmt: skip
KINDS = [
    "boom", "http", "unavailable", "group", "base-group", "quit", "exit", "interrupt", "cancelled",
    "generator-exit", "stop", "unprintable", "slots",
]  # fmt: skip
HTTP: list[Ask] = [
    *(Ask(path) for path in (
        "/plain", "/sync", "/items/7?a=1&token=secret", "/items/seven", "/html", "/public", "/redirect",
        "/slash", "/slash/", "/cookies", "/empty", "/not-modified", "/file", "/stream", "/stream-sync",
        "/stream-watched", "/background", "/background-breaks", "/missing", "/", "//", "/items/%C3%A9",
        "/api/a/users/7", "/sub/x", "/sub/deep/y", "/sub/no/such", "/whoami?x=%ff", "/docs", "/openapi.json",
    )),
    *(Ask("/plain", method) for method in ("HEAD", "OPTIONS", "PUT", "BREW", "get", "")),
    Ask("/html", headers=[TRACED, CALLED]),
    Ask("/plain", headers=[TRACED, CALLED]),
    Ask("/sub/x", headers=[(b"accept-encoding", b"gzip")]),
    Ask("/file", headers=[(b"range", b"bytes=0-9")]),
    Ask("/whoami", headers=[(b"x-twice", b"1"), (b"x-twice", b"2"), (b"x-latin", b"\xe9"), (b"\xff", b"")]),
    Ask("/whoami", headers=[(b"traceparent", b"\xff" * 55), (b"baggage", b"=,;=,\x00" * 99)]),
    Ask("/whoami", headers=[TRACED, TRACED, (b"baggage", b"a=1"), (b"baggage", b"b"), (b"host", b"\xff:x")]),
    Ask("/echo", "POST", body=[BIG[i : i + 9000] for i in range(0, len(BIG), 9000)]),
    Ask("/echo", "POST", headers=[(b"x-twice", b"a"), (b"x-twice", b"b")]),
    Ask("/parsed", "POST", body=[b'{"a":', b"1}"]),
    Ask("/parsed", "POST", body=[b"{nonsense"]),
    Ask("/unread", "POST", body=[BIG]),
    Ask("/echo", "POST", incoming=[{"type": "http.request", "body": b"a", "more_body": True},
                                   {"type": "http.disconnect"}]),
    Ask("/stream-watched", incoming=[{"type": "http.disconnect"}]),
    Ask("/stream", fails_after=2),
    Ask("/plain", fails_after=0),
    Ask("/raw/odd-messages", incoming=[{}, {"type": None}, {"type": "http.unheard-of"}, {"body": b"x"}]),
    *(Ask(f"/raw/{path}") for path in RAW),
    *(Ask(f"/errors/{kind}") for kind in KINDS),
    *(Ask(f"/errors-late/{kind}") for kind in KINDS),
]  # fmt: skip
WEBSOCKETS: list[Ask] = [
    Ask("/ws/a", kind="websocket", incoming=[CONNECT, text("1"), text("2"), LEFT]),
    Ask("/ws/b", kind="websocket", headers=[TRACED, CALLED], incoming=[CONNECT, LEFT]),
    Ask("/ws/c", kind="websocket", incoming=[CONNECT, text("1"), text("2")], fails_after=1),
    Ask("/ws/d", kind="websocket", incoming=[CONNECT, {"type": "websocket.disconnect", "code": None}]),
    Ask("/ws/e", kind="websocket", incoming=[CONNECT, {"type": "websocket.disconnect", "code": "x"}]),
    Ask("/ws-reject", kind="websocket", incoming=[CONNECT]),
    Ask("/ws-deny", kind="websocket", incoming=[CONNECT],
        changes={"extensions": {"websocket.http.response": {}}}),
    Ask("/ws-boom", kind="websocket", incoming=[CONNECT]),
    Ask("/ws-close/1011", kind="websocket", incoming=[CONNECT]),
    Ask("/ws-close/4000", kind="websocket", incoming=[CONNECT]),
    Ask("/ws-silent", kind="websocket", incoming=[CONNECT]),
    Ask("/ws-missing", kind="websocket", incoming=[CONNECT]),
    Ask("/raw-socket/x", kind="websocket", incoming=[CONNECT, {"code": 7}, {"type": "websocket.disconnect"}]),
]  # fmt: skip
LIFESPAN = Ask("", kind="lifespan", incoming=[{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
CORPUS = [LIFESPAN, *HTTP, *WEBSOCKETS]
ODD = frozenset(
    {"/raw/views", "/raw/triples", "/raw/status-none", "/raw/no-status", "/ws/e", "/errors/unprintable"}
    | {"/errors-late/unprintable"}
)
"""What is not fully told of, though the answer is as it should be: each is a failure that is counted."""
REGULAR = [ask for ask in CORPUS if ask.path not in ODD]


def scope_of(ask: Ask) -> dict[str, Any]:
    """Return the scope of a request."""
    if ask.kind == "lifespan":
        return {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    scope = http_scope(ask.path, ask.method, list(ask.headers))
    if ask.kind == "websocket":
        del scope["method"]
        scope.update(type="websocket", scheme="ws", subprotocols=["chat"])
    scope.update(ask.changes)
    for name in ask.without:
        del scope[name]
    return scope


async def send_to(app: Any, ask: Ask) -> Came:
    """Return what came of one request."""
    messages: list[Any] = []
    incoming = list(ask.incoming) if ask.incoming is not None else [
        {"type": "http.request", "body": part, "more_body": i + 1 < len(ask.body)}
        for i, part in enumerate(ask.body)
    ]  # fmt: skip
    gone = asyncio.Event()

    async def receive() -> Any:
        if incoming:
            return incoming.pop(0)
        if ask.kind == "http":
            await gone.wait()
            return {"type": "http.disconnect"}
        return {"type": f"{ask.kind}.disconnect", "code": 1006}

    async def send(message: Any) -> None:
        if ask.fails_after is not None and len(messages) >= ask.fails_after:
            gone.set()
            raise OSError("the client is gone")
        messages.append(_kept(message))
        if message.get("type") != "http.response.start" and not message.get("more_body"):
            gone.set()

    noticed: list[str] = []
    token = seen.set(noticed)
    before, raised = get_current(), ""
    try:
        await app(scope_of(ask), receive, send)
    except BaseException as error:
        raised = _described(error)
        if asyncio.current_task().cancelling():  # type: ignore[union-attr]
            raise
    finally:
        seen.reset(token)
    assert get_current() is before, "the context of the request has outlived it"
    return Came(messages, raised, noticed)


def _described(error: BaseException) -> str:
    inner = [_described(each) for each in getattr(error, "exceptions", ())]
    return f"{type(error).__qualname__}{error.args!r}{inner}"


def _kept(message: Any) -> Any:
    kept = dict(message)
    if "headers" in kept:
        kept["headers"] = [
            tuple(map(bytes, pair)) if isinstance(pair, (tuple, list)) else pair for pair in kept["headers"]
        ]
    return kept


def without_timing(came: Came, bare: Came) -> Came:
    """Return `came` without the one header that we add on purpose, where `bare` does not have it."""
    for message, original in zip(came.messages, bare.messages, strict=False):
        headers, theirs = message.get("headers"), original.get("headers")
        if headers and headers[-1][0] == b"server-timing" and headers[:-1] == theirs:
            message["headers"] = headers[:-1]
    return came


async def all_of(app: Any, corpus: Sequence[Ask] = CORPUS) -> list[Came]:
    """Return what came of each request, one after the other."""
    return [await send_to(app, ask) for ask in corpus]


async def all_at_once(app: Any, corpus: Sequence[Ask] = CORPUS) -> list[Came]:
    """Return what came of each request, all of them at the same time."""
    return list(await asyncio.gather(*(send_to(app, ask) for ask in corpus)))


def assert_same(came: Sequence[Came], bare: Sequence[Came], corpus: Sequence[Ask] = CORPUS) -> None:
    """Assert that nothing but ``Server-Timing`` tells the two apart."""
    pairs = zip(corpus, came, bare, strict=True)
    different = [(ask, one, other) for ask, one, other in pairs if without_timing(one, other) != other]
    shown = [f"{ask}:\n  {one}\n  {other}"[:900] for ask, one, other in different[:3]]
    assert not different, "\n".join([f"{len(different)} differ", *shown])
