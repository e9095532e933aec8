import asyncio
import gzip
import logging
import threading

import pytest
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from prometheus_client import CollectorRegistry, Counter, make_asgi_app
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount, Route

from rolloutobs import instrument
from rolloutobs.asgi import scrapes
from rolloutobs.settings import OnConflict, Settings
from rolloutobs.telemetry import hub as hubs
from rolloutobs.testing import call, parse_metrics, sample_value, scrape

SETTINGS = Settings(service="shop", version="1.2.0", track="canary")
STAMP = {"app": "shop", "version": "1.2.0", "track": "canary"}


@pytest.fixture
def registry():
    registry = CollectorRegistry()
    Counter("carts", "Carts.", ["plan"], registry=registry).labels("gold").inc(3)
    return registry


def with_route(registry, **changes):
    app = FastAPI()
    app.get("/items/{item}")(lambda item: item)

    @app.get("/metrics")
    def metrics():
        return Response(generate_latest(registry), **{"media_type": CONTENT_TYPE_PLAIN_0_0_4, **changes})

    return app


async def test_an_app_without_such_a_route_is_not_asked():
    asked = []

    async def app(scope, receive, send):
        asked.append(scope["path"])
        await PlainTextResponse("ok")(scope, receive, send)

    app = instrument(app, settings=SETTINGS)
    await asyncio.gather(scrape(app), scrape(app))
    assert asked == []


@pytest.mark.parametrize("rule", list(OnConflict))
async def test_the_metrics_of_the_apps_own_route_are_shown_with_ours_stamped(registry, rule, caplog):
    settings = Settings(service="shop", version="1.2.0", track="canary", on_conflict=rule)
    app = instrument(with_route(registry), settings=settings)
    await call(app, "/items/1")
    first, second = await asyncio.gather(scrape(app), scrape(app))
    for samples in (first, second):
        assert sample_value(samples, "carts_total", plan="gold", **STAMP) == 3
        prefix = "rolloutobs_" if rule is OnConflict.PREFIX else ""
        assert sample_value(samples, f"{prefix}http_requests_total", route="/items/{item}", status="200") == 1
    told = [r for r in caplog.records if "of its own" in r.getMessage()]
    assert len(told) == 1


async def test_a_change_of_the_track_reaches_what_only_the_apps_route_knows(registry):
    app = instrument(with_route(registry), settings=SETTINGS)
    await scrape(app)
    hubs.process().retrack(hubs.Track.STABLE)
    samples = await scrape(app)
    assert sample_value(samples, "carts_total", track="canary") == 3
    assert sample_value(samples, "carts_total", track="stable") == 0


async def test_a_mounted_app_of_the_library(registry):
    app = instrument(Starlette(routes=[Mount("/metrics", app=make_asgi_app(registry))]), settings=SETTINGS)
    for accept in (b"*/*", b"application/openmetrics-text;version=1.0.0"):
        answer = await call(app, "/metrics", headers=[(b"accept", accept), (b"accept-encoding", b"gzip")])
        body = gzip.decompress(answer.body).decode()
        assert 'carts_total{app="shop",plan="gold",track="canary",version="1.2.0"} 3.0' in body
        assert "app_build_info" in body
        assert "carts_created" not in body


async def test_an_answer_that_a_middleware_has_compressed(registry):
    app = with_route(registry)
    app.add_middleware(GZipMiddleware, minimum_size=1)
    app = instrument(app, settings=SETTINGS)
    answer = await call(app, "/metrics", headers=[(b"accept-encoding", b"gzip")])
    body = gzip.decompress(answer.body).decode()
    assert sample_value(parse_metrics(body), "carts_total", **STAMP) == 3


async def test_a_route_that_refuses_is_obeyed(registry, caplog):
    app = FastAPI()

    @app.get("/metrics")
    def metrics():
        return PlainTextResponse("who are you?", 401, {"www-authenticate": "Basic"})

    bare = await call(app, "/metrics")
    app = instrument(app, settings=SETTINGS)
    for _ in range(2):
        answer = await call(app, "/metrics")
        assert (answer.status, answer.headers, answer.body) == (401, bare.headers, bare.body)
    assert len([r for r in caplog.records if "served as it is" in r.getMessage()]) == 1


