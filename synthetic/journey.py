"""The path a check walks: a plain async function of the team, and the record of its steps.

Belongs here: loading the function, `Walk` (what it is given) and the results of its steps. Knows no browser:
the page that a journey gets is whatever `synthetic.browser` hands over (a Playwright ``Page``).

    async def checkout(page, shop):
        async with shop.step("open the shop"):
            await shop.open("/")
        async with shop.step("add to cart", budget="2s"):
            await page.get_by_role("button", name="Add to cart").first.click()

    async def stock(api, shop):
        async with shop.step("read the catalog"):
            (await api.get("/catalog")).raise_for_status()
"""

from __future__ import annotations

import asyncio
import inspect
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeVar

from rolloutobs.errors import ConfigurationError, RolloutobsError
from synthetic.redaction import Secrets
from synthetic.settings import parse_duration
from synthetic.vitals import Vital, parse_budgets

__all__ = [
    "CheckFailedError",
    "Journey",
    "JourneyFunction",
    "Login",
    "SignedOutError",
    "StepResult",
    "Walk",
    "first_line",
    "journey",
]

_MAX_ERROR_CHARS = 300


class CheckFailedError(RolloutobsError):
    """The app under test did not do what the journey expects. Raise it, or use ``assert`` or Playwright's
    ``expect``."""


class SignedOutError(CheckFailedError):
    """The page shows that nobody is logged in. A session that was used before is renewed, and the journey
    walked once more."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step of one walk. A step that the walk did not reach has no result."""

    name: str
    seconds: float
    error: str = ""
    """First line of what went wrong; empty when the step passed."""


class Walk:
    """What a journey gets beside the page: where it is, and the means to name its steps.

    Attributes:
        url: base URL of the target, without trailing slash.
        track: ``"stable"``, ``"canary"``..., empty for visits that belong to no check.
        page: the page, the same object as the journey's first argument; ``None`` in one without a browser.
    """

    def __init__(
        self,
        url: str,
        track: str,
        page: Any,
        clock: Callable[[], float] = perf_counter,
        secrets: Secrets | None = None,
    ) -> None:
        self.url = url
        self.track = track
        self.page = page
        self._clock = clock
        self._secrets = secrets if secrets is not None else Secrets({})
        self._authorization = ""
        self.stray: Exception | None = None
        """What a handler of some journey raised, which Playwright handed to the check instead."""
        self._steps: list[StepResult] = []
        self._under_way: list[str] = []

    @property
    def steps(self) -> tuple[StepResult, ...]:
        """Results so far, in the order in which the steps ended."""
        return tuple(self._steps)

    @property
    def step_under_way(self) -> str:
        """Name of the innermost step that has begun and not ended; empty outside of steps."""
        return self._under_way[-1] if self._under_way else ""

    def secret(self, name: str) -> str:
        """Return a secret from the variable `name`, or from the file that ``<name>_FILE`` names.

        From then on its value is replaced in all that the check prints and keeps.

        Raises:
            ConfigurationError: there is none, or it has fewer than 4 characters.
        """
        return self._secrets.read(name)

    @property
    def authorization(self) -> str:
        """What `authorize` was told last; empty: nothing."""
        return self._authorization

    def authorize(self, value: str) -> None:
        """Send the header ``Authorization`` with each request to the target's own origin from now on.

        The page's own requests have it, too, and a login leaves it to the journeys that follow. What is
        printed and kept is without it.

        Args:
            value: the header's, e.g. ``"Bearer " + token``; empty sends none any more.

        Raises:
            ConfigurationError: it has no scheme, or less than 4 characters behind it.
        """
        scheme, _, token = value.partition(" ")
        if value and not (scheme and len(token) >= 4):
            raise ConfigurationError("an Authorization is a scheme and a value, e.g. 'Bearer ' + token")
        if token:
            self._secrets.hide(token)
        self._authorization = value

    def authorize_basic(self, user: str, password: str) -> None:
        """Send a user's name and password as `authorize` does. Source: RFC 7617 section 2."""
        self.authorize("Basic " + b64encode(f"{user}:{password}".encode()).decode())

    @asynccontextmanager
    async def step(self, name: str, *, budget: str = "") -> AsyncIterator[None]:
        """Time what runs inside as one step. An exception fails the step, and the run even if the journey
        catches it.

        Args:
            name: what the step does, for people; the label ``step``.
            budget: a step that took longer has failed, e.g. ``"2s"``; empty: the journey's limit is the only
                one.

        Raises:
            ConfigurationError: the name is empty, which is the series of the whole journey, or the budget is
                no duration.
            CheckFailedError: it took longer than its budget.
        """
        if not name:
            raise ConfigurationError(
                "a step has an empty name; the empty name is the whole journey's own series"
            )
        limit = parse_duration(budget, f"the budget of the step {name!r}") if budget else None
        told = self._secrets.clean(name)
        self._under_way.append(told)
        started = self._clock()
        error = ""
        try:
            yield
            if limit is not None and (took := self._clock() - started) > limit:
                raise CheckFailedError(f"took {took:.2f} s, its budget is {limit:g} s")
        except asyncio.CancelledError:
            error = "stopped: the time of the run was up"
            raise
        except BaseException as problem:
            error = first_line(problem, self._secrets.clean)
            raise
        finally:
            self._steps.append(StepResult(told, self._clock() - started, error))
            self._under_way.remove(told)

    async def open(self, path: str = "/") -> None:
        """Go to `path` of the target and wait until the page has loaded.

        Raises:
            CheckFailedError: the answer's status is 400 or above. (Refused connections and timeouts raise the
                browser's own errors.)
            ConfigurationError: the journey has no page, but a client of the API.
        """
        if self.page is None:
            raise ConfigurationError("this journey has no page; call its first argument: api.get(...)")
        response = await self.page.goto(self.url + path)
        if response is not None and response.status >= 400:
            raise CheckFailedError(f"{path} answered {response.status}")


