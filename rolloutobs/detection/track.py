"""Which side of a rollout this process serves: where that can be read, and in which order.

A label of the pod comes before the environment, because it changes while the pod lives and variables do not.
Nothing is ever guessed: a process that nobody put on a track has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rolloutobs import variables
from rolloutobs.detection.labels import Labels
from rolloutobs.detection.looks import Look
from rolloutobs.detection.resource import pod_name
from rolloutobs.environment import VARIABLES
from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Track
from rolloutobs.settings import Settings

__all__ = ["TRACK_KEYS", "TRACK_WORDS", "ResolvedTrack", "TrackResolver", "without_primary"]

TRACK_KEYS = ("rolloutobs.io/track", "role", "track")
"""Labels that name a track; the first one that does counts."""
TRACK_WORDS: Mapping[str, Track] = {
    **{track.value: track for track in Track if track},
    # Argo Rollouts, "BlueGreen": the words of its services for the two sides.
    "active": Track.STABLE,
    "preview": Track.CANARY,
}
SELECTOR_KEYS = ("app", "name", "app.kubernetes.io/name")
"""Source: Flagger, ``-selector-labels``: the label whose value gets the suffix is the first of these."""
_PRIMARY = "-primary"
# What a Deployment and a DaemonSet add to their name. Source: Kubernetes, apimachinery, util/rand.
_POD_OF_PRIMARY = re.compile(
    r".+-primary(?:-[bcdfghjklmnpqrstvwxz2456789]{1,10})?-[bcdfghjklmnpqrstvwxz2456789]{5}"
)


@dataclass(frozen=True, slots=True)
class ResolvedTrack:
    """The track, where it comes from, and what looked like one."""

    track: Track
    source: str = ""
    """Empty where no track is known."""
    unknown: str = ""
    """A label value that is no track, as ``role='blue'``; only where no other label named a track."""
    is_from_labels: bool = False
    """Whether a label named it; everything else stays the same for the life of the process."""


@dataclass(frozen=True, slots=True)
class TrackResolver:
    """Says what the labels of a pod make of its track; pure."""

    path: str
    """The label file; only for the words of `ResolvedTrack.source`."""
    environment: tuple[Look, ...] = ()
    """What the environment said."""
    pod: str = ""
    """Name of the pod; empty: not known."""

    @classmethod
    def of(cls, settings: Settings, environ: Mapping[str, str]) -> TrackResolver:
        """Return the resolver of this process; the track in `settings` is not asked."""
        return cls(settings.labels_file or "", tuple(_from_environment(environ)), pod_name(environ))

    def resolve(self, labels: Labels) -> ResolvedTrack:
        """Return the track under these labels."""
        looks = list(self.looks(labels))
        chosen = next((look for look in looks if look.is_usable), None)
        named = set(self._label_sources())
        if chosen is not None and chosen.source in named:
            return ResolvedTrack(TRACK_WORDS[chosen.value], chosen.source, is_from_labels=True)
        unknown = next(
            (f"{look.source} is {look.value!r}" for look in looks if look.source in named and look.value), ""
        )
        if chosen is None:
            return ResolvedTrack(Track.NONE, unknown=unknown)
        return ResolvedTrack(Track(chosen.value), chosen.source, unknown)

    def looks(self, labels: Labels) -> Iterator[Look]:
        """Yield every place in the order in which it counts; usable values are tracks."""
        if labels.problem:
            yield Look(f"labels in {self.path}", reason=labels.problem)
        elif labels.is_missing:
            yield Look(f"labels in {self.path}", reason="there is no such file")
        else:
            for key, source in zip((*TRACK_KEYS, ""), self._label_sources(), strict=True):
                text = labels.values.get(key, "") if key else labels.single
                if key or text:
                    yield _label_look(source, text)
        yield from self.environment
        for key in SELECTOR_KEYS:
            value = labels.values.get(key, "")
            if value.endswith(_PRIMARY):
                yield Look(f"label {key}={value!r} in {self.path}", Track.STABLE.value)
        if self.pod:
            is_primary = _POD_OF_PRIMARY.fullmatch(self.pod)
            yield Look(f"pod name {self.pod!r}", Track.STABLE.value if is_primary else "")

    def _label_sources(self) -> tuple[str, ...]:
        return (*(f"label {key} in {self.path}" for key in TRACK_KEYS), f"the only label in {self.path}")


def _label_look(source: str, text: str) -> Look:
    word = text.strip().lower()
    if not word or word in TRACK_WORDS:
        return Look(source, word)
    words = ", ".join(TRACK_WORDS)
    return Look(source, text, f"is no track; use one of {words}")


def _from_environment(environ: Mapping[str, str]) -> Iterator[Look]:
    variable = next(v for v in VARIABLES if v.field == "track")
    for name in variable.names:
        yield _environment_look(name, environ.get(name, ""))
    resource = variables.resource_attributes(environ)
    for key in variable.resource:
        yield _environment_look(f"{key} in OTEL_RESOURCE_ATTRIBUTES", resource.get(key, ""))


def _environment_look(source: str, text: str) -> Look:
    try:
        return Look(source, Track.parse(text, source).value)
    except ConfigurationError as error:
        return Look(source, text, str(error))


def without_primary(value: str) -> str:
    """Return a selector label's value without the suffix that Flagger gives to the stable side."""
    return value.removesuffix(_PRIMARY) or value
