"""The path a check walks: a plain async function of the team, and the record of its steps.

Belongs here: loading the function, `Walk` (what it is given) and the results of its steps. Knows no browser:
the page that a journey gets is whatever `synthetic.browser` hands over (a Playwright ``Page``).

    async def checkout(page, shop):
        async with shop.step("open the shop"):
            await shop.open("/")
        async with shop.step("add to cart"):
            await page.get_by_role("button", name="Add to cart").first.click()
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any, TypeGuard

from rolloutobs.errors import ConfigurationError, RolloutobsError

__all__ = ["CheckFailedError", "Journey", "StepResult", "Walk", "first_line", "load_journey"]

_MAX_ERROR_CHARS = 300


class CheckFailedError(RolloutobsError):
    """The app under test did not do what the journey expects. Raise it, or use ``assert`` or Playwright's
    ``expect``."""


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
        page: the page, the same object as the journey's first argument.
    """

    def __init__(self, url: str, track: str, page: Any, clock: Callable[[], float] = perf_counter) -> None:
        self.url = url
        self.track = track
        self.page = page
        self._clock = clock
        self._steps: list[StepResult] = []

    @property
    def steps(self) -> tuple[StepResult, ...]:
        """Results so far, in the order in which the steps ended."""
        return tuple(self._steps)

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[None]:
        """Time what runs inside as one step. An exception fails the step, and the run even if the journey
        catches it.

        Raises:
            ConfigurationError: the name is empty, which is the series of the whole journey.
        """
        if not name:
            raise ConfigurationError(
                "a step has an empty name; the empty name is the whole journey's own series"
            )
        started = self._clock()
        error = ""
        try:
            yield
        except asyncio.CancelledError:
            error = "stopped: the time of the run was up"
            raise
        except BaseException as problem:
            error = first_line(problem)
            raise
        finally:
            self._steps.append(StepResult(name, self._clock() - started, error))

    async def open(self, path: str = "/") -> None:
        """Go to `path` of the target and wait until the page has loaded.

        Raises:
            CheckFailedError: the answer's status is 400 or above. (Refused connections and timeouts raise the
                browser's own errors.)
        """
        response = await self.page.goto(self.url + path)
        if response is not None and response.status >= 400:
            raise CheckFailedError(f"{path} answered {response.status}")


JourneyFunction = Callable[[Any, Walk], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Journey:
    """A journey and its name."""

    name: str
    walk: JourneyFunction


def first_line(problem: BaseException) -> str:
    """Return one line that says what went wrong, with the type where the message alone would not tell.

    Of Playwright's call log it takes what was waited for: "Timeout 4000ms exceeded" alone helps nobody.
    """
    lines = str(problem).strip().splitlines()
    text = lines[0] if lines else ""
    name = type(problem).__name__
    plain = isinstance(problem, CheckFailedError) or name in ("Error", "TimeoutError", "TargetClosedError")
    line = text if plain and text else f"{name}: {text}".removesuffix(": ")
    waited = next((each.strip() for each in lines[1:] if each.strip().startswith("- waiting for ")), "")
    line = f"{line.rstrip('.')}, {waited.removeprefix('- ')}" if waited else line
    return line if len(line) <= _MAX_ERROR_CHARS else line[: _MAX_ERROR_CHARS - 1] + "…"


def load_journey(spec: str) -> Journey:
    """Load ``path/to/file.py:function`` or ``package.module:function``.

    The file's folder is put on ``sys.path``, so that a journey may import its neighbours.

    Raises:
        ConfigurationError: there is no such file, module or function, it cannot be imported, or it is not an
            async function of two arguments.
    """
    place, _, name = spec.rpartition(":")
    if not place or not name:
        raise ConfigurationError(
            f"the journey is {spec!r}; use FILE.py:FUNCTION, e.g. journeys/shop.py:checkout"
        )
    try:
        module = _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ConfigurationError:
        raise
    except Exception as problem:
        raise ConfigurationError(
            f"the journey {place} cannot be imported: {first_line(problem)}"
        ) from problem
    function = getattr(module, name, None)
    if not _is_journey(function):
        known = ", ".join(sorted(key for key, value in vars(module).items() if _is_journey(value))) or "none"
        raise ConfigurationError(
            f"{place} has no journey {name!r}; a journey is an 'async def' of (page, shop); found: {known}"
        )
    return Journey(name, function)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigurationError(f"the journey's file {str(path)!r} does not exist; give its path from here")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(f"rolloutobs_journey_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"the journey's file {str(path)!r} is no Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _is_journey(value: object) -> TypeGuard[JourneyFunction]:
    return inspect.iscoroutinefunction(value) and len(inspect.signature(value).parameters) == 2
