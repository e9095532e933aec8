"""`operation` keeps the types of what it decorates. Type-checked, never run."""

from typing import assert_type

from rolloutobs import operation, push_metrics, serve_metrics
from rolloutobs.operations import Outcome, Run
from rolloutobs.operations.kafka import consume, inject_headers


@operation("task", "add")
def add(a: int, b: int) -> int:
    return a + b


@operation("job", "report")
async def report(day: str) -> list[str]:
    return [day]


async def use() -> None:
    assert_type(add(1, 2), int)
    assert_type(await report("monday"), list[str])
    with operation("consumer", "orders", carrier={"traceparent": "x"}, attributes={"a": 1}) as op:
        assert_type(op, Run)
        op.outcome = Outcome.REJECTED
    async with consume(object()) as message:
        assert_type(message, Run)
    assert_type(inject_headers({"a": "b"}), list[tuple[str, bytes]])
    with serve_metrics(port=9464) as server:
        assert_type(server.port, int)
    push_metrics("http://gateway:9091")
