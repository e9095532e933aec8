"""One outermost wrapper around a WSGI app: its requests counted, timed, traced and stamped.

Belongs here: what knows ``environ``, ``start_response`` and the iterable of an answer. Does not belong here:
what ASGI does as well (`rolloutobs.http`), or anything that changes what an app answers.
"""

from rolloutobs.wsgi.application import InstrumentedApp, serve
from rolloutobs.wsgi.wrapper import Wrapper

__all__ = ["InstrumentedApp", "Wrapper", "serve"]
