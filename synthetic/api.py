"""Walks a journey that needs no browser: it calls the target's API.

Belongs here: one walk with a client of its own. What it is told and leaves is the same as with a browser.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from time import perf_counter

from synthetic._http import fault_of, open_client
from synthetic.har import Call, har_of
from synthetic.journey import Walk
from synthetic.marking import new_trace_id
from synthetic.result import Fault
from synthetic.scrubbing import HAR
from synthetic.session import Session
from synthetic.target import Answer
from synthetic.visit import Lost, Trip, Visit, as_result, common_fault, find_track, is_signed_out

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
    if trip.session is not None:
        journey.authorize(trip.session.authorization)
    caller = _Caller(trip, trace_id, journey)
    problem: BaseException | None = None
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
    except BaseException as caught:
        problem = as_result(caught)
        seconds = perf_counter() - started
    failed = problem is not None or any(step.error for step in journey.steps)
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
        files={HAR: har_of(caller.calls, trip.secrets)} if failed and caller.calls else {},
        session=caller.session(),
        signed_out=is_signed_out(problem, caller.statuses),
    )


class _Caller:
    """A client, and who answered it."""

    def __init__(self, trip: Trip, trace_id: str, journey: Walk) -> None:
        self._trip = trip
        self._journey = journey
        self._asking = False
        self.answers: list[Answer] = []
        self.calls: list[Call] = []
        self.statuses: set[int] = set()
        seconds = min(_CALL_SECONDS, trip.timeout_seconds / 2)
        self.client = open_client(trip, trace_id, seconds, self)
        self._take_session()

    def authorization(self) -> str:
        """Return what the journey wants to be sent."""
        return self._journey.authorization

    def note(self, answer: Answer) -> None:
        """Take in an answer of the target's own origin."""
        self.statuses.add(answer.status)
        if not self._asking and not self._trip.witness.path:
            self.answers.append(answer)

    def session(self) -> Session | None:
        """Return what a login leaves, if it is wanted; its values are kept out of all that is kept."""
        if not self._trip.wants_session:
            return None
        # Where a host's name has no dot, Python's jar puts a domain of its own behind it. Source: RFC 2965.
        cookies = [
            {
                "name": c.name,
                "value": c.value or "",
                "domain": c.domain.removesuffix(".local"),
                "path": c.path,
                "expires": c.expires or -1,
            }
            | {"secure": c.secure, "httpOnly": c.has_nonstandard_attr("HttpOnly"), "sameSite": "Lax"}
            for c in self.client.cookies.jar
        ]
        session = Session(self._journey.authorization, {"cookies": cookies, "origins": []})
        session.hide(self._trip.secrets.hide)
        return session

    def _take_session(self) -> None:
        for cookie in [] if self._trip.session is None else self._trip.session.cookies:
            domain = cookie["domain"] if "." in cookie["domain"] else f"{cookie['domain']}.local"
            self.client.cookies.set(cookie["name"], cookie["value"], domain, cookie["path"])

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
        self._take_session()

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
