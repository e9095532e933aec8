"""The same small shop in every framework: what the corpus asks for, each as its framework does it."""

import io
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from types import ModuleType
from typing import Any

FILE = Path(__file__)
PAGE = "<p>item "
_URLS = "tests_transparency_urls"


def _chunks(number: int) -> Iterator[bytes]:
    for index in range(number):
        yield b"chunk %d\n" % index


async def _async_chunks(number: int) -> AsyncIterator[bytes]:
    for chunk in _chunks(number):
        yield chunk


def _broken_chunks() -> Iterator[bytes]:
    yield b"chunk\n"
    raise RuntimeError("broken midway")


async def _async_broken_chunks() -> AsyncIterator[bytes]:
    for chunk in _broken_chunks():
        yield chunk


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.responses import (
        FileResponse,
        HTMLResponse,
        PlainTextResponse,
        RedirectResponse,
        Response,
        StreamingResponse,
    )
    from starlette.routing import Mount, Route, WebSocketRoute

    async def item(request: Any) -> Any:
        return HTMLResponse(PAGE + str(request.path_params["item_id"]))

    async def echo(request: Any) -> Any:
        return Response(await request.body(), media_type=request.headers.get("content-type"))

    async def boom(request: Any) -> Any:
        raise RuntimeError("boom")

    async def cookies(request: Any) -> Any:
        response = PlainTextResponse("set")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    async def room(websocket: Any) -> None:
        name = websocket.path_params["room"]
        if name == "full":
            await websocket.send_denial_response(PlainTextResponse("full", 409))
            return
        if name == "closed":
            await websocket.close(4001)
            return
        await websocket.accept(headers=[(b"x-room", name.encode())])
        if name == "boom":
            raise RuntimeError("boom")
        async with aclosing(websocket.iter_text()) as texts:
            async for text in texts:
                await websocket.send_text(text.upper())
                if text == "bye":
                    await websocket.close(1000)
                    return

    async def stream(request: Any) -> Any:
        return StreamingResponse(_async_chunks(request.path_params["n"]))

    async def broken(request: Any) -> Any:
        return StreamingResponse(_async_broken_chunks())

    async def background(request: Any) -> Any:
        return PlainTextResponse("later", background=BackgroundTask(lambda: None))

    async def status(request: Any) -> Any:
        return Response(status_code=request.path_params["code"])

    async def file(request: Any) -> Any:
        return FileResponse(FILE)

    async def go(request: Any) -> Any:
        return RedirectResponse("/items/1")

    inner = Starlette(routes=[Route("/users/{name}", item_of_mount)])
    return Starlette(
        routes=[
            Route("/items/{item_id:int}", item),
            Route("/echo", echo, methods=["POST", "PUT"]),
            Route("/stream/{n:int}", stream),
            Route("/stream-broken", broken),
            Route("/boom", boom),
            Route("/status/{code:int}", status),
            Route("/cookies", cookies),
            Route("/file", file),
            Route("/background", background),
            Route("/go", go),
            Route("/slash/", item_of_mount),
            Mount("/mounted", app=inner),
            WebSocketRoute("/ws/{room}", room),
        ]
    )


async def item_of_mount(request: Any) -> Any:
    from starlette.responses import PlainTextResponse

    return PlainTextResponse(request.path_params.get("name", "slash"))


def fastapi() -> Any:
    from fastapi import APIRouter, BackgroundTasks, Body, FastAPI, HTTPException, Request, WebSocket
    from fastapi.responses import FileResponse, HTMLResponse, Response, StreamingResponse

    app = FastAPI(openapi_url=None)
    router = APIRouter(prefix="/mounted")

    @app.get("/items/{item_id}", response_class=HTMLResponse)
    async def item(item_id: int) -> str:
        return f"{PAGE}{item_id}"

    @app.api_route("/echo", methods=["POST", "PUT"])
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type=request.headers.get("content-type"))

    @app.get("/stream/{n}")
    async def stream(n: int) -> StreamingResponse:
        return StreamingResponse(_async_chunks(n))

    @app.get("/stream-broken")
    async def broken() -> StreamingResponse:
        return StreamingResponse(_async_broken_chunks())

    @app.get("/boom")
    def boom() -> None:
        raise RuntimeError("boom")

    @app.get("/status/{code}")
    async def status(code: int) -> None:
        raise HTTPException(code)

    @app.get("/cookies")
    async def cookies(response: Response) -> dict[str, int]:
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return {"set": 2}

    @app.get("/file")
    async def file() -> FileResponse:
        return FileResponse(FILE)

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> str:
        tasks.add_task(lambda: None)
        return "later"

    @app.post("/json")
    async def json(value: dict[str, int] = Body()) -> int:  # noqa: B008 - FastAPI's way
        return sum(value.values())

    @router.get("/users/{name}")
    async def user(name: str) -> str:
        return name

    @app.websocket("/ws/{room}")
    async def ws(websocket: WebSocket, room: str) -> None:
        if room == "closed":
            await websocket.close(4001)
            return
        await websocket.accept()
        if room == "boom":
            raise RuntimeError("boom")
        async with aclosing(websocket.iter_text()) as texts:
            async for text in texts:
                await websocket.send_text(text.upper())
                if text == "bye":
                    await websocket.close()
                    return

    app.include_router(router)
    return app


