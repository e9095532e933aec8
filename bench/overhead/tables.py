"""All subjects by their table."""

from __future__ import annotations

from bench.overhead.own import own_subjects
from bench.overhead.peers import peer_subjects
from bench.overhead.subject import Framework, Subject

__all__ = ["OWN", "subjects", "table"]

OWN, PEERS = "own", "peers"


def table(kind: str, framework: Framework) -> list[Subject]:
    """Return the subjects of one table, the bare app first."""
    if kind == OWN:
        return own_subjects(framework, process=f"{OWN} {framework}")
    return own_subjects(framework, process="") + peer_subjects(framework)


def subjects() -> list[Subject]:
    """Return every subject there is."""
    return [subject for kind in (OWN, PEERS) for framework in Framework for subject in table(kind, framework)]
