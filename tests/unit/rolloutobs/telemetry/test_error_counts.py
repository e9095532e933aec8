"""Each error is counted once, however many times it is told of; and each kind of error is said once."""

import asyncio
import gc
import logging
import os
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from rolloutobs import Settings, semconv
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry.error_counts import ErrorCounts, errors_of, exception_of
from rolloutobs.telemetry.logs import record_exception
from rolloutobs.telemetry.store import Store
from rolloutobs.testing import SpanRecorder, parse_metrics


class PaymentError(Exception):
    pass


ALWAYS_THE_SAME = PaymentError("a constant")


@pytest.fixture
def hub():
    return hubs.new_hub(Settings(service="shop", version="1.2.0"))


def counts(hub):
    """Return the counts by type, of all fingerprints."""
    found = {}
    for sample in parse_metrics(hub.render().body.decode()):
        if sample.name == semconv.APP_ERRORS_TOTAL:
            found[sample.labels["type"]] = found.get(sample.labels["type"], 0) + sample.value
    return found


def fail():
    raise PaymentError("card 4711 refused")


def boundary(hub, call):
    """Record as a wrapper does: what comes out of `call`, which then goes on to the server."""
    try:
        call()
    except Exception as error:
        record_exception(error, hub)
        raise


def server(hub, call):
    """Log what comes out as a server does."""
    try:
        boundary(hub, call)
    except Exception as error:
        return errors_of(hub).message("server.error", "Exception in application", error)
    return ""


TYPE = f"{__name__}.PaymentError"


def test_what_the_server_logs_of_a_counted_exception_is_not_counted_again(hub):
    fingerprint = server(hub, fail)
    assert counts(hub) == {TYPE: 1}
    assert server(hub, fail) == fingerprint
    assert counts(hub) == {TYPE: 2}


def test_what_was_logged_on_its_way_is_not_counted_again(hub):
    def logs_and_raises():
        try:
            fail()
        except PaymentError as error:
            errors_of(hub).message("shop", "failed", error)
            raise

    server(hub, logs_and_raises)
    server(hub, logs_and_raises)
    assert counts(hub) == {TYPE: 2}


def test_an_object_that_is_raised_again_is_another_error(hub):
    def constant():
        raise ALWAYS_THE_SAME

    for _ in range(4):
        server(hub, constant)
    assert counts(hub) == {TYPE: 4}


def test_an_object_whose_traceback_was_cleared_is_another_error(hub):
    error = PaymentError("kept")

    def again():
        raise error.with_traceback(None)

    for _ in range(3):
        server(hub, again)
    assert counts(hub) == {TYPE: 3}


async def test_requests_that_wait_for_one_failure_each_count_it(hub):
    future = asyncio.get_running_loop().create_future()

    async def request():
        try:
            await future
        except PaymentError as error:
            record_exception(error, hub)
            errors_of(hub).message("server.error", "Exception in application", error)

    tasks = [asyncio.create_task(request()) for _ in range(3)]
    await asyncio.sleep(0)
    future.set_exception(PaymentError("the one query behind all three"))
    await asyncio.gather(*tasks)
    assert counts(hub) == {TYPE: 3}


def test_an_exception_logged_before_it_is_raised_counts_once(hub):
    error = PaymentError("made, logged, raised")
    errors_of(hub).message("shop", "refused", error)

    def late():
        raise error

    server(hub, late)
    assert counts(hub) == {TYPE: 1}


def test_an_exception_that_is_logged_as_the_message_is_known(hub):
    try:
        fail()
    except PaymentError as error:
        errors_of(hub).message("shop", error, None)
        record_exception(error, hub)
    assert counts(hub) == {TYPE: 1}


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(1), asyncio.CancelledError(), GeneratorExit(),
              BaseExceptionGroup("x", [asyncio.CancelledError()])]
)  # fmt: skip
def test_an_end_is_no_error(hub, error):
    assert record_exception(error, hub) == ""
    assert counts(hub) == {}


def test_a_group_with_an_error_is_one(hub):
    record_exception(BaseExceptionGroup("x", [asyncio.CancelledError(), PaymentError()]), hub)
    assert counts(hub) == {"BaseExceptionGroup": 1}


@dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818
    cents: int


class Sloppy(Exception):  # noqa: N818
    __slots__ = ("cents",)

    def __setattr__(self, name, value):
        raise AttributeError(name)

    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize("error", [Frozen(17), Sloppy()])
def test_exceptions_that_refuse_to_be_marked_count_once(hub, error):
    def call():
        raise error

    server(hub, call)
    assert list(counts(hub).values()) == [1]
    failures = {s.labels["where"]: s.value for s in parse_metrics(hub.render().body.decode())
                if s.name == semconv.INTERNAL_ERRORS_TOTAL}  # fmt: skip
    assert failures["logs"] == 0


