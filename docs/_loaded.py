"""One app with everything on, driven once: the tables of sdk.md show what it exposes and puts on its spans.

Belongs here: driving every part of the SDK. Does not belong here: how a table looks (`docs._tables`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any

import grpc
from celery import Celery
from fastapi import FastAPI, WebSocket
from fastapi.responses import HTMLResponse
from prometheus_client import REGISTRY, Counter

from rolloutobs import Settings, instrument, operation, semconv
from rolloutobs.http.application import ATTRIBUTE
from rolloutobs.operations.celery import instrument_celery, uninstrument_celery
from rolloutobs.operations.grpc import ServerInterceptor
from rolloutobs.operations.kafka import consume
from rolloutobs.telemetry.cells import Definition
from rolloutobs.telemetry.hub import Hub
from rolloutobs.telemetry.signing import Claim, sign
from rolloutobs.telemetry.store import PROCESS
from rolloutobs.testing import Answer, FakeClock, SpanRecorder, call, http_scope, isolated_telemetry

__all__ = ["Seen", "everything"]

WAIT_SECONDS = 30.0
SECRET = "not a secret at all, but long enough"  # noqa: S105 - as it says
CALLER = (b"baggage", b"rolloutobs.service=cart,rolloutobs.version=2.4.1,rolloutobs.track=stable")
SYNTHETIC = (b"baggage", b"synthetic=test")
HTTP, WEBSOCKET = "HTTP request", "websocket"


@dataclass(slots=True)
class Seen:
    """What came out."""

    metrics: dict[str, dict[str, Definition]] = field(default_factory=dict)
    """Ours, by naming, by name."""
    attributes: Mapping[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Of the spans, by what they stand for."""
    legacy: frozenset[str] = frozenset()
    """Of the spans of requests, only with ``OTEL_SEMCONV_STABILITY_OPT_IN=http/dup``."""
    exposed: str = ""
    """``/metrics`` of the app with the default naming."""
    timing: set[str] = field(default_factory=set)
    """Entries of ``Server-Timing``, on pages for users and for checks."""


class Refused(Exception):  # noqa: N818 - as an app would call it
    """Raised by a route."""


