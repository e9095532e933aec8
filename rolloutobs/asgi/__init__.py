"""One outermost wrapper around an ASGI app: its requests counted, timed, traced and stamped.

Belongs here: what knows the messages of ASGI and the frameworks' scopes. Does not belong here: what WSGI does
as well (`rolloutobs.http`), storage and rendering of metrics, samplers and propagation
(`rolloutobs.telemetry`), or anything that changes what an app answers.
"""

from rolloutobs.asgi.application import InstrumentedApp, serve
from rolloutobs.asgi.wrapper import Wrapper

__all__ = ["InstrumentedApp", "Wrapper", "serve"]
