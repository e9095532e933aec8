"""The only door to httpx2: a client that marks, routes and proves as a browser's visitor does.

Belongs here: opening it, and telling its errors apart.
"""

from __future__ import annotations

import importlib.util
import socket
import ssl
import time
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from rolloutobs.errors import MissingExtraError
from synthetic.har import Call
from synthetic.marking import marked_headers
from synthetic.result import Fault
from synthetic.target import Answer, origin_of
from synthetic.visit import Trip

if TYPE_CHECKING:
    import httpx2

__all__ = ["Caller", "fault_of", "open_client", "require_httpx2"]


_CALL = "rolloutobs.call"


def require_httpx2() -> None:
    """Raise where httpx2 is not installed.

    Raises:
        MissingExtraError: with the line that installs it.
    """
    if importlib.util.find_spec("httpx2") is None:
        raise MissingExtraError("synthetic", "journeys without a browser", "httpx2")


@cache
def _trust() -> ssl.SSLContext:
    # Reading the system's certificates takes longer than many a check.
    return ssl.create_default_context()


class Caller(Protocol):
    """Whose client it is."""

    calls: list[Call]
    """Where each call is added, if the trip is recorded."""

    def authorization(self) -> str:
        """Return the value of the header; empty: none."""

    def note(self, answer: Answer) -> None:
        """Take in an answer of the target's own origin."""


def open_client(trip: Trip, trace_id: str, seconds: float, caller: Caller) -> httpx2.AsyncClient:
    """Return a client whose requests to the target's own origin are marked and routed.

    Args:
        trip: where it goes.
        trace_id: of the marks; empty without marks.
        seconds: limit of one request.
        caller: says what has changed, and is told what happens.
    """
    import httpx2

    origin, route, marking = origin_of(trip.url), trip.route, trip.marking

    async def send(request: httpx2.Request) -> None:
        if origin_of(str(request.url)) != origin:
            return
        if marking is not None:
            marked = marked_headers(dict(request.headers), trace_id, marking.baggage())
            request.headers.update({name: marked[name] for name in ("baggage", "traceparent")})
        if authorization := caller.authorization():
            request.headers["authorization"] = authorization
        request.headers.update(dict(route.headers))
        if route.cookies:
            ours = [f"{name}={value}" for name, value in route.cookies]
            has = request.headers.get("cookie")
            request.headers["cookie"] = "; ".join([*([has] if has else []), *ours])
        request.url = httpx2.URL(route.url(str(request.url)))

    async def receive(response: httpx2.Response) -> None:
        url = str(response.request.url)
        if origin_of(url) == origin:
            caller.note(Answer(url, response.status_code, trip.witness.of_headers(response.headers)))

    sent, answered = _recorders(caller.calls) if trip.record else ([], [])
    return httpx2.AsyncClient(
        base_url=trip.url,
        timeout=seconds,
        verify=_trust(),
        event_hooks={"request": [send, *sent], "response": [receive, *answered]},
    )


def _recorders(calls: list[Call]) -> tuple[list[Any], list[Any]]:
    """Return hooks that note each call in `calls`: as it is sent, and once it is answered."""

    async def sent(request: httpx2.Request) -> None:
        headers = tuple(request.headers.multi_items())
        call = Call(request.method, str(request.url), headers, time.time())
        request.extensions = {**request.extensions, _CALL: (call, time.perf_counter())}
        calls.append(call)

    async def answered(response: httpx2.Response) -> None:
        call, began = response.request.extensions[_CALL]
        call.seconds = time.perf_counter() - began
        call.status = response.status_code
        call.version = response.http_version
        call.answer_headers = tuple(response.headers.multi_items())

    return [sent], [answered]


def fault_of(problem: BaseException | None) -> Fault | None:
    """Return whose fault an error of the network is; ``None``: it is no such error."""
    import httpx2

    if not isinstance(problem, httpx2.TransportError):
        return None
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return Fault.HARNESS
        cause = cause.__cause__ or cause.__context__
    return Fault.UNREACHABLE
