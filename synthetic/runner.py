"""Runs a check in pairs: the same journey against stable and canary, at the same moment, in random order.

Belongs here: one pair, the schedule of many, and the life of the browser between them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from random import Random
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from synthetic._http import require_httpx2
from synthetic.api import walk_api
from synthetic.browser import open_browser, walk
from synthetic.journey import Journey
from synthetic.marking import Marking
from synthetic.redaction import Secrets
from synthetic.report import Artifacts
from synthetic.result import CheckOutcome, Fault, Pair, PairVerdict, TrackRun, outcome_of
from synthetic.sessions import Sessions
from synthetic.settings import BrowserSettings, CheckSettings
from synthetic.target import Proof, Proven, Target, prove
from synthetic.visit import Trip, Visit

if TYPE_CHECKING:
    from playwright.async_api import Browser

__all__ = ["Check", "PairRunner", "RunsPairs", "Schedule", "run_pairs"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """A journey, the two targets it is walked against, and how."""

    settings: CheckSettings
    journey: Journey
    stable: Target
    canary: Target
    browser: BrowserSettings


@dataclass(frozen=True, slots=True)
class Schedule:
    """When pairs run."""

    every_seconds: float | None = None
    """From start to start; a pair that takes longer skips the starts it missed. ``None``: one after the
    other."""
    count: int | None = None
    """``None``: until stopped."""
    pairs: int = 1
    """So many at each start: one for each check."""


class PairRunner:
    """Runs pairs in one browser, which is started again after it died.

    Args:
        checks: what to run, in turn; they share a browser and the targets.
        secrets: what journeys may ask for.
        random: draws which track starts first.
        clock: unix seconds.
        on_internal_error: told where something failed that is neither track's fault, e.g. ``"artifacts"``.
    """

    def __init__(
        self,
        checks: Sequence[Check],
        secrets: Secrets,
        random: Random,
        clock: Callable[[], float],
        on_internal_error: Callable[[str], None],
    ) -> None:
        self._checks = checks
        self._turn = 0
        self._secrets = secrets
        self._random = random
        self._clock = clock
        self._on_internal_error = on_internal_error
        self._sessions = Sessions(self._walk_trip, monotonic)
        self._keeping = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._browser: Browser | None = None

    async def __aenter__(self) -> PairRunner:
        """Start the browser, if a journey needs one.

        Raises:
            ConfigurationError: there is none, or it does not start.
        """
        if any(map(_needs_browser, self._checks)):
            await self._open()
        if not all(check.journey.needs_browser for check in self._checks):
            require_httpx2()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the browser."""
        await self._close()

    async def run(self) -> Pair:
        """Run one pair of the next check in turn; one that failed is walked once more if so asked.

        Raises:
            ConfigurationError: the browser died earlier and does not start again.
        """
        check = self._checks[self._turn]
        self._turn = (self._turn + 1) % len(self._checks)
        first = await self._pair(check)
        failed = (PairVerdict.CANARY_FAILED, PairVerdict.BOTH_FAILED)
        for number in range(check.settings.retries if first.verdict in failed else 0):
            again = await self._pair(check)
            if again.verdict is PairVerdict.PASS:
                return replace(first, retries=number + 1, passed_on_retry=True)
        return replace(first, retries=check.settings.retries if first.verdict in failed else 0)

    async def _pair(self, check: Check) -> Pair:
        browser = await self._open() if _needs_browser(check) else None
        started = self._clock()
        targets = [check.stable, check.canary]
        self._random.shuffle(targets)
        async with asyncio.TaskGroup() as tasks:
            runs = [tasks.create_task(self._walk(check, target)) for target in targets]
        by_target = dict(zip(targets, (task.result() for task in runs), strict=True))
        stable, canary = by_target[check.stable], by_target[check.canary]
        pair = Pair(started, targets[0].track, stable, canary, check.settings.check)
        if browser is not None and any(run.fault is Fault.HARNESS for run in pair.runs):
            await self._close()
        return pair

    async def _walk(self, check: Check, target: Target) -> TrackRun:
        trip = Trip(
            target.url,
            check.journey.walk,
            target.track.value,
            target,
            Marking(check.browser.secret),
            check.settings.timeout_seconds,
            self._secrets,
            record=check.settings.artifacts is not None,
            budgets=check.journey.budgets,
        )
        journey = check.journey
        seen = await self._sessions.walk(trip, journey.login, needs_browser=journey.needs_browser)
        proof = Proof(Proven.WRONG, None, seen.astray) if seen.astray else prove(target, seen.answers)
        run = TrackRun(
            target=target,
            outcome=outcome_of(seen.fault, proof, seen.steps),
            seconds=seen.seconds,
            steps=seen.steps,
            proof=proof,
            fault=seen.fault,
            error=seen.error,
            trace_id=seen.trace_id,
            page_error=seen.page_error,
            ended=self._clock(),
            pages=seen.pages,
        )
        return run if run.outcome is CheckOutcome.PASS else await self._keep(check, run, seen)

    async def _walk_trip(self, trip: Trip, needs_browser: bool) -> Visit:
        if not needs_browser:
            return await walk_api(trip)
        if self._browser is None:
            raise RuntimeError("no browser was opened for this pair")
        return await walk(self._browser, trip)

    async def _keep(self, check: Check, run: TrackRun, seen: Visit) -> TrackRun:
        """Save the artifacts of a run that did not pass; a full disk does not change its outcome, and is
        counted."""
        if check.settings.artifacts is None:
            return run
        artifacts = Artifacts(check.settings.artifacts, check.settings.keep_artifacts)
        console = "".join(
            f"{line}\n" for line in (*seen.console, *(["", seen.details] if seen.details else []))
        )
        files = {"console.txt": console.encode(), **seen.files}
        if seen.screenshot is not None:
            files["screenshot.png"] = seen.screenshot
        try:
            # One after the other: they share the room.
            async with self._keeping:
                folder = await asyncio.to_thread(artifacts.save, check.settings.check, run, files)
        except OSError as problem:
            self._on_internal_error("artifacts")
            log.warning("the artifacts of a failed run could not be kept: %s", problem)
            return run
        return replace(run, artifacts=folder)

    async def _open(self) -> Browser:
        if self._browser is None or not self._browser.is_connected():
            await self._close()
            self._browser = await self._stack.enter_async_context(open_browser(self._checks[0].browser))
        return self._browser

    async def _close(self) -> None:
        self._browser = None
        stack, self._stack = self._stack, AsyncExitStack()
        try:
            async with asyncio.timeout(10):
                await stack.aclose()
        except Exception as problem:
            # Playwright raises bare exceptions when its driver is gone; there is nothing left to close then.
            log.debug("closing the browser: %s", problem)