def _app() -> FastAPI:
    app = FastAPI()

    @app.get("/items/{item_id}")
    async def item(item_id: int) -> dict[str, int]:
        return {"id": item_id}

    @app.post("/checkout")
    async def checkout() -> None:
        raise Refused("the card was refused")

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return "<html></html>"

    @app.websocket("/ws/{room}")
    async def chat(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        await websocket.close()

    return app


async def _requests(app: Any, headers: tuple[tuple[bytes, bytes], ...] = ()) -> list[Answer]:
    """Send every kind of request; return the answers with a page in them."""
    await call(app, "/items/7?page=2", headers=(CALLER, (b"user-agent", b"curl/8"), (b"x-shop", b"berlin")))
    await call(app, "/items/7", headers=(SYNTHETIC, *headers))
    await call(app, "/items/7")
    await call(app, "/nowhere", method="BREW")
    with suppress(Refused):
        await call(app, "/checkout", method="POST")
    await _websocket(app)
    return [await call(app, "/"), await call(app, "/", headers=(SYNTHETIC,))]


async def _websocket(app: Any) -> None:
    incoming = [{"type": "websocket.connect"}]

    async def receive() -> dict[str, Any]:
        return incoming.pop()

    async def send(message: Any) -> None:
        pass

    scope = http_scope("/ws/7", scheme="ws", type="websocket", subprotocols=[], headers=[CALLER, SYNTHETIC])
    del scope["method"]
    await app(scope, receive, send)


def _grpc_call() -> None:
    class Cart(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            def add(request: bytes, context: Any) -> bytes:
                if not request:
                    raise Refused
                return request

            return grpc.unary_unary_rpc_method_handler(add)

    server = grpc.server(ThreadPoolExecutor(1), [Cart()], interceptors=[ServerInterceptor()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        add = channel.unary_unary("/shop.Cart/Add")
        pairs = [(name.decode(), value.decode()) for name, value in (CALLER, SYNTHETIC)]
        for request in (b"1", b""):
            with suppress(grpc.RpcError):
                add(request, metadata=pairs, timeout=10)
    server.stop(None).wait()


def _task() -> None:
    app = Celery("shop", broker="memory://")
    app.conf.task_always_eager = True
    instrument_celery()
    try:

        @app.task(name="send_invoice")  # type: ignore[untyped-decorator]
        def send_invoice() -> None:
            raise Refused("no such customer")

        send_invoice.apply(routing_key="celery", headers=dict([_text(CALLER)]))
    finally:
        uninstrument_celery()


def _text(pair: tuple[bytes, bytes]) -> tuple[str, str]:
    return pair[0].decode(), pair[1].decode()


def _message() -> None:
    message = SimpleNamespace(topic="orders", headers=[CALLER], partition=3, offset=42, key="k")
    with suppress(Refused), consume(message, group="shop"):
        raise Refused


def _job() -> None:
    with suppress(Refused), operation("job", "nightly_report", carrier=[CALLER, SYNTHETIC]):
        raise Refused


@contextmanager
def _own_metric() -> Iterator[None]:
    """Register what the app's own code counts."""
    counter = Counter("checkouts_completed", "Checkouts that were paid.")
    counter.inc(3)
    try:
        yield
    finally:
        REGISTRY.unregister(counter)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings off the terminal: some of what is done here is wrong on purpose."""
    root, null = logging.getLogger(), logging.NullHandler()
    root.addHandler(null)
    try:
        yield
    finally:
        root.removeHandler(null)


def _settings(**changes: Any) -> Settings:
    given: dict[str, Any] = {
        "service": "shop", "version": "1.2.0", "track": "canary", "revision": "9f3c2ab", "detection": False,
        "caller_label": True, "captured_request_headers": ("x-shop",),
        "captured_response_headers": ("content-type",),
    }  # fmt: skip
    return Settings(**{**given, **changes})


def _read(seen: Seen, naming: str, hub: Hub) -> None:
    found = (family.definition for family in hub.store.families(hub.book, PROCESS))
    seen.metrics[naming] = {definition.name: definition for definition in found}


def _attributes(seen: Seen, what: str, recorder: SpanRecorder, since: int) -> int:
    spans = recorder.spans
    for span in spans[since:]:
        # FastAPI and Celery make spans of their own inside of ours.
        if span.instrumentation_scope is not None and span.instrumentation_scope.name == "rolloutobs":
            kind = WEBSOCKET if span.name.startswith("WS") else what
            seen.attributes[kind] |= set(span.attributes or ())
    return len(spans)


@cache
def everything() -> Seen:
    """Drive an app with all parts of the SDK in use, under both namings; return what came out."""
    seen, recorder = Seen(), SpanRecorder()
    kept = os.environ.pop("ROLLOUTOBS_METRICS_DIR", None)
    with isolated_telemetry(), _quiet(), _own_metric():
        app: Any = instrument(_app(), settings=_settings(), tracer_provider=recorder.provider)

        async def drive() -> None:
            for page in await _requests(app):
                seen.timing.update(re.findall(r"(\w+);desc=", page.header("server-timing") or ""))
            logging.getLogger("shop").error("payment %s failed", 4711)
            deadline = time.monotonic() + WAIT_SECONDS
            # The first scrape starts the looks at the event loop; the first look makes the metric.
            while semconv.APP_EVENT_LOOP_LAG_SECONDS not in seen.exposed and time.monotonic() < deadline:
                seen.exposed = (await call(app, "/metrics")).body.decode()
                await asyncio.sleep(0.05)

        asyncio.run(drive())
        at = _attributes(seen, HTTP, recorder, 0)
        operations = {"gRPC call": _grpc_call, "Celery task": _task, "Kafka message": _message, "job": _job}
        for what, run in operations.items():
            run()
            at = _attributes(seen, what, recorder, at)
        _read(seen, "default", getattr(app, ATTRIBUTE).hub)
        named = _settings(naming="semconv", secret=(SECRET,), legacy_attributes=True)
        other: Any = instrument(_app(), settings=named, tracer_provider=recorder.provider)
        clock = FakeClock()
        proof = sign(SECRET, Claim("cart", "2.4.1"), clock())
        asyncio.run(_requests(other, ((b"baggage", f"rolloutobs.sig={proof}".encode()),)))
        asyncio.run(call(other, "/metrics"))
        _read(seen, "semconv", getattr(other, ATTRIBUTE).hub)
        both = {name for span in recorder.spans[at:] for name in span.attributes or ()}
        seen.legacy = frozenset(both - seen.attributes[HTTP] - seen.attributes[WEBSOCKET])
    if kept is not None:
        os.environ["ROLLOUTOBS_METRICS_DIR"] = kept
    return seen
