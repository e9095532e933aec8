"""What is on every log record, and that nobody who logs notices."""

import asyncio
import copy
import logging
import logging.handlers
import pickle
import queue
import threading

import pytest
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach

from rolloutobs.identity import Identity, Track
from rolloutobs.telemetry import log_records
from rolloutobs.telemetry.callers import with_caller
from rolloutobs.telemetry.current import Live, set_process_identity, with_identity
from rolloutobs.telemetry.log_records import FIELDS, install, observe_with, own_fields, uninstall
from rolloutobs.telemetry.propagation import Caller
from rolloutobs.testing import SpanRecorder

SHOP = Identity("shop", "1.2.0", Track.CANARY)


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def kept():
    handler = Kept()
    logger = logging.getLogger("tests.records")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def logger(kept):
    factory = logging.getLogRecordFactory()
    yield logging.getLogger("tests.records")
    uninstall()
    logging.setLogRecordFactory(factory)


def fields(record):
    return {name: getattr(record, name) for name in FIELDS if getattr(record, name)}


def test_every_field_is_there_and_empty_where_nothing_is_known(logger, kept):
    install()
    logger.info("started")
    (record,) = kept.records
    assert {name: getattr(record, name) for name in FIELDS} == dict.fromkeys(FIELDS, "")
    formats = (
        logging.Formatter("%(message)s|%(service_version)s|%(trace_id)s|"),
        logging.Formatter("{message}|{service_version}|{trace_id}|", style="{"),
        logging.Formatter("$message|$service_version|$trace_id|", style="$"),
        logging.Formatter("%(message)s|%(service_version)s|%(trace_id)s|", defaults={"trace_id": "none"}),
    )
    assert [formatter.format(record) for formatter in formats] == ["started|||"] * 4


def test_a_record_speaks_for_the_request_and_otherwise_for_the_process(logger, kept):
    install()
    set_process_identity(Live(SHOP))
    recorder = SpanRecorder()
    admin = with_caller(
        Caller("gateway", "3.1.0", "stable"), with_identity(Live(Identity("admin", "7")), Context())
    )
    with recorder.provider.get_tracer("t").start_as_current_span("request") as span:
        ids = span.get_span_context()
        token = attach(trace.set_span_in_context(span, admin))
        logger.info("in a request")
        detach(token)
    logger.info("outside")
    inside, outside = map(fields, kept.records)
    assert inside == {
        "service_name": "admin",
        "service_version": "7",
        "trace_id": f"{ids.trace_id:032x}",
        "span_id": f"{ids.span_id:016x}",
        "caller_service": "gateway",
        "caller_version": "3.1.0",
    }
    assert outside == {"service_name": "shop", "service_version": "1.2.0", "track": "canary"}


def test_a_change_of_the_track_is_seen_by_the_next_record(logger, kept):
    install()
    live = Live(SHOP)
    set_process_identity(live)
    logger.info("before")
    live.retrack(Track.STABLE)
    logger.info("after")
    assert [record.track for record in kept.records] == ["canary", "stable"]


async def test_requests_that_overlap_keep_their_own_identity(logger, kept):
    install()
    both_are_here = asyncio.Barrier(2)

    async def request(version):
        token = attach(with_identity(Live(Identity("shop", version)), Context()))
        await both_are_here.wait()
        logger.info("of %s", version)
        await both_are_here.wait()
        detach(token)

    await asyncio.gather(request("1.1.0"), request("1.2.0"))
    assert sorted((record.getMessage(), record.service_version) for record in kept.records) == [
        ("of 1.1.0", "1.1.0"),
        ("of 1.2.0", "1.2.0"),
    ]


def test_a_thread_speaks_for_the_process(logger, kept):
    install()
    set_process_identity(Live(SHOP))
    thread = threading.Thread(target=logger.info, args=("from a thread",))
    thread.start()
    thread.join()
    assert fields(kept.records[0])["service_version"] == "1.2.0"


def test_an_extra_with_one_of_our_names_is_the_apps_as_without_us(logger, kept):
    install()
    set_process_identity(Live(SHOP))
    logger.info("playing", extra={"track": "So What", "trace_id": "their own", "album": "Kind of Blue"})
    (record,) = kept.records
    assert (record.track, record.trace_id, record.album) == ("So What", "their own", "Kind of Blue")
    assert logging.Formatter("%(track)s").format(record) == "So What"
    # What is ours is not lost: our own formats know both.
    assert own_fields(record) == {"service_name": "shop", "service_version": "1.2.0", "track": "canary"}


def test_an_extra_that_logging_itself_refuses_is_still_refused(logger):
    install()
    with pytest.raises(KeyError, match="Attempt to overwrite 'name'"):
        logger.info("x", extra={"name": "y"})  # noqa: G101


def test_a_record_leaves_the_process_as_any_other(logger, kept):
    install()
    set_process_identity(Live(SHOP))
    logger.info("to a queue")
    (record,) = kept.records
    pickled = pickle.dumps(record)
    assert b"rolloutobs.telemetry" not in pickled, "who unpickles it may not have this package"
    for again in (pickle.loads(pickled), copy.copy(record), copy.deepcopy(record)):
        assert type(vars(again)) is dict
        assert again.service_version == "1.2.0"
        assert own_fields(again) == own_fields(record)
    messages = queue.SimpleQueue()
    logging.handlers.QueueHandler(messages).handle(record)
    assert messages.get_nowait().track == "canary"
    sent = pickle.loads(logging.handlers.SocketHandler("127.0.0.1", 1).makePickle(record)[4:])
    assert logging.makeLogRecord(sent).track == "canary"


