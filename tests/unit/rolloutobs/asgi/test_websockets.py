"""Websocket connections: counted by how they end, timed, and one span each."""

import asyncio

import pytest
from fastapi import FastAPI, WebSocket, WebSocketException
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from rolloutobs import Settings, instrument
from rolloutobs.testing import SpanRecorder, http_scope, sample_value, scrape

CANARY = Settings(service="shop", version="1.2.0", track="canary", labels_file=None)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = (b"traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode())
CALLER = (
    b"baggage",
    b"rolloutobs.service=gateway,rolloutobs.version=1.1.0,rolloutobs.track=stable,synthetic=test",
)
ACCEPT = {"type": "websocket.accept"}


def asgi(app, settings=CANARY):
    recorder = SpanRecorder()
    return instrument(app, settings=settings, tracer_provider=recorder.provider), recorder


async def connect(app, *incoming, path="/ws", headers=(), send=None):
    """Open one connection; `incoming` follows the handshake, then nothing. Return what the app has sent."""
    messages = [{"type": "websocket.connect"}, *incoming]
    sent = []

    async def receive():
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def keep(message):
        sent.append(message)

    scope = {**http_scope(path, headers=headers), "type": "websocket", "scheme": "ws", "subprotocols": []}
    del scope["method"]
    await app(scope, receive, send or keep)
    return sent


def sends(*messages):
    async def app(scope, receive, send):
        await receive()
        for message in messages:
            await send(message)

    return app


async def until_disconnect(scope, receive, send):
    await receive()
    await send(ACCEPT)
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def total(app, **labels):
    return sample_value(await scrape(app), "ws_connections_total", **labels)


def close(code):
    return {"type": "websocket.close", "code": code}


def start(status):
    return {"type": "websocket.http.response.start", "status": status, "headers": []}


BODY = {"type": "websocket.http.response.body", "body": b""}
PART = {"type": "websocket.http.response.body", "body": b"a", "more_body": True}


@pytest.mark.parametrize(
    ("messages", "outcome", "status"),
    [
        ([ACCEPT], "ok", 101),
        ([ACCEPT, {"type": "websocket.close"}], "ok", 101),
        ([ACCEPT, close(1000)], "ok", 101),
        ([ACCEPT, close(1001)], "ok", 101),
        ([ACCEPT, close(4001)], "ok", 101),
        ([ACCEPT, close(1008)], "rejected", 101),
        ([ACCEPT, close(1003)], "rejected", 101),
        ([ACCEPT, close(1011)], "error", 101),
        ([ACCEPT, close(1013)], "error", 101),
        ([close(1000)], "rejected", 403),
        ([start(401), PART, BODY], "rejected", 401),
        ([start(503), BODY], "error", 503),
        ([], "error", 500),
        ([start(200), PART], "error", 200),
    ],
)
async def test_how_the_app_ends_a_connection(messages, outcome, status):
    app, recorder = asgi(sends(*messages))
    for _ in range(2):
        sent = await connect(app)
        assert sent == messages
    samples = await scrape(app)
    assert sample_value(samples, "ws_connections_total") == 2
    assert sample_value(samples, "ws_connections_total", outcome=outcome, route="", version="1.2.0") == 2
    assert sample_value(samples, "ws_connection_duration_seconds_count", outcome=outcome) == 2
    assert sample_value(samples, "ws_connections_active") == 0
    assert sample_value(samples, "http_requests_total") is None
    assert sample_value(samples, "rolloutobs_internal_errors_total") == 0
    for span in recorder.server_spans:
        assert span.name == "WS"
        assert span.attributes["http.response.status_code"] == status
        is_error = span.status.status_code is StatusCode.ERROR
        assert is_error == (outcome == "error")


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (1000, "ok"),
        (1001, "ok"),
        (1005, "ok"),
        (None, "ok"),
        (4000, "ok"),
        (1006, "disconnected"),
        (1012, "disconnected"),
    ],
)
async def test_how_the_other_side_ends_a_connection(code, outcome):
    app, recorder = asgi(until_disconnect)
    for _ in range(2):
        await connect(app, {"type": "websocket.disconnect", "code": code})
    assert await total(app, outcome=outcome) == 2
    assert recorder.spans[0].attributes["rolloutobs.websocket.close_code"] == (code or 1005)
    assert recorder.spans[0].status.status_code is StatusCode.UNSET


