"""Changes of recorded rollouts: what a real control plane said, line by line."""

import json
from functools import cache
from pathlib import Path

from rolloutobs.cluster.resources import Kind
from rolloutobs.cluster.state import State

FOLDER = Path(__file__).parents[3] / "fixtures" / "kubernetes"
KINDS = {
    "deployments": Kind.DEPLOYMENT,
    "replicasets": Kind.REPLICA_SET,
    "pods": Kind.POD,
    "events": Kind.EVENT,
}


@cache
def changes_of(*names):
    """Return the changes of recordings, one after the other, as a watcher sees them that runs all along."""
    state = State()
    changes = state.begin()
    for name in names:
        lines = []
        for file, kind in KINDS.items():
            text = (FOLDER / name / f"{file}.watch.ndjson").read_text("utf-8")
            lines += [(plain["t"], kind, plain) for plain in map(json.loads, text.splitlines())]
        for _, kind, plain in sorted(lines, key=lambda line: line[0]):
            if plain["type"] != "BOOKMARK":
                changes += state.apply(kind, plain["type"], plain["object"])
                changes += state.settle()
    return tuple(changes)
