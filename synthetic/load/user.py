"""What runs inside Locust: a user whose requests are marked, proven and, if asked, arrive at a rate.

Belongs here: only what needs Locust's classes. Importing this module imports Locust, which patches the
process for
gevent: locustfiles do, nothing else. What to do comes as `synthetic.load.orders` in one environment variable;
    a locustfile that is started by hand, without it, is marked synthetic and not proven.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
from locust import FastHttpUser, events

from rolloutobs.identity import Track
from rolloutobs.variables import secrets
from synthetic.claims import parse_claim
from synthetic.load.orders import ENVIRONMENT_VARIABLE, Orders
from synthetic.marking import Marking, marked_headers, new_trace_id
from synthetic.target import Answer, Proven, Target, origin_of, prove

__all__ = ["RolloutUser"]

_orders = (
    Orders.from_json(os.environ[ENVIRONMENT_VARIABLE]) if ENVIRONMENT_VARIABLE in os.environ else Orders()
)
_marking = Marking(secrets(os.environ, "ROLLOUTOBS_SECRET"))


class _Tally:
    """Who answered, over all users of the process."""

    def __init__(self) -> None:
        self.proven: Counter[str] = Counter()
        self.versions: set[str] = set()
        self.doubt = ""

    def note(self, target: Target, answer: Answer) -> None:
        """Judge one answer."""
        proof = prove(target, [answer])
        self.proven[proof.proven.value] += 1
        if proof.version is not None:
            self.versions.add(proof.version)
        if proof.proven in (Proven.WRONG, Proven.UNKNOWN):
            self.doubt = self.doubt or proof.detail
        elif len(self.versions) > 1:
            self.doubt = self.doubt or f"more than one version answered: {', '.join(sorted(self.versions))}"


_tally = _Tally()


class RolloutUser(FastHttpUser):  # type: ignore[misc]
    """A Locust user for canary and stable: ``FastHttpUser`` with marks, proof and arrivals.

    Each request to the user's own host carries ``baggage: synthetic=test`` and a sampled ``traceparent`` with
    a trace of its own, so that it never counts as a real user's, and its answer has to say who gave it. Under
    ``rolloutobs-synthetic users`` requests carry neither. With ``--rate`` tasks arrive as a Poisson process,
    whatever ``wait_time`` says: a user that is late catches up, so that a slow server does not lower the load
    on itself for long. Certificates are verified; set ``insecure = True`` for self-signed ones.
    """

    abstract = True
    insecure = False

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._target: Target | None = None
        if _orders.track:
            self._target = Target(self.host, Track(_orders.track), _orders.version)
        self._send: Callable[..., Any] = self.client.request
        self.client.request = self._request
        if _orders.tasks_per_user_second is not None:
            self._next = monotonic() + random.expovariate(_orders.tasks_per_user_second)
            # Instance attributes win over what a subclass defines, and its own on_start still runs.
            self._first: Callable[[], None] = getattr(self, "on_start")  # noqa: B009
            self.on_start = self._arrive
            self.wait_time = self._until_next

    def _request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        """Send one request; every way of sending one with Locust's fast client ends here."""
        own = url.startswith("/") or origin_of(url) == origin_of(self.host)
        if _orders.marked and own:
            given = kwargs.get("headers") or {}
            kwargs["headers"] = marked_headers(given, new_trace_id(), _marking.baggage())
        response = self._send(method, url, *args, **kwargs)
        if self._target is not None and own and response.status_code:
            said = (response.headers or {}).get("server-timing") or ""
            _tally.note(self._target, Answer(url, response.status_code, parse_claim(said)))
        return response

    def _arrive(self) -> None:
        """Come at a random moment, not with everybody at the start."""
        gevent.sleep(max(0.0, self._next - monotonic()))
        self._first()

    def _until_next(self) -> float:
        """Return the seconds until this user's next arrival; 0 when it is late."""
        self._next += random.expovariate(_orders.tasks_per_user_second or 1.0)
        return max(0.0, self._next - monotonic())


def _report(environment: Any, **_: Any) -> None:
    """Leave for the parent what Locust's own JSON does not have."""
    if not _orders.report:
        return
    errors: Counter[str] = Counter()
    for error in environment.stats.errors.values():
        errors[f"{error.method} {error.name}: {error.error}"] += error.occurrences
    for problem in environment.runner.exceptions.values():
        errors[f"the locustfile raised {problem['msg']}"] += problem["count"]
    report = {
        "proven": _tally.proven,
        "versions": sorted(_tally.versions),
        "doubt": _tally.doubt,
        "errors": dict(errors.most_common(10)),
    }
    Path(_orders.report).write_text(json.dumps(report), encoding="utf-8")


def _end_with_the_parent(environment: Any, **_: Any) -> None:
    """Quit when the process that started Locust is gone, so that nothing is left behind even after a kill
    -9."""

    def watch() -> None:
        while os.getppid() == _orders.parent:
            gevent.sleep(1.0)
        environment.runner.quit()

    if _orders.parent:
        gevent.spawn(watch)


events.quitting.add_listener(_report)
events.init.add_listener(_end_with_the_parent)
