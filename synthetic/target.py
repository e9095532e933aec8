"""Where a check is aimed, and the proof of who answered.

Belongs here: targets, the parsing of ``Server-Timing`` and the judgement of a run's answers. Pure: no I/O, no
clock.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from rolloutobs.identity import UNKNOWN_VERSION, Track
from rolloutobs.semconv import SERVER_TIMING_TRACK, SERVER_TIMING_VERSION

__all__ = ["Answer", "Claim", "Proof", "Proven", "Target", "origin_of", "parse_claim", "prove"]

# Source: https://www.w3.org/TR/server-timing/#the-server-timing-header-field (metric-name and param are RFC
# 9110 tokens; a value is a token or a quoted-string). A newline joins repeated headers in Chromium's
# protocol.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's word, not a secret
_METRIC = re.compile(rf"[\s,]*({_TOKEN})")
_PARAM = re.compile(rf'[ \t]*;[ \t]*({_TOKEN})[ \t]*(?:=[ \t]*("(?:[^"\\]|\\.)*"|{_TOKEN}))?', re.DOTALL)
_JUNK = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,\n"]|")*?(?=[,\n]|$)', re.DOTALL)

_GATEWAY_STATUSES = frozenset({502, 503, 504})
"""What a proxy answers for a backend that does not. Source: RFC 9110 sections 15.6.3 to 15.6.5."""


@dataclass(frozen=True, slots=True)
class Target:
    """A base URL and who is expected to answer there."""

    url: str
    """Absolute, without trailing slash."""
    track: Track
    version: str | None = None
    """Expected version; ``None`` accepts any single version, and then the track has to be proven."""

    @property
    def origin(self) -> str:
        """Scheme, host and port, as `origin_of` normalises them."""
        return origin_of(self.url)


@dataclass(frozen=True, slots=True)
class Claim:
    """What one answer says about its server; ``None`` where it says nothing."""

    version: str | None = None
    track: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One response that matters: a document or an API call at the target's own origin."""

    url: str
    status: int
    server_timing: str
    """The header's value; empty when there was none."""


class Proven(StrEnum):
    """How far a run's answers prove who gave them."""

    RIGHT = "right"
    WRONG = "wrong"
    """Another version or track answered, or more than one version did."""
    UNKNOWN = "unknown"
    """Something answered that did not say who it is."""
    SILENT = "silent"
    """Nothing answered: refused, timed out, or a gateway spoke for a backend that did not."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The judgement of all answers of one run."""

    proven: Proven
    version: str | None
    """The one version that answered; ``None`` when none did, or several."""
    detail: str
    """One sentence for the reader; empty when right."""


def origin_of(url: str) -> str:
    """Return ``scheme://host:port`` in lower case with the default port written out; empty for other URLs."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


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


def _contradiction(target: Target, claim: Claim) -> str:
    """Return why `claim` is not `target`; empty when nothing contradicts."""
    if target.version is not None and claim.version not in (None, target.version):
        return f"version {claim.version!r} answered, expected {target.version!r}"
    if claim.track not in (None, target.track.value):
        return f"track {claim.track!r} answered, expected {target.track.value!r}"
    return ""


def _is_proof(target: Target, claim: Claim) -> bool:
    """Whether `claim`, which contradicts nothing, says enough: the expected version, else a version and the
    track."""
    if target.version is not None:
        return claim.version is not None
    return claim.version not in (None, UNKNOWN_VERSION) and claim.track is not None


def _says_nothing_by_nature(answer: Answer) -> bool:
    """Whether an answer without a claim is no answer of the app: a gateway's own error, or a redirect at its
    edge."""
    return answer.status in _GATEWAY_STATUSES or 300 <= answer.status < 400


def prove(target: Target, answers: Sequence[Answer]) -> Proof:
    """Judge who gave `answers`: one wrong answer makes the run wrong, one nameless answer makes it
    unknown."""
    versions: set[str] = set()
    unknown = ""
    for answer in answers:
        claim = parse_claim(answer.server_timing)
        if problem := _contradiction(target, claim):
            return Proof(Proven.WRONG, None, f"{problem} ({answer.url})")
        if _is_proof(target, claim):
            versions.add(claim.version or "")
        elif claim != Claim() or not _says_nothing_by_nature(answer):
            unknown = unknown or f"the answer does not prove who gave it: {answer.status} {answer.url}"
    version = next(iter(versions)) if len(versions) == 1 else None
    if len(versions) > 1:
        return Proof(Proven.WRONG, None, f"more than one version answered: {', '.join(sorted(versions))}")
    if unknown:
        return Proof(Proven.UNKNOWN, version, unknown)
    if version is None:
        return Proof(Proven.SILENT, None, "nothing answered")
    return Proof(Proven.RIGHT, version, "")
