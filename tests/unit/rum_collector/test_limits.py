from __future__ import annotations

from typing import Any

import pytest

from rolloutobs.errors import BeaconError
from rum_collector.limits import read_body


def receiving(*messages: dict[str, Any]) -> Any:
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    receive.waiting = waiting  # type: ignore[attr-defined]
    return receive


def chunk(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_pieces() -> None:
    receive = receiving(chunk(b"ab"), {"type": "http.request", "more_body": True}, chunk(b"c", more=False))
    assert await read_body(receive, 3) == b"abc"
    assert await read_body(receiving({"type": "http.request"}), 3) == b""


async def test_a_body_is_bounded_while_it_is_read() -> None:
    receive = receiving(*(chunk(b"x" * 10) for _ in range(10)))
    with pytest.raises(BeaconError, match="longer than 25 bytes") as caught:
        await read_body(receive, 25)
    assert caught.value.reason == "too_large"
    assert len(receive.waiting) == 7


@pytest.mark.parametrize("declared", ["26", "9" * 19])
async def test_a_declared_length_is_refused_before_reading(declared: str) -> None:
    receive = receiving(chunk(b"x", more=False))
    with pytest.raises(BeaconError, match="longer"):
        await read_body(receive, 25, declared.encode())
    assert len(receive.waiting) == 1


@pytest.mark.parametrize("declared", ["", "25", "-1", "x", "²", "9" * 5000])
async def test_an_odd_length_is_not_believed(declared: str) -> None:
    assert await read_body(receiving(chunk(b"x", more=False)), 25, declared.encode()) == b"x"


async def test_a_client_that_leaves() -> None:
    with pytest.raises(BeaconError) as caught:
        await read_body(receiving(chunk(b"x"), {"type": "http.disconnect"}), 25)
    assert caught.value.reason == "disconnected"
