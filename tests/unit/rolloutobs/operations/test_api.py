"""`operation` as a context manager and as a decorator, alone and many at once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import subprocess
import sys
import threading
from contextvars import copy_context

import pytest
from inline_snapshot import snapshot
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace import sampling
from opentelemetry.trace import SpanKind, StatusCode

from rolloutobs import Settings, operation
from rolloutobs.errors import ConfigurationError
from rolloutobs.operations import Outcome, set_outcome
from rolloutobs.telemetry import hub
from rolloutobs.telemetry.current import current
from rolloutobs.testing import SpanRecorder, call, sample_value
from tests.unit.rolloutobs.operations.conftest import failures, operations, outcomes, samples, timed

CARRIER = {
    "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    "baggage": "rolloutobs.service=gateway,rolloutobs.version=1.1.0%2B5,rolloutobs.track=stable,tenant=a%20b",
}


def test_a_block_is_counted_timed_and_traced(recorded: SpanRecorder) -> None:
    for _ in range(2):
        with operation("task", "send_invoice", attributes={"invoice.id": 7}) as op:
            op.span.add_event("sent")
    assert outcomes("task", "send_invoice") == {"ok": 2.0}
    assert timed("task", "send_invoice") == 2.0
    assert operations(kind="task", name="send_invoice", outcome="error") == 0.0, "errors start from zero"
    span = recorded.spans[-1]
    assert (span.name, span.kind, span.parent) == ("send_invoice", SpanKind.CONSUMER, None)
    assert dict(span.attributes or {}) == snapshot(
        {"invoice.id": 7, "app.version": "1.2.0", "rolloutobs.track": "canary"}
    )
    assert [event.name for event in span.events] == ["sent"]
    assert span.status.status_code is StatusCode.UNSET
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "rolloutobs"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("grpc", SpanKind.SERVER),
        ("task", SpanKind.CONSUMER),
        ("consumer", SpanKind.CONSUMER),
        ("job", SpanKind.INTERNAL),
    ],
)
def test_the_kind_of_the_span(recorded: SpanRecorder, kind: str, expected: SpanKind) -> None:
    with operation(kind, "x"):
        pass
    assert recorded.spans[-1].kind is expected


def test_an_exception_is_an_error_and_goes_on_its_way(recorded: SpanRecorder) -> None:
    with pytest.raises(LookupError), operation("job", "nightly"):
        raise LookupError("no such row")
    assert outcomes("job", "nightly") == {"error": 1.0}
    span = recorded.spans[-1]
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "LookupError"
    (event,) = span.events
    assert (event.attributes or {})["exception.message"] == "no such row"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (KeyboardInterrupt(), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (concurrent.futures.CancelledError(), "cancelled"),
        (type("Cancelled", (BaseException,), {"__module__": "trio._core._exceptions"})(), "cancelled"),
        (SystemExit(), "ok"),
        (SystemExit(0), "ok"),
        (SystemExit(3), "error"),
        (SystemExit("bad"), "error"),
        (TimeoutError(), "error"),
    ],
)
def test_what_an_exception_means(recorded: SpanRecorder, error: BaseException, outcome: str) -> None:
    with pytest.raises(type(error)), operation("job", "nightly"):
        raise error
    assert outcomes("job", "nightly") == {outcome: 1.0}


def test_the_code_has_the_last_word_about_the_outcome(recorded: SpanRecorder) -> None:
    def reject() -> None:
        with operation("consumer", "invoices") as op:
            op.outcome = Outcome.REJECTED
            raise ValueError("not an invoice")

    with pytest.raises(ValueError, match="not an invoice"):
        reject()
    assert outcomes("consumer", "invoices") == {"rejected": 1.0}
    assert recorded.spans[-1].status.status_code is StatusCode.UNSET
    assert [event.name for event in recorded.spans[-1].events] == ["exception"]
    with operation("consumer", "invoices") as op:
        op.outcome = "error"
    assert outcomes("consumer", "invoices") == {"rejected": 1.0, "error": 1.0}
    assert (recorded.spans[-1].attributes or {})["error.type"] == "_OTHER"


def test_an_unknown_outcome_breaks_nothing_and_is_counted() -> None:
    made = hub.new_hub(Settings(service="worker", version="1.2.0", track="canary"))
    with operation("task", "x") as op:
        op.outcome = "fine"
        assert op.outcome is None
    assert outcomes("task", "x") == {"ok": 1.0}
    assert failures() == {"operation": 1.0}
    assert made is hub.process()


def test_a_function_many_times(recorded: SpanRecorder) -> None:
    @operation("task", "add")
    def add(a: int, b: int = 1) -> int:
        """Add."""
        if a < 0:
            set_outcome("rejected")
        return a + b

    assert (add(1), add(2, b=3), add(-1)) == (2, 5, 0)
    assert (add.__name__, add.__doc__) == ("add", "Add.")
    assert outcomes("task", "add") == {"ok": 2.0, "rejected": 1.0}
    set_outcome("rejected")  # Outside of an operation: nothing.


async def test_a_coroutine_function_ends_when_it_does(recorded: SpanRecorder) -> None:
    release = asyncio.Event()

    @operation("task", "wait")
    async def wait() -> str:
        await release.wait()
        return trace.get_current_span().get_span_context().span_id.to_bytes(8).hex()

    tasks = [asyncio.create_task(wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert outcomes("task", "wait") == {}
    tasks[1].cancel()
    release.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[1], asyncio.CancelledError)
    assert outcomes("task", "wait") == {"ok": 2.0, "cancelled": 1.0}
    ids = {span.context.span_id.to_bytes(8).hex() for span in recorded.spans if span.context}
    assert {found[0], found[2]} <= ids
    assert found[0] != found[2]


async def test_objects_whose_calls_are_coroutines_and_partials(recorded: SpanRecorder) -> None:
    class Handler:
        async def __call__(self, n: int) -> int:
            await asyncio.sleep(0)
            return n

    async def add(a: int, b: int) -> int:
        return a + b

    assert await operation("task", "object")(Handler())(3) == 3
    assert await operation("task", "partial")(functools.partial(add, 1))(2) == 3
    assert outcomes("task", "object") == outcomes("task", "partial") == {"ok": 1.0}


def test_methods(recorded: SpanRecorder) -> None:
    class Mailer:
        @operation("task", "send")
        def send(self, to: str) -> str:
            return f"{type(self).__name__} to {to}"

        @classmethod
        @operation("task", "make")
        def make(cls) -> Mailer:
            return cls()

        @staticmethod
        @operation("task", "static")
        def static() -> int:
            return 1

    assert Mailer.make().send("a") == "Mailer to a"
    assert Mailer.static() == 1
    assert outcomes("task", "send") == outcomes("task", "make") == outcomes("task", "static") == {"ok": 1.0}


def test_what_cannot_be_decorated() -> None:
    def numbers():
        yield 1

    async def async_numbers():
        yield 1

    for function in (numbers, async_numbers):
        with pytest.raises(ConfigurationError, match="generator function"):
            operation("task", "x")(function)
    with pytest.raises(ConfigurationError, match="@classmethod above it"):
        operation("task", "x")(classmethod(lambda cls: None))  # type: ignore[type-var]


def test_bad_words_are_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="kind is 'tsak'; use one of 'grpc', 'task'"):
        operation("tsak", "x")
    with pytest.raises(ConfigurationError, match="name is ''"):
        operation("task", "")


def test_one_object_nested_in_itself(recorded: SpanRecorder) -> None:
    op = operation("task", "walk")

    def walk(depth: int) -> None:
        with op as run:
            if depth:
                walk(depth - 1)
            else:
                run.outcome = "rejected"

    walk(2)
    walk(0)
    assert outcomes("task", "walk") == {"ok": 2.0, "rejected": 2.0}
    inner, middle, outer, _ = recorded.spans
    assert outer.parent is None
    assert middle.parent == outer.context
    assert inner.parent == middle.context


async def test_one_object_in_tasks_that_overlap(recorded: SpanRecorder) -> None:
    op = operation("task", "shared")
    inside = asyncio.Barrier(3)

    async def work(outcome: str) -> None:
        async with op as run:
            await inside.wait()
            run.outcome = outcome
            if outcome == "ok":
                # It leaves first, though it has entered last or in the middle.
                return
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for outcome in ("rejected", "ok", "retry"):
            group.create_task(work(outcome))
    assert outcomes("task", "shared") == {"ok": 1.0, "rejected": 1.0, "retry": 1.0}
    assert len({span.context.trace_id for span in recorded.spans if span.context}) == 3


def test_one_object_in_threads_that_overlap(recorded: SpanRecorder) -> None:
    op = operation("task", "threads")
    inside = threading.Barrier(4, timeout=30)

    @op
    def work() -> None:
        inside.wait()

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: work(), range(8)))
    assert outcomes("task", "threads") == {"ok": 8.0}
    assert timed("task", "threads") == 8.0


def test_a_block_that_is_left_in_another_context_counts_all_the_same() -> None:
    hub.new_hub(Settings(service="worker", version="1.2.0", track="canary"))
    op = operation("task", "torn")
    copy_context().run(op.__enter__)
    op.__exit__(None, None, None)
    assert outcomes("task", "torn") == {"ok": 1.0}
    # Not lost silently: its context could not be put back.
    assert failures() == {"operation": 1.0}
    op.__exit__(None, None, None)
    assert outcomes("task", "torn") == {"ok": 1.0}
    assert failures() == {"operation": 2.0}


def test_a_carrier_gives_trace_and_caller(recorded: SpanRecorder) -> None:
    with operation("consumer", "orders", carrier=CARRIER):
        assert baggage.get_baggage("tenant") == "a b"
        headers: dict[str, str] = {}
        propagate.inject(headers)
    span = recorded.spans[-1]
    assert span.parent is not None
    assert span.parent.trace_id == int("a" * 32, 16)
    assert span.parent.is_remote
    attributes = span.attributes or {}
    assert {k: v for k, v in attributes.items() if "caller" in k} == {
        "rolloutobs.caller.service": "gateway",
        "rolloutobs.caller.version": "1.1.0+5",
        "rolloutobs.caller.track": "stable",
    }
    # At the next hop it is this worker that speaks.
    assert "gateway" not in headers["baggage"]
    assert baggage.get_baggage("tenant") is None


def test_a_check_is_told_apart(recorded: SpanRecorder) -> None:
    with operation("task", "pay", carrier=[("Baggage", b"synthetic=test")]), operation("job", "inner"):
        pass
    with operation("task", "pay"):
        pass
    assert outcomes("task", "pay", synthetic="true") == {"ok": 1.0}
    assert outcomes("job", "inner", synthetic="true") == {"ok": 1.0}
    assert outcomes("task", "pay") == {"ok": 1.0}
    assert (recorded.spans[1].attributes or {})["user_agent.synthetic.type"] == "test"


@pytest.mark.parametrize(
    "carrier",
    [
        {"traceparent": "00-zz", "baggage": "=,;;%%"},
        {"traceparent": None, 3: b"x", "baggage": object()},
        [("traceparent", b"\xff\xfe"), ("baggage", "ö=ö")],
        [(b"traceparent", "x" * 100_000)] * 1000,
        iter(()),
    ],
)
def test_a_carrier_that_makes_no_sense_counts_as_none(recorded: SpanRecorder, carrier: object) -> None:
    with operation("consumer", "orders", carrier=carrier):  # type: ignore[arg-type]
        pass
    assert recorded.spans[-1].parent is None
    assert outcomes("consumer", "orders") == {"ok": 1.0}


def test_a_carrier_that_raises_breaks_nothing() -> None:
    hub.new_hub(Settings(service="worker", version="1.2.0", track="canary"))
    with operation("consumer", "orders", carrier=[1, 2]):  # type: ignore[list-item]
        pass
    assert outcomes("consumer", "orders") == {"ok": 1.0}
    assert failures() == {"operation": 1.0}


def test_counts_go_on_where_spans_fail() -> None:
    class Broken(sampling.Sampler):
        def should_sample(self, *args: object, **kwargs: object) -> sampling.SamplingResult:
            raise RuntimeError("no idea")

        def get_description(self) -> str:
            return "broken"

    made = hub.new_hub(Settings(service="worker", version="1.2.0", track="canary"))
    made.tracer_provider = SpanRecorder(Broken()).provider
    for _ in range(2):
        with operation("task", "x") as op:
            op.span.set_attribute("a", 1)
    assert outcomes("task", "x") == {"ok": 2.0}
    assert failures() == {"operation": 2.0}


def test_without_an_app_the_environment_says_who_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mailer")
    monkeypatch.setenv("ROLLOUTOBS_VERSION", "2.0.0")
    monkeypatch.setenv("ROLLOUTOBS_TRACK", "stable")
    with operation("task", "send"):
        stamp = current()
        assert stamp is not None
        assert stamp.identity.service == "mailer"
    with operation("task", "send"):
        pass
    labels = {"app": "mailer", "version": "2.0.0", "track": "stable", "kind": "task", "name": "send"}
    assert sample_value(samples(), "app_operations_total", outcome="ok", **labels) == 2.0


def test_a_bad_environment_stops_no_job(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ROLLOUTOBS_TRACK", "blue")
    done = []
    with operation("job", "x") as op:
        op.outcome = "rejected"
        done.append(op.span.is_recording())
    assert done == [False]
    assert "ROLLOUTOBS_TRACK is 'blue'" in caplog.text
    failed = hub.process_failures().family
    assert {values: cell.value for values, cell in failed.items() if cell.value} == {("operation",): 2.0}


def test_names_are_capped() -> None:
    hub.new_hub(Settings(service="worker", version="1.2.0", track="canary", max_label_sets=5))
    for i in range(50):
        with operation("task", f"send-{i}"):
            pass
    counted = [s for s in samples() if s.name == "app_operations_total"]
    assert len(counted) == 6
    assert sum(s.value for s in counted) == 50.0
    assert operations(kind="_overflow") is not None


def test_a_new_track_starts_from_zero(recorded: SpanRecorder) -> None:
    from rolloutobs import Track

    for _ in range(3):
        with operation("task", "x"):
            pass
    hub.process().retrack(Track.STABLE)
    with operation("task", "x"):
        pass
    by_track = {
        s.labels["track"]: s.value
        for s in samples()
        if s.name == "app_operations_total" and s.labels["outcome"] == "ok"
    }
    assert by_track == {"canary": 3.0, "stable": 1.0}
    assert (recorded.spans[-1].attributes or {})["rolloutobs.track"] == "stable"


def test_exemplars_lead_to_the_trace(recorded: SpanRecorder) -> None:
    with operation("task", "x"):
        pass
    text = hub.process().render("application/openmetrics-text; version=1.0.0").body.decode()
    span = recorded.spans[-1].context
    assert span is not None
    assert f'trace_id="{span.trace_id:032x}"' in text


async def test_inside_of_a_request_it_is_a_part_of_it(recorded: SpanRecorder) -> None:
    from rolloutobs import instrument

    async def app(scope, receive, send) -> None:
        with operation("task", "inline"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    served = instrument(
        app,
        settings=Settings(service="shop", version="9.9", track="stable"),
        tracer_provider=recorded.provider,
    )
    await asyncio.gather(call(served), call(served))
    inner = [span for span in recorded.spans if span.name == "inline"]
    assert len(inner) == 2
    for span in inner:
        assert span.kind is SpanKind.INTERNAL
        assert span.parent in [server.context for server in recorded.server_spans]
        # The request's app speaks, not the process.
        assert (span.attributes or {})["app.version"] == "9.9"
    assert context.get_current() == {}


def test_no_library_is_imported_that_an_app_does_not_use() -> None:
    code = (
        "import sys, rolloutobs, rolloutobs.operations, rolloutobs.operations.kafka; rolloutobs.operation;"
        "libraries = {'grpc', 'celery', 'kombu', 'confluent_kafka', 'aiokafka', 'kafka'};"
        "print(sorted(libraries & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
