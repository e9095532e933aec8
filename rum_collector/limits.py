"""What one request may cost: bytes of a body, and a memory of what was already counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from rolloutobs.errors import BeaconError
from rum_collector.words import BeaconOutcome

__all__ = ["SeenBeacons", "read_body"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


async def read_body(receive: Receive, max_bytes: int, declared: bytes = b"") -> bytes:
    """Return the body, counted while it is read: a chunked body without a length is bounded too.

    Args:
        receive: of ASGI.
        max_bytes: the longest body, in bytes.
        declared: the header Content-Length, or nothing.

    Raises:
        BeaconError: the body is longer (``too_large``), or the client left before its end (``disconnected``).
    """
    if declared.isdigit() and len(declared) < 20 and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BeaconError(BeaconOutcome.DISCONNECTED, "the client left before the end of its body")
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _too_large(max_bytes: int) -> BeaconError:
    return BeaconError(BeaconOutcome.TOO_LARGE, f"the body is longer than {max_bytes} bytes")


class SeenBeacons:
    """Remembers which (view, sequence) were counted, best effort.

    Between `size` and twice `size` of the latest are known, as two generations of hashes; another replica of
    the collector knows nothing of them.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: set[int] = set()
        self._old: set[int] = set()

    def first_time(self, view: str, sequence: int) -> bool:
        """Return whether this beacon was not seen before, and remember it."""
        # 64 bits, keyed per process: a collision among 100,000 entries has a chance of 3e-10.
        key = hash((view, sequence))
        if key in self._young or key in self._old:
            return False
        if len(self._young) >= self._size:
            self._old, self._young = self._young, set()
        self._young.add(key)
        return True
