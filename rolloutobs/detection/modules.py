"""Which modules are the app's own: that of the app object, of its endpoints, of whoever called, or
``__main__``.

An app object rarely says where it was made: a ``FastAPI()`` belongs to FastAPI. So several places are
asked, the closest to the app first, and modules of frameworks, servers and launchers are never the app's.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any

__all__ = ["AppModule", "app_modules", "named_module"]

MAX_FRAMES = 500
MAX_ENDPOINTS = 100
MAX_LAYERS = 20

_FRAMEWORKS = """
    aiohttp asgiref blacksheep bottle channels connexion django falcon fastapi flask litestar ninja pyramid
    quart rest_framework robyn sanic starlette starlite strawberry tornado werkzeug
"""
_SERVERS_AND_WORKERS = """
    a2wsgi aiokafka arq awslambdaric billiard celery cheroot confluent_kafka daphne dramatiq eventlet faust
    gevent granian grpc gunicorn h11 huey hypercorn kafka kombu mangum meinheld mod_wsgi rq taskiq uvicorn
    uvloop uwsgi uwsgidecorators waitress
"""
_LAUNCHERS_AND_TESTS = """
    IPython _distutils_hack _pydevd_bundle _pytest anyio click cyclopts debugpy fastapi_cli hupper ipykernel
    locust mypy nose pex pluggy pydevd pytest pytest_asyncio rich_toolkit shiv trio typer watchfiles
    watchgod xdist
"""
_TELEMETRY = """
    ddtrace elasticapm logfire newrelic opentelemetry prometheus_client rolloutobs sentry_sdk wrapt
"""
_FOREIGN = frozenset((_FRAMEWORKS + _SERVERS_AND_WORKERS + _LAUNCHERS_AND_TESTS + _TELEMETRY).split())


@dataclass(frozen=True, slots=True)
class AppModule:
    """A module of the app."""

    name: str
    """Dotted name."""
    file: Path | None
    """Its source file, absolute; ``None``: not known."""

    @property
    def top(self) -> str:
        """The package it is in."""
        return self.name.partition(".")[0]

    @property
    def is_installed(self) -> bool:
        """Whether it lies among installed packages, and not in a project."""
        return self.file is not None and not {"site-packages", "dist-packages"}.isdisjoint(self.file.parts)


def app_modules(app: object, environ: Mapping[str, str]) -> tuple[AppModule, ...]:
    """Return the modules of `app`, one per package; empty where none can be told.

    They come from the first of these places that names any: the app object; its endpoints; the stack of calls
    that leads here, which `instrument(app)` is part of; ``__main__``.

    Args:
        app: an ASGI or WSGI application or anything else; ``None``: not known.
        environ: for ``DJANGO_SETTINGS_MODULE``.
    """
    places: tuple[Callable[[], Iterator[AppModule | None]], ...] = (
        lambda: _of_object(app, environ),
        lambda: _of_endpoints(app),
        lambda: _of_stack(sys._getframe()),
        lambda: iter((_main(),)),
    )
    for place in places:
        found = {module.top: module for module in place() if module is not None}
        if found:
            return tuple(found.values())
    return ()


def named_module(name: str) -> AppModule | None:
    """Return the module or package of this dotted name without importing it; ``None`` if there is none."""
    top = name.partition(".")[0]
    spec = PathFinder.find_spec(top)
    if spec is None:
        return None
    origin = spec.origin or next(iter(spec.submodule_search_locations or ()), None)
    return AppModule(name, Path(origin).absolute() if origin else None)


def _own(name: object, file: object = None) -> AppModule | None:
    """Return the module, unless it is not the app's."""
    if not isinstance(name, str) or not name:
        return None
    top = name.partition(".")[0]
    if top in _FOREIGN or (top in sys.stdlib_module_names and name != "__main__"):
        return None
    if name == "__main__":
        return _main()
    path = file if isinstance(file, str) else getattr(sys.modules.get(name), "__file__", None)
    # Absolute, and no frozen module or notebook cell.
    return AppModule(name, Path(path).absolute() if isinstance(path, str) and path[:1] != "<" else None)


def _of_object(app: object, environ: Mapping[str, str]) -> Iterator[AppModule | None]:
    for layer in _layers(app):
        if isinstance(layer, FunctionType):
            yield _own(layer.__module__)
        elif isinstance(layer, ModuleType):
            yield _own(layer.__name__)
        elif type(layer).__module__.startswith("django."):
            yield _own(environ.get("DJANGO_SETTINGS_MODULE"))
        else:
            # Flask and Quart are told the name of the module that makes them.
            yield _own(_attribute(layer, "import_name"))


def _layers(app: object) -> Iterator[object]:
    """Yield `app` and what it wraps: middleware keeps the next app as ``app``, decorators as
    ``__wrapped__``."""
    for _ in range(MAX_LAYERS):
        yield app
        if isinstance(app, functools.partial):
            app = app.func
            continue
        names = (
            ("__wrapped__",) if isinstance(app, FunctionType) else ("__func__", "app", "_app", "__wrapped__")
        )
        inner = next((value for name in names if callable(value := _attribute(app, name))), None)
        if inner is None or inner is app:
            return
        app = inner


def _of_endpoints(app: object) -> Iterator[AppModule | None]:
    for layer in _layers(app):
        routes = _attribute(layer, "routes")
        for route in routes[:MAX_ENDPOINTS] if isinstance(routes, (list, tuple)) else ():
            endpoint = _attribute(route, "endpoint")
            if isinstance(endpoint, FunctionType):
                yield _own(endpoint.__module__)


def _of_stack(frame: FrameType | None) -> Iterator[AppModule | None]:
    for _ in range(MAX_FRAMES):
        if frame is None:
            return
        names: Mapping[str, Any] = frame.f_globals
        yield _own(names.get("__name__"), names.get("__file__"))
        frame = frame.f_back


def _main() -> AppModule | None:
    """Return what was started: a module by ``-m``, the module behind a console script, or a file."""
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None and spec.name != "__main__":
        return _own(spec.name, file)
    if not isinstance(file, str):
        return None
    path = Path(file).absolute()
    if path.suffix != ".py":
        from importlib.metadata import entry_points

        for script in entry_points(group="console_scripts"):
            if script.name == path.name:
                return _own(script.module) and named_module(script.module)
    return AppModule("__main__", path)


def _attribute(target: object, name: str) -> Any:
    """Return an attribute; ``None`` where it is missing or raises: other people's properties may do
    anything."""
    try:
        return getattr(target, name, None)
    except Exception:
        return None
