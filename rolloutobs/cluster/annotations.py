"""Annotations of Grafana: what one says of a rollout, and what is to be changed about one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rolloutobs import semconv
from rolloutobs.cluster.model import Phase, Rollout
from rolloutobs.errors import ConfigurationError

__all__ = ["Annotation", "Written", "annotation_of", "changes", "key_tag", "merged", "outcome_tag"]

KEY: Final = "rollout"
"""No tag is this word alone: Grafana would take it for all tags that begin so, and find none of both."""
OUTCOME: Final = "outcome"
_TAG_LENGTH: Final = 100
"""Of the part before a tag's first colon, and of the part after it. Source: Grafana's table ``tag``."""
_TAGS_LENGTH: Final = 500
"""Of all tags as JSON. Source: Grafana's setting ``[annotations] tags_length``."""

# The word that a person reads on a dashboard.
_WORDS: Final[Mapping[Phase, str]] = {
    Phase.COMPLETED: "completed",
    Phase.ROLLED_BACK: "rolled back",
    Phase.SUPERSEDED: "superseded",
}


@dataclass(frozen=True, slots=True)
class Annotation:
    """What should stand in Grafana. Times are unix seconds.

    Raises:
        ConfigurationError: Grafana would cut or refuse it.
    """

    key: str
    """What it is found by, so that it is written once."""
    text: str
    start: float
    end: float | None = None
    """``None``: it has no end yet, and is shown as a line."""
    tags: tuple[str, ...] = ()
    """Besides that of the key."""
    dashboard: str = ""
    """UID; empty: it is the organisation's, and on every dashboard that asks for its tags."""
    panel: int | None = None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ConfigurationError("the text of the annotation is empty; Grafana takes none without")
        if self.panel is not None and not self.dashboard:
            raise ConfigurationError(f"panel {self.panel} needs the dashboard that it is on")
        for tag in self.all_tags:
            if any(len(part) > _TAG_LENGTH for part in tag.split(":", 1)):
                raise ConfigurationError(
                    f"the tag {tag!r} is too long; Grafana takes {_TAG_LENGTH} characters before the colon "
                    f"and {_TAG_LENGTH} after it"
                )
        # As JSON: brackets around all, quotes around each, commas between.
        length = 1 + sum(len(tag) + 3 for tag in self.all_tags)
        if length > _TAGS_LENGTH:
            raise ConfigurationError(
                f"the tags have {length} characters together; Grafana takes {_TAGS_LENGTH}"
            )

    @property
    def all_tags(self) -> tuple[str, ...]:
        """All tags, the key's first."""
        return tuple(dict.fromkeys((key_tag(self.key), *self.tags)))

    def body(self) -> dict[str, Any]:
        """Return what Grafana is sent to make it."""
        made: dict[str, Any] = {
            "time": milliseconds(self.start),
            "tags": list(self.all_tags),
            "text": self.text,
        }
        if self.end is not None:
            made["timeEnd"] = milliseconds(self.end)
        if self.dashboard:
            made["dashboardUID"] = self.dashboard
        if self.panel is not None:
            made["panelId"] = self.panel
        return made


@dataclass(frozen=True, slots=True)
class Written:
    """An annotation as Grafana has it."""

    id: int
    text: str
    tags: tuple[str, ...]
    time: int
    """Unix milliseconds."""
    time_end: int
    """The same as `time` where it has no end."""

    @property
    def has_ended(self) -> bool:
        """Whether it is a region."""
        return self.time_end > self.time


def milliseconds(seconds: float) -> int:
    """Return unix milliseconds, as Grafana counts."""
    return round(seconds * 1000)


def key_tag(key: str) -> str:
    """Return the tag that an annotation is found by.

    Raises:
        ConfigurationError: there is no key, or it has blanks at its ends, which Grafana takes away.
    """
    if not key or key != key.strip():
        raise ConfigurationError(f"the key is {key!r}; use what names the rollout, such as 'shop-1.2.0'")
    return f"{KEY}:{key}"


def outcome_tag(outcome: str) -> str:
    """Return the tag for how something has ended."""
    return f"{OUTCOME}:{outcome}"


def merged(old: Iterable[str], new: Iterable[str]) -> tuple[str, ...]:
    """Return both sets of tags, the old ones first; a new outcome takes the place of an old one."""
    added = tuple(new)
    has_outcome = any(tag.startswith(f"{OUTCOME}:") for tag in added)
    kept = (tag for tag in old if not (has_outcome and tag.startswith(f"{OUTCOME}:")))
    return tuple(dict.fromkeys((*kept, *added)))


def changes(wanted: Annotation, found: Written) -> dict[str, Any]:
    """Return what is to be changed about `found`; nothing where it is as wanted.

    What has ended once keeps its end, whatever its outcome is called later: a version that was complete for
    a day and is taken back then was no rollout of a day.
    """
    body = wanted.body()
    now = {"time": found.time, "timeEnd": found.time_end, "text": found.text}
    if found.has_ended and any(tag.startswith(f"{OUTCOME}:") for tag in found.tags):
        body.pop("timeEnd", None)
    made = {name: body[name] for name in now if name in body and body[name] != now[name]}
    if set(wanted.all_tags) != set(found.tags):
        made["tags"] = list(wanted.all_tags)
    return made


def annotation_of(rollout: Rollout, dashboard: str = "") -> Annotation:
    """Return the annotation of a rollout: of one that goes on a line, of one that has ended a region.

    A rollback names what it undoes, and what was undone says so: v1, v2 and v1 again read as one story.
    """
    app = rollout.app or rollout.workload
    text = f"{app} {rollout.from_version or '?'} -> {rollout.to_version or '?'}"
    words = ["rollback"] if rollout.undoes else []
    if rollout.phase.is_end:
        words.append(_WORDS[rollout.phase])
    if words:
        text = f"{text}: {', '.join(words)}"
    if rollout.reason:
        text = f"{text} ({rollout.reason})"
    owner = rollout.annotations.get(semconv.ANNOTATION_OWNER, "").strip()
    if owner:
        text = f"{text}; owner: {owner}"
    tags = (
        ("app", app),
        ("namespace", rollout.namespace),
        ("version", rollout.to_version),
        ("undoes", rollout.undoes),
        ("undone-by", rollout.undone_by),
        (OUTCOME, rollout.phase.value if rollout.phase.is_end else ""),
    )
    marks = ("rollback",) if rollout.undoes else ()
    return Annotation(
        rollout.id,
        text,
        rollout.started,
        rollout.ended if rollout.phase.is_end else None,
        (*marks, *(f"{name}:{value[:_TAG_LENGTH]}" for name, value in tags if value)),
        dashboard,
    )
