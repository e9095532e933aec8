"""Tests in the style of pytest-playwright as journeys: ``def test_checkout(page): page.goto("/")``.

Belongs here: which functions are such tests, and what they are given. pytest itself does not run: fixtures
other than these four, and marks that change what runs, are errors and never ignored.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

from rolloutobs.errors import ConfigurationError
from synthetic.journey import JourneyFunction, Walk
from synthetic.sync import run_sync

__all__ = ["as_journey", "is_test", "refuse_autouse", "refuse_classes", "tags_of"]

FIXTURES = ("page", "context", "base_url", "shop")
"""``shop`` is ours: it names steps and reads secrets."""
_CHANGES_WHAT_RUNS = frozenset({"parametrize", "skip", "skipif", "usefixtures", "xfail"})
_AUTOUSE = re.compile(r"autouse\s*=\s*True")


def is_test(value: object, name: str) -> TypeGuard[Callable[..., Any]]:
    """Return whether a value of a module is a test: its name begins with ``test_``; one that takes ``api`` is
    a journey."""
    if not name.startswith("test_") or not inspect.isfunction(value):
        return False
    return "api" not in inspect.signature(value).parameters


def as_journey(test: Callable[..., Any], place: str) -> JourneyFunction:
    """Return a test as a journey.

    Raises:
        ConfigurationError: it needs a fixture that is not there, or has a mark that changes what runs.
    """
    names = tuple(inspect.signature(test).parameters)
    unknown = [name for name in names if name not in FIXTURES]
    if unknown:
        raise ConfigurationError(
            f"{place}: {test.__name__} wants {', '.join(unknown)}; a test gets {', '.join(FIXTURES)} only"
        )
    wrong = sorted(_CHANGES_WHAT_RUNS & set(_marks(test)))
    if wrong:
        raise ConfigurationError(
            f"{place}: {test.__name__} is marked {', '.join(wrong)}, which only pytest itself can do; "
            "write a function for each case, or choose others with --only"
        )

    async def walk(page: Any, shop: Walk) -> None:
        have = {"page": page, "context": page.context, "base_url": shop.url, "shop": shop}
        given = {name: have[name] for name in names}
        await (test(**given) if inspect.iscoroutinefunction(test) else run_sync(test, **given))

    return walk


def tags_of(test: Callable[..., Any], module: ModuleType) -> tuple[str, ...]:
    """Return the marks of a test and of its module, which are words for ``--tag``."""
    return tuple(dict.fromkeys((*_marks(module), *_marks(test))))


def refuse_autouse(file: Path) -> None:
    """Raise where a fixture would run by itself: in the file, or a ``conftest.py`` beside or above it.

    Raises:
        ConfigurationError: there is one, and it would not run.
    """
    for place in (file, *(folder / "conftest.py" for folder in file.resolve().parents)):
        if place.is_file() and _AUTOUSE.search(place.read_text(encoding="utf-8")):
            raise ConfigurationError(
                f"{place} has a fixture with autouse, which does not run here; call it yourself"
            )


def refuse_classes(module: ModuleType) -> None:
    """Raise where tests are in a class, which only pytest itself makes.

    Raises:
        ConfigurationError: there is one.
    """
    for name, value in vars(module).items():
        ours = inspect.isclass(value) and value.__module__ == module.__name__
        if ours and name.startswith("Test") and any(each.startswith("test_") for each in vars(value)):
            raise ConfigurationError(
                f"{module.__file__}: the tests of {name} are in a class; write functions"
            )


def _marks(marked: object) -> list[str]:
    marks = getattr(marked, "pytestmark", [])
    return [mark.name for mark in (marks if isinstance(marks, list | tuple) else [marks])]
