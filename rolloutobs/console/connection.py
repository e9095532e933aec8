"""A connection of uvicorn that does not wait for ever for a request: there may be only so many of them."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

__all__ = ["Connection"]


class Connection(H11Protocol):
    """A connection that is closed when no whole head of a request comes; its body is up to who reads it."""

    wait_seconds: ClassVar[float] = 5.0
    """For a head; twice that, where the connection had a request before."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch the connection."""
        super().connection_made(transport)
        self._last: RequestResponseCycle | None = None
        """The request that was the last one when somebody last looked."""
        self._watch = self.loop.call_later(self.wait_seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the watch."""
        self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        if _is_over(self.cycle) and self.cycle is self._last:
            self.transport.close()
            return
        self._last = self.cycle
        self._watch = self.loop.call_later(self.wait_seconds, self._look)


def _is_over(request: RequestResponseCycle | None) -> bool:
    return request is None or request.response_complete
