"""Headers on the server span: none, but for those that the settings name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from rolloutobs.errors import ConfigurationError
from rolloutobs.settings import Settings

__all__ = ["CapturedHeaders"]

Pairs = Iterable[tuple[bytes, bytes]]
_REDACTED = "[REDACTED]"
# What is never useful as text on a span, whatever the settings capture.
_ALWAYS_REDACTED = r"authorization|proxy-authorization|cookie|set-cookie"


@dataclass(frozen=True, slots=True)
class CapturedHeaders:
    """Which headers are captured. Source: semantic conventions, ``http.request.header.<key>``."""

    request: re.Pattern[str] | None
    """Of names that are captured, as a whole; ``None``: none is."""
    response: re.Pattern[str] | None
    sanitized: re.Pattern[str]
    """A name in which this is found is captured without its value."""

    @classmethod
    def of(cls, settings: Settings) -> CapturedHeaders | None:
        """Return what `settings` ask for; ``None``: nothing.

        Raises:
            ConfigurationError: a name is not a regular expression.
        """
        request = _compiled("captured_request_headers", settings.captured_request_headers)
        response = _compiled("captured_response_headers", settings.captured_response_headers)
        if request is None and response is None:
            return None
        sanitized = _compiled("sanitized_headers", (*settings.sanitized_headers, _ALWAYS_REDACTED))
        return cls(request, response, sanitized or re.compile(_ALWAYS_REDACTED, re.IGNORECASE))

    def of_request(self, headers: Pairs) -> dict[str, list[str]]:
        """Return the attributes of a request's headers."""
        return self._attributes(self.request, "http.request.header.", headers)

    def of_response(self, headers: Pairs) -> dict[str, list[str]]:
        """Return the attributes of an answer's headers."""
        return self._attributes(self.response, "http.response.header.", headers)

    def _attributes(
        self, wanted: re.Pattern[str] | None, prefix: str, headers: Pairs
    ) -> dict[str, list[str]]:
        attributes: dict[str, list[str]] = {}
        if wanted is None:
            return attributes
        for raw, value in headers:
            name = raw.decode("latin-1").lower()
            if wanted.fullmatch(name):
                shown = _REDACTED if self.sanitized.search(name) else value.decode("utf-8", "replace")
                attributes.setdefault(prefix + name, []).append(shown)
        return attributes


def _compiled(field: str, expressions: tuple[str, ...]) -> re.Pattern[str] | None:
    try:
        return re.compile("|".join(expressions), re.IGNORECASE) if expressions else None
    except re.error as error:
        raise ConfigurationError(
            f"{field} is {', '.join(expressions)!r}, which is no regular expression: {error}"
        ) from error
