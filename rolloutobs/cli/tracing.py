"""The decisions of ``rolloutobs serve`` as spans of their rollouts' traces, from a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from rolloutobs.analysis.model import Decision
from rolloutobs.analysis.report import Report
from rolloutobs.cli.acting import PAGE
from rolloutobs.cli.spans import send_span
from rolloutobs.cluster.access import Connection
from rolloutobs.cluster.owned import owned
from rolloutobs.console.board import Board
from rolloutobs.console.failures import Failures
from rolloutobs.console.model import Key, Status
from rolloutobs.console.standing import standing
from rolloutobs.errors import ClusterError, ConfigurationError

__all__ = ["Tracer"]

_SECONDS: Final = 20.0
"""For one reading of the cluster."""
_ENDING_SECONDS: Final = 3.0

logger: Final = logging.getLogger("rolloutobs.serve")


@dataclass(slots=True)
class _Unsent:
    """A decision that its trace does not have yet."""

    number: int
    """Of the rollout, as serve counts."""
    word: str
    report: Report
    """As it was when that was decided."""
    rollout: str = ""
    """`Rollout.id` of the cluster; empty: not known yet."""
    is_lost: bool = False


class Tracer:
    """Sends each decision once: a promotion, a rollback, a rollback that only a person may carry out, and the
    hold of a rollout that ended undecided. A look that is pending is none.

    What could not be sent is tried again after the next look, and after a restart, as the board keeps what
    was sent. The last decision of a workload waits, and no more.

    Args:
        connection: to the API server, which knows what the rollout is called.
        board: is told what was sent; `take` is to be called with what it weighs.
        failures: counts attempts that have failed, and decisions that were lost.
        clock: Unix time.
    """

    def __init__(
        self, connection: Connection, board: Board, failures: Failures, clock: Callable[[], float]
    ) -> None:
        self._connection, self._board = connection, board
        self._failures, self._clock = failures, clock
        self._lock = threading.Lock()
        self._unsent: dict[Key, _Unsent] = {}
        self._busy: set[Key] = set()
        self._waiting: queue.SimpleQueue[Key | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="rolloutobs-tracer", daemon=True)
        self._said = ""

    def start(self) -> None:
        """Begin to send."""
        self._board.weighed = self.take
        self._thread.start()

    def close(self) -> None:
        """Send what is left, for a few seconds."""
        self._waiting.put(None)
        self._thread.join(_ENDING_SECONDS)

    def take(self, status: Status, is_news: bool) -> None:
        """Take in what holds for a workload by now.

        Args:
            status: of the workload.
            is_news: whether it was decided at this moment.
        """
        report = standing(status, self._clock()).report
        rollout, key = status.rollout, status.workload.key
        word = _word(status, report)
        if report is None or not word or word == rollout.traced:
            return
        with self._lock:
            item = self._unsent.get(key)
            is_new = item is None or (item.number, item.word) != (rollout.number, word)
            if item is None or is_new:
                item = self._replaced(key, item, status, _Unsent(rollout.number, word, report))
            if item.is_lost or key in self._busy:
                return
            is_there = (is_new and is_news) or (status.seen is not None and status.seen.has_canary)
            if not item.rollout and not is_there:
                self._loses(key, item, "its canary is gone, and the cluster may be in another rollout")
                return
            self._busy.add(key)
        self._waiting.put(key)

    def _replaced(self, key: Key, old: _Unsent | None, status: Status, new: _Unsent) -> _Unsent:
        if old is not None and not old.is_lost:
            self._loses(key, old, "another decision came before this one was sent")
        # After one that was sent, the next one's time begins: each has a span, and an id, of its own.
        began = max(new.report.began, status.rollout.traced_at or 0.0)
        new.report = replace(new.report, began=began)
        self._unsent[key] = new
        return new

    def _run(self) -> None:
        while (key := self._waiting.get()) is not None:
            with self._lock:
                item = self._unsent[key]
            is_sent = self._send(key, item)
            if is_sent:
                self._board.traced(key, item.number, item.word, item.report.ended)
            with self._lock:
                # Not before the board knows: what it weighs meanwhile would be sent again.
                self._busy.discard(key)
                if is_sent and self._unsent.get(key) is item:
                    del self._unsent[key]

    def _send(self, key: Key, item: _Unsent) -> bool:
        try:
            item.rollout = item.rollout or asyncio.run(self._rollout_of(key))
            if send_span(item.report, item.rollout):
                return True
            self._fails(key, "the receiver has not taken it")
        except (ClusterError, TimeoutError) as error:
            self._fails(key, str(error) or "the API server does not answer")
        except ConfigurationError as error:
            self._loses(key, item, str(error))
        except Exception as error:
            logger.exception("%s/%s: a span could not be sent", *key)
            self._fails(key, repr(error))
        return False

    async def _rollout_of(self, key: Key) -> str:
        async with asyncio.timeout(_SECONDS):
            found = await owned(self._connection, key[1], key[0])
        if not found.rollout:
            raise ConfigurationError("the cluster knows no rollout of it")
        return found.rollout

    def _loses(self, key: Key, item: _Unsent, why: str) -> None:
        item.is_lost = True
        self._fails(key, why)

    def _fails(self, key: Key, why: str) -> None:
        self._failures.count("traces")
        text = f"{'/'.join(key)}: the decision could not be sent as a span: {why}"
        if text != self._said:
            logger.error("%s", text)
        self._said = text


def _word(status: Status, report: Report | None) -> str:
    """Return what is decided; empty: nothing is."""
    if report is None:
        return ""
    if report.is_page:
        return PAGE
    if report.decision is not Decision.HOLD:
        return report.decision.value
    return report.decision.value if status.rollout.phase and not status.rollout.traced else ""
