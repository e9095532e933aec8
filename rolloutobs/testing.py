"""Fakes and small servers' stand-ins for tests, of this project and of apps that use it. Imported by tests
only.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import propagate
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from rolloutobs.telemetry import current, hub, logs

__all__ = [
    "Answer",
    "FakeClock",
    "SpanRecorder",
    "call",
    "call_wsgi",
    "http_scope",
    "isolated_telemetry",
    "parse_metrics",
    "sample_value",
    "scrape",
    "wsgi_environ",
]

Headers = Sequence[tuple[bytes, bytes]]


class FakeClock:
    """A clock that moves when told; call it for the time in seconds."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.now += seconds


class SpanRecorder:
    """A tracer provider that keeps finished spans in memory; give `provider` to `instrument`."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Finished spans, in the order in which they ended."""
        return tuple(self._exporter.get_finished_spans())

    @property
    def server_spans(self) -> tuple[ReadableSpan, ...]:
        """Those that serve a request."""
        return tuple(span for span in self.spans if span.kind is SpanKind.SERVER)


@dataclass(frozen=True)
class Answer:
    """What an ASGI app has sent."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    messages: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    def header(self, name: str) -> str | None:
        """Return the values of a header, joined; ``None`` if it is absent."""
        values = [
            value.decode("latin-1") for key, value in self.headers if key.lower() == name.lower().encode()
        ]
        return ", ".join(values) if values else None


def http_scope(path: str = "/", method: str = "GET", headers: Headers = (), **changes: Any) -> dict[str, Any]:
    """Return an ASGI HTTP scope as uvicorn makes it; `changes` replace its entries."""
    raw_path, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": raw_path,
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"shop.example:8080"), *headers],
        "client": ("10.0.0.1", 40000),
        "server": ("10.0.0.2", 8000),
        "state": {},
        **changes,
    }


async def call(
    app: Callable[..., Any],
    path: str = "/",
    method: str = "GET",
    headers: Headers = (),
    *,
    leaves: bool = False,
    **changes: Any,
) -> Answer:
    """Send one request without a body to an ASGI app and return its answer.

    Under asyncio or trio. ``receive`` gives ``http.disconnect`` once the answer is complete, and waits until
    then, as uvicorn's does; at once if the client `leaves`.

    Raises:
        whatever the app raises.
    """
    messages: list[Mapping[str, Any]] = []
    incoming: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]

    done = _event()
    if leaves:
        done.set()

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop(0)
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        messages.append(message)
        if message["type"] != "http.response.start" and not message.get("more_body"):
            done.set()

    await app(http_scope(path, method, headers, **changes), receive, send)
    start: Mapping[str, Any] = next(
        (m for m in messages if m["type"] == "http.response.start"), {"status": 0}
    )
    body = b"".join(m.get("body", b"") for m in messages if m["type"] == "http.response.body")
    return Answer(start["status"], tuple(start.get("headers", ())), body, tuple(messages))


def _event() -> Any:
    trio: Any = sys.modules.get("trio")
    return trio.Event() if trio is not None and trio.lowlevel.in_trio_task() else asyncio.Event()


def wsgi_environ(
    path: str = "/", method: str = "GET", headers: Headers = (), **changes: Any
) -> dict[str, Any]:
    """Return a WSGI environ as servers make it, without a body; `changes` replace its entries."""
    raw_path, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": raw_path.encode().decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "10.0.0.2",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "10.0.0.1",
        "REMOTE_PORT": "40000",
        "HTTP_HOST": "shop.example:8080",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in headers:
        environ[f"HTTP_{name.decode('latin-1').upper().replace('-', '_')}"] = value.decode("latin-1")
    return {**environ, **changes}


def call_wsgi(
    app: Callable[..., Any],
    path: str = "/",
    method: str = "GET",
    headers: Headers = (),
    **changes: Any,
) -> Answer:
    """Send one request without a body to a WSGI app and return its answer, taken to its end and closed.

    Raises:
        whatever the app raises.
    """
    started: list[tuple[str, Any]] = []
    written: list[bytes] = []

    def start_response(status: str, answered: Any, exc_info: Any = None) -> Callable[[bytes], object]:
        started.append((status, answered))
        return written.append

    result = app(wsgi_environ(path, method, headers, **changes), start_response)
    try:
        body = b"".join([*result])
    finally:
        if hasattr(result, "close"):
            result.close()
    status, answered = started[-1] if started else ("0", [])
    pairs = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in answered)
    return Answer(int(status[:3]), pairs, b"".join(written) + body)


def parse_metrics(text: str) -> list[Sample]:
    """Return the samples of a text exposition."""
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


async def scrape(app: Callable[..., Any], path: str = "/metrics") -> list[Sample]:
    """Return the samples that an instrumented app exposes."""
    return parse_metrics((await call(app, path)).body.decode())


def sample_value(samples: Sequence[Sample], name: str, /, **labels: str) -> float | None:
    """Return the sum of the samples of this name that have these labels; ``None`` if there is none.

    A label given as the empty string must be absent or empty.
    """
    found = [
        sample.value
        for sample in samples
        if sample.name == name and all(sample.labels.get(key, "") == value for key, value in labels.items())
    ]
    return sum(found) if found else None


@contextmanager
def isolated_telemetry() -> Iterator[None]:
    """Undo what `instrument` does to the process: the global propagator, who speaks outside of requests, all
    counts, and what is done to log records.
    """
    textmap = propagate.get_global_textmap()
    live = current.process_identity()
    current.set_process_identity(None)
    recorded = hub.forget_all()
    try:
        yield
    finally:
        propagate.set_global_textmap(textmap)
        current.set_process_identity(live)
        hub.recall(recorded)
        logs.disable()
