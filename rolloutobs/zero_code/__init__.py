"""Instrumentation without a line of code: apps are instrumented when they serve their first request.

`activate` is what ``opentelemetry-instrument`` and the OpenTelemetry operator call (the entry point
``opentelemetry_post_instrument``), and what ``rolloutobs run`` calls in every process it leads to. An app
that calls `instrument` itself keeps what it asked for. Nothing is imported here that the program does not
import.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Mapping
from typing import Any, Final, cast

from wrapt import register_post_import_hook

from rolloutobs.errors import RolloutobsError
from rolloutobs.settings import Settings

__all__ = ["VARIABLE", "activate"]

_logger = logging.getLogger("rolloutobs")
VARIABLE: Final = "ROLLOUTOBS_AUTO"
"""``false`` keeps ``opentelemetry-instrument`` from activating us."""
_OFF = frozenset({"false", "0", "off", "no"})
_APPS: Final = {
    "starlette.applications": "Starlette",
    "fastapi.applications": "FastAPI",
    "litestar.app": "Litestar",
    "quart.app": "Quart",
    "flask.app": "Flask",
    "django.core.handlers.asgi": "ASGIHandler",
    "django.core.handlers.wsgi": "WSGIHandler",
}
"""Module and class of the frameworks' apps, whose calls are requests."""

_state: dict[str, bool] = {}
_serving: dict[int, tuple[Any, Any]] = {}
"""By the id of an app: the app, and what is called in its place; ``None``: nothing else."""
_inside: set[int] = set()
"""Apps in their lifespan, which says nothing of who has seen it already."""


def activate() -> None:
    """Instrument every app of this process with its first call, now and later; does so once.

    A variable that cannot be used is logged, and nothing is instrumented: the app runs on as it would
    without us.
    """
    if os.environ.get(VARIABLE, "").strip().lower() in _OFF or _state.get("active"):
        return
    try:
        Settings.from_env(os.environ)
    except RolloutobsError as error:
        _logger.error("nothing is instrumented: %s", error)
        return
    _state["active"] = True
    for module, name in _APPS.items():
        register_post_import_hook(functools.partial(_patch_class, name=name), module)
    register_post_import_hook(_patch_uvicorn, "uvicorn.config")


def _patch_class(module: Any, name: str) -> None:
    cls = getattr(module, name, None)
    original: Any = None if cls is None else vars(cls).get("__call__")
    if original is None:
        _logger.warning("%s.%s is not what it was: its apps are not instrumented", module.__name__, name)
        return
    wrap = _asgi_call if inspect.iscoroutinefunction(original) else _wsgi_call
    cast(Any, cls).__call__ = wrap(original)


def _asgi_call(original: Any) -> Any:
    # Servers tell an ASGI 3 app by its being a coroutine function, and a factory by its taking no arguments.
    @functools.wraps(original)
    async def called(self: Any, scope: Any, receive: Any, send: Any) -> None:
        serving = _served_by(self, scope)
        if serving is None:
            await original(self, scope, receive, send)
        elif serving is not self and scope["type"] == "lifespan":
            await _through_lifespan(self, serving, (scope, receive, send))
        else:
            await serving(scope, receive, send)

    return called


def _wsgi_call(original: Any) -> Any:
    @functools.wraps(original)
    def called(self: Any, environ: Any, start_response: Any) -> Any:
        serving = _served_by(self, environ)
        return (
            original(self, environ, start_response) if serving is None else serving(environ, start_response)
        )

    return called


def _served_by(app: Any, request: Any) -> Any:
    """Return what has to be called in place of `app`; ``None``: its own code.

    Args:
        app: that was called.
        request: ASGI scope or WSGI environ.
    """
    from rolloutobs.asgi.wrapper import SCOPE_KEY
    from rolloutobs.instrumentation import is_instrumented

    if not isinstance(request, Mapping) or SCOPE_KEY in request or id(app) in _inside:
        # It came through us already: a mounted app, or the inside of this one.
        return None
    first = id(app) not in _serving
    if first and is_instrumented(app):
        return None
    served = _serving_of(app)
    # In place: this call has entered the app's own code already, all others come through us.
    return app if first and served is None and is_instrumented(app) else served


async def _through_lifespan(app: Any, serving: Any, arguments: tuple[Any, ...]) -> None:
    _inside.add(id(app))
    try:
        await serving(*arguments)
    finally:
        _inside.discard(id(app))


def _patch_uvicorn(module: Any) -> None:
    """Instrument the apps of no known framework as uvicorn loads them."""
    original = module.Config.load_app

    @functools.wraps(original)
    def load_app(self: Any) -> Any:
        app = original(self)
        return app if self.factory or isinstance(app, type) or _is_known(app) else _instrumented(app)

    module.Config.load_app = load_app


def _is_known(app: object) -> bool:
    """Return whether an app of a framework is in there, which is then instrumented as such."""
    from rolloutobs.telemetry.others import layers

    return any(
        (cls.__module__, cls.__name__) in _APPS.items()
        for layer in layers(app)
        for cls in type(layer).__mro__
    )


def _instrumented(app: Any) -> Any:
    """Return what serves `app`; the same when it is loaded again, as uvicorn does."""
    from rolloutobs.instrumentation import is_instrumented

    if id(app) not in _serving and is_instrumented(app):
        return app
    return _serving_of(app) or app


def _serving_of(app: Any) -> Any:
    """Return what is called in place of `app`, made with the first call; ``None``: its own code."""
    from rolloutobs.instrumentation import instrument

    if id(app) in _serving:
        return _serving[id(app)][1]
    try:
        served = instrument(app)
    except Exception:
        _logger.exception("%r is not instrumented", app)
        served = None
    _serving[id(app)] = (app, None if served is app else served)
    return served
