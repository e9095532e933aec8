"""Log records on their way out: a real exporter to a receiver on the loopback, and what can go wrong."""

import logging
import os
import subprocess
import sys
import threading

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.baggage import set_baggage
from opentelemetry.context import Context, attach, detach
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    InMemoryLogRecordExporter,
    LogRecordExporter,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)

from rolloutobs import Settings, semconv
from rolloutobs.identity import Identity, Track
from rolloutobs.telemetry import export_logs, log_records
from rolloutobs.telemetry.callers import with_caller
from rolloutobs.telemetry.current import Live, set_process_identity, with_identity
from rolloutobs.telemetry.export_logs import (
    CountedLogBatches,
    CountedLogExporter,
    Sender,
    set_exporting_logger_provider,
    stamp_logs_of,
)
from rolloutobs.telemetry.failures import Failures
from rolloutobs.telemetry.propagation import Caller
from rolloutobs.testing import FakeClock, SpanRecorder
from tests.serving import OtlpReceiver, serving

DEADLINE_SECONDS = 60


def lost(failures):
    return {values[0]: cell.value for values, cell in failures.family.items()}["export"]


class Sent:
    """A provider that keeps what is sent in memory, and a sender to it."""

    def __init__(self):
        self.failures = Failures(clock=FakeClock())
        self.exporter = InMemoryLogRecordExporter()
        self.provider = LoggerProvider(shutdown_on_exit=False)
        stamp_logs_of(self.provider)
        exporter = CountedLogExporter(self.exporter, self.failures)
        self.provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        self.sender = Sender(self.provider, self.failures)

    @property
    def records(self):
        return [item.log_record for item in self.exporter.get_finished_logs()]


@pytest.fixture
def sent():
    made = Sent()
    made.sender.start()
    yield made
    made.sender.stop()


@pytest.fixture
def logger():
    made = logging.getLogger("shop.orders")
    made.setLevel(logging.DEBUG)
    yield made
    made.handlers.clear()
    made.filters.clear()
    made.propagate = True
    made.setLevel(logging.NOTSET)


def test_a_record_is_sent_with_all_that_it_has(sent, logger):
    log_records.install()
    set_process_identity(Live(Identity("shop", "1.2.0", Track.CANARY)))
    with SpanRecorder().provider.get_tracer("t").start_as_current_span("x") as span:
        try:
            raise KeyError("sku")
        except KeyError:
            logger.exception("order %s failed", 17, extra={"cents": 4200, "large": 1 << 70, "none": None})
    (record,) = sent.records
    trace = record.attributes["exception.stacktrace"]
    assert trace.endswith("KeyError: 'sku'")
    assert dict(record.attributes) == {
        "app.version": "1.2.0",
        "rolloutobs.track": "canary",
        "cents": 4200,
        "large": "1180591620717411303424",
        "exception.type": "KeyError",
        "exception.message": "'sku'",
        "exception.stacktrace": trace,
    }
    assert record.body == "order 17 failed"
    assert (record.severity_number, record.severity_text) == (SeverityNumber.ERROR, "ERROR")
    assert record.trace_id == span.get_span_context().trace_id
    assert record.span_id == span.get_span_context().span_id
    (item,) = sent.exporter.get_finished_logs()
    assert item.instrumentation_scope.name == "shop.orders"


def test_the_track_and_the_caller_are_those_of_the_moment(sent, logger):
    live = Live(Identity("shop", "1.2.0", Track.CANARY))
    token = attach(with_caller(Caller("gateway", "3.1.0"), with_identity(live, Context())))
    logger.info("before")
    live.retrack(Track.STABLE)
    logger.info("after")
    detach(token)
    logger.info("outside")
    before, after, outside = (dict(record.attributes) for record in sent.records)
    caller = {"rolloutobs.caller.service": "gateway", "rolloutobs.caller.version": "3.1.0"}
    assert before == {"app.version": "1.2.0", "rolloutobs.track": "canary", **caller}
    assert after == {"app.version": "1.2.0", "rolloutobs.track": "stable", **caller}
    assert outside == {}


