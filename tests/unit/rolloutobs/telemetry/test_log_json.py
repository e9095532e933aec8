"""JSON that any parser takes, of any record that any code can make."""

import json
import logging
import logging.config
import logging.handlers
import queue
import re
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloutobs.identity import Identity, Track
from rolloutobs.logs import JSONFormatter
from rolloutobs.telemetry.current import Live, set_process_identity


@pytest.fixture
def logger():
    # Without a parent: pytest's own handler raises what it cannot format.
    made = logging.Logger("shop.orders", logging.DEBUG)
    made.addHandler(Written())
    return made


class Written(logging.Handler):
    def __init__(self):
        super().__init__()
        self.setFormatter(JSONFormatter())
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


def written(logger):
    """Return the lines, parsed as strictly as JSON is defined."""
    lines = logger.handlers[0].lines
    assert not any("\n" in line or "\r" in line for line in lines)
    assert all(line.isascii() for line in lines)

    def refuse(text):
        raise AssertionError(text)

    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_a_line_says_what_when_who_and_where(logger):
    set_process_identity(Live(Identity("shop", "1.2.0", Track.CANARY)))
    logger.warning("order %s\nis late", 17, extra={"cents": 4200})
    (line,) = written(logger)
    assert abs(datetime.fromisoformat(line["timestamp"]).timestamp() - datetime.now(UTC).timestamp()) < 3600
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line == {
        "level": "warning",
        "logger": "shop.orders",
        "message": "order 17\nis late",
        "service_name": "shop",
        "service_version": "1.2.0",
        "track": "canary",
        "cents": 4200,
    }


def test_an_exception_is_there_in_full(logger):
    try:
        raise KeyError("größe")
    except KeyError:
        logger.exception("failed", stack_info=True)
    (line,) = written(logger)
    trace = line["exception"].pop("stacktrace")
    assert trace.startswith("Traceback (most recent call last):")
    assert trace.endswith("KeyError: 'größe'")
    assert line["exception"] == {"type": "KeyError", "message": "'größe'"}
    assert line["stack"].startswith("Stack (most recent call last):")


class Sullen:
    def __str__(self):
        raise RuntimeError

    __repr__ = __str__


class Text(str):
    __slots__ = ()

    def __str__(self):
        raise RuntimeError


def test_every_value_is_written_somehow(logger):
    itself = []
    itself.append(itself)
    extra = {
        "nan": float("nan"),
        "inf": [float("-inf")],
        "large": 1 << 64,
        "small": -(1 << 63),
        "bytes": b"a\xff",
        "surrogate": "a\udc80",
        "set": {1},
        "keys": {(1, 2): Sullen(), 3: None},
        "itself": itself,
        "sullen": Sullen(),
        "text": Text("x"),
        "when": datetime(2026, 11, 23, tzinfo=UTC),
        "yes": True,
    }
    logger.info("x", extra=extra)
    (line,) = written(logger)
    itself = line.pop("itself")
    while isinstance(itself, list):
        (itself,) = itself
    assert itself == "..."
    assert {name: line[name] for name in extra if name != "itself"} == {
        "nan": "nan",
        "inf": ["-inf"],
        "large": "18446744073709551616",
        "small": -(1 << 63),
        "bytes": "a\\xff",
        "surrogate": "a?",
        "set": [1],
        "keys": {"(1, 2)": "<Sullen without text>", "3": None},
        "sullen": "<Sullen without text>",
        "text": "<Text without text>",
        "when": "2026-11-23 00:00:00+00:00",
        "yes": True,
    }


def test_names_that_are_taken_are_written_beside(logger):
    set_process_identity(Live(Identity("shop", "1.2.0", Track.CANARY)))
    logger.info("x", extra={"track": "So What", "level": "high", "exception": "y", "trace_id": "their own"})
    (line,) = written(logger)
    assert (line["track"], line["extra_track"]) == ("canary", "So What")
    assert (line["level"], line["extra_level"], line["extra_exception"]) == ("info", "high", "y")
    assert line["trace_id"] == "their own", "without a span there is none of ours"


@pytest.mark.parametrize(
    ("message", "args"), [("%d", ("x",)), ("%s %s", (1,)), (Sullen(), ()), ("%(x)s", ({},))]
)
def test_a_message_that_does_not_fit_is_written_as_it_stands(logger, message, args):
    logger.info(message, *args)
    (line,) = written(logger)
    assert line["level"] == "info"
    assert line["message"]


def test_a_record_without_a_traceback_or_without_anything():
    formatter = JSONFormatter()
    bare = logging.makeLogRecord({"exc_info": (None, None, None), "msg": "x", "levelname": "INFO"})
    assert "exception" not in json.loads(formatter.format(bare))
    del bare.created
    assert json.loads(formatter.format(bare))["level"] == "other"


def test_a_record_that_went_through_a_queue(logger):
    set_process_identity(Live(Identity("shop", "1.2.0")))
    records = queue.SimpleQueue()
    logger.handlers[0].setLevel(logging.CRITICAL)
    logger.addHandler(handler := logging.handlers.QueueHandler(records))
    try:
        raise KeyError("x")
    except KeyError:
        logger.exception("failed")
    logger.removeHandler(handler)
    set_process_identity(Live(Identity("other", "9")))
    line = json.loads(JSONFormatter().format(records.get_nowait()))
    assert line["service_version"] == "1.2.0"
    assert "KeyError: 'x'" in line["message"] + line.get("exception", {}).get("stacktrace", "")


def test_in_a_configuration_of_the_app(capsys):
    set_process_identity(Live(Identity("shop", "1.2.0")))
    formatter = {"()": "rolloutobs.logs.JSONFormatter", "static": {"team": "checkout", "level": "default"}}
    handler = {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": formatter},
            "handlers": {"out": handler},
            "loggers": {"configured": {"handlers": ["out"], "level": "INFO"}},
        }
    )
    logging.getLogger("configured").info("x")
    logging.getLogger("configured").handlers.clear()
    line = json.loads(capsys.readouterr().out)
    assert (line["team"], line["level"], line["service_version"]) == ("checkout", "info", "1.2.0")


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner) | st.tuples(inner)
    ),
    max_leaves=10,
)


@given(message=st.text(), args=st.lists(JSON_LIKE, max_size=3), extra=st.dictionaries(st.text(), JSON_LIKE))
def test_any_record_is_one_line_of_json(message, args, extra):
    record = logging.LogRecord("shop", 20, "p", 1, message, tuple(args), None)
    record.__dict__.update({name: value for name, value in extra.items() if name not in vars(record)})
    line = JSONFormatter().format(record)
    assert "\n" not in line
    parsed = json.loads(line, parse_constant=lambda text: pytest.fail(text))
    assert parsed["logger"] == "shop"


class SullenError(Exception):
    __str__ = Sullen.__str__


def test_the_traceback_of_an_exception_that_cannot_be_printed():
    try:
        raise SullenError
    except SullenError:
        record = logging.LogRecord("shop", 40, "p", 1, "x", (), sys.exc_info())
    line = json.loads(JSONFormatter().format(record))
    assert line["exception"]["message"] == "<SullenError without text>"
    assert line["exception"]["stacktrace"]
