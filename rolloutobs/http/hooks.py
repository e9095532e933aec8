"""What frameworks know of a request and do not tell: its route, and the exception behind a 500.

Flask, Quart and Django keep both to themselves, so one small hook per process asks them, as soon as an app is
instrumented in whose process they are loaded. It leaves its answer in the request's scope or environ, whoever
serves the request. Litestar keeps the exception to itself, and is asked per app. Starlette and FastAPI leave
the route in the scope, and raise the exception, on their own.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, MutableMapping
from functools import lru_cache, wraps
from types import ModuleType
from typing import Any, Final

from rolloutobs.http.app import ERROR_KEY
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.hub import process_failures

__all__ = ["ROUTE_KEY", "django_template", "hook_frameworks"]

ROUTE_KEY: Final = "rolloutobs.route"
"""In the scope or environ: the template of the route that the framework has matched."""
Request = MutableMapping[str, Any]
_hooked: set[str] = set()
# Source: Python's regular expressions; groups nested once are enough for all that Django's own apps use.
_NAMED_GROUP = re.compile(r"\(\?P<(\w+)>(?:[^()\\]|\\.|\((?:[^()\\]|\\.)*\))*\)")
_ANCHORS = re.compile(r"(?<!\\)[\^$]|\\[AZ]")


def hook_frameworks(app: object) -> None:
    """Hook each framework that this process has loaded, once, and `app` where its framework has no hooks but
    those of an app.
    """
    # Of Litestar; handlers have made an answer of the exception by then.
    after = getattr(app, "after_exception", None)
    if isinstance(after, list):
        after.append(_after_exception)
    for name, hook in _HOOKS.items():
        module = sys.modules.get(name)
        if module is None or name in _hooked:
            continue
        _hooked.add(name)
        try:
            hook(module)
        except Exception as error:
            # A release that has moved things: no routes, and everything else.
            process_failures().record(Where.REQUEST, error)


def _noting(note: Callable[[], None]) -> None:
    try:
        note()
    except Exception as error:
        process_failures().record(Where.REQUEST, error)


def _note_rule(request: Request, rule: Any) -> None:
    if rule is not None:
        request[ROUTE_KEY] = rule.rule


async def _after_exception(error: Exception, scope: Request) -> None:
    scope[ERROR_KEY] = error


def _hook_flask(flask: ModuleType) -> None:
    current = flask.request

    def started(sender: object, **_: object) -> None:
        _noting(lambda: _note_rule(current.environ, current.url_rule))

    def failed(sender: object, exception: BaseException, **_: object) -> None:
        _noting(lambda: current.environ.__setitem__(ERROR_KEY, exception))

    flask.request_started.connect(started, weak=False)
    flask.got_request_exception.connect(failed, weak=False)


def _hook_quart(quart: ModuleType) -> None:
    request, websocket = quart.request, quart.websocket

    # Asynchronous, because Quart calls others in a thread.
    async def started(sender: object, **_: object) -> None:
        _noting(lambda: _note_rule(request.scope, request.url_rule))

    async def opened(sender: object, **_: object) -> None:
        _noting(lambda: _note_rule(websocket.scope, websocket.url_rule))

    async def failed(sender: object, exception: BaseException, **_: object) -> None:
        _noting(lambda: request.scope.__setitem__(ERROR_KEY, exception))

    quart.request_started.connect(started, weak=False)
    quart.websocket_started.connect(opened, weak=False)
    quart.got_request_exception.connect(failed, weak=False)


def _hook_django(handlers: ModuleType) -> None:
    handler = handlers.BaseHandler
    resolve = handler.resolve_request

    @wraps(resolve)
    def resolve_request(self: Any, request: Any) -> Any:
        match = resolve(self, request)
        _noting(lambda: _carrier(request).__setitem__(ROUTE_KEY, django_template(match.route)))
        return match

    def failed(sender: object, request: Any = None, **_: object) -> None:
        error = sys.exc_info()[1]
        if request is not None and error is not None:
            _noting(lambda: _carrier(request).__setitem__(ERROR_KEY, error))

    handler.resolve_request = resolve_request
    sys.modules["django.core.signals"].got_request_exception.connect(failed, weak=False)


def _carrier(request: Any) -> Request:
    """Return what the server has given for a request of Django: the scope, or the environ."""
    carrier: Request = getattr(request, "scope", None) or request.environ
    return carrier


@lru_cache(maxsize=4096)
def django_template(route: str) -> str:
    """Return a route of Django as a path: ``items/<int:pk>/`` and ``^items/(?P<pk>\\d+)/$`` with a slash in
    front, without anchors, and named groups by name.
    """
    return "/" + _ANCHORS.sub("", _NAMED_GROUP.sub(r"<\1>", route)).lstrip("/")


_HOOKS: Final[dict[str, Callable[[Any], None]]] = {
    "flask": _hook_flask,
    "quart": _hook_quart,
    "django.core.handlers.base": _hook_django,
}
"""By the module that is asked."""
