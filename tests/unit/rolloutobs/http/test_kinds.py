"""Which kind of app it is, told without importing a framework."""

import functools
import sys

import pytest
from fastapi import FastAPI
from flask import Flask
from litestar import Litestar
from quart import Quart
from starlette.applications import Starlette

from rolloutobs.http.kinds import Interface, Kind, Place, kind_of


async def asgi(scope, receive, send):
    pass


def wsgi(environ, start_response):
    return []


class AsgiObject:
    async def __call__(self, scope, receive, send):
        pass


class Asgi2:
    def __init__(self, scope):
        self.scope = scope

    async def __call__(self, receive, send):
        pass


class WsgiClass:
    def __init__(self, environ, start_response):
        self.environ = environ


class WsgiObject:
    def __call__(self, env, start):
        return []


class Own(FastAPI):
    pass


def returns_a_coroutine(scope, receive, send):
    return asgi(scope, receive, send)


def anything(*args, **kwargs):
    return wsgi(*args, **kwargs)


@pytest.mark.parametrize(
    ("app", "kind"),
    [
        (Starlette(), Kind(Interface.ASGI, Place.CALL)),
        (FastAPI(), Kind(Interface.ASGI, Place.CALL)),
        (Own(), Kind(Interface.ASGI, Place.CALL)),
        (Litestar(), Kind(Interface.ASGI, Place.CALL)),
        (Quart("q"), Kind(Interface.ASGI, Place.ATTRIBUTE, "asgi_app")),
        (Flask("f"), Kind(Interface.WSGI, Place.ATTRIBUTE, "wsgi_app")),
    ],
)
def test_frameworks(app, kind):
    assert kind_of(app) == kind


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        (asgi, Interface.ASGI),
        (AsgiObject(), Interface.ASGI),
        (AsgiObject().__call__, Interface.ASGI),
        (returns_a_coroutine, Interface.ASGI),
        (functools.partial(asgi), Interface.ASGI),
        (functools.wraps(asgi)(anything), Interface.ASGI),
        (lambda scope: asgi, Interface.ASGI2),
        (Asgi2, Interface.ASGI2),
        (WsgiClass, Interface.WSGI),
        (wsgi, Interface.WSGI),
        (WsgiObject(), Interface.WSGI),
        (WsgiObject().__call__, Interface.WSGI),
        (functools.partial(wsgi), Interface.WSGI),
        (functools.partial(lambda extra, environ, start: [], "extra"), Interface.WSGI),
        (lambda environ, start_response, extra=None: [], Interface.WSGI),
        (lambda *request: [], Interface.EITHER),
        (lambda a, b, c=None: [], Interface.EITHER),
        # Compiled code whose signature is not known.
        (print.__self__.__dict__["type"], Interface.ASGI),
    ],
)
def test_other_apps(app, interface):
    found = kind_of(app)
    assert found == Kind(interface, Place.OUTSIDE)


def test_no_framework_is_imported():
    import subprocess

    code = (
        "import sys, rolloutobs; rolloutobs.instrument;"
        "names = ('flask', 'django', 'quart', 'litestar', 'starlette', 'trio');"
        "print([name for name in names if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"
