"""`instrument(app)`: the one call of an app team."""

from __future__ import annotations

import logging
import os
import weakref
from contextlib import suppress
from typing import Any, TypeVar

from opentelemetry.trace import TracerProvider

from rolloutobs.asgi.application import ATTRIBUTE, InstrumentedApp, instrumented_class
from rolloutobs.asgi.types import ASGIApp
from rolloutobs.asgi.wrapper import Wrapper
from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Track
from rolloutobs.settings import Settings
from rolloutobs.telemetry.starting import start

__all__ = ["instrument", "is_instrumented"]

_logger = logging.getLogger("rolloutobs")
A = TypeVar("A")
_warned: set[str] = set()


# By identity: not every app can be hashed, nor can all be referred to weakly; those that cannot are not
# found here.
_wrapped: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def is_instrumented(app: object) -> bool:
    """Return whether `instrument` has had `app`, or has returned it."""
    return (
        isinstance(app, InstrumentedApp)
        or ATTRIBUTE in getattr(app, "__dict__", {})
        or _wrapped.get(id(app)) is app
    )


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

    A Starlette or FastAPI object is instrumented in place and returned. Any other ASGI app is returned
    wrapped, and looks like itself. Works before and after start-up; a second call changes nothing.

    Args:
        app: an ASGI 3 application.
        version: what runs; else from the settings, else ``unknown``, which is warned about once.
        service: name of the app; likewise.
        track: ``stable``, ``canary`` or ``baseline``; else from the settings, else none.
        settings: everything else; ``None`` reads the environment.
        tracer_provider: where spans go. ``None``: the global provider, whenever one is set; where none is set
        and an
            OTLP endpoint is configured, one is set here.

    Raises:
        ConfigurationError: a setting or an environment variable cannot be used, or `app` is not callable.
    """
    if isinstance(app, InstrumentedApp) or ATTRIBUTE in getattr(app, "__dict__", {}):
        _warn_once("again", "instrument() was called again for one app; the first call holds")
        return app
    if not callable(app):
        raise ConfigurationError(f"instrument() takes an ASGI application, got {type(app).__name__}")
    base = Settings.from_env(os.environ) if settings is None else settings
    hub = start(base.overridden(service=service, version=version, track=track), app, tracer_provider)
    in_place = _is_starlette(type(app))
    call: ASGIApp = type(app).__call__.__get__(app) if in_place else app
    wrapper = Wrapper(call, app, hub)
    if not in_place:
        with suppress(TypeError):
            _wrapped[id(app)] = app
        wrapped: Any = InstrumentedApp(app, wrapper)
        return wrapped  # type: ignore[no-any-return]
    app.__dict__[ATTRIBUTE] = wrapper
    app.__class__ = instrumented_class(type(app))
    return app


def _is_starlette(cls: type) -> bool:
    # By name, so that neither framework has to be installed.
    return any((c.__module__, c.__name__) == ("starlette.applications", "Starlette") for c in cls.__mro__)


def _warn_once(key: str, message: str) -> None:
    if key not in _warned:
        _warned.add(key)
        _logger.warning("%s", message)
