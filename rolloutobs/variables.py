"""Reading environment variables: one small function per kind of value.

Each takes the variable's name, for the message, and its text; surrounding blanks do not matter. Does not
belong here: which variables there are (`rolloutobs.settings`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from rolloutobs.errors import ConfigurationError

__all__ = [
    "boolean",
    "bounds",
    "milliseconds",
    "number",
    "one_of",
    "path_or_off",
    "resource_attributes",
    "secret",
    "secrets",
    "whole",
    "words",
]

OFF = frozenset({"", "off", "none"})
_BOOLEANS = {
    "true": True,
    "1": True,
    "on": True,
    "yes": True,
    "false": False,
    "0": False,
    "off": False,
    "no": False,
}
E = TypeVar("E", bound=StrEnum)


def boolean(name: str, text: str) -> bool:
    """Return whether `text` means yes."""
    try:
        return _BOOLEANS[text.strip().lower()]
    except KeyError:
        raise ConfigurationError(f"{name} is {text!r}; use 'true' or 'false'") from None


def whole(name: str, text: str) -> int:
    """Return a whole number."""
    try:
        return int(text)
    except ValueError:
        raise ConfigurationError(f"{name} is {text!r}; use a whole number") from None


def number(name: str, text: str) -> float:
    """Return a number; its range is checked where it is used."""
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(f"{name} is {text!r}; use a number") from None


def milliseconds(name: str, text: str) -> float:
    """Return a number of milliseconds in seconds."""
    return number(name, text) / 1000.0


def bounds(name: str, text: str) -> tuple[float, ...]:
    """Return upper bounds in seconds, separated by commas."""
    return tuple(number(name, part) for part in text.split(",") if part.strip())


def words(name: str, text: str) -> tuple[str, ...]:
    """Return what stands between commas, without blanks and empty parts."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def path_or_off(name: str, text: str) -> str | None:
    """Return a path; ``None`` for ``off``, ``none`` and the empty text."""
    return None if text.strip().lower() in OFF else text.strip()


def one_of(kind: type[E]) -> Callable[[str, str], E]:
    """Return a reader of the values of an enum."""

    def read(name: str, text: str) -> E:
        try:
            return kind(text.strip().lower())
        except ValueError:
            known = ", ".join(repr(member.value) for member in kind)
            raise ConfigurationError(f"{name} is {text!r}; use one of {known}") from None

    return read


def secrets(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Return secrets from the variable `name`, else from the file that ``<name>_FILE`` names.

    Several are separated by commas or line ends: the first one signs, all are accepted, so that a secret
    can be replaced without a gap.

    Raises:
        ConfigurationError: the file cannot be read, or holds nothing.
    """
    text = _text_of(environ, name)
    return tuple(part.strip() for part in text.replace("\n", ",").split(",") if part.strip())


def secret(environ: Mapping[str, str], name: str) -> str:
    """Return one secret, commas and all, from the variable `name`, else from the file that ``<name>_FILE``
    names; a line end after it is not its own. Empty: there is none.

    Raises:
        ConfigurationError: the file cannot be read, or holds nothing.
    """
    return _text_of(environ, name).rstrip("\r\n")


def _text_of(environ: Mapping[str, str], name: str) -> str:
    text = environ.get(name, "")
    path = environ.get(f"{name}_FILE", "").strip()
    if not text.strip() and path:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{name}_FILE is {path!r}, which cannot be read: {error}") from error
        if not text.strip():
            raise ConfigurationError(f"{name}_FILE is {path!r}, which is empty")
    return text


def resource_attributes(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the entries of ``OTEL_RESOURCE_ATTRIBUTES``; those that are not valid are left out."""
    # Source: OpenTelemetry specification, Resource SDK, "Specifying resource information via an environment
    # variable".
    pairs = (item.partition("=") for item in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    return {name.strip(): unquote(value.strip()) for name, equals, value in pairs if equals}
