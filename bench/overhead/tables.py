"""All subjects by their table."""

from __future__ import annotations

from bench.overhead.own import own_subjects
from bench.overhead.peers import peer_subjects
from bench.overhead.subject import Framework, Subject

__all__ = ["OWN", "PEERS", "subjects", "table"]

OWN, PEERS = "own", "peers"


def table(kind: str, framework: Framework) -> list[Subject]:
    """Return the subjects of one table, the bare app first."""
    own = own_subjects(framework)
    return own if kind == OWN else own + peer_subjects(framework)


def subjects() -> list[Subject]:
    """Return every subject there is."""
    return [subject for framework in Framework for subject in table(PEERS, framework)]
