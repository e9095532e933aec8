"""Kafka consumers, of whatever client: confluent-kafka, aiokafka or kafka-python.

    for message in consumer:                        # or: message = consumer.poll(1.0)
        with consume(message):                      # async with, in a coroutine
            handle(message)

    producer.send("orders", value, headers=inject_headers())        # produce(..., headers=...) likewise

The operation is ``app_operations_total{kind="consumer",name=<topic>,outcome}``: one per message, from here to
the end of the block. The trace of the producer goes on, and its version is on the span. None of the clients
is imported: their messages are told apart by their shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rolloutobs.operations.api import operation
from rolloutobs.operations.outcome import Kind
from rolloutobs.operations.run import failed
from rolloutobs.telemetry.propagation import inject
from rolloutobs.telemetry.targets import OWN

__all__ = ["consume", "inject_headers"]

UNKNOWN_TOPIC = "unknown"


def consume(message: Any, name: str | None = None, *, group: str | None = None) -> operation:
    """Return the operation of processing one message, to use with ``with`` or ``async with``.

    Args:
        message: as the client hands it out. One without headers starts a trace.
        name: of the operation; ``None``: the topic. Give one where topics are made by the thousand.
        group: the consumer group, for the span.
    """
    found: dict[str, Any] = {}
    headers: Any = None
    topic = ""
    try:
        topic = str(_part(message, "topic") or "")
        headers = _part(message, "headers")
        found = _attributes(message, topic, group)
    except Exception as error:
        failed(error)
    return operation(Kind.CONSUMER, name or topic or UNKNOWN_TOPIC, carrier=headers, attributes=found)


def _part(message: Any, name: str) -> Any:
    """Return a part of a message: an attribute, or what a method of that name returns (confluent-kafka)."""
    part = getattr(message, name, None)
    return part() if callable(part) else part


def _attributes(message: Any, topic: str, group: str | None) -> dict[str, Any]:
    """Return attributes of the span. Source: OpenTelemetry semantic conventions, Kafka."""
    attributes: dict[str, Any] = {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": topic,
        "messaging.consumer.group.name": group,
    }
    partition, offset, key = (_part(message, part) for part in ("partition", "offset", "key"))
    if isinstance(partition, int):
        attributes["messaging.destination.partition.id"] = str(partition)
    if isinstance(offset, int):
        attributes["messaging.kafka.offset"] = offset
    if isinstance(key, str):
        attributes["messaging.kafka.message.key"] = key
    return {attribute: value for attribute, value in attributes.items() if value not in (None, "")}


def inject_headers(
    headers: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
) -> list[tuple[str, bytes]]:
    """Return `headers` with trace and identity of the running code added, in the shape that all clients send.

    Args:
        headers: of the message; those of the same names are replaced. Text becomes UTF-8; a value of
        ``None``,
            which Kafka knows, stays.
    """
    given = headers.items() if isinstance(headers, Mapping) else (headers or ())
    added = inject({}, url=OWN)
    kept = [
        (name, value.encode("utf-8") if isinstance(value, str) else value)
        for name, value in given
        if name.lower() not in added
    ]
    return kept + [(name, value.encode("utf-8")) for name, value in added.items()]