@pytest.mark.parametrize(
    ("level", "number", "text"),
    [
        (7, SeverityNumber.TRACE, "Level 7"),
        (logging.DEBUG, SeverityNumber.DEBUG, "DEBUG"),
        (27, SeverityNumber.INFO, "Level 27"),
        (logging.WARNING, SeverityNumber.WARN, "WARN"),
        (logging.CRITICAL, SeverityNumber.FATAL, "FATAL"),
    ],
)
def test_severities(sent, logger, level, number, text):
    logger.setLevel(1)
    logger.log(level, "x")
    (record,) = sent.records
    assert (record.severity_number, record.severity_text) == (number, text)


def test_loggers_that_do_not_propagate_are_sent_and_their_filters_hold(sent, logger):
    logger.propagate = False
    logger.addFilter(lambda record: "secret" not in record.getMessage())
    logger.info("hello")
    logger.info("the secret is 42")
    assert [record.body for record in sent.records] == ["hello"]


class Redacts(logging.Handler):
    def emit(self, record):
        record.msg, record.args = "redacted", ()


def test_what_handlers_have_changed_is_sent_changed(sent, logger):
    logger.addHandler(Redacts())
    logger.info("the secret is %s", 42)
    assert [record.body for record in sent.records] == ["redacted"]


class Raises(logging.Handler):
    def emit(self, record):
        raise RuntimeError("handler")


def test_a_handler_that_raises_still_does(sent, logger):
    logger.propagate = False
    logger.addHandler(Raises())
    with pytest.raises(RuntimeError, match="handler"):
        logger.info("x")
    assert [record.body for record in sent.records] == ["x"]


class Walks(logging.Handler):
    """Looks for whoever has logged, as loguru's recipe for a handler does."""

    def emit(self, record):
        frame = sys._getframe()
        while frame.f_code is Walks.emit.__code__ or frame.f_code.co_filename == logging.__file__:
            frame = frame.f_back
        record.found = frame.f_code.co_name


def test_handlers_find_whoever_has_logged(sent, logger):
    logger.addHandler(Walks())
    logger.info("x")
    assert sent.records[0].attributes["found"] == "test_handlers_find_whoever_has_logged"


def test_the_app_may_still_configure_logging_as_it_likes():
    # In a process of its own: pytest has handlers at the root, and basicConfig does nothing then.
    script = """
import logging, sys
from opentelemetry.sdk._logs import LoggerProvider
from rolloutobs.telemetry.export_logs import Sender
from rolloutobs.telemetry.failures import Failures
Sender(LoggerProvider(), Failures()).start()
logging.getLogger("shop").warning("before any configuration")
logging.basicConfig(format="configured: %(message)s", stream=sys.stdout, force="force" in sys.argv)
logging.getLogger("shop").warning("after it")
"""
    command = [sys.executable, "-c", script]
    answers = [
        subprocess.run([*command, *more], check=True, capture_output=True, text=True)
        for more in ([], ["force"])
    ]
    bare = script.replace("Sender(LoggerProvider(), Failures()).start()", "")
    expected = subprocess.run([sys.executable, "-c", bare], check=True, capture_output=True, text=True)
    for answer in answers:
        assert (answer.stdout, answer.stderr) == (expected.stdout, expected.stderr)


def test_with_opentelemetrys_own_handler_at_the_root_nothing_is_sent_twice(sent, logger):
    from opentelemetry.instrumentation.logging.handler import LoggingHandler

    handler = LoggingHandler(logger_provider=sent.provider)
    logging.getLogger().addHandler(handler)
    try:
        logger.info("x")
    finally:
        logging.getLogger().removeHandler(handler)
    assert len(sent.records) == 1
    assert sent.records[0].body == "x"


def test_stopped_nothing_is_sent_and_the_class_is_as_it_was(logger):
    before = logging.Logger.callHandlers
    made = Sent()
    made.sender.start()
    made.sender.start()
    assert logging.Logger.callHandlers is not before
    made.sender.stop()
    assert logging.Logger.callHandlers is before
    logger.info("x")
    assert made.records == []


def test_stopped_below_somebody_elses_it_does_nothing(logger, monkeypatch):
    made = Sent()
    before = logging.Logger.callHandlers
    made.sender.start()
    ours = logging.Logger.callHandlers
    monkeypatch.setattr(logging.Logger, "callHandlers", lambda self, record: ours(self, record))
    made.sender.stop()
    logger.info("x")
    assert made.records == []
    made.sender.start()
    logger.info("y")
    assert [record.body for record in made.records] == ["y"]
    made.sender.stop()
    monkeypatch.undo()
    logging.Logger.callHandlers = before


