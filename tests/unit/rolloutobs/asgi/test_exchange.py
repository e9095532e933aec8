"""Requests through an instrumented app: what is counted, traced and told, and that the answer stays as it
was.
"""

import asyncio

import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException
from fastapi.responses import HTMLResponse, StreamingResponse
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY, Counter
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from rolloutobs import Settings, instrument
from rolloutobs.testing import SpanRecorder, call, http_scope, sample_value, scrape

CANARY = Settings(service="shop", version="1.2.0", track="canary")
STAMP = {"app": "shop", "version": "1.2.0", "track": "canary"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = (b"traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode())
SYNTHETIC = (b"baggage", b"synthetic=test")


class Gate:
    """Holds requests until the test opens it."""

    def __init__(self):
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    async def pass_through(self):
        self.entered.set()
        await self.open.wait()


@pytest.fixture
def recorder():
    return SpanRecorder()


def shop(recorder, gate=None, settings=CANARY):
    app = FastAPI()

    @app.get("/items/{item_id}")
    async def item(item_id: int):
        return {"id": item_id}

    @app.get("/slow/{item_id}")
    async def slow(item_id: int):
        await gate.pass_through()
        return {"id": item_id}

    @app.get("/", response_class=HTMLResponse)
    async def page():
        return "<p>shop"

    @app.get("/public", response_class=HTMLResponse)
    async def public():
        return HTMLResponse(
            "<p>shop", headers={"cache-control": "public, max-age=60", "server-timing": "db;dur=1"}
        )

    @app.get("/broken")
    async def broken():
        raise RuntimeError("boom")

    @app.get("/unavailable")
    async def unavailable():
        raise HTTPException(503)

    return instrument(app, settings=settings, tracer_provider=recorder.provider)


async def count(app, **labels):
    return sample_value(await scrape(app), "http_requests_total", **labels)


async def test_requests_are_counted_timed_and_stamped(recorder):
    app = shop(recorder)
    for number in (7, 8):
        answer = await call(app, f"/items/{number}")
        assert (answer.status, answer.body) == (200, b'{"id":%d}' % number)
    await call(app, "/items/seven")
    await call(app, "/nothing/here")
    samples = await scrape(app)
    route = {"method": "GET", "route": "/items/{item_id}", **STAMP}
    assert sample_value(samples, "http_requests_total", status="200", **route) == 2
    assert sample_value(samples, "http_requests_total", status="422", **route) == 1
    unmatched = {"method": "GET", "route": "", **STAMP}
    assert sample_value(samples, "http_requests_total", status="404", **unmatched) == 1
    durations = "http_request_duration_seconds"
    assert sample_value(samples, f"{durations}_count", status_class="2xx", **route) == 2
    assert sample_value(samples, f"{durations}_bucket", status_class="2xx", le="+Inf", **route) == 2
    assert 0 < sample_value(samples, f"{durations}_sum", status_class="2xx", **route) < 60
    assert sample_value(samples, "http_requests_in_flight", **STAMP) == 0
    assert sample_value(samples, "app_build_info", **STAMP) == 1
    assert sample_value(samples, "app_start_time_seconds", **STAMP) > 1.7e9
    assert sample_value(samples, "rolloutobs_internal_errors_total") == 0


async def test_counters_of_known_routes_start_from_zero_and_histograms_when_used(recorder):
    samples = await scrape(shop(recorder))
    for status in ("200", "500"):
        labels = {"method": "GET", "route": "/items/{item_id}", "status": status, "synthetic": ""}
        assert sample_value(samples, "http_requests_total", **labels) == 0
    assert sample_value(samples, "http_request_duration_seconds_count") is None
    assert sample_value(samples, "http_requests_total", route="/metrics") is None


async def test_requests_that_overlap_do_not_mix(recorder):
    gate = Gate()
    app = shop(recorder, gate)
    first = asyncio.create_task(call(app, "/slow/1", headers=[TRACEPARENT, SYNTHETIC]))
    await gate.entered.wait()
    assert sample_value(await scrape(app), "http_requests_in_flight") == 1
    second = asyncio.create_task(call(app, "/broken"))
    with pytest.raises(RuntimeError, match="boom"):
        await second
    assert sample_value(await scrape(app), "http_requests_in_flight") == 1
    gate.open.set()
    assert (await first).status == 200
    samples = await scrape(app)
    assert sample_value(samples, "http_requests_in_flight") == 0
    assert sample_value(samples, "http_requests_total", route="/slow/{item_id}", synthetic="true") == 1
    assert sample_value(samples, "http_requests_total", route="/broken", status="500", synthetic="") == 1
    by_name = {span.name: span for span in recorder.spans}
    assert by_name.keys() == {"GET /slow/{item_id}", "GET /broken"}
    assert f"{by_name['GET /slow/{item_id}'].context.trace_id:032x}" == TRACE
    assert by_name["GET /slow/{item_id}"].status.status_code is StatusCode.UNSET
    assert f"{by_name['GET /broken'].context.trace_id:032x}" != TRACE
    assert "user_agent.synthetic.type" not in by_name["GET /broken"].attributes


async def test_the_span_of_a_request(recorder):
    app = shop(recorder)
    caller = (
        b"baggage",
        b"rolloutobs.service=gateway,rolloutobs.version=1.1.0,rolloutobs.track=stable,synthetic=test",
    )
    await call(app, "/items/7?q=1", headers=[TRACEPARENT, caller, (b"user-agent", b"check/1")])
    await call(app, "/items/8")
    first, second = recorder.spans
    assert first.name == second.name == "GET /items/{item_id}"
    assert first.kind is second.kind is SpanKind.SERVER
    assert f"{first.context.trace_id:032x}" == TRACE
    assert dict(first.attributes) == {
        "http.request.method": "GET",
        "http.route": "/items/{item_id}",
        "http.response.status_code": 200,
        "url.path": "/items/7",
        "url.query": "q=1",
        "url.scheme": "http",
        "server.address": "shop.example",
        "server.port": 8080,
        "client.address": "10.0.0.1",
        "user_agent.original": "check/1",
        "user_agent.synthetic.type": "test",
        "network.protocol.version": "1.1",
        "app.version": "1.2.0",
        "rolloutobs.track": "canary",
        "rolloutobs.caller.service": "gateway",
        "rolloutobs.caller.version": "1.1.0",
        "rolloutobs.caller.track": "stable",
    }
    assert first.status.status_code is StatusCode.UNSET
    assert not any("caller" in name or "synthetic" in name for name in second.attributes)


async def test_an_exception_is_a_500_with_its_event_and_is_raised_on(recorder):
    app = shop(recorder)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="boom"):
            await call(app, "/broken")
    assert await count(app, route="/broken", status="500") == 2
    for span in recorder.spans:
        assert span.name == "GET /broken"
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == "RuntimeError"
        assert span.attributes["http.response.status_code"] == 500
        assert [event.name for event in span.events] == ["exception"]
        assert span.events[0].attributes["exception.message"] == "boom"


async def test_5xx_is_an_error_and_4xx_is_not(recorder):
    app = shop(recorder)
    assert (await call(app, "/unavailable")).status == 503
    assert (await call(app, "/nothing")).status == 404
    unavailable, missing = recorder.spans
    assert unavailable.status.status_code is StatusCode.ERROR
    assert unavailable.attributes["error.type"] == "503"
    assert unavailable.events == ()
    assert missing.status.status_code is StatusCode.UNSET
    assert missing.name == "GET"
    assert "http.route" not in missing.attributes
    assert "error.type" not in missing.attributes


async def test_unknown_methods_are_other(recorder):
    app = shop(recorder)
    for method in ("BREW", "get"):
        assert (await call(app, "/items/7", method)).status == 405
    assert await count(app, method="_OTHER", route="/items/{item_id}", status="405") == 2
    assert [span.name for span in recorder.spans] == ["HTTP /items/{item_id}"] * 2
    assert recorder.spans[0].attributes["http.request.method_original"] == "BREW"


async def test_html_tells_who_answered_and_json_does_not(recorder):
    app = shop(recorder)
    for _ in range(2):
        page = await call(app, "/")
        span = recorder.spans[-1].context
        assert page.header("server-timing") == (
            'version;desc="1.2.0", track;desc="canary", '
            f'traceparent;desc="00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"'
        )
        assert page.body == b"<p>shop"
    assert (await call(app, "/items/7")).header("server-timing") is None
    assert (await call(app, "/public")).header("server-timing") == "db;dur=1"


async def test_a_page_s_own_script_learns_who_answers_it(recorder):
    app = shop(recorder)
    asked = [(b"sec-fetch-dest", b"empty"), (b"sec-fetch-site", b"same-origin")]
    for _ in range(2):
        answer = await call(app, "/items/7", headers=asked)
        assert answer.header("server-timing").startswith('version;desc="1.2.0", track;desc="canary"')
    # A picture, another site's script, and what a shared cache may keep.
    for headers in (asked[1:], [(b"sec-fetch-dest", b"empty"), (b"sec-fetch-site", b"cross-site")]):
        assert (await call(app, "/items/7", headers=headers)).header("server-timing") is None
    assert (await call(app, "/public", headers=asked)).header("server-timing") == "db;dur=1"


async def test_synthetic_traffic_is_always_told_and_kept_apart(recorder):
    app = shop(recorder)
    for path in ("/items/7", "/public", "/nothing"):
        answer = await call(app, path, headers=[TRACEPARENT, SYNTHETIC])
        assert 'version;desc="1.2.0", track;desc="canary"' in answer.header("server-timing")
        assert TRACE in answer.header("server-timing")
    await call(app, "/items/7")
    assert await count(app, route="/items/{item_id}", status="200", synthetic="true") == 1
    assert await count(app, route="/items/{item_id}", status="200", synthetic="") == 1


async def test_server_timing_can_be_turned_off(recorder):
    app = shop(recorder, settings=Settings(service="shop", version="1", server_timing=False))
    assert (await call(app, "/", headers=[SYNTHETIC])).header("server-timing") is None


async def test_unsampled_requests_are_counted_and_told_their_trace():
    recorder = SpanRecorder(ALWAYS_OFF)
    app = shop(recorder)
    page = await call(app, "/")
    assert 'traceparent;desc="00-' in page.header("server-timing")
    assert (await call(app, "/")).header("server-timing") != page.header("server-timing")
    assert recorder.spans == ()
    assert await count(app, route="/", status="200") == 2


async def test_without_a_provider_everything_else_works():
    app = instrument(FastAPI(), settings=CANARY)
    assert (await call(app, "/docs")).header("server-timing") == 'version;desc="1.2.0", track;desc="canary"'
    assert (await call(app, "/docs", headers=[TRACEPARENT])).status == 200
    assert await count(app, route="/docs", status="200") == 2


async def test_health_checks_leave_no_trace(recorder):
    app = shop(recorder)
    for path in ("/healthz", "/readyz", "/livez", "/metrics"):
        for _ in range(2):
            await call(app, path)
    assert recorder.spans == ()
    samples = await scrape(app)
    assert sample_value(samples, "http_requests_total", status="404") is None
    proxied = await call(app, "/proxy/healthz", root_path="/proxy")
    assert proxied.status == 404
    assert recorder.spans == ()


async def test_the_apps_own_metrics_are_stamped_too(recorder):
    completed = Counter("checkouts_completed", "Orders.", ["plan"])
    try:
        completed.labels("gold").inc()
        samples = await scrape(shop(recorder))
    finally:
        REGISTRY.unregister(completed)
    assert sample_value(samples, "checkouts_completed_total", plan="gold", **STAMP) == 1
    (python,) = [sample for sample in samples if sample.name == "python_info"]
    assert python.labels["version"].startswith("3.")
    assert python.labels["app"] == "shop"


async def test_metrics_answers_get_and_head_by_accept_and_passes_the_rest_on(recorder):
    app = shop(recorder)
    accept = (b"accept", b"application/openmetrics-text; version=1.0.0")
    answer = await call(app, "/metrics", headers=[accept])
    assert answer.header("content-type") == (
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
    )
    assert answer.body.endswith(b"# EOF\n")
    assert int(answer.header("content-length")) == len(answer.body)
    head = await call(app, "/metrics", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.header("content-length")) > 1000
    assert (await call(app, "/metrics", "POST")).status == 404
    assert (await call(app, "/proxy/metrics", root_path="/proxy")).status == 200


@pytest.mark.parametrize(
    "accept", [b"application/openmetrics-text; version=abc", b"\xff", b"text/plain;version=x.y"]
)
async def test_an_accept_header_that_makes_no_sense_gets_an_answer(recorder, accept):
    answer = await call(shop(recorder), "/metrics", headers=[(b"accept", accept)])
    assert answer.status == 200
    assert b"app_build_info" in answer.body


async def test_metrics_can_be_elsewhere_or_nowhere(recorder):
    nowhere = shop(recorder, settings=Settings(service="s", version="1", metrics_path=None))
    assert (await call(nowhere, "/metrics")).status == 404
    elsewhere = shop(recorder, settings=Settings(service="s", version="1", metrics_path="/internal/m"))
    assert sample_value(await scrape(elsewhere, "/internal/m"), "app_build_info") == 1


async def test_a_broken_collector_of_the_app_costs_only_its_own_metrics(recorder):
    class Broken:
        def collect(self):
            raise RuntimeError("database is down")

        def describe(self):
            return []

    broken = Broken()
    REGISTRY.register(broken)
    try:
        app = shop(recorder)
        await scrape(app)
        samples = await scrape(app)
    finally:
        REGISTRY.unregister(broken)
    assert sample_value(samples, "app_build_info") == 1
    assert sample_value(samples, "python_info", app="shop") == 1
    assert sample_value(samples, "rolloutobs_internal_errors_total", where="metrics") == 2


async def test_a_stream_is_timed_to_its_end_and_background_tasks_are_not(recorder):
    app, gate = FastAPI(), Gate()
    background = Gate()

    @app.get("/stream")
    async def stream():
        async def chunks():
            yield b"a"
            await gate.pass_through()
            yield b"b"

        return StreamingResponse(chunks())

    @app.get("/later")
    async def later(tasks: BackgroundTasks):
        tasks.add_task(background.pass_through)
        return "ok"

    instrument(app, settings=CANARY, tracer_provider=recorder.provider)

    # uvicorn's receive waits for the disconnect; one that reports it at once would cancel the stream.
    async def waiting():
        await asyncio.Event().wait()

    sent = []

    async def send(message):
        sent.append(message)

    streaming = asyncio.create_task(app(http_scope("/stream"), waiting, send))
    await gate.entered.wait()
    samples = await scrape(app)
    assert sample_value(samples, "http_requests_in_flight") == 1
    assert sample_value(samples, "http_requests_total", route="/stream", status="200") == 0
    assert recorder.spans == ()
    gate.open.set()
    await streaming
    assert b"".join(message.get("body", b"") for message in sent) == b"ab"
    assert await count(app, route="/stream", status="200") == 1

    serving = asyncio.create_task(call(app, "/later"))
    await background.entered.wait()
    samples = await scrape(app)
    assert sample_value(samples, "http_requests_in_flight") == 0
    assert sample_value(samples, "http_requests_total", route="/later", status="200") == 1
    assert [span.name for span in recorder.spans] == ["GET /stream", "GET /later"]
    background.open.set()
    assert (await serving).body == b'"ok"'
    assert len(recorder.spans) == 2


def asgi(handler):
    """Return an instrumented bare ASGI app, and the recorder of its spans."""
    recorder = SpanRecorder()
    return instrument(handler, settings=CANARY, tracer_provider=recorder.provider), recorder


START = {"type": "http.response.start", "status": 200, "headers": []}


async def until_disconnect(scope, receive, send):
    await send(START)
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def test_a_client_that_leaves_early_is_a_499():
    app, recorder = asgi(until_disconnect)
    for _ in range(2):
        assert (await call(app, leaves=True)).status == 200
    assert await count(app, status="499", route="") == 2
    assert await count(app, status="200") is None
    assert recorder.spans[0].status.status_code is StatusCode.UNSET
    assert recorder.spans[0].attributes["http.response.status_code"] == 200


async def test_a_send_that_fails_because_the_client_is_gone_is_a_499():
    app, recorder = asgi(until_disconnect)

    async def gone(message):
        raise ConnectionResetError("peer is gone")

    async def never():
        await asyncio.Event().wait()

    with pytest.raises(ConnectionResetError):
        await app(http_scope(), never, gone)
    assert await count(app, status="499") == 1
    assert recorder.spans[0].status.status_code is StatusCode.UNSET
    assert [event.name for event in recorder.spans[0].events] == ["exception"]


async def test_a_disconnect_after_the_answer_is_no_499():
    async def reads_on(scope, receive, send):
        await send(START)
        await send({"type": "http.response.body"})
        while (await receive())["type"] != "http.disconnect":
            pass

    app, _ = asgi(reads_on)
    await call(app)
    assert await count(app, status="200") == 1


async def test_a_disconnect_while_the_last_message_is_taken_is_no_499():
    taken = asyncio.Event()

    async def app(scope, receive, send):
        await send(START)
        last = asyncio.create_task(send({"type": "http.response.body"}))
        assert (await receive())["type"] == "http.disconnect"
        if scope["path"] == "/waits":
            taken.set()
            await last
        else:
            # As Starlette's task group does with a stream.
            last.cancel()
            await asyncio.wait([last])

    async def receive():
        await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.body":
            await taken.wait()

    served, recorder = asgi(app)
    await served(http_scope("/cancels"), receive, send)
    await served(http_scope("/waits"), receive, send)
    assert await count(served, status="200") == 2
    assert await count(served, status="499") is None
    assert [span.status.status_code for span in recorder.spans] == [StatusCode.UNSET] * 2


async def test_a_slow_answer_to_a_client_nobody_asked_about_is_a_200(recorder):
    gate = Gate()
    app = shop(recorder, gate)
    task = asyncio.create_task(call(app, "/slow/1"))
    await gate.entered.wait()
    gate.open.set()
    await task
    assert await count(app, route="/slow/{item_id}", status="200") == 1


async def test_an_answer_that_is_not_given_or_not_finished_is_a_500():
    async def silent(scope, receive, send):
        return None

    async def half(scope, receive, send):
        await send(START)
        await send({"type": "http.response.body", "body": b"a", "more_body": True})

    for handler, sent in ((silent, 500), (half, 200)):
        app, recorder = asgi(handler)
        await call(app)
        assert await count(app, status="500") == 1
        assert recorder.spans[0].status.status_code is StatusCode.ERROR
        assert recorder.spans[0].attributes["http.response.status_code"] == sent
        assert recorder.spans[0].attributes["error.type"] == "500"


async def test_an_exception_in_the_middle_of_a_stream_is_a_500():
    async def breaks(scope, receive, send):
        await send(START)
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise ValueError("cut")

    app, recorder = asgi(breaks)
    with pytest.raises(ValueError, match="cut"):
        await call(app)
    assert await count(app, status="500") == 1
    span = recorder.spans[0]
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["error.type"] == "ValueError"
    assert [event.name for event in span.events] == ["exception"]


async def test_a_cancelled_request_is_a_500_and_ends_everything():
    gate = Gate()

    async def waits(scope, receive, send):
        await gate.pass_through()

    app, recorder = asgi(waits)
    task = asyncio.create_task(call(app))
    await gate.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    samples = await scrape(app)
    assert sample_value(samples, "http_requests_total", status="500") == 1
    assert sample_value(samples, "http_requests_in_flight") == 0
    assert len(recorder.spans) == 1


ENDINGS = {
    "pathsend": [START, {"type": "http.response.pathsend", "path": "/x"}],
    "zerocopy": [
        START,
        {"type": "http.response.zerocopysend", "file": 1, "more_body": True},
        {"type": "http.response.zerocopysend", "file": 1},
    ],
    "trailers": [
        START | {"trailers": True},
        {"type": "http.response.body"},
        {"type": "http.response.trailers", "headers": [], "more_trailers": True},
        {"type": "http.response.trailers", "headers": []},
    ],
}


@pytest.mark.parametrize("messages", ENDINGS.values(), ids=ENDINGS.keys())
async def test_extensions_end_the_answer_too(messages, recorder):
    ended = []

    async def handler(scope, receive, send):
        for message in messages:
            ended.append(len(recorder.spans))
            await send(message)
        ended.append(len(recorder.spans))

    app = instrument(handler, settings=CANARY, tracer_provider=recorder.provider)
    answer = await call(app)
    assert list(answer.messages) == messages
    assert ended == [0] * len(messages) + [1]


async def test_messages_reach_the_server_as_the_app_made_them(recorder):
    async def odd(scope, receive, send):
        headers = ((name, b"1") for name in (b"x-a", b"x-b"))
        await send({"type": "http.response.start", "status": 200, "headers": headers, "extra": 1})
        await send({"type": "http.response.body", "body": b"ok"})

    app, _ = asgi(odd)
    for _ in range(2):
        answer = await call(app)
        assert answer.headers == ((b"x-a", b"1"), (b"x-b", b"1"))
        assert answer.messages[0]["extra"] == 1
    assert sample_value(await scrape(app), "rolloutobs_internal_errors_total") == 0


class Refuses(Sampler):
    def should_sample(self, *args, **kwargs):
        raise RuntimeError("sampler is broken")

    def get_description(self):
        return "Refuses"


async def test_a_sampler_that_raises_costs_spans_only(caplog):
    app = shop(SpanRecorder(Refuses()))
    for _ in range(3):
        assert (await call(app, "/items/7")).body == b'{"id":7}'
    samples = await scrape(app)
    assert sample_value(samples, "http_requests_total", route="/items/{item_id}", status="200") == 3
    assert sample_value(samples, "http_requests_in_flight") == 0
    assert sample_value(samples, "rolloutobs_internal_errors_total", where="request") == 3
    assert len([r for r in caplog.records if "sampler is broken" in r.getMessage()]) == 1


BREAKS = {
    "headers": {"headers": [(b"only-a-name",)]},
    "no headers": {"headers": None},
    "bytes that are not UTF-8": {
        "headers": [(b"\xff", b"\xfe"), (b"baggage", b"\xff=\xff"), (b"traceparent", b"\xff")]
    },
    "query": {"query_string": b"\xff\xfe=%ff"},
    "path": {"path": "/items/\udcff"},
    "client": {"client": None, "server": None},
}


@pytest.mark.parametrize("changes", BREAKS.values(), ids=BREAKS.keys())
async def test_odd_scopes_are_answered_as_by_the_bare_app(changes, recorder):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": b"ok"})

    wrapped = instrument(app, settings=CANARY, tracer_provider=recorder.provider)
    messages = []

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        messages.append(message)

    for _ in range(2):
        await wrapped({**http_scope(), **changes}, receive, send)
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"] * 2
    assert await count(wrapped, status="200") == 2


async def test_a_scope_without_the_required_keys_reaches_the_app(recorder):
    seen = []

    async def app(scope, receive, send):
        seen.append(dict(scope))

    wrapped = instrument(app, settings=CANARY, tracer_provider=recorder.provider)
    await wrapped({"type": "http"}, None, None)
    await wrapped({"type": "http", "path": "/"}, None, None)
    assert [scope["type"] for scope in seen] == ["http", "http"]
    assert sample_value(await scrape(wrapped), "rolloutobs_internal_errors_total") == 2


async def test_messages_without_their_keys_are_the_servers_business(recorder):
    async def app(scope, receive, send):
        await send({"type": "http.response.start"})
        await send({"type": "http.response.body"})

    wrapped = instrument(app, settings=CANARY, tracer_provider=recorder.provider)
    answered = []

    async def send(message):
        answered.append(message)

    await wrapped(http_scope(), None, send)
    assert len(answered) == 2


async def test_label_sets_are_capped(recorder):
    async def any_status(scope, receive, send):
        await send(START | {"status": 200 + int(scope["path"][1:])})
        await send({"type": "http.response.body"})

    settings = Settings(service="s", version="1", max_label_sets=5)
    app = instrument(any_status, settings=settings, tracer_provider=recorder.provider)
    for number in range(20):
        await call(app, f"/{number}")
    samples = await scrape(app)
    assert sample_value(samples, "http_requests_total") == 20
    assert sample_value(samples, "http_requests_total", status="_overflow") == 15
    assert sample_value(samples, "rolloutobs_label_sets_dropped_total", metric="http_requests_total") > 0
    assert len(app._rolloutobs.pairs) <= 10


async def test_inside_of_the_app_the_span_is_current_and_outside_it_is_not(recorder):
    seen = []

    async def handler(request):
        seen.append(trace.get_current_span().get_span_context())
        with recorder.provider.get_tracer("t").start_as_current_span("child"):
            return JSONResponse({})

    app = Starlette(routes=[Route("/", handler)])
    app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))
    instrument(app, settings=CANARY, tracer_provider=recorder.provider)
    for _ in range(2):
        await call(app)
    assert not trace.get_current_span().get_span_context().is_valid
    assert [span.name for span in recorder.spans] == ["child", "GET /", "child", "GET /"]
    for child, server, context in zip(recorder.spans[::2], recorder.spans[1::2], seen, strict=True):
        assert child.parent.span_id == server.context.span_id == context.span_id
        assert child.attributes == {"app.version": "1.2.0", "rolloutobs.track": "canary"}


async def test_statuses_that_are_enums_are_numbers(recorder):
    from http import HTTPStatus

    async def handler(scope, receive, send):
        await PlainTextResponse("x", status_code=HTTPStatus.IM_A_TEAPOT)(scope, receive, send)

    app = instrument(handler, settings=CANARY, tracer_provider=recorder.provider)
    await call(app)
    assert await count(app, status="418") == 1
    assert recorder.spans[0].attributes["http.response.status_code"] == 418
