"""What a Locust process is told by the process that starts it, in one environment variable."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

__all__ = ["ENVIRONMENT_VARIABLE", "Orders"]

ENVIRONMENT_VARIABLE = "ROLLOUTOBS_LOAD_ORDERS"


@dataclass(frozen=True, slots=True)
class Orders:
    """What `synthetic.load.user` does inside Locust. The defaults are those of a locustfile started by
    hand."""

    report: str = ""
    """File that it writes at the end; empty: none."""
    marked: bool = True
    track: str = ""
    """Empty: answers are not proven."""
    version: str | None = None
    tasks_per_user_second: float | None = None
    """Mean arrivals per user; ``None``: the locustfile's own ``wait_time``."""
    parent: int = 0
    """Process that has to be alive; 0: none."""

    @classmethod
    def from_json(cls, text: str) -> Orders:
        """Return the orders that `as_json` wrote."""
        return cls(**json.loads(text))

    def as_json(self) -> str:
        """Return the orders as text for the environment."""
        return json.dumps(asdict(self))
