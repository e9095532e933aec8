"""The app that tests/soak/test_servers.py serves; the environment says who it is."""

import asyncio
import os

from prometheus_client import Counter
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from rolloutobs import instrument

ORDERS = Counter("orders", "Orders.")
PID = (b"x-pid", b"%d" % os.getpid())


async def hello(request):
    ORDERS.inc()
    return PlainTextResponse("hello")


async def stream(request):
    async def parts():
        for part in ("he", "ll", "o"):
            await asyncio.sleep(0)
            yield part

    return StreamingResponse(parts(), headers={"content-length": "5"})


instrumented = instrument(Starlette(routes=[Route("/", hello), Route("/stream/{n}", stream)]))


async def app(scope, receive, send):
    """Tell who answers, for the metrics too."""

    async def telling(message):
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], PID]}
        await send(message)

    await instrumented(scope, receive, telling)
