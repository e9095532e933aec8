"""`instrument()` itself: in place, once, at any time, whatever the app is."""

import logging
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.responses import HTMLResponse
from opentelemetry import propagate
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from rolloutobs import Identity, Settings, Track, instrument, instrumentation
from rolloutobs.errors import ConfigurationError
from rolloutobs.telemetry.current import current
from rolloutobs.telemetry.propagation import IdentityPropagator, inject
from rolloutobs.testing import SpanRecorder, call, sample_value, scrape

CANARY = Settings(service="shop", version="1.2.0", track="canary")


@pytest.fixture
def recorder():
    return SpanRecorder()


@pytest.fixture(autouse=True)
def _nothing_warned(monkeypatch):
    monkeypatch.setattr(instrumentation, "_warned", set())


async def ok(request):
    return PlainTextResponse("ok")


def starlette_app(**options):
    return Starlette(routes=[Route("/items/{item_id}", ok)], **options)


async def test_frameworks_are_instrumented_in_place(recorder):
    for app in (starlette_app(), FastAPI()):
        original = type(app)
        assert instrument(app, settings=CANARY, tracer_provider=recorder.provider) is app
        assert isinstance(app, original)
        assert type(app).__name__ == original.__name__
        assert type(app).__module__ == original.__module__
        assert type(original()) is original
    other = instrument(starlette_app(), settings=CANARY)
    assert type(other) is type(instrument(starlette_app(), settings=CANARY))


async def test_subclasses_of_a_team_keep_their_call(recorder):
    calls = []

    class Own(FastAPI):
        async def __call__(self, scope, receive, send):
            calls.append(scope["path"])
            await super().__call__(scope, receive, send)

    app = instrument(Own(), settings=CANARY, tracer_provider=recorder.provider)
    assert (await call(app, "/docs")).status == 200
    assert calls == ["/docs"]
    assert [span.name for span in recorder.server_spans] == ["GET /docs"]


async def test_a_bare_app_is_wrapped_and_looks_like_itself(recorder):
    class Bare:
        name = "mine"

        async def __call__(self, scope, receive, send):
            await PlainTextResponse("ok")(scope, receive, send)

    bare = Bare()
    app = instrument(bare, settings=CANARY, tracer_provider=recorder.provider)
    assert app is not bare
    assert app.name == "mine"
    with pytest.raises(AttributeError):
        app.nothing  # noqa: B018
    for _ in range(2):
        assert (await call(app)).body == b"ok"
    assert len(recorder.server_spans) == 2
    assert instrument(app) is app


async def test_a_second_call_changes_nothing(recorder, caplog):
    app = instrument(starlette_app(), settings=CANARY, tracer_provider=recorder.provider)
    for _ in range(2):
        assert instrument(app, service="other", version="9") is app
    await call(app, "/items/7")
    samples = await scrape(app)
    assert sample_value(samples, "http_requests_total", app="shop", version="1.2.0", status="200") == 1
    assert len(recorder.spans) == 1
    assert len([r for r in caplog.records if "called again" in r.getMessage()]) == 1


def test_it_works_after_start_up_and_with_middleware_added_around_it(recorder):
    app = starlette_app()
    app.add_middleware(OpenTelemetryMiddleware, tracer_provider=recorder.provider)
    with TestClient(app) as client:
        assert client.get("/items/1").status_code == 200
        instrument(app, settings=CANARY, tracer_provider=recorder.provider)
        assert client.get("/items/2").status_code == 200
        assert 'route="/items/{item_id}"' in client.get("/metrics").text
    first, second = recorder.server_spans
    assert "app.version" not in first.attributes
    assert second.attributes["app.version"] == "1.2.0"


def test_there_is_one_server_span_with_fastapis_own_telemetry_on(recorder):
    app = FastAPI(telemetry={"tracer_provider": recorder.provider})

    @app.get("/items/{item_id}")
    async def item(item_id: int):
        return item_id

    client = TestClient(app)
    client.get("/items/1")
    assert len(recorder.server_spans) == 1
    instrument(app, settings=CANARY, tracer_provider=recorder.provider)
    before = len(recorder.spans)
    for path in ("/items/2", "/items/3"):
        client.get(path)
    client.get("/healthz")
    ours = recorder.spans[before:]
    assert [(span.name, span.kind) for span in ours] == [("GET /items/{item_id}", SpanKind.SERVER)] * 2


async def test_a_mounted_app_that_is_instrumented_too_is_counted_once(recorder):
    inner = instrument(starlette_app(), service="inner", version="1", tracer_provider=recorder.provider)
    outer = instrument(
        Starlette(routes=[Mount("/api", app=inner)]), settings=CANARY, tracer_provider=recorder.provider
    )
    for _ in range(2):
        assert (await call(outer, "/api/items/7")).status == 200
    assert [span.name for span in recorder.server_spans] == ["GET /api/items/{item_id}"] * 2
    route = {"route": "/api/items/{item_id}", "status": "200"}
    assert sample_value(await scrape(outer), "http_requests_total", app="shop", **route) == 2
    assert sample_value(await scrape(inner), "http_requests_total", app="inner", method="GET") == 0
    # The inner one alone still works on its own.
    await call(inner, "/items/8")
    assert sample_value(await scrape(inner), "http_requests_total", app="inner", status="200") == 1