def litestar() -> Any:
    from litestar import Litestar, MediaType, Request, Response, WebSocket, get, route
    from litestar import websocket as ws_route
    from litestar.exceptions import WebSocketDisconnect
    from litestar.params import FromPath
    from litestar.response import Redirect, Stream

    @get("/items/{item_id:int}", media_type=MediaType.HTML, sync_to_thread=False)
    def item(item_id: FromPath[int]) -> str:
        return f"{PAGE}{item_id}"

    @route("/echo", http_method=["POST", "PUT"], status_code=200)
    async def echo(request: Request[Any, Any, Any]) -> Response[bytes]:
        return Response(await request.body())

    @get("/stream/{n:int}")
    async def stream(n: FromPath[int]) -> Stream:
        return Stream(_async_chunks(n))

    @get("/boom", sync_to_thread=False)
    def boom() -> None:
        raise RuntimeError("boom")

    @get("/status/{code:int}", sync_to_thread=False)
    def status(code: FromPath[int]) -> Response[str]:
        return Response("", status_code=code)

    @get("/go", sync_to_thread=False)
    def go() -> Redirect:
        return Redirect("/items/1")

    @get("/mounted/users/{name:str}", sync_to_thread=False)
    def user(name: FromPath[str]) -> str:
        return name

    @ws_route("/ws/{room:str}")
    async def ws(socket: WebSocket[Any, Any, Any], room: FromPath[str]) -> None:
        if room == "closed":
            await socket.close(4001)
            return
        await socket.accept()
        if room == "boom":
            raise RuntimeError("boom")
        try:
            while (text := await socket.receive_text()) != "bye":
                await socket.send_text(text.upper())
            await socket.close()
        except WebSocketDisconnect:
            pass

    handlers = [item, echo, stream, boom, status, go, user, ws]
    return Litestar(handlers, openapi_config=None, logging_config=None)


def quart() -> Any:
    from quart import Quart, Response, redirect, request, websocket

    app = Quart("transparency")

    @app.get("/items/<int:item_id>")
    async def item(item_id: int) -> str:
        return f"{PAGE}{item_id}"

    @app.route("/echo", methods=["POST", "PUT"])
    async def echo() -> Any:
        return await request.get_data()

    @app.get("/stream/<int:n>")
    async def stream(n: int) -> Any:
        return _async_chunks(n)

    @app.get("/boom")
    async def boom() -> str:
        raise RuntimeError("boom")

    @app.get("/status/<int:code>")
    async def status(code: int) -> Any:
        return Response("", code)

    @app.get("/go")
    async def go() -> Any:
        return redirect("/items/1")

    @app.get("/slash/")
    async def slash() -> str:
        return "slash"

    @app.get("/mounted/users/<name>")
    async def user(name: str) -> str:
        return name

    @app.websocket("/ws/<room>")
    async def ws(room: str) -> Any:
        if room == "closed":
            return "closed", 403
        if room == "boom":
            raise RuntimeError("boom")
        while (text := await websocket.receive()) != "bye":
            await websocket.send(text.upper())
        return None

    return app


