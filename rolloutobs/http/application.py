"""How an app comes to be served through its `HttpApp`: in place where the framework allows it, else wrapped.

In place means that the object stays the one that the team has made, holds on to, and configures further: its
class becomes a subclass of its class. Copies of it are instrumented too, and count into the same metrics; one
that was pickled is instrumented anew where it is unpickled, which is another process as a rule.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from rolloutobs.http.app import HttpApp
from rolloutobs.settings import Settings

__all__ = ["ATTRIBUTE", "Revive", "Serving", "rebuilt", "serve_in_place"]

ATTRIBUTE = "_rolloutobs"
"""Where an app, or its class, has its `HttpApp`."""
Revive = Callable[[Any, tuple[Any, ...], Any, Settings], Any]
"""Makes an app from what pickle knows of it, and instruments it: a function that pickle can import."""
_classes: dict[tuple[type, Any], type] = {}


class Serving:
    """An app with its `HttpApp`, for apps that are not instrumented in place; attributes are those of the
    app. Subclasses are called as the app is.
    """

    def __init__(self, app: Any, wrapper: HttpApp, revive: Revive) -> None:
        self._app = app
        self._rolloutobs = wrapper
        self._revive = revive

    def __getattr__(self, name: str) -> Any:
        if name in ("_app", ATTRIBUTE):
            # Not set yet: copy and pickle ask before __init__.
            raise AttributeError(name)
        return getattr(self._app, name)

    def __copy__(self) -> Any:
        return type(self)(self._app, self._rolloutobs, self._revive)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        app = copy.deepcopy(self._app, memo)
        return type(self)(app, self._rolloutobs.again(app, app), self._revive)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._revive, (_itself, (self._app,), None, self._rolloutobs.settings)


def _itself(app: Any) -> Any:
    return app


def serve_in_place(app: Any, wrapper: HttpApp, serve: Any, revive: Revive) -> None:
    """Let calls of `app` go to `serve`.

    Args:
        app: stays the same object; its class becomes a subclass of the same name.
        wrapper: what `serve` finds as the attribute ``_rolloutobs`` of the app.
        serve: a function with the app as its first argument; stands in for ``__call__``.
        revive: for a copy in another process.

    Raises:
        TypeError: the class of `app` cannot be changed.
    """
    cls = type(app)
    has_dict = hasattr(app, "__dict__")
    key = (cls, serve)
    subclass = _classes.get(key) if has_dict else None
    if subclass is None:
        subclass = _subclass(cls, serve, revive)
        if has_dict:
            _classes[key] = subclass
        else:
            # Slots only (Litestar): a class for each app.
            setattr(subclass, ATTRIBUTE, wrapper)
    app.__class__ = subclass
    if has_dict:
        app.__dict__[ATTRIBUTE] = wrapper


def _subclass(cls: type, serve: Any, revive: Revive) -> type:
    def bare(app: Any) -> tuple[Any, tuple[Any, ...], Any]:
        return _bare(cls, app)

    def copied(app: Any) -> Any:
        return _again(app, rebuilt(*bare(app)), cls, serve, revive)

    def deeply_copied(app: Any, memo: dict[int, Any]) -> Any:
        make, arguments, state = bare(app)
        return _again(app, rebuilt(make, arguments, copy.deepcopy(state, memo)), cls, serve, revive)

    def reduced(app: Any, protocol: Any) -> Any:
        return revive, (*bare(app), getattr(app, ATTRIBUTE).settings)

    def new(made: type, *arguments: Any, **named: Any) -> Any:
        if made is subclass:
            # Of ``type(app)()``: a new app, which is as its class makes it.
            return cls(*arguments, **named)
        # Of a class that the team derives from it.
        inherited: Any = cls.__new__
        return inherited(made) if inherited is object.__new__ else inherited(made, *arguments, **named)

    namespace: dict[str, Any] = {
        "__new__": new,
        "__call__": serve,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__copy__": copied,
        "__deepcopy__": deeply_copied,
        "__reduce_ex__": reduced,
    }
    if not hasattr(cls, "__dictoffset__") or cls.__dictoffset__ == 0:
        namespace["__slots__"] = ()
    subclass: type = type(cls)(cls.__name__, (cls,), namespace)
    return subclass


def _bare(cls: type, app: Any) -> tuple[Any, tuple[Any, ...], Any]:
    """Return function, arguments and state from which `app` is made as it was before it was instrumented."""
    protocol = 4
    reduced: tuple[Any, ...] = cls.__reduce_ex__(app, protocol)  # type: ignore[call-arg,assignment]
    make, arguments, state = (*reduced, None)[:3]
    arguments = tuple(cls if argument is type(app) else argument for argument in arguments)
    if isinstance(state, dict):
        state = {name: value for name, value in state.items() if name != ATTRIBUTE}
    return make, arguments, state


def rebuilt(make: Any, arguments: tuple[Any, ...], state: Any) -> Any:
    """Return what pickle makes of this; a `state` of ``None`` is none."""
    made = make(*arguments)
    if state is None:
        return made
    if hasattr(made, "__setstate__"):
        made.__setstate__(state)
        return made
    # Source: the documentation of copyreg and pickle; a pair is the state of a class with slots.
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    for name, value in {**(attributes or {}), **(slots or {})}.items():
        setattr(made, name, value)
    return made


def _again(app: Any, made: Any, cls: type, serve: Any, revive: Revive) -> Any:
    wrapper = getattr(app, ATTRIBUTE).again(cls.__call__.__get__(made), made)
    serve_in_place(made, wrapper, serve, revive)
    return made