def test_a_record_of_another_process_does_not_get_our_identity(logger):
    install()
    set_process_identity(Live(SHOP))
    seen = []
    observe_with(lambda record: seen.append(record) or "", None)
    received = logging.makeLogRecord({"name": "theirs", "msg": "hello", "levelno": logging.ERROR})
    assert fields(received) == {}
    assert seen == []
    assert logging.makeLogRecord({"service_version": "0.9"}).service_version == "0.9"


class Special(logging.LogRecord):
    pass


def test_the_factory_that_was_there_is_kept(logger, kept):
    def theirs(*args, **kwargs):
        record = Special(*args, **kwargs)
        record.trace_id = "of another tracer"
        return record

    logging.setLogRecordFactory(theirs)
    install()
    set_process_identity(Live(SHOP))
    logger.info("x")
    (record,) = kept.records
    assert type(record) is Special
    assert record.trace_id == "of another tracer"
    assert record.track == "canary"
    uninstall()
    assert logging.getLogRecordFactory() is theirs


def test_opentelemetrys_own_instrumentation_works_under_and_over_ours(logger, kept):
    from opentelemetry.instrumentation.logging import LoggingInstrumentor

    set_process_identity(Live(SHOP))
    options = {"inject_trace_context": True, "enable_log_auto_instrumentation": False}
    instrumentor = LoggingInstrumentor()
    for first, second in ((install, None), (None, install)):
        if first is not None:
            first()
        instrumentor.instrument(**options)
        try:
            if second is not None:
                second()
            logger.info("x")
        finally:
            instrumentor.uninstrument()
            uninstall()
    for record in kept.records:
        assert record.otelTraceID == "0"
        assert record.track == "canary"


def test_installing_again_changes_nothing_even_below_somebody_elses(logger, kept):
    seen = []
    observe_with(lambda record: seen.append(record.msg) or "", None)
    ours = logging.getLogRecordFactory()

    def around(*args, **kwargs):
        return ours(*args, **kwargs)

    logging.setLogRecordFactory(around)
    install()
    assert logging.getLogRecordFactory() is around
    logger.info("x")
    assert seen == ["x"]


def test_a_factory_that_threw_ours_out_is_gone_around(logger, kept):
    seen = []
    observe_with(lambda record: seen.append(record.msg) or "", None)
    logging.setLogRecordFactory(logging.LogRecord)
    logger.info("lost")
    install()
    set_process_identity(Live(SHOP))
    logger.info("x")
    assert seen == ["x"]
    assert kept.records[1].track == "canary"


def test_uninstalled_below_somebody_elses_it_does_nothing_and_can_come_back(logger, kept):
    install()
    ours = logging.getLogRecordFactory()
    logging.setLogRecordFactory(lambda *args, **kwargs: ours(*args, **kwargs))
    uninstall()
    logger.info("bare")
    assert not hasattr(kept.records[0], "track")
    install()
    logger.info("stamped")
    assert kept.records[1].track == ""


def test_what_fails_is_told_and_the_record_is_written(logger, kept):
    failures = []

    def broken(record):
        raise RuntimeError("observer")

    observe_with(broken, failures.append)
    logger.error("still here")
    assert kept.records[0].getMessage() == "still here"
    assert [str(error) for error in failures] == ["observer"]


class Slotted:
    """What a factory of somebody's own may return."""

    __slots__ = ("name",)

    def __init__(self, name, *_args, **_kwargs):
        self.name = name


def test_a_record_that_cannot_be_stamped_is_returned_as_it_is(logger):
    logging.setLogRecordFactory(Slotted)
    failures = []
    for _ in range(2):
        observe_with(lambda record: "", failures.append)
    failures.clear()
    record = logging.getLogRecordFactory()("shop", 20, "p", 1, "m", (), None)
    assert record.name == "shop"
    assert len(failures) == 1


def test_records_of_this_project_are_not_observed(logger):
    seen = []
    observe_with(lambda record: seen.append(record.name) or "", None)
    for name in ("rolloutobs", "rolloutobs.errors", "rolloutobsx", "shop"):
        logging.getLogger(name).warning("x")
    assert seen == ["rolloutobsx", "shop"]


def test_formatting_a_record_of_an_unsampled_request_has_its_ids(logger, kept):
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    install()
    with SpanRecorder(ALWAYS_OFF).provider.get_tracer("t").start_as_current_span("x") as span:
        logger.info("x")
    assert kept.records[0].trace_id == f"{span.get_span_context().trace_id:032x}"


def test_the_memo_of_the_identity_is_never_changed_by_a_record(logger, kept):
    install()
    set_process_identity(Live(SHOP))
    logger.info("x")
    vars(kept.records[0])["track"] = "changed"
    logger.info("y")
    assert kept.records[1].track == "canary"
    assert log_records.stamp_fields()["track"] == "canary"
