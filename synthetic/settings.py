"""What a check is told: paths, time limits and folders, read once at start-up.

Belongs here: frozen settings and the parsing of their text forms. No I/O; ``from_env`` takes the environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rolloutobs.errors import ConfigurationError
from rolloutobs.variables import secrets

__all__ = [
    "BrowserSettings",
    "CheckSettings",
    "parse_base_url",
    "parse_duration",
    "parse_listen",
    "parse_patience",
]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class BrowserSettings:
    """Which Chromium runs, and how long its single operations may take."""

    chromium: str | None = None
    """Path of the executable; ``None`` looks in the usual places, then for Playwright's own."""
    no_sandbox: bool | None = None
    """``True`` starts Chromium without its sandbox; ``None`` does so only for root, where Chromium refuses to
    start with it. In a container that forbids user namespaces it has to be switched off by hand: never
    silently."""
    launch_timeout_seconds: float = 60.0
    """A cold start on a busy machine takes seconds; more than this is a machine that cannot run the check."""
    headed: bool = False
    """Whether windows are shown, to look on while a journey is walked; needs a display."""
    slow_seconds: float = 0.0
    """A pause before each action, to look on."""
    secret: tuple[str, ...] = ()
    """Signs the mark of synthetic traffic, with the first one; apps that have a secret believe no other.
    Empty: not signed."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> BrowserSettings:
        """Read ``ROLLOUTOBS_CHROMIUM`` (a path), ``ROLLOUTOBS_CHROMIUM_NO_SANDBOX`` (``1`` or ``0``) and
        ``ROLLOUTOBS_SECRET``, or the file that ``ROLLOUTOBS_SECRET_FILE`` names.

        Raises:
            ConfigurationError: the second is neither, or the file cannot be read.
        """
        text = environ.get("ROLLOUTOBS_CHROMIUM_NO_SANDBOX", "")
        if text not in ("", "0", "1"):
            raise ConfigurationError(
                f"ROLLOUTOBS_CHROMIUM_NO_SANDBOX is {text!r}; use '1', '0' or leave it empty"
            )
        return cls(
            chromium=environ.get("ROLLOUTOBS_CHROMIUM") or None,
            no_sandbox={"": None, "0": False, "1": True}[text],
            secret=secrets(environ, "ROLLOUTOBS_SECRET"),
        )


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """One check: what it is called, how long it may take, what it leaves behind."""

    app: str
    """The app under test: the metric label ``app``, equal to its ``service.name``."""
    check: str
    """The metric label ``check``."""
    timeout_seconds: float = 30.0
    """One track's whole journey. A journey that takes longer has failed."""
    artifacts: Path | None = None
    """Folder for what a failed run leaves; ``None`` keeps nothing."""
    keep_artifacts: int = 20
    """Failed runs kept in that folder, by whichever process; the oldest are removed, so that a failing check
    cannot fill the disk."""
    retries: int = 0
    """How often both tracks walk once more after a pair that failed."""


def parse_duration(text: str, source: str) -> float:
    """Return the seconds meant by e.g. ``"500ms"``, ``"5s"``, ``"2m"`` or ``"1h"``.

    Args:
        text: a number above zero with its unit.
        source: where it was given, for the message (``"--every"``).

    Raises:
        ConfigurationError: it is not a duration, or not above zero.
    """
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _UNIT_SECONDS[match[2]] if match else 0.0
    if seconds <= 0:
        raise ConfigurationError(f"{source} is {text!r}; use a number with a unit, e.g. 500ms, 5s or 2m")
    return seconds


def parse_patience(text: str, source: str) -> float:
    """Return the seconds of a duration, or 0 for ``"0"``: not at all.

    Raises:
        ConfigurationError: it is neither.
    """
    return 0.0 if text.strip() in ("0", "0s") else parse_duration(text, source)


def parse_listen(text: str, source: str) -> tuple[str, int]:
    """Return host and port of ``"127.0.0.1:9300"``; an empty host (``":9300"``) means every interface.

    Raises:
        ConfigurationError: there is no port from 0 (any free one) to 65535.
    """
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(f"{source} is {text!r}; use HOST:PORT, e.g. 127.0.0.1:9300")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - asked for by leaving the host out


def parse_base_url(text: str, source: str) -> str:
    """Return `text` as a base URL without trailing slash, query or fragment.

    Raises:
        ConfigurationError: it is not an absolute http(s) URL, or has a password in it.
    """
    parts = urlsplit(text.strip())
    if "@" in parts.netloc:
        raise ConfigurationError(
            f"{source} has a user's name in it, and reports name the address; leave it out (a journey has "
            "shop.authorize_basic)"
        )
    try:
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        port_is_valid = False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise ConfigurationError(f"{source} is {text!r}; use an absolute URL, e.g. http://127.0.0.1:8002")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
