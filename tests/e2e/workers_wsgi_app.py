"""The same as `workers_app` for servers that speak WSGI, with threads."""

import os

from flask import Flask
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from prometheus_client import Counter

from rolloutobs import instrument

ORDERS = Counter("orders", "Orders.")
ORDERS.inc(1000)
flask = Flask(__name__)


@flask.get("/")
def hello():
    ORDERS.inc()
    return "hello"


instrument(
    flask,
    service="shop",
    version="1.2.0",
    track="canary",
    tracer_provider=TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False),
)


def app(environ, start_response):
    """Tell who answers, for the metrics too."""

    def telling(status, headers, exc_info=None):
        return start_response(status, [*headers, ("x-pid", str(os.getpid()))], exc_info)

    return flask(environ, telling)
