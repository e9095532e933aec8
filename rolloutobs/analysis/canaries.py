"""Whose series are the canary's, in readings: those of one rollout are told from those of another. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from rolloutobs import semconv
from rolloutobs.analysis.model import Reading
from rolloutobs.analysis.tally import CANARY, STABLE

__all__ = ["of_canaries", "of_present_canary", "versions_of_canaries"]


def of_present_canary(past: Sequence[Reading], now: Reading) -> list[Reading]:
    """Return `past` without canaries of other versions than the present ones: an earlier rollout is not this
    one."""
    present = versions_of_canaries(now)
    return [of_canaries(reading, present) for reading in past]


def of_canaries(reading: Reading, versions: Collection[str]) -> Reading:
    """Return `reading` without canaries of other versions than `versions`; without any, of all.

    What says no version, as when a process began, is of whatever canary is there.
    """
    kept = {*versions, ""} if versions else set()
    targets = {
        name: tuple(s for s in samples if (v := _version(s.labels)) is None or v in kept)
        for name, samples in reading.targets.items()
    }
    return replace(reading, targets={name: samples for name, samples in targets.items() if samples})


def versions_of_canaries(reading: Reading) -> set[str]:
    """Return the versions of all series that say that they are the canary's.

    A pod that was promoted a while ago says it still, beside its new track; where there is another canary,
    it is none.
    """
    found: dict[str, set[str]] = {CANARY: set(), STABLE: set()}
    for samples in reading.targets.values():
        for sample in samples:
            if (track := sample.labels.get(semconv.LABEL_TRACK, "")) in found:
                found[track].add(sample.labels.get(semconv.LABEL_VERSION, ""))
    named = found[CANARY] - {""}
    return named - found[STABLE] or named or found[CANARY]


def _version(labels: Mapping[str, str]) -> str | None:
    """Return the version of a canary's series, ``None`` for any other series."""
    return labels.get(semconv.LABEL_VERSION, "") if labels.get(semconv.LABEL_TRACK) == CANARY else None
