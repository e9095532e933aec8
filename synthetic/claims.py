"""What one answer says about its server, as ``Server-Timing`` has it.

Belongs here: the parsing of that header. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rolloutobs.semconv import SERVER_TIMING_TRACK, SERVER_TIMING_VERSION

__all__ = ["Claim", "parse_claim"]

# Source: https://www.w3.org/TR/server-timing/#the-server-timing-header-field (metric-name and param are RFC
# 9110 tokens; a value is a token or a quoted-string). A newline joins repeated headers in Chromium's
# protocol.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's word, not a secret
_METRIC = re.compile(rf"[\s,]*({_TOKEN})")
_PARAM = re.compile(rf'[ \t]*;[ \t]*({_TOKEN})[ \t]*(?:=[ \t]*("(?:[^"\\]|\\.)*"|{_TOKEN}))?', re.DOTALL)
_JUNK = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,\n"]|")*?(?=[,\n]|$)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Claim:
    """What one answer says about its server; ``None`` where it says nothing."""

    version: str | None = None
    track: str | None = None


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL) if text.startswith('"') else text


def _entries(header: str) -> list[tuple[str, str]]:
    """Return (metric name, desc) of each entry of a ``Server-Timing`` header; what does not parse is
    skipped."""
    found: list[tuple[str, str]] = []
    at = 0
    while match := _METRIC.match(header, at):
        at = match.end()
        desc: str | None = None
        while param := _PARAM.match(header, at):
            at = param.end()
            # The first of repeated parameters counts. Source: Server-Timing section 3.1.
            if desc is None and param[1].lower() == "desc":
                desc = _unquote(param[2] or "")
        found.append((match[1], desc or ""))
        junk = _JUNK.match(header, at)
        at = junk.end() if junk else len(header)
    return found


def parse_claim(server_timing: str) -> Claim:
    """Return who an answer says it comes from.

    An entry that is missing or empty gives ``None``, and so do two entries that contradict each other (an
    instrumented gateway in front of an instrumented app): an ambiguous claim proves nothing.
    """
    entries = _entries(server_timing)
    values: list[str | None] = []
    for name in (SERVER_TIMING_VERSION, SERVER_TIMING_TRACK):
        said = {desc for metric, desc in entries if metric == name and desc}
        values.append(said.pop() if len(said) == 1 else None)
    return Claim(*values)
