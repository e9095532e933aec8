"""Logs in once for each track and lets the journeys that follow use it, until it has expired.

Belongs here: when to log in. How a walk takes and leaves a session is `synthetic.browser` and
`synthetic.api`.
"""

from __future__ import annotations

import logging
from asyncio import Lock
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace

from synthetic.journey import Login
from synthetic.result import Fault
from synthetic.session import Session
from synthetic.visit import Trip, Visit

__all__ = ["Sessions"]

log = logging.getLogger(__name__)

Walker = Callable[[Trip, bool], Awaitable[Visit]]
"""Walks a trip; with a browser if the second argument says so."""


class Sessions:
    """The sessions of one process, by login and target.

    Args:
        walk: walks a login or a journey.
        clock: seconds.
    """

    def __init__(self, walk: Walker, clock: Callable[[], float]) -> None:
        self._walk = walk
        self._clock = clock
        self._kept: dict[tuple[object, str, str], tuple[Session, float]] = {}
        self._locks: defaultdict[tuple[object, str, str], Lock] = defaultdict(Lock)

    async def walk(self, trip: Trip, login: Login | None, *, needs_browser: bool) -> Visit:
        """Walk a trip, logged in if `login` is given.

        A login that fails is what the walk came to. One that was used before and that the target no longer
        takes (a 401, or a journey's `SignedOutError`) is made anew, and the journey walked once more.
        """
        if login is None:
            return await self._walk(trip, needs_browser)
        key = login.walk, trip.track, trip.url
        async with self._locks[key]:
            session = self._valid(key)
            entered = None if session else await self._enter(trip, login)
            if entered is not None:
                if entered.session is None:
                    return entered
                session = entered.session
                self._kept[key] = session, self._clock() + login.seconds
        seen = await self._walk(replace(trip, session=session), needs_browser)
        if entered is not None:
            return replace(seen, answers=(*entered.answers, *seen.answers))
        if not seen.signed_out:
            return seen
        log.info("the session on %s has expired; logging in again", trip.track)
        self._kept.pop(key, None)
        return await self.walk(trip, login, needs_browser=needs_browser)

    def _valid(self, key: tuple[object, str, str]) -> Session | None:
        session, until = self._kept.get(key, (None, 0.0))
        return session if self._clock() < until else None

    async def _enter(self, trip: Trip, login: Login) -> Visit:
        seen = await self._walk(
            replace(trip, walk=login.walk, budgets={}, wants_session=True), login.needs_browser
        )
        if seen.fault is not Fault.NONE or any(step.error for step in seen.steps) or seen.astray:
            return replace(seen, session=None, error=f"log in: {seen.error}" if seen.error else "")
        return seen
