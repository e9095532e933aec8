"""One outermost wrapper around an ASGI app: its requests counted, timed, traced and stamped.

Belongs here: what knows ASGI, HTTP and the frameworks' scopes. Does not belong here: storage and rendering of
metrics, samplers and propagation (`rolloutobs.telemetry`), or anything that changes what an app answers.
"""

from rolloutobs.asgi.instrumentation import instrument

__all__ = ["instrument"]
