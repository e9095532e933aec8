"""Workers and their master inside Locust: orders go out, counts come back, and whoever is lost is missed.

Belongs here: messages between them, and the report that the process outside reads. Imported for its effect by
`synthetic.load.user`.

Workers send all that they have counted so far, not what is new: a message more or less changes nothing, and
the sum over the last message of each worker is what one process would have counted.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import gevent
from locust import events
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner

from synthetic.load.conductor import Conductor
from synthetic.load.orders import Orders
from synthetic.load.site import site
from synthetic.load.tally import Tally

__all__ = ["listen"]

log = logging.getLogger(__name__)

_WRITE_SECONDS = 1.0
_LOOK_SECONDS = 0.1
_MESSAGE_SECONDS = 5.0
"""How long the last counts of a worker may take to arrive after what is under way has ended."""
_START_SECONDS = 60.0
_ORDERS, _END, _FINISHED = "rolloutobs_orders", "rolloutobs_end", "rolloutobs_finished"
_KEY = "rolloutobs"


class _Worker(Conductor):
    """A process that a master leads."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._told = False
        environment.runner.register_message(_ORDERS, self._obey)
        environment.runner.register_message(_END, self._on_end, concurrent=True)
        events.report_to_master.add_listener(self._add_to_report)

    def _obey(self, msg: Any, **_: Any) -> None:
        try:
            site.obey(replace(Orders.from_json(msg.data), report="", parent=site.orders.parent))
        except (TypeError, ValueError, KeyError) as problem:
            # What it would do without orders is not what was asked for.
            log.error("the master speaks another version of rolloutobs: %r", problem)
            self.environment.process_exit_code = 2
            gevent.spawn(self.environment.runner.quit)

    def _on_end(self, **_: Any) -> None:
        self.end()
        self.leave()

    def leave(self) -> None:
        """Send the last counts; the master ends us when it has everybody's."""
        if not self._told:
            self._told = True
            self.environment.runner.send_message(_FINISHED, {**self._counts(), "early": self.is_early})

    def end_early(self, **_: Any) -> None:
        """Send the last counts before leaving."""
        if site.began is not None:
            super().end_early()
            self.leave()

    def _counts(self) -> dict[str, Any]:
        return {"tally": site.tally.plain(), "seconds": site.elapsed}

    def _add_to_report(self, data: dict[str, Any], **_: Any) -> None:
        data[_KEY] = self._counts()


class _Master(Conductor):
    """A process that leads workers and makes no requests itself."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._counts: dict[str, dict[str, Any]] = {}
        self._finished: set[str] = set()
        self._lost: set[str] = set()
        environment.runner.register_message(_FINISHED, self._on_finished)
        events.worker_report.add_listener(self._on_report)

    def begin(self, **_: Any) -> None:
        """Give every worker its orders, before Locust lets it start users."""
        workers = [client.id for client in self.environment.runner.clients.ready]
        self._counts = {worker: {} for worker in workers}
        for index, worker in enumerate(workers):
            orders = replace(site.orders, index=index, workers=len(workers)).as_json()
            self.environment.runner.send_message(_ORDERS, orders, worker)
        site.began = perf_counter()
        # For a worker that comes later, or back, Locust starts anew: it would have users without orders, whom
        # nobody counts, and the others would lose as many.
        self.environment.runner.start = _start_no_more
        gevent.spawn(self._run)

    def _run(self) -> None:
        orders = site.orders
        planned = sum(phase.seconds for phase in orders.phases) if orders.phases else orders.seconds or 0.0
        self._wait(planned + orders.grace_seconds + _START_SECONDS)
        self.is_over = True
        self.leave()

    def _wait(self, seconds: float) -> None:
        """Wait until each worker has finished or is lost; who is late then is lost, too."""
        until = perf_counter() + seconds
        while self._look() and perf_counter() < until:
            gevent.sleep(_LOOK_SECONDS)
        self._lost |= self._missing()

    def _look(self) -> bool:
        """Return whether somebody is still at work."""
        clients = self.environment.runner.clients
        for worker in self._missing():
            if worker not in clients or clients[worker].state == STATE_MISSING:
                self._lost.add(worker)
        return bool(self._missing())

    def _missing(self) -> set[str]:
        return set(self._counts) - self._finished - self._lost

    def end(self) -> None:
        """Tell the workers to end, and wait for their last counts."""
        for worker in self._missing():
            self.environment.runner.send_message(_END, None, worker)
        self._wait(site.orders.grace_seconds + _MESSAGE_SECONDS)
        self.is_over = True

    def _on_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        if _KEY in data and client_id in self._counts and client_id not in self._finished:
            self._counts[client_id] = data[_KEY]

    def _on_finished(self, msg: Any, **_: Any) -> None:
        if msg.node_id in self._counts:
            self._counts[msg.node_id] = msg.data
            # One that was told to leave before its time has given what it had, and is missed all the same.
            (self._lost if msg.data["early"] and not self.is_early else self._finished).add(msg.node_id)

    def parts(self) -> list[dict[str, Any]]:
        """Return the last counts of each worker that sent some."""
        return [each for each in self._counts.values() if each]

    def workers(self) -> dict[str, int]:
        """Return how many there were at the start, and how many were lost."""
        return {"workers": len(self._counts), "lost": len(self._lost)}


def _start_no_more(*_: Any, **__: Any) -> None:
    log.info("a worker came after the load had begun; it makes no requests")


def listen(environment: Any) -> None:
    """Lead the load of this process; called when Locust has made its runner."""
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        conductor: Conductor = _Worker(environment)
    else:
        conductor = _Master(environment) if isinstance(runner, MasterRunner) else Conductor(environment)
    file = Path(site.orders.report) if site.orders.report else None
    events.test_start.add_listener(conductor.begin)
    if file is not None:
        gevent.spawn(_write_often, file, conductor)

    def quit_in_order(**_: Any) -> None:
        conductor.end_early()
        if file is not None:
            _write(file, conductor)

    # Locust fires the last listener first: this one comes before its own, which lets nobody finish.
    events.quitting.add_listener(quit_in_order)


def _write_often(file: Path, conductor: Conductor) -> None:
    while True:
        gevent.sleep(_WRITE_SECONDS)
        _write(file, conductor)


def _write(file: Path, conductor: Conductor) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(_report(conductor)), encoding="utf-8")
    part.replace(file)


def _report(conductor: Conductor) -> dict[str, Any]:
    """Return everything that the process outside needs."""
    parts: Iterable[dict[str, Any]] = [{"tally": site.tally.plain(), "seconds": site.elapsed}]
    workers = {"workers": 0, "lost": 0}
    if isinstance(conductor, _Master):
        parts, workers = conductor.parts(), conductor.workers()
    total = conductor.environment.stats.total
    return {
        "tally": Tally.merged([part["tally"] for part in parts]).plain(),
        "seconds": max([part["seconds"] for part in parts], default=0.0),
        "over": conductor.is_over,
        "early": conductor.is_early,
        **workers,
        "locust": {
            "requests": total.num_requests,
            "failures": total.num_failures,
            **{
                f"p{share}_seconds": total.get_response_time_percentile(share / 100) / 1000
                for share in (50, 95, 99)
            },
        },
        "pid": os.getpid(),
    }