class Talks(LogRecordExporter):
    """An exporter that logs, as urllib3 does under the real one, and fails as told."""

    def __init__(self, answers=()):
        self.answers = list(answers)
        self.batches = []

    def export(self, batch):
        logging.getLogger("urllib3").error("connection refused")
        self.batches.append([item.log_record.body for item in batch])
        answer = self.answers.pop(0) if self.answers else LogRecordExportResult.SUCCESS
        if isinstance(answer, Exception):
            raise answer
        return answer

    def force_flush(self, timeout_millis=30000):
        return True

    def shutdown(self):
        self.batches.append("shut down")


def test_what_an_exporter_logs_is_not_sent(logger):
    failures = Failures(clock=FakeClock())
    exporter = Talks([LogRecordExportResult.FAILURE, OSError("down")])
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(CountedLogBatches(CountedLogExporter(exporter, failures), failures))
    sender = Sender(provider, failures)
    sender.start()
    for number in range(3):
        logger.info("record %s", number)
        provider.force_flush()
    sender.stop()
    provider.shutdown()
    assert exporter.batches == [["record 0"], ["record 1"], ["record 2"], "shut down"]
    assert lost(failures) == 2


class Blocks(Talks):
    def __init__(self):
        super().__init__()
        self.busy = threading.Event()
        self.go_on = threading.Event()

    def export(self, batch):
        self.busy.set()
        assert self.go_on.wait(DEADLINE_SECONDS)
        return super().export(batch)


