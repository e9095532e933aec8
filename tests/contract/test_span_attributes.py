"""Our server span next to OpenTelemetry's and FastAPI's own, attribute by attribute, on one corpus."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, HTTPException
from opentelemetry.instrumentation import _semconv
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.trace import StatusCode

from rolloutobs import Settings, instrument
from rolloutobs.testing import SpanRecorder, call, isolated_telemetry


@dataclass(frozen=True)
class Request:
    path: str
    method: str = "GET"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    scope: dict[str, Any] = field(default_factory=dict)


CORPUS = (
    Request("/items/7"),
    Request("/items/500"),
    Request("/items/404"),
    Request("/items/503"),
    Request("/items/abc"),
    Request("/nowhere/7"),
    Request("/items/7", "POST"),
    Request("/items/7", "HEAD"),
    Request("/items/7", "OPTIONS"),
    Request("/items/7", "BREW"),
    Request("/items/7/"),
    Request("/items/7?a=1&b=2"),
    Request("/items/7?sig=secret"),
    Request("/api/things/a", "POST"),
    Request("/sub/x/1"),
    Request("/sub/nowhere"),
    Request("/items/7", headers=((b"user-agent", b"curl/8"),)),
    Request("/items/7", scope={"scheme": "https", "http_version": "2"}),
    Request("/items/7", scope={"client": None, "server": None}),
    Request("/items/7", headers=((b"traceparent", b"00-" + b"4b" * 16 + b"-" + b"0a" * 8 + b"-01"),)),
)
# Ours alone: what this project is for, and the trace of an error.
OURS = {"app.version", "rolloutobs.track", "rolloutobs.error.fingerprint"}
# Where the others leave out or blur what the semantic conventions ask for. Each line is a choice of ours.
NOT_THEIRS = {
    "contrib": {
        "client.port",  # opt-in by the conventions
        "server.address",  # theirs is the socket's, and carries the port; the conventions ask for the Host
        "server.port",
        "error.type",  # "500" where the app raised; the conventions ask for the exception
        "http.route",  # of mounts the prefix only, of a redirect nothing
        "url.query",  # not redacted
    },
    "native": {
        "client.address",  # left out
        "user_agent.original",  # left out
    },
}


def make_app(recorder=None):
    native = {"tracing": False}
    if recorder is not None:
        native = {
            "tracer_provider": recorder.provider,
            "logs": False,
            "metrics": False,
            "operation_spans": False,
        }
    app = FastAPI(telemetry=native)

    @app.get("/items/{item_id}")
    async def read(item_id: int):
        if item_id == 500:
            raise RuntimeError("broken")
        if item_id > 400:
            raise HTTPException(item_id)
        return {"id": item_id}

    router = APIRouter()

    @router.post("/things/{name}")
    async def thing(name: str):
        return name

    app.include_router(router, prefix="/api")
    inner = FastAPI(telemetry={"tracing": False})

    @inner.get("/x/{y}")
    async def x(y: str):
        return y

    app.mount("/sub", inner)
    return app


async def spans_of(app, recorder):
    for request in CORPUS:
        try:
            await call(app, request.path, request.method, request.headers, **request.scope)
        except RuntimeError as error:
            assert str(error) == "broken"  # noqa: PT017 - raised by the app, and by nothing else
    assert len(recorder.spans) == len(recorder.server_spans) == len(CORPUS)
    return recorder.server_spans


@pytest.fixture(autouse=True)
def _isolated(monkeypatch):
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
    monkeypatch.setattr(_semconv._OpenTelemetrySemanticConventionStability, "_initialized", False)
    with isolated_telemetry():
        yield
    monkeypatch.setattr(_semconv._OpenTelemetrySemanticConventionStability, "_initialized", False)


async def ours():
    recorder = SpanRecorder()
    settings = Settings(service="shop", version="1.2.0", track="canary")
    return await spans_of(
        instrument(make_app(), settings=settings, tracer_provider=recorder.provider), recorder
    )


async def contrib():
    recorder = SpanRecorder()
    app = make_app()
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=recorder.provider, exclude_spans=["receive", "send"]
    )
    spans = await spans_of(app, recorder)
    # It has patched Starlette's background tasks for the whole process.
    FastAPIInstrumentor.uninstrument_app(app)
    return spans


async def native():
    recorder = SpanRecorder()
    return await spans_of(make_app(recorder), recorder)


@pytest.mark.parametrize("oracle", [contrib, native], ids=["contrib", "native"])
async def test_the_span_is_what_others_make_of_the_same_request(oracle):
    differ = NOT_THEIRS[oracle.__name__]
    for request, mine, other in zip(CORPUS, await ours(), await oracle(), strict=True):
        kept = {name: value for name, value in mine.attributes.items() if name not in OURS | differ}
        theirs = {name: value for name, value in other.attributes.items() if name not in differ}
        assert kept == theirs, request
        assert (mine.kind, mine.status.status_code) == (other.kind, other.status.status_code), request
        if "http.route" not in differ:
            assert mine.name == other.name, request
        if other.events:
            assert [event.name for event in mine.events] == [event.name for event in other.events]
            assert dict(mine.events[0].attributes).keys() == dict(other.events[0].attributes).keys()
        assert (mine.parent is None) == (other.parent is None), request


async def test_where_others_differ_ours_is_what_the_conventions_ask_for():
    by_request = dict(zip(range(len(CORPUS)), await ours(), strict=True))

    def of(path, method="GET"):
        return next(
            span
            for i, span in by_request.items()
            if CORPUS[i].path == path and CORPUS[i].method == method and not CORPUS[i].scope
        )

    assert of("/items/7").attributes["server.address"] == "shop.example"
    assert of("/items/7").attributes["server.port"] == 8080
    assert of("/items/7").attributes["client.address"] == "10.0.0.1"
    assert of("/items/500").attributes["error.type"] == "RuntimeError"
    assert of("/items/500").status.status_code is StatusCode.ERROR
    assert of("/items/404").status.status_code is StatusCode.UNSET
    assert of("/sub/x/1").attributes["http.route"] == "/sub/x/{y}"
    assert of("/items/7?sig=secret").attributes["url.query"] == "sig=REDACTED"
    assert of("/nowhere/7").name == "GET"
    assert of("/items/7", "BREW").attributes["http.request.method_original"] == "BREW"
