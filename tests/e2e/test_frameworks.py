"""Real frameworks and real servers: routes, exceptions, websockets, threads, trio, HTTP/2, import strings."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from opentelemetry.trace import StatusCode

from examples.demo.processes import Processes, free_ports
from rolloutobs import Settings, instrument
from rolloutobs.testing import (
    SpanRecorder,
    call,
    call_wsgi,
    isolated_telemetry,
    parse_metrics,
    sample_value,
)
from tests.transparency import apps

CANARY = Settings(service="shop", version="1.2.0", track="canary", labels_file=None)
TEMPLATES = {
    "starlette": ("/items/{item_id}", "/mounted/users/{name}", "/items/{item_id}"),
    "fastapi": ("/items/{item_id}", "/mounted/users/{name}", "/items/{item_id}"),
    "litestar": ("/items/{item_id}", "/mounted/users/{name}", ""),
    "quart": ("/items/<int:item_id>", "/mounted/users/<name>", ""),
    "flask": ("/items/<int:item_id>", "/mounted/users/<name>", ""),
    "django": ("/items/<int:item_id>", "/mounted/users/<name>", "/items/<int:item_id>"),
}
"""Templates of an item and of a user, and that of a method which the item's route does not take."""
LISTED = [("POST", "/echo"), ("GET", "/boom")]


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with isolated_telemetry():
        yield


def told(make: Callable[[], Any]) -> tuple[Any, SpanRecorder]:
    recorder = SpanRecorder()
    app = make()
    assert instrument(app, settings=CANARY, tracer_provider=recorder.provider) is app
    return app, recorder


async def ask(app: Any, path: str, method: str = "GET") -> int:
    """Return the status; 500 for what the server would make one of."""
    with contextlib.suppress(RuntimeError):
        return (await call(app, path, method)).status
    return 500


def ask_wsgi(app: Any, path: str, method: str = "GET") -> int:
    """Return the status."""
    return call_wsgi(app, path, method).status


def check(name: str, statuses: list[int], text: str, recorder: SpanRecorder) -> None:
    """Check what the requests of `REQUESTS` have left behind."""
    item, user, refused = TEMPLATES[name]
    samples = parse_metrics(text)

    def count(route: str, status: str, method: str = "GET") -> float | None:
        labels = {"route": route, "status": status, "method": method, "version": "1.2.0", "track": "canary"}
        return sample_value(samples, "http_requests_total", **labels)

    assert count(item, "200") == 2
    assert count(user, "200") == 1
    assert count("/boom", "500") == 2
    assert count("", "404") == 1
    assert statuses[5] in (405, 200), statuses
    assert count(refused if statuses[5] == 405 else item, str(statuses[5]), "DELETE") == 1
    assert count(item, "500") == 0, "known from the start"
    assert sample_value(samples, "http_requests_in_flight") == 0
    assert sample_value(samples, "app_errors_total", type="RuntimeError") >= 1
    assert sample_value(samples, "rolloutobs_internal_errors_total") == 0
    assert "secret-17" not in text
    assert len(recorder.spans) == len(recorder.server_spans) == len(statuses)
    broken = [span for span in recorder.spans if span.name == "GET /boom"]
    assert len(broken) == 2
    for span in broken:
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes is not None
        assert span.attributes["error.type"] == "RuntimeError"
        assert [event.name for event in span.events] == ["exception"]
    assert {span.name for span in recorder.spans} >= {f"GET {item}", f"GET {user}", "GET"}


REQUESTS = (
    ("/items/7", "GET"),
    ("/items/8", "GET"),
    ("/mounted/users/ann", "GET"),
    ("/boom", "GET"),
    ("/boom", "GET"),
    ("/items/7", "DELETE"),
    ("/none/secret-17", "GET"),
)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("name", ["starlette", "fastapi", "litestar", "quart", "django"])
async def test_asgi_frameworks(name: str) -> None:
    app, recorder = told(apps.ASGI[name])
    statuses = [await ask(app, path, method) for path, method in REQUESTS]
    assert statuses[:5] == [200, 200, 200, 500, 500]
    check(name, statuses, (await call(app, "/metrics")).body.decode(), recorder)


@pytest.mark.parametrize("name", ["flask", "django"])
def test_wsgi_frameworks(name: str) -> None:
    app, recorder = told(apps.WSGI[name])
    statuses = [ask_wsgi(app, path, method) for path, method in REQUESTS]
    assert statuses[:5] == [200, 200, 200, 500, 500]
    check(name, statuses, call_wsgi(app, "/metrics").body.decode(), recorder)