JourneyFunction = Callable[[Any, Walk], Awaitable[None]]
F = TypeVar("F", bound=JourneyFunction)
_TOLD = "__rolloutobs_journey__"


@dataclass(frozen=True, slots=True)
class Login:
    """How to become somebody before a journey begins."""

    walk: JourneyFunction
    needs_browser: bool
    seconds: float
    """How long it is used before it is made anew."""


@dataclass(frozen=True, slots=True)
class Journey:
    """A journey, its name, and what `journey` told about it."""

    name: str
    walk: JourneyFunction
    needs_browser: bool = True
    """Whether its first argument is a page; else it is a client of the target's API."""
    tags: tuple[str, ...] = ()
    timeout_seconds: float | None = None
    """``None``: the command's."""
    retries: int | None = None
    """``None``: the command's."""
    budgets: Mapping[Vital, float] = field(default_factory=dict)
    """What its pages' web vitals may at most be."""
    login: Login | None = None
    """``None``: nobody in particular walks it."""
    place: str = ""
    """The file it stands in."""


def journey(
    *,
    tags: Sequence[str] = (),
    timeout: str = "",
    retries: int | None = None,
    vitals: Mapping[str, str | float] | None = None,
    login: JourneyFunction | None = None,
    session: str = "1h",
) -> Callable[[F], F]:
    """Tell something about a journey, which needs none of it to be one.

    Args:
        tags: words for ``--tag``.
        timeout: its limit, e.g. ``"10s"``, instead of the command's.
        retries: how often a pair that failed is walked once more, instead of the command's.
        vitals: budgets for each of its pages, e.g. ``{"lcp": "2.5s", "cls": 0.1}``; a journey whose pages
            miss one has failed.
        login: ``async def sign_in(page, shop)`` (or ``api``), walked once for each track before the journey;
            the cookies, local storage and `Walk.authorize` that it leaves are what this journey, and each
            other one with the same login, begins with.
        session: how long they are used, e.g. ``"10m"``; sooner, if the target no longer takes them.

    Raises:
        ConfigurationError: a duration is none, retries are below 0, or a budget is none.
    """
    seconds = parse_duration(timeout, "the journey's timeout") if timeout else None
    if retries is not None and retries < 0:
        raise ConfigurationError(f"the journey's retries are {retries}; use 0 or more")
    told: Mapping[str, Any] = {
        "tags": tuple(tags),
        "timeout_seconds": seconds,
        "retries": retries,
        "budgets": parse_budgets(vitals or {}),
        "login": None if login is None else _login(login, session),
    }

    def tell(function: F) -> F:
        setattr(function, _TOLD, told)
        return function

    return tell


def _login(function: JourneyFunction, session: str) -> Login:
    needs_browser = next(iter(inspect.signature(function).parameters), "") != "api"
    return Login(function, needs_browser, parse_duration(session, "the journey's session"))


def told_of(function: JourneyFunction) -> Mapping[str, Any]:
    """Return what `journey` told about a function, as arguments of `Journey`."""
    told: Mapping[str, Any] = getattr(function, _TOLD, {})
    return told


def _as_it_is(text: str) -> str:
    return text


def first_line(problem: BaseException, clean: Callable[[str], str] = _as_it_is) -> str:
    """Return one line that says what went wrong, with the type where the message alone would not tell.

    Of Playwright's call log it takes what was waited for: "Timeout 4000ms exceeded" alone helps nobody.
    Secrets are taken out by `clean` before anything is cut off, for half of one would not be found.
    """
    lines = clean(str(problem)).strip().splitlines()
    text = lines[0] if lines else ""
    name = type(problem).__name__
    plain = isinstance(problem, CheckFailedError) or name in ("Error", "TimeoutError", "TargetClosedError")
    line = text if plain and text else f"{name}: {text}".removesuffix(": ")
    waited = next((each.strip() for each in lines[1:] if each.strip().startswith("- waiting for ")), "")
    line = f"{line.rstrip('.')}, {waited.removeprefix('- ')}" if waited else line
    return line if len(line) <= _MAX_ERROR_CHARS else line[: _MAX_ERROR_CHARS - 1] + "…"
