"""Requests, errors, messages and calls, no two of them the same: somebody wants the process to grow."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse
from opentelemetry.propagate import inject as otel_inject
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from rolloutobs.operations import operation
from rolloutobs.telemetry.propagation import inject
from rolloutobs.testing import http_scope

logger = logging.getLogger("hostile")
SECRET = "a secret of many characters"


def make_app() -> FastAPI:
    """Return an app with everything that could remember what it is asked."""
    app = FastAPI()

    @app.get("/items/{item}")
    async def item(item: str) -> Any:
        return PlainTextResponse(item)

    @app.get("/page/{name}")
    async def page(name: str) -> Any:
        return HTMLResponse("<p>")

    @app.get("/error/{name}")
    async def error(name: str) -> Any:
        # Each of a class of its own, with a text of its own.
        raise type(f"E{name[:20]}", (Exception,), {})(name)

    @app.get("/status/{status}")
    async def status(status: int) -> Any:
        raise HTTPException(status)

    @app.get("/logs/{name}")
    async def logs(name: str) -> Any:
        logger.error("template " + name)  # noqa: G003 - each a template of its own
        logger.log(random.Random(name).randrange(5, 60), "level %s", name)
        return PlainTextResponse("logged")

    @app.get("/calls/{name}")
    async def calls(name: str) -> Any:
        inject(url=f"http://{name}.internal/{name}")
        otel_inject({})
        return PlainTextResponse("called")

    @app.get("/tasks/{name}")
    async def work(name: str, request: Request) -> Any:
        with operation("task", f"work {name}", carrier=dict(request.headers)) as run:
            run.outcome = name
        return PlainTextResponse("done")

    router = APIRouter()

    @router.get("/users/{user}")
    async def user(tenant: str, user: str) -> Any:
        return PlainTextResponse(user)

    app.include_router(router, prefix="/api/{tenant}")

    async def inner(request: Any) -> Any:
        return PlainTextResponse("inner")

    app.mount(
        "/m/{tenant}", Starlette(routes=[Route("/{x}", inner), Mount("/n/{y}", routes=[Route("/z", inner)])])
    )
    return app


ROUTES = ("items", "page", "error", "status", "logs", "calls", "tasks", "api/t", "m/t", "none", "api", "m")


def scopes(seed: int) -> Iterator[dict[str, Any]]:
    """Yield scopes without end, none like another."""
    chance = random.Random(seed)
    number = 0
    while True:
        number += 1
        word = f"{number:x}-{chance.getrandbits(64):x}" + "x" * chance.choice((0, 0, 50, 400))
        route = chance.choice(ROUTES)
        path = {
            "status": f"/status/{chance.randrange(200, 999)}",
            "api/t": f"/api/{word}/users/{word}",
            "m/t": f"/m/{word}/n/{word}/z",
            "m": f"/m/{word}/{word}/",
        }.get(route, f"/{route}/{word}")
        raw = word.encode()
        headers = [
            (b"host", chance.choice((raw + b".example", raw, b"\xff" + raw, b"[::1]:%d" % number))),
            (b"user-agent", raw),
            (b"x-" + raw[:60], raw),
            (b"baggage", b"synthetic=test,rolloutobs.service=s%d,rolloutobs.version=%d,k%d=%s"
             % (number, number, number, raw)),
            (b"tracestate", b"k%d=%s" % (number, raw)),
        ]  # fmt: skip
        if chance.random() < 0.5:
            headers.append((b"traceparent", b"00-%032x-%016x-%02x" % (number, number, chance.randrange(4))))
        method = chance.choice(("GET", "GET", "GET", "HEAD", "POST", word.upper(), "get"))
        changes = {"scheme": chance.choice(("http", "https", word)), "client": (word, number)}
        if chance.random() < 0.1:
            changes["root_path"] = f"/{word}"
        yield http_scope(path, method, headers, query_string=b"a=" + raw, **changes)


async def serve(app: Any, scope: dict[str, Any], leaves: bool = False) -> int:
    """Serve one request; return the status, 0 where it was none. The client may leave before the answer."""
    status = 0
    incoming = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)
        if leaves:
            raise OSError("gone")

    try:
        await app(scope, receive, send)
    except Exception:
        return status
    return status
