"""Which kind of app `instrument()` was given: of which framework, and whether it speaks ASGI or WSGI.

Told by the names of classes and the shape of the call, so that no framework has to be installed.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

__all__ = ["Interface", "Kind", "Place", "kind_of"]


class Interface(Enum):
    """How a server calls an app."""

    ASGI = "asgi"
    ASGI2 = "asgi2"
    """Version 2: called with the scope, returns what is called with the rest. Served as version 3."""
    WSGI = "wsgi"
    EITHER = "either"
    """Its signature does not tell, as that of a decorator without ``functools.wraps``: each call does."""


class Place(Enum):
    """Where calls of an app are taken over."""

    CALL = "call"
    """Its ``__call__``, in place: whatever is configured later stays inside."""
    ATTRIBUTE = "attribute"
    """An attribute that the framework means to be replaced, in place."""
    OUTSIDE = "outside"
    """Around it: what `instrument` returns has to be served."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of an app."""

    interface: Interface
    place: Place
    attribute: str = ""
    """Of `Place.ATTRIBUTE`."""


_FRAMEWORKS: Final = {
    ("starlette.applications", "Starlette"): Kind(Interface.ASGI, Place.CALL),
    ("litestar.app", "Litestar"): Kind(Interface.ASGI, Place.CALL),
    ("django.core.handlers.asgi", "ASGIHandler"): Kind(Interface.ASGI, Place.CALL),
    ("django.core.handlers.wsgi", "WSGIHandler"): Kind(Interface.WSGI, Place.CALL),
    # Both say so in their documentation; middleware that is given the attribute leads through us as well.
    ("quart.app", "Quart"): Kind(Interface.ASGI, Place.ATTRIBUTE, "asgi_app"),
    ("flask.app", "Flask"): Kind(Interface.WSGI, Place.ATTRIBUTE, "wsgi_app"),
}
"""By module and name of a class that the app is an instance of."""
_ASGI_ARGUMENTS, _WSGI_ARGUMENTS = 3, 2
_ENVIRONS = frozenset({"environ", "env"})


def kind_of(app: Any) -> Kind:
    """Return the kind of `app`, which can be called."""
    for cls in type(app).__mro__:
        found = _FRAMEWORKS.get((cls.__module__, cls.__name__))
        if found is not None:
            return found
    return Kind(_interface(app), Place.OUTSIDE)


def _interface(app: Any) -> Interface:
    # Of a class, an instance is what a call returns.
    call = app if inspect.isclass(app) else getattr(app, "__call__", app)  # noqa: B004 - looked at, not called
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(call):
        return Interface.ASGI
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        # Compiled code may not tell.
        return Interface.ASGI
    names = list(signature.parameters)
    if names and names[0] in _ENVIRONS:
        return Interface.WSGI
    takes_wsgi, takes_asgi = (_takes(signature, count) for count in (_WSGI_ARGUMENTS, _ASGI_ARGUMENTS))
    if takes_wsgi and takes_asgi:
        return Interface.EITHER
    if not takes_wsgi and not takes_asgi and _takes(signature, 1):
        return Interface.ASGI2
    return Interface.WSGI if takes_wsgi else Interface.ASGI


def _takes(signature: inspect.Signature, arguments: int) -> bool:
    try:
        signature.bind(*range(arguments))
    except TypeError:
        return False
    return True