async def test_a_client_that_leaves_during_the_handshake():
    async def waits(scope, receive, send):
        while (await receive())["type"] != "websocket.disconnect":
            pass

    app, _ = asgi(waits)
    await connect(app, {"type": "websocket.disconnect", "code": 1006})
    samples = await scrape(app)
    assert sample_value(samples, "ws_connections_total", outcome="disconnected") == 1
    assert sample_value(samples, "ws_connections_active") == 0


async def test_a_send_that_fails_because_the_client_is_gone():
    app, recorder = asgi(sends(ACCEPT, {"type": "websocket.send", "text": "a"}))

    async def gone(message):
        if message["type"] == "websocket.send":
            raise ConnectionResetError("peer is gone")

    with pytest.raises(ConnectionResetError):
        await connect(app, send=gone)
    assert await total(app, outcome="disconnected") == 1
    assert len(recorder.spans) == 1


async def test_an_exception_is_an_error_with_its_event_and_is_raised_on():
    async def breaks(scope, receive, send):
        await send(ACCEPT)
        raise RuntimeError("boom")

    app, recorder = asgi(breaks)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="boom"):
            await connect(app)
    samples = await scrape(app)
    assert sample_value(samples, "ws_connections_total", outcome="error") == 2
    assert sample_value(samples, "ws_connections_active") == 0
    assert sample_value(samples, "app_errors_total", type="RuntimeError") == 2
    for span in recorder.spans:
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == "RuntimeError"
        assert [event.name for event in span.events] == ["exception"]


async def test_a_cancelled_connection_ends():
    app, recorder = asgi(until_disconnect)
    entered = asyncio.Event()

    async def keep(message):
        entered.set()

    task = asyncio.create_task(connect(app, send=keep))
    await entered.wait()
    assert sample_value(await scrape(app), "ws_connections_active") == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    samples = await scrape(app)
    assert sample_value(samples, "ws_connections_total", outcome="disconnected") == 1
    assert sample_value(samples, "ws_connections_active") == 0
    assert sample_value(samples, "app_errors_total") is None
    assert len(recorder.spans) == 1


async def test_what_is_raised_after_the_end_is_counted_as_an_error_of_the_app_only():
    async def late(scope, receive, send):
        await until_disconnect(scope, receive, send)
        raise (WebSocketDisconnect if scope["path"] == "/told" else RuntimeError)(1006)

    app, _ = asgi(late)
    for path in ("/told", "/bug"):
        with pytest.raises((WebSocketDisconnect, RuntimeError)):
            await connect(app, {"type": "websocket.disconnect", "code": 1006}, path=path)
    samples = await scrape(app)
    assert sample_value(samples, "ws_connections_total") == 2
    assert sample_value(samples, "ws_connections_total", outcome="disconnected") == 2
    assert sample_value(samples, "app_errors_total") == 1


