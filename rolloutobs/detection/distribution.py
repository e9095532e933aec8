"""The installed distribution that an app belongs to.

A distribution owns a module if it installed that very file, or if it is an editable install of the project
that the file lies in. A name alone proves nothing: a folder ``payments`` is not the package of that name on
an index.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    distribution,
    distributions,
    packages_distributions,
)
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rolloutobs.detection.looks import Look
from rolloutobs.detection.modules import AppModule

__all__ = ["Owner", "distribution_looks", "owner_of"]

PLACEHOLDER_VERSION = "0.0.0"
"""What build tools write where a project has no version."""
_OURS = "rolloutobs"
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


class Owner:
    """A distribution that owns a module of the app."""

    def __init__(self, found: Distribution) -> None:
        self.name = found.name
        self.version = found.version
        self.requires = frozenset(_required(found))

    @property
    def key(self) -> str:
        """The normalised name."""
        return _normal(self.name)


def distribution_looks(modules: Sequence[AppModule]) -> tuple[Look, Look]:
    """Return (name, version) of the distribution that the app's modules belong to, each with its reason if
    not.

    Modules of several distributions give the one that requires the others: an app's own, next to a company's
    library that instruments it. If there is no such one, or if a module belongs to none, nothing is guessed.
    """
    place = f"distribution of {', '.join(module.name for module in modules)}" if modules else "distribution"
    if not modules:
        return (Look(place, reason="the app's module is not known; rolloutobs identity MODULE names it"),) * 2
    owners: dict[str, Owner] = {}
    for module in modules:
        owner = owner_of(module)
        if owner is None:
            return (Look(place, reason=f"{module.name} does not belong to an installed distribution"),) * 2
        owners[owner.key] = owner
    roots = [o for o in owners.values() if not any(o.key in other.requires for other in owners.values())]
    if len(roots) != 1:
        names = ", ".join(sorted(owner.name for owner in owners.values()))
        return (Look(place, reason=f"several distributions could be the app: {names}"),) * 2
    found = roots[0]
    place = f"distribution {found.name}"
    is_placeholder = found.version == PLACEHOLDER_VERSION
    return Look(place, found.name), Look(
        place, found.version, f"{found.version} is a placeholder" if is_placeholder else ""
    )


@functools.lru_cache(maxsize=256)
def owner_of(module: AppModule) -> Owner | None:
    """Return the distribution that owns `module`; ``None`` if there is none, or if its file is not known.

    What is installed does not change while a process runs; the answer is remembered.
    """
    if module.file is None:
        return None
    file = Path(module.file).resolve()
    found = None if module.is_installed else _editable(file)
    if found is None:
        found = _by_name(module.top, file) or _by_package(module.top, file)
    return None if found is None or _normal(found.name) == _OURS else Owner(found)


def _editable(file: Path) -> Distribution | None:
    """Return the editable install whose project is closest around `file`. Source: PEP 610 and PEP 660."""
    closest: tuple[int, Distribution] | None = None
    for candidate in distributions():
        text = candidate.read_text("direct_url.json")
        if not text or '"editable"' not in text:
            continue
        project = _project(text)
        if project is None or not file.is_relative_to(project):
            continue
        depth = len(project.parts)
        if closest is None or depth > closest[0]:
            closest = depth, candidate
    return None if closest is None else closest[1]


def _project(direct_url: str) -> Path | None:
    try:
        said = json.loads(direct_url)
        url = urlsplit(said["url"])
        editable = said["dir_info"]["editable"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Path(unquote(url.path)).resolve() if editable is True and url.scheme == "file" else None


def _by_name(top: str, file: Path) -> Distribution | None:
    # Most apps are called like their package, and listing what everything contains takes a tenth of a second.
    try:
        found = distribution(top)
    except (PackageNotFoundError, ValueError):
        return None
    return found if _installed(found, top, file) else None


def _by_package(top: str, file: Path) -> Distribution | None:
    # Nothing is installed around the source of most projects: then the long list is not needed either.
    folders = {str(candidate.locate_file("")) for candidate in distributions()}
    if not any(file.is_relative_to(Path(folder).resolve()) for folder in folders):
        return None
    candidates = map(distribution, _packages().get(top, ()))
    return next((found for found in candidates if _installed(found, top, file)), None)


@functools.lru_cache(maxsize=1)
def _packages() -> dict[str, list[str]]:
    return dict(packages_distributions())


def _installed(found: Distribution, top: str, file: Path) -> bool:
    """Return whether `found` installed `file`."""
    starts = (top, f"{top}.py")
    return any(
        Path(str(found.locate_file(path))).resolve() == file
        for path in found.files or ()
        if path.parts[:1] and path.parts[0] in starts and path.name == file.name
    )


def _required(found: Distribution) -> list[str]:
    matches = (_NAME.match(requirement) for requirement in found.requires or ())
    return [_normal(match[1]) for match in matches if match]


def _normal(name: str) -> str:
    # Source: PyPA, "Names and normalization".
    return re.sub(r"[-_.]+", "-", name).lower()
