import logging

from rolloutobs.telemetry.failures import Failures, Where
from rolloutobs.testing import FakeClock


def counts(failures):
    return {values[0]: cell.value for values, cell in failures.family.items()}


def test_each_failure_is_counted_and_one_a_minute_is_logged(caplog):
    clock = FakeClock()
    failures = Failures(clock=clock)
    none = dict.fromkeys((where.value for where in Where), 0)
    assert counts(failures) == none
    for _ in range(5):
        failures.record(Where.REQUEST, ValueError("broken"))
    failures.record(Where.EXPORT, "collector is down")
    assert counts(failures) == none | {"request": 5, "export": 1}
    assert [record.getMessage() for record in caplog.records] == [
        "telemetry failed (request): broken; the app is not affected, further failures are counted in "
        "rolloutobs_internal_errors_total"
    ]
    clock.advance(60)
    failures.record(Where.EXPORT, "collector is down")
    assert len(caplog.records) == 2


def test_a_logging_handler_that_raises_does_not_matter(monkeypatch):
    class Broken(logging.Handler):
        def emit(self, record):
            raise OSError("disk full")

    handler = Broken()
    logger = logging.getLogger("rolloutobs")
    logger.addHandler(handler)
    try:
        failures = Failures(clock=FakeClock())
        failures.record(Where.REQUEST, ValueError("broken"))
    finally:
        logger.removeHandler(handler)
    assert counts(failures)["request"] == 1
