"""The bare apps, and FLOOR: what a careful team would write by hand.

FLOOR is `perf_counter`, the status from `send`, one bound `Counter.inc` and one bound `Histogram.observe`
with 16 buckets of prometheus_client; no route, no version, no trace. "two calls, status unseen" leaves out
the status, which a counter of errors cannot.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

from bench.overhead.subject import App, Built, Framework

__all__ = ["bare", "bare_built", "blind_floor", "fastapi_app", "floor", "labelled_floor", "no_op"]


def bare(framework: Framework = Framework.STARLETTE) -> Any:
    """Return an app with one route that answers at once."""
    if framework is Framework.FASTAPI:
        return fastapi_app()
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def item(request: Any) -> PlainTextResponse:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/items/{item_id}", item)])


def fastapi_app(**options: Any) -> Any:
    from fastapi import FastAPI

    app = FastAPI(**options)

    async def item(item_id: int) -> dict[str, int]:
        return {"item_id": item_id}

    app.get("/items/{item_id}")(item)
    return app


def bare_built(framework: Framework = Framework.STARLETTE) -> Built:
    return Built(bare(framework))


def no_op(framework: Framework = Framework.STARLETTE) -> Built:
    app: App = bare(framework)

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def forward(message: Any) -> None:
            await send(message)

        await app(scope, receive, forward)

    return Built(wrapped)


def _metrics() -> tuple[Any, Any]:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, values

    # Under PROMETHEUS_MULTIPROC_DIR the values live in files whatever the registry.
    registry = CollectorRegistry() if values.ValueClass.__name__ == "MutexValue" else REGISTRY
    counter = Counter("requests", "d", ["method", "status"], registry=registry)
    # The bare app takes some 20 us: the fifth bucket, as 30 ms would in usual bounds (observe() looks one by
    # one).
    bounds = [5e-6 * 1.6**i for i in range(16)]
    return counter, Histogram("seconds", "d", ["method"], buckets=bounds, registry=registry)


def floor(framework: Framework = Framework.STARLETTE) -> Built:
    app: App = bare(framework)
    counter, histogram = _metrics()
    requests = {status: counter.labels("GET", str(status)) for status in (200, 404, 500)}
    durations = histogram.labels("GET")

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        start = perf_counter()
        status = 500

        async def observed(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, observed)
        finally:
            requests[status].inc()
            durations.observe(perf_counter() - start)

    return Built(wrapped, recorded=lambda: float(requests[200]._value.get()))


def labelled_floor(framework: Framework = Framework.STARLETTE) -> Built:
    """FLOOR that looks its children up by `labels()` in each request, as most code does."""
    app: App = bare(framework)
    counter, histogram = _metrics()

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        start = perf_counter()
        status = 500

        async def observed(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, observed)
        finally:
            counter.labels(scope["method"], str(status)).inc()
            histogram.labels(scope["method"]).observe(perf_counter() - start)

    return Built(wrapped, recorded=lambda: float(counter.labels("GET", "200")._value.get()))


def blind_floor(framework: Framework = Framework.STARLETTE) -> Built:
    app: App = bare(framework)
    metrics = _metrics()
    counter, durations = metrics[0].labels("GET", "200"), metrics[1].labels("GET")

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        start = perf_counter()
        try:
            await app(scope, receive, send)
        finally:
            counter.inc()
            durations.observe(perf_counter() - start)

    return Built(wrapped, recorded=lambda: float(counter._value.get()))