def test_flasks_own_client_goes_through_us_and_middleware_around_it_too() -> None:
    app, recorder = told(apps.flask)
    client = app.test_client()
    assert client.get("/items/7").headers["server-timing"].startswith('version;desc="1.2.0"')
    inner = app.wsgi_app
    app.wsgi_app = lambda environ, start_response: inner(environ, start_response)
    assert client.head("/items/7").status_code == 200
    app.testing = True
    with pytest.raises(RuntimeError, match="boom"):
        client.get("/boom")
    with client:
        client.get("/slash/")
        from flask import request

        assert request.path == "/slash/"
    assert [span.name for span in recorder.spans] == [
        "GET /items/<int:item_id>",
        "HEAD /items/<int:item_id>",
        "GET /boom",
        "GET /slash/",
    ]


async def test_frameworks_inside_of_other_middleware_tell_their_routes() -> None:
    async def around(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    def around_wsgi(environ: Any, start_response: Any) -> Any:
        return inner_wsgi(environ, start_response)

    recorder = SpanRecorder()
    inner, inner_wsgi = apps.django_asgi(), apps.flask()
    asgi = instrument(around, settings=CANARY, tracer_provider=recorder.provider)
    wsgi = instrument(around_wsgi, settings=CANARY, tracer_provider=recorder.provider)
    assert (await call(asgi, "/items/7")).status == 200
    assert call_wsgi(wsgi, "/items/7").status == 200
    assert {span.name for span in recorder.spans} == {"GET /items/<int:item_id>"}


@pytest.mark.parametrize(
    ("name", "route"),
    [("starlette", "/slash/"), ("quart", ""), ("django", ""), ("fastapi", "/items/{item_id}")],
)
async def test_a_redirect_to_a_slash_shows_the_target_where_the_router_tells(name: str, route: str) -> None:
    app, recorder = told(apps.ASGI[name])
    path = "/items/7/" if name == "fastapi" else "/slash"
    assert (await call(app, path)).status in (301, 307, 308)
    assert [span.attributes.get("http.route", "") for span in recorder.spans if span.attributes] == [route]


def test_a_background_task_is_outside_of_span_and_latency() -> None:
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    seen: list[int] = []
    recorder = SpanRecorder()

    async def later() -> None:
        seen.append(len(recorder.spans))

    async def answer(request: Any) -> Any:
        return PlainTextResponse("ok", background=BackgroundTask(later))

    app = instrument(
        Starlette(routes=[Route("/", answer)]), settings=CANARY, tracer_provider=recorder.provider
    )
    for backend in ("asyncio", "trio"):
        anyio.run(call, app, backend=backend)
    assert seen == [1, 2], "the span had ended when the task ran"


@pytest.mark.parametrize("name", ["starlette", "fastapi", "bare"])
def test_trio(name: str) -> None:
    recorder = SpanRecorder()
    app = instrument(apps.ASGI[name](), settings=CANARY, tracer_provider=recorder.provider)

    async def main() -> str:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(call, app, "/items/7")
        with pytest.raises(RuntimeError):
            await call(app, "/boom")
        return (await call(app, "/metrics")).body.decode()

    samples = parse_metrics(anyio.run(main, backend="trio"))
    assert sample_value(samples, "http_requests_total", status="200") == 5
    assert sample_value(samples, "http_requests_total", status="500") == 1
    assert sample_value(samples, "http_requests_in_flight") == 0
    assert sample_value(samples, "rolloutobs_internal_errors_total") == 0
    assert len({span.context.trace_id for span in recorder.spans}) == 6


def test_a_second_call_changes_nothing_whatever_the_framework() -> None:
    for make in {**apps.ASGI, **apps.WSGI}.values():
        app = instrument(make(), settings=CANARY)
        assert instrument(app, service="other", version="9") is app
        assert app._rolloutobs.settings.identity == CANARY.identity


def _serve_one(app: Any, results: Any) -> None:
    """Of a process that was spawned: it has the app from a pickle."""

    async def main() -> tuple[int, str]:
        status = (await call(app, "/items/7")).status
        return status, (await call(app, "/metrics")).body.decode()

    results.put(anyio.run(main))


def test_an_app_that_goes_to_a_spawned_process_is_instrumented_there() -> None:
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    child = spawn.Process(target=_serve_one, args=(instrument(picklable, settings=CANARY), results))
    child.start()
    status, text = results.get(timeout=60)
    child.join(60)
    assert (status, child.exitcode) == (200, 0)
    assert scraped(text, status="200", track="canary") == 1


async def picklable(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


def test_an_app_that_is_instrumented_before_a_fork_counts_in_each_process_from_zero() -> None:
    recorder = SpanRecorder()
    app = instrument(apps.flask(), settings=CANARY, tracer_provider=recorder.provider)
    assert call_wsgi(app, "/items/7").status == 200
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Only what is needed: this is a copy of the test run.
        try:
            call_wsgi(app, "/items/8")
            call_wsgi(app, "/items/9")
            os.write(writing, call_wsgi(app, "/metrics").body)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    assert scraped(text, route="/items/<int:item_id>", status="200") == 2
    assert scraped(call_wsgi(app, "/metrics").body.decode(), route="/items/<int:item_id>", status="200") == 1


# --- servers ---------------------------------------------------------------------------------------------


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Start a server of `tests.e2e.frameworks_app` and return its URL."""
    async with Processes(tmp_path / "logs") as processes:

        async def started(*argv: str) -> str:
            (port,) = free_ports(1)
            command = [sys.executable, *(part.format(port=port) for part in argv)]
            # A server that looks for its app in the folder where it was started.
            await processes.start("server", command, {"PYTHONPATH": str(Path.cwd())})
            await processes.wait_for_http("server", f"http://127.0.0.1:{port}/metrics")
            return f"http://127.0.0.1:{port}"

        yield started


def scraped(text: str, **labels: str) -> float | None:
    return sample_value(parse_metrics(text), "http_requests_total", version="1.2.0", **labels)


UVICORN = ("-m", "uvicorn", "--port", "{port}", "--no-access-log")
ITEM = {"route": "/items/{item_id}", "status": "200"}


@pytest.mark.parametrize(
    "argv",
    [
        ("tests.e2e.frameworks_app:app",),
        ("tests.e2e.frameworks_app:create", "--factory"),
        ("tests.e2e.frameworks_app:app", "--reload", "--reload-dir", "tests/transparency"),
    ],
    ids=["import string", "factory", "reload"],
)
async def test_uvicorn(start: Callable[..., Any], argv: tuple[str, ...]) -> None:
    url = await start(*UVICORN, *argv)
    async with httpx2.AsyncClient(base_url=url) as client:
        for number in (1, 2):
            answer = await client.get(f"/items/{number}")
            assert answer.headers["server-timing"].startswith('version;desc="1.2.0", track;desc="canary"')
        assert (await client.get("/boom")).status_code == 500
    # On another connection: uvicorn closes one on which the app has raised.
    async with httpx2.AsyncClient(base_url=url) as client:
        text = (await client.get("/metrics")).text
    assert scraped(text, **ITEM) == 2
    assert scraped(text, route="/boom", status="500") == 1


HYPERCORN = ("-m", "hypercorn", "--bind", "127.0.0.1:{port}", "tests.e2e.frameworks_app:app")


@pytest.mark.parametrize("worker", ["asyncio", "trio"])
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_hypercorn(start: Callable[..., Any], worker: str, http2: bool) -> None:
    url = await start(*HYPERCORN, "--worker-class", worker)
    async with httpx2.AsyncClient(base_url=url, http2=http2, http1=not http2) as client:
        answers = [await client.get("/items/7"), await client.get("/hints/")]
        async with client.stream("GET", "/stream/3") as streamed:
            body = b"".join([chunk async for chunk in streamed.aiter_bytes()])
        # Over HTTP/2 the client has the last byte before the app's task has gone on.
        for _ in range(100):
            text = (await client.get("/metrics")).text
            if scraped(text, route="/stream/{n}", status="200") == 1:
                break
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[1].text == ("<p>2" if http2 else "<p>1.1")
    assert all("server-timing" in answer.headers for answer in answers)
    assert body == b"chunk 0\nchunk 1\nchunk 2\n"
    assert scraped(text, **ITEM) >= 1
    assert scraped(text, route="/stream/{n}", status="200") == 1
    assert sample_value(parse_metrics(text), "rolloutobs_internal_errors_total") == 0


GUNICORN = ("-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "4")


@pytest.mark.parametrize("name", ["flask", "django"])
async def test_gunicorn_threads(start: Callable[..., Any], name: str) -> None:
    url = await start(*GUNICORN, f"tests.e2e.frameworks_app:{name}")
    with httpx2.Client(base_url=url, timeout=30) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: client.get(f"/items/{number}"), range(40)))
        assert client.get("/file").content == apps.FILE.read_bytes()
        assert client.get("/boom").status_code == 500
        text = client.get("/metrics").text
    assert [answer.text for answer in answers] == [f"{apps.PAGE}{number}" for number in range(40)]
    assert all(answer.headers["server-timing"].startswith('version;desc="1.2.0"') for answer in answers)
    assert scraped(text, route="/items/<int:item_id>", status="200") == 40
    assert scraped(text, route="/file", status="200") == 1
    assert scraped(text, route="/boom", status="500") == 1
    assert sample_value(parse_metrics(text), "http_requests_in_flight") == 0
