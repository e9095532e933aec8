"""Secrets of journeys: read from the environment or files, and kept out of all that is kept or printed; so is
what an address calls a token or a password.

Belongs here: reading them, and replacing them in texts and bytes in the forms in which they travel.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

from rolloutobs.errors import ConfigurationError
from rolloutobs.variables import secret

__all__ = ["HIDDEN", "SENSITIVE", "Secrets"]

HIDDEN = "[secret]"
SENSITIVE = re.compile(
    r"pass(word|wd)?|secret|token|api[-_]?key|session|signature|credential|auth", re.IGNORECASE
)
"""Found in names of headers and of parts of a query whose values are kept nowhere."""
_NAME = r"[\w.\[\]-]{0,80}"
"""Bounded, for pages may show anything, and long words would be searched again and again."""
_IN_ADDRESS = re.compile(
    rf"""([?&#;](?:amp;)?{_NAME}(?:{SENSITIVE.pattern}){_NAME}=)[^&#;\s"'<>\\]+""", re.IGNORECASE
)
_MIN_CHARS = 4
"""A shorter one would stand in half of all words."""


class Secrets:
    """The secrets that journeys have asked for so far.

    Args:
        environ: where their names are looked up.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._forms: dict[str, set[str]] = {}
        self._pattern: re.Pattern[str] | None = None

    @property
    def used(self) -> bool:
        """Whether any has been asked for."""
        return bool(self._forms)

    @property
    def values(self) -> list[str]:
        """The secrets themselves, for a page that is about to be photographed."""
        return list(self._forms)

    def read(self, name: str) -> str:
        """Return the secret in the variable `name`, else in the file that ``<name>_FILE`` names.

        Raises:
            ConfigurationError: there is none, or it is too short to be hidden.
        """
        value = secret(self._environ, name)
        if len(value) < _MIN_CHARS:
            said = "has fewer than 4 characters, too few to be hidden" if value else "is not set"
            raise ConfigurationError(f"the secret {name} {said}; set {name}, or {name}_FILE to a file's path")
        self.hide(value)
        return value

    def clean(self, text: str) -> str:
        """Return `text` with every form of every secret replaced, and with what addresses in it call one."""
        text = text if self._pattern is None else self._pattern.sub(HIDDEN, text)
        return _IN_ADDRESS.sub(rf"\1{HIDDEN}", text)

    def clean_bytes(self, content: bytes) -> bytes:
        """Return `content` likewise; what is no text stays byte by byte."""
        return self.clean(content.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    def hide(self, value: str) -> None:
        """Replace a value, too, from now on; of at least 4 characters."""
        if value in self._forms:
            return
        self._forms[value] = _forms(value)
        every = sorted({form for forms in self._forms.values() for form in forms}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, every)))


def _forms(value: str) -> set[str]:
    """Return how a value looks as it is, in URLs, JSON, HTML and base64, in which it may begin anywhere."""
    found = {value, quote(value), quote(value, safe=""), quote_plus(value), html.escape(value)}
    found |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    found |= {json.dumps(form)[1:-1] for form in found}
    content = value.encode()
    for before in range(3):
        # The first and the last characters of base64 depend on what stands around.
        first = (before * 8 + 5) // 6
        whole = (before + len(content)) * 8 // 6
        found.add(b64encode(b"\0" * before + content).decode()[first:whole])
    return {form for form in found if len(form) >= _MIN_CHARS}
