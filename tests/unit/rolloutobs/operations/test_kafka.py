"""Messages of the three clients, each sent to a broker and read back: librdkafka's own, which speaks the
protocol."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import aiokafka
import confluent_kafka
import pytest
from inline_snapshot import snapshot
from opentelemetry import baggage, context
from opentelemetry.trace import SpanKind

with warnings.catch_warnings():
    # It reads its own files in a way that Python 3.11 warns about.
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka

from rolloutobs import operation
from rolloutobs.operations.kafka import consume, inject_headers
from rolloutobs.testing import SpanRecorder
from tests.unit.rolloutobs.operations.conftest import outcomes, timed

TOPIC = "orders"
SECONDS = 30
Exchange = Callable[[str, list[list[tuple[str, bytes]]]], list[Any]]


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """The address of a broker; it lives as long as the producer that has made it."""
    producer = confluent_kafka.Producer(
        {"test.mock.num.brokers": 1, "bootstrap.servers": "none", "log_level": 0}
    )
    (node,) = producer.list_topics(timeout=SECONDS).brokers.values()
    yield f"{node.host}:{node.port}"
    producer.flush(SECONDS)


def with_confluent(address: str, sent: list[list[tuple[str, bytes]]], topic: str) -> list[Any]:
    producer = confluent_kafka.Producer({"bootstrap.servers": address})
    for headers in sent:
        producer.produce(topic, b"an order", key="k", headers=headers, partition=0)
    assert producer.flush(SECONDS) == 0
    consumer = confluent_kafka.Consumer({"bootstrap.servers": address, "group.id": "g"})
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    found = [consumer.poll(SECONDS) for _ in sent]
    consumer.close()
    return found


def with_kafka_python(address: str, sent: list[list[tuple[str, bytes]]], topic: str) -> list[Any]:
    # The broker answers no question about its version.
    where: dict[str, Any] = {"bootstrap_servers": address, "api_version": (2, 0)}
    producer = kafka.KafkaProducer(**where)
    for headers in sent:
        producer.send(topic, b"an order", key=b"k", headers=headers, partition=0).get(SECONDS)
    producer.close()
    consumer = kafka.KafkaConsumer(**where, consumer_timeout_ms=SECONDS * 1000)
    partition = kafka.TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek(partition, 0)
    found = [next(consumer) for _ in sent]
    consumer.close()
    return found


def with_aiokafka(address: str, sent: list[list[tuple[str, bytes]]], topic: str) -> list[Any]:
    async def exchange() -> list[Any]:
        async with aiokafka.AIOKafkaProducer(bootstrap_servers=address) as producer:
            for headers in sent:
                await producer.send_and_wait(topic, b"an order", key=b"k", headers=headers, partition=0)
        async with aiokafka.AIOKafkaConsumer(bootstrap_servers=address) as consumer:
            partition = aiokafka.TopicPartition(topic, 0)
            consumer.assign([partition])
            consumer.seek(partition, 0)
            return [await consumer.getone() for _ in sent]

    return asyncio.run(asyncio.wait_for(exchange(), SECONDS))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:aiokafka", "ignore::DeprecationWarning:kafka")
@pytest.mark.parametrize("client", [with_confluent, with_kafka_python, with_aiokafka])
def test_from_a_producer_to_a_consumer(client: Any, broker: str, recorded: SpanRecorder) -> None:
    topic = f"{TOPIC}-{client.__name__}"
    token = context.attach(baggage.set_baggage("tenant", "a b"))
    with operation("job", "produce") as job:
        headers = inject_headers({"schema": "7", "traceparent": "stale"})
    context.detach(token)
    assert [name for name, _ in headers] == ["schema", "traceparent", "baggage"]

    traced, plain = client(broker, [headers, []], topic)
    with consume(traced, group="billing"):
        assert baggage.get_baggage("tenant") == "a b"
        # Overlaps the first, and ends before it.
        with consume(plain, "other"):
            pass
    assert outcomes("consumer", topic) == {"ok": 1.0}
    assert outcomes("consumer", "other") == {"ok": 1.0}
    assert timed("consumer", topic) == 1.0
    span = recorded.spans[-1]
    assert span.kind is SpanKind.CONSUMER
    assert span.parent is not None
    assert span.parent.span_id == job.span.get_span_context().span_id
    attributes = dict(span.attributes or {})
    attributes.pop("messaging.kafka.message.key", None)
    assert attributes.pop("messaging.destination.name") == topic
    assert attributes == snapshot(
        {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.consumer.group.name": "billing",
            "messaging.destination.partition.id": "0",
            "messaging.kafka.offset": 0,
            "app.version": "1.2.0",
            "rolloutobs.track": "canary",
            "rolloutobs.caller.service": "worker",
            "rolloutobs.caller.version": "1.2.0",
            "rolloutobs.caller.track": "canary",
        }
    )


async def test_in_a_coroutine_and_with_an_error(recorded: SpanRecorder) -> None:
    message = SimpleNamespace(topic="payments", headers=[("baggage", b"synthetic=test")])

    async def handle() -> None:
        async with consume(message) as op:
            assert op.inbound.synthetic
            raise ValueError("no card")

    with pytest.raises(ValueError, match="no card"):
        await handle()
    async with consume(message):
        pass
    assert outcomes("consumer", "payments", synthetic="true") == {"error": 1.0, "ok": 1.0}


def test_a_message_that_is_none_of_theirs_is_counted_all_the_same(recorded: SpanRecorder) -> None:
    for message in (None, object(), SimpleNamespace(topic=None, headers=None, offset="x")):
        with consume(message):
            pass
    assert outcomes("consumer", "unknown") == {"ok": 3.0}


def test_headers_are_told_only_what_there_is() -> None:
    assert inject_headers() == []
    assert inject_headers([("a", b"\xff"), ("b", None), ("c", "ö")]) == [
        ("a", b"\xff"),
        ("b", None),
        ("c", "ö".encode()),
    ]
