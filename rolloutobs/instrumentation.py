"""`instrument(app)`: the one call of an app team."""

from __future__ import annotations

import logging
import os
import weakref
from contextlib import suppress
from typing import Any, TypeVar

from opentelemetry.trace import TracerProvider

from rolloutobs import asgi, wsgi
from rolloutobs.errors import ConfigurationError
from rolloutobs.http.app import HttpApp
from rolloutobs.http.application import ATTRIBUTE, rebuilt, serve_in_place
from rolloutobs.http.hooks import hook_frameworks
from rolloutobs.http.kinds import Interface, Kind, Place, kind_of
from rolloutobs.identity import Track
from rolloutobs.settings import Settings
from rolloutobs.telemetry.starting import start

__all__ = ["instrument", "is_instrumented"]

_logger = logging.getLogger("rolloutobs")
A = TypeVar("A")
_warned: set[str] = set()
_WSGI_ARGUMENTS = 2


# By identity: not every app can be hashed, nor can all be referred to weakly; those that cannot are not
# found here.
_wrapped: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def is_instrumented(app: object) -> bool:
    """Return whether `instrument` has had `app`, or has returned it."""
    return _has_wrapper(app) or _wrapped.get(id(app)) is app


def _has_wrapper(app: object) -> bool:
    # Where an app has no attributes of its own, its class is its own.
    return ATTRIBUTE in getattr(app, "__dict__", {}) or ATTRIBUTE in vars(type(app))


def instrument(
    app: A,
    *,
    version: str | None = None,
    service: str | None = None,
    track: Track | str | None = None,
    settings: Settings | None = None,
    tracer_provider: TracerProvider | None = None,
) -> A:
    """Give `app` metrics, spans and identity on every signal; return the app to serve.

    An app of FastAPI, Starlette, Litestar, Quart, Flask or Django is instrumented in place and returned. Any
    other ASGI or WSGI app is returned wrapped, and looks like itself. Works before and after start-up; a
    second call changes nothing.

    Args:
        app: an ASGI 3 or a WSGI application.
        version: what runs; else from the settings, else ``unknown``, which is warned about once.
        service: name of the app; likewise.
        track: ``stable``, ``canary`` or ``baseline``; else from the settings, else none.
        settings: everything else; ``None`` reads the environment.
        tracer_provider: where spans go. ``None``: the global provider, whenever one is set; where none is set
            and an OTLP endpoint is configured, one is set here.

    Raises:
        ConfigurationError: a setting or an environment variable cannot be used, or `app` is not callable.
    """
    if _has_wrapper(app):
        _warn_once("again", "instrument() was called again for one app; the first call holds")
        return app
    if not callable(app):
        raise ConfigurationError(f"instrument() takes an ASGI or WSGI application, got {type(app).__name__}")
    base = Settings.from_env(os.environ) if settings is None else settings
    hub = start(base.overridden(service=service, version=version, track=track), app, tracer_provider)
    kind = kind_of(app)
    part = wsgi if kind.interface is Interface.WSGI else asgi
    wrapper: HttpApp = part.Wrapper(_call_of(app, kind), app, hub)
    hook_frameworks(app)
    served: A = _served(app, wrapper, kind)
    return served


def _call_of(app: Any, kind: Kind) -> Any:
    """Return what has to be called for a request once `app` itself leads through us."""
    if kind.place is Place.CALL:
        return type(app).__call__.__get__(app)
    if kind.interface is Interface.ASGI2:
        return _as_version_3(app)
    return app if kind.place is Place.OUTSIDE else getattr(app, kind.attribute)


def _as_version_3(app: Any) -> Any:
    async def called(scope: Any, receive: Any, send: Any) -> None:
        await app(scope)(receive, send)

    return called


def _served(app: Any, wrapper: HttpApp, kind: Kind) -> Any:
    """Lead the calls of `app` through `wrapper`; return what has to be served."""
    part = wsgi if kind.interface is Interface.WSGI else asgi
    if kind.place is Place.CALL:
        serve_in_place(app, wrapper, part.serve, _revive)
        return app
    if kind.place is Place.ATTRIBUTE:
        setattr(app, kind.attribute, part.InstrumentedApp(wrapper.app, wrapper, _revive))
        app.__dict__[ATTRIBUTE] = wrapper
        return app
    with suppress(TypeError):
        _wrapped[id(app)] = app
    outside = _EitherApp if kind.interface is Interface.EITHER else part.InstrumentedApp
    return outside(app, wrapper, _revive)


class _EitherApp(asgi.InstrumentedApp):
    """An app that is called as ASGI or as WSGI has it: told by the number of arguments."""

    _as_wsgi: wsgi.InstrumentedApp | None = None

    def __call__(self, *request: Any) -> Any:
        if len(request) != _WSGI_ARGUMENTS:
            return asgi.serve(self, *request)
        if self._as_wsgi is None:
            wrapper = wsgi.Wrapper(self._app, self._app, self._rolloutobs.hub)
            self._as_wsgi = wsgi.InstrumentedApp(self._app, wrapper, self._revive)
        return self._as_wsgi(*request)


def _revive(make: Any, arguments: tuple[Any, ...], state: Any, settings: Settings) -> Any:
    """Return an app that was pickled, instrumented as it was."""
    return instrument(rebuilt(make, arguments, state), settings=settings)


def _warn_once(key: str, message: str) -> None:
    if key not in _warned:
        _warned.add(key)
        _logger.warning("%s", message)
