"""The two ends of a region, written by two commands of a pipeline that know nothing of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rolloutobs.cluster.annotations import Annotation, Written, key_tag, merged, milliseconds, outcome_tag
from rolloutobs.cluster.grafana import Act, Done, Grafana
from rolloutobs.errors import ConfigurationError, GrafanaError

__all__ = ["Ending", "begin", "finish"]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a region ends.

    Raises:
        ConfigurationError: Grafana would cut or refuse it.
    """

    key: str
    at: float
    """Unix seconds."""
    outcome: str = ""
    """One word, which becomes a tag and the end of the text; empty: it is not said."""
    text: str = ""
    """Takes the place of the text; empty: the text stays, with the outcome after it."""
    tags: tuple[str, ...] = ()
    """Besides those that are there."""
    dashboard: str = ""

    def __post_init__(self) -> None:
        key_tag(self.key)
        if self.outcome != self.outcome.strip():
            raise ConfigurationError(f"the outcome is {self.outcome!r}; use a word such as 'promoted'")
        # What Grafana would refuse of it is told before it is asked.
        Annotation(self.key, self.text or "-", self.at, tags=self.all_tags, dashboard=self.dashboard)

    @property
    def all_tags(self) -> tuple[str, ...]:
        """Those that are added."""
        return (*self.tags, outcome_tag(self.outcome)) if self.outcome else self.tags

    def changed(self, found: Written) -> dict[str, Any]:
        """Return what is to be changed about `found`; nothing where it has ended so already."""
        tags = merged(found.tags, self.all_tags)
        has_this_outcome = not self.outcome or outcome_tag(self.outcome) in found.tags
        text = self.text or (found.text if has_this_outcome else self._told(found))
        made: dict[str, Any] = {}
        if not (found.has_ended and has_this_outcome):
            made["timeEnd"] = max(milliseconds(self.at), found.time)
        if text != found.text:
            made["text"] = text
        if set(tags) != set(found.tags):
            made["tags"] = list(tags)
        return made

    def _told(self, found: Written) -> str:
        """Return the text with this outcome after it, in the place of another one."""
        text = found.text
        for tag in found.tags:
            name, _, outcome = tag.partition(":")
            if tag == outcome_tag(outcome) and name:
                text = text.removesuffix(f": {outcome}")
        return f"{text}: {self.outcome}"


async def begin(grafana: Grafana, annotation: Annotation) -> Done:
    """Make `annotation` unless there is one with its key, which is then left as it is.

    Raises:
        GrafanaError: Grafana has not taken it.
    """
    found = await grafana.find(annotation.key, annotation.dashboard)
    if found is not None:
        return Done(Act.UNCHANGED, found.id)
    return Done(Act.CREATED, await grafana.create(annotation))


async def finish(grafana: Grafana, ending: Ending) -> Done:
    """Give the annotation with the key an end.

    Raises:
        GrafanaError: there is none, or Grafana has not taken the change.
    """
    found = await grafana.find(ending.key, ending.dashboard)
    if found is None:
        where = f" on the dashboard {ending.dashboard!r}" if ending.dashboard else ""
        raise GrafanaError(
            f"there is no annotation with the tag {key_tag(ending.key)!r}{where}: was it started with this "
            "key and this dashboard, and may the token read it (annotations:read)?"
        )
    changed = ending.changed(found)
    if not changed:
        return Done(Act.UNCHANGED, found.id)
    await grafana.change(found.id, changed)
    return Done(Act.UPDATED, found.id)
