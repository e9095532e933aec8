"""What all users of one Locust process share: the orders, the counts, and who waits for work.

Belongs here: the hand-over of arrivals to users. Runs inside Locust only, in one thread of greenlets.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from gevent.event import AsyncResult, Event

from synthetic.load.orders import ENVIRONMENT_VARIABLE, Orders
from synthetic.load.tally import Sample, Tally

if TYPE_CHECKING:
    from synthetic.load.user import RolloutUser

__all__ = ["CONTEXT_KEY", "PLAIN", "Begun", "Desk", "Site", "site"]

CONTEXT_KEY = "rolloutobs.begun"
"""In the context of Locust's request events; see `Begun`."""
PLAIN = "users"
"""Name of the track of users that are aimed at none."""


@dataclass(frozen=True, slots=True)
class Begun:
    """Which track a request goes to, and how long its task waited for a user before."""

    track: str
    late_seconds: float = 0.0


@dataclass(slots=True)
class Desk:
    """Where arrivals of one track and user class meet users."""

    waiting: deque[AsyncResult[float]] = field(default_factory=deque)
    backlog: deque[float] = field(default_factory=deque)
    """Moments of arrivals that found nobody."""
    handed: int = 0
    """Arrivals whose users have not woken up yet."""

    def arrive(self, moment: float) -> bool:
        """Hand an arrival over; return whether a user was free."""
        if self.waiting:
            self.waiting.popleft().set(moment)
            self.handed += 1
            return True
        self.backlog.append(moment)
        return False

    def take(self) -> float:
        """Return the moment of the next arrival, as soon as there is one."""
        if self.backlog:
            return self.backlog.popleft()
        turn: AsyncResult[float] = AsyncResult()
        self.waiting.append(turn)
        try:
            return float(turn.get())
        finally:
            if turn.ready():
                self.handed -= 1
            else:
                self.waiting.remove(turn)


class Site:
    """The state of one process."""

    def __init__(self, orders: Orders) -> None:
        self.desks: defaultdict[tuple[str, type], Desk] = defaultdict(Desk)
        self.users: list[RolloutUser] = []
        self.closing = Event()
        """No more tasks begin but those that have arrived."""
        self.began: float | None = None
        self.is_sealed = False
        """What ends now was counted already, as not ended."""
        self.obey(orders)

    def obey(self, orders: Orders) -> None:
        """Begin to count for `orders`."""
        self.orders = orders
        self.tally = Tally([target.track.value for target in orders.targets] or [PLAIN])

    @property
    def elapsed(self) -> float:
        """Seconds since the load began; 0 before."""
        return 0.0 if self.began is None else perf_counter() - self.began

    def record(self, track: str, sample: Sample) -> None:
        """Count a request that ends now."""
        self.tally.tracks[track].add(sample, int(self.elapsed / self.orders.tick_seconds))

    def on_request(
        self,
        request_type: str,
        name: str,
        response_time: float | None,
        exception: BaseException | None = None,
        context: Any = None,
        **_: Any,
    ) -> None:
        """Take in Locust's own statistics event: one finished request of whatever client fired it."""
        if self.is_sealed:
            return
        begun = (context or {}).get(CONTEXT_KEY)
        if begun is None:
            self.tally.foreign += 1
            return
        service = (response_time or 0.0) / 1000
        error = "" if exception is None else _words(exception)
        sample = Sample(request_type, name, service + begun.late_seconds, service, error)
        self.record(begun.track, sample)

    def on_user_error(self, exception: BaseException, **_: Any) -> None:
        """Count what the locustfile raised."""
        self.tally.problems[f"the locustfile raised {_words(exception)}"] += 1


def _words(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines() or [type(problem).__name__]
    return lines[0][:300]


site = Site(
    Orders.from_json(os.environ[ENVIRONMENT_VARIABLE]) if ENVIRONMENT_VARIABLE in os.environ else Orders()
)