def test_requests_are_told_apart_by_their_traces(hub):
    tracer = SpanRecorder().provider.get_tracer("t")

    def constant():
        with tracer.start_as_current_span("inner"):
            try:
                raise ALWAYS_THE_SAME
            except PaymentError as error:
                errors_of(hub).message("shop", "failed", error)
                raise

    def middleware(call, depth=2):
        # The same function several times on the way, as stacked middlewares of one class are.
        try:
            middleware(call, depth - 1) if depth else call()
        except PaymentError as error:
            errors_of(hub).message("middleware", "failed", error)
            raise

    for _ in range(3):
        with tracer.start_as_current_span("request") as span:
            try:
                middleware(constant)
            except PaymentError as error:
                record_exception(error, hub, span)
        # After the request, as servers do.
        errors_of(hub).message("server.error", "Exception in application", ALWAYS_THE_SAME)
    assert counts(hub) == {TYPE: 3}


def test_through_a_thread_it_is_the_same_error(hub):
    def in_a_thread():
        try:
            fail()
        except PaymentError as error:
            errors_of(hub).message("shop", "failed", error)
            raise

    with ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            server(hub, lambda: pool.submit(in_a_thread).result())
    assert counts(hub) == {TYPE: 2}


def test_an_exception_can_be_pickled_for_a_process_without_us(hub):
    try:
        boundary(hub, fail)
    except PaymentError as error:
        pickled = pickle.dumps(error)
    assert b"rolloutobs.telemetry" not in pickled.replace(__name__.encode(), b"")
    again = pickle.loads(pickled)
    assert str(again) == "card 4711 refused"
    record_exception(again, hub)
    assert counts(hub) == {TYPE: 2}


def test_a_mark_keeps_nothing_alive(hub):
    class Large:
        pass

    def call():
        local = Large()
        seen.append(weakref.ref(local))
        raise PaymentError

    seen = []
    error = None
    try:
        boundary(hub, call)
    except PaymentError as raised:
        error = raised.with_traceback(None)
    gc.collect()
    assert seen[0]() is None
    assert error is not None


def test_the_first_of_each_kind_is_said_once_without_values(hub, caplog):
    server(hub, fail)
    server(hub, fail)
    (record,) = [r for r in caplog.records if r.name == "rolloutobs.errors"]
    assert record.levelno == logging.WARNING
    place = f"{__name__}:fail"
    assert record.getMessage() == (
        f"first {TYPE} in this process, fingerprint {record.error_fingerprint}, at {place}: card # refused"
    )


def test_too_many_kinds_are_one_series_and_nothing_more_is_said(caplog):
    store = Store()
    errors = ErrorCounts(store, limit=3)
    prints = [errors.message("shop", f"kind {'abcdefgh'[kind]}", None) for kind in range(8)]
    assert len(set(prints)) == 8
    samples = [
        s for metric in store.collect("") for s in metric.samples if s.name == semconv.APP_ERRORS_TOTAL
    ]
    assert {(s.labels["fingerprint"], s.labels["type"]): s.value for s in samples} == {
        **{(fingerprint, "log"): 1.0 for fingerprint in prints[:3]},
        ("_other", "_other"): 5.0,
    }
    assert len(caplog.records) == 3


def test_the_span_of_the_request_has_the_fingerprint(hub):
    recorder = SpanRecorder()
    tracer = recorder.provider.get_tracer("t")
    with tracer.start_as_current_span("request") as span:
        fingerprint = record_exception(PaymentError(), hub, span)
        with tracer.start_as_current_span("inner"):
            logged = errors_of(hub).message("shop", "bad", None)
    inner, request = recorder.spans
    assert request.attributes[semconv.ATTR_ERROR_FINGERPRINT] == fingerprint
    assert inner.attributes[semconv.ATTR_ERROR_FINGERPRINT] == logged


class Raises:
    """What a failing part of ours looks like from outside."""

    def get(self, *_args):
        raise RuntimeError("store")


def test_a_failure_of_ours_is_counted_and_raises_nothing(hub, monkeypatch):
    monkeypatch.setattr("rolloutobs.telemetry.error_counts._by_store", Raises())
    assert record_exception(PaymentError(), hub) == ""
    failures = {s.labels["where"]: s.value for s in parse_metrics(hub.render().body.decode())
                if s.name == semconv.INTERNAL_ERRORS_TOTAL}  # fmt: skip
    assert failures["logs"] == 1


def test_all_apps_of_a_process_share_the_counts(hub):
    other = hubs.new_hub(Settings(service="admin", version="7"))
    assert errors_of(hub) is errors_of(other)


def test_a_forked_child_starts_at_zero(hub):
    server(hub, fail)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            server(hub, fail)
            os.write(writer, str(counts(hub)[TYPE]).encode())
        finally:
            os._exit(0)
    # Ours first: else a child that fails before it writes would be waited for for ever.
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert answer.read() == "1.0"
    os.waitpid(child, 0)


def test_every_form_of_exc_info_is_understood():
    error = PaymentError()
    assert exception_of(error) is error
    assert exception_of((PaymentError, error, None)) is error
    for nothing in (None, False, (None, None, None), (), ("x",)):
        assert exception_of(nothing) is None
    try:
        raise error
    except PaymentError:
        assert exception_of(True) is error
