"""What a Locust process is told by the process that starts it, or a worker by its master.

Belongs here: the orders, and their text form for one environment variable or one message.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from rolloutobs.identity import Track
from synthetic.load.schedule import Phase
from synthetic.routing import Route
from synthetic.target import Target
from synthetic.witness import Witness, WitnessKind

__all__ = ["ENVIRONMENT_VARIABLE", "Orders"]

ENVIRONMENT_VARIABLE = "ROLLOUTOBS_LOAD_ORDERS"


@dataclass(frozen=True, slots=True)
class Orders:
    """What `synthetic.load.user` does inside Locust. The defaults are those of a locustfile started by
    hand: marked, not proven, as its own ``wait_time`` says, until Locust ends it."""

    report: str = ""
    """File of the results, replaced every few seconds and at the end; empty: none."""
    parent: int = 0
    """Process that has to be alive; 0: none."""
    marked: bool = True
    targets: tuple[Target, ...] = ()
    """Empty: Locust's own host, and answers are not proven."""
    phases: tuple[Phase, ...] = ()
    """Arrivals per second on each target; empty: users follow their ``wait_time``."""
    even: bool = False
    """Arrivals come at equal distances; else at random."""
    seconds: float | None = None
    """When no more tasks begin, from the first on; ``None``: when the phases end, or never."""
    count: int | None = None
    """Most arrivals on all targets together."""
    paths: tuple[str, ...] = ()
    """What `synthetic.load.paths` asks for."""
    grace_seconds: float = 5.0
    """How long what is under way may take at the end."""
    tick_seconds: float = 1.0
    """Length of the intervals that the spread of the counts is judged by."""
    index: int = 0
    workers: int = 1
    """This one of so many processes that share the load."""

    @classmethod
    def from_json(cls, text: str) -> Orders:
        """Return the orders that `as_json` wrote."""
        given: dict[str, Any] = json.loads(text)
        given["targets"] = tuple(_target(each) for each in given["targets"])
        given["phases"] = tuple(Phase(**each) for each in given["phases"])
        given["paths"] = tuple(given["paths"])
        return cls(**given)

    def as_json(self) -> str:
        """Return the orders as text."""
        return json.dumps(asdict(self))


def _target(given: dict[str, Any]) -> Target:
    route = given["route"]
    pairs = {name: tuple((n, v) for n, v in route[name]) for name in ("headers", "cookies", "query")}
    witness = given["witness"]
    return Target(
        given["url"],
        Track(given["track"]),
        given["version"],
        Route(**pairs, attempts=route["attempts"]),
        Witness(WitnessKind(witness["kind"]), witness["path"], witness["version"], witness["track"]),
    )
