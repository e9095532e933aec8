"""Where the agents' data ends instead of the network: counted and dropped. Imported by their rows only."""

from __future__ import annotations

from typing import Any

__all__ = ["datadog_writer", "elastic_sink", "sentry_transport"]


def elastic_sink() -> type:
    """Return a transport that counts transactions, in place of the thread that encodes and sends them."""
    from elasticapm.transport.http import Transport

    class Sink(Transport):  # type: ignore[misc]
        transactions = 0

        def queue(self, event_type: str, data: Any, flush: bool = False) -> None:
            self.transactions += event_type == "transaction"

        def start_thread(self, pid: int | None = None) -> None:
            """Nothing runs."""

    return Sink


def __getattr__(name: str) -> type:
    # elastic-apm takes its transport by its dotted name.
    if name == "ElasticSink":
        return elastic_sink()
    raise AttributeError(name)


def datadog_writer() -> Any:
    """Return a writer that counts traces, in place of the one that encodes and sends them."""
    from ddtrace.internal.writer import TraceWriter

    class Sink(TraceWriter):  # type: ignore[misc]
        traces = 0

        def recreate(self, *arguments: Any, **options: Any) -> Any:
            return self

        def stop(self, timeout: float | None = None) -> None:
            """Nothing runs."""

        def write(self, spans: Any = None) -> None:
            self.traces += bool(spans)

        def flush_queue(self) -> None:
            """Nothing is queued."""

    return Sink()


def sentry_transport() -> Any:
    """Return a transport that counts transactions and drops envelopes unserialised."""
    from sentry_sdk.transport import Transport

    class Sink(Transport):
        transactions = 0

        def capture_envelope(self, envelope: Any) -> None:
            self.transactions += envelope.get_transaction_event() is not None

    return Sink()
