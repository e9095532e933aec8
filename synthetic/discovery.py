"""Finds journeys: one that is named, all of a file, or all files of a folder.

Belongs here: importing them, and choosing among them.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

from rolloutobs.errors import ConfigurationError
from synthetic.journey import Journey, JourneyFunction, first_line, told_of
from synthetic.pytest_files import as_journey, is_test, refuse_autouse, refuse_classes, tags_of

__all__ = ["choose", "find_journeys", "load_journey"]

_PAGE, _API = "page", "api"


def find_journeys(specs: Iterable[str]) -> list[Journey]:
    """Return the journeys of each spec, in the order in which they stand.

    A spec is ``FILE.py:FUNCTION`` or ``package.module:function`` (one), ``FILE.py`` (every public ``async
    def`` there whose arguments are ``page`` or ``api``, and one more, but for the logins of others, and every
    ``def test_...`` in the style of pytest-playwright) or a folder (those of all its files, without what
    begins with a dot or an underscore).

    Raises:
        ConfigurationError: nothing is found, something cannot be imported, or two have the same name, which
            is their label.
    """
    found: list[Journey] = []
    for spec in specs:
        path = Path(spec)
        if path.is_dir():
            files = sorted(f for f in path.rglob("*.py") if not _is_hidden(f.relative_to(path)))
            found += [journey for file in files for journey in _all_of(file)]
        elif spec.endswith(".py"):
            found += _all_of(path)
        else:
            found.append(load_journey(spec))
    if not found:
        raise ConfigurationError(
            f"no journey in {', '.join(specs)}; write one: rolloutobs-synthetic init journeys/first.py"
        )
    places: dict[str, str] = {}
    for journey in found:
        if journey.name in places:
            there = f"{places[journey.name]} and {journey.place}"
            raise ConfigurationError(f"two journeys are called {journey.name!r}, in {there}; rename one")
        places[journey.name] = journey.place
    return found


def choose(journeys: Sequence[Journey], only: Sequence[str], tags: Sequence[str]) -> list[Journey]:
    """Return the journeys whose name one of `only` matches (``*`` and ``?`` work) and that have one of
    `tags`; empty sequences leave all.

    Raises:
        ConfigurationError: none is left.
    """
    left = [
        journey
        for journey in journeys
        if (not only or any(fnmatchcase(journey.name, pattern) for pattern in only))
        and (not tags or set(tags) & set(journey.tags))
    ]
    if not left:
        known = ", ".join(f"{j.name} ({' '.join(j.tags)})" if j.tags else j.name for j in journeys)
        raise ConfigurationError(f"no journey is left by --only and --tag; there are: {known}")
    return left


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
            f"the journey is {spec!r}; use FILE.py:FUNCTION, "
            "e.g. journeys/shop.py:checkout, a file or a folder"
        )
    module = _import(place)
    function = getattr(module, name, None)
    if is_test(function, name):
        return _test(name, function, module, place)
    if not _is_journey(function):
        there = [key for key, value in vars(module).items() if _is_journey(value) or is_test(value, key)]
        known = ", ".join(sorted(there)) or "none"
        raise ConfigurationError(
            f"{place} has no journey {name!r}; a journey is an 'async def' of (page, shop) or (api, shop), "
            f"or a 'def test_...' of (page); found: {known}"
        )
    return _journey(name, function, place)


def _all_of(file: Path) -> list[Journey]:
    module = _import(str(file))
    refuse_classes(module)
    told = [told_of(value).get("login") for value in vars(module).values() if _is_journey(value)]
    logins = [login.walk for login in told if login is not None]
    tests = [
        _test(name, value, module, str(file))
        for name, value in vars(module).items()
        if is_test(value, name) and value.__module__ == module.__name__
    ]
    return tests + [
        _journey(name, value, str(file))
        for name, value in vars(module).items()
        if _is_journey(value)
        and not is_test(value, name)
        and value not in logins
        and not name.startswith("_")
        and value.__module__ == module.__name__
        and _first_argument(value) in (_PAGE, _API)
    ]


def _journey(name: str, function: JourneyFunction, place: str) -> Journey:
    return Journey(
        name, function, needs_browser=_first_argument(function) != _API, place=place, **told_of(function)
    )


def _test(name: str, test: Callable[..., Any], module: ModuleType, place: str) -> Journey:
    refuse_autouse(Path(module.__file__ or place))
    told = told_of(test)
    tags = tuple(dict.fromkeys((*told.get("tags", ()), *tags_of(test, module))))
    return Journey(name, as_journey(test, place), place=place, **{**told, "tags": tags})


def _first_argument(function: JourneyFunction) -> str:
    return next(iter(inspect.signature(function).parameters))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _import(place: str) -> ModuleType:
    try:
        return _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ConfigurationError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        # A script that ends Python with sys.exit(1) would have the check say that the canary failed.
        raise ConfigurationError(
            f"the journey {place} cannot be imported: {first_line(problem)}"
        ) from problem


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
