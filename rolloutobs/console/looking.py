"""The thread that looks: one event loop in which every workload is followed, apart from the one that answers.

A workload that cannot be followed is tried again; it takes no other along.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from rolloutobs.console.board import Board
from rolloutobs.console.model import Follow, Key, Rollout, RolloutOverError, Seen, Status
from rolloutobs.errors import RolloutobsError

__all__ = ["Looker"]

_AGAIN_SECONDS: Final = 15.0
"""Between two attempts to follow a workload that cannot be followed."""
_PULSE_SECONDS: Final = 1.0
_ENDING_SECONDS: Final = 5.0

logger: Final = logging.getLogger("rolloutobs.serve")


class _Following:
    """One workload being followed."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Looker:
    """Follows every workload of a board until it is closed.

    Args:
        board: where workloads are found, and looks are told.
        follow: looks at one rollout.
        again_seconds: between two attempts to follow a workload that cannot be followed.
    """

    def __init__(self, board: Board, follow: Follow, again_seconds: float = _AGAIN_SECONDS) -> None:
        self._board, self._follow, self._again_seconds = board, follow, again_seconds
        self._followings: dict[Key, _Following] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rolloutobs-looker", daemon=True)
        self._pulse = time.monotonic()
        self._ended: asyncio.Event | None = None

    def start(self) -> None:
        """Begin to follow what is on the board, and what will be."""
        self._thread.start()
        self._ready.wait()
        self._board.changed = self.changed
        for status in self._board.all():
            self.changed(status.workload.key)

    def close(self) -> None:
        """Stop, and wait for looks under way, a few seconds at most."""
        loop, ended = self._loop, self._ended
        if loop is not None and ended is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(ended.set)
            self._thread.join(_ENDING_SECONDS)

    def changed(self, key: Key) -> None:
        """Follow a workload anew, or no longer; from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._restart, key)

    @property
    def silent_seconds(self) -> float:
        """Return how long the thread has shown no sign of life."""
        return time.monotonic() - self._pulse

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        while not self._ended.is_set():
            self._pulse = time.monotonic()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _PULSE_SECONDS)
        followings = list(self._followings.values())
        for each in followings:
            each.stop.set()
        tasks = [each.task for each in followings if each.task]
        if tasks:
            await asyncio.wait(tasks, timeout=_ENDING_SECONDS - 1.0)

    def _restart(self, key: Key) -> None:
        """Stop what is followed under `key`; whoever stops begins anew if there is still something."""
        old = self._followings.get(key)
        if old is not None and old.task is not None and not old.task.done():
            old.stop.set()
            return
        if self._board.get(key) is None or self._ended is None or self._ended.is_set():
            self._followings.pop(key, None)
            return
        following = _Following()
        following.task = asyncio.get_running_loop().create_task(self._keep_following(key, following))
        following.task.add_done_callback(lambda _: self._restart(key))
        self._followings[key] = following

    async def _keep_following(self, key: Key, following: _Following) -> None:
        """Follow the rollout of now until it is stopped; wait a little after a failure."""
        status = self._board.get(key)
        if status is None:
            return
        number = status.rollout.number
        try:
            await self._follow(
                status.workload, status.rollout, self._teller(status, following), following.stop
            )
        except RolloutOverError as over:
            self._board.over(key, number, over)
            return
        except (RolloutobsError, OSError) as error:
            self._board.fail(key, number, str(error))
        except Exception as error:
            logger.exception("%s/%s cannot be followed", *key)
            self._board.fail(key, number, f"{type(error).__name__}: {error}")
        if not following.stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(following.stop.wait(), self._again_seconds)

    def _teller(self, status: Status, following: _Following) -> Callable[[Seen], Rollout]:
        key, rollout = status.workload.key, status.rollout

        def tell(seen: Seen) -> Rollout:
            found = self._board.tell(key, rollout.number, seen)
            if found is None:
                following.stop.set()
            return found or rollout

        return tell