def test_records_that_fall_out_of_a_full_queue_are_counted(logger, monkeypatch):
    monkeypatch.setenv("OTEL_BLRP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "1")
    failures = Failures(clock=FakeClock())
    exporter = Blocks()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(CountedLogBatches(CountedLogExporter(exporter, failures), failures))
    sender = Sender(provider, failures)
    sender.start()
    logger.info("the first")
    assert exporter.busy.wait(DEADLINE_SECONDS)
    for number in range(10):
        logger.info("record %s", number)
    assert lost(failures) == 6
    exporter.go_on.set()
    sender.stop()
    provider.shutdown()
    bodies = [body for batch in exporter.batches[:-1] for body in batch]
    assert bodies == ["the first", "record 6", "record 7", "record 8", "record 9"]


def test_a_record_that_cannot_be_sent_is_counted_and_written(sent, logger, monkeypatch):
    monkeypatch.setattr(export_logs, "message", lambda record: 1 / 0)
    logger.info("x")
    assert lost(sent.failures) == 1
    assert sent.records == []


def test_what_others_send_is_stamped_first_and_once():
    set_process_identity(Live(Identity("shop", "1.2.0")))
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    for _ in range(2):
        stamp_logs_of(provider)
    context = set_baggage("tenant", "acme", Context())
    provider.get_logger("x").emit(LogRecord(body="event", context=context, attributes={"a": 1}))
    (item,) = exporter.get_finished_logs()
    assert dict(item.log_record.attributes) == {"a": 1, "app.version": "1.2.0"}
    stamp_logs_of(object())


def test_no_provider_is_set_where_none_is_wanted():
    assert set_exporting_logger_provider(Settings(), Failures(clock=FakeClock())) is None


@pytest.mark.parametrize("grpc", [False, True])
def test_a_missing_exporter_is_logged_with_its_pip_line_and_stops_nobody(monkeypatch, caplog, grpc):
    monkeypatch.setattr(export_logs, "_HTTP", "opentelemetry.exporter.missing")
    monkeypatch.setattr(export_logs, "_GRPC", "opentelemetry.exporter.missing")
    failures = Failures(clock=FakeClock())
    settings = Settings(export_logs=True, otlp_logs_grpc=grpc)
    assert set_exporting_logger_provider(settings, failures) is None
    assert lost(failures) == 1
    expected = "opentelemetry-exporter-otlp-proto-grpc" if grpc else "pip install 'rolloutobs[otlp]'"
    assert expected in caplog.text


class Collector(OtlpReceiver):
    """Keeps the log records that are posted to it."""

    def records(self):
        return [
            (resource.resource, scope.scope.name, record)
            for received in self.received
            if received.path == "/v1/logs"
            for resource in ExportLogsServiceRequest.FromString(received.body).resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]


@pytest.fixture
def collector():
    with serving(Collector()) as server:
        yield server


PROCESS = """
import atexit, logging, os
from rolloutobs import Settings
from rolloutobs.telemetry import hub as hubs, logs

logs.enable(hubs.new_hub(Settings.from_env(os.environ)))
atexit.register(lambda: logging.getLogger("shop").warning("at exit"))
logging.getLogger("shop").error("order %s failed", "\\udc80", extra={"file": "a\\udc80", "large": 1 << 70})
child = os.fork()
logging.getLogger("shop").warning("of the child" if child == 0 else "of the parent")
if child:
    os.waitpid(child, 0)
"""


def values(items):
    return {item.key: item.value.string_value for item in items}


def test_the_last_records_of_a_process_and_of_its_child_arrive(collector):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | {
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{collector.url}/v1/logs",
        "OTEL_SERVICE_NAME": "shop",
        "ROLLOUTOBS_VERSION": "1.2.0",
        "ROLLOUTOBS_TRACK": "canary",
        # Nothing goes out before the end by itself.
        "OTEL_BLRP_SCHEDULE_DELAY": "600000",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROCESS], env=environ, capture_output=True, timeout=DEADLINE_SECONDS
    )
    assert done.returncode == 0, done.stderr
    records = collector.records()
    (failed,) = [r for _, _, r in records if r.body.string_value == "order ? failed"]
    fingerprint = values(failed.attributes)[semconv.ATTR_ERROR_FINGERPRINT]
    (said,) = [r for _, scope, r in records if scope == "rolloutobs.errors"]
    assert values(said.attributes)[semconv.ATTR_ERROR_FINGERPRINT] == fingerprint
    assert (failed.severity_number, values(failed.attributes)["file"]) == (17, "a?")
    assert sorted(record.body.string_value for _, _, record in records) == [
        "at exit",
        "at exit",
        f"first log in this process, fingerprint {fingerprint}, at shop: order %s failed",
        "of the child",
        "of the parent",
        "order ? failed",
    ]
    for resource, _, record in records:
        assert values(resource.attributes)["service.name"] == "shop"
        assert values(resource.attributes)["service.version"] == "1.2.0"
        assert values(record.attributes)["app.version"] == "1.2.0"
        assert values(record.attributes)["rolloutobs.track"] == "canary"


KILLED = """
import logging, os
from rolloutobs import Settings
from rolloutobs.telemetry import hub as hubs, logs
from rolloutobs.telemetry.export import flush

hub = hubs.new_hub(Settings.from_env(os.environ))
logs.enable(hub)
logging.getLogger("shop").error("the last words")
for provider in hub.flushed:
    flush(provider)
# As a server that ends by the signal that it got: without exit functions.
os._exit(0)
"""


def test_what_is_flushed_at_shut_down_has_the_records(collector):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | {
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{collector.url}/v1/logs",
        "OTEL_BLRP_SCHEDULE_DELAY": "600000",
    }
    subprocess.run([sys.executable, "-c", KILLED], env=environ, check=True, timeout=DEADLINE_SECONDS)
    assert "the last words" in [record.body.string_value for _, _, record in collector.records()]


HANGS = """
import logging, os, socket
from rolloutobs import Settings
from rolloutobs.telemetry import hub as hubs, logs
silent = socket.create_server(("127.0.0.1", 0))
os.environ["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"] = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/logs"
os.environ["OTEL_EXPORTER_OTLP_TIMEOUT"] = "600"
from rolloutobs.telemetry import export_logs
export_logs.FLUSH_SECONDS = 0.2
logs.enable(hubs.new_hub(Settings.from_env(os.environ)))
logging.error("x")
logs.flush(0.2)
print("flushed", flush=True)
"""


def test_a_collector_that_hangs_delays_the_end_by_seconds_at_most():
    done = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, timeout=DEADLINE_SECONDS, text=True
    )
    assert (done.returncode, done.stdout) == (0, "flushed\n")