@pytest.mark.parametrize(
    "response",
    [HTMLResponse("<h1>Our metrics"), PlainTextResponse("Our metrics"), PlainTextResponse("", 404)],
)
async def test_a_page_at_that_path_is_served_as_it_is(response):
    app = Starlette(routes=[Route("/metrics", lambda request: response)])
    bare = await call(app, "/metrics")
    app = instrument(app, settings=SETTINGS)
    for method in ("GET", "HEAD", "GET"):
        answer = await call(app, "/metrics", method=method)
        assert (answer.status, answer.headers) == (bare.status, bare.headers)


async def test_a_stream_at_that_path_comes_as_it_comes():
    gate = asyncio.Event()

    async def chunks():
        yield b"first"
        await gate.wait()
        yield b"second"

    app = Starlette(
        routes=[
            Route("/metrics", lambda request: StreamingResponse(chunks(), media_type="text/event-stream"))
        ]
    )
    app = instrument(app, settings=SETTINGS)
    sent = asyncio.Queue()

    async def receive():
        await asyncio.Event().wait()

    from rolloutobs.testing import http_scope

    task = asyncio.create_task(app(http_scope("/metrics"), receive, sent.put))
    async with asyncio.timeout(30):
        assert (await sent.get())["type"] == "http.response.start"
        assert (await sent.get())["body"] == b"first"
        gate.set()
        assert (await sent.get())["body"] == b"second"
        await task


async def test_a_route_that_raises_raises():
    app = Starlette(routes=[Route("/metrics", lambda request: 1 / 0)])
    app = instrument(app, settings=SETTINGS)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await call(app, "/metrics")


async def test_text_that_cannot_be_read_is_counted_and_ours_are_shown(caplog):
    app = FastAPI()
    broken = b"# TYPE a counter\na_total{ what\n"
    app.get("/metrics")(lambda: Response(broken, media_type=CONTENT_TYPE_PLAIN_0_0_4))
    app = instrument(app, settings=SETTINGS)
    samples = await scrape(app)
    assert sample_value(samples, "app_build_info", **STAMP) == 1
    assert sample_value(await scrape(app), "rolloutobs_internal_errors_total", where="metrics") >= 1


async def test_a_token_comes_before_the_apps_own_route(registry):
    asked = []
    app = with_route(registry)

    @app.middleware("http")
    async def middleware(request, call_next):
        asked.append(request.url.path)
        return await call_next(request)

    settings = Settings(service="s", version="1", metrics_token=("secret",))
    app = instrument(app, settings=settings)
    assert (await call(app, "/metrics")).status == 401
    assert asked == []
    answer = await call(app, "/metrics", headers=[(b"authorization", b"Bearer secret")])
    assert b"carts_total" in answer.body
    assert asked == ["/metrics"]


async def test_the_event_loop_goes_on_while_the_app_collects(registry):
    entered, release = threading.Event(), threading.Event()

    class Slow:
        def collect(self):
            entered.set()
            release.wait(30)
            return []

        def describe(self):
            return []

    from prometheus_client import REGISTRY

    app = FastAPI()
    app.get("/items/{item}")(lambda item: item)
    app = instrument(app, settings=SETTINGS)
    slow = Slow()
    REGISTRY.register(slow)
    try:
        waiting = [asyncio.create_task(call(app, "/metrics")) for _ in range(3)]
        async with asyncio.timeout(30):
            while not entered.is_set():
                await asyncio.sleep(0.001)
            assert (await call(app, "/items/1")).status == 200
            assert not any(task.done() for task in waiting)
            release.set()
            answers = await asyncio.gather(*waiting)
    finally:
        release.set()
        REGISTRY.unregister(slow)
    assert [answer.status for answer in answers] == [200] * 3


async def test_more_scrapes_than_threads_are_told_to_come_back(monkeypatch):
    monkeypatch.setattr(scrapes, "_MAX_AT_ONCE", 1)
    app = instrument(Starlette(), settings=SETTINGS)
    answers = await asyncio.gather(*(call(app, "/metrics") for _ in range(5)))
    statuses = sorted({answer.status for answer in answers})
    assert statuses == [200, 503]
    assert (await call(app, "/metrics")).status == 200


async def test_a_failure_of_ours_is_counted(monkeypatch, caplog):
    caplog.set_level(logging.CRITICAL)
    app = instrument(Starlette(), settings=SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(scrapes, "answer", lambda *_: 1 / 0)
        assert (await call(app, "/metrics")).status == 500
    samples = await scrape(app)
    assert sample_value(samples, "rolloutobs_internal_errors_total", where="metrics") == 1
