"""Handing things over to a server that may be away: again and again, in turn, and never without a bound.

A sink takes a change at once; what it makes of it waits here, so that no server holds up the watcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Generic, TypeVar

from rolloutobs.analysis._http import Retries

__all__ = ["Attempt", "Delivery", "Outcome", "Patience"]

_LOG: Final = logging.getLogger("rolloutobs.cluster")

T = TypeVar("T")


class Outcome(Enum):
    """What became of an attempt."""

    TAKEN = auto()
    LATER = auto()
    """The same may be taken a moment later."""
    REFUSED = auto()
    """It will never be taken; it is lost."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt has ended."""

    outcome: Outcome
    why: str = ""
    """Of what was not taken, in one sentence."""
    after_seconds: float = 0.0
    """How long the server wants to be left alone; 0: it does not say."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how many wait. Times in seconds."""

    first_seconds: float = 1.0
    """The longest first wait after a failure; it doubles each time, and each is a random part of it."""
    most_seconds: float = 60.0
    most_waiting: int = 1000
    """Beyond it the oldest is lost."""
    close_seconds: float = 5.0
    """For what is left at the end."""


class Delivery(Generic[T]):
    """Hands things over, one by one; a newer thing of the same key takes the place of one that waits.

    Args:
        name: for the log.
        attempt: hands one over; what it raises is a fault of ours, and loses the thing.
        patience: how long and how many wait.
    """

    def __init__(self, name: str, attempt: Callable[[T], Awaitable[Attempt]], patience: Patience) -> None:
        self.failures = 0
        """Attempts that have failed, and things that were lost."""
        self._name, self._attempt, self._patience = name, attempt, patience
        self._waiting: OrderedDict[str, T] = OrderedDict()
        self._more = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._task: asyncio.Task[None] | None = None
        self._said = ""

    def put(self, key: str, thing: T) -> None:
        """Let `thing` wait for its turn; begin to hand over if that has not begun."""
        self._waiting[key] = thing
        if len(self._waiting) > self._patience.most_waiting:
            lost, _ = self._waiting.popitem(last=False)
            self._fails(f"too many are waiting, {lost} is lost")
        self._empty.clear()
        self._more.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Hand over what is left, for a few seconds; what is left then is lost."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience.close_seconds):
                await self._empty.wait()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        for key in self._waiting:
            self._fails(f"the end has come, {key} is lost")
        self._waiting.clear()

    async def _run(self) -> None:
        in_a_row = 0
        while True:
            await self._more.wait()
            key, thing = next(iter(self._waiting.items()))
            try:
                done = await self._attempt(thing)
            except Exception as error:
                done = Attempt(Outcome.REFUSED, f"{key} is lost: {error!r}")
            if done.outcome is Outcome.LATER:
                self._fails(done.why)
                in_a_row += 1
                # The others may be taken: one that never is must not hold them up.
                if self._waiting.get(key) is thing:
                    self._waiting.move_to_end(key)
                await asyncio.sleep(self._wait(in_a_row, done.after_seconds))
                continue
            in_a_row = 0
            if done.outcome is Outcome.REFUSED:
                self._fails(done.why)
            else:
                self._said = ""
            # What has come meanwhile under the same key is newer.
            if self._waiting.get(key) is thing:
                del self._waiting[key]
            if not self._waiting:
                self._more.clear()
                self._empty.set()

    def _wait(self, in_a_row: int, after_seconds: float) -> float:
        patience = self._patience
        seconds = Retries(first_seconds=patience.first_seconds).wait(min(in_a_row, 16))
        return min(max(seconds, after_seconds), patience.most_seconds)

    def _fails(self, why: str) -> None:
        self.failures += 1
        if why != self._said:
            _LOG.warning("%s: %s", self._name, why)
        self._said = why