def _needs_browser(check: Check) -> bool:
    login = check.journey.login
    return check.journey.needs_browser or (login is not None and login.needs_browser)


class RunsPairs(Protocol):
    """What `run_pairs` needs of a runner."""

    async def run(self) -> Pair:
        """Run one pair."""


async def run_pairs(
    runner: RunsPairs, schedule: Schedule, publish: Callable[[Pair], None], stop: asyncio.Event
) -> None:
    """Run pairs as scheduled and hand each to `publish`; a pair during which `stop` is set is given up.

    Raises:
        ConfigurationError: the browser died and does not start again.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.create_task(stop.wait())
    due = loop.time()
    done = 0
    try:
        while not stop.is_set():
            for _ in range(schedule.pairs):
                pair = asyncio.create_task(runner.run())
                await asyncio.wait((pair, stopped), return_when=asyncio.FIRST_COMPLETED)
                if not pair.done():
                    pair.cancel()
                    await asyncio.wait((pair,))
                    return
                publish(pair.result())
            done += 1
            if done == schedule.count:
                return
            due = _next_start(due, loop.time(), schedule.every_seconds)
            await asyncio.wait((stopped,), timeout=max(0.0, due - loop.time()))
    finally:
        stopped.cancel()


def _next_start(due: float, now: float, every_seconds: float | None) -> float:
    """Return the first start on the grid of `every_seconds` after `due` that is not past."""
    if every_seconds is None:
        return now
    missed = max(0.0, now - due) // every_seconds
    return due + (missed + 1) * every_seconds
