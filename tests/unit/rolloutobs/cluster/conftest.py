"""What the tests of the cluster share."""

import pytest

from rolloutobs.cluster.resources import Kind
from rolloutobs.cluster.state import State

from .made import BEGAN


class Played:
    """A state and what it has told, in short words."""

    def __init__(self):
        self.state = State()

    def begin(self, **listed):
        """List objects by kind (``deployments=[...]``) and return the past."""
        for name, objects in listed.items():
            for plain in objects:
                self.state.apply(_KINDS[name], "MODIFIED", plain)
        return self.state.begin()

    def say(self, name, plain, word="MODIFIED"):
        """Give one object and return (kind, seconds since the beginning, revision) of what changed."""
        return [short(change) for change in self.state.apply(_KINDS[name], word, plain)]

    @property
    def workload(self):
        """The only one."""
        (found,) = self.state.workloads()
        return found


def short(change):
    """Return a change in three words."""
    return change.kind.value, change.time - BEGAN, change.rollout.revision if change.rollout else 0


_KINDS = {
    "deployments": Kind.DEPLOYMENT,
    "sets": Kind.REPLICA_SET,
    "pods": Kind.POD,
    "rollouts": Kind.ROLLOUT,
    "canaries": Kind.CANARY,
    "events": Kind.EVENT,
}


@pytest.fixture
def played():
    return Played()
