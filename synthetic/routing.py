"""How requests find a track behind a shared address: by header, cookie, query, or luck.

Belongs here: what is added to requests, and the parsing of its text forms. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from rolloutobs.errors import ConfigurationError

__all__ = ["Route", "parse_route"]

Pairs = tuple[tuple[str, str], ...]

# Source: RFC 9110 section 5.1 (field names are tokens) and RFC 6265 section 4.1.1 (so are cookies' names).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Source: RFC 6265 section 4.1.1, cookie-octet.
_COOKIE_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")


@dataclass(frozen=True, slots=True)
class Route:
    """What every request to the target's own origin carries so that it reaches the wanted track."""

    headers: Pairs = ()
    cookies: Pairs = ()
    query: Pairs = ()
    attempts: int = 0
    """How often an address that splits its traffic by weight is asked, each time as a new visitor, until the
    wanted track answers; 0 does not ask."""

    def url(self, url: str) -> str:
        """Return `url` with the query added; what it has of the same names stays as it is."""
        if not self.query:
            return url
        parts = urlsplit(url)
        has = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        added = urlencode([(name, value) for name, value in self.query if name not in has])
        return parts._replace(query="&".join(filter(None, [parts.query, added]))).geturl()


def parse_route(
    headers: Sequence[str], cookies: Sequence[str], query: Sequence[str], attempts: int, source: str
) -> Route:
    """Return a route from ``NAME: VALUE`` headers and ``NAME=VALUE`` cookies and queries.

    Args:
        headers, cookies, query: as given.
        attempts: see `Route`.
        source: beginning of the options' names, for messages (``"--canary"``).

    Raises:
        ConfigurationError: one of them has no name, a name that HTTP does not allow, or attempts are below 0.
    """
    if attempts < 0:
        raise ConfigurationError(f"--attempts is {attempts}; use 0 or more")
    found_headers = tuple(_pair(text, ":", f"{source}-header", "X-Canary: always") for text in headers)
    found_cookies = tuple(_pair(text, "=", f"{source}-cookie", "canary=always") for text in cookies)
    found_query = tuple(_pair(text, "=", f"{source}-query", "track=canary") for text in query)
    for name, value in found_headers:
        if not _TOKEN.fullmatch(name) or re.search(r"[\r\n\0]", value):
            raise ConfigurationError(f"{source}-header has the name {name!r}, which is none of HTTP's")
    for name, value in found_cookies:
        if not _TOKEN.fullmatch(name) or not _COOKIE_VALUE.fullmatch(value):
            raise ConfigurationError(f"{source}-cookie is {name}={value!r}, which no browser would keep")
    return Route(found_headers, found_cookies, found_query, attempts)


def _pair(text: str, separator: str, option: str, example: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name.strip():
        raise ConfigurationError(f"{option} is {text!r}; use e.g. {example!r}")
    return name.strip(), value.strip()
