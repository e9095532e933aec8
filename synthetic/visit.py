"""What one walk is told, and what it leaves behind, with a browser or without.

Belongs here: `Trip`, `Visit` and what both kinds of walks share. Concludes nothing about the canary.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from rolloutobs.errors import ConfigurationError, RolloutobsError
from synthetic.journey import JourneyFunction, SignedOutError, StepResult, first_line
from synthetic.marking import Marking
from synthetic.redaction import Secrets
from synthetic.result import Fault
from synthetic.routing import Route
from synthetic.session import Session
from synthetic.target import Answer, Target, told_astray
from synthetic.vitals import PageVitals, Vital
from synthetic.witness import Witness

__all__ = [
    "BrowserHungError",
    "Lost",
    "Trip",
    "Visit",
    "as_result",
    "common_fault",
    "find_track",
    "is_of_a_handler",
    "is_signed_out",
]


@dataclass(frozen=True, slots=True)
class Trip:
    """One walk: the journey, where it goes, and how."""

    url: str
    """Base URL without trailing slash."""
    walk: JourneyFunction
    track: str = ""
    """What the journey is told it walks on."""
    target: Target | None = None
    """Who has to answer; ``None`` for visits that belong to no check."""
    marking: Marking | None = None
    """How requests are marked synthetic; ``None``: not at all, as a user's."""
    timeout_seconds: float = 30.0
    secrets: Secrets = field(default_factory=lambda: Secrets({}))
    record: bool = False
    """Whether a trace and the network's log are recorded, for the case that it fails."""
    budgets: Mapping[Vital, float] = field(default_factory=dict)
    """What its pages' web vitals may at most be."""
    session: Session | None = None
    """What a login left, to begin with."""
    wants_session: bool = False
    """Whether this is a login, whose session is wanted."""

    @property
    def route(self) -> Route:
        """What requests carry to reach the track."""
        return Route() if self.target is None else self.target.route

    @property
    def witness(self) -> Witness:
        """Where answers say who gave them."""
        return Witness() if self.target is None else self.target.witness


@dataclass(frozen=True, slots=True)
class Visit:
    """What one walk left behind, before anything is concluded from it."""

    steps: tuple[StepResult, ...]
    seconds: float
    fault: Fault
    error: str
    """One line; empty when the journey was walked to its end."""
    answers: tuple[Answer, ...]
    trace_id: str
    """Empty for unmarked visits, which carry no trace of ours."""
    console: tuple[str, ...] = ()
    """What the page wrote to its console and the errors that it did not catch, oldest first, at most 500
    lines."""
    page_error: str = ""
    """The first error that the page did not catch; empty when there was none."""
    screenshot: bytes | None = field(default=None, repr=False)
    """PNG of a failed marked visit; ``None`` where none could be taken."""
    details: str = ""
    """The whole message of what went wrong."""
    astray: str = ""
    """Why the journey was not walked: an address that splits its traffic never led to the wanted track."""
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """What was recorded of a failed visit, by file name."""
    pages: tuple[PageVitals, ...] = ()
    """The web vitals of marked visits' pages."""
    session: Session | None = field(default=None, repr=False)
    """What a login left; ``None`` where none was wanted."""
    signed_out: bool = False
    """Whether it failed because nobody was logged in: a 401 of the target, or the journey said so."""


class BrowserHungError(RolloutobsError):
    """The browser itself does not answer: what it did last says nothing about the app."""


class Lost(Exception):  # noqa: N818 - no error: the wanted track did not answer
    """The wanted track did not answer in as many attempts as there were."""


def common_fault(
    problem: BaseException | None, secrets: Secrets, timeout_seconds: float
) -> tuple[Fault, str]:
    """Return whose fault an exception is that any journey may raise, and one line for the reader."""
    if problem is None:
        return Fault.NONE, ""
    if isinstance(problem, TimeoutError):
        return Fault.PRODUCT, f"the journey took longer than {timeout_seconds:g} s"
    if is_of_a_handler(problem):
        return Fault.HARNESS, f"a handler of the journey raised {first_line(problem, secrets.clean)}"
    if isinstance(problem, asyncio.CancelledError):
        # E.g. Playwright's, of somebody who waits for an event of a page that has been closed.
        return Fault.PRODUCT, "the journey waited for something that was cancelled"
    if isinstance(problem, BrowserHungError):
        return Fault.HARNESS, str(problem)
    fault = Fault.HARNESS if isinstance(problem, ConfigurationError) else Fault.PRODUCT
    return fault, first_line(problem, secrets.clean)


def as_result(problem: BaseException) -> BaseException:
    """Return what a journey raised, which is what its walk came to: ``sys.exit()`` and ``pytest.fail()`` end
    the journey, too, and not the check.

    Raises:
        BaseException: the same, where it is the walk that is being stopped.
    """
    task = asyncio.current_task()
    is_cancelled = task is not None and task.cancelling() > 0
    if isinstance(problem, KeyboardInterrupt) or (
        isinstance(problem, asyncio.CancelledError) and is_cancelled
    ):
        raise problem
    return problem


def is_signed_out(problem: BaseException | None, statuses: Iterable[int]) -> bool:
    """Return whether a walk failed because nobody was logged in.

    Args:
        problem: what ended it.
        statuses: of the target's answers. Source: RFC 9110 section 15.5.2.
    """
    return isinstance(problem, SignedOutError) or (problem is not None and 401 in statuses)


def is_of_a_handler(problem: BaseException | None) -> bool:
    """Return whether an event handler of a journey raised it: Playwright hands it to whichever call comes
    next on its connection, which may be the other track's, or the check's own."""
    at = None if problem is None else problem.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename.endswith("playwright/_impl/event_emitter.py"):
            return True
        at = at.tb_next
    return False


async def find_track(
    trip: Trip, renew: Callable[[], Awaitable[None]], ask: Callable[[str], Awaitable[Answer]]
) -> Answer | None:
    """Ask until the wanted track answers, each time as a new visitor whose cookies are then kept.

    Args:
        trip: says how often; without attempts only the witness is asked that has to be.
        renew: forget the cookies of the visitor before.
        ask: ask for a path.

    Returns:
        What the witness said; ``None`` where it speaks with each answer.

    Raises:
        Lost: the wanted track did not answer.
    """
    target = trip.target
    if target is None:
        return None
    witness = target.witness.path
    if not target.route.attempts:
        return await ask(witness) if witness else None
    answers: list[Answer] = []
    for _ in range(target.route.attempts):
        await renew()
        answers.append(await ask(witness or "/"))
        if target.is_wanted(answers[-1].claim):
            return answers[-1] if witness else None
    raise Lost(told_astray(target, answers))
