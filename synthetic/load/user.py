"""The Locust user that teams derive theirs from: marked, proven, on both tracks, and led by arrivals.

Belongs here: only what needs Locust's classes. Importing this module imports Locust, which patches the
process for gevent: locustfiles do, nothing else.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from http.cookiejar import Cookie
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import gevent
from gevent.event import Event
from gevent.pool import Group
from locust import FastHttpUser, events
from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING

from rolloutobs.variables import secrets
from synthetic.claims import Claim
from synthetic.load.distributed import listen
from synthetic.load.site import CONTEXT_KEY, PLAIN, Begun, site
from synthetic.load.tally import Sample
from synthetic.marking import Marking, marked_headers, new_trace_id
from synthetic.target import Answer, Target, origin_of, told_astray

__all__ = ["RolloutUser"]

_marking = Marking(secrets(os.environ, "ROLLOUTOBS_SECRET"))
_twins = Group()
"""Users of the second track, which Locust does not know of: each comes and goes with one that it does."""


class _Birth:
    """Which target the user under construction is for."""

    number = 0


@contextlib.contextmanager
def _born_as(number: int) -> Iterator[None]:
    _Birth.number = number
    try:
        yield
    finally:
        _Birth.number = 0


class RolloutUser(FastHttpUser):  # type: ignore[misc]
    """A Locust user for canary and stable: ``FastHttpUser`` with marks, proof and arrivals.

    Each user that Locust starts is two, one for each track, with cookies and state of their own. Each request
    to the user's own host carries ``baggage: synthetic=test`` and a sampled ``traceparent`` with a trace of
    its own, so that it never counts as a real user's, and its answer has to say who gave it. With ``--rate``
    one task is walked for each arrival, whatever ``wait_time`` says. ``self.track`` is ``"stable"`` or
    ``"canary"``. Certificates are verified; set ``insecure = True`` for self-signed ones.

    Under ``rolloutobs-synthetic users`` requests are not marked, and there is one target only.
    """

    abstract = True
    insecure = False

    def __init__(self, environment: Any) -> None:
        targets = site.orders.targets
        self._target: Target | None = targets[_Birth.number] if targets else None
        self.track = PLAIN if self._target is None else self._target.track.value
        if self._target is not None:
            self.host = self._target.url
        super().__init__(environment)
        self._origin = origin_of(self.host)
        self.is_first = _Birth.number == 0
        """Locust knows it, and it is the one that classes are counted by."""
        self._twin: RolloutUser | None = None
        self._late = 0.0
        self._sent: tuple[str, str, float, float] | None = None
        self.is_ready = False
        """It has started, and rests or waits for an arrival for the first time."""
        self.is_busy = True
        self._send: Callable[..., Any] = self.client.request
        self.client.request = self._request
        # Instance attributes win over what a subclass defines, and its own still run.
        self._own_start: Callable[[], None] = getattr(self, "on_start")  # noqa: B009
        self._own_wait: Callable[[], float] = getattr(self, "wait_time")  # noqa: B009
        self.on_start = self._begin
        self.wait_time = self._arrival if site.orders.phases else self._rest

    def start(self, group: Group) -> Any:
        """Start the user, and its twin on the other track."""
        site.users.append(self)
        if self.is_first and len(site.orders.targets) > 1:
            with _born_as(1):
                self._twin = type(self)(self.environment)
            self._twin.start(_twins)
        return super().start(group)

    def stop(self, force: bool = False) -> Any:
        """Stop both."""
        twin = self._twin
        if twin is not None and not twin.is_gone and (force or twin._state != LOCUST_STATE_STOPPING):
            twin.stop(force)
        return super().stop(force)

    @property
    def is_gone(self) -> bool:
        """Whether it walks no more tasks."""
        return self._greenlet is None or bool(self._greenlet.dead)

    def _begin(self) -> None:
        self._take_cookies()
        if self._target is not None:
            self._find(self._target)
        self._own_start()
        if site.orders.phases:
            self._state = LOCUST_STATE_WAITING
            self._arrival()
            self._state = LOCUST_STATE_RUNNING

    def _arrival(self) -> float:
        """Wait for the next arrival; return 0: then Locust begins its task at once."""
        self._free()
        moment = site.desks[self.track, type(self)].take()
        self._late = max(0.0, perf_counter() - moment)
        self.is_busy = True
        return 0.0

    def _rest(self) -> float:
        """Wait as the locustfile says; for ever when the load is over."""
        self._free()
        site.closing.wait(self._own_wait())
        # Asked for anew: the wait may have ended by itself before the load did, and woken up after it.
        if site.closing.is_set():
            Event().wait()
        self.is_busy = True
        return 0.0

    def _free(self) -> None:
        self.is_busy, self.is_ready = False, True

    def context(self) -> dict[str, Any]:
        """Return what Locust's events of this user carry; call ``super().context()`` in your own."""
        return {CONTEXT_KEY: Begun(self.track)}

    def _request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        """Send one request; every way of sending one with Locust's fast client ends here."""
        own = url.startswith("/") or origin_of(url) == self._origin
        kwargs["name"] = kwargs.get("name") or self.client.request_name or url
        if own:
            kwargs["headers"] = self._headers(kwargs.get("headers"))
            url = url if self._target is None else self._target.route.url(url)
        late, self._late = self._late, 0.0
        kwargs["context"] = {**(kwargs.get("context") or {}), CONTEXT_KEY: Begun(self.track, late)}
        self._sent = (method, kwargs["name"], late, perf_counter())
        response = self._send(method, url, *args, **kwargs)
        self._sent = None
        if own and self._target is not None and response.status_code and not self._target.witness.path:
            claim = self._target.witness.of_headers(_lower(response.headers))
            self._note(Answer(url, response.status_code, claim))
        return response

    def cut_off(self) -> None:
        """Count the request that is still under way at the end of the load as failed: leaving out the slowest
        would be a lie."""
        if self._sent is None:
            return
        method, name, late, sent = self._sent
        self._sent = None
        service = perf_counter() - sent
        site.tally.tracks[self.track].cut += 1
        site.record(
            self.track, Sample(method, name, service + late, service, "no answer when the load ended")
        )

    def _headers(self, given: Any) -> dict[str, str]:
        headers: dict[str, str] = dict(given or {})
        if site.orders.marked:
            headers = marked_headers(headers, new_trace_id(), _marking.baggage())
        return headers if self._target is None else headers | dict(self._target.route.headers)

    def _note(self, answer: Answer) -> None:
        if self._target is not None:
            site.tally.tracks[self.track].note(self._target, answer)

    def identify(self) -> None:
        """Ask for the witness that has to be asked."""
        if self._target is not None and self._target.witness.path:
            self._note(self._ask(self._target, self._target.witness.path))

    def _find(self, target: Target) -> None:
        """Be a new visitor until the wanted track answers, as checks do."""
        answers: list[Answer] = []
        for _ in range(target.route.attempts):
            self.client.cookiejar.clear()
            self._take_cookies()
            answers.append(self._ask(target, target.witness.path or "/"))
            if target.is_wanted(answers[-1].claim):
                break
        else:
            if answers:
                tally = site.tally.tracks[self.track]
                tally.proven["wrong"] += 1
                tally.doubt = tally.doubt or told_astray(target, answers)
                raise StopUser()
        self.identify()

    def _ask(self, target: Target, path: str) -> Answer:
        """Ask for a page beside the load: it is counted nowhere."""
        url = target.route.url(f"{self.client.base_url}{path}")
        # Balancers that choose by connection are given a new one.
        headers = self._headers({"connection": "close"})
        if self.client.auth_header:
            headers["authorization"] = self.client.auth_header
        response = self.client._send_request_safe_mode("GET", url, headers=headers)
        status = int(response.status_code or 0)
        if not status:
            return Answer(url, 503, Claim())
        said = target.witness.of_headers(_lower(response.headers))
        if target.witness.path and status < 300:
            said = target.witness.of_body(response.text or "")
        return Answer(url, status, said)

    def _take_cookies(self) -> None:
        if self._target is None:
            return
        host = urlsplit(self._target.url).hostname or ""
        # http.cookiejar files hosts without a dot under this name.
        domain = host if "." in host else f"{host}.local"
        for name, value in self._target.route.cookies:
            self.client.cookiejar.set_cookie(
                Cookie(0, name, value, None, False, domain, False, False, "/", True, False, None, True, None,
                       None, {})
            )  # fmt: skip


def _lower(headers: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in (headers or {}).items():
        found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else str(value)
    return found


def _end_with_the_parent(environment: Any, parent: int) -> None:
    """Quit when the process that started Locust is gone, so that nothing is left behind even after a kill
    -9."""
    while os.getppid() == parent:
        gevent.sleep(1.0)
    environment.runner.quit()


def _on_init(environment: Any, **_: Any) -> None:
    if site.orders.parent:
        gevent.spawn(_end_with_the_parent, environment, site.orders.parent)
    listen(environment)


def _end_twins(**_: Any) -> None:
    """Let the users that Locust does not know of end as it lets its own."""
    _twins.join(timeout=site.orders.grace_seconds)
    _twins.kill()


events.request.add_listener(site.on_request)
events.user_error.add_listener(site.on_user_error)
events.test_stop.add_listener(_end_twins)
events.init.add_listener(_on_init)
