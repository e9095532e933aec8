"""Where a Chromium is on this machine.

Belongs here: looking at paths. Starting one is `synthetic.browser`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from rolloutobs.errors import ConfigurationError
from synthetic.settings import BrowserSettings

__all__ = ["find_chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_HOW_TO_INSTALL = (
    "install one (Debian, Ubuntu: apt install chromium; anywhere: playwright install chromium) "
    "or set ROLLOUTOBS_CHROMIUM to its path"
)


def find_chromium(settings: BrowserSettings, playwrights_own: str = "") -> str:
    """Return the path of a Chromium: the configured one, the system's, else Playwright's own.

    Raises:
        ConfigurationError: there is none; says how to install one.
    """
    if settings.chromium is not None:
        found = shutil.which(settings.chromium)
        if found is None:
            raise ConfigurationError(
                f"ROLLOUTOBS_CHROMIUM is {settings.chromium!r}, which cannot be run; {_HOW_TO_INSTALL}"
            )
        return found
    for name in _NAMES:
        if found := shutil.which(name) or shutil.which(f"/usr/bin/{name}"):
            return found
    if playwrights_own and Path(playwrights_own).is_file():
        return playwrights_own
    raise ConfigurationError(
        f"no Chromium was found ({', '.join(_NAMES)}, Playwright's own); {_HOW_TO_INSTALL}"
    )
