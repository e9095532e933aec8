"""What can break around an app: each function breaks one thing, and says what was to be seen of it."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import propagate
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from rolloutobs import Settings
from rolloutobs.telemetry import hub, worker_file
from rolloutobs.telemetry.export import CountedBatches, CountedExporter

SERVICE = {"service": "shop", "version": "1.2.0", "track": "canary"}


class BrokenError(Exception):
    """What the broken part raises."""


def broken(*_: Any, **__: Any) -> Any:
    raise BrokenError("this part is broken")


@dataclass
class Fault:
    """A broken part."""

    settings: Settings = field(default_factory=lambda: Settings(**SERVICE))
    provider: Any = None
    where: frozenset[str] = frozenset()
    """Where failures are counted, every one of them; empty: none is, because nothing of ours fails."""
    between: Callable[[], object] = lambda: None
    """Called between two requests."""
    ended: Callable[[], object] = lambda: None
    """Called in the end."""


Break = Callable[[pytest.MonkeyPatch, Path], Fault]


def _with(provider: Any, *where: str, **more: Any) -> Fault:
    return Fault(Settings(**SERVICE, **more), provider, frozenset(where))


class _Sampler(Sampler):
    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        raise BrokenError("sampler")

    def get_description(self) -> str:
        return "broken"


class _Ids(RandomIdGenerator):
    def __init__(self, method: str) -> None:
        setattr(self, method, broken)


class _Processor(SpanProcessor):
    def __init__(self, method: str) -> None:
        setattr(self, method, broken)


class _Exporter(SpanExporter):
    def __init__(self, result: Any) -> None:
        self._result = result

    def export(self, spans: Any) -> Any:
        if self._result is None:
            raise BrokenError("exporter")
        return self._result


class _Textmap(TextMapPropagator):
    def __init__(self, method: str) -> None:
        self._inner = propagate.get_global_textmap()
        self._method = method

    def extract(self, *args: Any, **kwargs: Any) -> Any:
        return broken() if self._method == "extract" else self._inner.extract(*args, **kwargs)

    def inject(self, *args: Any, **kwargs: Any) -> Any:
        return broken() if self._method == "inject" else self._inner.inject(*args, **kwargs)

    @property
    def fields(self) -> set[str]:
        return self._inner.fields


class _Span(NonRecordingSpan):
    """A span of an SDK of somebody else's, one method of which raises."""

    def __init__(self, method: str) -> None:
        super().__init__(SpanContext(1 << 100, 7, is_remote=False, trace_flags=TraceFlags(1)))
        setattr(self, method, broken)

    def is_recording(self) -> bool:
        return True


class _Tracer(Tracer):
    def __init__(self, method: str) -> None:
        self._method = method

    def start_span(self, *args: Any, **kwargs: Any) -> Any:
        return broken() if self._method == "start_span" else _Span(self._method)

    start_as_current_span = broken


class _Provider:
    def __init__(self, method: str) -> None:
        self._method = method
        if method == "get_tracer":
            self.get_tracer = broken
        if method == "add_span_processor":
            self.add_span_processor = broken

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        return _Tracer(self._method)


