"""Thousands of requests at once, in an order that chance decides: counts are exact, contexts stay apart."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from opentelemetry import baggage, trace
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, TraceIdRatioBased
from opentelemetry.trace import SpanKind

from rolloutobs import Settings, instrument, operation
from rolloutobs.operations import set_outcome
from rolloutobs.telemetry import hub
from rolloutobs.telemetry.callers import caller_of
from rolloutobs.testing import call, http_scope, wsgi_environ
from tests.faults.watching import failures, total

REQUESTS = 200_000
AT_ONCE = 100
SHOP = Settings(service="shop", version="1")


class Spans(SpanProcessor):
    """Which spans have begun and ended, by what they belong to."""

    def __init__(self):
        self.begun, self.ended, self.kinds = Counter(), Counter(), Counter()
        self.lock = threading.Lock()

    def on_start(self, span, parent_context=None):
        with self.lock:
            self.begun[span.context.span_id] += 1

    def on_end(self, span):
        with self.lock:
            self.ended[span.context.span_id] += 1
            self.kinds[span.kind] += 1

    def check(self, servers=None):
        assert self.begun == self.ended
        assert set(self.ended.values()) <= {1}
        if servers is not None:
            assert self.kinds[SpanKind.SERVER] == servers


@pytest.fixture
def spans():
    return Spans()


@pytest.fixture(params=[1.0, 0.3], ids=["all", "sampled"])
def provider(request, spans):
    sampler = ALWAYS_ON if request.param == 1.0 else TraceIdRatioBased(request.param)
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(spans)
    return provider


def identify(number):
    """Return headers by which request `number` is known, and the trace id in them."""
    trace_id = (number + 1) << 70 | random.Random(number).getrandbits(64)
    headers = [
        (b"traceparent", b"00-%032x-%016x-01" % (trace_id, number + 1)),
        (b"baggage", b"n=%d,rolloutobs.service=s%d,rolloutobs.version=1" % (number, number % 50)),
    ]
    return headers, trace_id


class Leaks:
    """Where a request was in the context of another one."""

    def __init__(self):
        self.found = []

    def look(self, number, trace_id):
        context = trace.get_current_span().get_span_context()
        caller = caller_of(get_current())
        seen = (context.trace_id, baggage.get_baggage("n"), caller and caller.service)
        if seen != (trace_id, str(number), f"s{number % 50}"):
            self.found.append((number, seen))


async def pause(chance):
    for _ in range(chance.randrange(4)):
        await asyncio.sleep(0)


def shop(leaks, provider, expected):
    app = FastAPI()

    @app.get("/{kind}/{number}")
    async def serve(kind: str, number: int):
        chance, trace_id = random.Random(number), identify(number)[1]

        async def part():
            await pause(chance)
            leaks.look(number, trace_id)

        await part()
        if kind == "nested":
            async with operation("task", "nested"), asyncio.TaskGroup() as group:
                group.create_task(part())
                group.create_task(part())
        elif kind == "inner":
            # Another instrumented app, in the same process and task.
            await call(other, f"/plain/{number}", headers=identify(number)[0])
            expected["other"] += 1
        elif kind == "logs":
            logging.getLogger("interleaved").warning("request %d", number)
        elif kind == "error":
            raise HTTPException(503)
        elif kind == "raises":
            raise LookupError(number)
        leaks.look(number, trace_id)

        async def stream():
            for _ in range(3):
                await part()
                yield b"x"

        return StreamingResponse(stream()) if kind == "stream" else {"number": number}

    other = FastAPI()

    @other.get("/plain/{number}")
    async def plain(number: int):
        await pause(random.Random(number))
        leaks.look(number, identify(number)[1])
        return number

    settings = Settings(service="other", version="2")
    app = instrument(app, settings=SHOP, tracer_provider=provider)
    other = instrument(other, settings=settings, tracer_provider=provider)
    return app, other


KINDS = ("plain", "nested", "inner", "logs", "error", "raises", "stream", "cancelled", "leaves")


async def ask(app, number, expected):
    """Send request `number`; count what has to be counted for it."""
    chance = random.Random(number * 7 + 1)
    kind = chance.choice(KINDS)
    headers, _ = identify(number)
    path = "plain" if kind in ("cancelled", "leaves") else kind
    before = get_current()
    if kind == "cancelled":
        task = asyncio.create_task(call(app, f"/{path}/{number}", headers=headers))
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        task.cancel()
        try:
            status = (await task).status
        except asyncio.CancelledError:
            status = None
        # One that had not begun is no request; one that was cut off is an error.
        expected["cancelled"] += status is None
        expected[status] += status is not None
    elif kind == "leaves":
        status = await leave(app, f"/{path}/{number}", headers)
        expected[status] += 1
    else:
        try:
            status = (await call(app, f"/{path}/{number}", headers=headers)).status
        except LookupError:
            status = 500
        expected[status] += 1
    assert get_current() is before


async def leave(app, path, headers):
    """Send a request, and be gone when the answer comes."""

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await app(http_scope(path, "GET", headers), receive, send)
    return 499


async def test_requests_of_an_event_loop(scaled, spans, provider):
    leaks, expected = Leaks(), Counter()
    app, other = shop(leaks, provider, expected)
    numbers = iter(range(scaled(REQUESTS)))

    async def client():
        for number in numbers:
            await ask(app, number, expected)

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    assert leaks.found == []
    assert failures() == {}
    of_app = app._rolloutobs.hub
    counted = statuses(of_app)
    cut_off = counted["500"] - expected[500]
    assert 0 <= cut_off <= expected["cancelled"]
    assert {status: counted[str(status)] for status in (200, 503, 499)} == {
        status: expected[status] for status in (200, 503, 499)
    }
    assert statuses(other._rolloutobs.hub) == {"200": expected["other"]}
    assert total("http_requests_in_flight") == 0
    assert total("http_request_duration_seconds") == sum(counted.values()) + expected["other"]
    operations = total("app_operations_total", name="nested")
    assert operations > 0
    spans.check()
    # Each request has a span, those of the app inside and the operations as parts of the one around them.
    sampled = spans.kinds[SpanKind.SERVER] + spans.kinds[SpanKind.INTERNAL]
    if provider.sampler is ALWAYS_ON:
        assert sampled == sum(counted.values()) + expected["other"] + operations
    else:
        assert 0 < sampled < sum(counted.values())


def statuses(of_app):
    found = Counter()
    for family in of_app.store.families(of_app.book):
        if family.name == "http_requests_total":
            for values, cell in family.items():
                found[values[family.label_names.index("status")]] += int(cell.value)
    return +found


def flask_like(leaks):
    """Return a WSGI app whose body is computed while the server takes it."""

    def app(environ, start_response):
        number = int(environ["PATH_INFO"].rpartition("/")[2])
        trace_id = identify(number)[1]
        leaks.look(number, trace_id)
        if number % 11 == 0:
            raise LookupError(number)
        start_response("200 OK" if number % 7 else "503 No", [("content-type", "text/html")])

        def parts():
            for _ in range(number % 4):
                leaks.look(number, trace_id)
                yield b"x"
            with operation("job", "late"):
                leaks.look(number, trace_id)

        return parts() if number % 3 else [b"a", b"b"]

    return app


def test_requests_of_threads(scaled, spans, provider):
    """Each thread has several answers open, and takes their parts in turn."""
    leaks, expected, lock = Leaks(), Counter(), threading.Lock()
    app = instrument(flask_like(leaks), settings=SHOP, tracer_provider=provider)
    numbers = iter(range(scaled(REQUESTS)))

    def begin(number):
        headers, _ = identify(number)
        chance, status = random.Random(number), []
        try:
            result = app(wsgi_environ(f"/{number}", "GET", headers), lambda s, h, e=None: status.append(s))
        except LookupError:
            return None, "500"
        told = status[0][:3] if status else "200"
        return (iter(result), result, chance), told

    def client(_):
        mine, answers, chance = Counter(), [], random.Random(_)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None and not answers:
                break
            if number is not None:
                opened, status = begin(number)
                if opened is None:
                    mine[status] += 1
                else:
                    answers.append((opened, status))
            while answers and (number is None or len(answers) > 3):
                at = chance.randrange(len(answers))
                (parts, result, fate), status = answers[at]
                if fate.random() < 0.1:
                    del answers[at]
                    result.close()
                    mine["499"] += 1
                    continue
                try:
                    next(parts)
                except StopIteration:
                    del answers[at]
                    result.close()
                    mine[status] += 1
        return mine

    with ThreadPoolExecutor(8) as pool:
        for mine in pool.map(client, range(8)):
            expected.update(mine)
    assert leaks.found == []
    assert failures() == {}
    assert statuses(app._rolloutobs.hub) == expected
    assert total("http_requests_in_flight") == 0
    assert total("http_request_duration_seconds") == sum(expected.values())
    spans.check()


def test_operations_of_threads_and_tasks(scaled, spans, provider):
    """One object, used by threads and tasks at once, and inside of itself."""
    of_process = hub.process()
    of_process.tracer_provider = provider
    shared = operation("task", "shared")
    rounds = scaled(REQUESTS) // 8

    def sync(seed):
        chance, ran = random.Random(seed), 0
        for _ in range(rounds // 4):
            ran += 1
            with shared as run:
                if chance.random() < 0.3:
                    ran += 1
                    with shared:
                        set_outcome("rejected")
                if chance.random() < 0.5:
                    run.outcome = "retry"
        return ran

    async def one(chance):
        async with shared as run:
            await pause(chance)
            inside = chance.random() < 0.5
            if inside:
                async with shared:
                    await pause(chance)
            run.outcome = "cancelled"
        return 1 + inside

    def looped(seed):
        async def run():
            chance = random.Random(seed)
            return sum(await asyncio.gather(*(one(chance) for _ in range(rounds // 4))))

        return asyncio.run(run())

    with ThreadPoolExecutor(8) as pool:
        ran = sum(pool.map(lambda seed: (sync if seed % 2 else looped)(seed), range(8)))
    counted = total("app_operations_total", name="shared")
    assert counted == ran
    assert total("app_operations_total", name="shared", outcome="cancelled") == 4 * (rounds // 4)
    assert total("app_operation_duration_seconds", name="shared") == counted
    assert shared._open == {}
    assert failures() == {}
    spans.check()
    if provider.sampler is ALWAYS_ON:
        assert sum(spans.ended.values()) == counted
