"""Where a check is aimed, and the proof of who answered.

Belongs here: targets and the judgement of a run's answers. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from rolloutobs.identity import UNKNOWN_VERSION, Track
from synthetic.claims import Claim
from synthetic.routing import Route
from synthetic.witness import Witness

__all__ = ["Answer", "Proof", "Proven", "Target", "origin_of", "prove", "told_astray"]

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
    route: Route = field(default_factory=Route)
    """How requests get to this track where the URL alone does not say so."""
    witness: Witness = field(default_factory=Witness)
    """Where answers say who gave them."""

    @property
    def origin(self) -> str:
        """Scheme, host and port, as `origin_of` normalises them."""
        return origin_of(self.url)

    def is_wanted(self, claim: Claim) -> bool:
        """Return whether `claim` proves that this target's track and version answered."""
        return not _contradiction(self, claim) and _is_proof(self, claim)


@dataclass(frozen=True, slots=True)
class Answer:
    """One response that matters: a document or an API call at the target's own origin."""

    url: str
    status: int
    claim: Claim
    """Who it says it comes from."""


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
        claim = answer.claim
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


def told_astray(target: Target, answers: Sequence[Answer]) -> str:
    """Return one sentence on `answers` none of which came from `target`."""
    said: dict[str, int] = {}
    for answer in answers:
        name = answer.claim.track or answer.claim.version or f"nobody that says who it is ({answer.status})"
        said[name] = said.get(name, 0) + 1
    told = ", ".join(f"{count} came from {name}" for name, count in said.items())
    return f"{target.track} did not answer in {len(answers)} attempts at {target.url}: {told}"