async def test_connections_that_overlap_do_not_mix():
    seen = {}
    gate = asyncio.Event()

    async def holds(scope, receive, send):
        await send(ACCEPT)
        seen[scope["path"]] = trace.get_current_span().get_span_context().trace_id
        if scope["path"] == "/one":
            await gate.wait()
        await send(close(1011 if scope["path"] == "/two" else 1000))

    app, recorder = asgi(holds)
    first = asyncio.create_task(connect(app, path="/one", headers=[TRACEPARENT, CALLER]))
    while "/one" not in seen:
        await asyncio.sleep(0)
    await connect(app, path="/two")
    assert sample_value(await scrape(app), "ws_connections_active") == 1
    gate.set()
    sent = await first
    assert b"server-timing" in dict(sent[0]["headers"])
    samples = await scrape(app)
    assert sample_value(samples, "ws_connections_total", outcome="ok", synthetic="true") == 1
    assert sample_value(samples, "ws_connections_total", outcome="error", synthetic="") == 1
    two, one = recorder.spans
    assert f"{one.context.trace_id:032x}" == TRACE == f"{seen['/one']:032x}"
    assert two.context.trace_id == seen["/two"]
    assert one.attributes["user_agent.synthetic.type"] == "test"
    assert one.attributes["rolloutobs.caller.version"] == "1.1.0"
    assert "rolloutobs.caller.version" not in two.attributes


def chat():
    app = FastAPI()

    @app.websocket("/ws/{room}")
    async def ws(websocket: WebSocket, room: str):
        if room == "closed":
            raise WebSocketException(1008)
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    @app.websocket("/denied")
    async def denied(websocket: WebSocket):
        from starlette.responses import PlainTextResponse

        await websocket.send_denial_response(PlainTextResponse("no", 401))

    return app


def test_routes_of_a_framework_and_one_span_each():
    app, recorder = asgi(chat())
    with TestClient(app) as client:
        for room in ("a", "b"):
            with client.websocket_connect(f"/ws/{room}") as socket:
                socket.send_text("x")
                assert socket.receive_text() == "x"
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws/closed"):
            pass
        with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/denied"):
            pass
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/none/77"):
            pass
        text = client.get("/metrics").text
    names = [(span.name, span.kind) for span in recorder.spans]
    assert [name for name, _ in names] == ["WS /ws/{room}"] * 3 + ["WS /denied", "WS"]
    assert {kind for _, kind in names} == {SpanKind.SERVER}
    first = recorder.spans[0].attributes
    assert first["network.protocol.name"] == "websocket"
    assert first["url.scheme"] == "ws"
    assert first["http.route"] == "/ws/{room}"
    assert "/none" not in text


async def test_counters_of_known_websockets_start_from_zero_and_others_have_none():
    app, _ = asgi(chat())
    samples = await scrape(app)
    for outcome in ("ok", "error"):
        assert sample_value(samples, "ws_connections_total", route="/ws/{room}", outcome=outcome) == 0
    assert sample_value(samples, "ws_connection_duration_seconds_count") is None
    other, _ = asgi(FastAPI())
    assert "ws_" not in " ".join(sample.name for sample in await scrape(other))


async def test_excluded_websockets_leave_no_trace():
    app, recorder = asgi(until_disconnect, Settings(service="s", version="1", excluded_urls=("/internal",)))
    for path in ("/healthz", "/internal/x"):
        await connect(app, {"type": "websocket.disconnect", "code": 1000}, path=path)
    assert recorder.spans == ()
    assert await total(app) is None


async def test_a_mounted_app_that_is_instrumented_too_is_counted_once():
    inner, inner_recorder = asgi(until_disconnect)

    async def passes_on(scope, receive, send):
        await inner(scope, receive, send)

    outer, recorder = asgi(passes_on)
    await connect(outer, {"type": "websocket.disconnect", "code": 1000})
    assert len(recorder.spans) == 1
    assert inner_recorder.spans == ()
    assert await total(inner) is None


async def test_telemetry_that_fails_changes_nothing():
    async def odd(scope, receive, send):
        await send(ACCEPT)
        await send({"type": "websocket.close", "code": "odd"})

    app, _ = asgi(odd)
    sent = await connect(app)
    assert sent == [ACCEPT, {"type": "websocket.close", "code": "odd"}]
    bare = []

    async def keep(message):
        bare.append(message)

    await app({"type": "websocket"}, None, keep)
    assert len(bare) == 2
    assert sample_value(await scrape(app), "rolloutobs_internal_errors_total", where="request") >= 1