async def test_a_mounted_app_inside_of_one_that_is_not_instrumented_shows_its_whole_route(recorder):
    inner = instrument(starlette_app(), settings=CANARY, tracer_provider=recorder.provider)
    outer = Starlette(routes=[Mount("/t/{tenant}", app=inner)])
    await call(outer, "/t/acme/items/7")
    await call(outer, "/t/acme/healthz")
    assert [span.name for span in recorder.server_spans] == ["GET /t/{tenant}/items/{item_id}"]


async def test_two_apps_of_one_process_keep_their_identities(recorder):
    stable = instrument(starlette_app(), service="shop", version="1.1.0", track="stable")
    canary = instrument(starlette_app(), service="shop", version="1.2.0", track="canary")
    await call(stable, "/items/1")
    await call(canary, "/items/1")
    await call(canary, "/items/2")
    for app, version, track, requests in ((stable, "1.1.0", "stable", 1), (canary, "1.2.0", "canary", 2)):
        samples = await scrape(app)
        labels = {"version": version, "track": track, "status": "200"}
        assert sample_value(samples, "http_requests_total", **labels) == requests
        assert {sample.labels["app"] for sample in samples} == {"shop"}
    assert current().identity == Identity("shop", "1.1.0", Track.STABLE)


async def test_what_the_app_sends_on_says_who_it_is():
    sent = []

    async def app(scope, receive, send):
        sent.append(inject(url="http://users:8080/"))
        await PlainTextResponse("ok")(scope, receive, send)

    wrapped = instrument(app, settings=CANARY, tracer_provider=SpanRecorder().provider)
    caller = (
        b"rolloutobs.service=gateway,rolloutobs.version=9,rolloutobs.track=stable,synthetic=test,tenant=a%20b"
    )
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    traceparent = (b"traceparent", f"00-{trace_id}-00f067aa0ba902b7-01".encode())
    await call(wrapped, headers=[traceparent, (b"baggage", caller)])
    await call(wrapped)
    first, second = sent
    assert first["traceparent"].startswith(f"00-{trace_id}-")
    assert "00f067aa0ba902b7" not in first["traceparent"]
    assert first["baggage"] == (
        "synthetic=test,tenant=a+b,rolloutobs.service=shop,rolloutobs.version=1.2.0,rolloutobs.track=canary"
    )
    assert second["baggage"] == "rolloutobs.service=shop,rolloutobs.version=1.2.0,rolloutobs.track=canary"
    assert isinstance(propagate.get_global_textmap(), IdentityPropagator)


def test_websockets_and_lifespan_pass_through(recorder):
    events = []

    @asynccontextmanager
    async def lifespan(app):
        events.append("up")
        yield
        events.append("down")

    app = FastAPI(lifespan=lifespan)

    @app.websocket("/ws/{room}")
    async def ws(websocket: WebSocket, room: str):
        await websocket.accept()
        await websocket.send_text(room + await websocket.receive_text())
        await websocket.close()

    instrument(app, settings=CANARY, tracer_provider=recorder.provider)
    with TestClient(app) as client:
        for _ in range(2):
            with client.websocket_connect("/ws/a") as socket:
                socket.send_text("b")
                assert socket.receive_text() == "ab"
        assert events == ["up"]
    assert events == ["up", "down"]
    assert [span.name for span in recorder.server_spans] == ["WS /ws/{room}"] * 2


async def test_identity_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    monkeypatch.setenv("APP_VERSION", "1.2.0")
    monkeypatch.setenv("ROLLOUTOBS_TRACK", "stable")
    app = instrument(starlette_app(), track=Track.CANARY)
    labels = (await scrape(app))[0].labels
    assert {name: labels[name] for name in ("app", "version", "track")} == {
        "app": "shop",
        "version": "1.2.0",
        "track": "canary",
    }


def test_bad_settings_raise_at_once_and_leave_the_app_alone(monkeypatch):
    monkeypatch.setenv("ROLLOUTOBS_TRACK", "blue")
    app = starlette_app()
    with pytest.raises(ConfigurationError, match="ROLLOUTOBS_TRACK is 'blue'"):
        instrument(app)
    assert type(app) is Starlette
    with pytest.raises(ConfigurationError, match="takes an ASGI or WSGI application, got NoneType"):
        instrument(None, settings=CANARY)
    with pytest.raises(ConfigurationError, match="track is 'green'"):
        instrument(app, settings=CANARY, track="green")


def test_an_identity_that_is_not_known_is_warned_about_once(caplog, monkeypatch):
    for name in ("OTEL_SERVICE_NAME", "APP_VERSION", "ROLLOUTOBS_VERSION", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    caplog.set_level(logging.WARNING, "rolloutobs")
    for _ in range(2):
        instrument(starlette_app())
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "set ROLLOUTOBS_VERSION" in messages[0]
    assert "set OTEL_SERVICE_NAME" in messages[1]


def test_the_page_of_a_test_client_is_unchanged_but_for_the_header(recorder):
    def app():
        made = FastAPI()
        made.get("/", response_class=HTMLResponse)(lambda: "<p>x")
        return made

    bare = TestClient(app()).get("/")
    told = TestClient(instrument(app(), settings=CANARY, tracer_provider=recorder.provider)).get("/")
    assert told.content == bare.content
    assert told.status_code == bare.status_code
    extra = set(told.headers.items()) - set(bare.headers.items())
    assert [name for name, _ in extra] == ["server-timing"]
