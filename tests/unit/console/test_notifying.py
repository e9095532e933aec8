"""Notifications, over whatever goes wrong."""

import threading
import time
from dataclasses import replace

from rolloutobs.analysis.model import Decision
from rolloutobs.console.board import Board
from rolloutobs.console.failures import Failures
from rolloutobs.console.notifying import Notifier
from rolloutobs.testing import FakeClock
from tests.unit.console.test_board import KEY, SHOP, seen

LIMIT_SECONDS = 60.0


def test_one_that_cannot_be_posted_at_all_takes_no_other_along(monkeypatch, caplog):
    monkeypatch.setenv("ALL_PROXY", "nonsense://x")
    clock, failures = FakeClock(1000.0), Failures()
    notifier = Notifier(failures, clock)
    board = Board(None, clock, notifier)
    board.put(replace(SHOP, notify="http://127.0.0.1:1/secret"))
    notifier.start()
    for decision in (Decision.ROLLBACK, Decision.PROMOTE):
        board.tell(KEY, 1, seen(decision, clock()))
    deadline, waiting = time.monotonic() + LIMIT_SECONDS, threading.Event()
    while failures.totals()["notify"] < 2:
        assert time.monotonic() < deadline
        waiting.wait(0.01)
    notifier.close()
    assert caplog.text.count("127.0.0.1 was not notified") == 2
    assert "secret" not in caplog.text
