"""Leads the load of one process inside Locust: lets tasks arrive, ends it, and leaves the counts.

Belongs here: the course of a load in a process that works alone. `synthetic.load.distributed` has workers and
their master.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from time import perf_counter
from typing import Any

import gevent
from locust import TaskSet

from synthetic.load.orders import Orders
from synthetic.load.schedule import arrivals
from synthetic.load.site import site
from synthetic.load.tally import Sample

__all__ = ["Conductor"]

_READY_SECONDS = 20.0
"""Longest wait for users that start: what they do before their first task is not part of the load."""
_LOOK_SECONDS = 0.01


class Conductor:
    """The load of this process."""

    def __init__(self, environment: Any) -> None:
        self.environment = environment
        self.is_over = False
        self.is_early = False
        """Ended by a signal, before its time."""
        self._is_ending = False

    def begin(self, **_: Any) -> None:
        """Start with the test."""
        if site.orders.phases:
            _forget_pauses(self.environment.user_classes)
        if site.orders.phases or site.orders.seconds is not None:
            gevent.spawn(self._run)

    def _run(self) -> None:
        self._wait_until_ready()
        site.began = perf_counter()
        if site.orders.phases:
            _let_arrive(site.orders, site.began)
        else:
            site.closing.wait(site.orders.seconds)
        self.end()
        self.leave()

    def leave(self) -> None:
        """Do what follows the end: quit Locust."""
        self.environment.runner.quit()

    def _wait_until_ready(self) -> None:
        until = perf_counter() + _READY_SECONDS
        while perf_counter() < until and not site.closing.is_set():
            runner = self.environment.runner
            # Users of the closed model begin at once.
            starting = site.users if site.orders.phases else []
            is_spawned = runner.state == "running" and runner.user_count > 0
            if is_spawned and all(each.is_ready or each.is_gone for each in starting):
                return
            gevent.sleep(_LOOK_SECONDS)

    def end(self) -> None:
        """Let what is under way end, count what does not, and ask once more who answers; once."""
        site.closing.set()
        if self._is_ending:
            while not self.is_over:
                gevent.sleep(_LOOK_SECONDS)
            return
        self._is_ending = True
        until = perf_counter() + site.orders.grace_seconds
        while perf_counter() < until and _is_under_way():
            gevent.sleep(_LOOK_SECONDS)
        _cut_off()
        site.is_sealed = True
        for track in site.tally.tracks:
            user = next((each for each in site.users if each.track == track and not each.is_gone), None)
            if user is not None:
                user.identify()
        self.is_over = True

    def end_early(self, **_: Any) -> None:
        """End at once when Locust quits for another reason than ours."""
        if not self.is_over:
            self.is_early = True
            self.end()


def _let_arrive(orders: Orders, start: float) -> None:
    """Hand tasks over to users at their moments, each to a track drawn by lot, until the phases end."""
    draw = random.Random()
    tracks = list(site.tally.tracks)
    classes = Counter(type(user) for user in site.users if user.is_first and not user.is_gone)
    for moment in _moments(orders, len(tracks), draw):
        # It may be in the past: a process that was held up catches up.
        if site.closing.wait(max(0.0, start + moment - perf_counter())) or not classes:
            return
        track, (kind,) = draw.choice(tracks), draw.choices(list(classes), list(classes.values()))
        lag = max(0.0, perf_counter() - start - moment)
        site.tally.note_arrival(track, lag)
        site.tally.tracks[track].crowded += not site.desks[track, kind].arrive(start + moment)
    if orders.count is None:
        seconds = sum(phase.seconds for phase in orders.phases)
        site.closing.wait(max(0.0, start + seconds - perf_counter()))


def _moments(orders: Orders, tracks: int, draw: random.Random) -> Iterator[float]:
    """Return this process's arrivals: its share of a Poisson process, or each n-th of even ones."""
    gap: Callable[[], float] = (lambda: 1.0) if orders.even else (lambda: draw.expovariate(1.0))
    if orders.even:
        every = arrivals(orders.phases, tracks, gap)
        return islice(every, orders.index, orders.count, orders.workers)
    mine = arrivals(orders.phases, tracks / orders.workers, gap)
    if orders.count is None:
        return mine
    return islice(mine, orders.count // orders.workers + (orders.index < orders.count % orders.workers))


def _forget_pauses(classes: Iterable[Any]) -> None:
    """Take from task sets pauses of their own, which would make tasks begin that did not arrive."""
    for each in classes:
        if issubclass(each, TaskSet):
            each.wait_time = TaskSet.wait_time
        _forget_pauses(task for task in each.tasks if isinstance(task, type))


def _is_under_way() -> bool:
    busy = any(user.is_busy and not user.is_gone for user in site.users)
    return busy or any(desk.backlog or desk.handed for desk in site.desks.values())


def _cut_off() -> None:
    now = perf_counter()
    for (track, _), desk in site.desks.items():
        while desk.backlog:
            age = max(0.0, now - desk.backlog.popleft())
            site.tally.tracks[track].cut += 1
            site.record(track, Sample("TASK", "not begun", age, age, "no user was free until the end"))
    for user in site.users:
        user.cut_off()
