"""Records and errors of a whole process, counted while real frameworks and servers log."""

import asyncio
import logging
import os

import flask
import pytest
import uvicorn

from rolloutobs import Settings, semconv
from rolloutobs.identity import Track
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry import logs
from rolloutobs.testing import parse_metrics, sample_value


@pytest.fixture
def hub():
    made = hubs.new_hub(Settings(service="shop", version="1.2.0", track="canary"))
    logs.enable(made)
    return made


@pytest.fixture
def logger():
    made = logging.getLogger("shop.orders")
    made.setLevel(logging.DEBUG)
    yield made
    made.setLevel(logging.NOTSET)


def samples(hub):
    return parse_metrics(hub.render().body.decode())


def levels(hub):
    return {s.labels["level"]: s.value for s in samples(hub) if s.name == semconv.LOG_RECORDS_TOTAL}


def errors(hub):
    found = [s for s in samples(hub) if s.name == semconv.APP_ERRORS_TOTAL]
    return {(s.labels["fingerprint"], s.labels["type"]): s.value for s in found}


def test_levels_that_matter_are_exposed_from_zero(hub):
    assert levels(hub) == {"warning": 0, "error": 0, "critical": 0}


def test_each_record_of_an_enabled_logger_counts_whatever_becomes_of_it(hub, logger):
    logger.addFilter(refuse := (lambda record: False))
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL, 25, 3):
        logger.log(level, "x")
    logger.removeFilter(refuse)
    expected = {"debug": 1, "info": 1, "warning": 1, "error": 1, "critical": 1, "other": 1}
    assert levels(hub) == expected, "level 3 is not enabled"
    logger.setLevel(logging.CRITICAL)
    logger.error("not enabled")
    assert levels(hub) == expected


def test_version_and_track_are_on_the_counts(hub, logger):
    logger.error("x")
    hub.retrack(Track.STABLE)
    logger.error("x")
    logger.error("x")
    found = {s.labels["track"]: s.value for s in samples(hub)
             if s.name == semconv.LOG_RECORDS_TOTAL and s.labels["level"] == "error"}  # fmt: skip
    assert found == {"canary": 1, "stable": 2}


def test_errors_have_fingerprints_that_the_record_carries_too(hub, logger, caplog):
    logger.error("order %s failed", 17)
    logger.critical("order %s failed", 18)
    logger.warning("order %s is late", 17)
    one, other, late = (r for r in caplog.records if r.name == logger.name)
    assert one.error_fingerprint == other.error_fingerprint
    assert late.error_fingerprint == ""
    assert errors(hub) == {(one.error_fingerprint, "log"): 2}


def test_what_we_log_ourselves_is_no_error_of_the_app(hub):
    logging.getLogger("rolloutobs").error("telemetry failed")
    assert levels(hub)["error"] == 0
    assert errors(hub) == {}


def test_a_handler_that_logs_errors_itself_ends(hub, logger):
    class Chatty(logging.Handler):
        def emit(self, record):
            if record.name == "rolloutobs.errors":
                logging.getLogger("chatty").error("seen: %s", record.getMessage())

    root = logging.getLogger()
    root.addHandler(handler := Chatty())
    logger.error("x")
    root.removeHandler(handler)
    assert levels(hub)["error"] == 3, "x, what the handler said of it, and of that"
    assert len(errors(hub)) == 2


def test_a_second_app_shares_the_counts(hub, logger):
    admin = hubs.new_hub(Settings(service="admin", version="7"))
    logs.enable(admin)
    logger.error("x")
    for one in (hub, admin):
        assert sample_value(samples(one), semconv.LOG_RECORDS_TOTAL, app=one.settings.service,
                            version=one.settings.version, level="error",
                            track=one.settings.track.value) == 1  # fmt: skip


def test_enabled_again_it_counts_once(hub, logger):
    logs.enable(hub)
    logs.enable(hub)
    logger.error("x")
    assert levels(hub)["error"] == 1


def test_disabled_it_leaves_records_alone(hub, logger, caplog):
    logs.disable()
    logger.error("x")
    assert levels(hub)["error"] == 0
    assert not hasattr(caplog.records[0], "track")
    logs.enable(hub)
    logger.error("x")
    assert levels(hub)["error"] == 1


def test_a_forked_child_counts_for_itself(hub, logger):
    logger.error("x")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            logger.error("x")
            os.write(writer, str(levels(hub)["error"]).encode())
        finally:
            os._exit(0)
    # Ours first: else a child that fails before it writes would be waited for for ever.
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert answer.read() == "1.0"
    os.waitpid(child, 0)
    assert levels(hub)["error"] == 1


def test_a_counter_that_fails_does_not_reach_whoever_logs(hub, logger, monkeypatch):
    monkeypatch.setattr("rolloutobs.telemetry.fingerprints.of_message", lambda *_: 1 / 0)
    logger.error("x")
    assert logs.count(logging.ERROR, "structlog", "x", None) == ""
    assert sample_value(samples(hub), semconv.INTERNAL_ERRORS_TOTAL, where="logs", app="shop",
                        version="1.2.0", track="canary") == 2  # fmt: skip


def test_where_nothing_is_enabled_nothing_is_counted():
    assert logs.count(logging.ERROR, "shop", "x", None) == ""
    logs.failed(RuntimeError("nobody to tell"))
    logs.flush()


class PaymentError(Exception):
    pass


def test_flask_logs_an_error_that_the_boundary_never_sees(hub):
    app = flask.Flask("shop")

    @app.get("/")
    def index():
        raise PaymentError("refused")

    client = app.test_client()
    assert [client.get("/").status_code for _ in range(2)] == [500, 500]
    assert [(kind, value) for (_, kind), value in errors(hub).items()] == [(f"{__name__}.PaymentError", 2)]


async def request(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.split(maxsplit=2)[1]


@pytest.fixture
def uvicorn_is_heard(monkeypatch, caplog):
    """Whatever servers in this process before have set, for ever, in uvicorn's loggers."""
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "propagate", True)
    caplog.set_level(logging.ERROR, "uvicorn.error")


@pytest.mark.usefixtures("uvicorn_is_heard")
async def test_uvicorn_logs_what_was_counted_already(hub, caplog):
    together = asyncio.Barrier(2)

    async def app(scope, receive, send):
        try:
            await together.wait()
            raise PaymentError("refused")
        except Exception as error:
            logs.record_exception(error, hub)
            raise

    config = uvicorn.Config(app, port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(30):
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        for _ in range(2):
            assert await asyncio.gather(request(port), request(port)) == [b"500", b"500"]
        server.should_exit = True
        await serving
    logged = [r for r in caplog.records if r.name == "uvicorn.error" and r.levelno == logging.ERROR]
    assert len(logged) == 4
    assert levels(hub)["error"] == 4
    ((fingerprint, kind), value), *more = errors(hub).items()
    assert (kind, value, more) == (f"{__name__}.PaymentError", 4, [])
    assert {r.error_fingerprint for r in logged} == {fingerprint}