def flask() -> Any:
    from flask import Blueprint, Flask, Response, redirect, request, send_file

    app = Flask("transparency")
    users = Blueprint("users", "users", url_prefix="/mounted")

    @app.get("/items/<int:item_id>")
    def item(item_id: int) -> str:
        return f"{PAGE}{item_id}"

    @app.route("/echo", methods=["POST", "PUT"])
    def echo() -> bytes:
        return request.get_data()

    @app.get("/stream/<int:n>")
    def stream(n: int) -> Any:
        return _chunks(n)

    @app.get("/stream-broken")
    def broken() -> Any:
        return _broken_chunks()

    @app.get("/boom")
    def boom() -> str:
        raise RuntimeError("boom")

    @app.get("/status/<int:code>")
    def status(code: int) -> Any:
        return Response("", code)

    @app.get("/cookies")
    def cookies() -> Any:
        response = Response("set")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    @app.get("/file")
    def file() -> Any:
        return send_file(FILE)

    @app.get("/go")
    def go() -> Any:
        return redirect("/items/1")

    @app.get("/slash/")
    def slash() -> str:
        return "slash"

    @users.get("/users/<name>")
    def user(name: str) -> str:
        return name

    app.register_blueprint(users)
    return app


def _django_urls() -> None:
    """Configure Django, which has one set of settings per process, with the shop's views."""
    import django
    from django.conf import settings

    if settings.configured:
        return
    settings.configure(
        SECRET_KEY="not a secret",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=_URLS,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        LOGGING_CONFIG=None,
        USE_TZ=True,
    )
    django.setup()
    from django.http import FileResponse, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
    from django.urls import include, path, re_path

    def item(request: Any, item_id: int) -> Any:
        return HttpResponse(f"{PAGE}{item_id}")

    def echo(request: Any) -> Any:
        return HttpResponse(request.body, status=200 if request.method in ("POST", "PUT") else 405)

    def boom(request: Any) -> Any:
        raise RuntimeError("boom")

    async def user(request: Any, name: str) -> Any:
        return HttpResponse(name, content_type="text/plain")

    def cookies(request: Any) -> Any:
        response = HttpResponse("set")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    def stream(request: Any, n: int) -> Any:
        chunks = _async_chunks(n) if hasattr(request, "scope") else _chunks(n)
        return StreamingHttpResponse(chunks, content_type="text/plain")

    def file(request: Any) -> Any:
        if hasattr(request, "scope"):
            # Django warns of files on ASGI.
            return HttpResponse(FILE.read_bytes(), content_type="text/x-python")
        return FileResponse(io.BytesIO(FILE.read_bytes()), filename="apps.py")

    urls: Any = ModuleType(_URLS)
    urls.urlpatterns = [
        path("items/<int:item_id>", item),
        path("echo", echo),
        path("stream/<int:n>", stream),
        path("boom", boom),
        path("status/<int:code>", lambda request, code: HttpResponse(status=code)),
        path("cookies", cookies),
        path("file", file),
        path("go", lambda request: HttpResponseRedirect("/items/1")),
        path("slash/", lambda request: HttpResponse("slash")),
        path("mounted/", include([re_path(r"^users/(?P<name>[^/]+)$", user)])),
    ]
    sys.modules[_URLS] = urls


def django_asgi() -> Any:
    _django_urls()
    from django.core.asgi import get_asgi_application

    return get_asgi_application()


def django_wsgi() -> Any:
    _django_urls()
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def bare_asgi() -> Any:
    """All that the specification allows and frameworks do not do."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError(scope["type"])
        path = scope["path"]
        if path == "/boom":
            raise RuntimeError("boom")
        if path == "/nothing":
            return
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"X-Case", b"kept"), (b"x-twice", b"1")]
        start = {"type": "http.response.start", "status": 200, "headers": [*headers, (b"x-twice", b"2")]}
        if path.startswith("/hint"):
            await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
            await send({"type": "http.response.push", "path": "/a.css", "headers": []})
        if path.startswith("/trailers"):
            start["trailers"] = True
        await send(start)
        await send({"type": "http.response.body", "body": b"<p>", "more_body": True})
        await send({"type": "http.response.body", "body": path.encode("utf-8", "replace")})
        if path.startswith("/trailers"):
            await send({"type": "http.response.trailers", "headers": [(b"x-end", b"1")]})

    return app


ASGI: dict[str, Callable[[], Any]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "litestar": litestar,
    "quart": quart,
    "django": django_asgi,
    "bare": bare_asgi,
}
WSGI: dict[str, Callable[[], Any]] = {"flask": flask, "django": django_wsgi}
TRIO = ("starlette", "fastapi", "bare")
"""Those that run on trio; Litestar, Quart and Django need asyncio."""
