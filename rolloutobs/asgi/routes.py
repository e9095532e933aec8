"""Which route answered, as a template: `/items/{item_id}`, never `/items/7`.

Read from the scope after routing: what the framework leaves there (Litestar), what `rolloutobs.http.hooks`
has put there (Django, Quart), else the route itself (Starlette, FastAPI).

What Starlette and FastAPI leave there does not suffice in three cases,
which the tree of routes decides then: mounts (only the concrete prefix is in the scope, with the values of
its parameters), Starlette routes inside of FastAPI (no route in the scope at all), and what `include_router`
has prefixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rolloutobs.asgi.types import Scope
from rolloutobs.http.hooks import ROUTE_KEY

__all__ = ["RouteReader", "known_routes", "known_websockets"]

UNMATCHED = ""
_UNKNOWN_MOUNT = "/{mount}"
"""Stands for a mount whose template cannot be found; its concrete path may carry ids."""
_MOUNT_TAIL = "/{path}"


class RouteReader:
    """Reads the route template of requests; remembers mounts without parameters."""

    def __init__(self) -> None:
        self._static_prefixes: dict[str, str] = {"": ""}

    def read(self, scope: Scope) -> str:
        """Return the template of the route that `scope` has matched; the empty string if none has."""
        template: str | None = scope.get(ROUTE_KEY) or scope.get("path_template")
        if template is not None:
            return template
        route = scope.get("route")
        if "fastapi" in scope:
            route = _included_route(scope["fastapi"], route)
        if "app_root_path" in scope:
            return self._below_mounts(scope, getattr(route, "path_format", None))
        try:
            found: str = route.path_format  # type: ignore[union-attr]
        except AttributeError:
            return _find(scope, _path_of(scope)) if "endpoint" in scope else UNMATCHED
        return found

    def read_redirect(self, scope: Scope) -> str:
        """Return the template of the route that a router has redirected to, by adding a slash or taking it
        away; the empty string if it was not that.
        """
        path = _path_of(scope)
        target = path.rstrip("/") if path.endswith("/") else path + "/"
        return _find(scope, target or "/") if "endpoint" not in scope else UNMATCHED

    def _below_mounts(self, scope: Scope, template: str | None) -> str:
        outer: str = scope["app_root_path"]
        root_path: str = scope.get("root_path", "")
        mounted = root_path[len(outer) :] if root_path.startswith(outer) else ""
        prefix = self._static_prefixes.get(mounted)
        if prefix is None:
            prefix = _find(scope, mounted + "/").removesuffix(_MOUNT_TAIL) or _UNKNOWN_MOUNT
            if prefix == mounted:
                self._static_prefixes[mounted] = prefix
        if template is None or _is_mount(scope.get("route")):
            return prefix + _MOUNT_TAIL
        return prefix + template


def _included_route(fastapi_scope: Any, route: Any) -> Any:
    """Return what FastAPI's `include_router` made of `route`: the context that knows the prefix, else
    `route`.
    """
    context = fastapi_scope.get("effective_route_context") if isinstance(fastapi_scope, dict) else None
    if context is None:
        return route
    # A context of a mount stays in the scope while the mounted app routes on.
    if route is None or getattr(context, "original_route", None) is route:
        return getattr(context, "starlette_route", None) or context
    return route


def _is_mount(route: Any) -> bool:
    return route is not None and hasattr(route, "routes") and hasattr(route, "path_format")


def _path_of(scope: Scope) -> str:
    path: str = scope.get("path", "")
    outer: str = scope.get("app_root_path", scope.get("root_path", ""))
    return path.removeprefix(outer) if outer else path


def _find(scope: Scope, path: str) -> str:
    """Return the template of the first route that matches `path` in the tree of the outermost router."""
    return _match(getattr(scope.get("router"), "routes", None) or (), path) or UNMATCHED


def _match(routes: Iterable[Any], path: str) -> str | None:
    for route in _flat(routes):
        pattern, template = getattr(route, "path_regex", None), getattr(route, "path_format", None)
        if pattern is None or template is None:
            # A host route: no path of its own.
            inner = _match(getattr(route, "routes", None) or (), path)
            if inner is not None:
                return inner
            continue
        found = pattern.match(path)
        if found is None:
            continue
        if not hasattr(route, "routes"):
            return str(template)
        rest = "/" + str(found.groupdict().get("path", ""))
        prefix = str(template).removesuffix(_MOUNT_TAIL)
        inner = _match(route.routes or (), rest) if rest != "/" else None
        return prefix + (inner if inner is not None else _MOUNT_TAIL)
    return None


def _flat(routes: Iterable[Any]) -> Iterator[Any]:
    """Yield routes with FastAPI's included routers replaced by what they include, prefixes applied."""
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is None:
            yield route
            continue
        for context in contexts():
            starlette_route = getattr(context, "starlette_route", None)
            yield context if starlette_route is None else starlette_route


def known_routes(app: object) -> Iterator[tuple[str, str]]:
    """Yield (method, template) of the routes of an app, mounted ones included.

    HEAD is left out where GET is there, and OPTIONS where any other method is: frameworks add them to every
    route. An app that cannot be listed has none.
    """
    for methods, template in _listed(_routes_of(app), ""):
        for method in methods:
            added = (method == "HEAD" and "GET" in methods) or (method == "OPTIONS" and len(methods) > 1)
            if not added:
                yield method, template


def known_websockets(app: object) -> Iterator[str]:
    """Yield the templates of the websocket routes of an app, mounted ones included."""
    return (template for methods, template in _listed(_routes_of(app), "") if not methods)


def _routes_of(app: object) -> Iterable[Any]:
    return getattr(app, "routes", None) or ()


def _listed(routes: Iterable[Any], prefix: str) -> Iterator[tuple[list[str], str]]:
    """Yield methods, none for a websocket, and template of each route."""
    for route in _flat(routes):
        template = getattr(route, "path_format", None)
        if getattr(route, "routes", None):
            inner = "" if template is None else str(template).removesuffix(_MOUNT_TAIL)
            yield from _listed(route.routes, prefix + inner)
            continue
        # Litestar's are enums.
        methods = sorted(str(getattr(m, "value", m)) for m in getattr(route, "methods", None) or ())
        if template is not None and (methods or _is_websocket(route)):
            yield methods, prefix + str(template)


def _is_websocket(route: Any) -> bool:
    # Of Starlette, FastAPI and Litestar.
    return type(getattr(route, "original_route", route)).__name__.endswith("WebSocketRoute")
