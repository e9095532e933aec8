"""A WSGI app as it is served: its calls go through a `Wrapper`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rolloutobs.http.app import SCOPE_KEY
from rolloutobs.http.application import Serving
from rolloutobs.telemetry.failures import Where
from rolloutobs.wsgi.answer import answered
from rolloutobs.wsgi.exchange import Exchange
from rolloutobs.wsgi.types import Environ, StartResponse
from rolloutobs.wsgi.wrapper import Wrapper

__all__ = ["InstrumentedApp", "serve"]


def serve(self: Any, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Serve one request; `self` has its `Wrapper` as ``_rolloutobs``."""
    wrapper: Wrapper = self._rolloutobs
    exchange = None
    if SCOPE_KEY not in environ:
        try:
            if not wrapper.excludes(environ):
                exchange = Exchange(wrapper, environ, start_response)
        except Exception as error:
            wrapper.failures.record(Where.REQUEST, error)
    if exchange is None:
        return wrapper.unrecorded(environ, start_response)
    try:
        result = wrapper.app(environ, exchange.start_response)
    except BaseException as error:
        exchange.failed(error)
        raise
    finally:
        exchange.leave()
    return answered(exchange, environ, result)


class InstrumentedApp(Serving):
    """A WSGI app with its wrapper; attributes are those of the app."""

    __call__ = serve
