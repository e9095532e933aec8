"""An ASGI app as it is served: its calls go through a `Wrapper`."""

from __future__ import annotations

from typing import Any

from rolloutobs.asgi.exchange import Exchange
from rolloutobs.asgi.types import Receive, Scope, Send
from rolloutobs.asgi.websockets import Connection
from rolloutobs.asgi.wrapper import Wrapper
from rolloutobs.http.app import SCOPE_KEY
from rolloutobs.http.application import Serving
from rolloutobs.telemetry.failures import Where

__all__ = ["InstrumentedApp", "serve"]


async def serve(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request, websocket or lifespan; `self` has its `Wrapper` as ``_rolloutobs``."""
    wrapper: Wrapper = self._rolloutobs
    exchange: Exchange | Connection | None = None
    kind = scope.get("type")
    if kind == "http" and SCOPE_KEY not in scope:
        try:
            excluded = scope["path"] in wrapper.special or (
                (scope.get("root_path") or wrapper.excluded_urls) and wrapper.excludes(scope)
            )
            if not excluded:
                exchange = Exchange(wrapper, scope, receive, send)
        except Exception as error:
            wrapper.failures.record(Where.REQUEST, error)
    elif kind == "websocket" and SCOPE_KEY not in scope:
        exchange = _connection(wrapper, scope, receive, send)
    if exchange is None:
        await wrapper.unrecorded(scope, receive, send)
        return
    raised = None
    try:
        await wrapper.app(scope, exchange.receive, exchange.send)
    except BaseException as error:
        raised = error
        raise
    finally:
        exchange.close(raised)
        # Else the exception, its traceback and this frame would keep each other alive.
        raised = None


def _connection(wrapper: Wrapper, scope: Scope, receive: Receive, send: Send) -> Connection | None:
    try:
        return None if wrapper.excludes(scope) else Connection(wrapper, scope, receive, send)
    except Exception as error:
        wrapper.failures.record(Where.REQUEST, error)
        return None


class InstrumentedApp(Serving):
    """An ASGI app with its wrapper; attributes are those of the app."""

    __call__ = serve
