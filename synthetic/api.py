"""Walks a journey that needs no browser: it calls the target's API.

Belongs here: one walk with a client of its own. What it is told and leaves is the same as with a browser.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from time import perf_counter

from synthetic._http import fault_of, open_client
from synthetic.journey import Walk
from synthetic.marking import new_trace_id
from synthetic.result import Fault
from synthetic.target import Answer
from synthetic.visit import Lost, Trip, Visit, common_fault, find_track

__all__ = ["walk_api"]

log = logging.getLogger(__name__)

_CALL_SECONDS = 10.0
"""Longest call; half of the journey's limit where that is less, so that the failing step is named."""


async def walk_api(trip: Trip) -> Visit:
    """Walk a trip whose journey's first argument is a client (`httpx2.AsyncClient`) of the target.

    Returns:
        What happened. A journey that fails is a result, never an exception.
    """
    trace_id = "" if trip.marking is None else new_trace_id()
    journey = Walk(trip.url, trip.track, None, secrets=trip.secrets)
    caller = _Caller(trip, trace_id)
    problem: Exception | SystemExit | None = None
    started = perf_counter()
    try:
        async with caller.client:
            async with asyncio.timeout(trip.timeout_seconds):
                await caller.find()
            started = perf_counter()
            async with asyncio.timeout(trip.timeout_seconds):
                await trip.walk(caller.client, journey)
            seconds = perf_counter() - started
            try:
                await caller.identify_again()
            except Exception as unanswered:
                # Who does not answer now says nothing; what it said before still counts.
                if fault_of(unanswered) is None:
                    raise
                log.debug("asking who answers: %s", unanswered)
    except (Exception, SystemExit) as caught:
        problem = caught
        seconds = perf_counter() - started
    fault, error = common_fault(problem, trip.secrets, trip.timeout_seconds)
    astray = isinstance(problem, Lost)
    clean = trip.secrets.clean
    return Visit(
        steps=journey.steps,
        seconds=seconds,
        fault=Fault.NONE if astray else fault_of(problem) or fault,
        error="" if astray else error,
        answers=tuple(replace(answer, url=clean(answer.url)) for answer in caller.answers),
        trace_id=trace_id,
        details="" if problem is None else clean(str(problem)),
        astray=str(problem) if astray else "",
    )


class _Caller:
    """A client, and who answered it."""

    def __init__(self, trip: Trip, trace_id: str) -> None:
        self._trip = trip
        self._asking = False
        self.answers: list[Answer] = []
        seconds = min(_CALL_SECONDS, trip.timeout_seconds / 2)
        self.client = open_client(trip, trace_id, seconds, self._note)

    async def find(self) -> None:
        """Ask until the wanted track answers; see `find_track`."""
        answer = await find_track(self._trip, self._renew, self._ask)
        self.answers += [] if answer is None else [answer]

    async def identify_again(self) -> None:
        """Ask once more after a journey, for the witnesses that have to be asked."""
        if self._trip.witness.path:
            self.answers.append(await self._ask(self._trip.witness.path))

    async def _renew(self) -> None:
        self.client.cookies.clear()

    async def _ask(self, path: str) -> Answer:
        self._asking = True
        try:
            answer = await self.client.get(path, headers={"connection": "close"})
        finally:
            self._asking = False
        said = self._trip.witness.of_headers(answer.headers)
        if self._trip.witness.path and answer.is_success:
            said = self._trip.witness.of_body(answer.text)
        return Answer(str(answer.request.url), answer.status_code, said)

    def _note(self, answer: Answer) -> None:
        if not self._asking and not self._trip.witness.path:
            self.answers.append(answer)