def sampler_raises(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
    return _with(TracerProvider(sampler=_Sampler(), shutdown_on_exit=False), "request")


def ids_raise(method: str) -> Break:
    def start(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
        ids: IdGenerator = _Ids(method)
        return _with(TracerProvider(id_generator=ids, shutdown_on_exit=False), "request")

    return start


def processor_raises(method: str) -> Break:
    def start(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
        provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
        provider.add_span_processor(_Processor(method))
        return _with(provider, "request")

    return start


def span_raises(method: str) -> Break:
    def start(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
        # The fingerprint of an error goes on the span, too; that is the part for logs.
        return _with(_Provider(method), "request", "logs", captured_response_headers=(".*",))

    return start


def provider_raises(method: str) -> Break:
    def start(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
        return _with(_Provider(method), "request")

    return start


def exporter_fails(result: Any) -> Break:
    def start(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
        provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
        exporter = CountedExporter(_Exporter(result), hub.process_failures())
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        return _with(provider, "export")

    return start


class _Hanging(SpanExporter):
    def __init__(self) -> None:
        self.gate = threading.Event()

    def export(self, spans: Any) -> Any:
        self.gate.wait(60)
        return SpanExportResult.SUCCESS


def exporter_hangs(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
    """Nothing comes back from the collector; the queue is full soon."""
    patch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    patch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    exporter = _Hanging()
    provider.add_span_processor(CountedBatches(exporter, hub.process_failures()))
    fault = _with(provider, "export")
    fault.ended = lambda: (exporter.gate.set(), provider.shutdown())
    return fault


def propagator_raises(method: str, *where: str) -> Break:
    def start(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
        propagate.set_global_textmap(_Textmap(method))
        return _with(None, *where)

    return start


def frameworks_move(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
    """A release of a framework in which what is read of a route raises."""
    from rolloutobs.asgi import routes
    from rolloutobs.telemetry import error_counts

    patch.setattr(routes.RouteReader, "read", broken)
    patch.setattr(error_counts.ErrorCounts, "exception", broken)
    return _with(None, "request", "logs")


def metrics_raise(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
    """What makes new cells fails, each time."""
    from rolloutobs.http.metrics import HttpMetrics

    patch.setattr(HttpMetrics, "pair", broken)
    return _with(None, "request")


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise BrokenError("handler")


def log_handler_raises(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
    """A handler that raises on our own logger, while telemetry fails."""
    fault = sampler_raises(patch, folder)
    logger = logging.getLogger("rolloutobs")
    patch.setattr(logger, "handlers", [*logger.handlers, _Handler()])
    return fault


def record_factory_raises(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
    """A record factory that raises for our own records, while telemetry fails."""
    inner = logging.getLogRecordFactory()

    def factory(name: str, *args: Any, **kwargs: Any) -> logging.LogRecord:
        return broken() if name.startswith("rolloutobs") else inner(name, *args, **kwargs)

    patch.setattr(logging, "_logRecordFactory", factory)
    return sampler_raises(patch, folder)


class _Collector:
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("half_of_it", "Comes before the failure.", 1)
        raise BrokenError("collector")


def collector_raises(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
    collector: Any = _Collector()
    patch.setattr(REGISTRY, "_collector_to_names", {**REGISTRY._collector_to_names, collector: []})
    return Fault()


def labels_flap(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
    """The label file says something else, or nothing that makes sense, at every look."""
    path = folder / "labels"
    path.write_text('rolloutobs.io/track="canary"\n')
    contents: Iterable[bytes | None] = [
        b'rolloutobs.io/track="stable"\n', b"\xff\xfe\x00garbage", b"", b'rolloutobs.io/track="canary"',
        None, b'rolloutobs.io/track="can', b'rolloutobs.io/track="neither"\n', b"=" * 100_000,
    ]  # fmt: skip
    state = {"turn": 0}

    def between() -> None:
        content = list(contents)[state["turn"] % 8]
        state["turn"] += 1
        if path.is_dir():
            path.rmdir()
        if content is None:
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes(content)
        for each in hub._process.hubs:
            each.tracking.check_now()

    settings = Settings(service="shop", version="1.2.0", labels_file=str(path), labels_interval_seconds=30)
    # Detection is what reads the file at all.
    patch.setenv("ROLLOUTOBS_DETECTION", "on")
    return Fault(settings, None, frozenset({"track"}), between)


def clock_goes_back(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
    """Each look at the clock of the wall gives an earlier time; signatures and exemplars are asked for."""
    state = {"now": 2e9}

    def now() -> float:
        state["now"] -= 1000.0
        return state["now"]

    for module in ("signing", "inbound", "trust", "generations"):
        found = __import__(f"rolloutobs.telemetry.{module}", fromlist=["time"])
        if hasattr(found, "time"):
            patch.setattr(found, "time", _Clock(now))
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    return _with(provider, secret=("a secret of many characters",), caller_label=True)


class _Clock:
    def __init__(self, now: Callable[[], float]) -> None:
        self.time = now

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def environment_changes(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
    """Variables, propagator, sampler and log handlers are changed while requests run."""
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    state = {"turn": 0}
    textmap = propagate.get_global_textmap()

    def between() -> None:
        state["turn"] += 1
        patch.setenv("ROLLOUTOBS_TRACK", f"nonsense {state['turn']}")
        patch.setenv("OTEL_SDK_DISABLED", "perhaps")
        provider.sampler = _Sampler() if state["turn"] % 2 else ALWAYS_ON
        propagate.set_global_textmap(_Textmap("extract") if state["turn"] % 3 else textmap)
        logging.getLogger().setLevel(logging.ERROR if state["turn"] % 2 else logging.DEBUG)

    patch.setattr(logging.getLogger(), "level", logging.getLogger().level)
    return Fault(Settings(**SERVICE), provider, frozenset({"request"}), between)


def many_label_sets(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
    return _with(None, max_label_sets=1)


def shared(break_it: Callable[[Path], object] | None = None) -> Break:
    """Counts are shared in a folder to which something happens between requests."""

    def start(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
        where = folder / "shared"
        settings = Settings(**SERVICE, metrics_dir=str(where))

        def between() -> None:
            if break_it is not None:
                break_it(where)
            sharing = hub._process.sharing
            if sharing is not None:
                sharing.keeper.look()

        # The app's own metrics are read from the folder, too.
        return Fault(settings, None, frozenset({"store", "metrics"}) if break_it else frozenset(), between)

    return start


def _becomes_a_file(where: Path) -> None:
    shutil.rmtree(where, ignore_errors=True)
    where.unlink(missing_ok=True)
    where.write_text("not a folder")


def _garbage(where: Path) -> None:
    for folder in where.iterdir():
        for name in ("1-aa.cells", "2-bb.app", "folded", "ledger-app0", "3-cc.new"):
            (folder / name).write_bytes(os.urandom(300))


def shared_full(call: str, number: int) -> Break:
    """Counts are shared; from the first request on, `call` of the module `os` fails in the shared folder."""

    def start(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
        patch.setattr(worker_file, "CHUNK_BYTES", 4096)
        fault = shared(lambda where: None)(patch, folder)
        original, between = getattr(os, call), fault.between

        def fails(what: Any, *args: Any, **kwargs: Any) -> Any:
            reads = call == "open" and not args[0] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if call == "posix_fallocate" or (str(folder / "shared") in str(what) and not reads):
                raise OSError(number, os.strerror(number), str(what))
            return original(what, *args, **kwargs)

        def from_now_on() -> None:
            patch.setattr(os, call, fails)
            # As at midnight, when all is made anew.
            sharing = hub._process.sharing
            if sharing is not None:
                sharing.folder._keeps_aside = True
            between()

        return Fault(fault.settings, None, fault.where, from_now_on)

    return start


def forking(patch: pytest.MonkeyPatch, folder: Path) -> Fault:
    """The process forks between requests, with counts in a shared folder."""
    fault = shared()(patch, folder)
    turns = count()

    def between() -> None:
        if next(turns) % 20:
            return
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    return Fault(fault.settings, None, frozenset(), between)


SPAN_METHODS = (
    "set_attribute", "set_attributes", "update_name", "record_exception", "set_status", "end", "is_recording",
    "get_span_context",
)  # fmt: skip
FAULTS: dict[str, Break] = {
    "sampler": sampler_raises,
    **{f"ids-{m}": ids_raise(m) for m in ("generate_trace_id", "generate_span_id", "is_trace_id_random")},
    **{f"processor-{m}": processor_raises(m) for m in ("on_start", "on_end", "_on_ending")},
    **{f"span-{m}": span_raises(m) for m in SPAN_METHODS},
    **{f"provider-{m}": provider_raises(m) for m in ("get_tracer", "add_span_processor", "start_span")},
    "exporter-raises": exporter_fails(None),
    "exporter-hangs": exporter_hangs,
    "exporter-refused": exporter_fails(SpanExportResult.FAILURE),
    "extract": propagator_raises("extract", "request"),
    "inject": propagator_raises("inject"),
    "frameworks": frameworks_move,
    "metrics": metrics_raise,
    "log-handler": log_handler_raises,
    "record-factory": record_factory_raises,
    "collector": collector_raises,
    "labels": labels_flap,
    "clock": clock_goes_back,
    "environment": environment_changes,
    "label-sets": many_label_sets,
    "shared": shared(),
    "shared-deleted": shared(lambda where: shutil.rmtree(where, ignore_errors=True)),
    "shared-a-file": shared(_becomes_a_file),
    "shared-garbage": shared(_garbage),
    "shared-full": shared_full("posix_fallocate", errno.ENOSPC),
    "shared-read-only": shared_full("open", errno.EROFS),
    "forks": forking,
}
