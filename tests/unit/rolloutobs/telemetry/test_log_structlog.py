"""The real structlog, writing itself and through `logging`."""

import json
import logging

import pytest
import structlog

from rolloutobs import Settings, semconv
from rolloutobs.logs import JSONFormatter, structlog_processor
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry import logs
from rolloutobs.testing import SpanRecorder, parse_metrics


@pytest.fixture
def hub():
    made = hubs.new_hub(Settings(service="shop", version="1.2.0", track="canary"))
    logs.enable(made)
    yield made
    structlog.reset_defaults()


def counts(hub, name, label):
    return {
        s.labels[label]: s.value
        for s in parse_metrics(hub.render().body.decode())
        if s.name == name and s.value
    }


class PaymentError(Exception):
    pass


def fail(log):
    try:
        raise PaymentError("refused")
    except PaymentError:
        log.exception("payment failed", cents=4200)


def test_events_that_structlog_writes_are_stamped_and_counted(hub, capsys):
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog_processor,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )
    log = structlog.get_logger()
    with SpanRecorder().provider.get_tracer("t").start_as_current_span("x") as span:
        log.info("started", track="So What")
    fail(log)
    log.error("payment failed", cents=1)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert lines[0] == {
        "event": "started",
        "level": "info",
        "service_name": "shop",
        "service_version": "1.2.0",
        "track": "So What",
        "trace_id": f"{span.get_span_context().trace_id:032x}",
        "span_id": f"{span.get_span_context().span_id:016x}",
    }
    assert counts(hub, semconv.LOG_RECORDS_TOTAL, "level") == {"info": 1, "error": 2}
    assert counts(hub, semconv.APP_ERRORS_TOTAL, "type") == {f"{__name__}.PaymentError": 1, "log": 1}
    prints = counts(hub, semconv.APP_ERRORS_TOTAL, "fingerprint")
    assert prints == {lines[1]["error_fingerprint"]: 1, lines[2]["error_fingerprint"]: 1}


class Kept(logging.Handler):
    def __init__(self, formatter):
        super().__init__()
        self.setFormatter(formatter)
        self.lines = []

    def emit(self, record):
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def root():
    made = logging.getLogger("shop")
    made.setLevel(logging.INFO)
    yield made
    made.handlers.clear()
    made.setLevel(logging.NOTSET)


def test_events_that_are_handed_to_logging_are_counted_there_once(hub, root):
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog_processor,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog_processor],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
    root.addHandler(handler := Kept(formatter))
    fail(structlog.get_logger("shop"))
    structlog.get_logger("shop").debug("not enabled")
    root.error("order %s failed", 17)
    ours, theirs = handler.lines
    assert ours["event"] == "payment failed"
    assert ours["service_version"] == "1.2.0"
    assert theirs["event"] == "order 17 failed"
    assert (theirs["track"], theirs["service_name"]) == ("canary", "shop")
    assert counts(hub, semconv.LOG_RECORDS_TOTAL, "level") == {"error": 2}
    assert counts(hub, semconv.APP_ERRORS_TOTAL, "type") == {f"{__name__}.PaymentError": 1, "log": 1}
    assert theirs["error_fingerprint"] in counts(hub, semconv.APP_ERRORS_TOTAL, "fingerprint")


def test_events_that_are_rendered_before_are_known_by_their_event(hub, root):
    structlog.configure(
        processors=[structlog_processor, structlog.processors.JSONRenderer()],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    root.addHandler(handler := Kept(JSONFormatter()))
    for user in ("ann", "bob"):
        structlog.get_logger("shop").error("payment refused", user=user)
    assert counts(hub, semconv.APP_ERRORS_TOTAL, "type") == {"log": 2}
    assert len(counts(hub, semconv.APP_ERRORS_TOTAL, "fingerprint")) == 1
    assert json.loads(handler.lines[0]["message"])["service_version"] == "1.2.0"


def test_where_nothing_is_enabled_it_adds_what_is_known():
    assert structlog_processor(None, "error", {"event": "x"}) == {"event": "x"}


class Broken(dict):
    def get(self, *_args):
        raise RuntimeError


def test_what_fails_is_counted_and_the_event_goes_on(hub):
    event = Broken(event="x")
    assert structlog_processor(None, "info", event) is event
    assert counts(hub, semconv.INTERNAL_ERRORS_TOTAL, "where") == {"logs": 1}


@pytest.mark.parametrize(("method", "level"), [("warn", "warning"), ("fatal", "critical"), ("msg", "other")])
def test_methods_are_levels(hub, method, level):
    structlog_processor(None, method, {"event": "x"})
    assert counts(hub, semconv.LOG_RECORDS_TOTAL, "level") == {level: 1}
