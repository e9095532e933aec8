"""The app that tests/e2e/test_workers.py serves with real servers."""

import os

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from prometheus_client import Counter
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rolloutobs import instrument

ORDERS = Counter("orders", "Orders.")
# With --preload in the master, which hands it on to every worker; it must not count once for each.
ORDERS.inc(1000)


async def hello(request):
    ORDERS.inc()
    return PlainTextResponse("hello")


instrumented = instrument(
    Starlette(routes=[Route("/", hello)]),
    service="shop",
    version="1.2.0",
    track="canary",
    tracer_provider=TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False),
)


async def app(scope, receive, send):
    """Tell who answers, for the metrics too."""

    async def telling(message):
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"x-pid", b"%d" % os.getpid())]}
        await send(message)

    await instrumented(scope, receive, telling)


def wsgi(environ, start_response):
    """The same for servers that speak WSGI."""
    ORDERS.inc()
    start_response("200 OK", [("content-type", "text/plain"), ("content-length", "5")])
    return [b"hello"]
