"""What must not be kept of text that comes from a browser; pure.

The rules of browser/src/scrub.ts once more: what an old, foreign or forged script sends is cleaned too.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_MESSAGE_CHARS", "clean", "path_of", "place_of", "scrub", "template", "without_queries"]

MAX_MESSAGE_CHARS: Final = 120

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_ID_SEGMENT: Final = re.compile(
    r"/(?:\d+|[^/]*(?:\d{3}|[%@])[^/]*|[^/]{25,}|(?=[^/]*\d)[\da-f-]{8,})(?=/|$)", re.ASCII | re.IGNORECASE
)
# Every repetition before a character that may never come is bounded, so that no text takes quadratic time.
_PERSONAL: Final = re.compile(r'"[^"]*"?|\?\S*|[^\s@]{1,64}@\S+|[\w-]{25,}|\d+', re.ASCII)
_QUERY: Final = re.compile(r"[?#]")


def clean(text: str, limit: int) -> str:
    """Return the first `limit` characters of `text` without control characters and surrounding blanks."""
    return _CONTROL.sub(" ", text[:limit]).strip()


def template(route: str) -> str:
    """Return `route` without its query and fragment, segments that look like ids collapsed to ``:id``."""
    return _ID_SEGMENT.sub("/:id", _QUERY.split(route, maxsplit=1)[0])


def scrub(message: str) -> str:
    """Return `message` without quoted text, query strings, mails, long tokens and numbers.

    At most `MAX_MESSAGE_CHARS` characters are kept; control characters become blanks.
    """
    return _PERSONAL.sub("#", clean(message, 8 * MAX_MESSAGE_CHARS))[:MAX_MESSAGE_CHARS]


_HOST: Final = re.compile(r"[a-z][a-z\d+.-]{0,20}:/{2,3}[^/?#]*", re.IGNORECASE)
_URL_QUERY: Final = re.compile(r"(?<=[\w/.~:-])[?#][^\s\"'<>)]*")
_MAIL_OR_TOKEN: Final = re.compile(r"[^\s@/]{1,64}@[^\s/]+|[\w-]{41,}", re.ASCII)
_PLACE: Final = re.compile(r"([^/\s(@?#]{0,200})(?:[?#][^\s)]{0,500}?)?(:\d{1,7}:\d{1,7})", re.ASCII)


def path_of(url: str) -> str:
    """Return the path of an address, without scheme, host, query and fragment."""
    return _QUERY.split(_HOST.sub("", url[:2048], count=1), maxsplit=1)[0] or ("/" if url else "")


def place_of(stack: str) -> str:
    """Return the first ``file:line:column`` of a stack trace, without folder, host and query; or nothing."""
    found = _PLACE.search(stack[:4096])
    return found[1][-40:] + found[2] if found else ""


def without_queries(text: str) -> str:
    """Return text of a span without query strings, fragments, mails and long tokens; the rest as it is."""
    return _MAIL_OR_TOKEN.sub("#", _URL_QUERY.sub("", text[:4096]))
