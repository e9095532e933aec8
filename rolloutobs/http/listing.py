"""The routes that an app of Flask, Quart or Django has, for the counters that start from zero."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from rolloutobs.http.hooks import django_template

__all__ = ["listed_routes"]

_AUTOMATIC = frozenset({"HEAD", "OPTIONS"})
"""Methods that frameworks add to every route."""
_VIEW_METHODS = ("get", "post", "put", "patch", "delete")


def listed_routes(app: object) -> Iterator[tuple[str, str]]:
    """Yield (method, template) of the routes of `app`; an app of another kind has none.

    Of a function that Django routes to it is not known which methods it takes: GET is assumed.
    """
    url_map: Any = getattr(app, "url_map", None)
    if url_map is not None and hasattr(url_map, "iter_rules"):
        for rule in url_map.iter_rules():
            for method in sorted((rule.methods or set()) - _AUTOMATIC):
                yield method, rule.rule
    if any(cls.__module__ == "django.core.handlers.base" for cls in type(app).__mro__):
        yield from _of_django(sys.modules["django.urls"].get_resolver().url_patterns, "")


def _of_django(patterns: Iterable[Any], prefix: str) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            yield from _of_django(pattern.url_patterns, route)
        else:
            for method in _methods(pattern.callback):
                yield method, django_template(route)


def _methods(view: Any) -> list[str]:
    # Of Django's class-based views, and of Django REST framework's views and view sets.
    actions = getattr(view, "actions", None)
    if isinstance(actions, dict):
        return sorted(method.upper() for method in actions if method in _VIEW_METHODS)
    cls = getattr(view, "view_class", None) or getattr(view, "cls", None)
    found = [method.upper() for method in _VIEW_METHODS if hasattr(cls, method)]
    return found or ["GET"]
